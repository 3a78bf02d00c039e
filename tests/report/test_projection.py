"""Legends of t-SNE pictures: every label can be told apart and read, and none stands there without a point."""

import numpy as np
import pandas as pd
import pytest

from mmlib.data.bundle import Task
from mmlib.report import colours, figures, projection

CJK = "怒り"


def legend_of(shown: list[str], words: list[str]) -> list[str]:
    """The legend's words of two panels, the first of which has the first of the shown labels alone."""
    figure, axes = figures.panel_grid(2)
    for axis, labels in zip(axes, (shown[:1], shown), strict=True):
        places = np.arange(len(labels), dtype=float)
        frame = pd.DataFrame({"x": places, "y": places, "label": labels, "silhouette": 0.0})
        projection.scatter(axis, frame, "panel", words)
    projection.legend(figure, axes, words)
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_a_label_that_no_utterance_has_is_left_out() -> None:
    words = projection.words(Task("score", range=(-3.0, 3.0)))
    assert words == ["negative", "neutral", "positive"]
    assert legend_of(["positive", "negative"], words) == ["negative", "positive"]


def test_labels_that_the_font_lacks_have_a_number_that_a_note_explains() -> None:
    words = ["tråkig", "спокойный", CJK, "_none"]
    assert legend_of(words, words) == ["tråkig", "спокойный", "class 3", " _none"]
    assert projection.notes(words) == (f"The font of the picture lacks letters: class 3 is {CJK}.",)
    assert projection.notes(words[:2]) == ()


@pytest.mark.parametrize(("count", "note"), [(8, ""), (16, "Colours recur"), (65, "Beyond 64")])
def test_no_two_of_many_classes_have_one_look(count: int, note: str) -> None:
    words = ["text", "face", *(f"class-{place}" for place in range(count - 2))]
    looks = {(form["color"], form["marker"]) for form in colours.looks_of(words).values()}
    assert len(looks) == min(count, 64)
    assert " ".join(projection.notes(words)).startswith(note)
    assert bool(projection.notes(words)) is bool(note)
