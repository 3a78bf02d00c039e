"""What runs' counts by cluster say of a claim on other test data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmlib.experiments import derived_again, other_data
from mmlib.experiments.claims import Claim, Claims, of_metric, values
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import BestLead, Change, Lead, Mean, Shift, Validated, Weighted
from mmlib.experiments.other_data import Term
from mmlib.masks import complete, random_missing
from mmlib.papers import ebmc
from mmlib.report import crossed
from mmlib.runs import clusters
from mmlib.runs.execute import execute
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store

SEEDS = 6
ALL = tuple(range(SEEDS))
TESTS = (("all", complete()), ("some", random_missing(0.5)))
ROWS = {"slow": 1e-3, "fast": 2e-2}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    store = Store(tmp_path_factory.mktemp("runs"))
    return ebmc.context("smoke", store=store)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def dataset(context: Context) -> str:
    """The one with folds."""
    return next(name for name in context.datasets if context.bundle(name).fold is not None)


@pytest.fixture(scope="module")
def cells(context: Context, dataset: str) -> list[Cell]:
    """Two learning rates under two conditions, on folds."""
    made = []
    for row, rate in ROWS.items():
        for seed in range(SEEDS):
            for fold in context.folds(dataset):
                training = Training(2, 8, rate)
                spec = RunSpec(
                    context.reference(dataset),
                    seed,
                    backbone="mlp",
                    fold=fold,
                    eval_masks=TESTS,
                    training=training,
                )
                if context.record(spec) is None:
                    context.store.put(execute(spec))
                made += [Cell(row, name, spec, name, dataset) for name, _ in TESTS]
    return made


def measured(context: Context, cells: list[Cell], row: str, setting: str, metric: str) -> float:
    values = [
        context.record(cell.spec)["selected"]["valid"]["metrics"][cell.mask][metric]  # type: ignore[index]
        for cell in cells
        if (cell.row, cell.setting) == (row, setting)
    ]
    return float(np.mean(values))


def of(context: Context, cells: list[Cell], terms: list[Term], seeds: int = SEEDS) -> object:
    averages = {"both": ["all", "some"]}
    dataset = next(name for name in context.datasets if context.bundle(name).fold is not None)
    return other_data.interval(
        context, dataset, cells, terms, "weighted_f1", averages, range(seeds)
    )


def test_the_interval_lies_around_the_measured_difference(
    context: Context, dataset: str, cells: list[Cell]
) -> None:
    made = of(context, cells, [Term("fast", "slow", "both")])
    difference = np.mean(
        [
            measured(context, cells, "fast", setting, "weighted_f1")
            - measured(context, cells, "slow", setting, "weighted_f1")
            for setting in ("all", "some")
        ]
    )
    assert isinstance(made, crossed.Interval)
    assert made.low < difference < made.high
    counts = [
        clusters.of_test(context.bundle(dataset).with_fold(f)).count for f in context.folds(dataset)
    ]
    assert made.clusters == sum(counts)


def test_an_average_is_the_mean_of_its_settings_and_terms_add_up(
    context: Context, cells: list[Cell]
) -> None:
    average = of(context, cells, [Term("fast", "slow", "both")])
    parts = [Term("fast", "slow", setting, 0.5) for setting in ("all", "some")]
    assert of(context, cells, parts) == average
    back = [Term("fast", "slow", "all"), Term("slow", "fast", "all")]
    nothing = of(context, cells, back)
    assert isinstance(nothing, crossed.Interval) and nothing.low == nothing.high == 0


def test_it_is_not_known_where_a_run_lacks_or_seeds_are_few(
    context: Context, cells: list[Cell]
) -> None:
    term = [Term("fast", "slow", "all")]
    assert of(context, cells, term, seeds=4) is None
    assert of(context, cells, term, seeds=SEEDS + 1) is None
    assert of(context, [c for c in cells if c.spec.seed != 2], term) is None
    assert of(context, cells, [Term("fast", "unmade", "all")]) is None
    assert of(context, cells, []) is None


def test_a_row_in_two_settings_is_compared_on_the_same_clusters(
    context: Context, cells: list[Cell]
) -> None:
    """A change of a lead from one setting to another is the difference of both rows' own changes."""
    once = [Term("fast", "fast", "all", against="some")]
    known, twice = of(context, cells, once), of(context, cells, [*once, *once])
    assert isinstance(known, crossed.Interval) and isinstance(twice, crossed.Interval)
    assert known.low < known.high and twice.low == pytest.approx(2 * known.low)
    difference = np.mean(
        measured(context, cells, "fast", "all", "weighted_f1")
        - measured(context, cells, "fast", "some", "weighted_f1")
    )
    assert known.low < difference < known.high
    leads = [Term("fast", "slow", "all"), Term("fast", "slow", "some", -1.0)]
    shifts = [*once, Term("slow", "slow", "all", -1.0, "some")]
    first, second = of(context, cells, leads), of(context, cells, shifts)
    assert isinstance(first, crossed.Interval) and isinstance(second, crossed.Interval)
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_a_setting_against_an_average_is_the_mean_over_its_parts(
    context: Context, cells: list[Cell]
) -> None:
    whole = of(context, cells, [Term("fast", "fast", "all", against="both")])
    half = of(context, cells, [Term("fast", "fast", "all", 0.5, "some")])
    assert isinstance(whole, crossed.Interval) and isinstance(half, crossed.Interval)
    assert (whole.low, whole.high) == pytest.approx((half.low, half.high))


def test_terms_of_measures() -> None:
    lead, other = Lead("a", "b", "x"), Lead("a", "c", "y")
    assert lead.terms({}) == [Term("a", "b", "x")]
    assert Change(lead, other).terms({}) == [Term("a", "b", "x"), Term("c", "a", "y")]
    shift = Shift("a", "x", "y")
    assert shift.terms({}) == [Term("a", "a", "x", against="y")]
    assert Change(lead, shift).terms({})[1] == Term("a", "a", "y", against="x")
    assert Weighted([(2.0, lead), (-1.0, shift)]).terms({}) == [
        Term("a", "b", "x", 2.0),
        Term("a", "a", "x", -1.0, "y"),
    ]
    assert Mean([lead, other]).terms({}) == [Term("a", "b", "x", 0.5), Term("a", "c", "y", 0.5)]
    valid = {name: np.array([value]) for name, value in (("b", 1.0), ("c", 2.0))}
    read = Validated({}, {name: pd.Series(values) for name, values in valid.items()})
    assert BestLead("a", ("b", "c"), "x").terms(read) == [Term("a", "c", "x")]
    assert BestLead("a", ("d",), "x").terms(read) == []


@pytest.mark.parametrize("metric", ["accuracy", "weighted_f1"])
def test_a_finding_is_the_same_from_what_the_runs_answered(
    context: Context, dataset: str, cells: list[Cell], metric: str
) -> None:
    """One draw of each mask, so that pooling draws and averaging them are the same."""
    finding = derived_again.Finding(dataset, cells, metric, {"both": ["all", "some"]}, ALL)
    terms = [Term("fast", "slow", "all", 0.25), Term("fast", "slow", "both", 0.75)]
    by_setting = {
        setting: measured(context, cells, "fast", setting, metric)
        - measured(context, cells, "slow", setting, metric)
        for setting in ("all", "some")
    }
    expected = 0.625 * by_setting["all"] + 0.375 * by_setting["some"]
    assert derived_again.by_counts(context, finding, terms) == pytest.approx(expected, abs=1e-3)
    lacking = [Term("fast", "unmade", "all")]
    assert derived_again.by_counts(context, finding, lacking) is None


def test_a_finding_is_told_at_the_other_epochs(
    context: Context, dataset: str, cells: list[Cell]
) -> None:
    finding = derived_again.Finding(dataset, cells, "accuracy", {}, ALL)
    lead = Lead("fast", "slow", "all")
    told = derived_again.sentence(
        context, finding, lead.terms({}), lambda frame: lead(values(frame))
    )
    for rule, words in (("last", "At the last epoch"), ("test", "at the epoch that test picks")):
        mean = {
            row: np.mean(
                [
                    context.record(c.spec)["selected"][rule]["metrics"][c.mask]["accuracy"]  # type: ignore[index]
                    for c in cells
                    if (c.row, c.setting) == (row, "all")
                ]
            )
            for row in ROWS
        }
        assert f"{words} {mean['fast'] - mean['slow']:+.2f}" in told
    counted = derived_again.by_counts(context, finding, [Term("fast", "slow", "all")])
    assert f"derived again from the runs' answers {counted:+.2f}" in told


def test_a_seed_whose_run_has_diverged_is_left_out_and_named_and_the_later_ones_count(
    context: Context, dataset: str, cells: list[Cell]
) -> None:
    """Both intervals and the second derivation are then over the same seeds."""
    lacking = [c for c in cells if (c.row, c.spec.seed, c.spec.fold) != ("slow", 1, 0)]
    lead = Lead("fast", "slow", "all")
    found = {}
    for name, of in (("whole", cells), ("lacking", lacking)):
        source = of_metric(dataset, of, "accuracy")
        claims = Claims(lambda _, s=source: [Claim("c", "1", "t", s, lead)], "points", "mlp")  # type: ignore[misc]
        (found[name],) = claims.measured(context)
    whole, part = found["whole"], found["lacking"]
    np.testing.assert_array_equal(part.values, np.delete(whole.values, 1))
    assert (whole.detail, part.detail) == ("", "Seed 1 is left out: not all of its runs are done")
    (term,) = lead.terms({})
    seeds = [seed for seed in ALL if seed != 1]
    assert part.elsewhere(len(seeds)) == other_data.interval(
        context, dataset, cells, [term], "accuracy", {}, seeds
    )
    told = float(part.again(len(seeds)).split("answers ")[1].rstrip("."))
    assert told == pytest.approx(part.values.mean(), abs=0.005)
