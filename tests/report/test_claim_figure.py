"""The picture of claims: nothing is cut off, nothing covers anything else, and what leaves the axis says so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmlib.report import claim_figure, figures, stats
from mmlib.report.claim_figure import Line

ORDER = ("supported", "contradicted", "no difference that matters", "undecided")
WORDS = dict(zip(("better", "worse", "equivalent", "undecided"), ORDER, strict=True))
LONG = "12. A sentence that is so long that it needs more lines than one, since it says a lot of things at once"


def line(mean: float, spread: float = 0.1, **other: object) -> Line:
    test = stats.paired(mean + spread * np.array([-1.0, -0.5, 0, 0.5, 1]), np.zeros(5))
    made = Line(
        LONG, "this minus that, mean of very many settings · 4.2", test, WORDS[test.verdict]
    )
    return dataclasses.replace(made, **other)  # type: ignore[arg-type]


def drawn(*lines: Line) -> Figure:
    figure = claim_figure.draw(lines, ORDER, "points\n(above 0 supports the claim)", "Claims")
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return figure


def test_every_text_is_inside_and_none_covers_another() -> None:
    many = [line(m, s) for m in (-3.0, 0.0, 2.0) for s in (0.1, 1.0, 4.0)]
    figure = drawn(*many, line(2.0, primary=True, printed=1.0))
    (axis,) = figure.axes
    (legend,) = figure.legends
    texts = [*axis.texts, *figure.texts, axis.xaxis.label]
    boxes = [text.get_window_extent() for text in texts] + [legend.get_window_extent()]
    for place, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        for other in boxes[place + 1 :]:
            apart = box.x1 <= other.x0 or other.x1 <= box.x0
            assert apart or box.y1 <= other.y0 + 1 or other.y1 <= box.y0 + 1
    assert min(float(text.get_fontsize()) for text in texts) >= 6


def test_the_whole_sentence_is_written_whatever_its_length() -> None:
    figure = drawn(line(2.0), line(2.0, primary=True))
    written = [text for text in figure.axes[0].texts if text.get_text().startswith("12.")]
    assert [" ".join(text.get_text().split()) for text in written] == [LONG, LONG]
    assert [text.get_weight() for text in written] == ["bold", "normal"]  # primary ones first


def test_verdicts_stand_in_their_order_with_their_number_and_colour() -> None:
    figure = drawn(line(0.0), line(-2.0), line(2.0), line(3.0))
    heads = [text for text in figure.axes[0].texts if text.get_text().endswith(")")]
    named = [text for text in heads if "n =" not in text.get_text()]
    assert [text.get_text() for text in named] == [
        *("Supported (2)", "Contradicted (1)", "No difference that matters (1)")
    ]
    kinds = ("better", "worse", "equivalent")
    assert [text.get_color() for text in named] == [figures.VERDICTS[kind] for kind in kinds]


def arrows(figure: Figure) -> list[tuple[str, str]]:
    return [
        (str(of.get_marker()), str(of.get_color()))
        for of in figure.axes[0].get_lines()
        if of.get_marker() in ("<", ">")
    ]


def test_an_interval_that_leaves_the_axis_has_an_arrow_and_its_number_is_written() -> None:
    usual = [line(1.0 + 0.1 * n, 1.0) for n in range(8)]
    assert arrows(drawn(*usual)) == []
    figure = drawn(*usual, line(90.0, 30.0), line(-70.0, 20.0))
    low, high = figure.axes[0].get_xlim()
    assert -70 < low < 0 < high < 90
    assert arrows(figure) == [(">", figures.VERDICTS["better"]), ("<", figures.VERDICTS["worse"])]
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "+90.00  (n = 5)" in texts and "\N{MINUS SIGN}70.00  (n = 5)" in texts
    assert "beyond" in " ".join(text.get_text() for text in figure.legends[0].get_texts())


@pytest.mark.parametrize(("value", "inside"), [(1.5, True), (40.0, False), (-40.0, False)])
def test_the_printed_gain_is_a_tick_or_an_arrow_of_its_colour(value: float, inside: bool) -> None:
    figure = drawn(line(1.0), line(2.0, printed=value))
    color = claim_figure.PRINTED["color"]
    (of,) = [of for of in figure.axes[0].get_lines() if of.get_color() == color]
    assert list(np.asarray(of.get_xdata())) == [value] * 2 if inside else of.get_marker() in "<>"
    assert "printed" in " ".join(text.get_text() for text in figure.legends[0].get_texts())
    without = drawn(line(1.0), line(2.0))
    assert "printed" not in " ".join(text.get_text() for text in without.legends[0].get_texts())


def test_the_axis_holds_the_margin_and_all_ordinary_intervals() -> None:
    tests = [line(0.1 * n, 0.5).test for n in range(10)]
    low, high = claim_figure.reach(tests)
    assert low <= min(-1.0, *(t.low for t in tests)) and high >= max(1.0, *(t.high for t in tests))
