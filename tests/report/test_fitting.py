"""Text in figures that finds room: titles, legends, labels, and numbers in cells."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mmlib.experiments.conditions import ALL, in_picture, initials, initials_note
from mmlib.report import figures, grouped, heatmaps
from mmlib.report.artifact import figure_bytes

ODD = ["gsr", "keystrokes", "lidar", "thermal_cam"]


def titled(titles: list[str], columns: int) -> Figure:
    figure, axes = figures.panel_grid(len(titles), columns=columns, width=figures.DOUBLE)
    for axis, title in zip(axes, titles, strict=True):
        figures.lines(axis, [1, 2], {"a": np.array([1.0, 2.0])}, title=title)
    return figure


def title_boxes(figure: Figure) -> list[Bbox]:
    figure.draw_without_rendering()  # at its own resolution again, not at the file's
    boxes = []
    for axis in figure.axes:
        words = axis.get_title(loc="left")
        texts = (child for child in axis.get_children() if isinstance(child, Text))
        boxes += [t.get_window_extent() for t in texts if words and t.get_text() == words]
    return boxes


def test_long_titles_neither_touch_nor_leave_the_figure_and_keep_their_words() -> None:
    titles = [f"MMGCN+BALM, {name} without the others (+0.18)" for name in ODD]
    figure = titled(titles, columns=4)
    figure_bytes(figure, "png")
    boxes = title_boxes(figure)
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert [" ".join(a.get_title(loc="left").split()) for a in figure.axes] == titles


def test_a_word_wider_than_its_panel_is_set_smaller() -> None:
    figure = titled(["w" * 30, "w" * 30], columns=2)
    figure_bytes(figure, "png")
    left, right = title_boxes(figure)
    assert left.x1 < right.x0 and right.x1 <= figure.bbox.x1


def test_titles_with_room_stay_as_they_are() -> None:
    titles = ["DPFT (Eq. 10)", "first release (G5)"]
    figure = titled(titles, columns=2)
    figure_bytes(figure, "png")
    assert [axis.get_title(loc="left") for axis in figure.axes] == titles


@pytest.mark.parametrize("count", [2, 15])
def test_a_legend_has_as_many_columns_as_the_figure_has_room_for(count: int) -> None:
    names = [f"{'a long name, ' * 2}{place}" for place in range(count)]
    figure, (axis,) = figures.panel_grid(1, width=figures.DOUBLE)
    figures.lines(axis, [1, 2], {name: np.zeros(2) for name in names}, legend=False)
    figures.shared_legend(figure, axis, columns=7)
    figure_bytes(figure, "png")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    words = [text.get_window_extent() for text in legend.get_texts()]
    assert 0 <= min(box.x0 for box in words) and max(box.x1 for box in words) <= figure.bbox.x1
    assert [text.get_text() for text in legend.get_texts()] == names


@pytest.mark.parametrize("count", [6, 15, 30])
def test_labels_of_an_axis_do_not_touch(count: int) -> None:
    groups = [f"g+k+lidar+{place}" for place in range(count)]
    figure, axes = figures.panel_grid(2, columns=2, width=figures.DOUBLE)
    grouped.bars(axes[0], groups, {"a": [[1.0]] * count})
    figure_bytes(figure, "png")
    figure.draw_without_rendering()
    labels = axes[0].get_xticklabels()
    angle = np.deg2rad(labels[0].get_rotation())
    apart = np.diff([label.get_window_extent().x1 for label in labels]).min() * np.sin(angle)
    assert apart >= float(labels[0].get_fontsize()) * figure.dpi / 72 * 0.9 or angle == np.pi / 2


def test_values_beyond_100_percent_are_shown_whole() -> None:
    _, (axis,) = figures.panel_grid(1)
    grouped.bars(axis, ["a"], {"x": [[104.0, 106.0]]}, ylabel="% of the best possible")
    assert axis.get_ylim()[1] >= 106


def test_intervals_beyond_what_is_possible_do_not_stretch_an_axis_of_percentages() -> None:
    _, (axis,) = figures.panel_grid(1)
    runs = [2.0, 98.0, 5.0, 95.0, 50.0]  # mean 50, sd 46.6: the interval is [-8, 108]
    grouped.bars(axis, ["a"], {"x": [runs]}, ylabel="accuracy (%)")
    (whisker,) = (line for line in axis.get_lines() if line.get_marker() != "o")
    assert list(np.asarray(whisker.get_ydata())) == [0, 100]  # they end where accuracy does
    assert axis.get_ylim()[0] == 0 and 100 <= axis.get_ylim()[1] < 105


@pytest.mark.parametrize(("columns", "written"), [(7, True), (15, False)])
def test_cells_have_numbers_where_these_fit(columns: int, written: bool) -> None:
    _, axes = figures.panel_grid(2, columns=2, width=figures.DOUBLE)
    names = [str(place) for place in range(columns)]
    heatmaps.heatmap(axes[0], np.eye(columns), names, names)
    assert bool(axes[0].texts) is written


def test_pictures_name_four_modalities_by_the_letters_that_tell_them_apart() -> None:
    assert list(initials(ODD).values()) == ["g", "k", "l", "t"]
    assert initials(["face", "face2", "fur", "gsr"]) == {
        "face": "face",
        "face2": "face2",
        "fur": "fu",
        "gsr": "g",
    }
    assert in_picture("gsr+thermal_cam", ODD) == "g+t"
    assert in_picture(ALL, ODD) == ALL and in_picture("shared 20 %", ODD) == "shared 20 %"
    (note,) = initials_note(ODD)
    assert "g is gsr" in note and "t is thermal_cam" in note


def test_pictures_name_three_modalities_in_whole_words() -> None:
    three = ["audio", "text", "vision"]
    assert in_picture("audio+text", three) == "audio+text" and initials_note(three) == ()


def test_long_names_are_shortened_to_letters_or_to_numbers_where_their_beginnings_are_long() -> (
    None
):
    two = ["electrodermal-activity-x1", "photoplethysmography-left"]
    assert in_picture("+".join(two), two) == "e+p"
    assert initials_note(two) == (f"In the picture e is {two[0]}, p is {two[1]}.",)
    alike = ["electrodermal-activity-x1", "electrodermal-activity-x2"]
    assert list(initials(alike).values()) == ["m1", "m2"]


def test_a_label_longer_than_its_y_axis_is_broken_into_lines_of_like_length() -> None:
    figure, (axis, _) = figures.panel_grid(2, height=1.7)
    figures.lines(axis, [1, 2], {"a": np.ones(2)}, ylabel="predictions of P for an utterance")
    figure_bytes(figure, "png")
    figure.draw_without_rendering()
    label = axis.yaxis.label
    assert label.get_text() == "predictions of P\nfor an utterance"
    assert label.get_window_extent().height <= axis.get_window_extent().height


@pytest.mark.parametrize(("columns", "written"), [(12, 12), (40, 0)])
def test_cells_that_turn_out_too_narrow_lose_their_numbers(columns: int, written: int) -> None:
    figure, (axis,) = figures.panel_grid(1, width=figures.DOUBLE)
    names = [str(place) for place in range(columns)]
    values = np.full((1, columns), 56.0)
    heatmaps.heatmap(axis, values, ["MCULoRA's network"], names, label="weighted F1", decimals=0)
    assert len(axis.texts) == columns  # by the width of the figure there would be room
    figure_bytes(figure, "png")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axis.texts]
    assert len(boxes) == written
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_markers_at_the_ends_of_panels_on_one_scale_are_whole() -> None:
    figure, axes = figures.panel_grid(2, height=1.9)
    figures.lines(axes[0], [1, 2], {"a": np.array([0.118, 0.134])})
    figures.lines(axes[1], [1, 2], {"a": np.array([0.22, 0.26])})
    figures.one_scale(axes)
    figure_bytes(figure, "png")
    figure.draw_without_rendering()
    radius = 2.5 * figure.dpi / 72  # of a marker of 4 points with its edge
    low, high = (axes[0].transData.transform((1, end))[1] for end in (0.118, 0.26))
    box = axes[0].get_window_extent()
    assert low - radius >= box.y0 and high + radius <= box.y1
