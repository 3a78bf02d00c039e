"""BALM's laws: missing rates, shared or one for each modality (section 3.1, Eqs 1-4 and 36-39; A1-A3, D1, D2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from mmlib.masks.draw import Drawing, Kind, restore
from mmlib.masks.law import Law, Layout, Mask, check_rate


def shared(rate: float, resampled: bool = False) -> Law:
    """Each modality missing independently at one rate; one is restored where all are (BALM Eq. 1)."""
    check_rate("shared", "the rate", rate)
    return Law("shared", rate=rate, resampled=resampled)


def imbalanced(rates: Mapping[str, float], layout: Layout = "paper") -> Law:
    """BALM's masking operator M(.; r), Eq. 36 as read in A1: exact quotas per pattern."""
    for modality, rate in rates.items():
        check_rate("imbalanced", modality, rate)
    return Law("imbalanced", rates=tuple(sorted(rates.items())), layout=layout)


def pattern_counts(n: int, rates: Sequence[float]) -> dict[tuple[int, ...], int]:
    """How many of n utterances get each pattern of observed modalities (BALM Eq. 36; A1, D2).

    The share of pattern e is prod (1 - r_m)^e_m r_m^(1 - e_m), in exact fractions; the count is
    its floor. What is left over (the all-missing share and the fractions cut off) goes in equal
    parts to the M patterns with one modality, the first ones taking one more where it does not
    divide.

    The realised rate of modality m is then within prod(r)/M of r_m, as the paper states, plus at
    most (2^(M-1) (M-1)/M + 1)/n for rounding. Proof: let f_e in [0, 1) be the fraction cut off
    pattern e, F1 their sum over patterns with m, F0 without (all-missing left out), P = n prod(r).
    The remainder is P + F0 + F1, of which pattern {m} takes (P + F0 + F1)/M + d with |d| < 1, so
    n (realised - r_m) = F1 - (P + F0 + F1)/M - d, where F1 <= 2^(M-1) and F0 <= 2^(M-1) - 1.
    """
    exact = [Fraction(str(rate)) for rate in rates]
    count = len(exact)
    counts: dict[tuple[int, ...], int] = {}
    for pattern in itertools.product((0, 1), repeat=count):
        if any(pattern):
            factors = (1 - r if e else r for e, r in zip(pattern, exact, strict=True))
            counts[pattern] = math.floor(n * math.prod(factors, start=Fraction(1)))
    each, more = divmod(n - sum(counts.values()), count)
    for modality in range(count):
        single = tuple(int(i == modality) for i in range(count))
        counts[single] += each + (modality < more)
    return counts


def rate_bound(n: int, rates: Sequence[float]) -> float:
    """The largest |realised - nominal| missing rate that ``pattern_counts`` can give."""
    count = len(rates)
    return math.prod(rates) / count + (2 ** (count - 1) * (count - 1) / count + 1) / n


def equivalent_shared_rate(rates: Sequence[float]) -> float:
    """The shared rate with which imbalanced rates are compared: their mean (BALM Eqs 37-39)."""
    return sum(rates) / len(rates)


def pattern_distribution(rates: Sequence[float]) -> dict[tuple[int, ...], float]:
    """p_IMR(e) of BALM Eq. 3 (Eq. 1 where the rates are equal): normalised without all-missing."""
    nothing = math.prod(rates)
    return {
        pattern: math.prod(1 - r if e else r for e, r in zip(pattern, rates, strict=True))
        / (1 - nothing)
        for pattern in itertools.product((0, 1), repeat=len(rates))
        if any(pattern)
    }


def imbalance(rates: Sequence[float]) -> float:
    """Delta_IMR of BALM Eq. 4: KL(p_IMR || p_SMR) in nats, at the mean rate (ledger section 8)."""
    shared_rate = equivalent_shared_rate(rates)
    ours, theirs = pattern_distribution(rates), pattern_distribution([shared_rate] * len(rates))
    return sum(p * math.log(p / theirs[e]) for e, p in ours.items() if p > 0)


def _independent(law: Law, drawing: Drawing) -> Mask:
    n = drawing.shape[0]
    mask = np.stack([g.random(n) >= law.rate for g in drawing.per_modality], axis=1)
    return Mask(restore(mask, np.ones_like(mask), drawing.joint))


def _quotas(law: Law, drawing: Drawing) -> Mask:
    rates = dict(law.rates)
    counts = pattern_counts(drawing.shape[0], [rates[m] for m in drawing.bundle.modalities])
    blocks = np.repeat(np.array(list(counts), dtype=bool), list(counts.values()), axis=0)
    return Mask(blocks if law.layout == "released" else drawing.joint.permutation(blocks))


SHARED = Kind(
    3, _independent, lambda law, modalities: dict.fromkeys(modalities, law.rate), redistributes=True
)
IMBALANCED = Kind(4, _quotas, lambda law, modalities: dict(law.rates), redistributes=True)
