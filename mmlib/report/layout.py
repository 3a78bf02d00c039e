"""A comparison (``tables.compare``) set as text, where it is written or shown: its numbers stay numbers until then.

``wide`` is the CSV file's form, ``overview`` the paper's, ``details`` says all that is known of each cell, and
``reading`` is what a notebook shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmlib.report.markup import (
    NOT_BUILT,
    NOTHING,
    escape_markdown,
    escape_words,
    markdown_page,
    markdown_table,
    to_latex,
)
from mmlib.report.stats import TOO_FEW
from mmlib.report.tables import metric, spread_text

ACROSS = 5  # methods side by side in a notebook
WIDE = 16  # columns of an overview
UNITS = {"mae": ", in the labels' unit", "pearson": ""}  # of metrics that are no percentages
PLACE = ["setting", "metric"]


def texts(numbers: pd.DataFrame) -> pd.DataFrame:
    """A comparison in long form: one line per row, setting and metric, and a column of text for all that is known.

    Columns ``paper``, ``ours`` as mean ± sd (n), ``95 % interval``, ``against plain`` (the difference with its
    simultaneous interval), ``verdict``, ``test - valid`` (what selection on test adds), ``paper in our prediction``
    and ``of the best possible``; those that would be empty throughout are left out.
    """
    lines = [{str(k): v for k, v in line.items()} for line in numbers.to_dict("records")]
    shown = numbers[["row", "setting"]].assign(metric=[metric(m).label for m in numbers["metric"]])
    for what, text in TEXTS.items():
        column = [text(line) for line in lines]
        if what == "ours" or any(cell != NOTHING for cell in column):
            shown[what] = column
    return shown


def wide(numbers: pd.DataFrame) -> pd.DataFrame:
    """One line per method; columns ``method`` and ``setting | metric | what``."""
    shown = texts(numbers)
    columns: dict[str, pd.Series] = {}
    for (setting, name), block in shown.groupby(PLACE, sort=False):
        by_row = block.drop(columns=PLACE).set_index("row")
        columns |= {f"{setting} | {name} | {what}": by_row[what] for what in by_row}
    methods = pd.Index(shown["row"].unique(), name="method")
    return pd.DataFrame(columns, index=methods).fillna(NOTHING).reset_index()


def overview(numbers: pd.DataFrame) -> pd.DataFrame:
    """The paper's shape: methods by setting and metric, ours (and the paper's) in each cell."""
    shown = texts(numbers)
    cell = shown["ours"]
    if "paper" in shown:
        both = cell + " (paper: " + shown["paper"] + ")"
        cell = both.where(shown["paper"] != NOTHING, cell)
    columns = {
        title: block.set_index("row")["cell"]
        for title, block in _titled(shown.assign(cell=cell)).groupby("title", sort=False)
    }
    methods = pd.Index(shown["row"].unique(), name="method")
    return pd.DataFrame(columns, index=methods).fillna(NOTHING).reset_index()


def details(numbers: pd.DataFrame) -> pd.DataFrame:
    """Long form: one line per setting, metric and method that was run, with all that is known.

    A table of one setting keeps the methods that were not run, which then have no overview to stand in.
    """
    shown = _titled(texts(numbers))
    if shown["title"].nunique() > 1:
        shown = shown[_was_run(numbers).to_numpy()]
    ordered = shown.sort_values("title", key=_by_appearance, kind="stable", ignore_index=True)
    ordered = ordered.rename(columns={"title": "setting, metric", "row": "method"})
    return ordered[["setting, metric", "method", *(w for w in TEXTS if w in ordered)]]


def markdown(numbers: pd.DataFrame, caption: str, notes: Sequence[str] = ()) -> str:
    """The page of a comparison: the overview, where there is more than one setting and metric, and the details."""
    frames = [details(numbers)]
    whole = overview(numbers)
    settings, methods = len(whole.columns) - 1, len(whole)
    if WIDE < settings > methods:
        whole = whole.set_index("method").T.rename_axis("setting, metric").reset_index()
    if settings > 1:
        frames.insert(0, whole)
    return markdown_page(frames, caption, notes)


def latex(numbers: pd.DataFrame, caption: str, label: str) -> str:
    """One float, or two: the overview and the details, whose labels are ``label`` and ``label-details``."""
    whole = overview(numbers)
    if len(whole.columns) == 2:
        return to_latex(details(numbers), caption, label)
    more = to_latex(details(numbers), f"{caption} Details.", f"{label}-details")
    return f"{to_latex(whole, caption, label)}\n{more}"


def reading(numbers: pd.DataFrame, caption: str, notes: Sequence[str] = ()) -> str:
    """Markdown as a notebook shows it: per metric one line per setting and one column per method that was run.

    With more methods than settings, and more than ``ACROSS``, methods are lines and settings columns.
    A cell has the result, the paper's beside it where the data are the paper's, and below the difference to the own
    plain network with its verdict. Intervals and all else are in the files of the artifact.
    """
    shown = texts(numbers).assign(verdict_alone=numbers["verdict"], code=numbers["metric"])
    lines = [{str(k): v for k, v in line.items()} for line in shown.to_dict("records")]
    cells = shown.assign(cell=[_read_cell(line) for line in lines])
    run = cells[_was_run(numbers).to_numpy()]
    parts = [f"**{escape_words(caption)}**"] if caption else []
    for (label, code), block in run.groupby(["metric", "code"], sort=False):
        parts.append(f"*{escape_markdown(label)}{UNITS.get(str(code), ' (%)')}*")
        settings = cells.loc[cells["code"] == code, "setting"].unique()
        parts.append(markdown_table(_across(block, settings), escaped=True))
    lacking = [row for row in numbers["row"].unique() if row not in set(run["row"])]
    names = ", ".join(map(str, lacking))
    more = [f"{NOT_BUILT.capitalize()}: {names}."] if lacking else []
    parts.append("\n".join(f"- {escape_words(note)}" for note in (*more, *notes)))
    return "\n\n".join(parts) + "\n"


def _titled(shown: pd.DataFrame) -> pd.DataFrame:
    """With the column title: setting and metric, of those that are not empty."""
    titles = [
        ", ".join(part for part in place if part)
        for place in zip(shown["setting"], shown["metric"], strict=True)
    ]
    return shown.assign(title=titles)


def _by_appearance(column: pd.Series) -> pd.Series:
    """A sort key: the place at which each value first stands."""
    return pd.Series(pd.factorize(column)[0], index=column.index)


def _was_run(numbers: pd.DataFrame) -> pd.Series:
    """Which lines have a result, or runs that failed."""
    failed = numbers["failed"] != "" if "failed" in numbers else False
    return (numbers["n"] > 0) | failed


def _across(block: pd.DataFrame, settings: np.ndarray) -> pd.DataFrame:
    """One metric's cells of the methods that were run: settings by methods, or turned where the methods are many."""
    methods = block["row"].unique()
    table = block.pivot(index="setting", columns="row", values="cell").reindex(settings)[methods]
    if len(settings) < len(methods) > ACROSS:
        table = table.T.rename_axis(index="method")
    table = table.fillna(NOTHING).rename_axis(columns=None)
    names = {name: escape_markdown(name) for name in (*table.index, *table.columns)}
    return table.rename(index=names, columns=names).reset_index()


def _read_cell(line: Mapping[str, Any]) -> str:
    """A result as Markdown: ours, the paper's, and below the difference and its verdict."""
    text = escape_markdown(line["ours"])
    if line.get("paper", NOTHING) != NOTHING:
        text += f" (paper: {escape_markdown(line['paper'])})"
    if line.get("verdict", NOTHING) != NOTHING:
        verdict = escape_markdown(line["verdict_alone"])
        text += f"<br>{escape_markdown(line['against plain'])}"
        text += f" **{verdict}**" if line["verdict_alone"] != TOO_FEW else ""
    return text


def _span(low: float, high: float, decimals: int) -> str:
    return NOTHING if math.isnan(low) else f"[{low:.{decimals}f}, {high:.{decimals}f}]"


def _paper_text(line: Mapping[str, Any]) -> str:
    value, sd, d = (
        line.get("paper", math.nan),
        line.get("paper_sd", math.nan),
        metric(line["metric"]).decimals,
    )
    if math.isnan(value):
        return NOTHING
    return f"{value:.{d}f}" if math.isnan(sd) else f"{value:.{d}f} ± {sd:.{d}f}"


def _ours_text(line: Mapping[str, Any]) -> str:
    if line["n"] == 0 and line.get("failed"):
        return str(line["failed"])
    if line["n"] == 0:
        return NOT_BUILT if line["in_paper"] else NOTHING
    text = spread_text(line["mean"], line["sd"], line["n"], metric(line["metric"]).decimals)
    return text + " stale" if line["stale"] else text


def _interval_text(line: Mapping[str, Any]) -> str:
    return _span(line["low"], line["high"], metric(line["metric"]).decimals)


def _difference_text(line: Mapping[str, Any]) -> str:
    d = metric(line["metric"]).decimals
    if math.isnan(line["difference"]):
        return NOTHING
    span = _span(line["difference_low"], line["difference_high"], d)
    return f"{line['difference']:+.{d}f}" + ("" if span == NOTHING else f" {span}")


def _verdict_text(line: Mapping[str, Any]) -> str:
    if line["verdict"] == "undecided" and line["detectable"] > 0:
        return f"undecided (could show {line['detectable']:.{metric(line['metric']).decimals}f})"
    return line["verdict"] or NOTHING


def _gap_text(line: Mapping[str, Any]) -> str:
    return (
        NOTHING
        if math.isnan(line["gap"])
        else f"{line['gap']:+.{metric(line['metric']).decimals}f}"
    )


def _prediction_text(line: Mapping[str, Any]) -> str:
    if line.get("inside") is None:
        return NOTHING
    span = _span(line["prediction_low"], line["prediction_high"], metric(line["metric"]).decimals)
    return ("inside " if line["inside"] else "outside ") + span


def _best_text(line: Mapping[str, Any]) -> str:
    if math.isnan(line.get("share", math.nan)):
        return NOTHING
    about = "about " if line["approximate"] else ""
    return f"{about}{line['share']:.1f} % of {line['best']:.{metric(line['metric']).decimals}f}"


TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "paper": _paper_text,
    "ours": _ours_text,
    "95 % interval": _interval_text,
    "against plain": _difference_text,
    "verdict": _verdict_text,
    "test - valid": _gap_text,
    "paper in our prediction": _prediction_text,
    "of the best possible": _best_text,
}
