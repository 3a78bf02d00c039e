"""The picture of a table of claims: each sentence with its interval, by verdict.

Lines stand in inches, so that sentences of one line or of three take the room that they need.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mmlib.report import figures
from mmlib.report.stats import MARGIN, Comparison

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: across, then from top to bottom.
LEFT, TEXT, AXIS, RIGHT = 0.12, 3.75, 2.25, 0.88
HEAD, FOOT, GROUP, LINE, SMALL, GAP = 0.36, 0.86, 0.24, 0.118, 0.105, 0.075
ACROSS, ACROSS_SMALL = 66, 76  # letters of a line of a sentence, and of what stands below it
LARGE_PRINT, SMALL_PRINT = 7.0, 6.0  # points
MARKERS = {"better": "^", "worse": "v", "equivalent": "s", "undecided": "o"}
PRINTED: dict[str, Any] = {"color": "#8A3B72", "linewidth": 1.8}
FAR = 2.5  # times what three quarters of the intervals reach: beyond it the axis is cut
QUARTER = 0.75
GREY = "#666666"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Line:
    """A claim as the picture has it."""

    sentence: str
    """What the paper says, with its number in the table."""

    below: str
    """What is measured, on which data, and where the sentence stands."""

    test: Comparison
    """The measured difference."""

    verdict: str
    """In words; lines with the same one stand together."""

    primary: bool = False
    """Whether it was named in advance; its sentence is bold."""

    printed: float | None = None
    """The gain that the paper prints, where it is shown."""


def draw(lines: Sequence[Line], order: Sequence[str], xlabel: str, title: str) -> Figure:
    """A picture of at least one claim; order: of the verdicts from the top."""
    first = sorted(lines, key=lambda line: not line.primary)
    groups = {verdict: [line for line in first if line.verdict == verdict] for verdict in order}
    groups = {verdict: of for verdict, of in groups.items() if of}
    height = sum(GROUP + sum(map(_height, of)) for of in groups.values())
    figure, (axis,) = figures.panel_grid(1, width=figures.DOUBLE, height=HEAD + height + FOOT)
    figure.set_layout_engine("none")
    whole = HEAD + height + FOOT
    axis.set_position(
        ((LEFT + TEXT) / figures.DOUBLE, FOOT / whole, AXIS / figures.DOUBLE, height / whole)
    )
    with figures.style():
        axis.set_ylim(height, 0)
        axis.set_xlim(*reach([line.test for line in lines]))
        figures.no_difference(axis)
        top = 0.0
        for verdict, of in groups.items():
            _heading(axis, top, f"{verdict} ({len(of)})", figures.VERDICTS[of[0].test.verdict])
            top += GROUP
            for line in of:
                _draw_line(axis, top, line)
                top += _height(line)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        figures.finish(axis, xlabel, "", "", "x")
        figure.text(
            LEFT / figures.DOUBLE, 1 - 0.12 / whole, title, fontsize=8.5, weight="bold", va="top"
        )
        _legend(figure, axis, lines)
    return figure


def reach(tests: Sequence[Comparison]) -> tuple[float, float]:
    """The ends of the axis: what all intervals span, but for those that reach far beyond most others."""
    margin = 1.5 * MARGIN
    lows = [max(-test.low, 0.0) for test in tests if math.isfinite(test.low)]
    highs = [max(test.high, 0.0) for test in tests if math.isfinite(test.high)]
    most = float(np.quantile(lows + highs, QUARTER)) if lows else margin
    low, high = (max(margin, min(max(of, default=0.0), FAR * most)) for of in (lows, highs))
    return -1.06 * low, 1.06 * high


def _wrapped(line: Line) -> tuple[list[str], list[str]]:
    """The lines of the sentence, which are fewer letters in bold, and of what stands below."""
    across = ACROSS - 6 if line.primary else ACROSS
    wrap = partial(textwrap.wrap, break_on_hyphens=False)
    return wrap(line.sentence, across), wrap(line.below, ACROSS_SMALL)


def _height(line: Line) -> float:
    """Inches."""
    large, small = _wrapped(line)
    return LINE * len(large) + SMALL * len(small) + GAP


def _heading(axis: Axes, top: float, text: str, color: str) -> None:
    """The verdict of the lines below."""
    axis.axhline(top + 0.03, color="#bbbbbb", linewidth=0.6, xmin=-TEXT / AXIS, clip_on=False)
    _write(axis, top + 0.06, text[0].upper() + text[1:], color=color, weight="bold", fontsize=7.5)


def _write(axis: Axes, top: float, text: str, **form: Any) -> None:
    """A text left of the axis."""
    place = (-TEXT / AXIS, top)
    axis.annotate(
        text,
        place,
        xycoords=("axes fraction", "data"),
        va="top",
        annotation_clip=False,
        **{"linespacing": 1.15, **form},
    )


def _draw_line(axis: Axes, top: float, line: Line) -> None:
    """A sentence, what was measured, and the interval beside them."""
    large, small = _wrapped(line)
    weight = "bold" if line.primary else "normal"
    _write(axis, top, "\n".join(large), fontsize=LARGE_PRINT, weight=weight)
    _write(
        axis,
        top + LINE * len(large),
        "\n".join(small),
        fontsize=SMALL_PRINT,
        color="#555555",
    )
    y = top + (_height(line) - GAP) / 2
    color = figures.VERDICTS[line.test.verdict]
    _interval(axis, y, line.test, color)
    if line.printed is not None:
        _tick(axis, y, line.printed)
    axis.annotate(
        f"{line.test.difference:+.2f}  (n = {line.test.n})".replace("-", MINUS),
        (1.05, y),
        xycoords=("axes fraction", "data"),
        fontsize=6.5,
        color=color,
        va="center",
        annotation_clip=False,
    )


def _interval(axis: Axes, y: float, test: Comparison, color: str) -> None:
    """Both intervals, arrows where they go on beyond the axis, and the difference, at the edge where it is beyond."""
    low, high = axis.get_xlim()
    for ends, width in (
        ((test.low, test.high), figures.THIN),
        ((test.low90, test.high90), figures.THICK),
    ):
        figures.interval(axis, y, np.clip(ends, low, high).tolist(), color, width)
    beyond = {"<": (low, test.low < low), ">": (high, test.high > high)}
    for marker, (edge, leaves) in beyond.items():
        if leaves:
            axis.plot(edge, y, marker, color=color, markersize=5, clip_on=False, zorder=3)
    if low <= test.difference <= high:
        axis.plot(
            test.difference,
            y,
            MARKERS[test.verdict],
            color=color,
            markeredgecolor="white",
            markersize=6,
            zorder=4,
        )


def _tick(axis: Axes, y: float, value: float) -> None:
    """The gain that the paper prints; an arrow of its colour where it lies beyond the axis."""
    low, high = axis.get_xlim()
    if low <= value <= high:
        axis.plot([value, value], [y - 0.075, y + 0.075], zorder=5, **PRINTED)
        return
    edge, marker = (high, ">") if value > high else (low, "<")
    axis.plot(edge, y - 0.06, marker, color=PRINTED["color"], markersize=4, clip_on=False, zorder=5)


def _legend(figure: Figure, axis: Axes, lines: Sequence[Line]) -> None:
    """What signs mean, below the axis; the verdicts' colours and markers stand under their headings."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    sign = partial(Line2D, [], [])
    handles: list[Artist] = [
        sign(color=GREY, linewidth=figures.THICK, label="90 % interval, within the whole one"),
        Patch(color=figures.BAND, label="differences that do not matter"),
    ]
    low, high = axis.get_xlim()
    if any(line.test.low < low or line.test.high > high for line in lines):
        handles.append(sign(color=GREY, marker=">", linewidth=0, label="goes on beyond the axis"))
    if any(line.printed is not None for line in lines):
        form: dict[str, Any] = {"color": PRINTED["color"], "markersize": 9, "markeredgewidth": 1.8}
        label = "gain printed by the paper, on its own data"
        handles.append(sign(marker="|", linewidth=0, label=label, **form))
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(LEFT / figures.DOUBLE, 0.0),
        ncols=3,
        fontsize=6.5,
        handlelength=1.8,
        columnspacing=1.2,
    )
