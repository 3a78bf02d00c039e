"""Comparison tables from hand-made results, against strings worked out by hand."""

from __future__ import annotations

import itertools
import random
import re
from typing import Any

import pandas as pd
import pytest

from mmlib.errors import InputError
from mmlib.report import artifact, layout, markup, tables

SETTING = "(0.5, 0.5, 0.7)"
PLAIN, OURS, ONLY_PAPER = "MMGCN", "MMGCN+BALM", "GCNet"


def results(
    values: dict[str, list[float]], metric: str = "accuracy", selection: str = "valid", **more: Any
) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "run_id": f"{row}-{seed}",
                "row": row,
                "setting": SETTING,
                "seed": seed,
                "fold": None,
                "selection": selection,
                "metric": metric,
                "value": value,
                "stale": False,
                **more,
            }
            for row, per_seed in values.items()
            for seed, value in enumerate(per_seed)
        ]
    )


def published(value: float = 64.39, metric: str = "accuracy") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "row": ONLY_PAPER,
                "setting": SETTING,
                "metric": metric,
                "value": 58.04,
                "sd": None,
                "note": "single run",
                "runs": 1,
            },
            {
                "row": OURS,
                "setting": SETTING,
                "metric": metric,
                "value": value,
                "sd": 0.88,
                "note": "",
                "runs": 5,
            },
        ]
    )


FIVE = {PLAIN: [60.0, 62, 66, 60, 62], OURS: [61.0, 64, 64, 62, 64]}


def both_selections() -> pd.DataFrame:
    return pd.concat(
        [results(FIVE), results({OURS: [value + 0.5 for value in FIVE[OURS]]}, selection="test")],
        ignore_index=True,
    )


def texts(numbers: pd.DataFrame) -> pd.DataFrame:
    return layout.texts(numbers).set_index(["row", "setting", "metric"])


def cell(frame: pd.DataFrame, row: str, what: str, metric: str = "accuracy") -> str:
    return str(frame.loc[(row, SETTING, metric), what])


def test_every_cell_of_a_comparison_by_hand() -> None:
    numbers = tables.compare(
        both_selections(), published(), collection="mosi", baselines={OURS: PLAIN}
    )
    frame = texts(numbers)
    assert list(frame.index.get_level_values("row")) == [ONLY_PAPER, OURS, PLAIN]
    # Ours 61, 64, 64, 62, 64: mean 63, sd sqrt(8 / 4); t(0.975, 4) = 2.77645: 2.77645 sqrt(2) / sqrt(5) = 1.756.
    assert cell(frame, OURS, "ours") == "63.00 ± 1.41 (5)"
    assert cell(frame, OURS, "95 % interval") == "[61.24, 64.76]"
    # Differences 1, 2, -2, 2, 2: mean 1, sd sqrt(12 / 4), half width 2.77645 sqrt(3) / sqrt(5) = 2.151.
    assert cell(frame, OURS, "against plain") == "+1.00 [-1.15, 3.15]"
    assert cell(frame, OURS, "verdict").startswith("undecided (could show ")
    assert cell(frame, OURS, "test - valid") == "+0.50"
    # A mean of five: 2.77645 sqrt(2) sqrt(1/5 + 1/5) = 2.4833.
    assert cell(frame, OURS, "paper") == "64.39 ± 0.88"
    assert cell(frame, OURS, "paper in our prediction") == "inside [60.52, 65.48]"
    assert cell(frame, PLAIN, "against plain") == cell(frame, PLAIN, "paper") == "–"


FEW = "Differences are paired by seed. Of fewer than 5 seeds they have no interval and no verdict."


def test_four_seeds_show_the_difference_without_interval_and_verdict_and_five_show_all() -> None:
    four = {row: values[:4] for row, values in FIVE.items()}  # differences 1, 2, -2, 2
    numbers = tables.compare(results(four), published(), collection="mosi", baselines={OURS: PLAIN})
    frame = texts(numbers)
    assert cell(frame, OURS, "ours") == "62.75 ± 1.50 (4)"  # 61, 64, 64, 62
    assert cell(frame, OURS, "against plain") == "+0.75"
    assert cell(frame, OURS, "verdict") == "too few seeds"
    assert not {"95 % interval", "paper in our prediction"} & set(frame.columns)
    assert tables.remarks(numbers)[0] == FEW
    read = layout.reading(numbers, "", tables.remarks(numbers))
    assert "62.75 ± 1.50 (4) (paper: 64.39 ± 0.88)<br>+0.75 |" in read and f"- {FEW}" in read
    assert "**" not in read and "too few" not in read

    numbers = tables.compare(results(FIVE), collection="mosi", baselines={OURS: PLAIN})
    assert tables.remarks(numbers) == ("Differences are paired by seed, with 95 % intervals.",)
    assert "63.00 ± 1.41 (5)<br>+1.00 [-1.15, 3.15] **undecided** |" in layout.reading(numbers, "")


def test_a_table_with_few_and_enough_seeds_says_how_both_are_read() -> None:
    runs = pd.concat([results(FIVE), results({"other": [60.0, 61]})], ignore_index=True)
    numbers = tables.compare(runs, collection="mosi", baselines={OURS: PLAIN, "other": PLAIN})
    assert tables.remarks(numbers) == (
        FEW,
        "Differences are paired by seed, with simultaneous 95 % intervals for 2 comparisons.",
    )
    frame = texts(numbers)
    assert cell(frame, "other", "95 % interval") == "–"
    assert cell(frame, "other", "against plain") == "-0.50"  # 0 and -1
    assert cell(frame, "other", "verdict") == "too few seeds"
    read = layout.reading(numbers, "")
    assert "<br>-0.50 |" in read and read.count("**") == 2 and "**undecided**" in read


def test_rows_that_only_the_paper_has_read_not_built_yet() -> None:
    numbers = tables.compare(both_selections(), published(), collection="mosi")
    frame = texts(numbers)
    assert (
        cell(frame, ONLY_PAPER, "ours") == "not built yet"
        and cell(frame, ONLY_PAPER, "paper") == "58.04"
    )
    assert tables.rows_built(numbers) == 1
    notes = tables.remarks(numbers, published())
    assert (
        "1 of the paper's 2 cells are not built yet." in notes
        and "Paper: single run (GCNet)." in notes
    )
    nothing = tables.compare(both_selections().iloc[:0], published(), collection="mosi")
    assert tables.rows_built(nothing) == 0
    assert set(texts(nothing)["ours"]) == {"not built yet"}


@pytest.mark.parametrize(
    ("collection", "data"), [("twins", "mosi"), ("a-label", "twin:mosi@quick")]
)
def test_a_published_number_never_stands_beside_twins(collection: str, data: str) -> None:
    planted = 77.77
    runs = both_selections().assign(data=data)
    best = pd.DataFrame(
        [{"setting": SETTING, "metric": "accuracy", "value": 70.0, "approximate": True}]
    )
    numbers = tables.compare(
        runs, published(planted), collection=collection, baselines={OURS: PLAIN}, best=best
    )
    frame = texts(numbers)
    everything = "\n".join(
        [
            numbers.to_csv(),
            frame.to_csv(),
            layout.markdown(numbers, "c", tables.remarks(numbers, published(planted))),
            layout.reading(numbers, "c", tables.remarks(numbers, published(planted))),
            layout.latex(numbers, "c", "l"),
            layout.wide(numbers).to_csv(),
            layout.overview(numbers).to_csv(),
        ]
    )
    assert (
        "77.77" not in everything and "58.04" not in everything and "single run" not in everything
    )
    assert not any("paper" in what for what in frame.columns)
    assert cell(frame, ONLY_PAPER, "ours") == "not built yet"
    assert cell(frame, OURS, "of the best possible") == "about 90.0 % of 70.00"  # 63 of 70
    shown = texts(tables.compare(both_selections(), published(planted), collection="mosi"))
    assert "77.77" in shown.to_csv()  # the same call on other data does show it


def test_lower_is_better_for_mae_and_the_sign_of_the_difference_stays() -> None:
    plain, ours = [0.80, 0.81, 0.82, 0.81, 0.81], [0.70, 0.711, 0.719, 0.71, 0.71]
    runs = results({PLAIN: plain, OURS: ours}, metric="mae")
    best = pd.DataFrame([{"setting": SETTING, "metric": "mae", "value": 0.355}])
    frame = texts(tables.compare(runs, collection="twins", baselines={OURS: PLAIN}, best=best))
    assert cell(frame, OURS, "ours", "MAE") == "0.710 ± 0.007 (5)"
    assert cell(frame, OURS, "verdict", "MAE") == "better"
    # Differences -0.100, -0.099, -0.101, -0.100, -0.100: mean -0.1, sd 0.0007, half width 0.0009.
    assert cell(frame, OURS, "against plain", "MAE") == "-0.100 [-0.101, -0.099]"
    assert cell(frame, OURS, "of the best possible", "MAE") == "50.0 % of 0.355"


def test_one_run_shows_its_value_and_no_spread() -> None:
    frame = texts(
        tables.compare(
            results({OURS: [61.0], PLAIN: [60.0]}), collection="mosi", baselines={OURS: PLAIN}
        )
    )
    assert (
        cell(frame, OURS, "ours") == "61.00 (1)" and cell(frame, OURS, "against plain") == "+1.00"
    )
    assert cell(frame, OURS, "verdict") == "too few seeds"
    assert tables.mean_sd([61.0]) == "61.00 (1)" and tables.mean_sd([60, 62], 1) == "61.0 ± 1.4 (2)"


def test_intervals_are_simultaneous_over_the_comparisons_of_a_metric() -> None:
    two = pd.concat(
        [
            results(FIVE | {"other": [60, 61, 66, 60, 63]}),
            results(FIVE, metric="weighted_f1"),
        ],
        ignore_index=True,
    )
    numbers = tables.compare(two, collection="mosi", baselines={OURS: PLAIN, "other": PLAIN})
    line = numbers[(numbers["row"] == OURS)].set_index("metric")
    assert line.loc["accuracy", "comparisons"] == 2 and line.loc["weighted_f1", "comparisons"] == 1
    # t(1 - 0.05/4, 4) = 3.4954 against 2.7764, both from a printed table; the differences' sd is sqrt(3).
    error = (3 / 5) ** 0.5
    assert line.loc["accuracy", "difference_high"] == pytest.approx(1 + 3.4954 * error, abs=1e-3)
    assert line.loc["weighted_f1", "difference_high"] == pytest.approx(1 + 2.7764 * error, abs=1e-3)
    assert "simultaneous 95 % intervals for 2 comparisons" in tables.remarks(numbers)[0]


def test_stale_runs_are_marked_and_give_way_to_fresh_ones() -> None:
    old = results({OURS: [50.0, 52.0]}).assign(stale=True)
    frame = texts(tables.compare(old, collection="mosi"))
    assert cell(frame, OURS, "ours") == "51.00 ± 1.41 (2) stale"
    mixed = pd.concat([old, results({OURS: [61.0, 63.0]})], ignore_index=True)
    numbers = tables.compare(mixed, collection="mosi")
    assert cell(texts(numbers), OURS, "ours") == "62.00 ± 1.41 (2)"
    assert not any("stale" in note for note in tables.remarks(numbers))


def test_folds_count_once_a_seed() -> None:
    folds = pd.concat(
        [results({OURS: [60.0, 62.0]}).assign(fold=0), results({OURS: [64.0, 62.0]}).assign(fold=1)]
    )
    assert cell(texts(tables.compare(folds, collection="mosi")), OURS, "ours") == "62.00 ± 0.00 (2)"


def test_bad_results_are_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        tables.compare(
            pd.concat([results({OURS: [1.0]}), results({OURS: [2.0]})]), collection="mosi"
        )
    with pytest.raises(InputError, match="no column stale"):
        tables.compare(results({OURS: [1.0]}).drop(columns="stale"), collection="mosi")
    with pytest.raises(InputError, match="Did you mean 'valid'"):
        tables.compare(results({OURS: [1.0]}), collection="mosi", selection="vald")


def test_markdown_has_equal_columns_in_every_line_and_escapes_bars() -> None:
    text = markup.to_markdown(
        pd.DataFrame({"a|b": ["x|y", None], "c": [1.0, float("nan")]}), "A | b", ["note"]
    )
    assert (
        text
        == "**A \\| b**\n\n| a\\|b   | c    |\n|--------|------|\n| x\\|y   | 1.00 |\n| –      | –    |\n\n- note\n"
    )
    two = pd.concat([both_selections(), results({OURS: [61.0]}, metric="weighted_f1")])
    wide = layout.markdown(tables.compare(two, published(), collection="mosi"), "Table 1")
    assert "| 63.00 ± 1.41 (5) (paper: 64.39 ± 0.88) |" in wide  # the overview
    for block in wide.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1


def test_the_reading_form_shows_a_metric_only_where_it_was_measured() -> None:
    elsewhere = results({PLAIN: [50, 52], OURS: [51, 53]}, metric="macro_recall").assign(
        setting="other data"
    )
    numbers = tables.compare(
        pd.concat([results({PLAIN: [60, 62], OURS: [61, 64]}), elsewhere], ignore_index=True),
        None,
        collection="mosi",
        baselines={OURS: PLAIN},
    )
    first, second = layout.reading(numbers, "Caption").split("*macro recall (%)*")
    assert SETTING in first and "other data" not in first and "62.50 ± 2.12 (2)" in first
    assert "other data" in second and SETTING not in second and "52.00 ± 1.41 (2)" in second
    assert "*accuracy (%)*" in first
    scores = tables.compare(results({OURS: [0.7, 0.8]}, metric="mae"), None, collection="mosi")
    assert "*MAE, in the labels' unit*" in layout.reading(scores, "Caption")


def test_latex_escapes_everything_and_balances() -> None:
    frame = pd.DataFrame(
        {"a_b & c": ["50 % of {x}", "-1.5 ± 0.2", r"\input{x}", "[1]"], "m": ["τ", "$", "#", "~^"]}
    )
    text = markup.to_latex(frame, "50 % & more_", "balm table_1")
    assert r"a\_b \& c & m \\" in text and r"50 \% of \{x\} & $\tau$ \\" in text
    assert r"$-$1.5 $\pm$ 0.2 & \$ \\" in text and r"\textbackslash{}input\{x\} & \# \\" in text
    assert r"{[}1] & \textasciitilde{}\textasciicircum{} \\" in text
    assert r"\caption{50 \% \& more\_}" in text and r"\label{tab:balm-table-1}" in text
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}") and text.count(r"\begin") == text.count(r"\end")
    assert text.isascii()


def test_latex_has_a_table_without_rows() -> None:
    text = markup.to_latex(pd.DataFrame({"utterance": [], "truth": []}), "No correction.", "empty")
    assert r"utterance & truth \\" in text and text.count("&") == 1


def record(seed: int = 0, **spec: Any) -> dict[str, Any]:
    base = {
        "data": "mosi",
        "seed": seed,
        "method": "balm",
        "variant": "paper",
        "options": [["tau", 0.4], ["rho", 1.4]],
        "backbone": "mmgcn",
        "backbone_options": [],
        "modalities": [],
        "fold": None,
        "train_mask": {"kind": "shared", "rate": 0.5},
    }
    chosen = {"epoch": {"test": 3}, "metrics": {"test": {"accuracy": 60.5 + seed, "mae": 0.7}}}
    selected = {"valid": chosen, "test": chosen}
    return {"id": f"r{seed}", "spec": base | spec, "selected": selected}


def test_records_become_one_row_per_run_selection_mask_and_metric() -> None:
    failed = {"id": "x", "spec": record()["spec"], "error": "e"}
    frame = tables.records_frame([record(0), record(1, fold=2), failed])
    assert len(frame) == 2 * 2 * 2
    first = frame[
        (frame["run_id"] == "r1") & (frame["selection"] == "test") & (frame["metric"] == "accuracy")
    ].iloc[0]
    assert (
        first["value"] == 61.5
        and first["options"] == "rho=1.4, tau=0.4"
        and first["train_mask"] == "shared(0.5)"
    )
    assert first["fold"] == 2 and first["epoch"] == 3 and not first["stale"]
    own = record(0)
    for chosen in own["selected"].values():
        chosen["epochs"] = {mask: {"accuracy": 7} for mask in chosen["epoch"]}
    epochs = tables.records_frame([own]).set_index("metric")["epoch"]
    assert set(epochs["accuracy"]) == {7} and set(epochs.drop("accuracy")) == {3}
    other = tables.records_frame([record(valid_mask={"kind": "shared", "rate": 0.2})])
    assert set(frame["valid_mask"]) == {"shared(0.5)"} and set(other["valid_mask"]) == {
        "shared(0.2)"
    }
    assert set(other["train_mask"]) == {"shared(0.5)"}


def test_records_csv_is_the_same_for_any_order_of_records() -> None:
    records = [
        record(seed, variant=v) for seed, v in itertools.product(range(3), ("paper", "released"))
    ]
    first = artifact.csv_bytes(tables.records_frame(records))
    random.Random(0).shuffle(records)
    assert artifact.csv_bytes(tables.records_frame(records)) == first
    assert artifact.csv_bytes(tables.records_frame([])).decode().strip() == ",".join(
        tables.RECORD_COLUMNS
    )
