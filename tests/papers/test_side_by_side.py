"""The comparison: equal chances for every row, the same masks, and statistics computed another way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from shared_runs import make_runs

from mmlib.data.bundle import save_bundle
from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError
from mmlib.experiments import budgets, conditions
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.context import Context
from mmlib.experiments.profiles import PROFILES
from mmlib.experiments.rows import Row
from mmlib.masks import complete
from mmlib.papers import side_by_side
from mmlib.papers.side_by_side import figures, grounds, rows, tables
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.runs.execute import execute, mask_of, prepare
from mmlib.runs.spec import RunSpec

EPOCHS = PROFILES["smoke"].training["default"].epochs


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


def methods_and_networks(context: Context, ground: Ground) -> list[Row]:
    """A ground's rows but the linear model."""
    return [row for row in rows.rows(context, ground) if row != LINEAR]


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
            for row in methods_and_networks(made, ground):
                for law in grounds.trainings(made, ground).values():
                    for spec in rows.specs(made, ground, row, law):
                        parts = [s.training for s in (spec.parent, spec) if s]
                        assert sum(t.epochs for t in parts) == EPOCHS, row.name
                        assert {(t.batch, t.weight_decay, t.optimizer, t.clip) for t in parts} == {
                            (parts[0].batch, budgets.WEIGHT_DECAY, "adam", 2.0)
                        }


def test_a_method_stands_beside_its_own_network_of_equal_size(
    context: Context, two: Context
) -> None:
    for made in (context, two):
        for ground in every(made):
            by_name = {row.name: row for row in methods_and_networks(made, ground)}
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
    ours = pd.Series([71.0, 73.5, 70.2, 72.8, 71.9])
    own = pd.Series([70.1, 71.9, 69.8, 71.0, 71.2])
    differences = ours - own
    half = scipy_stats.t.ppf(1 - 0.025 / 40, 4) * differences.std() / np.sqrt(5)
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
    assert len(seeds) == folds.profile.fold_seeds
    assert f" {len(seeds)} seeds." in folds.profile.reduced


def test_backbones_and_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="every method brings its own"):
        side_by_side.context("smoke", backbone="mmgcn")
    with pytest.raises(InputError, match="all vectors"):
        side_by_side.context("smoke", {"crema-d": "twin:crema-d@smoke"})


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


def of_seeds(context: Context, ground: Ground, values: dict[str, list[float]]) -> pd.DataFrame:
    """Results of rows by seed, the same in every training and test condition."""
    return pd.DataFrame(
        [
            {"row": row, "training": t, "setting": test, "seed": seed, "value": value}
            for row, of_row in values.items()
            for seed, value in enumerate(of_row)
            for t in grounds.trainings(context, ground)
            for test, _ in grounds.tests(context, ground)
        ]
    )


def test_the_grid_is_each_method_minus_its_own_network_paired_by_seed(context: Context) -> None:
    ground = every(context)[0]
    network = [60.0, 61.0, 64.0, 58.0, 62.0]
    better, unclear = (
        [v + d for v, d in zip(network, (2, 3, 2, 3, 2.5), strict=True)],
        network[::-1],
    )
    results = of_seeds(
        context,
        ground,
        {"MMGCN": network, "BALM on MMGCN": better, "EBMC's network": network, "EBMC": unclear},
    )
    found = figures.differences(context, ground, results)
    by_row = found.groupby("row")
    assert by_row["difference"].unique().map(list).to_dict() == {
        "BALM on MMGCN": [pytest.approx(2.5)],
        "EBMC": [pytest.approx(0.0)],
    }
    assert by_row["decided"].unique().map(list).to_dict() == {
        "BALM on MMGCN": [True],
        "EBMC": [False],
    }
    assert set(found["seeds"]) == {5}
    few = figures.differences(context, ground, results[results["seed"] < 2])
    assert not few["decided"].any(), "noise has no colour: without an interval nothing is decided"
    assert "may be chance" in figures._of_cells(list(few["seeds"]))
    assert "includes 0" in figures._of_cells(list(found["seeds"]))


def test_the_grid_is_one_panel_for_each_ground_with_one_range_of_colours(context: Context) -> None:
    here = [g for g in every(context) if not g.modalities][:2]
    grids = {}
    for far, ground in enumerate(here, start=1):
        named = {row.name: [60.0 + far * bool(row.against)] for row in rows.rows(context, ground)}
        grids[ground] = figures.differences(context, ground, of_seeds(context, ground, named))
    few = {ground: {conditions.ALL: "(n = 18)"} for ground in grids}
    figure = figures._grids(context, grids, few)
    assert figure is not None
    panels = [axis for axis in figure.axes if axis.get_title(loc="left")]
    assert len(panels) == len(here)
    for panel, ground in zip(panels, here, strict=True):
        methods = [row for row in rows.rows(context, ground) if row.against]
        lines = len(methods) * len(grounds.trainings(context, ground))
        assert len(panel.get_yticklabels()) == lines
        low, high = panel.collections[0].get_clim()
        assert high == -low == figures.SATURATED
        columns = [label.get_text() for label in panel.get_xticklabels()]
        assert columns.count("all (n = 18)") == 1, "rows that a condition leaves out are counted"
    assert figures._grids(context, {}, {}) is None


def test_a_file_with_one_line_per_run_holds_every_value_of_every_condition() -> None:
    runs = {name: "" for name in tables.RUN} | {"data": "x", "stale": False, "metric": "f1"}
    long = pd.DataFrame(
        [
            {**runs, "row": row, "seed": seed, "run_id": f"{row}{seed}", "setting": on, "value": at}
            for row, seed, on, at in [
                ("a", 0, "all", 1.0),
                ("a", 0, "audio", 2.0),
                ("a", 1, "all", 3.0),
                ("b", 0, "all", 4.0),
                ("b", 0, "audio", 5.0),
            ]
        ]
    )
    wide = tables.by_run(long)
    assert [*wide][len(tables.RUN) :] == ["all", "audio"]
    assert wide[["row", "seed", "all"]].values.tolist() == [["a", 0, 1], ["a", 1, 3], ["b", 0, 4]]
    assert wide["audio"].isna().tolist() == [False, True, False]
    back = tables.by_condition(wide)
    order = ["row", "seed", "setting"]
    pd.testing.assert_frame_equal(
        back.sort_values(order, ignore_index=True)[[*long]],
        long.sort_values(order, ignore_index=True),
    )
