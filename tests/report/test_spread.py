"""What other seeds would give, as pictures show it: intervals within the range of the metric, and seeds in words."""

from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from PIL import Image

from mmlib.report import colours, figures, grouped, heatmaps, projection, stats
from mmlib.report.artifact import figure_bytes

T4 = 2.77645  # t(0.975, 4) from a printed table


def panel() -> Axes:
    _, (axis,) = figures.panel_grid(1)
    return axis


def heights(axis: Axes) -> list[list[float]]:
    """The heights of every line, seeds and means."""
    return [list(np.asarray(line.get_ydata(), dtype=float)) for line in axis.get_lines()]


def test_five_seeds_are_a_band_of_the_interval_of_the_mean() -> None:
    axis, five = panel(), np.array([60.0, 60.0, 62.0, 64.0, 64.0])  # mean 62, sd 2
    figures.lines(axis, [0, 1, 2], {"a": np.stack([five] * 3, axis=1)})
    (band,) = (part for part in axis.collections if isinstance(part, PolyCollection))
    half = T4 * 2 / 5**0.5
    edge = band.get_paths()[0].vertices[:, 1]
    assert (edge.min(), edge.max()) == pytest.approx((62 - half, 62 + half), abs=1e-4)
    assert heights(axis) == [[62.0] * 3], "no seed has a line of its own"


def test_a_band_ends_where_the_metric_does() -> None:
    runs = np.stack([np.array([2.0, 98.0, 5.0, 95.0, 50.0])] * 3, axis=1)  # [-8, 108]
    for form, ends in (({"ylabel": "F1 (%)"}, (0, 100)), ({"within": (-20, 90)}, (-8, 90))):
        axis = panel()
        figures.lines(axis, [0, 1, 2], {"a": runs}, **form)  # type: ignore[arg-type]
        edge = axis.collections[0].get_paths()[0].vertices[:, 1]
        assert (edge.min(), edge.max()) == pytest.approx(ends, abs=0.5)


def test_a_band_is_only_where_enough_seeds_have_a_value() -> None:
    axis, curves = panel(), np.tile(np.arange(5.0)[:, None], (1, 4))
    curves[0, 3] = np.nan  # four seeds are left
    figures.lines(axis, [0, 1, 2, 3], {"a": curves})
    xs = axis.collections[0].get_paths()[0].vertices[:, 0]
    assert xs.max() == 2


def test_two_points_are_no_trend_and_are_not_joined() -> None:
    axis = panel()
    figures.lines(axis, [0, 1], {"a": np.zeros((5, 2)), "b": np.ones((2, 2))})
    assert {str(line.get_linestyle()) for line in axis.get_lines()} == {"None"}
    whiskers = [part for part in axis.collections if isinstance(part, LineCollection)]
    assert len(whiskers) == 1, "of five seeds an interval, of two their points"
    means = {line.get_label(): np.asarray(line.get_xdata()) for line in axis.get_lines()}
    assert (means["a"] < means["b"]).all(), "beside each other, not on top of each other"


@pytest.mark.parametrize(
    ("counts", "kind", "words"),
    [
        ([], "lines", "No seed has its runs yet."),
        ([1, 1], "lines", "One seed each"),
        ([3], "lines", "Lines are means over 3 seeds; light lines are single seeds."),
        ([10], "lines", "Lines are means over 10 seeds; bands are 95 % intervals"),
        ([10], "bars", "whiskers are 95 % intervals of the mean, over seeds; small points"),
        ([10, 5, 10], "points", "Points are means over 5 or 10 seeds"),
        ([3, 10], "lines", "light lines are single seeds"),
    ],
)
def test_captions_tell_how_many_seeds_there_are(counts: list[int], kind: str, words: str) -> None:
    text = figures.told(counts, kind)
    assert words in text and text.endswith(".")
    assert ("interval" in text) is (max(counts, default=0) >= stats.FEWEST)


def test_seeds_are_counted_by_what_a_mean_is_of() -> None:
    frame = pd.DataFrame(
        [("a", "x", 0), ("a", "x", 1), ("a", "y", 0), ("b", "x", 0)],
        columns=["row", "setting", "seed"],
    )
    assert figures.seeds_of(frame) == [2, 1]
    assert figures.seeds_of(frame, "row", "setting") == [2, 1, 1]


def test_points_show_every_run_and_their_axis_need_not_begin_at_0() -> None:
    axis, five = panel(), [60.0, 60.0, 62.0, 64.0, 64.0]
    grouped.points(axis, ["A", "B"], {"": [five, [70.0]]}, ylabel="accuracy (%)")
    half = T4 * 2 / 5**0.5
    whisker, runs, means = heights(axis)[:3]
    assert whisker == pytest.approx([62 - half, 62 + half], abs=1e-4)
    assert runs == five and means == [62.0, 70.0]
    assert axis.get_ylim()[0] > 50


def test_bars_of_one_run_each_have_no_points_and_none_is_cut_from_the_panel() -> None:
    axis = panel()
    grouped.bars(axis, ["A", "B", "C"], {"a": [[1.0], [2.0], []], "b": [[3.0], [], []]})
    assert not axis.get_lines()
    assert axis.get_xlim() == (-0.55, 2.55), "also where a group has no bar"


def test_a_hollow_series_has_white_bars() -> None:
    axis = panel()
    looks = {"net": {"color": "#0072B2", "marker": "o", "markerfacecolor": "white"}}
    grouped.bars(axis, ["A"], {"net": [[1.0]]}, looks=looks)
    (bar,) = axis.patches
    assert bar.get_facecolor()[:3] == (1.0, 1.0, 1.0)
    assert bar.get_edgecolor()[:3] == pytest.approx((0, 0x72 / 255, 0xB2 / 255))


def test_panels_of_one_span_are_as_many_units_high_around_their_own_values() -> None:
    _, axes = figures.panel_grid(2)
    figures.lines(axes[0], [0, 1, 2], {"a": np.array([60.0, 70.0, 60.0])})
    figures.lines(axes[1], [0, 1, 2], {"a": np.array([80.0, 81.0, 80.0])})
    figures.one_span(axes)
    (low, high), (low2, high2) = (axis.get_ylim() for axis in axes)
    assert high - low == pytest.approx(high2 - low2) and high - low >= 10
    assert (low + high) / 2 == pytest.approx(65) and (low2 + high2) / 2 == pytest.approx(80.5)


def test_signed_grids_are_blue_above_0_red_below_and_white_at_0() -> None:
    figure, (axis,) = figures.panel_grid(1)
    heatmaps.heatmap(axis, np.array([[-3.0, 0.0, 2.0]]), decimals=0, signed=True)
    assert [text.get_text() for text in axis.texts] == ["-3", "+0", "+2"]
    mesh = axis.collections[0]
    assert mesh.get_clim() == (-3.0, 3.0), "as far to either side"
    red, white, blue = mesh.to_rgba(np.array([-3.0, 0.0, 3.0]))[:, :3]
    assert red[0] > red[2] and blue[2] > blue[0] and white.min() > 0.9
    assert figure_bytes(figure, "png")


def test_cells_that_are_undecided_have_a_grey_number_and_no_colour() -> None:
    axis = panel()
    values, faded = np.array([[5.0, 1.0], [np.nan, -9.0]]), np.array([[False, True], [True, False]])
    heatmaps.heatmap(axis, values, decimals=0, signed=True, limits=(-4, 4), faded=faded)
    grey = {text.get_text() for text in axis.texts if text.get_color() == colours.FADED}
    assert grey == {"+1"} and {text.get_text() for text in axis.texts} == {"+5", "-9", "+1"}
    hidden = np.ma.getmaskarray(axis.collections[0].get_array())
    assert hidden.tolist() == [[False, True], [True, False]]


def test_a_colour_bar_says_at_which_ends_values_go_on() -> None:
    for values, ends in (
        ([-1, 1], "neither"),
        ([-9, 1], "min"),
        ([1, 9], "max"),
        ([-9, 9], "both"),
    ):
        assert heatmaps.beyond(np.array([values], dtype=float), -4, 4) == ends


def test_a_forest_marks_what_goes_on_beyond_its_edge_and_says_too_few_seeds_once() -> None:
    narrow = {f"c{i}": stats.paired([1.0 + i, 1.5, 2.0, 1.5, 1.7], np.zeros(5)) for i in range(4)}
    wide = stats.paired([40.0, -40.0, 40.0, -40.0, 0.0], np.zeros(5))
    axis = panel()
    figures.forest(axis, {**narrow, "wide": wide})
    edges = {
        str(line.get_marker()): float(np.asarray(line.get_xdata())[0])
        for line in axis.get_lines()
        if line.get_marker() in ("<", ">")
    }
    assert (edges["<"], edges[">"]) == pytest.approx(axis.get_xlim())
    few = panel()
    figures.forest(few, {"a": stats.paired([1.0], [0.0]), "b": stats.paired([2.0], [0.0])})
    assert not few.texts


def test_silhouettes_in_words_say_whether_labels_are_separated() -> None:
    assert projection.seen([math.nan]) == ""
    low = projection.seen([-0.16, 0.01, math.nan])
    assert "-0.16 to +0.01" in low and "no separate groups" in low
    assert "no separate groups" not in projection.seen([0.1, 0.6])
    assert "of -0.01 the" in projection.seen([-0.008, -0.007]), "equal ends are said once"


def test_the_best_possible_has_one_look_that_no_other_series_takes() -> None:
    for names in (["a", colours.BEST], [colours.BEST, *"abcdefg"]):
        made = colours.looks_of(names)
        assert made[colours.BEST] == colours.look(colours.BEST)
        others = [made[name]["color"] for name in names if name != colours.BEST]
        assert made[colours.BEST]["color"] not in others


def test_a_given_look_is_kept_and_taken_from_the_others() -> None:
    given = {"ours": {"color": colours.PALETTE[1], "marker": "s", "linestyle": "-"}}
    made = colours.looks_of(["x", "y", "ours"], given)
    assert made["ours"] == given["ours"]
    assert len({form["color"] for form in made.values()}) == 3
    assert len({form["marker"] for form in made.values()}) == 3


def test_panels_are_wide_enough_to_be_read_in_print() -> None:
    figure, axes = figures.panel_grid(2, columns=2)
    figures.lines(axes[0], [0, 1, 2], {"a": np.zeros((10, 3))})
    assert Image.open(io.BytesIO(figure_bytes(figure, "png"))).width == 1260
