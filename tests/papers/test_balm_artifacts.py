"""BALM's artifacts: which runs they ask for, what they make of finished ones, and what they never show."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shared_runs import make_runs

from mmlib import masks, paths
from mmlib.data.catalog import open_twin
from mmlib.errors import InputError
from mmlib.experiments.context import Context
from mmlib.experiments.published import published
from mmlib.papers import balm
from mmlib.papers.balm import analyses, figures, rows, tables
from mmlib.pipeline import regenerate
from mmlib.report.artifact import read_all
from mmlib.runs.spec import Training

pytestmark = pytest.mark.slow

SOME = (
    "table1",
    "main",
    "table8",
    "table10",
    "fig2",
    "fig4",
    "fig5",
    "fig6",
    "fig10",
    "fig17",
    "table7",
    "claims",
    "forms",
    "paper-or-released",
    "what-the-protocol-buys",
    "of-the-best-possible",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Path]:
    """A smoke context whose runs for some artifacts are done and drawn, in a folder of its own."""
    folder = tmp_path_factory.mktemp("balm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLIB_RUNS", str(folder / "runs"))
        patch.setenv("MMLIB_FIGURES", str(folder / "figures"))
        context = balm.context("smoke")
        make_runs(context, tmp_path_factory, SOME)
        for name in SOME:
            regenerate.draw(context, name)
        regenerate.finish(context)
    return context, folder / "figures"


def entries(figures: Path) -> dict[str, dict[str, object]]:
    return {e["id"]: e for e in json.loads((figures / "manifest.json").read_text())}


def test_every_artifact_has_its_files_and_a_regenerated_entry(made: tuple[Context, Path]) -> None:
    found = entries(made[1])
    assert set(found) == set(SOME)
    for entry in found.values():
        assert entry["status"] == "regenerated" and entry["collection"] == "twins"
        for file in entry["files"]:  # type: ignore[attr-defined]
            assert (made[1].parent / file).stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "rates", "seeds"), [("table1", (0.3, 0.5, 0.7), 1), ("main", rows.FOCUS, 2)]
)
def test_a_cell_is_the_mean_over_seeds_of_the_stored_records(
    made: tuple[Context, Path], name: str, rates: tuple[float, ...], seeds: int
) -> None:
    context, figures = made
    numbers = pd.read_csv(figures / "twins" / "balm" / f"{name}-numbers.csv")
    law = masks.imbalanced(dict(zip(("audio", "text", "vision"), rates, strict=True)))
    values = []
    for record in context.store.records():
        spec = record.spec
        if (
            spec.method == "plain"
            and spec.backbone == "mmgcn"
            and spec.train_mask == law
            and "iemocap6" in spec.data
            and not spec.keep
            and dict(spec.backbone_options).keys() == {"graph", "hidden"}
        ):
            values.append(record["selected"]["valid"]["metrics"]["same"]["accuracy"])
    wanted = ["MMGCN", rows.label(rates), "accuracy"]
    cell = numbers[(numbers[["row", "setting", "metric"]] == wanted).all(axis=1)]
    assert len(values) == seeds == cell["n"].item()
    assert cell["mean"].item() == pytest.approx(np.mean(values))
    spread = np.std(values, ddof=1) if seeds > 1 else np.nan
    assert cell["sd"].item() == pytest.approx(spread, nan_ok=seeds == 1)


def test_no_published_number_stands_in_a_twins_table(made: tuple[Context, Path]) -> None:
    known = published("balm", "table1")
    known = known[(known["dataset"] == "iemocap") & (known["row"] == "MMDFN+BALM")]
    text = (made[1] / "twins" / "balm" / "table1.md").read_text()
    assert "MMDFN+BALM" in text and "not built yet" not in text
    numbers = pd.read_csv(made[1] / "twins" / "balm" / "table1.csv")
    assert len(known) and "MMDFN+BALM" in set(numbers["method"])
    assert not any("paper" in column for column in numbers) and "paper:" not in text


def test_the_setting_names_are_those_of_the_published_numbers() -> None:
    assert {rows.label(r) for r in rows.SETTINGS} == set(published("balm", "table1")["setting"])
    assert {rows.label(r) for r in rows.SEVERE} == set(published("balm", "table4")["setting"])


def test_all_rows_of_a_table_share_masks_and_each_backbone_its_budget(
    made: tuple[Context, Path],
) -> None:
    context, _ = made
    by_seed: dict[int, set[str]] = {}
    budgets: dict[str, set[tuple[object, ...]]] = {}
    setting, pair = rows.setting_of(context, rows.FOCUS), rows.pairs(context)[:2]
    further = rows.of_rows(context, "iemocap", pair, rows.compared)
    cells = rows.of_rows(context, "iemocap", rows.main_rows(context), rows.AT_FOCUS)
    for cell in [*cells, *(c for c in further if c.setting == setting)]:
        record = context.record(cell.spec)
        assert record is not None
        by_seed.setdefault(cell.spec.seed, set()).add(json.dumps(record["masks"], sort_keys=True))
        budgets.setdefault(cell.spec.backbone, set()).add(
            (cell.spec.training, cell.spec.backbone_options)
        )
    assert {len(group) for group in by_seed.values()} == {1}
    assert len(set.union(*by_seed.values())) == 2  # seeds differ in masks
    assert set(budgets) == set(rows.BACKBONES) and {len(group) for group in budgets.values()} == {1}


def test_one_modality_alone_is_as_often_missing_as_its_rate_says(
    made: tuple[Context, Path],
) -> None:
    context, _ = made
    whole = {
        c.spec.seed: c.spec
        for c in rows.cells(context, "iemocap", rows.plain("mmgcn"), (0.7, 0.5, 0.3))
    }
    for cell in tables.TABLE8.cells(context):
        if cell.row != "MMGCN" or cell.setting != "0.7/0.5/0.3 V":
            continue
        record, other = context.record(cell.spec), context.record(whole[cell.spec.seed])
        assert record is not None and other is not None and cell.spec.modalities == ("vision",)
        theirs = [row for row in other["rates"] if row["modality"] == "vision"]
        assert record["rates"] == theirs and 0.25 < theirs[0]["realised"] < 0.35


def test_grm_has_nothing_to_balance_in_one_modality_so_balm_is_fcm_alone_there() -> None:
    cells = tables.TABLE8.cells(balm.context("smoke"))
    assert {len(c.setting.split()[1]) for c in cells} == {1, 2, 3}
    for cell in cells:
        alone = len(cell.spec.modalities) == 1
        assert cell.spec.variant == ("fcm" if alone and "BALM" in cell.row else "paper")


def test_runs_that_two_artifacts_need_are_one_run() -> None:
    context = balm.context("smoke")
    chosen = regenerate.artifacts(context)
    separate = sum(
        len(regenerate.runs_of(context, a)) for a in chosen if not regenerate.lacks(context, a)
    )
    assert len(regenerate.specs(context, chosen)) < 0.6 * separate


def test_factor_effects_are_the_coefficients_of_a_regression() -> None:
    rng = np.random.default_rng(0)
    levels = (("paper", "released"), ("gradients", "weights"), ("no noise", "noise"))
    names, design = [], []
    for bits in itertools.product((0, 1), repeat=3):
        names.append("|".join(level[i] for level, i in zip(levels, bits, strict=True)))
        a, b, c = (2 * bit - 1 for bit in bits)
        design.append([1, a, b, c, a * b, a * c, b * c, a * b * c])
    cells = pd.DataFrame(rng.normal(60, 3, size=(5, 8)), columns=names)
    effects = analyses.factor_effects(cells)
    solved = np.linalg.solve(np.array(design, float), cells.to_numpy().T)  # (8, seeds)
    for index, name in enumerate(
        (
            "masks",
            "spatial loss",
            "gradient noise",
            "masks x spatial loss",
            "masks x gradient noise",
            "spatial loss x gradient noise",
        ),
        start=1,
    ):
        assert effects[name].difference == pytest.approx(2 * solved[index].mean())


def test_the_eight_cells_differ_in_the_three_factors_alone() -> None:
    context = balm.context("smoke")
    cells = [c for c in rows.factor_cells(context) if c.spec.seed == 0 and c.spec.method == "balm"]
    assert len({c.row for c in cells}) == 8
    for cell in cells:
        layout, spatial, noise = cell.row.split("|")
        options = dict(cell.spec.options)
        assert cell.spec.train_mask.layout == layout
        assert options.get("spatial", "gradients") == spatial
        assert options.get("noise", False) == (noise == "noise")
        assert cell.spec.variant == "paper"


def test_of_the_best_possible_divides_by_the_bayes_decision_on_the_same_utterances(
    made: tuple[Context, Path],
) -> None:
    context, figures = made
    numbers = pd.read_csv(figures / "twins" / "balm" / "of-the-best-possible-numbers.csv")
    twin = open_twin(context.reference("iemocap"))
    places = twin.bundle.rows("test")
    observed = np.tile([False, True, False], (len(places), 1))
    best = 100 * (twin.bayes("test", observed).argmax(axis=1) == twin.bundle.labels[places]).mean()
    line = numbers[(numbers["dataset"] == "IEMOCAP twin") & (numbers["setting"] == "L")].iloc[0]
    assert line["best"] == pytest.approx(best)
    assert line["share"] == pytest.approx(100 * line["value"] / best)


def test_selecting_on_test_never_lowers_the_selection_metric(made: tuple[Context, Path]) -> None:
    for record in made[0].store.records():
        for mask, chosen in record["selected"]["test"]["metrics"].items():
            for other in ("valid", "last"):
                assert (
                    chosen["weighted_f1"]
                    >= record["selected"][other]["metrics"][mask]["weighted_f1"]
                )


def test_an_artifact_whose_data_are_absent_says_what_to_give(
    made: tuple[Context, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    context = balm.context("smoke", {"mosei": "twin:mosi@smoke"}, label="other")
    output = regenerate.draw(context, "table1")
    entry = read_all(paths.figures())[0]
    assert entry["status"] == "needs data" and "--data iemocap6=BUNDLE" in output.notes[0]


def test_real_data_may_not_be_labelled_twins(tmp_path: Path) -> None:
    from mmlib.data.bundle import save_bundle

    folder = tmp_path / "mine"
    save_bundle(open_twin("twin:mosei@tiny").bundle, folder)
    with pytest.raises(InputError, match="Only embedded synthetic data"):
        balm.context("smoke", {"mosei": str(folder)}, label="twins")


def test_a_modality_that_fewer_than_three_test_utterances_have_is_an_empty_panel_that_says_so(
    made: tuple[Context, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = figures.tsne_cells(made[0])
    labels, observed = figures._labels(made[0], cells[0].spec)
    few, none = observed.copy(), np.zeros_like(observed)
    few[:, 0] = np.arange(len(labels)) < 2
    for seen, panels in ((few, 4), (none, 0)):
        monkeypatch.setattr(figures, "_labels", lambda *_, seen=seen: (labels, seen))
        output = figures.Embeddings("input").draw(made[0], cells)
        assert output.figure is not None and output.rows_built == panels
        titles = [axis.get_title(loc="left") + axis.get_title() for axis in output.figure.axes]
        assert sum("too few utterances" in title for title in titles) == 6 - panels
        assert any("t-SNE needs" in note for note in output.notes) == (panels == 0)


def test_the_paper_profile_has_the_papers_schedule() -> None:
    context = balm.context(
        "paper", {"iemocap6": "twin:iemocap6@smoke", "mosei": "twin:mosei@smoke"}, label="x"
    )
    assert context.profile.training_for("iemocap") == Training(80, 16, 3e-4, 3e-5)
    assert context.profile.training_for("mosei") == Training(25, 32, 1e-3, 3e-5)
    assert context.profile.network == {}
    assert context.profile.training_for("mosei", "gcnet") == Training(
        25, 32, 1e-3, 1e-5
    )  # ledger 6.2
    assert context.profile.training_for("iemocap", "mmdfn") == Training(
        80, 16, 3e-4, 1e-4
    )  # ledger 1.1
    config = published("balm", "table6")
    for dataset in ("iemocap", "mosei"):
        mine = config[config["dataset"] == dataset]
        stated = {str(r["row"]): r["value"] for r in mine.to_dict("records")}
        schedule = context.profile.training_for(dataset)
        assert schedule.batch == stated["batch_dialogues"] and schedule.epochs == stated["epochs"]
