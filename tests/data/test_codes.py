"""Labels that look like codes for missing ones, and whole numbers that may be classes, are named."""

from __future__ import annotations

import numpy as np
import pytest

from mmlib.data.bundle import Bundle, Task, make_bundle
from mmlib.data.check import stated_findings
from mmlib.data.codes import code_warnings

N = 60
SPLIT = np.repeat([0, 1, 2], [36, 12, 12])
SCORES = np.random.default_rng(0).uniform(-3, 3, N).round(2)


def bundle(labels: np.ndarray, task: Task | None = None) -> Bundle:
    task = task or Task("score", range=(float(labels.min()), float(labels.max())))
    features = {m: np.random.default_rng(1).normal(size=(N, 3)) for m in ("audio", "text")}
    ids = [f"u{i:02d}" for i in range(N)]
    return make_bundle("made", task, features, labels, SPLIT, ids)


def with_codes(value: float, count: int) -> np.ndarray:
    labels = SCORES.copy()
    labels[7 : 7 + count] = value
    return labels


@pytest.mark.parametrize(
    ("value", "count"), [(99, 3), (99, 1), (-999, 1), (1e3, 2), (-99, 6), (20, 1)]
)
def test_few_scores_far_from_all_others_are_named_with_the_first(value: float, count: int) -> None:
    (line,) = code_warnings(bundle(with_codes(value, count)))
    assert f"{count} score" in line and f"{value:g} for the utterance 'u07' first" in line
    rest = np.delete(SCORES, range(7, 7 + count))
    assert f"from {rest.min():g} to {rest.max():g}" in line


@pytest.mark.parametrize("count", [0, 7])
def test_scores_of_one_scale_and_groups_too_large_for_a_code_are_not(count: int) -> None:
    assert not code_warnings(bundle(with_codes(99, count)))
    assert not code_warnings(bundle(with_codes(5.5, 1))), "a gap smaller than the others' range"


def test_whole_scores_on_both_sides_of_0_may_be_classes_or_have_a_code_for_none() -> None:
    classes = np.arange(N) % 4
    coded = classes.copy()
    coded[[3, 40, 50, 55]] = -1
    (line,) = code_warnings(bundle(coded.astype(float)))
    assert "5 different ones from -1 to 3" in line and "If -1, the label of 4, stands" in line
    (two,) = code_warnings(bundle(np.where(classes > 1, 1.0, -1.0)))
    assert 'task = "classes"' in two and "stands for" not in two
    assert line in stated_findings(bundle(coded.astype(float))), "import and check print it"
    assert not code_warnings(bundle(SCORES)), "not whole"
    assert not code_warnings(bundle(np.arange(N) - 30.0)), "too many to be classes"


def test_the_one_class_below_0_may_stand_for_no_label() -> None:
    labels = np.arange(N) % 4
    (line,) = code_warnings(bundle(labels, Task("classes", ("-1", "0", "1", "2"))))
    assert "15 utterances of made have the class -1" in line
    assert not code_warnings(bundle(labels, Task("classes", ("-2", "-1", "0", "1"))))
    assert not code_warnings(bundle(labels, Task("classes", ("-1", "no", "1", "2"))))
