"""The GMM-loss paper's artifacts: which runs they ask for and share, and what they say of a known mixture."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from shared_runs import make_runs
from sklearn.metrics import roc_auc_score

from mmlib import paths
from mmlib.data.agreement import agrees
from mmlib.data.bundle import Task, make_bundle, save_bundle
from mmlib.data.catalog import open_av_twin
from mmlib.data.manifest import load_manifest
from mmlib.errors import InputError
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.context import Context
from mmlib.experiments.published import published
from mmlib.experiments.rows import Row, Stage
from mmlib.methods import METHODS
from mmlib.papers import catalog, gmm_loss
from mmlib.papers.gmm_loss import analyses, figures, rows, tables
from mmlib.pipeline import regenerate
from mmlib.runs.spec import RunSpec

pytestmark = pytest.mark.slow

SOME = (
    "table2",
    "table3",
    "fig2",
    "fig3",
    "fig4",
    "main",
    "planted",
    "modes",
    "claims",
    "human-gap",
)
ONE = {"crema-d": "twin:crema-d@smoke"}


def specs(context: Context, row: Row) -> list[RunSpec]:
    """A row's runs on CREMA-D."""
    return [cell.spec for cell in rows.cells(context, "crema-d", [row])]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Path]:
    """A smoke context on one twin, whose runs for some artifacts are done and drawn, in a folder of its own."""
    folder = tmp_path_factory.mktemp("gmm_loss")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLIB_RUNS", str(folder / "runs"))
        patch.setenv("MMLIB_FIGURES", str(folder / "figures"))
        context = gmm_loss.context("smoke", ONE)
        make_runs(context, tmp_path_factory, SOME)
        for name in SOME:
            regenerate.draw(context, name)
        regenerate.finish(context)
    return context, folder / "figures"


def test_every_artifact_has_its_files(made: tuple[Context, Path]) -> None:
    entries = {e["id"]: e for e in json.loads((made[1] / "manifest.json").read_text())}
    assert set(entries) == set(SOME)
    assert {e["status"] for e in entries.values()} == {"regenerated"}
    assert all(
        (made[1].parent / file).stat().st_size for e in entries.values() for file in e["files"]
    )


def test_one_warm_up_per_seed_and_optimizer_serves_every_row() -> None:
    context = gmm_loss.context("smoke", ONE, seeds=2)
    adaptive = [*rows.ablation_rows(context, "crema-d"), *rows.optimizer_rows(context, "crema-d")]
    by_row = {row.name: specs(context, row) for row in adaptive}
    parents = {s.parent for of_row in by_row.values() for s in of_row if s.parent}
    assert len(parents) == 2 * len(context.seeds("crema-d")) == 4
    assert {p.training.optimizer for p in parents} == {"momentum", "adam"}
    assert all(s.parent for of_row in by_row.values() for s in of_row)
    budget = rows.BUDGETS["smoke"]
    for of_row in by_row.values():
        assert {s.training.epochs + s.parent.training.epochs for s in of_row if s.parent} == {
            budget.epochs
        }
    assert by_row[rows.OURS] == by_row["SGD (Reset State)"]


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 9])
def test_both_phases_have_an_epoch_however_few_there_are(epochs: int) -> None:
    first, second = rows.in_phases(Stage("gmm_loss", "concat"), epochs, 3)
    counts = [dict(stage.training)["epochs"] for stage in (first, second)]
    assert min(counts) >= 1 and sum(counts) == max(2, epochs)
    assert dict(first.options)["warmup"] == counts[0]
    assert counts[1] % dict(second.options)["round_epochs"] == 0


def test_all_methods_have_the_same_budget_network_size_and_number_of_trials() -> None:
    context = gmm_loss.context("smoke", ONE)
    every = [*rows.main_rows(context, "crema-d"), *rows.further_rows(context, "crema-d")]
    for row in (row for row in every if row != LINEAR):
        for spec in specs(context, row):
            epochs = spec.training.epochs + (spec.parent.training.epochs if spec.parent else 0)
            assert (epochs, spec.training.batch, spec.training.weight_decay) == (
                rows.BUDGETS["smoke"].epochs,
                32,
                1e-4,
            )
            assert dict(spec.backbone_options) == {
                "augment": False,
                "encoder": "resnet",
                "width": 4,
            }
    assert {len(trials) for trials in rows.TRIALS.values()} == {5} and set(rows.TRIALS) == set(
        rows.ALL_NAMES
    )
    for method, chosen in rows.CHOSEN.items():
        assert chosen in rows.TRIALS[method]


def test_the_tables_use_what_the_committed_trials_found_best() -> None:
    table = pd.read_csv(paths.root() / "figures/twins/gmm_loss/tuning.csv", keep_default_na=False)
    assert set(table["method"]) == set(rows.ALL_NAMES.values())
    for method, name in rows.ALL_NAMES.items():
        best = table[(table["method"] == name) & (table["best here"] == "best")]["trial"].tolist()
        assert best == [rows.trial_name(rows.CHOSEN[method])]


def test_an_ablation_leaves_out_its_term_whatever_was_tuned_and_differs_from_the_full_model_in_nothing_else() -> (
    None
):
    context = gmm_loss.context("smoke", ONE)
    full = specs(context, rows.row(context, "crema-d", "gmm_loss"))[0]
    for variant, name in (("alpha0", "alpha"), ("beta0", "beta"), ("gamma0", "gamma")):
        spec = specs(context, rows.row(context, "crema-d", "gmm_loss", "x", variant))[0]
        chosen = {**dataclasses.asdict(METHODS["gmm_loss"][1][variant]), **dict(spec.options)}
        whole = {**dataclasses.asdict(METHODS["gmm_loss"][1]["paper"]), **dict(full.options)}
        assert chosen == {**whole, name: 0.0} and whole[name] > 0 and spec.parent == full.parent


def test_votes_are_not_the_papers_clips_whatever_their_number() -> None:
    entry = load_manifest()["role"]["crema-d"]["paper"][0]
    n = entry["utterances"]["train+valid"] + entry["utterances"]["test"]
    split = np.array(["train"] * 6000 + ["valid"] * 698 + ["test"] * 744)
    for dims, same in (((1, 4, 4), True), ((12,), False)):
        features = {m: np.zeros((n, *dims), np.float32) for m in ("audio", "vision")}
        if same:
            features["vision"] = np.zeros((n, 1, 3, 4, 4), np.uint8)
        bundle = make_bundle(
            "b",
            Task("classes", tuple("abcdef")),
            features,
            np.arange(n) % 6,
            split,
            [f"c{i:05}" for i in range(n)],
            position=[0] * n,
        )
        assert agrees(bundle, "crema-d", "gmm_loss") == same


def test_one_vote_is_the_step_between_the_shares_of_a_clip() -> None:
    shares = np.array([[0.5, 0.4, 0.1, 0, 0, 0], [0.25, 0.25, 0.5, 0, 0, 0], [1.0, 0, 0, 0, 0, 0]])
    np.testing.assert_allclose(analyses.one_vote(shares), [0.1, 0.25, 1.0])


def test_row_names_are_those_of_the_published_tables() -> None:
    context = gmm_loss.context("smoke", ONE)
    for table, of in (
        ("table1", rows.main_rows),
        ("table2", rows.ablation_rows),
        ("table3", rows.optimizer_rows),
    ):
        names = {row.name for row in of(context, "crema-d")} - {LINEAR.name}
        assert names == set(published("gmm_loss", table)["row"])


@pytest.mark.parametrize(
    ("table", "row", "kind", "seeds"),
    [("table2", "alpha = 0", ("gmm_loss", "alpha0"), 1), ("main", "Concat", ("plain", "paper"), 2)],
)
def test_a_table_cell_is_the_mean_over_seeds_of_the_stored_records(
    made: tuple[Context, Path], table: str, row: str, kind: tuple[str, str], seeds: int
) -> None:
    context, folder = made
    numbers = pd.read_csv(folder / "twins" / "gmm_loss" / f"{table}-numbers.csv")
    values = [
        r["selected"]["valid"]["metrics"]["same"]["accuracy"]
        for r in context.store.records()
        if (r.spec.method, r.spec.variant) == kind and not r.spec.modalities
    ]
    cell = numbers[
        numbers["row"].str.contains(row, regex=False) & (numbers["metric"] == "accuracy")
    ]
    assert len(values) == seeds and cell["mean"].item() == pytest.approx(np.mean(values))


def test_no_published_number_stands_beside_a_twin(made: tuple[Context, Path]) -> None:
    for table in ("table2", "table3"):
        text = (made[1] / "twins" / "gmm_loss" / f"{table}.md").read_text()
        assert not any(
            f"{value:.2f} " in text for value in published("gmm_loss", table)["value"].dropna()
        )


def test_a_rounds_density_integrates_to_one_and_is_the_mixtures() -> None:
    mixture = figures.Round(
        "r", 0, 0, np.array([0.8, 0.2]), np.array([0.1, 0.7]), np.array([0.01, 0.04]), None
    )
    at = np.linspace(-3, 3, 20001)
    parts = mixture.density(at)
    assert parts.sum() * (at[1] - at[0]) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(parts[1], 0.2 * norm(0.7, 0.2).pdf(at))


def test_agreement_with_a_planted_truth_is_perfect_where_gaps_tell_it_and_one_sided_where_they_are_signed() -> (
    None
):
    dominant = np.repeat([-1, 0, 1], 40)
    gaps = np.where(dominant == 0, 0.8, np.where(dominant == 1, -0.8, 0.0)) + np.linspace(
        -0.05, 0.05, 120
    )
    mixture = figures.Round(
        "r", 0, 0, np.array([2 / 3, 1 / 3]), np.array([0.0, 0.8]), np.array([0.3, 0.01]), gaps
    )
    facts = analyses.agreement(mixture, dominant >= 0, dominant)
    assert (
        facts["precision"],
        facts["recall, audio stronger"],
        facts["recall, vision stronger"],
    ) == (100, 100, 0)
    assert facts["recall"] == 50
    assert facts["balanced accuracy"] == 75
    assert facts[analyses.AREA] == roc_auc_score(dominant >= 0, np.abs(gaps)) == 1


def test_recorded_gaps_are_in_the_order_of_the_training_clips(made: tuple[Context, Path]) -> None:
    context, _ = made
    first = figures.rounds(context, rows.our_main_cells(context)[0].spec)
    twin = open_av_twin(ONE["crema-d"])
    assert [r.number for r in first] == list(range(rows.BUDGETS["smoke"].rounds + 1))
    assert all(
        r.gaps is not None and r.gaps.shape == (len(twin.bundle.rows("train")),) for r in first
    )
    numbers = pd.read_csv(made[1] / "twins" / "gmm_loss" / "planted-numbers.csv")
    line = numbers[(numbers["round"] == 0) & (numbers["seed"] == 0)].iloc[0]
    assert first[0].gaps is not None
    area = roc_auc_score(twin.imbalanced[twin.bundle.rows("train")], np.abs(first[0].gaps))
    assert line[analyses.AREA] == pytest.approx(area)


def test_two_peaks_are_called_bimodal_and_one_is_not() -> None:
    rng = np.random.default_rng(0)
    one, two = (
        rng.normal(0, 0.2, 500),
        np.concatenate([rng.normal(0, 0.1, 400), rng.normal(0.8, 0.1, 100)]),
    )
    assert (
        analyses.shape(one)["dip p value"] > 0.2 and analyses.shape(one)["components by BIC"] == 1
    )
    assert (
        analyses.shape(two)["dip p value"] < 0.01 and analyses.shape(two)["components by BIC"] == 2
    )


def test_the_human_gap_is_the_difference_of_the_shares_of_the_intended_emotion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raters who all hear the emotion and never see it: every gap is 1."""
    n, votes = 240, np.tile(np.eye(6), (40, 1))
    rng = np.random.default_rng(0)
    shares = {
        "audio": np.hstack([votes, rng.random((n, 6))]),
        "vision": np.hstack([np.roll(votes, 1, axis=1), rng.random((n, 6))]),
    }
    labels = np.arange(n) % 6
    bundle = make_bundle(
        "votes",
        Task("classes", tuple("abcdef")),
        {m: x.astype(np.float32) for m, x in shares.items()},
        labels,
        np.array(["train", "train", "valid", "test"])[np.arange(n) // 6 % 4],
        [f"c{i:03}" for i in range(n)],
        position=[0] * n,
        notes={"features": "6 vote shares, then 6 means"},
    )
    save_bundle(bundle, tmp_path / "votes")
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    context = gmm_loss.context("smoke", {"crema-d": str(tmp_path / "votes")})
    assert not analyses.lacks_judges(context) and rows.encoder(context, "crema-d") == "mlp"
    drawn = analyses.human_gap(context, rows.our_main_cells(context))
    assert drawn.numbers is not None and drawn.numbers["mean"].item() == pytest.approx(1, abs=0.2)


def test_a_twins_observer_is_sure_of_the_stronger_modality_where_one_was_planted() -> None:
    name, gap, smooth, _ = analyses._observer(gmm_loss.context("smoke", ONE))
    twin = open_av_twin(ONE["crema-d"])
    dominant = twin.dominant[twin.bundle.rows("train")]
    assert name == "observer" and np.array_equal(gap, smooth) and np.abs(gap).max() <= 1
    assert gap[dominant == 0].mean() > 0.3 > abs(gap[dominant == -1].mean())
    assert analyses.lacks_judges(gmm_loss.context("smoke", ONE)) == ""


def test_people_are_asked_for_where_there_are_neither_votes_nor_templates(tmp_path: Path) -> None:
    n = 48
    features = {m: np.zeros((n, 3), np.float32) for m in ("audio", "vision")}
    bundle = make_bundle(
        "plain",
        Task("classes", ("a", "b")),
        features,
        np.arange(n) % 2,
        np.array(["train", "train", "valid", "test"])[np.arange(n) // 2 % 4],
        [f"c{i:02}" for i in range(n)],
        position=[0] * n,
    )
    save_bundle(bundle, tmp_path / "plain")
    assert "judgements" in analyses.lacks_judges(
        gmm_loss.context("smoke", {"crema-d": str(tmp_path / "plain")})
    )


def test_other_backbones_and_data_with_three_modalities_are_refused() -> None:
    with pytest.raises(InputError, match="concat"):
        gmm_loss.context("smoke", backbone="mmgcn")
    with pytest.raises(InputError, match="two modalities"):
        gmm_loss.context("smoke", {"crema-d": "twin:mosi@smoke"})


def test_data_and_backbones_choose_the_papers_that_have_them() -> None:
    assert catalog.papers_for({}, "") == list(catalog.PAPERS)
    assert catalog.papers_for({"crema-d": "x"}, "") == ["mculora", "gmm_loss", "side_by_side"]
    assert catalog.papers_for({"mosei": "x"}, "gcnet") == ["balm"]
    with pytest.raises(InputError, match="Did you mean"):
        catalog.papers_for({"crema": "x"}, "")
    both = [catalog.PAPERS["balm"], catalog.PAPERS["gmm_loss"]]
    assert catalog.data_for(both[1], {"crema-d": "x", "mosei": "y"}, both) == {"crema-d": "x"}
    assert catalog.data_for(both[1], {"mosei": "y"}, both[1:]) == {"mosei": "y"}


def test_a_departure_is_compared_with_its_own_method() -> None:
    context = gmm_loss.context("smoke", ONE)
    compared = rows.departure_rows(context, "crema-d")
    assert len({row.name for row in compared}) == len(compared)
    for row in compared:
        own = rows.row(context, "crema-d", row.stages[-1].method)
        assert (row.stages != own.stages) == (row.name != own.name)
        assert row.against == (own.name if row.name != own.name else "")


def test_a_further_method_is_compared_with_concatenation_and_its_controls_with_it() -> None:
    context = gmm_loss.context("smoke", ONE)
    compared = {row.name: row for row in rows.further_rows(context, "crema-d")}
    baselines = tables.BEYOND.baselines(context)
    assert set(rows.FURTHER).isdisjoint(rows.NAMES) and set(compared) == {"Concat", *baselines}
    for method, name in rows.FURTHER.items():
        own = compared[name].stages[-1]
        assert own.method == method and baselines[name] == "Concat"
        variants = {key: row for key, row in compared.items() if key.startswith(f"{name} (")}
        assert {row.stages[-1].variant for row in variants.values()} == set(METHODS[method][1]) - {
            "paper"
        }
        for key, row in variants.items():
            (control,) = row.stages
            assert baselines[key] == name and control.training == own.training
            fixed = rows.DEFINED_BY[method, control.variant]
            assert control.options == tuple(o for o in own.options if o[0] not in fixed)
