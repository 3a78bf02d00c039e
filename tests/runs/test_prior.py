"""What training knows of the missingness of the tests, case by case."""

from __future__ import annotations

import dataclasses

import pytest

from mmlib import masks
from mmlib.masks import Law
from mmlib.runs.prior import most, one_model, prior, serves_all
from mmlib.runs.spec import RunSpec

NAMES = ("audio", "text", "vision")
RATES = {"audio": 0.5, "text": 0.7, "vision": 0.3}
TESTS = (
    ("all", masks.complete()),
    ("audio", masks.subset(("audio",))),
    ("shared", masks.shared(0.4)),
    ("imbalanced", masks.imbalanced(RATES)),
    ("label", masks.mnar_label(0.5, 2)),
)


def run(train: Law, **other: object) -> RunSpec:
    return RunSpec("twin:iemocap6@smoke", 0, train_mask=train, eval_masks=TESTS, **other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("train", "grade"),
    [
        (masks.complete(), "none"),
        (masks.patterns(), "generic"),
        (masks.shared(0.3), "generic"),
        (masks.shared(0.4), "matched"),
        (masks.mcar(0.4), "matched"),  # another law of a test's rates
        (masks.subset(("text",)), "generic"),
        (masks.subset(("audio",)), "matched"),
        (masks.imbalanced({**RATES, "text": 0.6}), "generic"),
        (masks.imbalanced(RATES), "matched"),
        (masks.mnar_label(0.5, 2), "matched"),
        (dataclasses.replace(masks.shared(0.4), resampled=True), "matched"),
    ],
    ids=str,
)
def test_a_grade_follows_from_the_laws(train: Law, grade: str) -> None:
    assert prior(run(train), NAMES) == grade


def test_it_is_a_question_of_the_tests_that_are_meant() -> None:
    spec = run(masks.shared(0.4))
    assert prior(spec, NAMES, ["shared"]) == "matched"
    assert prior(spec, NAMES, ["audio", "label"]) == "generic"


def test_validation_and_earlier_stages_know_too() -> None:
    seen = run(masks.shared(0.4), keep=("weights",))
    assert prior(run(masks.complete(), parent=seen), NAMES) == "matched"
    assert prior(run(masks.complete(), valid_mask=masks.patterns()), NAMES) == "generic"


def test_one_model_is_one_run() -> None:
    one, other = run(masks.complete()), run(masks.shared(0.4))
    assert one_model([one, run(masks.complete())]) and not one_model([one, other])


def test_of_several_runs_the_most_counts_and_one_model_is_asked_for_by_seed() -> None:
    knows, nothing = run(masks.shared(0.4)), run(masks.complete())
    assert most([nothing, run(masks.patterns())], NAMES) == "generic"
    assert most([nothing, knows, knows], NAMES) == "matched"
    assert most([nothing, knows], NAMES, ["audio"]) == "generic"
    other = dataclasses.replace(nothing, seed=1)
    assert serves_all([nothing, nothing, other])
    assert not serves_all([nothing, knows, other])
