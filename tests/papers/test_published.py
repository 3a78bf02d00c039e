"""The transcribed tables against the papers' own arithmetic and the ledger's verified facts."""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction

import pandas as pd
import pytest

from mmlib.errors import InputError
from mmlib.papers.published import COLUMNS, modalities, papers, published, tables

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


def cell(table: str, dataset: str, setting: str, row: str, metric: str = "accuracy", condition: str = "") -> float:
    frame = published("balm", table)
    wanted = {"dataset": dataset, "setting": setting, "row": row, "metric": metric, "condition": condition}
    found = frame[(frame[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    assert len(found) == 1, (table, wanted, len(found))
    return float(found["value"].item())


def values_only(table: str) -> pd.DataFrame:
    """Rows that are results: no printed differences and no printed averages."""
    frame = published("balm", table)
    return frame[~frame["metric"].str.startswith("delta") & (frame["setting"] != "average")
                 & (frame["condition"] != "average")]


def is_one_run(value: float, n: int) -> bool:
    """Whether some number of right answers among n prints as this accuracy."""
    return any(abs(float(Fraction(100 * k, n)) - value) <= HALF_UNIT
               for k in range(math.floor(value * n / 100), math.ceil(value * n / 100) + 1))


@pytest.mark.parametrize(("table", "rows", "datasets", "settings", "conditions", "metrics"), [
    ("table1", 13, 1, 6, 1, 2), ("table2", 12, 1, 6, 1, 2), ("table4", 3, 2, 6, 1, 2), ("table7", 1, 1, 2, 25, 1),
    ("table8", 3, 1, 6, 7, 1), ("table9", 3, 1, 6, 7, 1), ("table10", 2, 2, 1, 7, 2), ("table11", 5, 1, 8, 1, 2),
    ("table12", 5, 1, 8, 1, 2), ("table13", 2, 2, 6, 1, 2), ("table14", 3, 1, 6, 1, 2), ("table15", 3, 1, 6, 1, 2),
])
def test_each_table_is_a_full_grid(
    table: str, rows: int, datasets: int, settings: int, conditions: int, metrics: int
) -> None:
    frame = values_only(table)
    axes = ["row", "dataset", "setting", "condition", "metric"]
    assert tuple(frame[a].nunique() for a in axes) == (rows, datasets, settings, conditions, metrics)
    assert len(frame) == len(frame[axes].drop_duplicates()) == rows * datasets * settings * conditions * metrics


@pytest.mark.parametrize("table", ["table1", "table2", "table13", "table14", "table15"])
def test_imbalanced_settings_are_the_six_permutations(table: str) -> None:
    assert set(values_only(table)["setting"]) == IMR


@pytest.mark.parametrize("table", tables("balm"))
def test_columns_names_and_ranges(table: str) -> None:
    frame = published("balm", table)
    assert tuple(frame.columns) == COLUMNS
    assert set(frame["table"]) == {table}
    assert set(frame["dataset"]) <= {"iemocap", "mosei"}
    assert frame["value"].notna().all()
    assert all(text.isascii() for column in ("row", "condition", "metric", "note") for text in frame[column])
    percent = frame[frame["metric"].isin(["accuracy", "weighted_f1"])]
    assert percent["value"].between(5, 100).all()


def recomputed(row: pd.Series) -> float:
    """A printed difference from the printed values, by the rule that its table states."""
    kind, metric = row["metric"].split("_", 1)
    table, key = row["table"], (row["dataset"], row["setting"])
    own = cell(table, *key, row["row"], metric, row["condition"])
    if table == "table4":
        base = (cell(table, *key, "GCNet", metric) + cell(table, *key, "MMGCN", metric)) / 2
    elif table in ("table14", "table15"):
        base = cell({"table14": "table1", "table15": "table2"}[table], *key, row["row"].removesuffix("-M"), metric)
    elif kind == "delta1":
        frame = published("balm", table)
        group = frame[(frame["note"] == "group 1") & (frame["setting"] == row["setting"]) & (frame["metric"] == metric)]
        base = float(group["value"].mean())
    else:
        base = cell(table, *key, row["row"].split("+")[0], metric, row["condition"])
    return own - base


@pytest.mark.parametrize(("table", "count"), [
    ("table1", 72), ("table2", 72), ("table3", 4), ("table4", 24), ("table14", 18), ("table15", 18),
])
def test_printed_differences_recompute_but_for_the_known_misprints(table: str, count: int) -> None:
    frame = published("balm", table)
    printed = frame[frame["metric"].str.startswith("delta")]
    assert len(printed) == count
    wrong = {}
    for _, row in printed.iterrows():
        difference = recomputed(row)
        if abs(difference - row["value"]) > HALF_UNIT:
            wrong[(table, row["dataset"], row["setting"], row["row"], row["metric"])] = difference
            assert f"recomputes to {difference:.2f}" in row["note"]
        else:
            assert "recomputes" not in row["note"]
    known = {key: value for key, value in MISPRINTS.items() if key[0] == table}
    assert wrong.keys() == known.keys()
    assert all(wrong[key] == pytest.approx(known[key], abs=0.0051) for key in known)


def test_table_3_repeats_the_averages_of_table_10() -> None:
    table3 = published("balm", "table3")
    results = table3[~table3["metric"].str.startswith("delta")]
    assert len(results) == 8
    for _, row in results.iterrows():
        assert cell("table10", row["dataset"], row["setting"], row["row"], row["metric"], "average") == row["value"]


@pytest.mark.parametrize(("table", "average_of", "size", "groups"), [
    ("table8", "setting", 6, ["row", "condition"]), ("table9", "setting", 6, ["row", "condition"]),
    ("table10", "condition", 7, ["dataset", "row", "metric"]),
])
def test_printed_averages_recompute(table: str, average_of: str, size: int, groups: list[str]) -> None:
    frame = published("balm", table)
    for key, group in frame.groupby(groups):
        parts, printed = (group[(group[average_of] == "average") == flag]["value"] for flag in (False, True))
        assert len(parts) == size, key
        assert sum(parts) / size == pytest.approx(printed.item(), abs=HALF_UNIT), key


@pytest.mark.parametrize("table", ["table4", "table10", "table13", "table14", "table15"])
def test_accuracies_of_whole_tables_are_counts_of_right_answers_of_one_run(table: str) -> None:
    frame = values_only(table)
    accuracy = frame[frame["metric"] == "accuracy"]
    assert len(accuracy) >= 18
    assert all(is_one_run(v, N_TEST[d]) for d, v in zip(accuracy["dataset"], accuracy["value"], strict=True))


def test_16_of_18_rows_of_table_8_are_single_runs() -> None:
    rows = [all(is_one_run(v, 1623) for v in g["value"]) for _, g in values_only("table8").groupby(["setting", "row"])]
    assert (sum(rows), len(rows)) == (16, 18)


@pytest.mark.parametrize("table", ["table11", "table12"])
def test_means_of_five_runs_are_not_all_counts_of_one_run(table: str) -> None:
    frame = values_only(table)
    accuracy = frame[frame["metric"] == "accuracy"]
    single = [is_one_run(v, N_TEST[d]) for d, v in zip(accuracy["dataset"], accuracy["value"], strict=True)]
    assert sum(single) < 0.6 * len(single)


@pytest.mark.parametrize(("table", "exact", "inexact"), [
    ("table1", {"GCNet", "MMGCN", "MMDFN", "SDR-GNN", "Ada2I", "MCE"}, {"MMIN", "MoMKE", "Mi-CGA", "RedCore"}),
    ("table2", {"GCNet", "MMGCN", "MMDFN", "SDR-GNN", "Ada2I", "MMIN", "Mi-CGA", "MoMKE"}, {"RedCore"}),
])
def test_baselines_of_tables_1_and_2_are_single_runs(table: str, exact: set[str], inexact: set[str]) -> None:
    frame = values_only(table)
    accuracy = frame[(frame["metric"] == "accuracy") & ~frame["row"].str.contains("BALM", regex=False)]
    n = N_TEST[accuracy["dataset"].iloc[0]]
    single = {row: all(is_one_run(v, n) for v in g["value"]) for row, g in accuracy.groupby("row")}
    assert {row for row, whole in single.items() if whole} == exact
    assert {row for row, whole in single.items() if not whole} == inexact


def test_balm_rows_of_table_1_with_a_spread_still_print_counts_of_one_run() -> None:
    """17 of 18 centres are k/1623; a mean of five runs is a k/1623 about one time in five."""
    frame = values_only("table1")
    centres = frame[(frame["metric"] == "accuracy") & frame["sd"].notna()]["value"]
    assert (sum(is_one_run(v, 1623) for v in centres), len(centres)) == (17, 18)


@pytest.mark.parametrize(("table", "with_spread"), [
    ("table1", 36), ("table2", 36), ("table11", 80), ("table12", 80), ("table4", 0), ("table8", 0), ("table13", 0),
])
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


def test_facts_that_the_ledger_lists() -> None:
    mild = ("0.1/0.1/0.9", "MMGCN"), ("0.1/0.1/0.9", "MMGCN+BALM")
    assert [cell("table4", "iemocap", *key) for key in mild] == [68.02, 65.87]  # A22
    assert cell("table1", "iemocap", "0.7/0.5/0.3", "GCNet+BALM", "delta1_weighted_f1") == 7.76  # A25
    same = [cell("table1", "iemocap", s, "GCNet") - cell("table8", "iemocap", s, "GCNet", condition="ALV")
            for s in ("0.3/0.5/0.7", "0.5/0.3/0.7")]
    assert same == pytest.approx([58.04 - 59.46, 61.61 - 58.60])  # A21
    gains = {c: cell("table10", "iemocap", "0.5/0.7/0.3", "MMGCN+FCM", condition=c)
             - cell("table10", "iemocap", "0.5/0.7/0.3", "MMGCN", condition=c) for c in SUBSETS}
    assert sorted(gains, key=gains.__getitem__)[-2:] == ["A", "AV"]  # A28
    assert gains["ALV"] == pytest.approx(64.20 - 65.19)


def test_data_statistics_and_hyperparameters() -> None:
    counts = published("balm", "table5")
    assert counts[counts["dataset"] == "mosei"].groupby("row")["value"].sum().to_dict() == {
        "dialogues": 2249 + 300 + 676, "utterances": 22856}  # the total is in the paper's section C.1
    for dataset, quarter in (("iemocap", (1582 + 1024 + 342) / 4), ("mosei", (512 + 1024 + 1024) / 4)):
        dims = [cell("table6", dataset, "", f"{m}_dim", "hyperparameter") for m in ("audio", "text", "vision")]
        assert sum(dims) / 4 == quarter == cell("table6", dataset, "", "global_dim", "hyperparameter")


def gmm_loss(table: str) -> pd.DataFrame:
    """Accuracies of a table of the GMM-loss paper, rows by data set."""
    return published("gmm_loss", table).pivot(index="row", columns="dataset", values="value")


@pytest.mark.parametrize("table", tables("gmm_loss"))
def test_gmm_loss_columns_names_and_ranges(table: str) -> None:
    frame = published("gmm_loss", table)
    assert tuple(frame.columns) == COLUMNS and set(frame["table"]) == {table} and frame["sd"].isna().all()
    assert all(text.isascii() for column in ("row", "condition", "metric", "note") for text in frame[column])
    if table != "fig2":
        assert set(frame["metric"]) == {"accuracy"} and set(frame["dataset"]) == {"crema-d", "ave"}
        assert frame["value"].dropna().between(60, 85).all()
        assert len(frame) == {"table1": 20, "table2": 10, "table3": 8}[table] == len(
            frame[["row", "dataset"]].drop_duplicates())


def test_gmm_loss_rows_of_its_own_are_counts_of_one_run_but_for_adam() -> None:
    """Ledger 5.1; of the baselines' cells five are no such count, and their notes say so."""
    for table in ("table1", "table2", "table3"):
        frame = published("gmm_loss", table).dropna(subset="value")
        one_run = [is_one_run(v, N_TEST[d]) for v, d in zip(frame["value"], frame["dataset"], strict=True)]
        not_one = {tuple(cell) for cell in frame[[not one for one in one_run]][["row", "dataset"]].to_numpy()}
        assert not_one == {
            "table1": {("Greedy", "crema-d"), ("OPM&OGM", "crema-d"), ("Concat", "ave"), ("OGM-GE", "ave"),
                       ("PMR", "ave")},
            "table2": set(), "table3": {("Adam (Reset State)", "crema-d")}}[table]
        assert [f"not k/{N_TEST[d]}" in note for note, d in zip(frame["note"], frame["dataset"], strict=True)] == [
            not one for one in one_run]


def test_gmm_loss_best_values_are_its_own_in_each_table() -> None:
    ours = {"table1": "Ours (Adaptive Loss)", "table2": "Ours (Adaptive Loss)", "table3": "SGD (Reset State)"}
    for table, row in ours.items():
        frame = gmm_loss(table)
        assert frame.loc[row].to_dict() == {"crema-d": 80.65, "ave": 70.90}  # the abstract's
        assert (frame.max() == frame.loc[row]).all()
        drift = published("gmm_loss", table).query("row == @row and dataset == 'ave'")["note"].item()
        assert "70.40" in drift and "H21" in drift
    others = gmm_loss("table1").drop(index=ours["table1"])
    assert others.idxmax().to_dict() == {"crema-d": "MLA", "ave": "PMR"}  # section 4.3
    frame = published("gmm_loss", "table1")
    assert (frame["value"].isna() == (frame["note"] == "the paper prints a dash")).all()
    assert list(frame[frame["value"].isna()]["dataset"]) == ["ave"] * 6


def test_gmm_loss_mixture_of_figure_2_is_whole_and_its_balanced_part_is_near_zero() -> None:
    mixture = published("gmm_loss", "fig2").pivot(index="metric", columns="condition", values="value")
    assert mixture.loc["weight"].sum() == pytest.approx(1)
    assert mixture.loc["mean"].to_dict() == {"balanced": 0.0056, "imbalanced": 0.6966}
    assert mixture.loc["weight", "balanced"] == 0.857


MCULORA_FULL = "audio+text+vision"
MCULORA_PAIRS = {"mosei": ("accuracy", "weighted_f1"), "iemocap": ("accuracy", "macro_recall")}


def mculora(table: str) -> pd.DataFrame:
    """A table of the MCULoRA paper: test conditions and the printed average by data set, method and metric."""
    return published("mculora", table).pivot(index=["dataset", "row", "metric"], columns="setting", values="value")


def six_and_seven(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over the incomplete test conditions and over all, the latter NaN where the complete one is not printed."""
    cells = frame.drop(columns="average")
    return pd.DataFrame({6: cells.drop(columns=MCULORA_FULL).mean(axis=1), 7: cells.mean(axis=1, skipna=False)})


def terms_of_average(frame: pd.DataFrame) -> pd.Series:
    """Of how many terms each printed average is the mean: 6, 7, or 0 for neither.

    Terms and average are each rounded by up to half a unit of their last place, so the two differ by at most one.
    A line whose numbers all end in 0 was rounded to one decimal.
    """
    unit = (frame.isna() | (frame.round(1) == frame)).all(axis=1).map({True: 0.1, False: 0.01})
    fits = six_and_seven(frame).sub(frame["average"], axis=0).abs().le(unit + 1e-9, axis=0)
    assert not fits.all(axis=1).any()
    return fits[6] * 6 + fits[7] * 7


@pytest.mark.parametrize(("table", "rows", "incomplete"), [
    ("table1", {"mosei": {"MCTN", "MMIN", "GCNet", "IMDer", "DiCMoR", "MoMKE", "EUAR", "MCULoRA"},
                "iemocap": {"MCTN", "MMIN", "IF-MMIN", "MRAN", "MoMKE", "MCULoRA"}},
     {"MCTN", "MMIN", "IF-MMIN", "MRAN"}),
    ("table2", {d: {"w/o MCLA, w/o DPFT", "w/o DPFT", "w/o MCLA", "MCULoRA"} for d in MCULORA_PAIRS}, set()),
])
def test_mculora_tables_are_grids_but_for_the_dashes_of_the_complete_condition(
    table: str, rows: dict[str, set[str]], incomplete: set[str]
) -> None:
    frame = published("mculora", table)
    assert tuple(frame.columns) == COLUMNS and set(frame["table"]) == {table}
    assert all(text.isascii() for column in ("row", "condition", "metric", "note") for text in frame[column])
    assert frame["sd"].isna().all() and frame["value"].between(45, 90).all()
    settings = {"average"} | {"+".join(modalities(subset)) for subset in SUBSETS}
    grid = {(d, s, row, m) for d, names in rows.items() for row in names for s in settings for m in MCULORA_PAIRS[d]}
    dashes = {("iemocap", MCULORA_FULL, row, m) for row in incomplete for m in MCULORA_PAIRS["iemocap"]}
    found = [tuple(line) for line in frame[["dataset", "setting", "row", "metric"]].to_numpy()]
    assert set(found) == grid - dashes and len(found) == len(grid) - len(dashes)
    assert (frame["note"].str.contains("printed IF-MMIM", regex=False) == (frame["row"] == "IF-MMIN")).all()


def test_mculora_averages_of_table_1_mix_means_of_6_and_of_7_and_some_are_neither() -> None:
    """Ledger F16, which leaves MRAN and IF-MMIN out."""
    frame = mculora("table1")
    terms = terms_of_average(frame).groupby(level=["dataset", "row"]).agg(set)
    by_terms = {n: {key for key, found in terms.items() if found == {n}} for n in (6, 7, 0)}
    assert by_terms == {
        6: {("mosei", "MCTN"), ("mosei", "MMIN"), ("iemocap", "MCTN"), ("iemocap", "MRAN")},
        7: {("mosei", "IMDer"), ("mosei", "DiCMoR"), ("mosei", "MoMKE"), ("mosei", "EUAR"), ("mosei", "MCULoRA"),
            ("iemocap", "MoMKE"), ("iemocap", "MCULoRA")},
        0: {("mosei", "GCNet"), ("iemocap", "MMIN"), ("iemocap", "IF-MMIN")},
    }
    assert sum(map(len, by_terms.values())) == len(terms)  # a row's two metrics agree
    printed, six, seven = (column.round(2).to_dict() for column in (
        frame["average"], six_and_seven(frame)[6], six_and_seven(frame)[7].dropna()))
    gcnet, mmin = ("mosei", "GCNet", "accuracy"), ("iemocap", "MMIN", "accuracy")
    assert (printed[gcnet], six[gcnet], seven[gcnet]) == (73.10, 72.97, 74.71)
    assert (printed[mmin], six[mmin], seven.get(mmin)) == (64.10, 64.21, None)


def test_mculora_averages_of_table_2_are_all_means_of_7() -> None:
    assert set(terms_of_average(mculora("table2"))) == {7}


@pytest.mark.parametrize("table", tables("mculora"))
def test_mculora_notes_say_what_each_printed_average_is(table: str) -> None:
    frame, lines = mculora(table), published("mculora", table).set_index(["dataset", "row", "metric"])
    notes = lines[lines["setting"] == "average"]["note"].to_dict()
    terms, printed, means = terms_of_average(frame).to_dict(), frame["average"].to_dict(), six_and_seven(frame)
    recomputed = {n: means[n].dropna().to_dict() for n in (6, 7)}
    assert len(notes) == len(terms)
    for key, note in notes.items():
        stated = [float(number) for number in re.findall(r"\d+\.\d+", note)]
        if terms[key] == 0:
            assert "neither: mean of 6 is" in note and ("of 7 cannot be" in note) == (key not in recomputed[7])
            assert stated == pytest.approx([r[key] for r in recomputed.values() if key in r], abs=HALF_UNIT)
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
    stated = {"mosei": ("EUAR", 2.34), "iemocap": ("MoMKE", 6.04)}  # sections 1 and 4.3
    accuracy = mculora("table1").query("metric == 'accuracy'")
    terms = terms_of_average(accuracy).droplevel("metric")
    over_six = {"mosei": 2.64, "iemocap": 6.63}
    for dataset, (second, gain) in stated.items():
        for column, expected in (accuracy["average"], gain), (six_and_seven(accuracy)[6], over_six[dataset]):
            averages = column.droplevel("metric")[dataset].sort_values()
            assert list(averages.index[-2:]) == [second, "MCULoRA"]
            assert averages["MCULoRA"] - averages[second] == pytest.approx(expected, abs=HALF_UNIT)
        assert terms[dataset, "MCULoRA"] == terms[dataset, second] == 7


@pytest.mark.parametrize("average", ["printed", "of 6"])
def test_mculora_without_dpft_declines_less_than_without_mcla_against_the_text_of_section_4_4(average: str) -> None:
    """Ledger F17, which quotes the accuracies; the F1 of MOSEI alone goes the text's way."""
    frame = mculora("table2")
    means = (frame["average"] if average == "printed" else six_and_seven(frame)[6]).unstack("row")
    assert (means.idxmin(axis=1) == "w/o MCLA, w/o DPFT").all() and (means.idxmax(axis=1) == "MCULoRA").all()
    assert means[["w/o MCLA", "w/o DPFT"]].idxmin(axis=1).to_dict() == {
        ("mosei", "accuracy"): "w/o MCLA", ("mosei", "weighted_f1"): "w/o DPFT",
        ("iemocap", "accuracy"): "w/o MCLA", ("iemocap", "macro_recall"): "w/o MCLA"}


def test_mculora_accuracy_printed_as_862_9_is_86_29_by_the_average_of_its_row() -> None:
    """Ledger F18."""
    line = mculora("table2").query("dataset == 'mosei' and row == 'w/o DPFT' and metric == 'accuracy'").iloc[0]
    others = line.drop(["average", "audio+text"])
    asked = 7 * line["average"] - others.sum()
    assert line["audio+text"] == 86.29 == pytest.approx(asked, abs=(7 + len(others)) * HALF_UNIT)
    lines = published("mculora", "table2")
    assert list(lines[lines["note"].str.contains("862.9", regex=False)]["value"]) == [86.29]


def test_mculora_leads_in_every_cell_and_its_row_is_the_same_in_both_tables() -> None:
    full = {table: mculora(table).query("row == 'MCULoRA'").droplevel("row") for table in tables("mculora")}
    pd.testing.assert_frame_equal(full["table1"], full["table2"])
    for table, own in full.items():
        assert (mculora(table).groupby(level=["dataset", "metric"]).max() == own).all(axis=None)
        copied = published("mculora", table).query("setting == @MCULORA_FULL and note.str.contains('coincidence')")
        same = own[own[MCULORA_FULL] == own["audio+text"]].index
        assert {tuple(line) for line in copied[["dataset", "metric"]].to_numpy()} == set(same)
        assert set(copied["row"]) == {"MCULoRA"} and set(same) == {("mosei", m) for m in MCULORA_PAIRS["mosei"]}


def test_letters_of_a_subset_become_canonical_names() -> None:
    assert [modalities(s) for s in ("L", "AV", "ALV")] == [
        ("text",), ("audio", "vision"), ("audio", "text", "vision")]
    with pytest.raises(InputError, match="modality letter"):
        modalities("AX")


def test_unknown_names_are_refused_with_the_nearest_known_one() -> None:
    assert papers() == ["balm", "gmm_loss", "mculora"]
    with pytest.raises(InputError, match="'balm'"):
        published("blam", "table1")
    with pytest.raises(InputError, match="'table1"):
        published("balm", "tabel1")


def test_a_caller_cannot_change_what_others_read() -> None:
    mine = published("balm", "table1")
    mine.loc[0, "value"] = -1.0
    assert published("balm", "table1").loc[0, "value"] == 55.97
