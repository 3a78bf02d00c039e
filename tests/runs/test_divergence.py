"""A training that explodes has failed, with its epoch and value; one that recovers has an offset to learn has not."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.fit import Fitted
from mmlib.runs import execute as execute_module
from mmlib.runs.divergence import Diverged, bounds, check_finite, check_size
from mmlib.runs.execute import execute
from mmlib.runs.results import reported
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store
from mmlib.runs.sweep import sweep
from mmlib.runs.workers import WARNINGS, kind_of

CLASSES, SCORE = Task("classes", ("a", "b")), Task("score", range=(-3.0, 3.0))
NUMBERS, YES_NO = np.array([0, 1, 1]), np.array([-3.0, 0.0, 3.0])
EPOCHS, ROWS = 3, 4
AT_1 = {"valid": {1, 2}, "test": {1, 2}}  # what is reported of a run whose best epoch is the second


def fitted(task: Task = CLASSES, picked: float = 1.0) -> Fitted:
    """A training of three epochs whose numbers are all one."""
    shape = (EPOCHS, ROWS, task.outputs)
    return Fitted(
        np.ones(EPOCHS),
        np.ones(shape),
        {"test": np.ones(shape)},
        {},
        {},
        1,
        picked={"other": {1: np.full(shape[1:], picked), 2: np.ones(shape[1:])}},
    )


def check(
    made: Fitted,
    task: Task = CLASSES,
    labels: np.ndarray | None = None,
    at: Mapping[str, Collection[int]] = AT_1,
) -> list[str]:
    """What a check warns of; it raises where the training has diverged."""
    usual = YES_NO if task.kind == "score" else NUMBERS
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_finite(made)
        check_size(made, task, usual if labels is None else labels, at)
    return [str(warning.message) for warning in caught]


def part(made: Fitted, where: str) -> np.ndarray:
    """(epochs, n, C): the outputs on validation or test."""
    return {"valid": made.valid, "tests": made.tests["test"]}[where]


def test_a_training_that_stays_small_passes_and_one_that_recovers_too() -> None:
    made = fitted(SCORE)
    assert not check(made, SCORE)
    made.loss[0], made.valid[0], made.tests["test"][0] = 8e12, 1e9, 1e9
    assert not check(made, SCORE)
    made.loss[:] = 8e12, 8e9, 8e7  # on its way down when the epochs end
    assert not check(made, SCORE)
    made.loss[:] = 8e12, 2e13, 7e11  # on its way down at last
    (told,) = check(made, SCORE)
    assert told == "a mean loss above 6e+05 at a reported epoch, and above the first one's"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["loss", "valid", "tests", "views"])
def test_what_is_not_finite_in_any_epoch_has_diverged_at_the_first_of_them(
    bad: float, where: str
) -> None:
    made = replace(fitted(), views={"test.audio": np.ones((EPOCHS, ROWS, 2))})
    array = {"loss": made.loss, "views": made.views["test.audio"]}.get(where)
    (part(made, where) if array is None else array)[1:] = bad
    with pytest.raises(Diverged, match=r"diverged: .* not finite, epoch 1, value") as told:
        check(made)
    assert told.value.epoch == 1 and not np.isfinite(told.value.value)


def test_notes_that_are_infinite_have_diverged_and_those_of_nan_alone_are_a_warning() -> None:
    gap = np.ones((2, 3))
    made = replace(fitted(), recorded={"gap": gap}, recorded_at=(0, 2))
    gap[1, 0] = np.nan  # as MCULoRA's cosines where two combinations have nothing in common
    assert not check(made)
    gap[1] = np.nan
    assert check(made) == ["NaN throughout in what the method noted before an epoch: gap"]
    gap[1] = 1, np.inf, 1
    with pytest.raises(Diverged, match="gap, noted before the epoch, is infinite, epoch 2"):
        check(made)


@pytest.mark.parametrize(
    ("task", "labels", "loss", "output"),
    [
        (CLASSES, NUMBERS, 1e5 * np.log(2), 1e6),
        (Task("classes", tuple("abcdefg")), NUMBERS, 1e5 * np.log(7), 1e6),
        (Task("binaries", ("joy", "fear")), np.zeros((3, 2)), 1e5 * np.log(2), 1e6),
        (SCORE, YES_NO, 6e5, 300.0),
        (SCORE, np.array([36.6, 38.0, 40.1]), 1e5 * (36.6**2 + 38**2 + 40.1**2) / 3, 4010.0),
        (SCORE, np.array([-1e-3, 1e-3]), 1e5, 100.0),  # networks begin with outputs of order one
    ],
)
def test_what_is_too_large_follows_from_the_labels_of_training(
    task: Task, labels: np.ndarray, loss: float, output: float
) -> None:
    found = bounds(task, labels)
    assert (found.loss, found.output) == pytest.approx((loss, output))


@pytest.mark.parametrize("labels", [38.2, 1985.0, 1962.0, 3e6])
def test_an_offset_that_is_not_learnt_yet_is_no_divergence(labels: float) -> None:
    train = labels + np.array([-1.0, 0.0, 1.0])
    made = fitted(SCORE)
    made.loss[:] = 3 * labels**2 * np.array([1.0, 1.02, 1.01])  # three heads, all near 0
    assert not check(made, SCORE, train)
    made.loss[1:] = 1, 0.5
    made.valid[1:] = made.tests["test"][1:] = labels  # learnt
    assert not check(made, SCORE, train)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("value", [9.9e5, 1e12])
@pytest.mark.parametrize(("task", "epoch"), [(CLASSES, 1), (CLASSES, 2), (SCORE, 1), (SCORE, 2)])
def test_a_loss_that_has_grown_beyond_measure_at_a_reported_epoch_has_diverged(
    sign: int, value: float, task: Task, epoch: int
) -> None:
    made = fitted(task)
    made.loss[epoch] = sign * value
    with pytest.raises(Diverged, match=f"the mean loss is above .*, epoch {epoch}, value") as told:
        check(made, task)
    assert told.value.value == sign * value
    assert not check(made, task, at={"valid": {0}, "test": {0}})
    made.loss[0] = value / 2
    if epoch == 1:
        assert len(check(made, task)) == 1, "it began there"


@pytest.mark.parametrize("task", [CLASSES, SCORE])
def test_a_loss_that_begins_beyond_measure_has_to_fall_tenfold(task: Task) -> None:
    made = fitted(task)
    made.loss[:] = 9.6e9, 9.5e9, 9.4e9
    with pytest.raises(Diverged, match="from the first epoch to the last, epoch 2, value"):
        check(made, task)
    made.loss[2] = 9.6e8
    assert not check(made, task), "it falls, and more epochs may end it"


def test_a_loss_that_has_grown_to_a_size_that_is_possible_is_a_bad_model() -> None:
    made = fitted()
    made.loss[:] = 1, 6.9e4, 6.9e4
    assert not check(made)
    made.loss[2] = 7e4
    with pytest.raises(Diverged, match="epoch 2, value 7e\\+04"):
        check(made)


@pytest.mark.parametrize("where", ["valid", "tests", "picked"])
@pytest.mark.parametrize("value", [301.0, -301.0, 9.9e5, 1e30])
def test_scores_far_beyond_the_labels_on_most_rows_have_diverged_whatever_the_loss(
    where: str, value: float
) -> None:
    made = fitted(SCORE, value if where == "picked" else 1.0)
    if where != "picked":
        part(made, where)[1, :3] = value
    with pytest.raises(Diverged, match=r"above 300 on . of 4 rows, epoch 1") as told:
        check(made, SCORE)
    assert told.value.value == value


@pytest.mark.parametrize("task", [CLASSES, SCORE])
def test_one_row_with_a_huge_output_is_a_warning_that_counts_it(task: Task) -> None:
    made = fitted(task)
    made.loss[:] = 200.0
    made.tests["test"][1, 3] = 1e9
    limit = "1e+06" if task is CLASSES else "300"
    assert check(made, task) == [f"outputs above {limit} on 1 of 4 rows: test"]
    made.tests["test"][2, 1:3] = -1e9
    assert check(made, task) == [f"outputs above {limit} on 2 of 4 rows: test"]


@pytest.mark.parametrize("task", [CLASSES, Task("binaries", ("joy", "fear"))])
@pytest.mark.parametrize("where", ["valid", "tests", "picked"])
def test_huge_outputs_for_classes_at_an_ordinary_loss_are_a_warning(task: Task, where: str) -> None:
    made = fitted(task, picked=1e9 if where == "picked" else 1.0)
    if where != "picked":
        part(made, where)[1] = 1e9
    name = {"valid": "validation", "tests": "test", "picked": "other"}[where]
    assert check(made, task) == [
        f"outputs above 1e+06 on 4 of 4 rows at an ordinary loss: {name}"
    ], "whatever the network is, the cause is not known"
    made.loss[1] = 101
    with pytest.raises(Diverged, match="epoch 1, value 1e\\+09"):
        check(made, task)


@pytest.mark.parametrize("name", ["valid", "test"])
def test_every_reported_epoch_is_checked_and_no_other(name: str) -> None:
    made = fitted(SCORE)
    part(made, "valid" if name == "valid" else "tests")[0] = 1e9
    assert not check(made, SCORE)
    with pytest.raises(Diverged, match="epoch 0"):
        check(made, SCORE, at={**AT_1, name: {0, 1, 2}})


def test_reported_are_the_epochs_of_all_selections_and_metrics() -> None:
    selected = {
        "valid": {"epoch": {"a": 3, "b": 3}, "epochs": {m: {"mae": 3, "r": 1} for m in "ab"}},
        "test": {"epoch": {"a": 4}, "epochs": {"a": {"mae": 4, "r": 0}}},
        "last": {"epoch": {"a": 9, "b": 9}, "epochs": {m: {"mae": 9, "r": 9} for m in "ab"}},
    }
    assert reported(selected) == {"a": {0, 1, 3, 4, 9}, "b": {1, 3, 9}, "valid": {1, 3, 9}}


def test_the_error_crosses_processes_and_has_its_kind() -> None:
    error = pickle.loads(pickle.dumps(Diverged("the loss", 4, 2e7)))
    assert str(error) == "training diverged: the loss, epoch 4, value 2e+07"
    assert (error.what, error.epoch, error.value) == ("the loss", 4, 2e7)
    assert [
        kind_of(e)
        for e in (error, MemoryError(), RuntimeError("CUDA out of memory."), KeyError("x"))
    ] == ["diverged", "out of memory", "out of memory", "KeyError"]


@pytest.fixture
def folder(toy: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(execute_module, "pick_device", lambda: torch.device("cpu"))
    save_bundle(toy(task=Task("score", range=(-1.5, 1.5))), tmp_path / "toy")
    return tmp_path / "toy"


def test_a_learning_rate_of_a_million_fails_as_diverged_and_so_does_what_starts_from_it(
    folder: Path, tmp_path: Path
) -> None:
    sizes = (("hidden", 8), ("graph", 6), ("layers", 2))
    wild = Training(epochs=2, batch=3, lr=1e6)
    parent = RunSpec(str(folder), 1, backbone_options=sizes, training=wild, keep=("weights",))
    child = RunSpec(
        str(folder), 1, backbone_options=sizes, training=Training(epochs=2, batch=3), parent=parent
    )
    calm = RunSpec(str(folder), 1, backbone_options=sizes, training=Training(epochs=2, batch=3))
    with pytest.raises(Diverged):
        execute(parent)
    store = Store(tmp_path / "s")
    report = sweep([child, calm], store, jobs=1, progress=False)
    assert (report.done, report.failed) == (1, 2)
    assert {failure.kind for failure in store.failures()} == {"diverged"} and len(
        store.failures()
    ) == 2
    assert all(
        "epoch" in failure.error and "value" in failure.error for failure in store.failures()
    )


@pytest.mark.parametrize("filters", ["ignore", "error", "default"])
def test_a_row_that_a_sensor_spoils_is_a_warning_in_the_sidecar_whatever_pythons_filters(
    filters: str, toy: Callable[..., Bundle], tmp_path: Path, folder: Path
) -> None:
    bundle = toy(task=Task("score", range=(-1.5, 1.5)))
    features = {name: values.copy() for name, values in bundle.features.items()}
    features["audio"][bundle.rows("test")[-1]] = 1e9
    save_bundle(replace(bundle, features=features), tmp_path / "spoilt")
    sizes = (("hidden", 8), ("graph", 6), ("layers", 2))
    training = Training(epochs=2, batch=3)
    spec = RunSpec(str(tmp_path / "spoilt"), 1, backbone_options=sizes, training=training)
    store = Store(tmp_path / "s")
    with warnings.catch_warnings():
        warnings.simplefilter(filters)  # type: ignore[arg-type]
        report = sweep([spec], store, jobs=1, progress=False)
    (kind,) = report.warnings
    assert "outputs above 120 on 4 of 16 rows: test" in kind, "its dialogue, of four, has one graph"
    assert (report.done, store.sidecar(next(iter(store.ids())))[WARNINGS]) == (1, {kind: 1})
