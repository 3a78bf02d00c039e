"""When a training counts as diverged: it is then a failure with the epoch and the value, never a result.

The rule is relative to what the labels ask for, and is applied when the training has ended.
A *trivial answer* is 0 for a score and equal chances for classes; its loss is the mean square of training's scores, or
the logarithm of the number of classes.
Nothing under 1 counts as a score's scale, since networks begin with outputs and losses of order one.

Diverged is a training with

* a mean loss, or an output on validation, test or a view of them, that is not finite, in any epoch;
* an infinite value among those that the method noted before epochs (``recorded``), in any epoch;
* at a reported epoch, a mean loss both above ``FAR_LOSS`` times a trivial answer's and above ``GROWN`` times that of
  the first epoch, in magnitude;
* in the last epoch, a mean loss above ``FAR_LOSS`` times a trivial answer's that has not fallen to a tenth of the
  first epoch's: one that begins beyond all measure, as on features of 1e5, and stays there;
* at a reported epoch, outputs that are too large in magnitude on more than half of the rows of validation or of test
  under a mask: for a score above ``FAR`` times the largest score of training, whatever the loss; for classes above
  ``LIMIT``, where the mean loss of that epoch is above ``ORDINARY``, too.

Reported epochs are all at which the record has a metric or a prediction: the last one, those that validation picks by
any metric, and for test masks that are followed those that test picks by any metric. Under test masks that are not
followed, and in further draws, all outputs at hand (``picked``) are checked.
Of views the size is not checked; series, weights and the optimizer's state are not checked.

Less than that is a bad model, whose numbers show it, and is warned of once a run:

* too large outputs on some rows alone, as where a sensor failed in one row of test, or for classes on any number of
  rows at an ordinary loss, as where running statistics of batch normalisation are still near their start;
* a mean loss at a reported epoch that is so far above a trivial answer's and above the first epoch's, but not tenfold;
* notes of the method that are NaN throughout: single NaN stand for values that there are not.

None of these is an offset of the labels that is not learnt yet (years near 1985, first answered with 0), nor a huge
loss that falls tenfold: on raw features EBMC begins at 1e8 and ends at 20, and a few epochs may stop on the way.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mmlib.data.bundle import Task
from mmlib.fit import Fitted

VALID = "valid"  # no test mask may have this name
FAR = 100.0  # times the largest score of training: outputs
FAR_LOSS = 1e5  # times the loss of a trivial answer; networks that end well pass 1e4 early on
GROWN = 10.0  # times the first epoch's loss
FALLEN = 0.1  # of the first epoch's loss, which a huge one has to come to
LIMIT = 1e6  # outputs for classes
ORDINARY = 100.0  # a mean cross-entropy beyond which training itself has exploded


class Diverged(FloatingPointError):
    """A training whose loss or outputs exploded.

    what: what exploded. epoch: counted from 0. value: what it was there.
    """

    def __init__(self, what: str, epoch: int, value: float) -> None:
        self.what, self.epoch, self.value = what, epoch, value
        super().__init__(f"training diverged: {what}, epoch {epoch}, value {value:.4g}")

    def __reduce__(self) -> tuple[type, tuple[str, int, float]]:
        return type(self), (self.what, self.epoch, self.value)


@dataclass(frozen=True)
class Bounds:
    """What is too large, in magnitude."""

    loss: float
    """A mean loss."""

    output: float
    """An output."""

    ordinary: float
    """The mean loss up to which outputs of any size are a bad model."""


def bounds(task: Task, labels: np.ndarray) -> Bounds:
    """What is too large for a task; labels: those of training, as the bundle has them."""
    if task.kind == "score":
        scores = labels.astype(np.float64)
        trivial, largest = np.square(scores).mean(), np.abs(scores).max()
        return Bounds(FAR_LOSS * max(1.0, float(trivial)), FAR * max(1.0, float(largest)), -1.0)
    answers = len(task.names) if task.kind == "classes" else 2
    return Bounds(FAR_LOSS * math.log(max(2, answers)), LIMIT, ORDINARY)


def check_finite(fitted: Fitted) -> None:
    """Refuse a training in which a loss, an output or a note of the method is not finite.

    Raises:
        Diverged: there is one; the first epoch of it.
    """
    _refuse("the mean loss is not finite", fitted.loss[:, None], ~np.isfinite(fitted.loss[:, None]))
    every = {"validation": fitted.valid, **fitted.tests, **fitted.views}
    for name, outputs in every.items():
        _refuse(f"outputs on {name} are not finite", outputs, ~np.isfinite(outputs))
    for name, at in fitted.picked.items():
        for epoch, outputs in at.items():
            values = outputs[None]
            _refuse(f"outputs on {name} are not finite", values, ~np.isfinite(values), epoch)
    for name, noted in fitted.recorded.items():
        for epoch, values in zip(fitted.recorded_at or range(len(noted)), noted, strict=True):
            what = f"{name}, noted before the epoch, is infinite"
            _refuse(what, values[None], np.isinf(values[None]), epoch)
        flat = noted.reshape(len(noted), -1)
        if flat.shape[1] and np.isnan(flat).all(axis=1).any():
            _warn(f"NaN throughout in what the method noted before an epoch: {name}")


def check_size(
    fitted: Fitted, task: Task, labels: np.ndarray, reported: Mapping[str, Collection[int]]
) -> None:
    """Refuse a training whose loss or outputs are beyond all measure where they are reported, though finite.

    Args:
        labels: those of training, as the bundle has them.
        reported: the epochs that the record reports, by followed test mask, and of validation as ``VALID``.

    Raises:
        Diverged: with the epoch and the value.
    """
    limits = bounds(task, labels)
    epochs = {epoch for at in reported.values() for epoch in at}
    _check_losses(fitted.loss, sorted(epochs), limits)
    worst, told = 0.0, ""
    for epoch, name, outputs in sorted(_outputs(fitted, reported), key=lambda part: part[0]):
        far = (np.abs(outputs) > limits.output).any(axis=1)
        ordinary = abs(fitted.loss[epoch]) <= limits.ordinary
        rows = f"on {far.sum()} of {len(far)} rows"
        if not ordinary and far.sum() > len(far) / 2:
            value = float(outputs.flat[np.abs(outputs).argmax()])
            raise Diverged(f"outputs on {name} are above {limits.output:.3g} {rows}", epoch, value)
        if far.any() and far.mean() > worst:
            at = " at an ordinary loss" if ordinary else ""
            worst = float(far.mean())
            told = f"outputs above {limits.output:.3g} {rows}{at}: {name}"
    if told:
        _warn(told)


def _outputs(
    fitted: Fitted, reported: Mapping[str, Collection[int]]
) -> Iterator[tuple[int, str, np.ndarray]]:
    """Epoch, name and outputs (n, C) of all that is reported."""
    yield from ((epoch, "validation", fitted.valid[epoch]) for epoch in reported[VALID])
    for name, outputs in fitted.tests.items():
        yield from ((epoch, name, outputs[epoch]) for epoch in reported[name])
    for name, at in fitted.picked.items():
        yield from ((epoch, name, outputs) for epoch, outputs in at.items())


def _check_losses(loss: np.ndarray, epochs: list[int], limits: Bounds) -> None:
    above = [epoch for epoch in epochs if abs(loss[epoch]) > limits.loss]
    for epoch in above:
        if abs(loss[epoch]) > GROWN * abs(loss[0]):
            raise Diverged(
                f"the mean loss is above {limits.loss:.3g}, {FAR_LOSS:g} times a trivial answer's, and more than "
                f"{GROWN:g} times the first epoch's",
                epoch,
                float(loss[epoch]),
            )
    last = len(loss) - 1
    if last in above and last > 0 and abs(loss[last]) > FALLEN * abs(loss[0]):
        raise Diverged(
            f"the mean loss is above {limits.loss:.3g}, {FAR_LOSS:g} times a trivial answer's, from the first epoch to "
            "the last",
            last,
            float(loss[last]),
        )
    if any(abs(loss[epoch]) > abs(loss[0]) for epoch in above):
        _warn(f"a mean loss above {limits.loss:.3g} at a reported epoch, and above the first one's")


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=1)


def _refuse(what: str, values: np.ndarray, bad: np.ndarray, first: int = 0) -> None:
    """values, bad: (epochs, ...), the first of them of the epoch ``first``."""
    if bad.any():
        place = tuple(axis[0] for axis in np.nonzero(bad))
        raise Diverged(what, first + int(place[0]), float(values[place]))
