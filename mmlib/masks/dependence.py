"""What a mask depends on, measured: areas under the curve against content and label, and information about the label.

The area (AUC) is the chance that a missing row has a larger score than an observed one: 0.5 where they do not differ.
*Within* is the same among rows whose scores decided alike (bins of the law's own z), so that a mask that is missing at
random has 0.5 there against everything else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import scipy  # its parts are imported when they are used: scipy.stats takes a second

from mmlib.data.bundle import Bundle
from mmlib.masks import mechanism
from mmlib.masks.law import Law, Mask
from mmlib.masks.scores import classes_of, content

BINS = 20
LEVEL = 0.95
PERMUTATIONS = 199


def dependence(law: Law, bundle: Bundle, split: str, mask: Mask) -> pd.DataFrame:
    """Areas for each modality that is missing in some rows of a split and not in all.

    Columns: modality; against (``own content``, ``content of NAME``, or ``label``: the class whose area is furthest
    from 0.5); auc, low, high (the interval of DeLong et al. 1988, of the label's at a level divided by the number of
    classes); within, within_low, within_high (missing for laws without a score).
    """
    rows = bundle.rows(split)
    scores = content(bundle).values[rows]
    known = mechanism.fitted(law, bundle) if law.kind in mechanism.NAMES else None
    lines = []
    for index, modality in enumerate(bundle.modalities):
        missing = ~mask.utterance[:, index]
        if missing.all() or not missing.any():
            continue
        bins = None if known is None else _bins(known.scores[rows, index])
        for name, score, level in _against(
            bundle, index, scores, classes_of(bundle)[rows], missing
        ):
            found = interval(*area(score, missing), level)
            within = (np.nan,) * 3 if bins is None else interval(*area(score, missing, bins), level)
            lines.append((modality, name, *found, *within))
    columns = ["modality", "against", "auc", "low", "high", "within", "within_low", "within_high"]
    return pd.DataFrame(lines, columns=columns)


def information(bundle: Bundle, split: str, mask: Mask, seed: int = 0) -> pd.DataFrame:
    """What a mask says of the label: I(e; Y) in bits, of each modality's missingness and of the whole pattern.

    Columns: modality (``pattern`` for the whole), bits, by_chance (the mean over permutations of the labels), p.
    """
    labels = classes_of(bundle)[bundle.rows(split)]
    pattern = np.unique(mask.utterance, axis=0, return_inverse=True)[1].ravel()
    named = zip(bundle.modalities, mask.utterance.T.astype(int), strict=True)
    generator = np.random.default_rng(seed)
    lines = []
    for name, column in [*named, ("pattern", pattern)]:
        bits = shared_bits(column, labels)
        by_chance = np.array(
            [shared_bits(column, generator.permutation(labels)) for _ in range(PERMUTATIONS)]
        )
        as_large = (by_chance >= bits - 1e-12).sum()
        lines.append((name, bits, by_chance.mean(), (1 + as_large) / (1 + PERMUTATIONS)))
    return pd.DataFrame(lines, columns=["modality", "bits", "by_chance", "p"])


def shared_bits(one: np.ndarray, other: np.ndarray) -> float:
    """The mutual information of two columns of whole numbers, (n,), in bits, of their counts."""
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1 / len(one))
    independent = np.outer(table.sum(axis=1), table.sum(axis=0))
    there = table > 0
    return float((table[there] * np.log2(table[there] / independent[there])).sum())


def area(
    score: np.ndarray, missing: np.ndarray, bins: np.ndarray | None = None
) -> tuple[float, float]:
    """The area under the curve, and its standard error (DeLong et al. 1988).

    score: (n,); missing: (n,) bool; bins: (n,) whole numbers: only pairs of rows in one bin are compared. NaN where no
    pair is left.
    """
    total, pairs, variance = 0.0, 0.0, 0.0
    for place in np.unique(bins) if bins is not None else (None,):
        inside = np.ones(len(score), bool) if place is None else bins == place
        high, low = score[inside & missing], score[inside & ~missing]
        count = len(high) * len(low)
        if min(len(high), len(low)) < 2:
            continue
        ranks = scipy.stats.rankdata(np.r_[high, low])
        above = (ranks[: len(high)] - scipy.stats.rankdata(high)) / len(low)
        below = 1 - (ranks[len(high) :] - scipy.stats.rankdata(low)) / len(high)
        spread = above.var(ddof=1) / len(high) + below.var(ddof=1) / len(low)
        total, pairs = total + count * above.mean(), pairs + count
        variance += count**2 * spread
    return (total / pairs, variance**0.5 / pairs) if pairs else (np.nan, np.nan)


def interval(value: float, error: float, level: float = LEVEL) -> tuple[float, float, float]:
    """A value and the ends of its interval, inside [0, 1]."""
    reach = float(scipy.stats.norm.ppf((1 + level) / 2)) * error
    return value, max(value - reach, 0.0), min(value + reach, 1.0)


def _bins(z: np.ndarray) -> np.ndarray:
    """(n,) the number of each score's bin, of ``BINS`` with as many rows; equal scores share one."""
    edges = np.unique(np.quantile(z, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, z, side="left")


def _against(
    bundle: Bundle, index: int, scores: np.ndarray, labels: np.ndarray, missing: np.ndarray
) -> Iterator[tuple[str, np.ndarray, float]]:
    """What a modality's missingness is held against: its name, (n,) values, and the level of the interval."""
    yield "own content", scores[:, index], LEVEL
    for other, modality in enumerate(bundle.modalities):
        if other != index:
            yield f"content of {modality}", scores[:, other], LEVEL
    each = [(labels == k).astype(float) for k in np.unique(labels)]
    furthest = max(each, key=lambda column: abs(area(column, missing)[0] - 0.5))
    yield "label", furthest, 1 - (1 - LEVEL) / len(each)
