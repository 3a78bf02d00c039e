"""The comparison in pictures: the grid, curves against missing rates, ranks, and cost against accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmlib.experiments.comparison import by_setting
from mmlib.experiments.conditions import ALL, framed, in_picture, initials_note
from mmlib.experiments.context import Cell, Context
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
from mmlib.report import figures, fitting, stats
from mmlib.report.artifact import NOT_BUILT, Output

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Choose = Callable[[Context], list[Ground]]
Looks = Mapping[str, Mapping[str, Any]]
HEIGHT, HEAD = 0.23, 1.35  # inches of a line of the grid, and of what is around it
USUAL = len("audio+vision")  # letters below a column for which that has room
NETWORKS = (
    "mmgcn",
    "dream",
    "momke",
    "crossmodal",
    "concat",
    "linear",
)  # a colour and a marker each
DRAWN = (COMPLETE, MIXED)  # trainings of the curves


def look(row: Row) -> dict[str, Any]:
    """A network's colour and marker: hollow and dashed by itself, filled with its method."""
    place = NETWORKS.index(row.stages[-1].backbone.removesuffix("_frames"))
    color = figures.PALETTE[place]
    own = bool(row.against)
    return {
        "color": color,
        "marker": figures.MARKERS[place],
        "linestyle": "-" if own else "--",
        "markerfacecolor": color if own else "white",
    }


def looks(context: Context, ground: Ground) -> Looks:
    """Every row's look, by name."""
    return {row.name: look(row) for row in rows.rows(context, ground)}


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
    """Weighted F1 of every row by training (one panel each) and test condition; means over seeds."""
    frames = {g: frame for g, frame in values(context, cells).items() if not frame.empty}
    if not frames:
        return NOT_BUILT
    panels = [(g, training) for g in frames for training in grounds.trainings(context, g)]
    longest = max(len(column) for g in frames for column in _columns(context, g))
    head = HEAD + fitting.CHARACTER * max(0, longest - USUAL)
    tall = max(len(rows.rows(context, g)) for g in frames) * HEIGHT + head
    figure, axes = figures.panel_grid(len(panels), columns=1, width=figures.DOUBLE, height=tall)
    for axis, (ground, training) in zip(axes, panels, strict=True):
        _panel(axis, context, ground, frames[ground], training)
    numbers = _with_data(context, frames)
    notes = (
        f"{F1}, means over seeds. Columns are test conditions: the observed modalities, "
        f"or missing rates ({grounds.of_rates(context)} where they differ). Compare "
        "methods within a column, and training masks between panels.",
        SAME,
        *dict.fromkeys(
            note for g in frames for note in initials_note(grounds.modalities(context, g))
        ),
        *of_data(context, [g.dataset for g in frames]),
    )
    return Output(None, figure, numbers, _rows_built(numbers), notes, ids(numbers))


def _panel(
    axis: Axes, context: Context, ground: Ground, frame: pd.DataFrame, training: str
) -> None:
    """One training's table, in colours that all panels of its ground share."""
    names = [row.name for row in rows.rows(context, ground)]
    columns = [test for test, _ in grounds.tests(context, ground)]
    trained = frame[frame["training"] == training]
    table = trained.pivot_table(index="row", columns="setting", values="value")
    figures.heatmap(
        axis,
        table.reindex(index=names, columns=columns),
        columns=_columns(context, ground),
        label=F1,
        title=f"{title(context, ground)}; training: {grounds.in_words(context, ground, training)}",
        decimals=0,
        limits=(frame["value"].min(), frame["value"].max()),
    )


def _columns(context: Context, ground: Ground) -> list[str]:
    """The test conditions in as few words as the notes explain."""
    modalities = grounds.modalities(context, ground)
    named = [
        grounds.in_words(context, ground, in_picture(test, modalities))
        for test, _ in grounds.tests(context, ground)
    ]
    return [name.removeprefix(IMBALANCED_RATES).replace(ALL, "all") for name in named]


def _with_data(context: Context, frames: Mapping[Ground, pd.DataFrame]) -> pd.DataFrame:
    """All values together, with the names of their grounds."""
    named = [frame.assign(data=title(context, ground)) for ground, frame in frames.items()]
    return pd.concat(named, ignore_index=True)


def _rows_built(numbers: pd.DataFrame) -> int:
    return len(numbers.groupby(["data", "row"]))


def curves(context: Context, cells: Sequence[Cell]) -> Output:
    """Weighted F1 against the shared missing rate, or the rate of dropped frames, by training."""
    frames = {g: frame for g, frame in values(context, cells).items() if not g.modalities}
    if all(frame.empty for frame in frames.values()):
        return NOT_BUILT
    panels = [(ground, training) for ground in frames for training in DRAWN]
    figure, axes = figures.panel_grid(len(panels), columns=2, width=figures.DOUBLE, height=2.7)
    kept = []
    for axis, (ground, training) in zip(axes, panels, strict=True):
        trained = frames[ground][frames[ground]["training"] == training]
        kept.append(_curves(axis, context, ground, trained, training))
    _one_legend(figure, axes)
    numbers = pd.concat(kept, ignore_index=True)
    notes = (
        "Bold lines are means over seeds, light lines single seeds. One model serves "
        "all rates. At 0 nothing is missing.",
        SAME,
        *of_data(context),
    )
    return Output(None, figure, numbers, _rows_built(numbers), notes, ids(numbers))


def _curves(
    axis: Axes, context: Context, ground: Ground, frame: pd.DataFrame, training: str
) -> pd.DataFrame:
    """One panel; returns what it shows."""
    kind, xlabel = "shared rates", "modalities missing, shared rate (%)"
    if framed(context, ground.dataset):
        kind, xlabel = "frames dropped", "frames dropped (%)"
    group = grounds.groups(context, ground)[kind]
    settings = [ALL, *group]
    drawn = frame[frame["setting"].isin(settings)].assign(data=title(context, ground))
    rates = [0.0, *(round(100 * law.rate, 6) for law in group.values())]
    figures.lines(
        axis,
        rates,
        by_setting(drawn, pd.DataFrame(), settings),
        xlabel=xlabel,
        ylabel=F1,
        title=f"{title(context, ground)}\ntraining: {training}",
        legend=False,
        looks=looks(context, ground),
    )
    axis.set_xticks(rates)
    return drawn


def _one_legend(figure: Any, axes: Sequence[Axes]) -> None:
    """The legend of the panel with most rows, for all."""
    longest = max(axes, key=lambda axis: len(axis.get_legend_handles_labels()[1]))
    figures.shared_legend(figure, longest, columns=4)


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
        _ranked(axis, table, f"{data}\n{count} cells", looks(context, ground))
        lines += [
            {"data": data, "row": row, "seed": seed, "mean rank": value}
            for row in table
            for seed, value in table[row].items()
        ]
    notes = (
        "Mean rank over all training masks and test conditions; 1 is the best. The 95 "
        "% interval is over seeds and holds for these cells only, which are not "
        "independent; it does not extend to other data. Points are seeds.",
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
        _priced(axis, frame, title(context, ground), looks(context, ground))
    _one_legend(figure, axes)
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
    from matplotlib.ticker import FuncFormatter

    with figures.style():
        for line in frame.to_dict("records"):
            form = {**forms[line["row"]], "linestyle": ""}
            spread = [line["low"], line["high"]]
            axis.plot([line["seconds"]] * 2, spread, color=form["color"], linewidth=1)
            axis.plot(line["seconds"], line["value"], markersize=6, label=line["row"], **form)
        axis.set_xscale("log")
        for ticks in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            ticks(FuncFormatter(lambda value, _: f"{value:.2g}"))
        axis.tick_params(axis="x", which="both", length=3, pad=4)  # labels on one line
        figures.finish(axis, "seconds to train a model, all stages", f"mean {F1}", name, "both")
