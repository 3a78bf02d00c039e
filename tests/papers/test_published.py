"""The transcribed tables against the papers' own arithmetic and the ledger's verified facts."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from counts import is_one_run

from mmlib.errors import InputError
from mmlib.experiments import arithmetic
from mmlib.experiments.arithmetic import RIGHT, WRONG, checks, most_weighted_f1
from mmlib.experiments.published import COLUMNS, modalities, papers, published, tables

N_TEST = {"iemocap": 1623, "mosei": 3634, "crema-d": 744, "ave": 402}
IMR = {"/".join(p) for p in itertools.permutations(("0.3", "0.5", "0.7"))}
SUBSETS = ["A", "V", "L", "AV", "AL", "LV", "ALV"]
HALF_UNIT = 0.005 + 1e-9

# The cells whose printed difference is not the difference of the printed values, with what it should be.
MISPRINTS = {
    ("table1", "iemocap", "0.5/0.3/0.7", "GCNet+BALM", "delta1_accuracy"): 3.89,
    ("table2", "mosei", "0.5/0.3/0.7", "MMDFN+BALM", "delta1_accuracy"): 3.01,
    ("table2", "mosei", "0.5/0.3/0.7", "MMDFN+BALM", "delta1_weighted_f1"): 3.27,
    ("table4", "iemocap", "0.6/0.6/0.9", "MMGCN+BALM", "delta_weighted_f1"): 3.28,
    ("table4", "mosei", "0.6/0.9/0.6", "MMGCN+BALM", "delta_weighted_f1"): -0.70,
    ("table14", "iemocap", "0.7/0.5/0.3", "MMDFN+BALM-M", "delta_accuracy"): -0.37,  # ledger A23
    ("table15", "mosei", "0.5/0.3/0.7", "MMGCN+BALM-M", "delta_accuracy"): -1.57,  # ledger A23
}


def cell(
    table: str, dataset: str, setting: str, row: str, metric: str = "accuracy", condition: str = ""
) -> float:
    frame = published("balm", table)
    wanted = {
        "dataset": dataset,
        "setting": setting,
        "row": row,
        "metric": metric,
        "condition": condition,
    }
    found = frame[(frame[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    assert len(found) == 1, (table, wanted, len(found))
    return float(found["value"].item())


def values_only(table: str) -> pd.DataFrame:
    """Rows that are results: no printed differences and no printed averages."""
    frame = published("balm", table)
    return frame[
        ~frame["metric"].str.startswith("delta")
        & (frame["setting"] != "average")
        & (frame["condition"] != "average")
    ]


def checked(paper: str, kind: str, table: str) -> pd.DataFrame:
    """What the paper's own arithmetic says of one kind of printed numbers of a table."""
    frame = checks(paper)
    return frame[(frame["kind"] == kind) & (frame["table"] == table)].reset_index(drop=True)


@pytest.mark.parametrize(
    ("table", "rows", "datasets", "settings", "conditions", "metrics"),
    [
        ("table1", 13, 1, 6, 1, 2),
        ("table2", 12, 1, 6, 1, 2),
        ("table4", 3, 2, 6, 1, 2),
        ("table7", 1, 1, 2, 25, 1),
        ("table8", 3, 1, 6, 7, 1),
        ("table9", 3, 1, 6, 7, 1),
        ("table10", 2, 2, 1, 7, 2),
        ("table11", 5, 1, 8, 1, 2),
        ("table12", 5, 1, 8, 1, 2),
        ("table13", 2, 2, 6, 1, 2),
        ("table14", 3, 1, 6, 1, 2),
        ("table15", 3, 1, 6, 1, 2),
    ],
)
def test_each_table_is_a_full_grid(
    table: str, rows: int, datasets: int, settings: int, conditions: int, metrics: int
) -> None:
    frame = values_only(table)
    axes = ["row", "dataset", "setting", "condition", "metric"]
    assert tuple(frame[a].nunique() for a in axes) == (
        rows,
        datasets,
        settings,
        conditions,
        metrics,
    )
    assert (
        len(frame)
        == len(frame[axes].drop_duplicates())
        == rows * datasets * settings * conditions * metrics
    )


@pytest.mark.parametrize("table", ["table1", "table2", "table13", "table14", "table15"])
def test_imbalanced_settings_are_the_six_permutations(table: str) -> None:
    assert set(values_only(table)["setting"]) == IMR


@pytest.mark.parametrize("table", tables("balm"))
def test_balm_values_are_numbers_of_known_data_sets_and_percentages_lie_between_5_and_100(
    table: str,
) -> None:
    frame = published("balm", table)
    assert tuple(frame.columns) == COLUMNS
    assert set(frame["table"]) == {table}
    assert set(frame["dataset"]) <= {"iemocap", "mosei"}
    assert frame["value"].notna().all()
    assert all(
        text.isascii()
        for column in ("row", "condition", "metric", "note")
        for text in frame[column]
    )
    percent = frame[frame["metric"].isin(["accuracy", "weighted_f1"])]
    assert percent["value"].between(5, 100).all()


@pytest.mark.parametrize(
    ("table", "count"),
    [
        ("table1", 72),
        ("table2", 72),
        ("table3", 4),
        ("table4", 24),
        ("table14", 18),
        ("table15", 18),
    ],
)
def test_printed_differences_recompute_but_for_the_known_misprints(table: str, count: int) -> None:
    found = checked("balm", "difference", table)
    notes = published("balm", table).set_index(list(arithmetic.KEYS))["note"]
    assert len(found) == count
    wrong = {}
    for _, line in found.iterrows():
        note = notes[tuple(line[list(arithmetic.KEYS)])]
        if line["verdict"] == WRONG:
            wrong[(table, line["dataset"], line["setting"], line["row"], line["metric"])] = line[
                "recomputed"
            ]
            assert f"recomputes to {line['recomputed']:.2f}" in note
        else:
            assert "recomputes" not in note
    known = {key: value for key, value in MISPRINTS.items() if key[0] == table}
    assert wrong.keys() == known.keys()
    assert all(wrong[key] == pytest.approx(known[key], abs=0.0051) for key in known)


def test_table_3_repeats_the_averages_of_table_10() -> None:
    found = checked("balm", "repeat", "table10").query("condition == 'average'")
    assert len(found) == 8 and set(found["rule"]) == {"as in table3"}
    assert set(found["verdict"]) == {"the same"} and (found["printed"] == found["recomputed"]).all()


@pytest.mark.parametrize(
    ("table", "terms", "count"), [("table8", 6, 21), ("table9", 6, 21), ("table10", 7, 8)]
)
def test_printed_averages_recompute(table: str, terms: int, count: int) -> None:
    found = checked("balm", "average", table)
    assert len(found) == count and set(found["rule"]) == {f"mean of {terms}"}
    assert (
        found["off"].abs().le(HALF_UNIT).all()
    )  # nearer than the rounding of the terms could have made them


@pytest.mark.parametrize("table", ["table4", "table10", "table13", "table14", "table15"])
def test_accuracies_of_whole_tables_are_counts_of_right_answers_of_one_run(table: str) -> None:
    frame = values_only(table)
    accuracy = frame[frame["metric"] == "accuracy"]
    assert len(accuracy) >= 18
    assert all(
        is_one_run(v, N_TEST[d])
        for d, v in zip(accuracy["dataset"], accuracy["value"], strict=True)
    )


def test_16_of_18_rows_of_table_8_are_single_runs() -> None:
    rows = [
        all(is_one_run(v, 1623) for v in g["value"])
        for _, g in values_only("table8").groupby(["setting", "row"])
    ]
    assert (sum(rows), len(rows)) == (16, 18)


@pytest.mark.parametrize("table", ["table11", "table12"])
def test_means_of_five_runs_are_not_all_counts_of_one_run(table: str) -> None:
    frame = values_only(table)
    accuracy = frame[frame["metric"] == "accuracy"]
    single = [
        is_one_run(v, N_TEST[d])
        for d, v in zip(accuracy["dataset"], accuracy["value"], strict=True)
    ]
    assert sum(single) < 0.6 * len(single)


@pytest.mark.parametrize(
    ("table", "exact", "inexact"),
    [
        (
            "table1",
            {"GCNet", "MMGCN", "MMDFN", "SDR-GNN", "Ada2I", "MCE"},
            {"MMIN", "MoMKE", "Mi-CGA", "RedCore"},
        ),
        (
            "table2",
            {"GCNet", "MMGCN", "MMDFN", "SDR-GNN", "Ada2I", "MMIN", "Mi-CGA", "MoMKE"},
            {"RedCore"},
        ),
    ],
)
def test_baselines_of_tables_1_and_2_are_single_runs(
    table: str, exact: set[str], inexact: set[str]
) -> None:
    frame = values_only(table)
    accuracy = frame[
        (frame["metric"] == "accuracy") & ~frame["row"].str.contains("BALM", regex=False)
    ]
    n = N_TEST[accuracy["dataset"].iloc[0]]
    single = {row: all(is_one_run(v, n) for v in g["value"]) for row, g in accuracy.groupby("row")}
    assert {row for row, whole in single.items() if whole} == exact
    assert {row for row, whole in single.items() if not whole} == inexact


def test_balm_rows_of_table_1_with_a_spread_still_print_counts_of_one_run() -> None:
    """17 of 18 centres are k/1623; a mean of five runs is a k/1623 about one time in five."""
    frame = values_only("table1")
    centres = frame[(frame["metric"] == "accuracy") & frame["sd"].notna()]["value"]
    assert (sum(is_one_run(v, 1623) for v in centres), len(centres)) == (17, 18)


@pytest.mark.parametrize(
    ("table", "with_spread"),
    [
        ("table1", 36),
        ("table2", 36),
        ("table11", 80),
        ("table12", 80),
        ("table4", 0),
        ("table8", 0),
        ("table13", 0),
    ],
)
def test_a_spread_stands_where_the_paper_prints_one(table: str, with_spread: int) -> None:
    frame = published("balm", table)
    assert frame["sd"].notna().sum() == with_spread


def test_grid_of_table_7_lies_below_the_number_quoted_in_table_1() -> None:
    """Ledger A20: so the quoted cells were chosen one by one."""
    grid = {s: g["value"] for s, g in published("balm", "table7").groupby("setting")}
    low, high = grid["0.5/0.7/0.3"], grid["0.5/0.3/0.7"]
    quoted_low = cell("table1", "iemocap", "0.5/0.7/0.3", "MMGCN+BALM", "weighted_f1")
    quoted_high = cell("table1", "iemocap", "0.5/0.3/0.7", "MMGCN+BALM", "weighted_f1")
    assert (quoted_low, quoted_high) == (62.35, 65.03)
    assert (round(low.mean(), 2), (low < quoted_low).sum()) == (60.26, 24)
    assert (round(high.mean(), 2), (high > quoted_high).sum()) == (64.51, 6)
    assert (low.min(), low.max(), high.max()) == (58.39, 62.41, 66.30)


def test_balm_lowers_mmgcn_under_the_mildest_rates_of_table_4() -> None:
    """Ledger A22."""
    without, with_balm = (
        cell("table4", "iemocap", "0.1/0.1/0.9", row) for row in ("MMGCN", "MMGCN+BALM")
    )
    assert (without, with_balm) == (68.02, 65.87)


def test_a_gain_of_gcnet_in_table_1_is_printed_as_7_76() -> None:
    """Ledger A25."""
    gain = cell("table1", "iemocap", "0.7/0.5/0.3", "GCNet+BALM", "delta1_weighted_f1")
    assert gain == 7.76


@pytest.mark.parametrize(
    ("setting", "in_table_1", "in_table_8"),
    [("0.3/0.5/0.7", 58.04, 59.46), ("0.5/0.3/0.7", 61.61, 58.60)],
)
def test_gcnet_with_all_modalities_differs_between_tables_1_and_8(
    setting: str, in_table_1: float, in_table_8: float
) -> None:
    """Ledger A21."""
    off = cell("table1", "iemocap", setting, "GCNet") - cell(
        "table8", "iemocap", setting, "GCNet", condition="ALV"
    )
    assert off == pytest.approx(in_table_1 - in_table_8)


def test_fcm_gains_most_without_text_and_loses_with_all_modalities_in_table_10() -> None:
    """Ledger A28."""
    gains = {
        c: cell("table10", "iemocap", "0.5/0.7/0.3", "MMGCN+FCM", condition=c)
        - cell("table10", "iemocap", "0.5/0.7/0.3", "MMGCN", condition=c)
        for c in SUBSETS
    }
    assert sorted(gains, key=gains.__getitem__)[-2:] == ["A", "AV"]
    assert gains["ALV"] == pytest.approx(64.20 - 65.19)


def test_balm_counts_of_mosei_add_up_and_its_global_width_is_a_quarter_of_all_features() -> None:
    counts = published("balm", "table5")
    assert counts[counts["dataset"] == "mosei"].groupby("row")["value"].sum().to_dict() == {
        "dialogues": 2249 + 300 + 676,
        "utterances": 22856,
    }  # the total is in the paper's section C.1
    for dataset, quarter in (
        ("iemocap", (1582 + 1024 + 342) / 4),
        ("mosei", (512 + 1024 + 1024) / 4),
    ):
        dims = [
            cell("table6", dataset, "", f"{m}_dim", "hyperparameter")
            for m in ("audio", "text", "vision")
        ]
        assert (
            sum(dims) / 4 == quarter == cell("table6", dataset, "", "global_dim", "hyperparameter")
        )


def gmm_loss(table: str) -> pd.DataFrame:
    """Accuracies of a table of the GMM-loss paper, rows by data set."""
    return published("gmm_loss", table).pivot(index="row", columns="dataset", values="value")


@pytest.mark.parametrize("table", tables("gmm_loss"))
def test_gmm_loss_accuracies_lie_between_60_and_85_with_one_for_each_row_and_data_set(
    table: str,
) -> None:
    frame = published("gmm_loss", table)
    assert (
        tuple(frame.columns) == COLUMNS
        and set(frame["table"]) == {table}
        and frame["sd"].isna().all()
    )
    assert all(
        text.isascii()
        for column in ("row", "condition", "metric", "note")
        for text in frame[column]
    )
    if table != "fig2":
        assert set(frame["metric"]) == {"accuracy"} and set(frame["dataset"]) == {"crema-d", "ave"}
        assert frame["value"].dropna().between(60, 85).all()
        assert (
            len(frame)
            == {"table1": 20, "table2": 10, "table3": 8}[table]
            == len(frame[["row", "dataset"]].drop_duplicates())
        )


def test_gmm_loss_rows_of_its_own_are_counts_of_one_run_but_for_adam() -> None:
    """Ledger 5.1; of the baselines' cells five are no such count, and their notes say so."""
    for table in ("table1", "table2", "table3"):
        frame = published("gmm_loss", table).dropna(subset="value")
        one_run = [
            is_one_run(v, N_TEST[d]) for v, d in zip(frame["value"], frame["dataset"], strict=True)
        ]
        not_one = {
            tuple(cell)
            for cell in frame[[not one for one in one_run]][["row", "dataset"]].to_numpy()
        }
        assert (
            not_one
            == {
                "table1": {
                    ("Greedy", "crema-d"),
                    ("OPM&OGM", "crema-d"),
                    ("Concat", "ave"),
                    ("OGM-GE", "ave"),
                    ("PMR", "ave"),
                },
                "table2": set(),
                "table3": {("Adam (Reset State)", "crema-d")},
            }[table]
        )
        assert [
            f"not k/{N_TEST[d]}" in note
            for note, d in zip(frame["note"], frame["dataset"], strict=True)
        ] == [not one for one in one_run]


def test_gmm_loss_best_values_are_its_own_in_each_table() -> None:
    ours = {
        "table1": "Ours (Adaptive Loss)",
        "table2": "Ours (Adaptive Loss)",
        "table3": "SGD (Reset State)",
    }
    for table, row in ours.items():
        frame = gmm_loss(table)
        assert frame.loc[row].to_dict() == {"crema-d": 80.65, "ave": 70.90}  # the abstract's
        assert (frame.max() == frame.loc[row]).all()
        drift = (
            published("gmm_loss", table).query("row == @row and dataset == 'ave'")["note"].item()
        )
        assert "70.40" in drift and "H21" in drift
    others = gmm_loss("table1").drop(index=ours["table1"])
    assert others.idxmax().to_dict() == {"crema-d": "MLA", "ave": "PMR"}  # section 4.3
    frame = published("gmm_loss", "table1")
    assert (frame["value"].isna() == (frame["note"] == "the paper prints a dash")).all()
    assert list(frame[frame["value"].isna()]["dataset"]) == ["ave"] * 6


def test_gmm_loss_mixture_of_figure_2_is_whole_and_its_balanced_part_is_near_zero() -> None:
    mixture = published("gmm_loss", "fig2").pivot(
        index="metric", columns="condition", values="value"
    )
    assert mixture.loc["weight"].sum() == pytest.approx(1)
    assert mixture.loc["mean"].to_dict() == {"balanced": 0.0056, "imbalanced": 0.6966}
    assert mixture.loc["weight", "balanced"] == 0.857


MCULORA_FULL = "audio+text+vision"
MCULORA_PAIRS = {"mosei": ("accuracy", "weighted_f1"), "iemocap": ("accuracy", "macro_recall")}


def mculora_cells(table: str) -> pd.DataFrame:
    """A table's lines without its printed gains."""
    frame = published("mculora", table)
    return frame[~frame["metric"].str.startswith("delta")]


def mculora(table: str) -> pd.DataFrame:
    """A table of the MCULoRA paper: test conditions and the printed average by data set, method and metric."""
    return mculora_cells(table).pivot(
        index=["dataset", "row", "metric"], columns="setting", values="value"
    )


def six_and_seven(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over the incomplete test conditions and over all, the latter NaN where the complete one is not printed."""
    cells = frame.drop(columns="average")
    return pd.DataFrame(
        {6: cells.drop(columns=MCULORA_FULL).mean(axis=1), 7: cells.mean(axis=1, skipna=False)}
    )


def terms_of_average(table: str) -> pd.Series:
    """Of how many terms each printed average is the mean: 6, 7, or 0 for neither."""
    found = checked("mculora", "average", table).set_index(["dataset", "row", "metric"])
    return found["rule"].str[-1].astype(int) * (found["verdict"] == RIGHT)


@pytest.mark.parametrize(
    ("table", "rows", "incomplete"),
    [
        (
            "table1",
            {
                "mosei": {"MCTN", "MMIN", "GCNet", "IMDer", "DiCMoR", "MoMKE", "EUAR", "MCULoRA"},
                "iemocap": {"MCTN", "MMIN", "IF-MMIN", "MRAN", "MoMKE", "MCULoRA"},
            },
            {"MCTN", "MMIN", "IF-MMIN", "MRAN"},
        ),
        (
            "table2",
            {d: {"w/o MCLA, w/o DPFT", "w/o DPFT", "w/o MCLA", "MCULoRA"} for d in MCULORA_PAIRS},
            set(),
        ),
    ],
)
def test_mculora_tables_are_grids_but_for_the_dashes_of_the_complete_condition(
    table: str, rows: dict[str, set[str]], incomplete: set[str]
) -> None:
    frame = mculora_cells(table)
    assert tuple(frame.columns) == COLUMNS and set(frame["table"]) == {table}
    assert all(
        text.isascii()
        for column in ("row", "condition", "metric", "note")
        for text in frame[column]
    )
    assert frame["sd"].isna().all() and frame["value"].between(45, 90).all()
    settings = {"average"} | {"+".join(modalities(subset)) for subset in SUBSETS}
    grid = {
        (d, s, row, m)
        for d, names in rows.items()
        for row in names
        for s in settings
        for m in MCULORA_PAIRS[d]
    }
    dashes = {
        ("iemocap", MCULORA_FULL, row, m) for row in incomplete for m in MCULORA_PAIRS["iemocap"]
    }
    found = [tuple(line) for line in frame[["dataset", "setting", "row", "metric"]].to_numpy()]
    assert set(found) == grid - dashes and len(found) == len(grid) - len(dashes)
    assert (
        frame["note"].str.contains("printed IF-MMIM", regex=False) == (frame["row"] == "IF-MMIN")
    ).all()


def test_mculora_averages_of_table_1_mix_means_of_6_and_of_7_and_some_are_neither() -> None:
    """Ledger F16, which leaves MRAN and IF-MMIN out."""
    frame = mculora("table1")
    terms = terms_of_average("table1").groupby(level=["dataset", "row"]).agg(set)
    by_terms = {n: {key for key, found in terms.items() if found == {n}} for n in (6, 7, 0)}
    assert by_terms == {
        6: {("mosei", "MCTN"), ("mosei", "MMIN"), ("iemocap", "MCTN"), ("iemocap", "MRAN")},
        7: {
            ("mosei", "IMDer"),
            ("mosei", "DiCMoR"),
            ("mosei", "MoMKE"),
            ("mosei", "EUAR"),
            ("mosei", "MCULoRA"),
            ("iemocap", "MoMKE"),
            ("iemocap", "MCULoRA"),
        },
        0: {("mosei", "GCNet"), ("iemocap", "MMIN"), ("iemocap", "IF-MMIN")},
    }
    assert sum(map(len, by_terms.values())) == len(terms)  # a row's two metrics agree
    printed, six, seven = (
        column.round(2).to_dict()
        for column in (frame["average"], six_and_seven(frame)[6], six_and_seven(frame)[7].dropna())
    )
    gcnet, mmin = ("mosei", "GCNet", "accuracy"), ("iemocap", "MMIN", "accuracy")
    assert (printed[gcnet], six[gcnet], seven[gcnet]) == (73.10, 72.97, 74.71)
    assert (printed[mmin], six[mmin], seven.get(mmin)) == (64.10, 64.21, None)


def test_mculora_averages_of_table_2_are_all_means_of_7() -> None:
    assert set(terms_of_average("table2")) == {7}


@pytest.mark.parametrize("table", tables("mculora"))
def test_mculora_notes_say_what_each_printed_average_is(table: str) -> None:
    frame, lines = (
        mculora(table),
        mculora_cells(table).set_index(["dataset", "row", "metric"]),
    )
    notes = lines[lines["setting"] == "average"]["note"].to_dict()
    terms, printed, means = (
        terms_of_average(table).to_dict(),
        frame["average"].to_dict(),
        six_and_seven(frame),
    )
    recomputed = {n: means[n].dropna().to_dict() for n in (6, 7)}
    assert len(notes) == len(terms)
    for key, note in notes.items():
        stated = [float(number) for number in re.findall(r"\d+\.\d+", note)]
        if terms[key] == 0:
            assert "neither: mean of 6 is" in note and ("of 7 cannot be" in note) == (
                key not in recomputed[7]
            )
            assert stated == pytest.approx(
                [r[key] for r in recomputed.values() if key in r], abs=HALF_UNIT
            )
        else:
            mean = recomputed[terms[key]][key]
            to_one_decimal = abs(mean - printed[key]) > 0.01 + 1e-9
            assert f"mean of {terms[key]}" in note and "neither" not in note
            assert ("to one decimal" in note) == to_one_decimal
            assert stated == pytest.approx([mean] if to_one_decimal else [], abs=HALF_UNIT)
    others = lines[lines["setting"] != "average"]["note"]
    assert not others.str.contains("mean of", regex=False).any()


def test_mculora_gains_that_the_text_states_are_differences_of_means_of_7() -> None:
    """Ledger F20; like for like, over the six conditions that every row has, the gains are larger."""
    found = checked("mculora", "gain", "table1")
    assert set(found["verdict"]) == {RIGHT}
    others = found["rule"].str.rsplit(" ", n=1).str[-1]
    stated = dict(zip(found["dataset"], zip(others, found["printed"], strict=True), strict=True))
    assert stated == {"mosei": ("EUAR", 2.34), "iemocap": ("MoMKE", 6.04)}
    accuracy = mculora("table1").query("metric == 'accuracy'")
    terms = terms_of_average("table1").xs("accuracy", level="metric")
    over_six = {"mosei": 2.64, "iemocap": 6.63}
    for dataset, (second, gain) in stated.items():
        for column, expected in (
            (accuracy["average"], gain),
            (six_and_seven(accuracy)[6], over_six[dataset]),
        ):
            averages = column.droplevel("metric")[dataset].sort_values()
            assert list(averages.index[-2:]) == [second, "MCULoRA"]
            assert averages["MCULoRA"] - averages[second] == pytest.approx(expected, abs=HALF_UNIT)
        assert terms[dataset, "MCULoRA"] == terms[dataset, second] == 7


@pytest.mark.parametrize("average", ["printed", "of 6"])
def test_mculora_without_dpft_declines_less_than_without_mcla_against_the_text_of_section_4_4(
    average: str,
) -> None:
    """Ledger F17, which quotes the accuracies; the F1 of MOSEI alone goes the text's way."""
    frame = mculora("table2")
    means = (frame["average"] if average == "printed" else six_and_seven(frame)[6]).unstack("row")
    assert (means.idxmin(axis=1) == "w/o MCLA, w/o DPFT").all() and (
        means.idxmax(axis=1) == "MCULoRA"
    ).all()
    assert means[["w/o MCLA", "w/o DPFT"]].idxmin(axis=1).to_dict() == {
        ("mosei", "accuracy"): "w/o MCLA",
        ("mosei", "weighted_f1"): "w/o DPFT",
        ("iemocap", "accuracy"): "w/o MCLA",
        ("iemocap", "macro_recall"): "w/o MCLA",
    }


def test_mculora_accuracy_printed_as_862_9_is_86_29_by_the_average_of_its_row() -> None:
    """Ledger F18."""
    line = (
        mculora("table2")
        .query("dataset == 'mosei' and row == 'w/o DPFT' and metric == 'accuracy'")
        .iloc[0]
    )
    others = line.drop(["average", "audio+text"])
    asked = 7 * line["average"] - others.sum()
    assert line["audio+text"] == 86.29 == pytest.approx(asked, abs=(7 + len(others)) * HALF_UNIT)
    lines = published("mculora", "table2")
    assert list(lines[lines["note"].str.contains("862.9", regex=False)]["value"]) == [86.29]


def test_mculora_printed_gains_are_over_the_best_other_row_but_for_one_cell() -> None:
    """Two of the sixteen cells of Table 1 (IEMOCAP vision and average) cannot be read in our copy."""
    frame = mculora("table1").stack()
    others = frame[frame.index.get_level_values("row") != "MCULoRA"]
    gains = (
        frame.xs("MCULoRA", level="row") - others.groupby(["dataset", "metric", "setting"]).max()
    )
    lines = published("mculora", "table1")
    lines = lines[lines["metric"].str.startswith("delta_")]
    printed = lines.assign(metric=lines["metric"].str.removeprefix("delta_"))
    printed = printed.set_index(["dataset", "metric", "setting"])["value"]
    assert len(printed) == 2 * (16 - 2) and (lines["row"] == "MCULoRA").all()
    assert set(gains.index) - set(printed.index) == {
        ("iemocap", metric, setting)
        for metric in ("accuracy", "macro_recall")
        for setting in ("vision", "average")
    }
    off = (printed - gains).dropna().round(2)
    assert off[off != 0].to_dict() == {("iemocap", "accuracy", "text+vision"): -0.02}
    wrong = checks("mculora").query("kind == 'difference' and verdict == @WRONG")
    slips = wrong[["dataset", "setting", "metric", "printed", "recomputed"]].to_numpy()
    assert [tuple(slip) for slip in slips] == [
        ("iemocap", "text+vision", "delta_accuracy", 3.79, pytest.approx(3.81))
    ]


def test_mculora_leads_in_every_cell_and_its_row_is_the_same_in_both_tables() -> None:
    full = {
        table: mculora(table).query("row == 'MCULoRA'").droplevel("row")
        for table in tables("mculora")
    }
    pd.testing.assert_frame_equal(full["table1"], full["table2"])
    for table, own in full.items():
        assert (mculora(table).groupby(level=["dataset", "metric"]).max() == own).all(axis=None)
        copied = published("mculora", table).query(
            "setting == @MCULORA_FULL and note.str.contains('coincidence')"
        )
        same = own[own[MCULORA_FULL] == own["audio+text"]].index
        assert {tuple(line) for line in copied[["dataset", "metric"]].to_numpy()} == set(same)
        assert set(copied["row"]) == {"MCULoRA"} and set(same) == {
            ("mosei", m) for m in MCULORA_PAIRS["mosei"]
        }


DREAM_ROWS = {
    "table1": {"CubeMLP", "CorrKD", "TransM", "SMIL", "GCNet", "MLPMM", "MSPs", "DREAM"},
    "table2": {"DREAM", "pre-trained", "CubeMLP", "TransM", "GCNet"},
    "table3": {"pre-trained", "DREAM", "total"},
}
DREAM_METRICS = {"table2": {"train_time", "test_time"}, "table3": {"parameters"}}
DREAM_F1 = {"mosi": "weighted_f1", "mosei": "weighted_f1", "iemocap": "f1_mean"}
DREAM_RANGES = {"table1": (35, 90), "table2": (0.9, 4200), "table3": (7e4, 4e6)}
DREAM_INCOMPLETE = ["text", "audio", "vision", "audio+text", "text+vision", "audio+vision"]
DREAM_FULL = "audio+text+vision"

# Where another method is above DREAM: data set and condition; then who is, best first.
DREAM_NOT_BEST = {
    ("mosi", "audio"): ["SMIL", "MSPs", "TransM", "CorrKD", "MLPMM", "GCNet"],
    ("mosi", "text+vision"): ["MLPMM", "GCNet", "CorrKD"],
    ("mosei", "audio+text"): ["GCNet"],
    ("iemocap", "text+vision"): ["SMIL"],
}

# Printed averages that are no mean of the six conditions: as printed, and that mean.
DREAM_AVERAGES_OFF = {
    ("mosi", "CubeMLP"): (56.03, 56.075),
    ("mosi", "MLPMM"): (72.57, 72.533),
    ("mosi", "MSPs"): (72.91, 72.932),
    ("mosei", "MLPMM"): (74.68, 74.715),
    ("mosei", "DREAM"): (78.21, 78.282),
}


def dream() -> pd.DataFrame:
    """Table 1 of the DREAM paper: test conditions and the printed average by data set and method."""
    return published("dream", "table1").pivot(
        index=["dataset", "row"], columns="setting", values="value"
    )


def dream_notes(table: str, text: str) -> set[tuple[str, ...]]:
    """Data set, setting, method and metric of the cells whose note has a text."""
    frame = published("dream", table)
    found = frame[frame["note"].str.contains(text, regex=False)]
    return {tuple(line) for line in found[["dataset", "setting", "row", "metric"]].to_numpy()}


def dream_columns(table: str) -> pd.DataFrame:
    """Tables 2 and 3 of the DREAM paper: methods by data set and metric."""
    return published("dream", table).pivot(
        index="row", columns=["dataset", "metric"], values="value"
    )


@pytest.mark.parametrize(("table", "count"), [("table1", 192), ("table2", 30), ("table3", 9)])
def test_dream_tables_are_full_grids(table: str, count: int) -> None:
    frame = published("dream", table)
    settings = {*DREAM_INCOMPLETE, "average", DREAM_FULL} if table == "table1" else {""}
    grid = {
        (d, s, row, m)
        for d in DREAM_F1
        for s in settings
        for row in DREAM_ROWS[table]
        for m in DREAM_METRICS.get(table, {DREAM_F1[d]})
    }
    found = [tuple(line) for line in frame[["dataset", "setting", "row", "metric"]].to_numpy()]
    assert set(found) == grid and len(found) == len(grid) == count
    assert tuple(frame.columns) == COLUMNS and set(frame["table"]) == {table}
    assert frame["sd"].isna().all() and (frame["condition"] == "").all()
    assert all(text.isascii() for column in ("row", "metric", "note") for text in frame[column])
    assert frame["value"].between(*DREAM_RANGES[table]).all()


def test_dream_tables_are_the_three_that_print_numbers() -> None:
    assert tables("dream") == ["table1", "table2", "table3"]
    assert set(DREAM_INCOMPLETE) | {DREAM_FULL} == {
        "+".join(modalities(subset)) for subset in SUBSETS
    }


def test_dream_notes_say_what_is_open_about_each_f1_and_each_time() -> None:
    frame = published("dream", "table1")
    emotions = frame["note"].str.contains(
        "averaging of F1 over the emotions is not said", regex=False
    )
    zero = frame["note"].str.contains("F1 with or without zero is not said", regex=False)
    assert (emotions == (frame["dataset"] == "iemocap")).all() and (zero == ~emotions).all()
    times = published("dream", "table2")["note"]
    assert times.str.contains("no unit is printed", regex=False).all()


def test_dream_averages_are_means_of_6_but_for_five_and_notes_say_so() -> None:
    frame, notes = (
        dream(),
        published("dream", "table1").query("setting == 'average'").set_index(["dataset", "row"]),
    )
    means = frame[DREAM_INCOMPLETE].mean(axis=1)
    with_full = frame[[*DREAM_INCOMPLETE, DREAM_FULL]].mean(axis=1)
    wrong = (
        checked("dream", "average", "table1")
        .query("verdict == @WRONG")
        .set_index(["dataset", "row"])
    )
    found = {key: (line["printed"], round(line["recomputed"], 3)) for key, line in wrong.iterrows()}
    for key, note in notes["note"].items():
        error = abs(means[key] - frame.loc[key, "average"])
        stated = [float(number) for number in re.findall(r"\d+\.\d+", note)]
        if key in found:
            assert note.startswith("neither: mean of 6 is")
            assert stated == pytest.approx([means[key], with_full[key]], abs=HALF_UNIT)
            assert abs(with_full[key] - frame.loc[key, "average"]) > 2 * HALF_UNIT
        else:
            rounded = error > HALF_UNIT
            assert note.startswith("mean of 6 (" if rounded else "mean of 6;")
            assert ("within the rounding of its terms" in note) == rounded
            assert stated == pytest.approx([means[key]] if rounded else [], abs=HALF_UNIT)
    assert found == DREAM_AVERAGES_OFF and len(notes) == 24
    assert (
        not published("dream", "table1")
        .query("setting != 'average'")["note"]
        .str.contains("mean of")
        .any()
    )


def test_dream_averages_that_do_not_recompute_change_no_rank() -> None:
    frame, second = dream(), {"mosi": "MSPs", "mosei": "MLPMM", "iemocap": "CorrKD"}
    means = frame[DREAM_INCOMPLETE].mean(axis=1)
    for dataset, row in second.items():
        printed, recomputed = (
            list(column[dataset].sort_values().index) for column in (frame["average"], means)
        )
        assert printed == recomputed and printed[-2:] == [row, "DREAM"]


def test_dream_prints_the_average_of_msps_on_mosei_for_mosi_too() -> None:
    frame = dream()
    assert (
        frame.loc[("mosi", "MSPs"), "average"] == frame.loc[("mosei", "MSPs"), "average"] == 72.91
    )
    assert dream_notes("table1", "the same as mosei's") == {
        ("mosi", "average", "MSPs", "weighted_f1")
    }


def test_dream_is_best_in_each_cell_but_four_against_the_text_of_section_4_2() -> None:
    above = {}
    for dataset in DREAM_F1:
        for setting, values in dream().loc[dataset].items():
            better = values[values > values["DREAM"]].sort_values(ascending=False)
            assert (values.drop("DREAM") != values["DREAM"]).all()
            if len(better):
                above[dataset, setting] = list(better.index)
    assert above == DREAM_NOT_BEST
    for key, rank in {("mosi", "audio"): "7th", ("mosi", "text+vision"): "4th"}.items():
        assert len(above[key]) == int(rank[0]) - 1
        assert dream_notes("table1", f"{rank} of 8") == {(*key, "DREAM", "weighted_f1")}
    assert dream_notes("table1", "of 8 against section 4.2") == {
        (d, s, "DREAM", DREAM_F1[d]) for d, s in DREAM_NOT_BEST
    }


def test_dream_gains_that_the_text_states_are_differences_of_its_table() -> None:
    found = checked("dream", "gain", "table1")
    assert set(found["verdict"]) == {RIGHT} and list(found["printed"]) == [6.51, 7.51, 11.04]
    for _, line in found.iterrows():  # each over the second best
        values = dream().loc["iemocap", line["setting"]]
        assert line["rule"].endswith(f"minus {values.drop('DREAM').idxmax()}")


@pytest.mark.parametrize(
    ("dataset", "row", "settings"),
    [
        ("mosi", "MSPs", ["audio", "average"]),
        ("mosei", "MSPs", ["text", "audio", "audio+vision"]),
        ("mosei", "MLPMM", ["vision", "average"]),
        ("mosei", "TransM", [DREAM_FULL]),
        ("iemocap", "MSPs", ["audio", "vision", "audio+vision"]),
        ("iemocap", "SMIL", ["audio+text"]),
        ("iemocap", "GCNet", ["text", DREAM_FULL]),
        ("iemocap", "CorrKD", ["average"]),
    ],
)
def test_dream_underlined_values_are_second(dataset: str, row: str, settings: list[str]) -> None:
    for setting in settings:
        assert dream().loc[dataset, setting].sort_values().index[-2] == row


def test_dream_text_alone_is_better_than_audio_or_vision_alone_for_every_method() -> None:
    """Section 4.2, which calls the distance substantial: DREAM's on MOSEI is the least."""
    frame = dream()
    margin = frame["text"] - frame[["audio", "vision"]].max(axis=1)
    assert margin.idxmin() == ("mosei", "DREAM") and margin.min() == pytest.approx(2.83)


def test_dream_more_modalities_are_better_but_for_thirteen_cells() -> None:
    frame = dream()
    lost: dict[str, set[tuple[str, str, str]]] = {}
    for more in [s for s in frame.columns if "+" in s]:
        for fewer in frame.columns.drop("average"):
            if set(fewer.split("+")) < set(more.split("+")):
                for dataset, row in frame.index[frame[more] <= frame[fewer]]:
                    lost.setdefault(row, set()).add((dataset, more, fewer))
    assert lost == {
        "DREAM": {
            ("mosi", "text+vision", "text"),
            ("mosei", "audio+vision", "audio"),
            ("mosei", "audio+vision", "vision"),
            ("iemocap", "audio+text", "text"),
            ("iemocap", "text+vision", "text"),
        },
        "GCNet": {
            ("mosi", "audio+text", "text"),
            ("mosei", DREAM_FULL, "audio+text"),
            ("iemocap", "text+vision", "text"),
        },
        "SMIL": {("mosei", "audio+text", "text"), ("mosei", "text+vision", "text")},
        "MSPs": {("mosi", "text+vision", "text")},
        "TransM": {("mosei", "text+vision", "text")},
        "CorrKD": {("iemocap", "text+vision", "text")},
    }
    assert sum(map(len, lost.values())) == 13
    same = {
        (*key, more, fewer)
        for key, line in frame.iterrows()
        for more, fewer in itertools.permutations(DREAM_INCOMPLETE, 2)
        if line[more] == line[fewer] and len(more) > len(fewer)
    }
    assert same == {("iemocap", "DREAM", "audio+text", "text")}
    assert dream_notes("table1", "the same as text's: coincidence or copy") == {
        ("iemocap", "audio+text", "DREAM", "f1_mean")
    }


def test_dream_baselines_on_mosei_beside_their_rows_in_ebmc() -> None:
    """DREAM's paper ran its baselines again; of those shared with EBMC's, CorrKD's is lower in every cell."""
    other = published("ebmc", "table3").pivot(index="row", columns="setting", values="value")
    ours = dream().loc["mosei"]
    shared = sorted(set(ours.index) & set(other.index))
    assert shared == ["CorrKD", "CubeMLP", "GCNet", "TransM"]
    less = other.loc[shared, DREAM_INCOMPLETE] - ours.loc[shared, DREAM_INCOMPLETE]
    assert (less.loc["CorrKD"].min(), less.loc["CorrKD"].max()) == pytest.approx((1.27, 1.66))
    lines = less.stack()
    assert list(lines.index[lines.abs() < HALF_UNIT]) == [("TransM", "audio+vision")]
    assert dream_notes("table1", "ebmc's table3") == {
        ("mosei", "audio+vision", "TransM", "weighted_f1")
    }
    above = {s for s in DREAM_INCOMPLETE if other.loc["CorrKD", s] > ours.loc["DREAM", s]}
    assert above == {"text", "audio+text"}


def test_dream_is_slowest_at_test_and_only_cubemlp_trains_faster() -> None:
    times = dream_columns("table2")
    for dataset in DREAM_F1:
        train, test = (
            times[dataset, m].drop("pre-trained").sort_values() for m in ("train_time", "test_time")
        )
        assert test.index[-1] == "DREAM"
        assert list(train.index) == ["CubeMLP", "DREAM", "GCNet", "TransM"]
        assert 1.02 < train["DREAM"] / train["CubeMLP"] < 1.09
    assert dream_notes("table2", "the longest of four though section 4.2 calls") == {
        (d, "", "DREAM", "test_time") for d in DREAM_F1
    }


def test_dream_times_of_the_pretrained_model_are_a_part_of_dreams_most_of_it_at_test() -> None:
    times = dream_columns("table2")
    share = times.loc["pre-trained"] / times.loc["DREAM"]
    assert {key: round(value, 2) for key, value in share.items()} == {
        ("iemocap", "train_time"): 0.12,
        ("mosi", "train_time"): 0.07,
        ("mosei", "train_time"): 0.11,
        ("iemocap", "test_time"): 0.74,
        ("mosi", "test_time"): 0.76,
        ("mosei", "test_time"): 0.57,
    }
    for row, note in {
        "DREAM": "the pre-trained model included",
        "pre-trained": "part of DREAM's",
    }.items():
        assert dream_notes("table2", note) == {
            (d, "", row, m) for d in DREAM_F1 for m in DREAM_METRICS["table2"]
        }


def test_dream_parameters_add_up_and_their_differences_are_whole_layers() -> None:
    """Ledger, section 2: the differences give widths of the features, of DREAM's channels and of the output."""
    counts, totals = (
        dream_columns("table3").droplevel("metric", axis=1),
        checked("dream", "sum", "table3"),
    )
    assert list(totals["row"]) == ["total"] * 3 and set(totals["verdict"]) == {RIGHT}
    assert dream_notes("table3", "without the pre-trained model") == {
        (d, "", "DREAM", "parameters") for d in DREAM_F1
    }
    wider = (74 + 35) - (5 + 20)  # audio and vision of MOSEI and of MOSI
    more = 8 - 1  # two logits for each of four emotions, and one score
    for row, channels, inputs in (("DREAM", 200, 200), ("pre-trained", 192, 225)):
        assert counts.loc[row, "mosei"] - counts.loc[row, "mosi"] == wider * channels
        assert counts.loc[row, "iemocap"] - counts.loc[row, "mosei"] == more * (inputs + 1)


EBMC_PAIRS = {
    f"{name}{zero}" for name in ("accuracy", "weighted_f1") for zero in ("_with_zero", "")
}
EBMC_SCORES = EBMC_PAIRS | {"acc7", "pearson", "mae"}
EBMC_EMOTIONS = ("f1_happy", "f1_sad", "f1_angry", "f1_neutral")
EBMC_CONDITIONS = ("audio", "text", "vision", "audio+vision", "audio+text", "text+vision")
EBMC_ROWS = {
    "table1": {
        "MuLT",
        "Self-MM",
        "ConKI",
        "ConFEDE",
        "CLGSI",
        "MFON",
        "EUAR",
        "GLoMo",
        "DEVA",
        "Semi-IIN",
        "EBMC",
    },
    "table2": {"Self-MM", "MCTN", "TransM", "SMIL", "GCNet", "UMDF", "CorrKD", "DMD", "EBMC"},
    "table3": {"Self-MM", "CubeMLP", "MCTN", "TransM", "GCNet", "DMD", "CorrKD", "EUAR", "EBMC"},
    "table4": {"EBMC", "w/o MSD", "w/o CCE", "w/o EMC", "w/o IMTD"},
    "table5": {"MISA", "Self-MM", "MMIM", "CENET", "TETFN", "TFR-Net", "ALMT", "LNLN", "EBMC"},
    "table6": {"Self-MM", "GLoMo", "EUAR", "EBMC online", "EBMC offline"},
    "table7": {"EBMC", "w/o ||z_m||_2^2", "w/o l_m", "w/o u_m"},
}
EBMC_RANGES = {
    "pearson": (0.4, 0.9),
    "mae": (0.45, 1.25),
    "acc7": (29, 58),
    "hours": (1, 4),
    "minutes": (5, 5),
    "parameters": (6e6, 13e7),
}

# Columns whose best value is another's: table, data set, setting, metric; then who has it, and whether EBMC's is bold.
EBMC_NOT_BEST = {
    ("table1", "mosi", "", "mae"): ("Semi-IIN", False),
    ("table1", "mosei", "", "mae"): ("Semi-IIN", False),
    ("table3", "mosei", "text", "weighted_f1"): ("EUAR", True),  # ledger C21
    ("table5", "mosei", "average", "acc7"): ("CENET", True),  # ledger C20
    ("table5", "mosei", "average", "mae"): ("ALMT", False),  # ledger C20
}


def ebmc(table: str) -> dict[tuple[str, str, str], pd.Series]:
    """The columns of a table of the EBMC paper: by data set, setting and metric the values by method."""
    columns = {}
    for names, group in published("ebmc", table).groupby(
        ["dataset", "setting", "metric"], sort=False
    ):
        dataset, setting, metric = (str(name) for name in names)
        columns[dataset, setting, metric] = group.set_index("row")["value"]
    return columns


def ebmc_notes(table: str, text: str) -> set[tuple[str, ...]]:
    """Data set, setting, method and metric of the cells whose note has a text."""
    frame = published("ebmc", table)
    found = frame[frame["note"].str.contains(text, regex=False)]
    return {tuple(line) for line in found[["dataset", "setting", "row", "metric"]].to_numpy()}


@pytest.mark.parametrize(
    ("table", "datasets", "settings", "metrics", "count"),
    [
        ("table1", {"mosi", "mosei"}, {""}, EBMC_SCORES, 154),
        ("table2", {"iemocap"}, {""}, {*EBMC_EMOTIONS, "f1_mean"}, 45),
        ("table3", {"mosei"}, {*EBMC_CONDITIONS, "average"}, {"weighted_f1"}, 63),
        ("table4", {"mosi", "mosei"}, {""}, EBMC_PAIRS, 40),
        ("table5", {"mosi", "mosei"}, {"average"}, EBMC_SCORES, 126),
        ("table7", {"mosei"}, {""}, {"weighted_f1_with_zero", "weighted_f1", "acc7", "mae"}, 16),
    ],
)
def test_ebmc_tables_are_full_grids(
    table: str, datasets: set[str], settings: set[str], metrics: set[str], count: int
) -> None:
    grid = set(itertools.product(datasets, settings, EBMC_ROWS[table], metrics))
    found = [
        tuple(line)
        for line in published("ebmc", table)[["dataset", "setting", "row", "metric"]].to_numpy()
    ]
    assert set(found) == grid and len(found) == len(grid) == count


@pytest.mark.parametrize("table", tables("ebmc"))
def test_ebmc_rows_are_the_known_ones_and_each_metric_lies_in_its_range(table: str) -> None:
    frame = published("ebmc", table)
    assert (
        tuple(frame.columns) == COLUMNS
        and set(frame["table"]) == {table}
        and set(frame["row"]) == EBMC_ROWS[table]
    )
    assert frame["sd"].isna().all() and (frame["condition"] == "").all()
    assert all(
        text.isascii()
        for column in ("row", "condition", "metric", "note")
        for text in frame[column]
    )
    for metric, values in frame.groupby("metric")["value"]:
        assert values.between(*EBMC_RANGES.get(str(metric), (30, 93))).all(), metric
    assert (
        frame["note"].str.contains("printed SelfMM", regex=False)
        == (frame["row"].eq("Self-MM") & (table in ("table1", "table6")))
    ).all()


def test_ebmc_row_of_its_own_is_the_same_in_each_table() -> None:
    whole = ebmc("table1")
    for table in ("table4", "table7"):
        assert all(values["EBMC"] == whole[key]["EBMC"] for key, values in ebmc(table).items())


def test_ebmc_averages_of_table_2_are_means_over_the_emotions() -> None:
    found = checked("ebmc", "average", "table2")
    assert (
        len(found) == 9
        and set(found["rule"]) == {"mean of 4"}
        and found["off"].abs().le(HALF_UNIT).all()
    )


def test_ebmc_averages_of_table_3_are_means_of_6_but_for_euar() -> None:
    found = checked("ebmc", "average", "table3").set_index("row")
    assert list(found.index[found["verdict"] == WRONG]) == ["EUAR"] and len(found) == 9
    assert found.drop("EUAR")["off"].abs().le(HALF_UNIT).all()
    assert tuple(found.loc["EUAR", ["printed", "recomputed"]]) == (74.50, pytest.approx(74.60))
    assert ebmc_notes("table3", "neither: mean of 6 is 74.60") == {
        ("mosei", "average", "EUAR", "weighted_f1")
    }
    averages = {("mosei", "average", row, "weighted_f1") for row in EBMC_ROWS["table3"]}
    assert ebmc_notes("table3", "mean of 6") == averages


@pytest.mark.parametrize("table", ["table1", "table2", "table3", "table4", "table5", "table7"])
def test_ebmc_is_best_in_each_column_but_five_of_which_two_are_bold_all_the_same(
    table: str,
) -> None:
    best = {
        (table, *key): values.sort_values(ascending=key[2] == "mae").index[0]
        for key, values in ebmc(table).items()
    }
    assert {key: row for key, row in best.items() if row != "EBMC"} == {
        key: row for key, (row, _) in EBMC_NOT_BEST.items() if key[0] == table
    }
    bold = {
        (d, s, "EBMC", m)
        for (t, d, s, m), (_, marked) in EBMC_NOT_BEST.items()
        if t == table and marked
    }
    assert ebmc_notes(table, "in bold though below") == bold


@pytest.mark.parametrize(
    ("table", "key", "row"),
    [
        ("table1", ("mosi", "", "mae"), "ConKI"),
        ("table1", ("mosi", "", "pearson"), "Semi-IIN"),
        ("table1", ("mosei", "", "pearson"), "Semi-IIN"),
        ("table1", ("mosei", "", "acc7"), "Semi-IIN"),
        ("table3", ("mosei", "audio", "weighted_f1"), "GCNet"),
        ("table3", ("mosei", "vision", "weighted_f1"), "EUAR"),
        ("table3", ("mosei", "audio+vision", "weighted_f1"), "CorrKD"),
        ("table3", ("mosei", "audio+text", "weighted_f1"), "EUAR"),
    ],
)
def test_ebmc_underlined_values_are_second(table: str, key: tuple[str, str, str], row: str) -> None:
    assert ebmc(table)[key].sort_values(ascending=key[2] == "mae").index[1] == row


def test_ebmc_gains_that_the_text_states_are_differences_of_its_tables_but_for_three() -> None:
    wrong = {
        ("table1", "mosi", "Semi-IIN"): 3.84,
        ("table1", "mosei", "Semi-IIN"): 1.43,
        ("table4", "mosi", "w/o EMC"): 2.47,
    }
    found = checks("ebmc").query("kind == 'gain'")
    assert len(found) == 16 and (found["verdict"] == WRONG).sum() == 3
    for _, line in found[found["verdict"] == WRONG].iterrows():
        other, real = line["rule"].split("minus ")[1], line["recomputed"]
        assert real == pytest.approx(wrong.pop((line["table"], line["dataset"], other)))
        noted = "EBMC" if line["table"] == "table1" else other
        assert ebmc_notes(line["table"], f"it is {real:.2f}") == {
            (line["dataset"], line["setting"], noted, line["metric"])
        }
    assert not wrong
    emc = ebmc("table4")["mosi", "", "accuracy"]
    assert emc["EBMC"] - emc["w/o EMC"] == pytest.approx(2.43)  # ledger C17
    conki = ebmc("table1")["mosi", "", "acc7"]
    assert (
        conki["EBMC"] - conki.drop("EBMC").max() == pytest.approx(1.91)
        and conki.drop("EBMC").idxmax() == "ConKI"
    )


def test_ebmc_gains_most_in_angry_and_least_in_happy_and_neutral_against_the_text_of_section_4_1() -> (
    None
):
    columns = {
        metric: values
        for (_, _, metric), values in ebmc("table2").items()
        if metric in EBMC_EMOTIONS
    }
    assert {
        metric: round(values["EBMC"] - values.drop("EBMC").max(), 2)
        for metric, values in columns.items()
    } == {"f1_happy": 0.9, "f1_sad": 1.1, "f1_angry": 1.7, "f1_neutral": 0.9}
    assert {metric: values.drop("EBMC").idxmax() for metric, values in columns.items()} == {
        "f1_happy": "DMD",
        "f1_sad": "DMD",
        "f1_angry": "DMD",
        "f1_neutral": "Self-MM",
    }
    assert ebmc_notes("table2", "calls the gain pronounced: 0.90") == {
        ("iemocap", "", "EBMC", "f1_happy")
    }


@pytest.mark.parametrize(("table", "worst"), [("table4", "w/o EMC"), ("table7", "w/o l_m")])
def test_ebmc_without_any_part_is_worse_in_each_cell_and_worst_without_one(
    table: str, worst: str
) -> None:
    for (_, _, metric), values in ebmc(table).items():
        order = values.sort_values(ascending=metric == "mae").index
        assert (order[0], order[-1]) == ("EBMC", worst)


def test_ebmc_more_modalities_are_better_in_table_3_but_for_three_cells_of_two_baselines() -> None:
    columns = {setting: values for (_, setting, _), values in ebmc("table3").items()}
    worse = {
        (row, pair, one)
        for pair in EBMC_CONDITIONS[3:]
        for one in pair.split("+")
        for row in EBMC_ROWS["table3"]
        if columns[pair][row] <= columns[one][row]
    }
    assert worse == {
        ("TransM", "audio+vision", "audio"),
        ("EUAR", "audio+vision", "vision"),
        ("EUAR", "audio+text", "text"),
    }


def test_ebmc_row_of_euar_in_table_3_is_its_f1_without_zero_in_mculora_to_one_decimal_but_for_one_cell() -> (
    None
):
    euar = {setting: values["EUAR"] for (_, setting, _), values in ebmc("table3").items()}
    other = (
        mculora("table1")
        .query("dataset == 'mosei' and row == 'EUAR' and metric == 'weighted_f1'")
        .iloc[0]
    )
    same = [c for c in EBMC_CONDITIONS if euar[c] == round(other[c], 1)]
    assert set(EBMC_CONDITIONS) - set(same) == {"audio+vision"}
    assert euar["audio+vision"] == euar["vision"] == 65.30 and other["audio+vision"] == 65.42
    assert ebmc_notes("table3", "F1 without zero in mculora") == {
        ("mosei", c, "EUAR", "weighted_f1") for c in same
    }
    assert ebmc_notes("table3", "prints 65.42") == {
        ("mosei", "audio+vision", "EUAR", "weighted_f1")
    }
    known = ebmc_notes("table3", "with or without zero is not said")
    assert {row for _, _, row, _ in known} == EBMC_ROWS["table3"] - {"EUAR"} and len(known) == 8 * 7


def test_ebmc_row_of_tetfn_in_table_5_is_the_same_on_both_data_sets_but_for_the_correlation() -> (
    None
):
    """Ledger C18, which calls it identical."""
    tetfn = {key: values["TETFN"] for key, values in ebmc("table5").items()}
    pairs = {
        metric: tuple(tetfn[d, "average", metric] for d in ("mosi", "mosei"))
        for metric in EBMC_SCORES
    }
    assert {metric: pair for metric, pair in pairs.items() if pair[0] != pair[1]} == {
        "pearson": (0.507, 0.508)
    }
    assert len(ebmc_notes("table5", "ledger C18")) == 7


def test_ebmc_numbers_of_table_5_are_better_on_mosei_for_nearly_all_but_in_correlation() -> None:
    """Section C.3 says so of nearly all models, of the curves whose means these are."""
    columns, rows = ebmc("table5"), EBMC_ROWS["table5"] - {"TETFN"}
    not_higher = {
        metric: {
            row
            for row in rows
            if columns["mosei", "average", metric][row] <= columns["mosi", "average", metric][row]
        }
        for metric in EBMC_SCORES
    }
    assert not_higher == {
        "accuracy": {"MISA"},
        "accuracy_with_zero": set(),
        "acc7": set(),
        "weighted_f1": {"MISA"},
        "weighted_f1_with_zero": {"MISA"},
        "pearson": {"MISA", "Self-MM", "MMIM", "ALMT"},
        "mae": rows,
    }


def bounds_means(accuracy: float, negative: int, positive: int) -> bool:
    """Whether the largest F1 bounds means of runs too: its tangent at their mean accuracy lies nowhere below it."""
    grid = np.append(accuracy, np.arange(40.0, 100.1, 0.25))
    most, step = most_weighted_f1(grid, negative, positive), 0.05
    below, above = most_weighted_f1(accuracy + np.array([-step, step]), negative, positive)
    return bool(
        (most <= most[0] + (above - below) / (2 * step) * (grid - accuracy) + HALF_UNIT).all()
    )


@pytest.mark.parametrize(
    ("table", "rows", "count"),
    [
        ("table1", {("mosi", "Self-MM"), ("mosi", "EUAR"), ("mosi", "DEVA")}, 4),
        ("table4", set(), 0),
        ("table5", {(d, row) for d in ("mosi", "mosei") for row in ("ALMT", "LNLN", "EBMC")}, 9),
    ],
)
def test_ebmc_f1_scores_are_possible_beside_their_accuracies_but_for_those_noted(
    table: str, rows: set[tuple[str, str]], count: int
) -> None:
    found, impossible = checked("ebmc", "F1 beside accuracy", table), set()
    assert len(found) == {"table1": 44, "table4": 20, "table5": 36}[table]
    for _, line in found[found["verdict"] == WRONG].iterrows():
        where = (line["dataset"], line["setting"], line["row"], line["metric"])
        accuracy = float(line["rule"].split()[-1])
        assert bounds_means(accuracy, *arithmetic.classes(line["dataset"], line["metric"]))
        assert where in ebmc_notes(table, f"allows {line['recomputed']:.2f} at most")
        impossible.add(where)
    assert impossible == ebmc_notes(table, "the printed accuracy allows")
    assert {(dataset, row) for dataset, _, row, _ in impossible} == rows and len(
        impossible
    ) == count


def test_ebmc_test_clips_agree_with_the_other_papers_counts() -> None:
    negative, zero, positive = arithmetic.SIGNS["mosei"]
    assert negative + positive == N_TEST["mosei"]
    assert negative + zero + positive == cell("table5", "mosei", "test", "utterances", "count")
    share = cell(
        "table10", "mosei", "0.5/0.7/0.3", "MMGCN", condition="A"
    )  # all called positive, so its F1 is too
    f1 = cell("table10", "mosei", "0.5/0.7/0.3", "MMGCN", "weighted_f1", condition="A")
    assert share == pytest.approx(100 * positive / N_TEST["mosei"], abs=HALF_UNIT)
    assert f1 == pytest.approx(2 * share**2 / (100 + share), abs=2 * HALF_UNIT)


def test_ebmc_accuracies_on_mosi_are_of_no_single_run_and_four_are_no_mean_of_five() -> None:
    """Section 4 says five runs, the released scripts have one (E6); each run may have been rounded before the mean."""
    frame = published("ebmc", "table4").query(
        "dataset == 'mosi' and metric.str.startswith('accuracy')"
    )
    sizes = frame["metric"].map({"accuracy": 379 + 277, "accuracy_with_zero": 686})
    assert len(frame) == 10
    assert not any(is_one_run(v, n) for v, n in zip(frame["value"], sizes, strict=True))
    nearest = (frame["value"] * 5 * sizes / 100).round() * 100 / (5 * sizes)
    none = frame[(frame["value"] - nearest).abs() > 2 * HALF_UNIT]
    assert (
        {tuple(line) for line in none[["dataset", "setting", "row", "metric"]].to_numpy()}
        == ebmc_notes("table4", "no mean of five runs")
        == {
            ("mosi", "", "w/o MSD", "accuracy"),
            ("mosi", "", "w/o EMC", "accuracy_with_zero"),
            ("mosi", "", "w/o EMC", "accuracy"),
            ("mosi", "", "w/o IMTD", "accuracy_with_zero"),
        }
    )


def test_ebmc_parameters_online_are_less_than_those_offline_and_bert_base_together() -> None:
    """Section A.4: offline is online without the text encoder, BERT base."""
    width, layers, inner, words, positions, kinds = 768, 12, 3072, 30522, 512, 2
    dense = width * width + width
    layer = 4 * dense + (width * inner + inner) + (inner * width + width) + 4 * width
    bert = (words + positions + kinds) * width + 2 * width + layers * layer + dense
    parameters = (
        published("ebmc", "table6").query("metric == 'parameters'").set_index("row")["value"]
    )
    assert bert == 109_482_240
    assert parameters["EBMC online"] < parameters["EBMC offline"] + bert == 115_866_640
    assert ebmc_notes("table6", "115866640") == {("mosi", "", "EBMC online", "parameters")}
    times = published("ebmc", "table6").query("metric != 'parameters'").set_index("row")
    assert dict(times["metric"]) == {
        row: "minutes" if row == "EBMC offline" else "hours" for row in times.index
    }
    assert (
        len(times) == len(parameters) == 5
        and times["note"].str.contains("300 epochs", regex=False).all()
    )


def test_letters_of_a_subset_become_canonical_names() -> None:
    assert [modalities(s) for s in ("L", "AV", "ALV")] == [
        ("text",),
        ("audio", "vision"),
        ("audio", "text", "vision"),
    ]
    with pytest.raises(InputError, match="modality letter"):
        modalities("AX")


def test_unknown_names_are_refused_with_the_nearest_known_one() -> None:
    assert papers() == ["balm", "dream", "ebmc", "gmm_loss", "mculora"]
    with pytest.raises(InputError, match="'balm'"):
        published("blam", "table1")
    with pytest.raises(InputError, match="'table1"):
        published("balm", "tabel1")


def test_a_caller_cannot_change_what_others_read() -> None:
    mine = published("balm", "table1")
    mine.loc[0, "value"] = -1.0
    assert published("balm", "table1").loc[0, "value"] == 55.97
