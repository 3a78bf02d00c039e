"""A training that explodes is a failure with its epoch and value; one that recovers is a result."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.fit import Fitted
from mmlib.runs import execute as execute_module
from mmlib.runs.divergence import LIMIT, ORDINARY, Diverged, check_finite, check_size
from mmlib.runs.execute import execute
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store
from mmlib.runs.sweep import sweep
from mmlib.runs.workers import kind_of

CLASSES, SCORE = Task("classes", ("a", "b")), Task("score", range=(-3.0, 3.0))
EPOCHS = 3


def fitted(task: Task = CLASSES, picked: float = 1.0) -> Fitted:
    """A training of three epochs whose numbers are all one."""
    shape = (EPOCHS, 4, task.outputs)
    return Fitted(
        np.ones(EPOCHS),
        np.ones(shape),
        {"test": np.ones(shape)},
        {},
        {},
        1,
        picked={"other": {1: np.full(shape[1:], picked), 2: np.ones(shape[1:])}},
    )


def check(made: Fitted, task: Task = CLASSES, chosen: int = 1) -> None:
    check_finite(made)
    check_size(made, task, np.zeros(4), chosen)


def test_a_training_that_stays_small_passes_and_one_that_recovers_too() -> None:
    made = fitted(SCORE)
    check(made, SCORE)
    made.loss[0], made.valid[0], made.tests["test"][0] = 8e12, 1e9, 1e9
    check(made, SCORE)
    made.loss[:] = 8e12, 8e9, 8e7  # on its way down when the epochs end
    check(made, SCORE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["loss", "valid", "tests"])
def test_what_is_not_finite_in_any_epoch_has_diverged_at_the_first_of_them(
    bad: float, where: str
) -> None:
    made = fitted()
    array = {"loss": made.loss, "valid": made.valid, "tests": made.tests["test"]}[where]
    array[1:] = bad
    with pytest.raises(Diverged, match=r"diverged: .* not finite, epoch 1, value") as told:
        check(made)
    assert told.value.epoch == 1 and not np.isfinite(told.value.value)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_last_loss_and_what_is_reported_have_a_limit(sign: int) -> None:
    for change in ("loss", "valid", "tests", "picked"):
        for factor, diverges in ((0.99, False), (1.01, True)):
            value = sign * factor * LIMIT
            made = fitted(picked=value if change == "picked" else 1.0)
            made.loss[:] = 2 * ORDINARY
            if change == "loss":
                made.loss[-1] = value
            elif change != "picked":
                {"valid": made.valid, "tests": made.tests["test"]}[change][1, 2, 0] = value
            if not diverges:
                check(made)
                continue
            with pytest.raises(
                Diverged,
                match=f"epoch {2 if change == 'loss' else 1}, value {value:.4g}".replace(
                    "+", r"\+"
                ),
            ):
                check(made)


@pytest.mark.parametrize("where", ["valid", "tests", "picked"])
def test_huge_outputs_for_classes_at_an_ordinary_loss_are_a_warning(where: str) -> None:
    made = fitted(picked=1e9 if where == "picked" else 1.0)
    if where != "picked":
        {"valid": made.valid, "tests": made.tests["test"]}[where][1] = 1e9
    with pytest.warns(RuntimeWarning, match="too few steps for batch normalisation"):
        check(made)
    made.loss[1] = 2 * ORDINARY
    with pytest.raises(Diverged, match="epoch 1, value 1e\\+09"):
        check(made)


def test_huge_scores_are_a_divergence_whatever_the_loss() -> None:
    made = fitted(SCORE)
    made.tests["test"][1] = 1e9
    with pytest.raises(Diverged, match="an output on test"):
        check(made, SCORE)


def test_an_error_of_more_than_twice_the_labels_range_has_diverged() -> None:
    for error, diverges in ((11.9, False), (12.1, True)):
        made = fitted(SCORE)
        made.valid[1] = error  # the labels are 0, and their range is 6 wide
        if not diverges:
            check(made, SCORE)
            continue
        with pytest.raises(Diverged, match=r"range, 6, epoch 1, value 12.1"):
            check(made, SCORE)
        check(made, SCORE, chosen=0)


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
