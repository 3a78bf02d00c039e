"""Each method against its own network, as the side by side found it: in sentences, and in one picture."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mmlib import paths
from mmlib.experiments import committed
from mmlib.report import figures as draw
from mmlib.report.markup import escape_markdown
from mmlib.report.stats import DECIDABLE, FEWEST, MARGIN

PAPER, ARTIFACT = "side_by_side", "verdicts"
COLUMNS = ["data", "method", "training", "test", "difference", "n", "verdict"]
LEAKY = "leaky training"
TOO_FEW = f"No comparison of a method with its own network has {FEWEST} seeds yet.\n"


def read(only: str = "") -> pd.DataFrame:
    """The committed comparisons on real data that have enough seeds for a verdict; honest data first.

    only: the one collection to read. Columns: ``COLUMNS``; differences in points of weighted F1.
    """
    frames = [pd.DataFrame(columns=COLUMNS)]
    for name in committed.collections(PAPER):
        path = paths.figures() / name / PAPER / f"{ARTIFACT}-numbers.csv"
        if path.exists() and only in ("", name):
            numbers = pd.read_csv(path)[COLUMNS]
            leaky = f": {LEAKY}" in " ".join(committed.notes(PAPER, name, ARTIFACT))
            frames.append(numbers.assign(data=numbers["data"] + f" ({LEAKY})" * leaky))
    return decidable(pd.concat([f for f in frames if len(f)] or frames, ignore_index=True))


def decidable(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The comparisons with enough seeds for a verdict."""
    return verdicts[verdicts["verdict"].isin(DECIDABLE)]


def sentences(verdicts: pd.DataFrame) -> str:
    """In how many comparisons with its own network a method is better or worse, as Markdown, a sentence a method.

    verdicts: of ``read``, or the numbers of the side by side's ``verdicts``.
    """
    known = decidable(verdicts)
    if known.empty:
        return TOO_FEW
    told = [_of_method(str(name), of) for name, of in known.groupby("method", sort=False)]
    seeds = known.groupby("data", sort=False)["n"].min()
    where = ", ".join(f"{escape_markdown(str(data))} with {n} seeds" for data, n in seeds.items())
    return "\n".join([*told, "", f"Compared on {where}."])


def _of_method(name: str, lines: pd.DataFrame) -> str:
    """How many of a method's comparisons have which verdict, and on which data the decided ones are."""
    counted = []
    for verdict in DECIDABLE:
        data = lines.loc[lines["verdict"] == verdict, "data"]
        where = f" ({escape_markdown(', '.join(data.unique()))})" * (verdict != "undecided")
        counted += [f"{verdict} in {len(data)}{where}"] if len(data) else []
    many = "1 comparison" if len(lines) == 1 else f"{len(lines)} comparisons"
    told = f"{many} with its own network: {', '.join(counted)}."
    return f"- **{escape_markdown(name)}**, {told}"


def closing(run: pd.DataFrame, real: pd.DataFrame) -> str:
    """What one run adds, as Markdown, and how many comparisons on real data are decided.

    run: the numbers of the side by side's ``verdicts``. real: of ``read``.
    """
    told = sentences(run)
    if decidable(run).empty:
        told = f"- This run makes {len(run)} comparisons; for a verdict each needs {FEWEST} seeds (`--seeds`)."
    if real.empty:
        return told
    counts = real["verdict"].value_counts()
    each = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in DECIDABLE)
    return f"{told}\n- Of the {len(real)} comparisons on real data: {each}."


def picture(verdicts: pd.DataFrame) -> draw.Figure:
    """All differences of each method on each data set, a dot each; those that are decided in the verdict's colour."""
    groups = [(names, of) for names, of in verdicts.groupby(["method", "data"], sort=False)]
    groups.sort(key=lambda group: list(verdicts["method"].unique()).index(group[0][0]))
    figure, (axis,) = draw.panel_grid(1, width=draw.DOUBLE, height=0.9 + 0.22 * len(groups))
    with draw.style():
        axis.axvspan(-MARGIN, MARGIN, color="#e8e8e8", zorder=0, linewidth=0)
        axis.axvline(0, color="black", linewidth=0.8, zorder=1)
        for place, (_, of) in enumerate(groups):
            _draw_dots(axis, place, of)
        axis.set_yticks(range(len(groups)), [f"{method}, {data}" for (method, data), _ in groups])
        axis.set_ylim(len(groups) - 0.4, -0.6)
        title = "Every method minus its own network"
        draw.finish(axis, "difference, points of weighted F1", "", title, "x")
    return figure


def _draw_dots(axis: Any, place: int, lines: pd.DataFrame) -> None:
    """One method on one data set: its differences, and how many are decided."""
    counts = lines["verdict"].value_counts()
    for verdict in reversed(DECIDABLE):
        shown = lines.loc[lines["verdict"] == verdict, "difference"]
        color, size = draw.VERDICTS[verdict], 3.5 if verdict == "undecided" else 5
        axis.plot(shown, [place] * len(shown), "o", color=color, alpha=0.7, markersize=size)
    axis.annotate(
        f"{counts.get('better', 0)} better, {counts.get('worse', 0)} worse of {len(lines)}",
        (1.01, place),
        xycoords=("axes fraction", "data"),
        fontsize=7,
        va="center",
        annotation_clip=False,
    )
