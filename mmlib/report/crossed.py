"""Would other seeds and other test data say the same? The crossed bootstrap of a paired difference.

Every seed is tested on the same dialogues, so that seeds and dialogues are crossed: both are drawn again, each by
itself (the pigeonhole bootstrap, Owen 2007). It is conservative, since what a seed does on a dialogue is counted three
times. The percentiles are widened for few seeds or clusters (Hesterberg 2015, expanded percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

DRAWS = 2000
LEVEL, NARROW = 0.95, 0.90  # of the interval, and of that which decides equivalence
FEWEST = 5  # seeds, and clusters, that have an interval


@dataclass(frozen=True)
class Pair:
    """Two rows under one condition on one test set."""

    first: np.ndarray
    """(S, G, ...) what each cluster counts, by seed."""

    second: np.ndarray
    """The same of the row that is compared with."""

    weight: float = 1.0
    """Of its difference in the mean over all pairs; the weights sum to 1."""

    test: Hashable = None
    """The test set: pairs of one have the same clusters, which are drawn together. Folds have one each."""


@dataclass(frozen=True)
class Interval:
    """A difference for other seeds and other clusters."""

    low: float
    """Lower end of the 95 % interval."""

    high: float
    """Upper end of it."""

    low90: float
    """Lower end of the 90 % interval."""

    high90: float
    """Upper end of it."""

    clusters: int
    """How many clusters there are, in all test sets."""


def crossed(
    pairs: Sequence[Pair],
    value: Callable[[np.ndarray], np.ndarray],
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """The interval of the mean over pairs of first minus second; None of fewer than ``FEWEST`` seeds or clusters.

    value: from sums over clusters (..., and the axes of one cluster's) to the metric (...,).
    """
    seeds = len(pairs[0].first)
    tests = list(dict.fromkeys(pair.test for pair in pairs))
    sizes = {pair.test: pair.first.shape[1] for pair in pairs}
    clusters = sum(sizes.values())
    if min(seeds, clusters) < FEWEST:
        return None
    generator = np.random.default_rng(seed)
    times = {
        test: generator.multinomial(sizes[test], np.full(sizes[test], 1 / sizes[test]), draws)
        for test in tests
    }
    by_seed = np.zeros((draws, seeds))
    for pair in pairs:
        first, second = (
            value(_drawn(side, times[pair.test])) for side in (pair.first, pair.second)
        )
        by_seed += pair.weight * (first - second)
    of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), draws)
    means = np.round((of_seeds * by_seed).sum(axis=1) / seeds, 10)  # equal rows differ by rounding
    ends = [_percentiles(means, level, min(seeds, clusters)) for level in (LEVEL, NARROW)]
    return Interval(*ends[0], *ends[1], clusters)


def _drawn(sums: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(draws, S, ...) the sums over clusters drawn so often; sums: (S, G, ...); times: (draws, G)."""
    by_cluster = np.moveaxis(sums, 1, 0).astype(float)
    flat = by_cluster.reshape(len(by_cluster), -1)
    return (times.astype(float) @ flat).reshape(len(times), *by_cluster.shape[1:])


def _percentiles(values: np.ndarray, level: float, fewest: int) -> tuple[float, float]:
    """The ends of an interval whose tails are those of t with one degree of freedom less than ``fewest``."""
    reach = scipy.stats.t.ppf((1 + level) / 2, fewest - 1) * math.sqrt(fewest / (fewest - 1))
    tail = float(scipy.stats.norm.cdf(-reach))
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)
