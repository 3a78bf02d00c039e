"""One style for all figures, and most kinds of plot; bars are in ``grouped``, grids in ``heatmaps``.

Figures are made with ``panel_grid`` and not with pyplot: nothing is shown twice in a notebook and nothing stays open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from cycler import cycler

from mmlib.errors import InputError
from mmlib.report import fitting, layout
from mmlib.report.artifact import Output, figure_bytes, plain_settings
from mmlib.report.citations import FROM_NOTEBOOKS, link_markdown
from mmlib.report.colours import PALETTE, Look, looks_of
from mmlib.report.markup import escape_words, to_markdown
from mmlib.report.stats import FEWEST, MARGIN, TOO_FEW, Comparison, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SINGLE, DOUBLE = 3.4, 7.0  # column widths in inches
SCREEN_DPI = 110  # in a notebook, as wide as it is shown
THIN, THICK = 1.1, 3.0  # lines of intervals
BAND = "#e8e8e8"  # of differences that do not matter
MARGIN_OF_MARKERS = 0.05  # of what all panels show, above and below it
FONT = "DejaVu Sans"
VERDICTS = {
    "better": "#009E73",
    "worse": "#D55E00",
    "equivalent": "#0072B2",
    "undecided": "#666666",
    TOO_FEW: "#666666",
}
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
    looks: Mapping[str, Look] | None = None,
    within: tuple[float, float] | None = None,
) -> None:
    """Curves of the mean over seeds: ``told`` says how their spread is drawn, and two points are not joined.

    series: name to (seeds, len(x)) or (len(x),); nan where there is no value. markers: by default where there
    are 12 points or fewer. looks: colour, marker and line style by name, of the series that have their own. within:
    what the metric can be, where intervals end; by default 0 and 100 of percentages.
    """
    shown = len(x) <= 12 if markers is None else markers
    forms, ends = looks_of(list(series), looks), bounds(ylabel, within)
    joined = len(x) > 2
    with style():
        for place, (name, values) in enumerate(series.items()):
            curves = np.atleast_2d(np.asarray(values, dtype=float))  # (seeds, points)
            if curves.shape[1] != len(x):
                raise InputError(
                    f"curve {name}",
                    f"{curves.shape[1]} points",
                    f"{len(x)} points, one per x",
                    "Give one value per x.",
                )
            form = {"markerfacecolor": "white", **forms[name]}
            at = np.asarray(x, dtype=float)
            if not joined:
                form["linestyle"] = ""
                at = at + 0.03 * np.ptp(at) * (place - (len(series) - 1) / 2)
            _spread(ax, at, curves, form["color"], ends, joined)
            every = None if shown else max(1, len(x) // 6)
            ax.plot(at, _mean(curves), label=name, markevery=every, markeredgewidth=1.0, **form)
        if all(float(value).is_integer() for value in x):
            whole_ticks(ax)
        finish(ax, xlabel, ylabel, title, "y")
        if legend and len(series) > 1:
            legend_above(ax, list(series), title)


def behind(
    ax: Axes, x: Sequence[float], curves: Sequence[np.ndarray], label: str, color: str = "#bbbbbb"
) -> None:
    """The means of others as thin light lines behind the curves, with one entry of the legend.

    curves: of each, (seeds, len(x)); nan where there is no value.
    """
    for curve in curves:
        mean = _mean(np.atleast_2d(np.asarray(curve, dtype=float)))
        ax.plot(x, mean, color=color, linewidth=0.9, label=label, zorder=0)
        label = "_"  # which legends leave out


def _spread(
    ax: Axes,
    at: np.ndarray,
    curves: np.ndarray,
    color: str,
    ends: tuple[float, float],
    joined: bool,
) -> None:
    """Behind a mean, the 95 % interval at each x with ``FEWEST`` seeds or more; where none has, each seed lightly.

    curves: (seeds, points). A band, or a whisker at each x where points are not joined.
    """
    if len(curves) == 1:
        return
    columns = [column[np.isfinite(column)] for column in curves.T]
    summaries = [summarise(column) if len(column) else None for column in columns]
    low = np.clip([s.low if s else math.nan for s in summaries], *ends)
    high = np.clip([s.high if s else math.nan for s in summaries], *ends)
    if not np.isfinite(low).any():
        light: dict[str, Any] = {"color": color, "alpha": 0.35, "linewidth": 0.7}
        light |= {} if joined else {"marker": ".", "linestyle": ""}
        ax.plot(at, curves.T, **light)
    elif joined:
        ax.fill_between(at, low, high, color=color, alpha=0.12, linewidth=0)
    else:
        ax.vlines(at, low, high, color=color, linewidth=1.0)


def bounds(ylabel: str, within: tuple[float, float] | None) -> tuple[float, float]:
    """What a metric can be: as it is given, else 0 and 100 of percentages, else anything."""
    if within is not None:
        return within
    return (0.0, 100.0) if "%" in ylabel else (-math.inf, math.inf)


def told(counts: Iterable[int], kind: str = "lines", of: str = "seed") -> str:
    """What a caption says of the seeds behind each mean.

    counts: how many each has; kind: ``lines``, ``bars`` or ``points``; of: what they are, ``seed`` or ``run``.
    """
    known = sorted(set(counts))
    if not known:
        return f"No {of} has its runs yet."
    if known == [1]:
        return f"One {of} each: what other {of}s would give is not known."
    named = " or ".join(map(str, known))
    interval = "bands" if kind == "lines" else "whiskers"
    single = (
        f"light lines are single {of}s" if kind == "lines" else f"small points are single {of}s"
    )
    parts = [f"{kind.capitalize()} are means over {named} {of}s"]
    if known[-1] >= FEWEST:
        parts.append(f"{interval} are 95 % intervals of the mean, over {of}s")
    if known[0] < FEWEST or kind != "lines":
        parts.append(single)
    return "; ".join(parts) + "."


def seeds_of(frame: pd.DataFrame, *by: str) -> list[int]:
    """How many seeds each group of a frame of results has; by: the columns that name a mean, ``row`` by default."""
    return [int(count) for count in frame.groupby(list(by or ("row",)))["seed"].nunique()]


def along(
    ax: Axes,
    series: Mapping[str, np.ndarray],
    ylabel: str,
    title: str,
    xlabel: str = "epoch",
    legend: bool = False,
    looks: Mapping[str, Look] | None = None,
    within: tuple[float, float] | None = None,
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
    lines(
        ax,
        np.arange(1, longest + 1),
        whole,
        xlabel=xlabel,
        ylabel=ylabel,
        title=title,
        legend=legend,
        looks=looks,
        within=within,
    )


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


def one_span(axes: Sequence[Axes]) -> None:
    """As many units from top to bottom in all panels, around what each shows: levels differ, lengths compare."""
    middles = [sum(axis.get_ylim()) / 2 for axis in axes]
    half = max(high - low for low, high in (axis.get_ylim() for axis in axes)) / 2
    for axis, middle in zip(axes, middles, strict=True):
        axis.set_ylim(middle - half, middle + half)


def no_difference(ax: Axes, margin: float = MARGIN) -> None:
    """The band of differences that do not matter, and a line at none."""
    ax.axvspan(-margin, margin, color=BAND, zorder=0, linewidth=0)
    ax.axvline(0, color="black", linewidth=0.8, zorder=1)


def interval(
    ax: Axes, y: float, ends: Sequence[float], color: str, linewidth: float = THIN
) -> None:
    """A line from one end to the other."""
    ax.plot(ends, [y, y], color=color, linewidth=linewidth, solid_capstyle="butt")


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
    far wider than the others goes on beyond the edge, where an arrow says so. Where all have too few seeds, no line
    repeats it.
    """
    named = any(comparison.verdict != TOO_FEW for comparison in comparisons.values())
    with style():
        no_difference(ax, margin)
        for y, comparison in enumerate(comparisons.values()):
            _forest_line(ax, y, comparison, named)
        ax.set_yticks(range(len(comparisons)), list(comparisons))
        ax.set_ylim(len(comparisons) - 0.4, -0.6)
        whole = _reach(list(comparisons.values()), margin, everything=True)
        most = _reach(list(comparisons.values()), margin, everything=False)
        if most < whole:
            ax.set_xlim(-most, most)
            _arrows(ax, list(comparisons.values()), most)
        finish(ax, xlabel, "", title, "x")


def _arrows(ax: Axes, comparisons: Sequence[Comparison], edge: float) -> None:
    """A mark at either edge of a forest beyond which an interval goes on."""
    for y, comparison in enumerate(comparisons):
        for end, marker in ((comparison.low, "<"), (comparison.high, ">")):
            if math.isfinite(end) and abs(end) > edge:
                color = VERDICTS[comparison.verdict]
                place = math.copysign(edge, end)
                ax.plot(place, y, marker, color=color, markersize=4, clip_on=False, zorder=5)


def _forest_line(ax: Axes, y: int, comparison: Comparison, named: bool) -> None:
    """One comparison of a forest: its intervals where they have ends, its difference, and its verdict if ``named``."""
    color = VERDICTS[comparison.verdict]
    if math.isfinite(comparison.low):
        interval(ax, y, (comparison.low, comparison.high), color, THIN)
        interval(ax, y, (comparison.low90, comparison.high90), color, THICK)
    ax.plot(
        comparison.difference,
        y,
        "o",
        color=color,
        markeredgecolor="white",
        markersize=5,
        zorder=4,
    )
    if not named:
        return
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
            legend_above(ax, list(values), title)


def shared_legend(figure: Figure, axes: Axes | Sequence[Axes], columns: int = 6) -> None:
    """One legend above all panels, from the series of one or of several (draw the panels with ``legend=False``)."""
    named: dict[str, Any] = {}
    for ax in axes if isinstance(axes, Sequence) else [axes]:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    with style():
        fitting.legend_columns(
            figure, list(named.values()), columns, loc="outside upper center", handlelength=2.8
        )


def show(output: Output, title: str = "", caption: str = "") -> None:
    """Show a table in its reading form and a figure as it is written; outside a notebook, print the table.

    What was measured on this machine stands below. title: in bold, with the caption after it.
    """
    bold = f"**{escape_words(title)}** " if title else ""
    text = f"{bold}{escape_words(caption)}".strip()
    if output.comparison and output.numbers is not None:
        text += "\n\n" + layout.reading(output.numbers, "", output.notes)
    elif output.table is not None:
        text += "\n\n" + to_markdown(output.table, "", output.notes)
    elif output.notes:
        text += "\n\n" + "\n".join(f"- {escape_words(note)}" for note in output.notes)
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
                width=round(SCREEN_DPI * output.figure.get_figwidth()),  # larger would be blurred
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


def legend_above(ax: Axes, names: Sequence[str], title: str) -> None:
    """A legend between title and axes, where it covers no data."""
    longest = max(len(name) for name in names) * fitting.CHARACTER + 0.42  # inches at 7 points
    columns = max(1, min(len(names), int(width_of(ax) / longest)))
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


def width_of(ax: Axes) -> float:
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
