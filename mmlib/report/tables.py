"""Comparison tables: our result, its interval, the own backbone without the method, the paper's number.

``compare`` computes, in numbers; the module ``layout`` sets those as text. Published numbers stand beside ours only
where the data are the paper's: never on twins (design, section 6).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mmlib.errors import InputError, unknown_name
from mmlib.masks import describe, law_from_json
from mmlib.names import EMBEDDED, STUDY, TWINS
from mmlib.report import stats
from mmlib.report.markup import NOT_BUILT

SELECTIONS = ("valid", "test", "last")
RESULT_COLUMNS = (
    "run_id",
    "row",
    "setting",
    "seed",
    "fold",
    "selection",
    "metric",
    "value",
    "stale",
)
RECORD_COLUMNS = (
    "data",
    "method",
    "variant",
    "options",
    "backbone",
    "backbone_options",
    "modalities",
    "train_mask",
    "valid_mask",
    "fold",
    "seed",
    "selection",
    "epoch",
    "mask",
    "metric",
    "value",
    "stale",
    "run_id",
)
# What a line says of a cell without results, and where there is nothing to compare it with.
EMPTY_CELL = {
    "n": 0,
    "mean": math.nan,
    "sd": math.nan,
    "low": math.nan,
    "high": math.nan,
    "stale": False,
}
NO_DIFFERENCE = {
    "difference": math.nan,
    "difference_low": math.nan,
    "difference_high": math.nan,
    "verdict": "",
    "detectable": math.nan,
}
Long = dict[tuple[str, str, str, str], pd.Series]


@dataclass(frozen=True)
class Metric:
    """How a metric is shown and judged."""

    label: str
    """What tables call it."""

    decimals: int = 2
    """How many digits are shown after the point."""

    lower_is_better: bool = False
    """As of an error."""

    margin: float = stats.MARGIN
    """Differences up to it do not matter."""


METRICS = {
    "accuracy": Metric("accuracy"),
    "weighted_f1": Metric("weighted F1"),
    "macro_recall": Metric("macro recall"),
    "accuracy_with_zero": Metric("accuracy with zero"),
    "weighted_f1_with_zero": Metric("weighted F1 with zero"),
    "acc7": Metric("accuracy, 7 classes"),
    "mae": Metric("MAE", 3, True, 0.01),
    "pearson": Metric("correlation", 3, False, 0.01),
}


def metric(name: str) -> Metric:
    """How to show a metric; one that ``METRICS`` lacks is taken as a percentage, larger being better."""
    return METRICS.get(name) or Metric(name.replace("f1_", "F1 ").replace("_", " "))


def mean_sd(values: stats.Values, decimals: int = 2) -> str:
    """``mean ± sd (n)``; with one run ``value (1)``."""
    summary = stats.summarise(values)
    return spread_text(summary.mean, summary.sd, summary.n, decimals)


def shows_published(collection: str, data: Iterable[str] = ()) -> bool:
    """Whether a paper's numbers may stand beside these results: not on embedded data, nor on twins under a label."""
    twins = any(str(reference).startswith("twin:") for reference in data)
    return collection not in (TWINS, STUDY, EMBEDDED) and not twins


def compare(
    results: pd.DataFrame,
    published: pd.DataFrame | None = None,
    *,
    collection: str,
    rows: Sequence[str] | None = None,
    baselines: Mapping[str, str] | None = None,
    selection: str = "valid",
    best: pd.DataFrame | None = None,
    comparisons: int | None = None,
    failed: Mapping[tuple[str, str, str], str] | None = None,
) -> pd.DataFrame:
    """The numbers of a table, one line per (row, setting, metric).

    results: columns ``RESULT_COLUMNS``, and ``data`` where known. Where a cell has fresh and stale values, the
        fresh ones count. Folds are averaged within a seed first.
    published: columns row, setting, metric, value, sd, note, and ``runs`` where the paper's number is a mean of
        so many (else of one). On twins it only says which cells the paper has: no value of it is passed on.
    rows: which rows and in which order; else the paper's, then ours.
    baselines: row -> the row of its own plain network, compared by seed.
    best: on twins, columns (row,) setting, metric, value: the best that can be had, and ``approximate`` (bool).
    comparisons: how many comparisons are read together; else as many as the table makes in one metric.
    failed: (row, setting, metric) of cells with runs that failed, to what a cell without any result then says.

    Raises:
        InputError: columns that are lacking, a seed twice in a cell, an unknown selection.
    """
    if selection not in SELECTIONS:
        raise unknown_name("selection", selection, SELECTIONS)
    cells = _cells(results)
    known = _published(published)
    order = _order(cells, known, rows, failed or {})
    with_paper = shows_published(collection, results["data"].unique() if "data" in results else ())
    lines = _lines(cells, order, baselines or {}, selection, comparisons)
    for line in lines:
        key = (line["row"], line["setting"], line["metric"])
        line |= _beside(line, known.get(key), with_paper, best)
        if failed:
            line["failed"] = failed.get(key, "")
    return pd.DataFrame(lines).drop(columns="values", errors="ignore")


def _lines(
    cells: Long,
    order: Sequence[tuple[str, str, str]],
    baselines: Mapping[str, str],
    selection: str,
    comparisons: int | None,
) -> list[dict[str, Any]]:
    """What our own results say of each (row, setting, metric)."""
    in_metric = _comparisons(cells, order, baselines, selection)
    lines = []
    for row, setting, name in order:
        family = comparisons or max(1, in_metric[name])
        lines.append(_line(cells, (row, setting, name), baselines.get(row), selection, family))
    return lines


def _beside(
    line: Mapping[str, Any],
    paper: Mapping[str, Any] | None,
    with_paper: bool,
    best: pd.DataFrame | None,
) -> dict[str, Any]:
    """What a line says of the paper's number, and of the best that can be had."""
    columns: dict[str, Any] = {"in_paper": paper is not None}
    if with_paper:
        columns |= _against_paper(paper, line["values"])
    return columns | _against_best(best, line["row"], line["setting"], line["metric"], line["mean"])


def _comparisons(
    cells: Long,
    order: Iterable[tuple[str, str, str]],
    baselines: Mapping[str, str],
    selection: str,
) -> Counter[str]:
    """By metric, how many cells have results of their row and of its plain network."""
    return Counter(
        name
        for row, setting, name in order
        if (row, setting, name, selection) in cells
        and (baselines.get(row), setting, name, selection) in cells
    )


def rows_built(numbers: pd.DataFrame) -> int:
    """How many of the paper's rows are built in every cell that the paper has."""
    ours = numbers[numbers["in_paper"]]
    return int((ours.groupby("row")["n"].min() > 0).sum()) if len(ours) else 0


def remarks(numbers: pd.DataFrame, published: pd.DataFrame | None = None) -> tuple[str, ...]:
    """What a reader of the table must know: rows and cells not built, stale cells, the family, published notes."""
    notes = []
    compared = numbers[numbers["verdict"] != ""]
    few = compared["verdict"] == stats.TOO_FEW
    if few.any():
        notes.append(
            f"Differences are paired by seed. Of fewer than {stats.FEWEST} seeds they have no interval and no verdict."
        )
    compared = compared[~few]
    if len(compared):
        most = int(compared["comparisons"].max())
        notes.append(
            f"Differences are paired by seed, with simultaneous 95 % intervals for {most} comparisons."
            if most > 1
            else "Differences are paired by seed, with 95 % intervals."
        )
    undone = numbers["in_paper"] & (numbers["n"] == 0)
    lacking = (
        int((undone & (numbers["failed"] == "")).sum())
        if "failed" in numbers
        else int(undone.sum())
    )
    if lacking:
        notes.append(
            f"{lacking} of the paper's {int(numbers['in_paper'].sum())} cells are {NOT_BUILT}."
        )
    if numbers["stale"].any():
        notes.append("Cells marked 'stale' were run with an older version of the code.")
    if published is not None and "paper" in numbers and "note" in published:
        for note, group in published[published["note"].fillna("") != ""].groupby(
            "note", sort=False
        ):
            notes.append(f"Paper: {note} ({', '.join(dict.fromkeys(group['row']))}).")
    return tuple(notes)


def records_frame(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One tidy row per run, selection, test mask and metric; sorted, so equal records give equal files.

    records: the ``content`` of stored records, with ``stale`` added where a record is of an older version; those of
        failed runs, which have no ``selected``, are left out.
    """
    lines = []
    for record in records:
        spec = record["spec"]
        common = {
            "data": spec["data"],
            "method": spec["method"],
            "variant": spec["variant"],
            "options": _pairs_text(spec.get("options")),
            "backbone": spec["backbone"],
            "backbone_options": _pairs_text(spec.get("backbone_options")),
            "modalities": "+".join(spec.get("modalities") or ()),
            "train_mask": describe(law_from_json(spec["train_mask"])),
            "valid_mask": describe(law_from_json(spec.get("valid_mask") or spec["train_mask"])),
            "fold": spec.get("fold"),
            "seed": spec["seed"],
            "stale": bool(record.get("stale", False)),
            "run_id": record["id"],
        }
        for selection, chosen in (record.get("selected") or {}).items():
            for mask, values in chosen["metrics"].items():
                lines += [
                    common
                    | {
                        "selection": selection,
                        "epoch": chosen.get("epochs", {})
                        .get(mask, {})
                        .get(name, chosen["epoch"][mask]),
                        "mask": mask,
                        "metric": name,
                        "value": value,
                    }
                    for name, value in values.items()
                ]
    frame = pd.DataFrame(lines, columns=list(RECORD_COLUMNS))
    frame["fold"], frame["epoch"] = frame["fold"].astype("Int64"), frame["epoch"].astype("Int64")
    return frame.sort_values(list(RECORD_COLUMNS), ignore_index=True)


def _cells(results: pd.DataFrame) -> Long:
    """(row, setting, metric, selection) -> values by seed; the Series' attrs say whether any is stale."""
    lacking = [c for c in RESULT_COLUMNS if c not in results]
    if lacking:
        raise InputError(
            "results",
            f"no column {', '.join(lacking)}",
            ", ".join(RESULT_COLUMNS),
            "Add the columns.",
        )
    keys = ["row", "setting", "metric", "selection"]
    cells: Long = {}
    fresh = results.assign(stale=results["stale"].astype(bool))
    fresh = fresh[fresh["stale"] == fresh.groupby(keys, sort=False)["stale"].transform("min")]
    for names, group in stats.average_folds(fresh).groupby(keys, sort=False):
        row, setting, name, selection = (str(part) for part in names)
        key = (row, setting, name, selection)
        values = group.set_index("seed")["value"].astype(float).sort_index()
        if not values.index.is_unique:
            raise InputError(
                f"results of {', '.join(key)}",
                "a seed twice",
                "one value per seed",
                "Give different runs different rows or settings.",
            )
        values.attrs["stale"] = bool(group["stale"].any())
        cells[key] = values
    return cells


def _published(published: pd.DataFrame | None) -> dict[tuple[str, str, str], dict[str, Any]]:
    if published is None:
        return {}
    lines = published.to_dict("records")
    return {
        (str(p["row"]), str(p["setting"]), str(p["metric"])): {str(k): v for k, v in p.items()}
        for p in lines
    }


def _order(
    cells: Long,
    known: Mapping[tuple[str, str, str], object],
    rows: Sequence[str] | None,
    failed: Mapping[tuple[str, str, str], str],
) -> list[tuple[str, str, str]]:
    keys = [*known, *(key[:3] for key in cells), *failed]
    names, settings, metrics = (list(dict.fromkeys(key[i] for key in keys)) for i in range(3))
    exist = {key[1:] for key in keys}
    columns = [
        (setting, name) for setting in settings for name in metrics if (setting, name) in exist
    ]
    return [(row, setting, name) for row in (rows or names) for setting, name in columns]


def _line(
    cells: Long, key: tuple[str, str, str], plain: str | None, selection: str, family: int
) -> dict[str, Any]:
    row, setting, name = key
    values = cells.get((*key, selection))
    line: dict[str, Any] = {
        "row": row,
        "setting": setting,
        "metric": name,
        "selection": selection,
        **EMPTY_CELL,
        "plain": plain or "",
        **NO_DIFFERENCE,
        "comparisons": family,
        "gap": math.nan,
        "values": values,
    }
    if values is None:
        return line
    line |= _summary(values)
    theirs = cells.get((plain, setting, name, selection)) if plain else None
    if theirs is not None and len(values.index.intersection(theirs.index)):
        line |= _difference(values, theirs, metric(name), family)
        line["stale"] = line["stale"] or theirs.attrs["stale"]
    on_test, on_valid = cells.get((*key, "test")), cells.get((*key, "valid"))
    if on_test is not None and on_valid is not None:
        line["gap"] = float((on_test - on_valid).mean())
    return line


def _summary(values: pd.Series) -> dict[str, Any]:
    summary = stats.summarise(values)
    return {
        "n": summary.n,
        "mean": summary.mean,
        "sd": summary.sd,
        "low": summary.low,
        "high": summary.high,
        "stale": values.attrs["stale"],
    }


def _difference(ours: pd.Series, theirs: pd.Series, shown: Metric, family: int) -> dict[str, Any]:
    sign = -1 if shown.lower_is_better else 1
    paired = stats.paired(sign * ours, sign * theirs, shown.margin, comparisons=family)
    low, high = sorted((sign * paired.low, sign * paired.high))
    return {
        "difference": sign * paired.difference,
        "difference_low": low,
        "difference_high": high,
        "verdict": paired.verdict,
        "detectable": paired.detectable,
    }


def _against_paper(paper: Mapping[str, Any] | None, values: pd.Series | None) -> dict[str, Any]:
    line: dict[str, Any] = {
        "paper": math.nan,
        "paper_sd": math.nan,
        "prediction_low": math.nan,
        "prediction_high": math.nan,
        "inside": None,
    }
    if paper is None or pd.isna(paper["value"]):
        return line
    line |= {"paper": float(paper["value"]), "paper_sd": _number(paper.get("sd"))}
    if values is not None:
        runs = _number(paper.get("runs"))
        of_mean = 1 if math.isnan(runs) else int(runs)
        line["prediction_low"], line["prediction_high"] = stats.prediction_interval(values, of_mean)
        line["inside"] = stats.inside(line["paper"], values, of_mean)
    return line


def _against_best(
    best: pd.DataFrame | None, row: str, setting: str, name: str, mean: float
) -> dict[str, Any]:
    if best is None:
        return {}
    mine = best[(best["setting"] == setting) & (best["metric"] == name)]
    if "row" in best:
        mine = mine[mine["row"] == row]
    value = float(mine["value"].iloc[0]) if len(mine) else math.nan
    approximate = (
        bool(mine["approximate"].iloc[0]) if len(mine) and "approximate" in best else False
    )
    over, under = (value, mean) if metric(name).lower_is_better else (mean, value)
    return {
        "best": value,
        "share": 100 * over / under if under else math.nan,
        "approximate": approximate,
    }


def _number(value: object) -> float:
    return math.nan if value is None or pd.isna(value) else float(value)  # type: ignore[call-overload, arg-type]


def _pairs_text(pairs: Iterable[Sequence[Any]] | None) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(pairs or (), key=str))


def spread_text(mean: float, sd: float, n: int, decimals: int) -> str:
    """``mean ± sd (n)``, without the sd where it is not known."""
    spread = "" if math.isnan(sd) else f" ± {sd:.{decimals}f}"
    return f"{mean:.{decimals}f}{spread} ({n})"
