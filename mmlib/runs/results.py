"""From what a training leaves behind to what its record says: metrics by selection and mask, curves, predictions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmlib.data.bundle import Bundle
from mmlib.fit import Fitted
from mmlib.masks import Mask
from mmlib.metrics import all_metrics, curve_metrics, own_epochs, to_maximise
from mmlib.runs import clusters
from mmlib.runs.clusters import EXPECTED
from mmlib.runs.divergence import VALID, check_finite, check_size
from mmlib.runs.expected import answers, chances, expected_accuracy
from mmlib.runs.spec import SELECTIONS, RunSpec

FEW = 16  # values found before an epoch that stand in the record itself
NEXT_DRAW = 2**32  # from one draw's seed to that of the next: no run has a seed of this size


def draw_seed(spec: RunSpec, number: int) -> int:
    """The seed that a run's test masks of a draw are drawn with; of draw 0 it is the run's own."""
    return spec.seed + number * NEXT_DRAW


def draw_name(name: str, number: int) -> str:
    """What outputs under a further draw of a test mask are called."""
    return f"{name}, draw {number}"


@dataclass(frozen=True)
class _Read:
    """What results are read from."""

    spec: RunSpec
    """Of the run."""

    bundle: Bundle
    """With the run's modalities."""

    fitted: Fitted
    """What training left behind."""

    truth: Mapping[str, np.ndarray]
    """Labels by mask, and of validation as ``valid``."""

    further: Mapping[str, Collection[int]]
    """Numbers of the further draws of a test mask."""

    chosen: int
    """The epoch that validation picks by the main metric."""

    def draws(self, name: str) -> list[Mapping[int, np.ndarray]]:
        """Of each draw of a test mask, epoch to outputs; the run's own first, the others at picked epochs alone."""
        own = self.fitted.tests.get(name)
        first = self.fitted.picked[name] if own is None else dict(enumerate(own))
        numbers = self.further.get(name, ())
        return [first, *(self.fitted.picked[draw_name(name, number)] for number in numbers)]

    def chances(self, name: str) -> list[np.ndarray]:
        """Of each draw of a test mask, the posterior of what is answered, on twins that have it; else nothing."""
        law = dict(self.spec.eval_masks)[name]
        numbers = (0, *self.further.get(name, ()))
        known = [answers(self.spec, law, draw_seed(self.spec, number)) for number in numbers]
        return [mass for mass in known if mass is not None]


def results(
    spec: RunSpec,
    bundle: Bundle,
    fitted: Fitted,
    valid: Mask,
    tests: Mapping[str, Mask],
    further: Mapping[str, Collection[int]],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record's results, and arrays.

    valid, tests: the masks; further: by mask, the numbers of its further draws.
    """
    check_finite(fitted)
    task = bundle.task
    truth = {name: bundle.labels[mask.of(bundle.rows("test"))] for name, mask in tests.items()}
    truth["valid"] = bundle.labels[valid.of(bundle.rows("valid"))]
    of_valid = _curves(task, fitted.valid, truth["valid"])
    of_test = {name: _curves(task, outputs, truth[name]) for name, outputs in fitted.tests.items()}
    chosen = int(np.argmax(to_maximise(of_valid)))
    read = _Read(spec, bundle, fitted, truth, further, chosen)
    selected, arrays = _selected(read, of_test)
    check_size(fitted, task, bundle.labels[bundle.rows("train")], reported(selected))
    arrays = {name: in_all_rows(x, tests[name.split(".", 2)[2]]) for name, x in arrays.items()}
    arrays |= _of_clusters(read, tests, selected["valid"]["epochs"])
    curves = {
        "loss": [float(v) for v in fitted.loss],
        "valid": of_valid,
        "test": of_test,
        **_curves_of_method(task, fitted, truth),
    }
    return {"selected": selected, "curves": curves}, arrays | _kept_of_training(spec, fitted)


def _selected(
    read: _Read, curves: Mapping[str, Mapping[str, list[float]]]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """``selected`` of the record, and the predictions at the epochs that the main metric picks.

    curves: of test, by followed mask.

    Of each selection and test mask: ``metrics``, each at the epoch that its own value picks, on validation or on test,
    and the mean over the draws of the mask; ``epochs``, which that is; and ``epoch``, that of the main metric and of
    the predictions, which are those of the first draw. Masks that are not followed have no selection on test, and what
    test picks is of the first draw alone.
    """
    fitted = read.fitted
    last = len(fitted.loss) - 1
    of_valid = [all_metrics(read.bundle.task, x, read.truth["valid"]) for x in fitted.valid]
    on_valid = own_epochs(of_valid)
    selected: dict[str, Any] = {s: {"epoch": {}, "epochs": {}, "metrics": {}} for s in SELECTIONS}
    arrays = {}
    for name in _in_order(read.spec, fitted):
        draws = _Draws(read, name)
        picked = {
            "valid": (read.chosen, on_valid),
            "last": (last, dict.fromkeys(on_valid, last)),
        }
        if name in fitted.tests:
            best = int(np.argmax(to_maximise(curves[name])))
            picked["test"] = best, own_epochs(list(draws.metrics[0].values()))
        for selection, (main, epochs) in picked.items():
            part = selected[selection]
            part["epoch"][name] = main
            part["epochs"][name], part["metrics"][name] = draws.at(
                main, epochs, 1 if selection == "test" else len(draws.outputs)
            )
            arrays[f"predictions.{selection}.{name}"] = draws.outputs[0][main]
    return selected, arrays


def reported(selected: Mapping[str, Any]) -> dict[str, set[int]]:
    """By test mask, the epochs of its metrics and predictions; as ``VALID`` those that validation picks, and the last.

    selected: as a record has it.
    """
    epochs: dict[str, set[int]] = {}
    for selection, part in selected.items():
        for name, main in part["epoch"].items():
            at = {main, *part["epochs"][name].values()}
            epochs.setdefault(name, set()).update(at)
            if selection != "test":
                epochs.setdefault(VALID, set()).update(at)
    return epochs


class _Draws:
    """A test mask: of each draw, epoch to outputs and to metrics, and the posterior of what is answered."""

    def __init__(self, read: _Read, name: str) -> None:
        self.task = read.bundle.task
        self.outputs = read.draws(name)
        self.chances = read.chances(name)
        self.metrics = [
            {at: all_metrics(self.task, x, read.truth[name]) for at, x in outputs.items()}
            for outputs in self.outputs
        ]

    def at(
        self, main: int, epochs: Mapping[str, int], count: int
    ) -> tuple[dict[str, int], dict[str, float]]:
        """By metric its epoch, and its mean over the first draws; main: the main metric's epoch."""
        metrics = {
            m: _mean([drawn[at][m] for drawn in self.metrics[:count]]) for m, at in epochs.items()
        }
        if not self.chances:
            return dict(epochs), metrics
        at = epochs.get("accuracy", main)
        pairs = zip(self.chances[:count], self.outputs[:count], strict=True)
        metrics[EXPECTED] = _mean([expected_accuracy(mass, self.task, x[at]) for mass, x in pairs])
        return {**epochs, EXPECTED: at}, metrics


def _in_order(spec: RunSpec, fitted: Fitted) -> list[str]:
    """The test masks of a run by name, those that it follows first."""
    return sorted((name for name, _ in spec.eval_masks), key=lambda name: name not in fitted.tests)


def _mean(values: Sequence[float]) -> float:
    """Of one value that very value."""
    return values[0] if len(values) == 1 else float(np.mean(values))


def _of_clusters(
    read: _Read, tests: Mapping[str, Mask], epochs: Mapping[str, Mapping[str, int]]
) -> dict[str, np.ndarray]:
    """What the clusters of test count for each metric, over all draws of each mask; epochs: that validation picks."""
    task, arrays = read.bundle.task, {}
    every = clusters.of_test(read.bundle)
    for name, mask in tests.items():
        groups, draws = every.under(mask), read.draws(name)
        for metric, picks in clusters.counted(task).items():
            outputs = [drawn[epochs[name][picks]] for drawn in draws]
            arrays[clusters.array_name(metric, name)] = clusters.of_outputs(
                metric, task, outputs, read.truth[name], groups
            )
        if masses := read.chances(name):
            at = epochs[name][EXPECTED]
            pairs = zip(masses, draws, strict=True)
            arrays[clusters.array_name(EXPECTED, name)] = clusters.of_chances(
                [chances(mass, task, drawn[at]) for mass, drawn in pairs], groups
            )
    return arrays


def _curves_of_method(
    task: Any, fitted: Fitted, truth: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """The curves beside loss and metrics: series by epoch, further views, and small values found before epochs."""
    curves: dict[str, dict[str, Any]] = {}
    if fitted.series:
        curves["series"] = {
            key: _epoch_means(steps, len(fitted.loss)) for key, steps in fitted.series.items()
        }
    if fitted.views:
        curves["views"] = {
            name: _curves(task, outputs, truth[name.rpartition(".")[0]])
            for name, outputs in fitted.views.items()
        }
    if fitted.recorded:
        small = {
            name: values.reshape(len(values), -1).tolist()
            for name, values in fitted.recorded.items()
            if values[0].size <= FEW
        }
        curves["found"] = {"epochs": list(fitted.recorded_at), **small}
    return curves


def _kept_of_training(spec: RunSpec, fitted: Fitted) -> dict[str, np.ndarray]:
    """Series, the picked epoch's weights and values found before epochs, where a run keeps them."""
    arrays = {f"series.{key}": value for key, value in fitted.series.items()}
    if "weights" in spec.keep:
        arrays |= {f"weights.{key}": value.numpy() for key, value in fitted.weights.items()}
    if "found" in spec.keep:
        arrays |= {f"found.{name}": values for name, values in fitted.recorded.items()}
    return arrays


def _epoch_means(steps: np.ndarray, epochs: int) -> list[list[float]]:
    """(steps, M) -> (epochs, M)."""
    means = steps.reshape(epochs, -1, steps.shape[1]).astype(np.float64).mean(axis=1)
    return [[float(value) for value in row] for row in means]


def _curves(task: Any, outputs: np.ndarray, truth: np.ndarray) -> dict[str, list[float]]:
    rows = [curve_metrics(task, epoch, truth) for epoch in outputs]
    return {name: [row[name] for row in rows] for name in rows[0]}


def in_all_rows(outputs: np.ndarray, mask: Mask) -> np.ndarray:
    """Outputs (kept, C) as (n, C), NaN for utterances that play no part under the mask."""
    if mask.kept is None:
        return outputs
    rows = np.full((len(mask.kept), outputs.shape[1]), np.nan, dtype=outputs.dtype)
    rows[mask.kept] = outputs
    return rows
