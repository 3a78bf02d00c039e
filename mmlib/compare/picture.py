"""The picture of a comparison: every contender's mean and seeds, a panel for each question."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmlib.compare.plan import COMPLETE, MAJORITY, OWN, Contender
from mmlib.compare.results import Results
from mmlib.report.colours import MARKERS, PALETTE
from mmlib.report.figures import DOUBLE, panel_grid, style

LABELS = {"weighted_f1": "weighted F1 (%)", "mae": "mean absolute error (lower is better)"}
FADED = "#999999"
TRAINED = {COMPLETE: "trained on complete data", OWN: "trained at your own rates"}


def draw(made: Results) -> Figure:
    """Rows are methods and networks, colours and markers what training saw; filled where it may be the best.

    Better is to the right: the axis of an error is reversed.
    """
    is_error = made.metric == "mae"
    frames = {q.name: -made.of(q) if is_error else made.of(q) for q in made.plan.questions}
    contenders = [c for c in made.plan.contenders if made.seeds(c.name)]
    trainings = list(dict.fromkeys(c.training for c in contenders))
    order = _order(contenders, made.of(made.plan.questions[0]))
    width = max(DOUBLE, 1.9 * len(frames) + 1.4)
    height = max(1.9, 0.22 * len(order) + 1.0)
    with style():
        figure, axes = panel_grid(
            len(frames), columns=len(frames), width=width, height=height, sharey=True
        )
        for axis, (question, frame) in zip(axes, frames.items(), strict=True):
            for contender in contenders:
                place = trainings.index(contender.training)
                still = made.may_be_best(question, contender.name)
                y = order.index(contender.row.name) + 0.22 * (place - (len(trainings) - 1) / 2)
                _contender(axis, frame[contender.name].dropna(), y, place, still)
            axis.set_title(question)
            axis.set_xlabel(f"{LABELS[made.metric]}\n{_majority(axis, frame[MAJORITY].mean())}")
            if is_error:
                axis.invert_xaxis()
        axes[0].set_yticks(range(len(order)), order)
        axes[0].set_ylim(-0.6, max(len(order), 1) - 0.4)
        handles = _handles(trainings)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _order(contenders: Sequence[Contender], complete: pd.DataFrame) -> list[str]:
    """Names of rows, the best on complete data last, which is drawn at the top."""
    best: dict[str, float] = {}
    for contender in contenders:
        mean = float(complete[contender.name].mean())
        best[contender.row.name] = max(mean, best.get(contender.row.name, mean))
    return sorted(best, key=lambda name: best[name])


def _contender(axis: Axes, values: pd.Series, y: float, place: int, still: bool) -> None:
    """Every seed, and the mean: filled where the contender may be the best."""
    colour = PALETTE[place]
    fill = colour if still else "white"
    axis.plot(values, [y] * len(values), ".", color=colour, alpha=0.35, markersize=2)
    axis.plot(values.mean(), y, MARKERS[place], color=colour, markerfacecolor=fill, markersize=4)


def _majority(axis: Axes, value: float) -> str:
    """What a constant answer reaches, in words; drawn as a line where it is not far from everything else."""
    axis.margins(x=0.08)  # no marker stands on the edge
    low, high = axis.get_xlim()
    axis.set_xlim(low, high)
    text = f"majority: {value:.3g}"
    if not low <= value <= high:
        return text
    axis.axvline(value, color=FADED, linestyle=":", linewidth=1)
    return f"{text} (dotted line)"


def _handles(trainings: Sequence[str]) -> list[Line2D]:
    """Entries of the legend."""
    return [
        Line2D(
            [],
            [],
            linestyle="",
            color=colour,
            marker=marker,
            label=TRAINED.get(name, f"trained on {name}"),
        )
        for name, colour, marker in zip(trainings, PALETTE, MARKERS, strict=False)
    ]
