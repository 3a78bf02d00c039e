"""Contributions of modalities to a decision: Shapley averages over subsets, PSS and PAS (DREAM Eqs 1-4, ledger 2).

A network decides under every subset of the modalities. Its decisions, (S, n, K) whole numbers, hold K decisions of each
example: one of classes and scores, one of every binary label. All is computed for a batch at once, on its device.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmlib.data.bundle import Task
from mmlib.errors import InputError, unknown_name

EXACT = 6  # modalities up to which every subset is looked at
RULES = ("sign", "seven")
NOTHING = -1  # a decision that equals no other


class Plan(NamedTuple):
    """Which subsets are looked at, and how the steps from one to another are averaged.

    subsets: (S, M) bool; the first is the empty one, the last has all.
    without, joined: (M, P) numbers of subsets: the second is the first with modality i put in.
    weights: (M, P) what each step counts for; a modality's sum to 1.
    """

    subsets: Tensor
    without: Tensor
    joined: Tensor
    weights: Tensor


def exact_plan(count: int, most: int = EXACT) -> Plan:
    """All 2^M subsets, a step from S to S and i weighing |S|! (M - |S| - 1)! / M! (Eq. 2).

    Raises:
        InputError: no modality, or more than ``most``.
    """
    if not 1 <= count <= most:
        raise InputError(
            "exact Shapley values",
            f"{count} modalities",
            f"1 to {most}",
            "Sample permutations instead.",
        )
    subsets = np.array(list(itertools.product((False, True), repeat=count)))
    places = 2 ** np.arange(count - 1, -1, -1)
    without = np.stack([np.flatnonzero(~subsets[:, i]) for i in range(count)])
    size = subsets.sum(axis=1)[without]
    share = np.array(
        [
            math.factorial(s) * math.factorial(count - s - 1) / math.factorial(count)
            for s in range(count)
        ]
    )
    return _plan(subsets, without, without + places[:, None], share[size])


def sampled_plan(count: int, permutations: int, seed: int = 0) -> Plan:
    """Steps along random orders in which the modalities are put in, one step of each modality in every order.

    An average over such steps estimates Eq. 2 without bias; ``standard_error`` is of this plan alone.

    Raises:
        InputError: no modality, more than 62, or fewer than two orders, which have no spread.
    """
    if not 1 <= count <= 62 or permutations < 2:
        raise InputError(
            "sampled Shapley values",
            f"{count} modalities, {permutations} orders",
            "1 to 62 modalities, 2 or more orders",
            "Correct it.",
        )
    orders = np.random.default_rng(seed).permuted(
        np.tile(np.arange(count), (permutations, 1)), axis=1
    )
    codes = np.cumsum(2 ** (count - 1 - orders.astype(np.int64)), axis=1)
    codes = np.concatenate([np.zeros((permutations, 1), np.int64), codes], axis=1)
    distinct, number = np.unique(codes, return_inverse=True)
    number = number.reshape(codes.shape)
    place = np.argsort(orders, axis=1)  # when each modality came in
    row = np.arange(permutations)[:, None]
    subsets = (distinct[:, None] >> np.arange(count - 1, -1, -1)) & 1 == 1
    return _plan(
        subsets,
        number[row, place].T,
        number[row, place + 1].T,
        np.full((count, permutations), 1 / permutations),
    )


def make_plan(count: int, permutations: int) -> Plan:
    """Exact up to ``EXACT`` modalities, sampled beyond, always from the same orders."""
    return exact_plan(count) if count <= EXACT else sampled_plan(count, permutations)


def _plan(
    subsets: np.ndarray, without: np.ndarray, joined: np.ndarray, weights: np.ndarray
) -> Plan:
    def tensor_of(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))

    return Plan(
        tensor_of(subsets), tensor_of(without), tensor_of(joined), torch.from_numpy(weights).float()
    )


def average(plan: Plan, marginals: Tensor) -> Tensor:
    """(M, P, n) what each step changes -> (n, M), its weighted average (Eq. 2)."""
    return torch.einsum("ip,ipn->ni", plan.weights.to(marginals.dtype), marginals)


def standard_error(marginals: Tensor) -> Tensor:
    """(M, P, n) of a sampled plan -> (n, M), the standard error of their average over the orders."""
    return (marginals.std(dim=1) / math.sqrt(marginals.shape[1])).t()


def shapley(plan: Plan, payoffs: Tensor) -> Tensor:
    """(S, n) what each subset is worth -> (n, M), the Shapley value of each modality."""
    return average(plan, gains(plan, payoffs))


def gains(plan: Plan, payoffs: Tensor) -> Tensor:
    """(S, n) -> (M, P, n): what a step gains (Eq. 4)."""
    return payoffs[plan.joined] - payoffs[plan.without]


def shifts(plan: Plan, decided: Tensor, together: bool = False) -> Tensor:
    """(S, n, K) -> (M, P, n): whether a step changes the decision (Eq. 1).

    Of several decisions the share that change (B3); ``together``: whether any does.
    """
    changed = decided[plan.joined] != decided[plan.without]
    return changed.any(dim=-1).float() if together else changed.float().mean(dim=-1)


def worth(plan: Plan, decided: Tensor, truth: Tensor) -> Tensor:
    """V(S) = |S| where the decision is right, 0 elsewhere (Eq. 3); of several decisions the mean (B4).

    decided (S, n, K), truth (n, K) -> (S, n). V of the empty subset is 0, whatever is decided there.
    """
    return (decided == truth).float().mean(dim=-1) * plan.subsets.sum(dim=1)[:, None]


def pss(plan: Plan, decided: Tensor, together: bool = False) -> Tensor:
    """Prediction shift scores (Eqs 1 and 2), (n, M) in [0, 1]; no label is asked for."""
    return average(plan, shifts(plan, decided, together))


def pas(plan: Plan, decided: Tensor, truth: Tensor) -> Tensor:
    """Prediction accuracy scores (Eqs 3 and 4), (n, M); an exact plan's sum to M where all modalities are right."""
    return shapley(plan, worth(plan, decided, truth))


def decisions(task: Task, logits: Tensor, rule: str = "sign") -> Tensor:
    """(..., C) -> (..., K): the likeliest class, a yes or no for each emotion, or of a score its sign (B2).

    rule: of scores; ``sign`` asks for above 0, ``seven`` for the nearest whole number in [-3, 3].

    Raises:
        InputError: an unknown rule.
    """
    if task.kind == "score":
        return _levels(logits, rule)
    if task.kind == "binaries":
        return logits.unflatten(-1, (-1, 2)).argmax(dim=-1)
    return logits.argmax(dim=-1, keepdim=True)


def truths(task: Task, labels: Tensor, rule: str = "sign") -> Tensor:
    """Labels as in the bundle -> (n, K): what a right decision is."""
    if task.kind == "score":
        return _levels(labels[:, None], rule)
    return labels if task.kind == "binaries" else labels[:, None]


def _levels(scores: Tensor, rule: str) -> Tensor:
    if rule not in RULES:
        raise unknown_name("decisions of scores", rule, RULES)
    return (scores > 0).long() if rule == "sign" else scores.clamp(-3, 3).round().long()
