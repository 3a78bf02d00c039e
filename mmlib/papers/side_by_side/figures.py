"""The comparison in pictures: the grid, curves against missing rates, ranks, and cost against accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mmlib.experiments import stages
from mmlib.experiments.comparison import by_setting
from mmlib.experiments.context import Context
from mmlib.papers.side_by_side import runs
from mmlib.papers.side_by_side.runs import Ground
from mmlib.papers.side_by_side.tables import F1, SAME, TIMED, ids, of_data, seconds, title, values
from mmlib.report import figures, stats
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

Choose = Callable[[Context], list[Ground]]
HEIGHT, HEAD = 0.23, 1.35  # inches of a line of the grid, and of what is around it
NETWORKS = ("mmgcn", "dream", "momke", "crossmodal", "concat")  # a colour and a marker each


def look(row: runs.Row) -> dict[str, Any]:
    """A network's colour and marker; hollow and dashed by itself, filled with its method."""
    place = NETWORKS.index(row.backbone.removesuffix("_frames"))
    color = figures.PALETTE[place]
    return {"color": color, "marker": figures.MARKERS[place], "linestyle": "-" if row.own else "--",
            "markerfacecolor": color if row.own else "white"}


def looks(context: Context, ground: Ground) -> dict[str, dict[str, Any]]:
    """Every row's look, by name."""
    return {row.name: look(row) for row in runs.rows(context, ground)}


def vectors(context: Context) -> list[Ground]:
    """Grounds of one vector an utterance, all modalities."""
    return [g for g in runs.grounds(context) if not g.modalities and not stages.framed(context, g.dataset)]


def sequences(context: Context) -> list[Ground]:
    """Grounds of sequences."""
    return [g for g in runs.grounds(context) if stages.framed(context, g.dataset)]


def pairs(context: Context) -> list[Ground]:
    """Grounds of two modalities chosen among more."""
    return [g for g in runs.grounds(context) if g.modalities]


def specs_of(choose: Choose) -> Callable[[Context], list[RunSpec]]:
    """The runs behind some grounds."""
    return lambda context: [s for g in choose(context) for s in runs.specs_of(context, g)]


def lacks(choose: Choose, what: str) -> Callable[[Context], str]:
    """Why an artifact of some grounds cannot be made; empty where it can."""
    return lambda context: "" if choose(context) else f"These data have no {what}."


def grid(choose: Choose) -> Callable[[Context], Output]:
    """Weighted F1 of every row by training (one panel each) and test condition; means over seeds."""
    def make(context: Context) -> Output:
        found = {g: values(context, g) for g in choose(context)}
        found = {g: frame for g, frame in found.items() if not frame.empty}
        if not found:
            return Output(notes=("Not built yet.",))
        panels = [(g, training) for g in found for training in runs.trainings(context, g)]
        tall = max(len(runs.rows(context, g)) for g in found) * HEIGHT + HEAD
        figure, axes = figures.panel_grid(len(panels), columns=1, width=figures.DOUBLE, height=tall)
        for axis, (ground, training) in zip(axes, panels, strict=True):
            frame = found[ground]
            limits = frame["value"].min(), frame["value"].max()
            _panel(axis, context, ground, frame[frame["training"] == training], limits,
                   f"{title(context, ground)}; training: {training}")
        numbers = pd.concat([f.assign(data=title(context, g)) for g, f in found.items()], ignore_index=True)
        notes = (f"{F1}, means over seeds; columns are test conditions: what is observed, or missing rates "
                 "(of audio, text and vision where they differ). Read down a column to compare methods, across panels "
                 "to see what a training protocol is worth.", SAME,
                 *of_data(context, [g.dataset for g in found]))
        return Output(figure=figure, numbers=numbers, rows_built=len(numbers.groupby(["data", "row"])), notes=notes,
                      run_ids=ids(numbers))
    return make


def _panel(axis: Axes, context: Context, ground: Ground, frame: pd.DataFrame, limits: tuple[float, float],
           name: str) -> None:
    names = [row.name for row in runs.rows(context, ground)]
    columns = [test for test, _ in runs.tests(context, ground)]
    table = frame.pivot_table(index="row", columns="setting", values="value").reindex(index=names, columns=columns)
    figures.heatmap(axis, table, label=F1, title=name, decimals=0, limits=limits)
    axis.set_xticklabels([c.replace("imbalanced ", "").replace("all modalities", "all") for c in columns], rotation=40,
                         ha="right", fontsize=6.5)


def curves(context: Context) -> Output:
    """Weighted F1 against the shared missing rate, or the rate of dropped frames, by training."""
    shown_trainings = (runs.COMPLETE, runs.MIXED)
    panels = [(g, t) for g in runs.grounds(context) if not g.modalities for t in shown_trainings]
    found = {g: values(context, g) for g, _ in panels}
    if all(frame.empty for frame in found.values()):
        return Output(notes=("Not built yet.",))
    figure, axes = figures.panel_grid(len(panels), columns=2, width=figures.DOUBLE, height=2.7)
    kept = []
    for axis, (ground, training) in zip(axes, panels, strict=True):
        framed = stages.framed(context, ground.dataset)
        kind = "frames dropped" if framed else "shared rates"
        group = runs.groups(context, ground)[kind]
        settings = [runs.ALL, *group]
        frame = found[ground][(found[ground]["training"] == training) & found[ground]["setting"].isin(settings)]
        rates = [0.0, *(round(100 * law.rate, 6) for law in group.values())]
        figures.lines(axis, rates, by_setting(frame, pd.DataFrame(), settings),
                      xlabel="frames dropped (%)" if framed else "modalities missing, shared rate (%)", ylabel=F1,
                      title=f"{title(context, ground)}\ntraining: {training}", legend=False,
                      looks=looks(context, ground))
        axis.set_xticks(rates)
        kept.append(frame.assign(data=title(context, ground)))
    longest = max(axes, key=lambda a: len(a.get_legend_handles_labels()[1]))
    figures.shared_legend(figure, longest, columns=4)
    numbers = pd.concat(kept, ignore_index=True)
    notes = ("Bold: mean over seeds; light: each seed. One model for all rates. At 0 nothing is missing.", SAME,
             *of_data(context))
    return Output(figure=figure, numbers=numbers, rows_built=len(numbers.groupby(["data", "row"])), notes=notes,
                  run_ids=ids(numbers))


def rank_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean rank by row and seed over all cells that every row has; 1 is the best, ties share theirs.

    Rows of the frame: row, training, setting, seed, value.
    """
    wide = frame.pivot_table(index=["seed", "training", "setting"], columns="row", values="value").dropna()
    return wide.rank(axis=1, ascending=False).groupby("seed").mean()


def ranks(context: Context) -> Output:
    """Mean rank of every row over all trainings and test conditions, with its interval over seeds."""
    found = {g: values(context, g) for g in runs.grounds(context)}
    tables = {g: rank_table(frame) for g, frame in found.items() if not frame.empty}
    tables = {g: table for g, table in tables.items() if len(table)}
    if not tables:
        return Output(notes=("Not built yet.",))
    tall = max(len(t.columns) for t in tables.values()) * 0.22 + 0.8
    figure, axes = figures.panel_grid(len(tables), columns=2 if len(tables) > 1 else 1, height=tall,
                                      width=figures.DOUBLE)
    lines = []
    for axis, (ground, table) in zip(axes, tables.items(), strict=True):
        cells = found[ground][["training", "setting"]].drop_duplicates()
        _ranked(axis, table, f"{title(context, ground)}\n{len(cells)} cells", looks(context, ground))
        lines += [{"data": title(context, ground), "row": row, "seed": seed, "mean rank": value}
                  for row in table for seed, value in table[row].items()]
    notes = ("1 is the best; the mean over all trainings and test conditions, which are not independent: the interval "
             "(95 %) is over seeds, of this ranking of these cells, not of other data. Points: each seed.", SAME,
             *of_data(context))
    return Output(figure=figure, numbers=pd.DataFrame(lines), rows_built=len({line["row"] for line in lines}),
                  notes=notes, run_ids=ids(*found.values()))


def _ranked(axis: Axes, table: pd.DataFrame, name: str, forms: Mapping[str, Mapping[str, Any]]) -> None:
    order = table.mean().sort_values().index
    with figures.style():
        for place, row in enumerate(order):
            told, form = stats.summarise(table[row]), forms[row]
            axis.plot(told.values, [place] * told.n, "o", color="#999999", markersize=3, zorder=2)
            if told.n > 1:
                axis.plot([max(told.low, 1.0), min(told.high, len(order))], [place, place], color=form["color"],
                          linestyle=form["linestyle"], linewidth=1.3)
            axis.plot(told.mean, place, zorder=3, markersize=6, **{**form, "linestyle": ""})
        axis.set_yticks(range(len(order)), list(order))
        axis.set_ylim(len(order) - 0.5, -0.5)
        axis.set_xlim(0.8, len(order) + 0.2)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        figures.finish(axis, "mean rank (1 is the best)", "", name, "x")


def cost(context: Context) -> Output:
    """Mean weighted F1 over all cells against the seconds that a model takes."""
    lines, behind = [], []
    for ground in runs.grounds(context):
        found = values(context, ground)
        behind.append(found)
        for row in runs.rows(context, ground):
            mine = found[found["row"] == row.name].groupby("seed")["value"].mean()
            timed = [t for drawn in runs.trainings(context, ground).values()
                     for t in (seconds(context, s) for s in runs.specs(context, ground, row, drawn)) if t is not None]
            if len(mine) and timed:
                lines.append({"data": title(context, ground), "row": row.name, "seconds": float(np.median(timed)),
                              "value": mine.mean(), "low": mine.min(), "high": mine.max()})
    if not lines:
        return Output(notes=("Not built yet, or no times in the store.",))
    frame = pd.DataFrame(lines)
    shown_grounds = [g for g in runs.grounds(context) if title(context, g) in set(frame["data"])]
    figure, axes = figures.panel_grid(len(shown_grounds), columns=min(2, len(shown_grounds)), width=figures.DOUBLE,
                                      height=2.7)
    for axis, ground in zip(axes, shown_grounds, strict=True):
        name, forms = title(context, ground), looks(context, ground)
        for line in frame[frame["data"] == name].to_dict("records"):
            form = {**forms[line["row"]], "linestyle": ""}
            with figures.style():
                axis.plot([line["seconds"]] * 2, [line["low"], line["high"]], color=form["color"], linewidth=1)
                axis.plot(line["seconds"], line["value"], markersize=6, label=line["row"], **form)
        with figures.style():
            axis.set_xscale("log")
            for ticks in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
                ticks(FuncFormatter(lambda value, _: f"{value:.2g}"))
            axis.tick_params(axis="x", which="both", length=3, pad=4)  # labels on one line
            figures.finish(axis, "seconds to train a model, all stages", f"mean {F1}", name, "both")
    longest = max(axes, key=lambda a: len(a.get_legend_handles_labels()[1]))
    figures.shared_legend(figure, longest, columns=4)
    notes = ("Mean over all trainings and test conditions; lines span the seeds.", TIMED, SAME,
             *of_data(context))
    return Output(figure=figure, numbers=frame, rows_built=len(frame), notes=notes, run_ids=ids(*behind))
