"""The comparison: equal chances for every row, the same masks, and statistics computed another way."""

from __future__ import annotations

import dataclasses
import json
import lzma
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from shared_runs import make_runs

from mmlib import paths
from mmlib.data.bundle import save_bundle
from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError
from mmlib.experiments import budgets, conditions
from mmlib.experiments.context import Context
from mmlib.experiments.rows import Row
from mmlib.masks import complete
from mmlib.papers import side_by_side
from mmlib.papers.side_by_side import figures, grounds, rates, rows, tables, tuning
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.runs.execute import execute, mask_of, prepare
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Store


@pytest.fixture(scope="module")
def context() -> Context:
    return side_by_side.context("smoke")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Classes of two modalities, each utterance its own dialogue."""
    bundle = open_bundle("twin:iemocap6@smoke").only(("audio", "vision"))
    own = {"dialogue": np.arange(len(bundle)), "position": np.zeros_like(bundle.position)}
    alone = dataclasses.replace(bundle, name="two", **own)
    folder = tmp_path_factory.mktemp("bundles") / "two"
    save_bundle(alone, folder)
    return side_by_side.context("smoke", {"crema-d": str(folder)}, label="two")


def every(context: Context) -> list[Ground]:
    return grounds.grounds(context)


def specs_of(context: Context, ground: Ground) -> set[RunSpec]:
    """The runs of a ground."""
    return {cell.spec for cell in rows.cells(context, ground)}


def trials_of(context: Context) -> list[tuning.Trials]:
    """The trials of a context's rows."""
    return tuning.trials(tuning.cells(context))


def row_of(context: Context, ground: Ground, name: str) -> Row:
    """A ground's row by its name."""
    return {row.name: row for row in rows.rows(context, ground)}[name]


def test_embedded_data_give_vectors_two_modalities_of_them_and_sequences(context: Context) -> None:
    shapes = [(conditions.framed(context, g.dataset), g.modalities) for g in every(context)]
    assert shapes == [(False, ()), (False, ("audio", "text")), (True, ())]
    assert [
        len(choose(context)) for choose in (figures.vectors, figures.pairs, figures.sequences)
    ] == [1, 1, 1]


def test_every_row_has_as_many_epochs_in_all_stages_and_the_same_schedule(
    context: Context, two: Context
) -> None:
    for made in (context, two):
        for ground in every(made):
            for row in rows.rows(made, ground):
                for law in grounds.trainings(made, ground).values():
                    for spec in rows.specs(made, ground, row, law):
                        parts = [s.training for s in (spec.parent, spec) if s]
                        assert sum(t.epochs for t in parts) == rows.BUDGETS["smoke"].epochs, (
                            row.name
                        )
                        assert {(t.batch, t.weight_decay, t.optimizer, t.clip) for t in parts} == {
                            (parts[0].batch, budgets.WEIGHT_DECAY, "adam", 2.0)
                        }


def test_a_method_stands_beside_its_own_network_of_equal_size(
    context: Context, two: Context
) -> None:
    for made in (context, two):
        for ground in every(made):
            by_name = {row.name: row for row in rows.rows(made, ground)}
            methods = [row for row in by_name.values() if row.against]
            assert len(methods) * 2 == len(by_name)
            for row in methods:
                own = by_name[row.against]
                assert own.stages[-1].backbone == row.stages[-1].backbone and not own.against
                pair = [rows.specs(made, ground, each, complete())[0] for each in (row, own)]
                assert (
                    pair[0].backbone_options == pair[1].backbone_options
                    and pair[0].eval_masks == pair[1].eval_masks
                )


def test_rows_of_a_seed_see_the_same_masks_whatever_the_method(context: Context) -> None:
    ground = every(context)[0]
    law = grounds.trainings(context, ground)["imbalanced 0.5/0.7/0.3"]
    prints = set()
    for row in rows.rows(context, ground):
        spec = rows.specs(context, ground, row, law)[0]
        masks = [
            mask_of(spec, spec.train_mask, prepare(spec), split) for split in ("train", "valid")
        ]
        masks += [mask_of(spec, test, prepare(spec), "test") for _, test in spec.eval_masks]
        prints.add(tuple(mask.fingerprint for mask in masks))
    assert len(prints) == 1


def test_the_kinds_of_test_share_out_the_conditions(context: Context, two: Context) -> None:
    counts = {
        "complete": 1,
        "fixed missing": 6,
        "shared rates": 3,
        "imbalanced rates": 6,
        "frames dropped": 3,
    }
    for made, expected in ((context, counts), (two, {**counts, "fixed missing": 2})):
        ground = every(made)[-1]
        groups = grounds.groups(made, ground)
        assert {kind: len(group) for kind, group in groups.items()} == {
            k: expected[k] for k in groups
        }
        names = [name for group in groups.values() for name in group]
        assert names == [name for name, _ in grounds.tests(made, ground)] and len(
            set(names)
        ) == len(names)
    assert grounds.groups(context, Ground("iemocap", ("audio", "text")))[
        "fixed missing"
    ].keys() == {"audio", "text"}


def test_all_five_methods_meet_on_two_modalities(two: Context) -> None:
    ground = every(two)[0]
    names = {row.name for row in rows.rows(two, ground)}
    assert {"BALM on MMGCN", "DREAM", "EBMC", "MCULoRA", "GMM-loss"} <= names
    balm = rows.specs(two, ground, row_of(two, ground, "BALM on MMGCN"), complete())[0]
    assert dict(balm.options)["descriptor"] == "batch"


def test_gmm_loss_runs_its_warm_up_and_its_rounds(two: Context) -> None:
    ground = every(two)[0]
    law = grounds.trainings(two, ground)[grounds.MIXED]
    spec = rows.specs(two, ground, row_of(two, ground, "GMM-loss"), law)[0]
    assert spec.parent is not None
    first = execute(spec.parent)
    record = execute(spec, first.arrays).record
    assert set(record["selected"]["valid"]["metrics"]) == {
        name for name, _ in grounds.tests(two, ground)
    }
    assert record["curves"]["found"]["epochs"]


def test_ranks_are_those_of_scipy() -> None:
    random = np.random.default_rng(0)
    rows, cells, seeds = ["a", "b", "c", "d"], [f"cell {k}" for k in range(7)], 3
    values = random.integers(0, 6, (seeds, len(cells), len(rows))).astype(float)
    frame = pd.DataFrame(
        [
            {"row": row, "training": "t", "setting": cell, "seed": s, "value": values[s, c, r]}
            for s in range(seeds)
            for c, cell in enumerate(cells)
            for r, row in enumerate(rows)
        ]
    )
    expected = scipy_stats.rankdata(-values, axis=2).mean(axis=1)
    assert figures.rank_table(frame)[rows].to_numpy() == pytest.approx(expected)
    short = frame[
        ~((frame["row"] == "b") & (frame["setting"] == "cell 0"))
    ]  # what one row lacks counts for none
    assert figures.rank_table(short)[rows].to_numpy() == pytest.approx(
        scipy_stats.rankdata(-values[:, 1:], axis=2).mean(axis=1)
    )


def test_verdicts_hold_for_all_comparisons_together() -> None:
    ours, own = pd.Series([71.0, 73.5, 70.2, 72.8]), pd.Series([70.1, 71.9, 69.8, 71.0])
    differences = ours - own
    half = scipy_stats.t.ppf(1 - 0.025 / 40, 3) * differences.std() / 2
    found = tables.compared(ours, own, 40)
    assert [found["low"], found["high"]] == pytest.approx(
        [differences.mean() - half, differences.mean() + half]
    )
    assert found["verdict"] == "undecided" and tables.compared(ours, own, 1)["verdict"] == "better"


def test_means_over_a_kind_are_those_of_its_conditions(context: Context) -> None:
    ground = every(context)[0]
    tests = [name for name, _ in grounds.tests(context, ground)]
    frame = pd.DataFrame(
        {
            "row": "MMGCN",
            "training": "complete",
            "setting": tests,
            "seed": 0,
            "value": np.arange(len(tests), dtype=float),
        }
    )
    means = tables.by_group(context, ground, frame).set_index("kind")["value"]
    for kind, group in grounds.groups(context, ground).items():
        assert means[kind] == pytest.approx(np.mean([tests.index(name) for name in group]))


def test_steps_are_no_larger_than_a_share_of_the_data(context: Context) -> None:
    bundle = context.bundle("iemocap")
    most = rows.CommonBudget(epochs=1, utterances=10**6, lr=1.0, hidden=1, depth=1)
    assert most.step(bundle) == len(bundle)
    assert dataclasses.replace(most, parts=16).step(bundle) == len(bundle) // 16
    assert dataclasses.replace(most, parts=16, utterances=3).step(bundle) == 3


def test_an_epoch_has_no_more_steps_than_it_may(context: Context) -> None:
    bundle = context.bundle("iemocap")
    few = rows.CommonBudget(epochs=1, utterances=3, lr=1.0, hidden=1, depth=1, most_steps=5)
    train = len(bundle.rows("train"))
    assert train / few.step(bundle) == pytest.approx(5, abs=0.2)
    assert dataclasses.replace(few, utterances=train).step(bundle) == train


@pytest.fixture
def folds(tmp_path: Path) -> Context:
    """Embedded data in three folds."""
    bundle = open_bundle("twin:mosei@smoke")
    videos = np.unique(bundle.dialogue, return_inverse=True)[1]
    save_bundle(
        dataclasses.replace(bundle, name="folds", fold=(videos % 3).astype(np.int64)),
        tmp_path / "folds",
    )
    return side_by_side.context("laptop", {"mosei": str(tmp_path / "folds")}, label="folds")


def test_on_folds_captions_have_as_many_seeds_as_are_run(folds: Context) -> None:
    (ground,) = grounds.grounds(folds)
    seeds = {s.seed for s in specs_of(folds, ground)}
    assert len(seeds) == budgets.FOLD_SEEDS and f" {len(seeds)} seeds." in folds.profile.reduced


def test_every_fold_has_its_own_trials_and_trains_every_stage_at_the_rate_that_they_chose(
    folds: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ground,) = grounds.grounds(folds)
    factors = (3.0, 1.0, 10.0)
    monkeypatch.setitem(
        rates.REAL, "folds", rates.Chosen(folds.bundle("mosei").fingerprint, {"EBMC": factors})
    )
    for spec in rows.specs(folds, ground, row_of(folds, ground, "EBMC"), complete()):
        assert spec.fold is not None and spec.parent
        assert (
            spec.training.lr
            == spec.parent.training.lr
            == rows.BUDGETS["laptop"].lr * factors[spec.fold]
        )
    mine = {one.fold: one for one in trials_of(folds) if one.row == "EBMC"}
    assert sorted(mine) == [0, 1, 2]
    bundle = folds.bundle("mosei")
    for fold, one in mine.items():
        assert {s.fold for found in one.tried.values() for s in found} == {fold}
        valid = bundle.with_fold(fold).rows("valid")
        assert tuning.validated(one) == len(valid)
        assert not set(valid) & set(bundle.with_fold(fold).rows("test"))


def test_backbones_and_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="every method brings its own"):
        side_by_side.context("smoke", backbone="mmgcn")
    with pytest.raises(InputError, match="all vectors"):
        side_by_side.context("smoke", {"crema-d": "twin:crema-d@smoke"})


@pytest.mark.parametrize("name", ["twins", *rates.REAL])
def test_what_is_used_is_what_the_trials_chose(name: str) -> None:
    table = pd.read_csv(paths.root() / "figures" / name / "side_by_side/tuning-numbers.csv")
    tried = [f"x {factor:.3g}" for factor in sorted(rates.FACTORS)]
    assert [c for c in table if c.startswith("x ")] == tried
    assert not table.duplicated([c for c in ("row", "fold") if c in table]).any()
    near = table[tried].ge(table[tried].max(axis=1) - table["standard error"], axis=0)
    for column in ("chosen", "used"):
        for (_, line), good in zip(table.iterrows(), near.itertuples(index=False), strict=True):
            departures = {
                f: abs(np.log(f)) for f, ok in zip(sorted(rates.FACTORS), good, strict=True) if ok
            }
            nearest = [f for f, d in departures.items() if d < min(departures.values()) + 1e-6]
            assert line[column] == pytest.approx(max(nearest, key=lambda f: line[f"x {f:.3g}"])), (
                line["row"]
            )
    found = rates.REAL.get(name, rates.TWINS)
    folds = table["fold"] if "fold" in table else [None] * len(table)
    assert [
        found.factor(row, fold) for row, fold in zip(table["row"], folds, strict=True)
    ] == pytest.approx(list(table["used"]))
    assert set(found.factors) <= set(table["row"])


def test_every_row_of_the_embedded_data_has_its_trials(context: Context) -> None:
    table = pd.read_csv(paths.root() / "figures/twins/side_by_side/tuning-numbers.csv")
    assert set(table["row"]) == {row.name for g in every(context) for row in rows.rows(context, g)}
    assert len(table) == 10


@pytest.mark.parametrize("name", [*rates.REAL])
def test_trials_belong_to_the_very_data_that_were_compared(name: str) -> None:
    parts = sorted((paths.root() / "figures" / name / "side_by_side").glob("records-*.jsonl.xz"))
    lines = [
        json.loads(line)
        for part in parts
        for line in lzma.decompress(part.read_bytes()).splitlines()
    ]
    records = [line["record"] for line in lines if "record" in line]
    assert records and {r["fingerprint"] for r in records} == {rates.REAL[name].fingerprint}


def test_data_use_what_was_chosen_on_them_else_what_was_chosen_on_embedded_data_and_say_so(
    context: Context, two: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = grounds.grounds(two)[0]
    row = row_of(two, ground, "MMGCN")
    common = rows.BUDGETS["smoke"].lr

    def rate() -> float:
        return rows.specs(two, ground, row, complete())[0].training.lr

    assert rate() == pytest.approx(common * rates.TWINS.factors[row.name])
    assert rates.TUNED in tables.of_data(two) and rates.TUNED not in tables.of_data(context)
    monkeypatch.setitem(
        rates.REAL, "two", rates.Chosen(two.bundle("crema-d").fingerprint, {row.name: 0.5})
    )
    assert rate() == pytest.approx(common * 0.5)
    assert rates.TUNED not in tables.of_data(two)


def test_a_trial_that_diverged_is_lost_and_one_that_is_not_made_is_awaited(
    context: Context, tmp_path: Path
) -> None:
    made = dataclasses.replace(context, store=Store(tmp_path))
    one = trials_of(made)[0].tried[1.0]
    print_of = made.bundle_fingerprint(one[0].data)
    assert tuning.value(made, one, set()) is None
    lost = tuning.value(made, one, {s.run_id(print_of) for s in one})
    assert lost is not None and math.isnan(lost)
    assert tuning.table(made, tuning.cells(made)).table is None


def test_the_nearest_rate_within_a_standard_error_of_the_best_is_chosen() -> None:
    values = {1 / 3: 70.0, 1.0: 64.0, 3.0: 71.0, 10.0: 72.0, 30.0: math.nan}
    assert tuning.choose(values, 0.5) == 10.0
    assert tuning.choose(values, 1.5) == 3.0
    assert tuning.choose(values, 2.5) == 3.0, "as near as a third, and better"
    assert tuning.choose(values, 8.5) == 1.0
    assert tuning.choose(dict.fromkeys(rates.FACTORS, math.nan), 1.0) == 1.0
    assert tuning.standard_error(80.0, 400) == pytest.approx(
        100 * scipy_stats.bernoulli(0.8).std() / 20
    )


def test_a_trials_best_epoch_is_that_of_the_mean_curve(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = trials_of(context)[0].tried[1.0][:1] * 2
    curves = iter([[50.0, 90.0, 60.0], [60.0, 30.0, 70.0]])

    def find(*_: object) -> tuple[dict[str, object], bool]:
        return {"curves": {"valid": {rows.METRIC: next(curves)}}}, False

    monkeypatch.setattr(Store, "find", find)
    assert tuning.value(context, specs, set()) == pytest.approx(65.0)


def test_rows_that_are_best_at_an_end_of_the_trials_are_named() -> None:
    table = pd.DataFrame({"data": "mine", "row": ["a", "b", "c"], "chosen": [1.0, 1 / 3, 30.0]})
    (told,) = tuning.at_edges(table)
    assert told.endswith("b on mine, c on mine.") and not tuning.at_edges(table[:1])


def test_trials_differ_in_the_rate_alone_and_test_nothing_that_the_comparison_does_not(
    two: Context,
) -> None:
    used = rates.chosen(two.bundle("crema-d"))
    for one in trials_of(two):
        compared = specs_of(two, one.ground)
        rate = {f: {s.training.lr for s in found} for f, found in one.tried.items()}
        assert {
            f: found / rows.BUDGETS["smoke"].lr for f, (found,) in rate.items()
        } == pytest.approx({f: f for f in rates.FACTORS})
        assert set(one.tried[used.factor(one.row, one.fold)]) <= set(compared), one.row
        assert {s.seed for found in one.tried.values() for s in found} <= set(range(rates.SEEDS))


@pytest.mark.slow
def test_every_artifact_of_the_embedded_data_is_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    from mmlib.pipeline import regenerate

    made = side_by_side.context("smoke", seeds=1)
    make_runs(made, tmp_path_factory)
    for artifact in regenerate.artifacts(made):
        output = regenerate.draw(made, artifact.id)
        assert output.rows_built and (output.table is not None or output.figure is not None), (
            artifact.id
        )
        assert output.numbers is not None and not output.numbers.empty
