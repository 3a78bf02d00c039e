"""One style for all figures, and the few kinds of plot that the papers use.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; every series also has a marker and a line
style of its own, so a grayscale print reads as well. Figures are made with ``panel_grid`` and not with pyplot:
nothing is shown twice in a notebook and nothing stays open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from cycler import cycler

from mmlib.errors import InputError
from mmlib.report import fitting, layout
from mmlib.report.artifact import Output, figure_bytes, plain_settings
from mmlib.report.citations import FROM_NOTEBOOKS, link_markdown
from mmlib.report.markup import escape_markdown, to_markdown
from mmlib.report.stats import MARGIN, Comparison, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SINGLE, DOUBLE = 3.4, 7.0  # column widths in inches
SCREEN_DPI = 110  # in a notebook, as wide as it is shown
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A7F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 1, 2)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "+++", "ooo")
LOOKS: dict[str, Sequence[Any]] = {"color": PALETTE, "marker": MARKERS, "linestyle": STYLES}
# By how many places each is shifted in every further round of the colours, so that other ones meet.
SHIFTS = {"color": 0, "marker": 3, "linestyle": 5, "hatch": 3}
LOOKS_IN_ALL = len(PALETTE) * len(MARKERS)
MARGIN_OF_MARKERS = 0.05  # of what all panels show, above and below it
FONT = "DejaVu Sans"
MODALITIES = {"audio": "#0072B2", "text": "#D55E00", "vision": "#009E73", "fused": "#000000"}
VERDICTS = {
    "better": "#009E73",
    "worse": "#D55E00",
    "equivalent": "#0072B2",
    "undecided": "#666666",
    "too few seeds": "#666666",
}
MODALITY_MARKERS = {"audio": "o", "text": "s", "vision": "^", "fused": "D"}
MODALITY_STYLES = {"audio": "-", "text": "--", "vision": "-.", "fused": ":"}
_RC: Any = {
    "font.family": FONT,
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "patch.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "image.cmap": "cividis",
    "axes.prop_cycle": cycler(color=PALETTE),
    "svg.fonttype": "path",
}


@contextmanager
def style() -> Iterator[None]:
    """The house style, for as long as the ``with`` block lasts."""
    import matplotlib

    with plain_settings():
        matplotlib.rcParams.update(_RC)
        yield


def panel_grid(
    n: int,
    columns: int | None = None,
    width: float | None = None,
    height: float = 2.1,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure with n panels, in rows of up to three; width and height (of a row) in inches.

    One panel takes a single column, more take the double one.
    """
    from matplotlib.figure import Figure

    if n < 1:
        raise InputError("panel grid", f"{n} panels", "1 or more", "Draw at least one panel.")
    across = min(columns or 3, n)
    down = math.ceil(n / across)
    with style():
        figure = Figure(figsize=(width or (SINGLE if n == 1 else DOUBLE), height * down))
        grid = figure.subplots(down, across, squeeze=False, sharex=sharex, sharey=sharey)
        axes = [axis for line in grid for axis in line]
        for unused in axes[n:]:
            unused.remove()
    return figure, axes[:n]


def look(name: str, place: int = 0) -> dict[str, Any]:
    """Colour, marker and line style of a series: a modality's own, else those of its place among the series."""
    if name in MODALITIES:
        return {
            "color": MODALITIES[name],
            "marker": MODALITY_MARKERS[name],
            "linestyle": MODALITY_STYLES[name],
        }
    return {what: _turned(what, values, place) for what, values in LOOKS.items()}


def _turned(what: str, values: Sequence[Any], place: int) -> Any:
    """The value at a place, shifted in every further round."""
    return values[(place + SHIFTS[what] * (place // len(values))) % len(values)]


def looks_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The look of every series of a picture: no two of up to eight share a colour, a marker or a line style.

    A modality that has looks of its own keeps them; every other series has those of its place, or the next that are
    free. Of more than eight, no two share both colour and marker, as long as there are such looks.
    """
    own = {name: look(name) for name in names if name in MODALITIES}
    made: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(names):
        others = [*own.values(), *(made[other] for other in made if other not in own)]
        made[name] = own.get(name) or _free(place, others)
    return made


def _free(place: int, taken: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The look at a place, or the next of which nothing is taken, else the next that is not taken as a whole."""
    form = {}
    for what, values in LOOKS.items():
        turned = [values[(place + step) % len(values)] for step in range(len(values))]
        form[what] = next((v for v in turned if v not in [of[what] for of in taken]), None)
    if None not in form.values():
        return form
    pairs = {(of["color"], of["marker"]) for of in taken}
    every = [look("", place + step) for step in range(LOOKS_IN_ALL)]
    return next((of for of in every if (of["color"], of["marker"]) not in pairs), every[0])


def lines(
    ax: Axes,
    x: Sequence[float] | np.ndarray,
    series: Mapping[str, np.ndarray],
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    legend: bool = True,
    markers: bool | None = None,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Curves of the mean over seeds, each seed drawn lightly behind.

    series: name to (seeds, len(x)) or (len(x),); nan where there is no value. markers: by default where there
    are 25 points or fewer. looks: colour, marker and line style by name, where panels have different series.
    """
    shown = len(x) <= 25 if markers is None else markers
    forms = {**looks_of(list(series)), **(looks or {})}
    with style():
        for name, values in series.items():
            curves = np.atleast_2d(np.asarray(values, dtype=float))  # (seeds, points)
            if curves.shape[1] != len(x):
                raise InputError(
                    f"curve {name}",
                    f"{curves.shape[1]} points",
                    f"{len(x)} points, one per x",
                    "Give one value per x.",
                )
            form = {"markerfacecolor": "white", **forms[name]}
            if len(curves) > 1:
                ax.plot(x, curves.T, color=form["color"], alpha=0.25, linewidth=0.7)
            every = None if shown else max(1, len(x) // 6)
            ax.plot(x, _mean(curves), label=name, markevery=every, markeredgewidth=1.0, **form)
        if all(float(value).is_integer() for value in x):
            whole_ticks(ax)
        finish(ax, xlabel, ylabel, title, "y")
        if legend and len(series) > 1:
            _legend(ax, list(series), title)


def along(
    ax: Axes,
    series: Mapping[str, np.ndarray],
    ylabel: str,
    title: str,
    xlabel: str = "epoch",
    legend: bool = False,
) -> None:
    """Curves along training; series: (runs, epochs) each, which may differ in their number of epochs."""
    longest = max(values.shape[1] for values in series.values())
    whole = {
        name: np.pad(
            values.astype(float),
            ((0, 0), (0, longest - values.shape[1])),
            constant_values=np.nan,
        )
        for name, values in series.items()
    }
    epochs = np.arange(1, longest + 1)
    lines(ax, epochs, whole, xlabel=xlabel, ylabel=ylabel, title=title, legend=legend)


def long(values: Mapping[str, np.ndarray], axes: Mapping[str, Any], **labels: str) -> pd.DataFrame:
    """The numbers behind a picture as lines: what is the same for all, a column for each axis, the values by name.

    values: arrays of one shape. axes: in their order, by name the labels along it, or the number that they count from.
    """
    shape = next(iter(values.values())).shape
    counted = [
        range(of, of + size) if isinstance(of, int) else of
        for of, size in zip(axes.values(), shape, strict=True)
    ]
    index = pd.MultiIndex.from_product(counted, names=list(axes))
    frame = pd.DataFrame({name: of.ravel() for name, of in values.items()}, index=index)
    frame = frame.reset_index()
    for place, (name, label) in enumerate(labels.items()):
        frame.insert(place, name, label)
    return frame


def whole_ticks(ax: Axes) -> None:
    """Ticks of the x axis at whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def one_scale(axes: Sequence[Axes]) -> None:
    """The same vertical limits for all, so that they hold everything that any shows, and whole markers."""
    lows, highs = zip(*(axis.get_ylim() for axis in axes), strict=True)
    ends = [end for axis in axes for end in axis.dataLim.intervaly if math.isfinite(end)]
    margin = MARGIN_OF_MARKERS * (max(ends) - min(ends)) if ends else 0.0
    low, high = (min(ends), max(ends)) if ends else (min(lows), max(highs))
    for axis in axes:
        axis.set_ylim(min(*lows, low - margin), max(*highs, high + margin))


def grouped_bars(
    ax: Axes,
    groups: Sequence[str],
    series: Mapping[str, Sequence[Sequence[float]]],
    *,
    ylabel: str = "",
    title: str = "",
    base: float | None = None,
    legend: bool = True,
) -> None:
    """Bars side by side: for each group one bar per series; series name to one list of runs per group (may be empty).

    A bar stands at the mean, with every run as a point and the 95 % interval where there are ``FEWEST`` or more.
    base: where the axis starts; by default 0, so that lengths can be compared. Intervals of a few runs do not stretch
    an axis of percentages beyond 0 and 100.
    """
    width = 0.8 / len(series)
    forms = looks_of(list(series))
    with style():
        for place, (name, per_group) in enumerate(series.items()):
            at = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * width
            summaries = [summarise(list(runs)) if len(runs) else None for runs in per_group]
            form = forms[name]
            ax.bar(
                at,
                [s.mean if s else math.nan for s in summaries],
                width * 0.92,
                label=name or None,
                alpha=0.75,
                color=form["color"],
                edgecolor="black",
                hatch=_turned("hatch", HATCHES, place),
            )
            for x, summary in zip(at, summaries, strict=True):
                if summary:
                    _runs(ax, x, summary.values, summary.low, summary.high, width)
        ax.set_xticks(range(len(groups)), groups)
        finish(ax, "", ylabel, title, "y")
        fitting.turn_labels(ax, groups, _width(ax))
        if base is not None:
            ax.set_ylim(bottom=base)
        if "%" in ylabel:
            _possible(ax, [value for lists in series.values() for runs in lists for value in runs])
        if legend and len(series) > 1:
            _legend(ax, list(series), title)


def heatmap(
    ax: Axes,
    values: np.ndarray | pd.DataFrame,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    label: str = "",
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    decimals: int = 1,
    limits: tuple[float, float] | None = None,
) -> None:
    """An annotated grid: values (rows, columns), nan left blank; ``label`` names the colour bar with its unit.

    Cells too narrow for their numbers have colours alone.
    """
    if isinstance(values, pd.DataFrame):
        rows = rows or [str(r) for r in values.index]
        columns = columns or [str(c) for c in values.columns]
    grid = np.asarray(values, dtype=float)
    low, high = limits or (float(np.nanmin(grid)), float(np.nanmax(grid)))
    written = (
        decimals + 3
    ) * fitting.CHARACTER  # inches of a number below 100, with point and sign
    import seaborn  # slow to import, and only heat maps need it

    with style():
        seaborn.heatmap(
            grid,
            vmin=low,
            vmax=high,
            cmap="cividis",
            annot=bool(written <= _width(ax) / grid.shape[1]),
            fmt=f".{decimals}f",
            annot_kws={"fontsize": 7},
            cbar_kws={"label": label},
            ax=ax,
            xticklabels=columns or "auto",
            yticklabels=rows or "auto",
        )
        finish(ax, xlabel, ylabel, title, None)
        ax.tick_params(length=0, rotation=0)
        if columns:
            fitting.turn_labels(ax, columns, 0.8 * _width(ax))


def forest(
    ax: Axes,
    comparisons: Mapping[str, Comparison],
    *,
    margin: float = MARGIN,
    xlabel: str = "difference",
    title: str = "",
) -> None:
    """Differences with their 95 % (thin) and 90 % (thick) intervals, one line each, with the verdict at the right.

    The band is the margin within which differences do not matter. The axis shows what most intervals span; one that is
    far wider than the others is cut at the edge.
    """
    with style():
        ax.axvspan(-margin, margin, color="#e8e8e8", zorder=0, linewidth=0)
        ax.axvline(0, color="black", linewidth=0.8, zorder=1)
        for y, comparison in enumerate(comparisons.values()):
            _forest_line(ax, y, comparison)
        ax.set_yticks(range(len(comparisons)), list(comparisons))
        ax.set_ylim(len(comparisons) - 0.4, -0.6)
        whole = _reach(list(comparisons.values()), margin, everything=True)
        most = _reach(list(comparisons.values()), margin, everything=False)
        if most < whole:
            ax.set_xlim(-most, most)
        finish(ax, xlabel, "", title, "x")


def _forest_line(ax: Axes, y: int, comparison: Comparison) -> None:
    """One comparison of a forest: its intervals where they have ends, its difference and its verdict."""
    color = VERDICTS[comparison.verdict]
    if math.isfinite(comparison.low):
        for ends, linewidth in (
            ((comparison.low, comparison.high), 1.1),
            ((comparison.low90, comparison.high90), 3.0),
        ):
            ax.plot(ends, [y, y], color=color, linewidth=linewidth, solid_capstyle="butt")
    ax.plot(
        comparison.difference,
        y,
        "o",
        color=color,
        markeredgecolor="white",
        markersize=5,
        zorder=4,
    )
    ax.annotate(
        comparison.verdict,
        (1.01, y),
        xycoords=("axes fraction", "data"),
        color=color,
        fontsize=7,
        va="center",
        annotation_clip=False,
    )


def _reach(comparisons: Sequence[Comparison], margin: float, everything: bool) -> float:
    """How far from 0 an axis shows all intervals, or all differences and eight times the median half width."""
    halves = [(c.high - c.low) / 2 for c in comparisons if math.isfinite(c.low)]
    ends = [max(abs(c.low), abs(c.high)) for c in comparisons if math.isfinite(c.low)]
    if everything:
        return max(ends, default=0.0)
    return max(
        [
            8 * float(np.median(halves)) if halves else 0.0,
            4 * margin,
            *(1.5 * abs(c.difference) for c in comparisons),
        ],
        default=0.0,
    )


def histogram(
    ax: Axes,
    values: Mapping[str, Sequence[float] | np.ndarray],
    *,
    bins: int = 30,
    xlabel: str = "",
    ylabel: str = "count",
    title: str = "",
    mark: float | None = None,
) -> None:
    """Outlined histograms on common bins; ``mark`` draws a vertical line, such as a nominal rate."""
    everything = np.concatenate([np.asarray(v, dtype=float).ravel() for v in values.values()])
    edges = [float(edge) for edge in np.histogram_bin_edges(everything, bins=bins)]
    with style():
        forms = looks_of(list(values))
        for name, numbers in values.items():
            form = forms[name]
            ax.hist(
                np.asarray(numbers, dtype=float).ravel(),
                edges,
                histtype="stepfilled",
                alpha=0.2,
                color=form["color"],
            )
            ax.hist(
                np.asarray(numbers, dtype=float).ravel(),
                edges,
                histtype="step",
                label=name,
                linewidth=1.3,
                color=form["color"],
                linestyle=form["linestyle"],
            )
        if mark is not None:
            ax.axvline(mark, color="black", linewidth=0.9, linestyle=(0, (4, 2)))
        finish(ax, xlabel, ylabel, title, "y")
        if len(values) > 1:
            _legend(ax, list(values), title)


def shared_legend(figure: Figure, ax: Axes, columns: int = 6) -> None:
    """One legend above all panels, from the series of one of them (draw the panels with ``legend=False``)."""
    handles, _ = ax.get_legend_handles_labels()
    with style():
        fitting.legend_columns(
            figure, handles, columns, loc="outside upper center", handlelength=2.8
        )


def show(output: Output, caption: str = "") -> None:
    """Show a table in its reading form and a figure as it is written; outside a notebook, print the table.

    What was measured on this machine stands below.
    """
    text = ""
    if output.comparison and output.numbers is not None:
        text = layout.reading(output.numbers, caption, output.notes)
    elif output.table is not None:
        text = to_markdown(output.table, caption, output.notes)
    elif caption or output.notes:
        head = [f"**{escape_markdown(caption, code=True)}**"] if caption else []
        text = "\n\n".join(
            [*head, *(f"- {escape_markdown(note, code=True)}" for note in output.notes)]
        )
    if output.local is not None:
        text += "\n" + to_markdown(output.local, "Measured on this machine")
    display, image, markdown = _notebook()
    if display is None:
        print(text)
        return
    if output.figure is not None:
        display(
            image(
                data=figure_bytes(output.figure, "png", dpi=SCREEN_DPI),
                format="png",
                width=round(96 * output.figure.get_figwidth() * 1.3),
            )
        )
    if text:
        display(markdown(link_markdown(text, FROM_NOTEBOOKS)))


def _notebook() -> tuple[Callable[..., Any] | None, Any, Any]:
    try:
        from IPython import get_ipython
        from IPython.display import Image, Markdown, display
    except ImportError:
        return None, None, None
    return (display, Image, Markdown) if get_ipython() is not None else (None, None, None)


def _mean(curves: np.ndarray) -> np.ndarray:
    """Mean over seeds, (points,), of those that have a value; nan where none has."""
    there = np.isfinite(curves)
    count = there.sum(axis=0)
    total = np.where(there, curves, 0.0).sum(axis=0)
    mean: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _runs(
    ax: Axes, x: float, values: Sequence[float], low: float, high: float, width: float
) -> None:
    if math.isfinite(low):
        ax.plot([x, x], [low, high], color="black", linewidth=1.0, zorder=3)
    spread = np.linspace(-0.22, 0.22, len(values)) * width if len(values) > 1 else np.zeros(1)
    ax.plot(
        x + spread,
        values,
        "o",
        color="white",
        markeredgecolor="black",
        markersize=2.6,
        markeredgewidth=0.6,
        zorder=4,
    )


def _possible(ax: Axes, values: Sequence[float]) -> None:
    """An axis of percentages that ends at 0 and 100, or where single runs are beyond."""
    low, high = ax.get_ylim()
    lowest, highest = min([0.0, *values]), max([102.0, *values])
    if low < lowest:
        ax.set_ylim(bottom=lowest)
    if high > highest:
        ax.set_ylim(top=highest)


def _legend(ax: Axes, names: Sequence[str], title: str) -> None:
    """A legend between title and axes, where it covers no data."""
    longest = max(len(name) for name in names) * fitting.CHARACTER + 0.42  # inches at 7 points
    columns = max(1, min(len(names), int(_width(ax) / longest)))
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        borderaxespad=0.1,
        borderpad=0.2,
        handlelength=2.6,
        columnspacing=1.0,
        labelspacing=0.3,
    )
    ax.set_title(title, pad=5 + 10 * math.ceil(len(names) / columns))


def _width(ax: Axes) -> float:
    """About how wide a panel's axes will be, in inches, before anything is laid out."""
    from matplotlib.figure import Figure

    figure, place = ax.get_figure(), ax.get_subplotspec()
    across = place.get_gridspec().ncols if place else 1
    return (figure.get_figwidth() if isinstance(figure, Figure) else SINGLE) / across - 0.5


def finish(ax: Axes, xlabel: str, ylabel: str, title: str, grid: str | None) -> None:
    """Labels and a title, and grid lines along ``x``, ``y``, ``both`` or nothing; within ``style()``."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.set_title(title)
    ax.grid(False)
    if grid:
        ax.grid(True, axis=grid)  # type: ignore[arg-type]


def show_text(text: str) -> None:
    """Show Markdown in a notebook; print it elsewhere."""
    display, _, markdown = _notebook()
    if display is None:
        print(text)
    else:
        display(markdown(link_markdown(text, FROM_NOTEBOOKS)))
