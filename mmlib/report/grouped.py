"""Several series side by side in groups, every run shown: bars from 0, or points on an axis of any range."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmlib.report import fitting
from mmlib.report.colours import HATCHES, Look, looks_of, turned
from mmlib.report.figures import bounds, finish, legend_above, style, width_of
from mmlib.report.stats import Summary, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Runs = Mapping[str, Sequence[Sequence[float]]]
Bounds = tuple[float, float]


def bars(
    ax: Axes,
    groups: Sequence[str],
    series: Runs,
    *,
    ylabel: str = "",
    title: str = "",
    legend: bool = True,
    looks: Mapping[str, Look] | None = None,
    within: Bounds | None = None,
) -> None:
    """Bars side by side: for each group one bar per series; series name to one list of runs per group (may be empty).

    A bar stands at the mean and begins at 0, so that lengths can be compared; every run is a point, unless each bar has
    one alone, and there is a 95 % interval where there are ``FEWEST`` runs or more. Intervals end where the metric
    does: at ``within``, by default 0 and 100 of percentages. A series that is drawn hollow has white bars.
    """
    width, forms = 0.8 / len(series), looks_of(list(series), looks)
    several = any(len(runs) > 1 for lists in series.values() for runs in lists)
    ends = bounds(ylabel, within)
    with style():
        for place, (name, at, summaries) in enumerate(_places(groups, series, width)):
            form = forms[name]
            ax.bar(
                at,
                [s.mean if s else math.nan for s in summaries],
                width * 0.92,
                label=name or None,
                alpha=0.75,
                color=form.get("markerfacecolor", form["color"]),
                edgecolor=form["color"] if "markerfacecolor" in form else "black",
                hatch=turned("hatch", HATCHES, place),
            )
            for x, summary in zip(at, summaries, strict=True):
                if summary and several:
                    _runs(ax, x, summary, ends, width)
        ax.set_xlim(-0.55, len(groups) - 0.45)
        _labelled(ax, groups, series, ylabel, title, legend)
        _possible(
            ax, [value for lists in series.values() for runs in lists for value in runs], ends
        )


def points(
    ax: Axes,
    groups: Sequence[str],
    series: Runs,
    *,
    ylabel: str = "",
    title: str = "",
    legend: bool = True,
    looks: Mapping[str, Look] | None = None,
    within: Bounds | None = None,
) -> None:
    """As ``bars``, but a marker at each mean: the axis shows what the runs span, and need not begin at 0.

    Runs are small points beside the line of the interval.
    """
    width, forms = 0.8 / len(series), looks_of(list(series), looks)
    ends = bounds(ylabel, within)
    with style():
        for name, at, summaries in _places(groups, series, width):
            form = {"markerfacecolor": "white", **forms[name], "linestyle": ""}
            for x, summary in zip(at, summaries, strict=True):
                if summary:
                    _spread(ax, x, summary, ends, form["color"], width)
            means = [s.mean if s else math.nan for s in summaries]
            ax.plot(
                at, means, label=name or None, markersize=5, markeredgewidth=1.0, zorder=4, **form
            )
        for between in range(1, len(groups)):
            ax.axvline(between - 0.5, color="#dddddd", linewidth=0.5, zorder=0)
        ax.set_xlim(-0.5, len(groups) - 0.5)
        _labelled(ax, groups, series, ylabel, title, legend)


def _places(
    groups: Sequence[str], series: Runs, width: float
) -> Iterator[tuple[str, np.ndarray, list[Summary | None]]]:
    """Of each series its name, where it stands in every group, and what its runs are there."""
    for place, (name, per_group) in enumerate(series.items()):
        at = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * width
        yield name, at, [summarise(list(runs)) if len(runs) else None for runs in per_group]


def _labelled(
    ax: Axes, groups: Sequence[str], series: Runs, ylabel: str, title: str, legend: bool
) -> None:
    ax.set_xticks(range(len(groups)), groups)
    finish(ax, "", ylabel, title, "y")
    fitting.turn_labels(ax, groups, width_of(ax))
    if legend and len(series) > 1:
        legend_above(ax, list(series), title)


def _runs(ax: Axes, x: float, summary: Summary, ends: Bounds, width: float) -> None:
    """The interval and the runs on a bar."""
    if math.isfinite(summary.low):
        ax.plot([x, x], np.clip([summary.low, summary.high], *ends), color="black", linewidth=1.0)
    form: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markeredgewidth": 0.6}
    ax.plot(x + _beside(summary, width), summary.values, "o", markersize=2.6, zorder=4, **form)


def _spread(ax: Axes, x: float, summary: Summary, ends: Bounds, color: str, width: float) -> None:
    """The interval and the runs behind a point; one run is the point itself."""
    if math.isfinite(summary.low):
        ax.plot([x, x], np.clip([summary.low, summary.high], *ends), color=color, linewidth=1.2)
    if summary.n > 1:
        form: dict[str, Any] = {
            "color": color,
            "alpha": 0.45,
            "markersize": 2.2,
            "markeredgewidth": 0,
        }
        ax.plot(x + _beside(summary, width), summary.values, "o", **form)


def _beside(summary: Summary, width: float) -> np.ndarray:
    """(n,): how far the runs stand beside the middle."""
    return np.linspace(-0.22, 0.22, summary.n) * width if summary.n > 1 else np.zeros(1)


def _possible(ax: Axes, values: Sequence[float], ends: Bounds) -> None:
    """An axis of percentages that ends at 0 and a little above 100, or where single runs are beyond."""
    if not all(map(math.isfinite, ends)):
        return
    low, high = ax.get_ylim()
    lowest = min([ends[0], *values])
    highest = max([ends[1] + 0.02 * (ends[1] - ends[0]), *values])
    ax.set_ylim(max(low, lowest), min(high, highest))
