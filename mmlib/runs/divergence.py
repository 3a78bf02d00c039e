"""When a training counts as diverged: it is then a failure with the epoch and the value, never a result.

One rule, checked when the training has ended:

* a loss or an output that is not finite, in any epoch;
* a mean loss that has grown over the training to above ``LIMIT`` in magnitude;
* an output that is reported above ``LIMIT`` in magnitude; of classes only where the mean loss of its epoch is above
  ``ORDINARY``, too;
* for a score, a mean absolute error on validation, at the epoch that validation picks, above ``WIDTHS`` times the width
  of the labels' range.

A huge loss that falls is no divergence: on raw features EBMC begins at 1e8 and ends at 20, and a few epochs may stop
on the way.
Outputs for classes that are huge in evaluation while the loss is ordinary are a bad model, but no divergence: batch
normalisation ends so after a handful of steps, when its running statistics are still near their start (33 clips, nine
steps: losses near 2, outputs of 1e8). They are warned of.
Networks that are far from done when validation picks the first epoch (pre-training for one modality at a time) reach an
error of 1.6 widths and still end well, so one width is not enough to tell.
"""

from __future__ import annotations

import warnings

import numpy as np

from mmlib.data.bundle import Task
from mmlib.fit import Fitted

LIMIT = 1e6
ORDINARY = 100.0  # a mean cross-entropy beyond which training itself has exploded
SETTLING = f"outputs above {LIMIT:g} in evaluation alone: too few steps for batch normalisation"
WIDTHS = 2.0


class Diverged(FloatingPointError):
    """A training whose loss or outputs exploded.

    what: what exploded. epoch: counted from 0. value: what it was there.
    """

    def __init__(self, what: str, epoch: int, value: float) -> None:
        self.what, self.epoch, self.value = what, epoch, value
        super().__init__(f"training diverged: {what}, epoch {epoch}, value {value:.4g}")

    def __reduce__(self) -> tuple[type, tuple[str, int, float]]:
        return type(self), (self.what, self.epoch, self.value)


def check_finite(fitted: Fitted) -> None:
    """Refuse a training in which a loss or an output is not finite.

    Raises:
        Diverged: there is one; the first epoch of it.
    """
    _refuse("the mean loss is not finite", fitted.loss[:, None], ~np.isfinite(fitted.loss[:, None]))
    for name, outputs in (("validation", fitted.valid), *fitted.tests.items()):
        flat = outputs.reshape(len(outputs), -1)
        _refuse(f"outputs on {name} are not finite", flat, ~np.isfinite(flat))
    for name, at in fitted.picked.items():
        for epoch, outputs in at.items():
            _refuse(
                f"outputs on {name} are not finite",
                outputs[None],
                ~np.isfinite(outputs[None]),
                epoch,
            )


def check_size(fitted: Fitted, task: Task, valid_labels: np.ndarray, chosen: int) -> None:
    """Refuse a training whose last loss or reported outputs are beyond all measure, though finite.

    Args:
        valid_labels: (n_valid,) or (n_valid, K), as the bundle has them.
        chosen: the epoch that validation picks.

    Raises:
        Diverged: with the epoch and the value.
    """
    last = len(fitted.loss) - 1
    if abs(fitted.loss[-1]) > abs(fitted.loss[0]):
        _limit("the mean loss of the last epoch", fitted.loss[-1:], last)
    reported = {
        **{name: dict(enumerate(x)) for name, x in fitted.tests.items()},
        **fitted.picked,
        "validation": dict(enumerate(fitted.valid)),
    }
    settling = False
    for name, at in reported.items():
        for epoch in sorted({chosen, last} & set(at)):
            if task.kind == "classes" and abs(fitted.loss[epoch]) <= ORDINARY:
                settling |= bool(np.abs(at[epoch]).max(initial=0.0) > LIMIT)
            else:
                _limit(f"an output on {name}", at[epoch], epoch)
    if settling:
        warnings.warn(SETTLING, RuntimeWarning, stacklevel=2)
    if task.kind == "score" and task.range is not None:
        width = task.range[1] - task.range[0]
        error = float(np.abs(fitted.valid[chosen][:, 0].astype(np.float64) - valid_labels).mean())
        if error > WIDTHS * width:
            raise Diverged(
                f"the mean absolute error on validation is above {WIDTHS:g} times the width of the labels' "
                f"range, {width:g}",
                chosen,
                error,
            )


def _limit(what: str, values: np.ndarray, epoch: int) -> None:
    _refuse(
        f"{what} is above {LIMIT:g} in magnitude", values[None], np.abs(values[None]) > LIMIT, epoch
    )


def _refuse(what: str, values: np.ndarray, bad: np.ndarray, first: int = 0) -> None:
    """values, bad: (epochs, ...), the first of them of the epoch ``first``."""
    if bad.any():
        place = tuple(axis[0] for axis in np.nonzero(bad))
        raise Diverged(what, first + int(place[0]), float(values[place]))
