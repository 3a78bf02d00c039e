"""The claims' own arithmetic, on curves and differences whose answer is known; and what their table says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mmlib.experiments.context import Cell
from mmlib.experiments.measures import Lead, Mean
from mmlib.experiments.profiles import profile
from mmlib.experiments.published import published
from mmlib.experiments.verdicts import VERDICTS
from mmlib.papers import balm
from mmlib.papers.balm import claims, rows, tables, training
from mmlib.report import projection, stats


def test_the_half_time_of_a_geometric_decay_is_its_half_life_and_of_a_flat_curve_is_the_first_epoch() -> (
    None
):
    for half_life in (2, 5):
        assert training.half_time(0.5 ** (np.arange(80) / half_life)) == half_life
    assert training.half_time(np.ones(12)) == 0
    rising = np.arange(13.0)  # goes up: half of the way to its last quarter's mean, 11
    assert training.half_time(rising) == 6


def test_correlations_are_of_the_rates_and_not_of_which_modality_it_is() -> None:
    """Two modalities far apart, each slower with a higher rate: rank correlation 1 within each."""
    lines = [
        (rate, base + rate, place)
        for place, base in enumerate((0.0, 100.0))
        for rate in (0.3, 0.5, 0.7)
    ]
    assert training.correlations({0: lines, 1: [(x, -y, p) for x, y, p in lines]}) == pytest.approx(
        [1, -1]
    )
    unrelated = [(0.3, 1.0, 0), (0.5, 1.0, 1), (0.7, 1.0, 2)]
    assert training.correlations({0: unrelated}) == pytest.approx([0])


def test_settings_are_averaged_within_a_seed_before_any_interval() -> None:
    gains = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([3.0, 2.0, 1.0])}
    placed = {("balm", setting): pd.Series(gain) for setting, gain in gains.items()}
    nothing = {("plain", setting): pd.Series(np.zeros(3)) for setting in gains}
    mean = Mean([Lead("balm", "plain", setting) for setting in gains])
    assert mean({**placed, **nothing}).to_numpy() == pytest.approx([2, 2, 2])
    assert mean({}).size == 0


@pytest.mark.parametrize(
    "values,verdict",
    [
        ([2.0, 2.1, 1.9, 2.0, 2.2], "supported"),
        ([-2.0, -2.1, -1.9, -2.0, -2.2], "contradicted"),
        ([0.01, -0.02, 0.0, 0.02, -0.01], "no difference that matters"),
        ([5.0, -5.0, 4.0, -4.0, 1.0], "undecided"),
    ],
)
def test_each_verdict_of_the_statistics_has_words_of_a_claim(
    values: list[float], verdict: str
) -> None:
    assert VERDICTS[stats.paired(values, np.zeros(5)).verdict] == verdict
    assert set(VERDICTS) == set(stats.VERDICTS)


def test_every_claim_that_the_issue_names_has_a_row_and_unmade_runs_say_so(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", f"{tmp_path}/runs")
    monkeypatch.setenv("MMLIB_FIGURES", f"{tmp_path}/figures")
    context = balm.context("smoke")
    output = claims.CLAIMS.draw(context, claims.CLAIMS.cells(context))
    assert output.table is not None
    text = " ".join(output.table["claim"])
    for words in (
        "improves each backbone",
        "FCM reduces",
        "raises the cosine",
        "than MSE",
        "over-balanced",
        "converge more slowly",
        "equilibrium",
        "inversely",
    ):
        assert words in text
    assert set(output.table["verdict"]) == {"not run"}
    backbones = output.table[output.table["claim"].str.contains("improves each")]["backbone"]
    assert set(backbones) == {"MMGCN", "GCNet", "MMDFN"}


def test_a_claim_holds_where_it_was_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results in which +BALM is two points above plain for MMGCN and two below for the others."""
    context = balm.context("smoke", seeds=2)

    def results(cells: list[Cell]) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        lines = []
        for cell in cells:
            lead = 0.0 if "+" not in cell.row else 2.0 if cell.row == "MMGCN+BALM" else -2.0
            for selection in ("valid", "test", "last"):
                lines.append(
                    {
                        "row": cell.row,
                        "setting": cell.setting,
                        "seed": cell.spec.seed,
                        "fold": None,
                        "selection": selection,
                        "metric": "weighted_f1",
                        "stale": False,
                        "run_id": "x",
                        "data": "twin:",
                        "value": 50 + lead + 0.001 * rng.normal(),
                    }
                )
        return pd.DataFrame(lines)

    monkeypatch.setattr(type(context), "results", lambda self, cells: results(cells))
    found = {
        (c.backbone, c.data): c.values
        for c in dataclasses.replace(claims.CLAIMS, declared=claims._results).measured(context)
        if "improves each" in c.text
    }
    assert len(found) == 6
    for (backbone, _), values in found.items():
        assert len(values) >= 2  # as many as there are, of primary claims
        assert values == pytest.approx([2 if backbone == "MMGCN" else -2] * len(values), abs=0.01)


def test_settings_are_paired_by_seed_where_one_run_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """+BALM leads by 1 at seed 0, by 2 at seed 1, by 3 at seed 2; seeds differ by 10 points, settings by 100."""
    context = balm.context("smoke", backbone="mmgcn", seeds=3)
    lacking = ("MMGCN", rows.label(rows.THREE[2]), 0)

    def results(cells: list[Cell]) -> pd.DataFrame:
        places = sorted({(cell.row, cell.setting, cell.spec.seed) for cell in cells} - {lacking})
        settings = [rows.label(rates) for rates in rows.SETTINGS]
        lines = [
            {
                "row": row,
                "setting": setting,
                "seed": seed,
                "fold": None,
                "selection": "valid",
                "metric": "weighted_f1",
                "stale": False,
                "run_id": "x",
                "data": "twin:",
                "value": 100 * settings.index(setting) + 10 * seed + (seed + 1) * ("+" in row),
            }
            for row, setting, seed in places
        ]
        return pd.DataFrame(lines)

    monkeypatch.setattr(type(context), "results", lambda self, cells: results(cells))
    claim = claims._improves(context, "iemocap", "mmgcn")
    gains = claim.measure(claim.source.read(context, claim.source.cells))
    assert isinstance(gains, pd.Series) and gains.dropna().to_dict() == {1: 2.0, 2: 3.0}


def test_curves_of_two_rows_are_paired_by_seed_where_one_run_is_missing() -> None:
    curves = {
        "+FCM": {0: np.full((8, 3), 5.0), 1: np.full((8, 3), 20.0), 2: np.full((8, 3), 40.0)},
        "MMGCN": {1: np.full((8, 3), 21.0), 2: np.full((8, 3), 42.0)},
    }
    lead = training._late(curves["MMGCN"]) - training._late(curves["+FCM"])
    assert lead.dropna().to_dict() == {1: 1.0, 2: 2.0}


def test_tsne_keeps_two_far_clusters_apart_and_gives_the_same_places_twice() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(size=(20, 5)), rng.normal(size=(20, 5)) + 30]).astype(
        np.float32
    )
    labels = np.repeat(["a", "b"], 20)
    first, again = projection.project(values, labels), projection.project(values, labels)
    pd.testing.assert_frame_equal(first, again)
    centres = first.groupby("label")[["x", "y"]].mean().to_numpy()
    spread = first.groupby("label")[["x", "y"]].std().to_numpy().max()
    assert (
        np.linalg.norm(centres[0] - centres[1]) > 3 * spread and first["silhouette"].iloc[0] > 0.8
    )


def test_the_combinations_table_has_a_line_per_setting_and_method() -> None:
    numbers = pd.DataFrame(
        [
            {
                "row": row,
                "setting": f"{rates} {group}",
                "n": n,
                "mean": 50.04,
                "sd": 1.26,
                "verdict": verdict,
            }
            for rates in ("0.3/0.5/0.7", "0.5/0.3/0.7")
            for row, verdict in (("GCNet", ""), ("GCNet+BALM", "worse"))
            for group, n in (("A", 2), ("AL", 0))
        ]
    )
    table = tables.combination_layout(numbers)
    assert list(table["method"]) == ["GCNet", "GCNet+BALM"] * 2 and list(table.columns[2:]) == [
        "A",
        "AL",
    ]
    assert table.loc[0, "A"] == "50.0 ± 1.3 (2)" and table.loc[3, "A"] == "50.0 ± 1.3 (2), worse"
    assert set(table["AL"]) == {"not built yet"}


def test_a_rate_shared_by_all_is_the_imbalanced_law_with_equal_rates_and_zero_is_complete() -> None:
    context = balm.context("smoke")
    cells = tables.TABLE12.cells(context)
    for cell in cells:
        law = cell.spec.train_mask
        if cell.setting == "0.0":
            assert law.kind == "complete"
        else:
            assert law.kind == "imbalanced" and {rate for _, rate in law.rates} == {
                float(cell.setting)
            }
    names = {cell.row for cell in cells}
    networks = ("MMGCN", "GCNet", "MMDFN")
    others = {"SDR-GNN", "Mi-CGA-style", "linear model"}
    assert names == {*networks, *(f"{name}+BALM" for name in networks), *others}


def test_mm_dfns_own_loss_is_used_for_classes_alone() -> None:
    context = balm.context("smoke")
    for dataset, expected in (
        ("iemocap", {"focal": 0.5, "class_weights": "unnormalised"}),
        ("mosei", {}),
    ):
        (cell, *_) = rows.cells(context, dataset, rows.plain("mmdfn"), rows.FOCUS)
        assert {k: v for k, v in cell.spec.options if k in ("focal", "class_weights")} == expected


def test_names_of_printed_cells_are_those_of_our_settings() -> None:
    context = balm.context("smoke")
    every = claims._tau_and_rho(dataclasses.replace(context, profile=profile("paper")))
    (flat, spread, highest) = (claim.printed() for claim in every)
    grid = published("balm", "table7").assign(tau=lambda f: f["condition"].str[4:7])
    f1 = {name: of["value"] for name, of in grid.groupby("setting")}
    own = f1["0.5/0.3/0.7"][grid["condition"] == "tau=0.4 rho=1.4"].item()
    rest = f1["0.5/0.3/0.7"][grid["condition"] != "tau=0.4 rho=1.4"]
    assert flat == pytest.approx(own - rest.mean())
    assert spread == pytest.approx(f1["0.5/0.7/0.3"].std() - f1["0.5/0.3/0.7"].std())
    high = grid["condition"].str.endswith("rho=1.8")
    steep = f1["0.5/0.7/0.3"]
    assert highest == pytest.approx(steep[~high].mean() - steep[high].mean())


def test_the_dominance_of_a_modality_is_its_norm_over_the_largest_other() -> None:
    norms = np.array([[1.0, 8.0, 2.0], [1.0, 2.0, 4.0]])
    assert training._of_one(norms, 1) == pytest.approx((np.log(4) + np.log(0.5)) / 2)
    assert training._of_one(norms, 0) == pytest.approx((np.log(1 / 8) + np.log(1 / 4)) / 2)


def test_settings_are_grouped_by_what_is_missing_most() -> None:
    context = balm.context("smoke")
    groups = claims._groups(context, rows.SETTINGS, "text")
    assert groups == {
        "text missing most": ["0.3/0.7/0.5", "0.5/0.7/0.3"],
        "another missing most": ["0.3/0.5/0.7", "0.5/0.3/0.7", "0.7/0.3/0.5", "0.7/0.5/0.3"],
    }


def test_data_without_text_have_no_claim_about_it() -> None:
    three = balm.context("smoke")
    two = balm.context("smoke", {"iemocap6": "crema-d-votes"})
    about = [
        {c.text for c in claims.CLAIMS.declared(context) if "text" in c.text}
        for context in (three, two)
    ]
    assert len(about[0]) > 3 and not about[1]
    names = {cell.setting for c in claims.CLAIMS.declared(two) for cell in c.cells()}
    assert "0.5/0.3" in names and not any(name.count("/") == 2 for name in names)
