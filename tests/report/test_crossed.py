"""The interval for other seeds and other clusters: coverage by simulation, and cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmlib.report import stats
from mmlib.report.crossed import Interval, Pair, crossed

REPETITIONS, FEWER = 300, 500


def share(sums: np.ndarray) -> np.ndarray:
    return np.asarray(100 * sums[..., 0] / sums[..., 1])


def pair(difference: np.ndarray, size: int = 20, test: object = None, weight: float = 1.0) -> Pair:
    """Two rows whose shares differ by so many points, (S, G), on clusters of one size."""
    whole = np.full(difference.shape, float(size))
    first = (50 + difference) / 100 * size
    return Pair(
        np.stack([first, whole], axis=-1), np.stack([whole / 2, whole], axis=-1), weight, test
    )


def interval(*pairs: Pair, draws: int = 2000, seed: int = 0) -> Interval:
    made = crossed(pairs, share, draws, seed)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("seeds", "clusters"), [(10, 18), (20, 30), (40, 12)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("sds", [(1.0, 4.0, 4.0), (0.3, 6.0, 0.0)], ids=lambda sds: str(sds))
def test_it_covers_the_true_difference_at_least_as_often_as_it_says(
    seeds: int, clusters: int, sds: tuple[float, float, float]
) -> None:
    """sds: of seeds, of clusters, and of what a seed does on a cluster."""
    random = np.random.default_rng([seeds, clusters, *(int(10 * sd) for sd in sds)])
    of_seeds, of_clusters, of_both = sds
    covered = {0.95: 0, 0.90: 0}
    for repetition in range(REPETITIONS):
        difference = (
            random.normal(0, of_seeds, (seeds, 1))
            + random.normal(0, of_clusters, (1, clusters))
            + random.normal(0, of_both, (seeds, clusters))
        )
        made = interval(pair(difference), draws=FEWER, seed=repetition)
        covered[0.95] += made.low <= 0 <= made.high
        covered[0.90] += made.low90 <= 0 <= made.high90
    for level, count in covered.items():
        assert count / REPETITIONS > level - 2 * math.sqrt(level * (1 - level) / REPETITIONS)


def test_of_clusters_that_are_alike_it_is_the_interval_over_seeds() -> None:
    of_seeds = np.random.default_rng(1).normal(1.0, 2.0, 20)
    made = interval(pair(np.repeat(of_seeds[:, None], 50, axis=1)), draws=20_000)
    known = stats.summarise(of_seeds)
    width = known.high - known.low
    assert made.low == pytest.approx(known.low, abs=0.08 * width)
    assert made.high == pytest.approx(known.high, abs=0.08 * width)


def test_of_seeds_that_are_alike_it_is_the_bootstrap_over_clusters() -> None:
    of_clusters = np.random.default_rng(2).normal(1.0, 5.0, 30)
    made = interval(pair(np.repeat(of_clusters[None], 40, axis=0)), draws=20_000)
    known = stats.cluster_bootstrap(of_clusters, np.zeros(30), np.arange(30), draws=20_000)
    width = known.high - known.low
    assert made.low == pytest.approx(known.low, abs=0.05 * width)
    assert made.high == pytest.approx(known.high, abs=0.05 * width)


def test_rows_in_the_other_order_have_the_mirrored_interval() -> None:
    of_both = np.random.default_rng(3).normal(2.0, 3.0, (8, 12))
    one = pair(of_both)
    made, other = interval(one), interval(Pair(one.second, one.first))
    assert (made.low, made.high) == pytest.approx((-other.high, -other.low), rel=1e-6)
    assert made.low < made.low90 < made.high90 < made.high and made.clusters == 12


def test_conditions_on_one_test_set_have_its_clusters_together_and_folds_their_own() -> None:
    """What one condition gains in a cluster the other loses: on one test set this cancels, on two it does not."""
    of_clusters = np.repeat(np.random.default_rng(4).normal(0, 9, (1, 30)), 6, axis=0)
    up, down = pair(of_clusters, weight=0.5), pair(-of_clusters, weight=0.5)
    together = interval(up, down)
    assert together.high - together.low < 1e-9
    folds = [
        pair(of_clusters, weight=0.5, test=0),
        pair(-of_clusters, weight=0.5, test=1),
    ]
    apart = interval(*folds)
    assert apart.high - apart.low > 2 and apart.clusters == 60


def test_larger_clusters_count_for_more() -> None:
    of_clusters = np.array([[10.0] * 10 + [0.0] * 10] * 6)
    sizes = np.array([[90.0] * 10 + [10.0] * 10] * 6)
    first = np.stack([(50 + of_clusters) / 100 * sizes, sizes], axis=-1)
    second = np.stack([sizes / 2, sizes], axis=-1)
    made = interval(Pair(first, second))
    assert made.low < 9.0 < made.high < 10.5 and made.low > 5


@pytest.mark.parametrize(("seeds", "clusters"), [(4, 30), (30, 4)])
def test_fewer_than_five_seeds_or_clusters_have_none(seeds: int, clusters: int) -> None:
    assert crossed([pair(np.ones((seeds, clusters)))], share) is None
