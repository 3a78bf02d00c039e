"""Statistics are checked against scipy's own tests and by simulating coverage and error rates."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mmlib.errors import InputError
from mmlib.report import stats


def test_summary_by_hand() -> None:
    runs = (60.0, 60.0, 62.0, 64.0, 64.0)  # squared deviations 4 + 4 + 0 + 4 + 4, over 4
    found = stats.summarise(runs)
    assert (found.mean, found.sd, found.n, found.values) == (62.0, 2.0, 5, runs)
    half = 2.7764451051977987 * 2 / math.sqrt(5)  # t(0.975, 4) from a printed table
    assert found.low == pytest.approx(62 - half) and found.high == pytest.approx(62 + half)


def test_one_run_has_a_mean_and_no_spread() -> None:
    found = stats.summarise([61.5])
    assert found.mean == 61.5 and found.n == 1
    assert all(math.isnan(v) for v in (found.sd, found.low, found.high))
    assert all(math.isnan(v) for v in stats.prediction_interval([61.5]))
    assert stats.inside(61.5, [61.5]) is None
    alone = stats.paired([61.5], [50.0])
    assert alone.verdict == "too few seeds" and alone.difference == 11.5
    assert math.isnan(alone.detectable) and str(alone) == "+11.50"


def test_four_runs_have_a_spread_and_no_interval_and_five_have_both() -> None:
    five = [60.0, 60.0, 62.0, 64.0, 64.0]
    theirs = scipy_stats.t.interval(0.95, 4, loc=62, scale=2 / math.sqrt(5))
    predicted = scipy_stats.t.interval(0.95, 4, loc=62, scale=2 * math.sqrt(1 + 1 / 5))
    summary, against = stats.summarise(five), stats.paired(five, [61.0] * 5)
    assert (summary.low, summary.high) == pytest.approx(theirs)
    assert stats.prediction_interval(five) == pytest.approx(predicted)
    assert (against.low, against.high) == pytest.approx((theirs[0] - 61, theirs[1] - 61))
    assert against.verdict == "undecided" and against.detectable > 0
    assert str(against) == "+1.00 [-1.48, 3.48]"

    for few in (2, 3, 4):
        summary, against = stats.summarise(five[:few]), stats.paired(five[:few], [50.0] * few)
        assert summary.sd == pytest.approx(np.std(five[:few], ddof=1)) == against.sd
        assert summary.mean == pytest.approx(sum(five[:few]) / few)
        assert against.difference == pytest.approx(summary.mean - 50)
        ends = (summary.low, summary.high, *stats.prediction_interval(five[:few]))
        others = (against.low, against.high, against.low90, against.high90, against.detectable)
        assert np.isnan([*ends, *others]).all()
        assert stats.inside(61.0, five[:few]) is None
        assert against.verdict == "too few seeds"  # though all are ten points above
        assert str(against) == f"{against.difference:+.2f}"


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_values_that_are_not_numbers_are_refused(values: list[float]) -> None:
    with pytest.raises(InputError):
        stats.summarise(values)


def test_paired_intervals_are_those_of_scipys_paired_test() -> None:
    draw = np.random.default_rng(3)
    a, b = draw.normal(62, 1, 7), draw.normal(61, 1, 7)
    theirs = scipy_stats.ttest_rel(a, b)
    found = stats.paired(a, b)
    wide, narrow = theirs.confidence_interval(0.95), theirs.confidence_interval(0.90)
    assert (found.low, found.high) == pytest.approx((wide.low, wide.high), abs=1e-8)
    assert (found.low90, found.high90) == pytest.approx((narrow.low, narrow.high), abs=1e-8)
    simultaneous, theirs_12 = (
        stats.paired(a, b, comparisons=12),
        theirs.confidence_interval(1 - 0.05 / 12),
    )
    assert (simultaneous.low, simultaneous.high) == pytest.approx(
        (theirs_12.low, theirs_12.high), abs=1e-8
    )


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([1.0, 1.2, 0.9, 1.1, 1.0], "better"),
        ([-1.0, -1.2, -0.9, -1.1, -1.0], "worse"),
        ([0.1, -0.1, 0.05, -0.05, 0.0], "equivalent"),
        ([2.0, -2.0, 1.0, -1.5, 0.3], "undecided"),
        (
            [0.1, 0.12, 0.11, 0.1, 0.12],
            "better",
        ),  # smaller than the margin, yet above 0: better comes first
        # 90 % intervals [-0.79, 0.83], within the margin of 1 point, and [-1.07, 1.07], beyond it
        ([0.9, -0.8, 0.7, -0.9, 0.2], "equivalent"),
        ([1.2, -1.1, 0.9, -1.2, 0.2], "undecided"),
        ([0.0, 0.0, 0.0, 0.0, 0.0], "equivalent"),
        ([0.4, 0.4, 0.4, 0.4, 0.4], "undecided"),  # a tie has no spread and shows nothing
        ([1.0, 1.2, 0.9, 1.1], "too few seeds"),
        ([0.0, 0.0, 0.0, 0.0], "too few seeds"),
    ],
)
def test_the_five_verdicts(differences: list[float], verdict: str) -> None:
    base = np.full(len(differences), 60.0)
    assert stats.paired(base + differences, base).verdict == verdict


def test_series_pair_by_seed_and_not_by_position() -> None:
    a = pd.Series([3.0, 1.0, 2.0], index=[3, 1, 2])
    b = pd.Series([0.5, 1.5, 99.0], index=[1, 2, 7])
    found = stats.paired(a, b)
    assert found.n == 2 and found.difference == pytest.approx(0.5)
    with pytest.raises(InputError):
        stats.paired([1.0, 2.0], [1.0])
    with pytest.raises(InputError):
        stats.paired(pd.Series([1.0, 2.0], index=[1, 1]), b)


def test_intervals_over_seeds_cover_at_their_level() -> None:
    draw = np.random.default_rng(0)
    runs = draw.normal(62.0, 1.5, (4000, 5))
    hits = sum(s.low <= 62.0 <= s.high for s in map(stats.summarise, runs))
    assert hits / 4000 == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors
    seed_effect = draw.normal(0, 3.0, (4000, 5))
    a, b = (
        61 + seed_effect + draw.normal(0, 0.5, (4000, 5)),
        60 + seed_effect + draw.normal(0, 0.5, (4000, 5)),
    )
    found = [stats.paired(x, y) for x, y in zip(a, b, strict=True)]
    assert np.mean([c.low <= 1.0 <= c.high for c in found]) == pytest.approx(0.95, abs=0.012)
    assert np.mean([c.low90 <= 1.0 <= c.high90 for c in found]) == pytest.approx(0.90, abs=0.017)


def test_simultaneous_intervals_hold_together() -> None:
    draw = np.random.default_rng(1)
    tables = draw.normal(0.0, 1.0, (800, 6, 5))  # six independent comparisons a table
    together = [
        all(
            c.low <= 0 <= c.high
            for c in (stats.paired(row, np.zeros(5), comparisons=6) for row in table)
        )
        for table in tables
    ]
    alone = [
        all(c.low <= 0 <= c.high for c in (stats.paired(row, np.zeros(5)) for row in table))
        for table in tables
    ]
    assert np.mean(together) == pytest.approx(0.95, abs=0.027)
    assert np.mean(alone) < 0.80  # about 0.95 ** 6: what goes wrong without


@pytest.mark.parametrize("of_mean", [1, 5])
def test_prediction_intervals_cover_further_runs(of_mean: int) -> None:
    draw = np.random.default_rng(of_mean)
    ours, theirs = (
        draw.normal(62, 1.2, (4000, 5)),
        draw.normal(62, 1.2, (4000, of_mean)).mean(axis=1),
    )
    hits = np.mean([stats.inside(float(p), v, of_mean) for v, p in zip(ours, theirs, strict=True)])
    assert hits == pytest.approx(0.95, abs=0.012)


def test_a_number_far_from_our_runs_is_outside() -> None:
    runs = [61.0, 62.0, 63.0, 62.0, 62.0]  # 62 +- 2.776 sqrt(0.5) sqrt(1 + 1/5) = 62 +- 2.15
    assert stats.inside(64.2, runs) is stats.inside(59.8, runs) is False
    assert stats.inside(64.1, runs) is stats.inside(59.9, runs) is True


def test_verdict_error_rates() -> None:
    draw = np.random.default_rng(2)
    zeros = np.zeros(6)
    null = [stats.paired(d, zeros).verdict for d in draw.normal(0.0, 1.0, (4000, 6))]
    assert np.mean([v == "better" for v in null]) == pytest.approx(0.025, abs=0.009)
    assert np.mean([v == "worse" for v in null]) == pytest.approx(0.025, abs=0.009)
    at_margin = [stats.paired(d, zeros).verdict for d in draw.normal(1.0, 0.8, (2000, 6))]
    assert 0.005 < np.mean([v == "equivalent" for v in at_margin]) <= 0.05 + 0.017
    same = [stats.paired(d, zeros).verdict for d in draw.normal(0.0, 0.3, (1000, 6))]
    assert np.mean([v == "equivalent" for v in same]) > 0.9


@pytest.mark.parametrize(("n", "comparisons"), [(5, 1), (6, 1), (10, 4)])
def test_the_detectable_difference_is_found_in_four_of_five_repetitions(
    n: int, comparisons: int
) -> None:
    zeros = np.zeros(n)
    unit = np.array([1.0, -1.0] * (n // 2) + [0.0] * (n % 2))
    per_sd = stats.paired(unit, zeros, comparisons=comparisons)
    shift = per_sd.detectable / per_sd.sd
    found = [
        stats.paired(d, zeros, comparisons=comparisons).verdict
        for d in np.random.default_rng(n).normal(shift, 1.0, (3000, n))
    ]
    assert np.mean([v == "better" for v in found]) == pytest.approx(0.8, abs=0.026)


def test_detectable_agrees_with_the_known_sample_size_of_a_paired_test() -> None:
    # A paired t-test with n = 34 and effect 0.5 sd has 80 % power at 5 % two-sided (Cohen's tables).
    values = np.random.default_rng(0).normal(0, 1, 34)
    found = stats.paired(values, np.zeros(34))
    assert found.detectable / found.sd == pytest.approx(0.5, abs=0.01)


def _clustered(draw: np.random.Generator, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per-example differences with mean 0.1 whose dialogues share a part."""
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    return 0.1 + draw.normal(0, 0.3, len(sizes))[clusters] + draw.normal(
        0, 0.5, len(clusters)
    ), clusters


def test_the_cluster_bootstrap_covers_where_examples_are_clustered() -> None:
    draw = np.random.default_rng(4)
    hits, naive = [], []
    for repetition in range(600):
        difference, clusters = _clustered(
            draw, draw.integers(5, 40, 31)
        )  # as many dialogues as IEMOCAP's test set
        ours = stats.cluster_bootstrap(
            difference, np.zeros(len(clusters)), clusters, draws=500, seed=repetition
        )
        hits.append(ours.low <= 0.1 <= ours.high)
        if repetition < 100:
            alone = stats.cluster_bootstrap(
                difference, np.zeros(len(clusters)), np.arange(len(clusters)), draws=200
            )
            naive.append(alone.low <= 0.1 <= alone.high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.035)
    assert np.mean(naive) < 0.75  # what ignoring the dialogues would claim


def test_the_cluster_bootstrap_resamples_whole_clusters() -> None:
    a, b, clusters = (
        np.array([1.0, 1, 0, 0]),
        np.array([0.0, 0, 0, 1]),
        np.array(["x", "x", "y", "y"]),
    )
    found = stats.cluster_bootstrap(a, b, clusters)
    # Two clusters with means 1 and -1/2: resampling gives 1, 1/4 or -1/2 and nothing else.
    assert found.difference == pytest.approx(0.25) and (found.low, found.high) == (-0.5, 1.0)
    assert found == stats.cluster_bootstrap(a, b, clusters)
    assert math.isnan(stats.cluster_bootstrap(a, b, ["x"] * 4).low)


def test_with_few_clusters_of_one_size_the_cluster_bootstrap_is_the_t_interval_of_their_means() -> (
    None
):
    # Cluster means at normal quantiles, so that the bootstrap law is nearly normal, as the t-interval supposes.
    means = scipy_stats.norm.ppf((np.arange(10) + 0.5) / 10)
    found = stats.cluster_bootstrap(
        np.repeat(means, 3), np.zeros(30), np.repeat(np.arange(10), 3), draws=40000
    )
    theirs = scipy_stats.t.interval(0.95, 9, loc=0, scale=scipy_stats.sem(means))
    assert found.high - found.low == pytest.approx(theirs[1] - theirs[0], rel=0.02)


def test_folds_are_averaged_within_a_seed_before_any_interval() -> None:
    frame = pd.DataFrame(
        [
            {
                "run_id": f"{seed}{fold}",
                "row": "plain",
                "seed": seed,
                "fold": fold,
                "value": value,
                "stale": fold == 1,
            }
            for seed, fold, value in [
                (0, 0, 1.0),
                (0, 1, 3.0),
                (1, 0, 5.0),
                (1, 1, 9.0),
                (2, 0, 100.0),
            ]
        ]
    )
    found = stats.average_folds(frame)
    assert list(found["value"]) == [2.0, 7.0]  # seed 2 lacks a fold
    assert list(found["seed"]) == [0, 1] and list(found["run_id"]) == ["00 01", "10 11"]
    assert found["fold"].isna().all() and found["stale"].all()
    plain = frame.assign(fold=None)
    assert stats.average_folds(plain) is plain
