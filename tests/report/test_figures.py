"""Figures: what is drawn equals what was given, and equal figures give equal bytes."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mmlib.errors import InputError
from mmlib.report import colours, figures, grouped, heatmaps, stats
from mmlib.report.artifact import DPI, Output, figure_bytes


def sample() -> Figure:
    figure, axes = figures.panel_grid(3)
    values = np.random.default_rng(0).normal(60, 2, (3, 6))
    figures.lines(
        axes[0],
        np.arange(6),
        {"audio": values, "text": values + 3},
        xlabel="epoch",
        ylabel="accuracy (%)",
    )
    grouped.bars(
        axes[1], ["A", "AV"], {"plain": [[50, 52], []], "ours": [[55], [56, 58]]}, title="subsets"
    )
    heatmaps.heatmap(axes[2], values, label="weighted F1 (%)")
    return figure


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_equal_figures_give_equal_bytes(kind: str) -> None:
    figure = sample()
    first = figure_bytes(figure, kind)  # type: ignore[arg-type]
    assert first == figure_bytes(sample(), kind) == figure_bytes(figure, kind)  # type: ignore[arg-type]
    assert b"dc:date" not in first and b"Software" not in first
    figure.axes[0].set_title("another")
    assert figure_bytes(figure, kind) != first  # type: ignore[arg-type]


def test_a_png_has_the_print_size() -> None:
    image = Image.open(io.BytesIO(figure_bytes(sample(), "png")))
    assert image.size == (round(figures.DOUBLE * DPI), round(2.1 * DPI)) and 150 <= DPI <= 200


def test_the_style_ends_with_its_block_and_ignores_the_users_settings() -> None:
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30}), figures.style():
        assert matplotlib.rcParams["font.size"] == 8
    sample()
    assert dict(matplotlib.rcParams) == before


def test_curves_show_the_mean_over_seeds_that_have_a_value() -> None:
    _, (ax,) = figures.panel_grid(1)
    curves = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]])
    figures.lines(ax, [0, 1, 2], {"plain": curves})
    mean = next(line for line in ax.get_lines() if line.get_label() == "plain")
    np.testing.assert_array_equal(np.asarray(mean.get_ydata()), [2.0, 2.0, np.nan])
    assert len(ax.get_lines()) == 3  # the mean and both seeds
    with pytest.raises(InputError, match="2 points"):
        figures.lines(ax, [0, 1, 2], {"plain": np.zeros((4, 2))})


def test_curves_along_training_end_where_their_training_ends() -> None:
    _, axes = figures.panel_grid(1)
    long, short = np.arange(8.0).reshape(2, 4), np.array([[1.0, 3.0], [3.0, 5.0]])
    figures.along(axes[0], {"long": long, "short": short}, "accuracy", "")
    by_name = {line.get_label(): line for line in axes[0].lines}
    assert list(by_name["long"].get_ydata()) == [2.0, 3.0, 4.0, 5.0]
    ends = np.asarray(by_name["short"].get_ydata())
    assert list(ends[:2]) == [2.0, 4.0] and np.isnan(ends[2:]).all()


def test_series_differ_in_colour_marker_and_line() -> None:
    for names in (["audio", "text", "vision", "fused"], [f"m{i}" for i in range(8)]):
        forms = [colours.look(name, place) for place, name in enumerate(names)]
        for key in ("color", "marker", "linestyle"):
            assert len({str(form[key]) for form in forms}) == len(names)


@pytest.mark.parametrize("count", range(1, 9))
def test_up_to_eight_modalities_of_any_names_share_no_look(count: int) -> None:
    usual = ("audio", "text", "vision", "fused")
    r = np.random.default_rng(count)
    for _ in range(20):
        pool = [*usual, *(f"m{i}" for i in range(8))]
        names = [str(name) for name in r.permutation(pool)[:count]]
        looks = colours.looks_of(names)
        assert list(looks) == names
        for key in ("color", "marker", "linestyle"):
            assert len({str(form[key]) for form in looks.values()}) == count
        for name in set(names) & set(usual):
            assert looks[name] == colours.look(name), "a usual modality looks the same everywhere"
        drawn = figures.panel_grid(1)[1][0]
        figures.lines(drawn, [0, 1], {name: np.arange(2.0) for name in names})
        assert len({line.get_color() for line in drawn.get_lines()}) == count
    nothing_usual = [f"m{i}" for i in range(count)]
    by_place = {name: colours.look(name, place) for place, name in enumerate(nothing_usual)}
    assert colours.looks_of(nothing_usual) == by_place


def test_bars_stand_at_the_mean_and_show_every_run() -> None:
    _, (ax,) = figures.panel_grid(1)
    grouped.bars(
        ax, ["A", "AV"], {"plain": [[50.0, 52.0], []], "ours": [[55.0], [56.0, 58.0, 60.0]]}
    )
    heights = [bar.get_height() for bar in ax.patches]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(heights, [51.0, np.nan, 55.0, 58.0])
    points = [np.asarray(line.get_ydata()) for line in ax.get_lines() if line.get_marker() == "o"]
    assert sorted(np.concatenate(points)) == [50.0, 52.0, 55.0, 56.0, 58.0, 60.0]
    assert ax.get_ylim()[0] == 0  # lengths can be compared


def test_bars_have_an_interval_from_five_runs_on() -> None:
    _, (ax,) = figures.panel_grid(1)
    five = [60.0, 60.0, 62.0, 64.0, 64.0]  # mean 62, sd 2
    grouped.bars(ax, ["A", "B", "C"], {"": [five, five[:4], five[:2]]})
    whiskers = [line for line in ax.get_lines() if line.get_marker() != "o"]
    half = 2.77645 * 2 / 5**0.5  # t(0.975, 4) from a printed table
    (only,) = whiskers
    assert list(np.asarray(only.get_xdata())) == [0, 0]  # at the first group
    assert np.asarray(only.get_ydata()) == pytest.approx([62 - half, 62 + half], abs=1e-4)


def test_a_heatmap_writes_each_value_and_leaves_gaps_blank() -> None:
    _, (ax,) = figures.panel_grid(1)
    heatmaps.heatmap(
        ax,
        pd.DataFrame([[1.25, np.nan], [3.0, 4.0]], index=["a", "b"], columns=["x", "y"]),
        decimals=2,
    )
    assert [t.get_text() for t in ax.texts] == ["1.25", "3.00", "4.00"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]


def test_a_forest_names_each_verdict() -> None:
    _, (ax,) = figures.panel_grid(1)
    found = {
        "up": stats.paired([2.0, 2.1, 1.9, 2.0, 2.2], np.zeros(5)),
        "four": stats.paired([2.0, 2.1, 1.9, 2.0], np.zeros(4)),
        "one": stats.paired([1.0], [0.0]),
    }
    figures.forest(ax, found)
    assert [t.get_text() for t in ax.texts] == ["better", "too few seeds", "too few seeds"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["up", "four", "one"]
    _, *drawn = ax.get_lines()  # after the vertical line at 0
    places = [list(np.asarray(line.get_ydata())) for line in drawn]
    assert places == [[0, 0], [0, 0], [0], [1], [2]]  # two intervals and a point; points alone


def test_histograms_count_every_value_on_common_bins() -> None:
    _, (ax,) = figures.panel_grid(1)
    figures.histogram(ax, {"audio": [0.0, 1.0, 1.0], "text": [2.0]}, bins=2, mark=0.5)
    tops = [max(path.get_xy()[:, 1]) for path in ax.patches]  # type: ignore[attr-defined]
    assert tops == [
        2,
        2,
        1,
        1,
    ]  # bins [0, 1) and [1, 2]: audio 1 and 2, text 0 and 1; filled and outlined


def test_panels_beyond_the_asked_ones_are_removed() -> None:
    figure, axes = figures.panel_grid(4)
    assert len(axes) == len(figure.axes) == 4
    with pytest.raises(InputError):
        figures.panel_grid(0)


def test_show_prints_the_table_outside_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    figures.show(Output(table=pd.DataFrame({"method": ["MMGCN"]}), notes=("a note",)), "Table 1")
    assert (
        capsys.readouterr().out
        == "**Table 1**\n\n| method   |\n|----------|\n| MMGCN    |\n\n- a note\n\n"
    )


def test_one_hopeless_interval_does_not_hide_the_others_and_ordinary_ones_are_shown_whole() -> None:
    plain = {f"c{i}": stats.paired([1.0 + i, 1.5, 2.0, 1.5, 1.7], np.zeros(5)) for i in range(4)}
    hopeless = stats.paired([40.0, -40.0, 40.0, -40.0, 0.0], np.zeros(5))
    for comparisons in (plain, {**plain, "hopeless": hopeless}):
        _, (axis,) = figures.panel_grid(1)
        figures.forest(axis, comparisons)
        low, high = axis.get_xlim()
        ends = [end for c in plain.values() for end in (c.low, c.high)]
        assert low <= min(ends) and max(ends) <= high < hopeless.high


def test_others_are_thin_lines_of_their_means_with_one_entry_of_the_legend() -> None:
    axis = Figure().subplots()
    two_seeds, one_seed = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.0, 5.0])
    figures.behind(axis, [10, 20], [two_seeds, one_seed], "others")
    assert [line.get_xydata().tolist() for line in axis.lines] == [
        [[10.0, 2.0], [20.0, 3.0]],
        [[10.0, 0.0], [20.0, 5.0]],
    ]
    assert axis.get_legend_handles_labels()[1] == ["others"]
