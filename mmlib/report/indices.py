"""Indices of equity and of learning: how evenly modalities contribute to a result, and how evenly they are trained.

MissBench (arXiv 2603.09874) names a modality equity index (MEI, higher is fairer) and a modality learning index (MLI,
lower is more balanced). Their formulas are not public: what stands here are readings of ours, and no number of that
paper can be compared with them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Worth = Mapping[frozenset[str], float]


def contributions(worth: Worth) -> dict[str, float]:
    """The Shapley value of each modality: its mean gain over all orders in which modalities are put in.

    worth: what each combination of the modalities is worth, the empty one included. The values sum to what all are
    worth more than none.
    """
    total = dict.fromkeys(sorted(frozenset().union(*worth)), 0.0)
    orders = list(itertools.permutations(total))
    for order in orders:
        for place, modality in enumerate(order):
            before = frozenset(order[:place])
            total[modality] += worth[before | {modality}] - worth[before]
    return {modality: gain / len(orders) for modality, gain in total.items()}


def expected_contributions(worth: Worth, chances: Worth) -> dict[str, float]:
    """The same where each combination is all there is, averaged over how likely each is shown.

    chances: of the combinations, which sum to 1. The values sum to the expected worth beyond that of nothing.
    """
    total = dict.fromkeys(sorted(frozenset().union(*worth)), 0.0)
    for shown, chance in chances.items():
        if not shown or not chance:
            continue
        inside = {part: value for part, value in worth.items() if part <= shown}
        for modality, gain in contributions(inside).items():
            total[modality] += chance * gain
    return total


def equity(gains: Sequence[float]) -> float:
    """MEI: the entropy of the modalities' shares of what they contribute, over that of equal shares.

    1 where all contribute alike, 0 where one does alone. Negative contributions count as none; nan where nothing
    contributes, or of one modality.
    """
    shares = _shares(gains)
    if len(shares) < 2 or not shares.any():
        return math.nan
    there = shares[shares > 0]
    entropy = -(there * np.log(there)).sum()
    return abs(float(entropy / math.log(len(shares))))  # 0 has no sign


def jain(gains: Sequence[float]) -> float:
    """The second reading of MEI: Jain's index, (sum)^2 / (M sum of squares), from [1/M, 1] brought to [0, 1]."""
    shares = _shares(gains)
    if len(shares) < 2 or not shares.any():
        return math.nan
    count = len(shares)
    index = 1 / (count * (shares**2).sum())
    return float((index - 1 / count) / (1 - 1 / count))


def _shares(gains: Sequence[float]) -> np.ndarray:
    positive = np.maximum(np.asarray(gains, dtype=float), 0.0)
    return positive / positive.sum() if positive.sum() > 0 else np.zeros_like(positive)


def learning(norms: np.ndarray, rates: Sequence[float] = ()) -> float:
    """MLI: over steps, the mean of the modalities' standard deviation divided by their mean.

    norms: (steps, M), the norm of the gradient of what a modality alone feeds, or of its update. 0 where all are
    alike, sqrt(M - 1) where one is trained alone. Steps in which nothing moves are left out; nan where all are.
    rates: (M,) missing rates in training. With a loss that is averaged over the batch, rows that lack a modality add
    nothing to its gradient, which falls with the rate; where rates are given, norms are first divided by 1 - rate.
    """
    known = np.asarray(norms, dtype=float)
    if len(rates):
        known = known / (1 - np.asarray(rates))
    mean = known.mean(axis=1)
    moved = mean > 0
    if not moved.any():
        return math.nan
    return float((known[moved].std(axis=1) / mean[moved]).mean())


def spread(norms: np.ndarray) -> float:
    """Over steps, the mean of the logarithm of the largest over the smallest norm; steps with a norm of 0 left out."""
    known = np.asarray(norms, dtype=float)
    moved = known[(known > 0).all(axis=1)]
    if not len(moved):
        return math.nan
    return float(np.log(moved.max(axis=1) / moved.min(axis=1)).mean())


@dataclass(frozen=True)
class Scores:
    """One model under several test conditions, in the unit of its results; nan where a part cannot be had."""

    complete: float
    """Where nothing is missing."""

    mean: float
    """Over the conditions in which something is missing."""

    worst: float
    """Of these conditions."""

    drop: float
    """``complete`` minus ``mean``."""

    area: float
    """Under the curve against the missing rate, divided by the largest rate (trapezoids)."""


def scores(complete: float, missing: Sequence[float], curve: Mapping[float, float]) -> Scores:
    """The scores of one model; curve: result by missing rate, to which that of rate 0 is added.

    Results may also be shares of the best possible under the same masks: then nothing is counted against a model that
    nobody could have kept.
    """
    mean = float(np.mean(missing)) if len(missing) else math.nan
    worst = float(np.min(missing)) if len(missing) else math.nan
    area = math.nan
    if curve:
        points = sorted({0.0: complete, **curve}.items())
        at, values = np.array(points).T
        area = float(np.trapezoid(values, at) / at[-1])
    return Scores(complete, mean, worst, complete - mean, area)
