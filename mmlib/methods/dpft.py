"""MCULoRA's dynamic parameter fine-tuning: how often each combination of modalities is trained (ledger F7-F15, G1, G5).

Pure functions on shares of the 2^M - 1 combinations, in the order of ``masks.combinations``.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit
from torch import Tensor

CAP = 1.5  # of G1's score
ROUNDING = 1e-9  # a sum of changes of accuracies below it is none


def decoupling(private: Tensor, common: Tensor) -> Tensor:
    """Jensen-Shannon divergence of softmaxed features along the last dimension, in nats (Eq. 8; F7, F8 with its half).

    (..., d) and (..., d) -> (...), from 0 to log 2.
    """
    p, q = private.log_softmax(dim=-1), common.log_softmax(dim=-1)
    middle = torch.logaddexp(p, q) - np.log(2)
    return 0.5 * ((p.exp() * (p - middle)).sum(dim=-1) + (q.exp() * (q - middle)).sum(dim=-1))


def adjusted(
    shares: np.ndarray, change: np.ndarray, size: float, signed: bool = False
) -> np.ndarray:
    """Shares after one step of Eq. 10, before ``bounded``; change (K,) is Delta s (Eq. 9), size is lambda.

    Combinations are ranked by the size of their change, ascending: little change counts as hard to learn (F11, as the
    ledger's section 8 has it; by the signed change where ``signed``). Those before the middle one are raised, those
    after it lowered, by q_base lambda sigmoid(Delta s) with q_base = 1 / K (F12, F14).
    """
    count = len(shares)
    order = np.argsort(change if signed else np.abs(change), kind="stable")
    rank = np.empty(count, dtype=int)
    rank[order] = np.arange(1, count + 1)
    step = size / count * expit(change)
    return np.asarray(shares + np.sign((count + 1) // 2 - rank) * step)


def bounded(shares: np.ndarray, low: float, high: float) -> np.ndarray:
    """The nearest shares that add up to 1 and lie between low / K and high / K (F13, as the ledger's section 8 has it).

    The projection onto a simplex with bounds: all shares move by one amount, and stop at their bounds.
    """
    least, most = low / len(shares), high / len(shares)

    def excess(shift: float) -> float:
        return float(np.clip(shares + shift, least, most).sum() - 1)

    room = max(1.0, float(np.abs(shares).max())) + most
    if excess(-room) >= 0 or excess(room) <= 0:  # the bounds leave room for equal shares alone
        return np.full(len(shares), 1 / len(shares))
    return np.asarray(np.clip(shares + brentq(excess, -room, room, xtol=1e-15), least, most))


def kept(keep: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """Shares (K,) of the combinations where each modality stays with its own probability, keep (M,), but one does."""
    raw = np.where(patterns, keep, 1 - keep).prod(axis=1)
    return np.asarray(raw / raw.sum())


def first_release(
    keep: np.ndarray, change: np.ndarray, patterns: np.ndarray, step: float, low: float, high: float
) -> np.ndarray:
    """The first release's rule on the modalities' keep probabilities (M,) (G5): no decrease, no sigmoid.

    change (K,): |s_t - s_0|. From the least to the greatest change, the combination of rank i moves every modality by
    step / 2^i, up where the combination has it and down where not, and clips them to [low, high].
    """
    for place, number in enumerate(np.argsort(np.abs(change), kind="stable")):
        keep = np.clip(keep + step * 0.5**place * np.where(patterns[number], 1.0, -1.0), low, high)
    return keep


def from_test_accuracies(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The released rule (G1), which LEAKS: shares from the test accuracies (K,) of two epochs, in parts of 1.

    score_i is the others' share of the summed change, at most 1.5; p_i = 0.8 (1 + tan(score_i - 1)), 0 where negative.
    """
    change = now - before
    total = change.sum()
    if abs(total) < ROUNDING:
        return np.full(len(now), 1 / len(now))
    raw = np.maximum(0.8 * (1 + np.tan(np.minimum((total - change) / total, CAP) - 1)), 0)
    return np.asarray(raw / raw.sum()) if raw.sum() > 0 else np.full(len(now), 1 / len(now))
