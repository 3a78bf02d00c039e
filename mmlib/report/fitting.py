"""Text that finds room in a figure: titles and legends no wider than their place, labels that do not touch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

CHARACTER = 0.053  # inches across, at 7 points
LINE = 0.11  # inches from line to line, at 7 points
FRAME = 0.07  # inches of the frame around a legend that is not drawn
SMALLEST = 5.0  # points of a title that no line break can narrow
GAP = 1.5  # points between the numbers of two cells
ROUNDS = 4
ANGLES = (30, 45, 60, 90)  # degrees that the labels of an x axis are turned by


def lay_out(figure: Figure) -> None:
    """Settle where everything stands; breaking a text moves the panels, so that it may take another round."""
    for _ in range(ROUNDS):
        figure.draw_without_rendering()
        if not any([fit_titles(figure), fit_heights(figure)]):
            break
    clear_cells(figure)


def fit_titles(figure: Figure) -> bool:
    """Break the titles that would reach into the next one or beyond the figure; whether there were any.

    The figure must have been laid out. A word wider than the place is set smaller.
    """
    titles = [title for ax in figure.axes if (title := _title(ax))]
    lefts = {id(title): title.get_window_extent() for title in titles}
    fitted = False
    for title in titles:
        place = lefts[id(title)]
        beside = [
            other.x0
            for other in lefts.values()
            if other.x0 > place.x0 and other.y0 <= place.y1 and place.y0 <= other.y1
        ]
        room = min([*beside, figure.bbox.x1]) - place.x0 - float(title.get_fontsize()) / 2
        if place.width > room:
            _narrow(title, room)
            fitted = True
    return fitted


def fit_heights(figure: Figure) -> bool:
    """Break the labels of y axes that are longer than their axes; whether there were any."""
    fitted = False
    for ax in figure.axes:
        label = ax.yaxis.label
        words, room = label.get_text(), ax.get_window_extent().height
        if label.get_window_extent().height <= room or "\n" in words:
            continue
        for count in range(2, len(words.split()) + 1):
            label.set_text("\n".join(_in_lines(words, count)))
            fitted = True
            if label.get_window_extent().height <= room:
                break
    return fitted


def _in_lines(words: str, count: int) -> list[str]:
    """A text in so many lines at most, the longest as short as they can be."""
    longest_word = max(map(len, words.split()))
    broken = (textwrap.wrap(words, across) for across in range(longest_word, len(words) + 1))
    return next(lines for lines in broken if len(lines) <= count)


def clear_cells(figure: Figure) -> None:
    """Remove the numbers of heat maps whose cells are too narrow for one; the figure must have been laid out."""
    from matplotlib.collections import QuadMesh

    for ax in figure.axes:
        meshes = [mesh for mesh in ax.collections if isinstance(mesh, QuadMesh)]
        if not meshes or not ax.texts:
            continue
        columns = np.shape(meshes[0].get_coordinates())[1] - 1
        cell = ax.get_window_extent().width / columns
        if max(text.get_window_extent().width for text in ax.texts) > cell - figure.dpi / 72 * GAP:
            for text in list(ax.texts):
                text.remove()


def _title(ax: Axes) -> Text | None:
    """The text at the left above the axes; None where there is none."""
    from matplotlib.text import Text

    words = ax.get_title(loc="left")
    texts = [child for child in ax.get_children() if isinstance(child, Text)]
    return next((text for text in texts if words and text.get_text() == words), None)


def _narrow(title: Text, room: float) -> None:
    """Break a title at ever fewer letters until it has room, or only single words are wider."""
    lines = title.get_text().splitlines()
    longest_word = max(len(word) for line in lines for word in line.split())
    for across in range(max(map(len, lines)) - 1, longest_word - 1, -1):
        title.set_text("\n".join(part for line in lines for part in textwrap.wrap(line, across)))
        if title.get_window_extent().width <= room:
            return
    over = title.get_window_extent().width / room
    title.set_fontsize(max(SMALLEST, float(title.get_fontsize()) / over))


def legend_columns(figure: Figure, handles: Sequence[Any], columns: int, **look: Any) -> None:
    """A legend of the figure with as many columns as there is room for, up to some."""
    room = figure.bbox.width + FRAME * figure.dpi
    for count in range(min(columns, len(handles)), 0, -1):
        legend = figure.legend(handles=handles, ncols=count, **look)
        if count == 1 or legend.get_window_extent().width <= room:
            return
        legend.remove()


def turn_labels(ax: Axes, labels: Sequence[str], width: float) -> None:
    """Turn the labels of an x axis of some inches as far as they need, where they would touch side by side."""
    longest = max(len(str(label)) for label in labels)
    if (longest + 1) * len(labels) * (CHARACTER + 0.007) <= width:
        return
    apart = width / len(labels)
    angle = next((a for a in ANGLES if apart * math.sin(math.radians(a)) >= LINE), ANGLES[-1])
    ax.tick_params(axis="x", labelrotation=angle)
    for label in ax.get_xticklabels():
        label.set_horizontalalignment("right")
        label.set_verticalalignment("center" if angle == ANGLES[-1] else "baseline")
        label.set_rotation_mode("anchor")
