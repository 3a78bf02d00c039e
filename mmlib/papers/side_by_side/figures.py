"""The comparison in pictures: the grid, curves against missing rates, ranks, and cost against accuracy."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmlib.experiments import nature
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.budgets import seeds_in_words
from mmlib.experiments.comparison import by_setting
from mmlib.experiments.conditions import ALL, framed, in_picture, initials_note
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.method_looks import looks
from mmlib.experiments.rows import Row, runs_of
from mmlib.papers.side_by_side import grounds, rows, tables
from mmlib.papers.side_by_side.grounds import (
    COMPLETE,
    IMBALANCED_RATES,
    MIXED,
    Ground,
    by_ground,
)
from mmlib.papers.side_by_side.tables import F1, SAME, TIMED, ids, of_data, title, values
from mmlib.report import figures, fitting, heatmaps, stats
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.colours import FADED, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Choose = Callable[[Context], list[Ground]]
Looks = Mapping[str, Look]
FADED_LINE: Look = {"color": FADED, "marker": "", "linestyle": (0, (1, 1))}  # to compare with
HEIGHT, HEAD = 0.17, 1.25  # inches of a line of the grid, and of what is around it
USUAL = len("audio+vision")  # letters below a column for which that has room
SATURATED = 10.0  # points beyond which the grid's colours change no more
DRAWN = (COMPLETE, MIXED)  # trainings of the curves
ACROSS = len("weighted F1 (%)") + 2  # letters beside a panel of the curves
METHOD, NETWORK = "method", "its network"


def vectors(context: Context) -> list[Ground]:
    """Grounds of one vector an utterance, all modalities."""
    every = grounds.grounds(context)
    return [g for g in every if not g.modalities and not framed(context, g.dataset)]


def sequences(context: Context) -> list[Ground]:
    """Grounds of sequences."""
    return [g for g in grounds.grounds(context) if framed(context, g.dataset)]


def pairs(context: Context) -> list[Ground]:
    """Grounds of two modalities chosen among more."""
    return [g for g in grounds.grounds(context) if g.modalities]


def cells_on(choose: Choose) -> Callable[[Context], list[Cell]]:
    """The cells of some grounds."""
    return lambda context: [cell for g in choose(context) for cell in rows.cells(context, g)]


def lacks(choose: Choose, what: str) -> Callable[[Context], str]:
    """Why an artifact of some grounds cannot be made; empty where it can."""
    return lambda context: "" if choose(context) else f"These data have no {what}."


def grid(context: Context, cells: Sequence[Cell]) -> Output:
    """Every method minus its own network, by training and test condition; mean differences over seeds."""
    frames = {g: frame for g, frame in values(context, cells).items() if not frame.empty}
    if not frames:
        return NOT_BUILT
    grids = {g: differences(context, g, frame) for g, frame in frames.items()}
    counts_of = {
        g: nature.utterances(context, [cell for cell in cells if cell.dataset == g.dataset])
        for g in grids
    }
    figure = _grids(context, {g: of for g, of in grids.items() if len(of)}, counts_of)
    numbers = _with_data(context, frames)
    counts = [seeds for of in grids.values() for seeds in of["seeds"]]
    notes = (
        f"{F1}: a method minus its own network, paired by seed, in points; blue: the method is better. A line is a "
        "method under one training mask, a column a test condition: the observed modalities, or missing rates "
        f"({grounds.of_rates(context)} where they differ). {_of_cells(counts)} The files have every row's own values.",
        SAME,
        *dict.fromkeys(
            note for g in frames for note in initials_note(grounds.modalities(context, g))
        ),
        *of_data(context, [g.dataset for g in frames]),
        *nature.realised(context, cells),
    )
    return Output(None, figure, tables.by_run(numbers), _rows_built(numbers), notes, ids(numbers))


def _of_cells(counts: Sequence[int]) -> str:
    """What the seeds behind the grid's cells allow; counts: of each."""
    known = sorted(set(counts))
    if not known:
        return ""
    mean = f"Cells are means of {seeds_in_words(known)}; colours change no more beyond {SATURATED:g} points."
    if known[-1] < stats.FEWEST:
        return f"{mean} So few have no interval, so no cell has a colour: each may be chance."
    return f"{mean} Grey numbers without a colour: the 95 % interval over seeds includes 0."


def differences(context: Context, ground: Ground, frame: pd.DataFrame) -> pd.DataFrame:
    """Each method minus its network, paired by seed: training, row, setting, difference, seeds, and ``decided``.

    decided: whether there is an interval over seeds, and it leaves out 0. frame: row, training, setting, seed, value.
    """
    by = frame.pivot_table(index=["training", "setting", "seed"], columns="row", values="value")
    lines = []
    for row in rows.rows(context, ground):
        if not row.against or row.name not in by or row.against not in by:
            continue
        apart = (by[row.name] - by[row.against]).dropna().rename("apart")
        cells = apart.groupby(level=["training", "setting"]).agg(list).reset_index()
        for cell in cells.to_dict("records"):
            of = stats.summarise(cell["apart"])
            lines.append(
                {
                    "training": cell["training"],
                    "row": row.name,
                    "setting": cell["setting"],
                    "difference": of.mean,
                    "seeds": of.n,
                    "decided": bool(of.low > 0 or of.high < 0),
                }
            )
    columns = ["training", "row", "setting", "difference", "seeds", "decided"]
    return pd.DataFrame(lines, columns=columns)


def _grids(
    context: Context,
    grids: Mapping[Ground, pd.DataFrame],
    evaluated: Mapping[Ground, Mapping[str, str]],
) -> Figure | None:
    """One panel for each ground, all in one scale of colours; None where no method has its network beside it.

    evaluated: by ground and test condition, the utterances that it is evaluated on, where it leaves some out.
    """
    if not grids:
        return None
    longest = max(len(column) for g in grids for column in _columns(context, g, evaluated[g]))
    head = HEAD + fitting.CHARACTER * max(0, longest - USUAL)
    tall = max(len(_lines(context, g, of)) for g, of in grids.items()) * HEIGHT + head
    figure, axes = figures.panel_grid(len(grids), columns=1, width=figures.DOUBLE, height=tall)
    for axis, (ground, of) in zip(axes, grids.items(), strict=True):
        _panel(axis, context, ground, of, evaluated[ground])
    return figure


def _lines(context: Context, ground: Ground, grid: pd.DataFrame) -> list[tuple[str, str]]:
    """The lines of a ground's panel: (row, training), the trainings of a method together."""
    here = set(zip(grid["row"], grid["training"], strict=True))
    every = [
        (row.name, training)
        for row in rows.rows(context, ground)
        for training in grounds.trainings(context, ground)
    ]
    return [line for line in every if line in here]


def _panel(
    axis: Axes,
    context: Context,
    ground: Ground,
    grid: pd.DataFrame,
    evaluated: Mapping[str, str],
) -> None:
    """A ground's methods minus their networks."""
    lines = _lines(context, ground, grid)
    tests = [test for test, _ in grounds.tests(context, ground)]
    apart, decided = (
        grid.pivot(index=["row", "training"], columns="setting", values=what)
        .reindex(index=pd.MultiIndex.from_tuples(lines), columns=tests)
        .to_numpy()
        for what in ("difference", "decided")
    )
    heatmaps.heatmap(
        axis,
        apart.astype(float),
        [f"{row}, {grounds.in_words(context, ground, training)}" for row, training in lines],
        _columns(context, ground, evaluated),
        label="points",
        title=f"{title(context, ground)}: method minus its network",
        decimals=0,
        limits=(-SATURATED, SATURATED),
        signed=True,
        faded=np.equal(decided, False).astype(bool),  # a cell that is not there is neither
    )
    for place in range(1, len(lines)):
        if lines[place][0] != lines[place - 1][0]:
            axis.axhline(place, color="black", linewidth=0.6)


def _columns(context: Context, ground: Ground, evaluated: Mapping[str, str]) -> list[str]:
    """The test conditions in as few words as the notes explain, with the utterances where some are left out."""
    modalities = grounds.modalities(context, ground)
    named = {
        test: grounds.in_words(context, ground, in_picture(test, modalities))
        for test, _ in grounds.tests(context, ground)
    }
    short = {
        test: name.removeprefix(IMBALANCED_RATES).replace(ALL, "all")
        for test, name in named.items()
    }
    return [f"{name} {evaluated.get(test, '')}".rstrip() for test, name in short.items()]


def _with_data(context: Context, frames: Mapping[Ground, pd.DataFrame]) -> pd.DataFrame:
    """All values together, with the names of their grounds."""
    named = [frame.assign(data=title(context, ground)) for ground, frame in frames.items()]
    return pd.concat(named, ignore_index=True)


def _rows_built(numbers: pd.DataFrame) -> int:
    return len(numbers.groupby(["data", "row"]))


def curves(context: Context, cells: Sequence[Cell]) -> Output:
    """Weighted F1 against the shared missing rate, or the rate of dropped frames: a panel for each method."""
    frames = {g: frame for g, frame in values(context, cells).items() if not g.modalities}
    if all(frame.empty for frame in frames.values()):
        return NOT_BUILT
    methods = {g: [row for row in rows.rows(context, g) if row.against] for g in frames}
    across = max(map(len, methods.values()))
    lines = [(ground, training) for ground in frames for training in DRAWN]
    figure, grid = _empty(len(lines), across)
    kept = []
    for beside, (ground, training) in zip(grid, lines, strict=True):
        trained = frames[ground][frames[ground]["training"] == training]
        first = textwrap.fill(f"{title(context, ground)}, {training}", ACROSS)
        drawn = _curves(beside, context, ground, trained, methods[ground], first)
        kept.append(drawn)
        for unused in beside[len(methods[ground]) :]:
            unused.remove()
    numbers = pd.concat(kept, ignore_index=True)
    _curves_legend(figure, set(numbers["row"]))
    told = figures.told(figures.seeds_of(numbers, "data", "training", "row", "setting"))
    notes = (
        f"{told} Test, at the epoch that validation picks. One model serves all rates. At 0 nothing is missing. The "
        "panels of a line share their scale and are of the data and the training mask that its label names"
        f"{'; grey: the linear model' * (LINEAR.name in set(numbers['row']))}.",
        SAME,
        *of_data(context),
    )
    return Output(None, figure, tables.by_run(numbers), _rows_built(numbers), notes, ids(numbers))


def _empty(down: int, across: int) -> tuple[Figure, list[list[Axes]]]:
    """A figure of small panels, line by line."""
    figure, axes = figures.panel_grid(
        down * across, columns=across, width=figures.DOUBLE, height=1.55
    )
    return figure, [axes[line * across : (line + 1) * across] for line in range(down)]


def _curves(
    beside: Sequence[Axes],
    context: Context,
    ground: Ground,
    frame: pd.DataFrame,
    methods: Sequence[Row],
    name: str,
) -> pd.DataFrame:
    """A ground's panels of one training, a method each with its network; returns what all rows have there."""
    kind, xlabel = "shared rates", "missing (%)"
    if framed(context, ground.dataset):
        kind, xlabel = "frames dropped", "frames dropped (%)"
    group = grounds.groups(context, ground)[kind]
    settings = [ALL, *group]
    drawn = frame[frame["setting"].isin(settings)].assign(data=title(context, ground))
    rates = [0.0, *(round(100 * law.rate, 6) for law in group.values())]
    series = by_setting(drawn, pd.DataFrame(), settings)
    for place, (axis, row) in enumerate(zip(beside, methods, strict=False)):
        shown = {LINEAR.name: series.get(LINEAR.name), row.against: series.get(row.against or "")}
        shown[row.name] = series.get(row.name)
        figures.lines(
            axis,
            rates,
            {str(key): of for key, of in shown.items() if of is not None},
            xlabel=xlabel,
            ylabel=f"{name}\n{F1}" if place == 0 else "",
            title=row.name,
            legend=False,
            looks=looks([row.name, str(row.against)]) | {LINEAR.name: FADED_LINE},
        )
        axis.set_xticks(rates)
    figures.one_scale(beside[: len(methods)])
    return drawn


def _curves_legend(figure: Figure, drawn: Collection[str]) -> None:
    """What is filled, hollow and, where it is among the rows that are drawn, grey in every panel."""
    from matplotlib.lines import Line2D

    forms = {
        METHOD: {"color": "black", "marker": "o"},
        NETWORK: {"color": "black", "marker": "o", "markerfacecolor": "white", "linestyle": "--"},
    } | ({LINEAR.name: FADED_LINE} if LINEAR.name in drawn else {})
    with figures.style():
        handles = [Line2D([], [], label=name, **form) for name, form in forms.items()]
        fitting.legend_columns(figure, handles, 3, loc="outside upper center", handlelength=2.8)


def rank_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean rank by row and seed over all cells that every row has; 1 is the best, ties share theirs.

    Rows of the frame: row, training, setting, seed, value.
    """
    wide = frame.pivot_table(index=["seed", "training", "setting"], columns="row", values="value")
    return wide.dropna().rank(axis=1, ascending=False).groupby("seed").mean()


def ranks(context: Context, cells: Sequence[Cell]) -> Output:
    """Mean rank of every row over all trainings and test conditions, with its interval over seeds."""
    frames = {g: frame for g, frame in values(context, cells).items() if not frame.empty}
    ranked = {ground: rank_table(frame) for ground, frame in frames.items()}
    ranked = {ground: table for ground, table in ranked.items() if len(table)}
    if not ranked:
        return NOT_BUILT
    tall = max(len(table.columns) for table in ranked.values()) * 0.22 + 0.8
    columns = min(2, len(ranked))
    figure, axes = figures.panel_grid(
        len(ranked), columns=columns, height=tall, width=figures.DOUBLE
    )
    lines = []
    for axis, (ground, table) in zip(axes, ranked.items(), strict=True):
        data = title(context, ground)
        count = len(frames[ground][["training", "setting"]].drop_duplicates())
        _ranked(axis, table, f"{data}\n{count} cells", looks(map(str, table)))
        lines += [
            {"data": data, "row": row, "seed": seed, "mean rank": value}
            for row in table
            for seed, value in table[row].items()
        ]
    notes = (
        "Mean rank in weighted F1 over all training masks and test conditions; 1 is the best. What seeds "
        "show holds for these cells only, which are not "
        f"independent; it does not extend to other data. {figures.told(map(len, ranked.values()), 'points')}",
        SAME,
        *of_data(context),
    )
    numbers = pd.DataFrame(lines)
    return Output(None, figure, numbers, numbers["row"].nunique(), notes, ids(*frames.values()))


def _ranked(axis: Axes, table: pd.DataFrame, name: str, forms: Looks) -> None:
    order = table.mean().sort_values().index
    with figures.style():
        for place, row in enumerate(order):
            ranks, form = stats.summarise(table[row]), forms[row]
            axis.plot(ranks.values, [place] * ranks.n, "o", color="#999999", markersize=3, zorder=2)
            if ranks.n > 1:
                ends = [max(ranks.low, 1.0), min(ranks.high, len(order))]
                line = {"color": form["color"], "linestyle": form["linestyle"]}
                axis.plot(ends, [place, place], linewidth=1.3, **line)
            axis.plot(ranks.mean, place, zorder=3, markersize=6, **{**form, "linestyle": ""})
        axis.set_yticks(range(len(order)), list(order))
        axis.set_ylim(len(order) - 0.5, -0.5)
        axis.set_xlim(0.8, len(order) + 0.2)
        figures.whole_ticks(axis)
        figures.finish(axis, "mean rank (1 is the best)", "", name, "x")


def cost(context: Context, cells: Sequence[Cell]) -> Output:
    """Mean weighted F1 over all cells against the seconds that a model takes."""
    frames = values(context, cells)
    made = {
        ground: _costs(context, ground, frames[ground], of_ground)
        for ground, of_ground in by_ground(cells).items()
    }
    made = {ground: frame for ground, frame in made.items() if len(frame)}
    if not made:
        return Output(notes=("Not built yet, or no times in the store.",))
    figure, axes = figures.panel_grid(
        len(made), columns=min(2, len(made)), width=figures.DOUBLE, height=2.7
    )
    for axis, (ground, frame) in zip(axes, made.items(), strict=True):
        _priced(axis, frame, title(context, ground), looks(frame["row"]))
    figures.shared_legend(figure, axes, columns=4)
    numbers = pd.concat(made.values())
    notes = (
        "Mean over all training masks and test conditions; lines span the seeds.",
        TIMED,
        SAME,
        *of_data(context),
    )
    return Output(None, figure, numbers, len(numbers), notes, ids(*frames.values()))


def _costs(
    context: Context, ground: Ground, frame: pd.DataFrame, cells: Sequence[Cell]
) -> pd.DataFrame:
    """Of each row the median seconds of a model, and the mean over its cells with its least and greatest seed."""
    lines = []
    for row in rows.rows(context, ground):
        by_seed = frame[frame["row"] == row.name].groupby("seed")["value"].mean()
        timed = tables.seconds(context, runs_of(cells, row.name))
        if len(by_seed) and timed:
            lines.append(
                {
                    "data": title(context, ground),
                    "row": row.name,
                    "seconds": float(np.median(timed)),
                    "value": by_seed.mean(),
                    "low": by_seed.min(),
                    "high": by_seed.max(),
                }
            )
    return pd.DataFrame(lines)


def _priced(axis: Axes, frame: pd.DataFrame, name: str, forms: Looks) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    with figures.style():
        for line in frame.to_dict("records"):
            form = {**forms[line["row"]], "linestyle": ""}
            spread = [line["low"], line["high"]]
            axis.plot([line["seconds"]] * 2, spread, color=form["color"], linewidth=1)
            axis.plot(line["seconds"], line["value"], markersize=6, label=line["row"], **form)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.tick_params(axis="x", which="both", length=3, pad=4)  # labels on one line
        figures.finish(axis, "seconds to train a model, all stages", f"mean {F1}", name, "both")
