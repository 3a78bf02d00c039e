"""From a spec to its outcome: open the data, draw the masks, build, fit, and read off the results."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError
from mmlib.fit import Fitted, evaluation_batches, fit, pick_device
from mmlib.masks import Law, Mask, audit_lines, draw
from mmlib.methods import build_method
from mmlib.methods.plain import Plain
from mmlib.metrics import all_metrics, curve_metrics, own_epochs, to_maximise
from mmlib.nn.batch import to_device
from mmlib.runs.divergence import check_finite, check_size
from mmlib.runs.expected import NAME, expected_accuracy
from mmlib.runs.spec import SELECTIONS, RunSpec

FEW = 16  # values found before an epoch that stand in the record itself


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    record: dict[str, Any]
    """Plain containers, equal for equal runs."""

    arrays: dict[str, np.ndarray]
    """Predictions and what else is kept, by name."""

    sidecar: dict[str, Any]
    """Seconds, memory, device and versions, which may differ between equal runs."""


def prepare(spec: RunSpec) -> Bundle:
    """The bundle of a run, with its fold."""
    bundle = open_bundle(spec.data)
    if spec.fold is not None:
        bundle = bundle.with_fold(spec.fold)
    for split in ("valid", "test"):
        if bundle.task.kind == "score" and not bundle.labels[bundle.rows(split)].any():
            raise InputError(
                f"bundle {bundle.name}, {split}",
                "scores of 0 alone",
                "some above or below 0",
                "The main metrics ask for the sign of scores that are not 0: split the data otherwise.",
            )
    return bundle


def restrict(mask: Mask, bundle: Bundle, modalities: tuple[str, ...]) -> Mask:
    """A mask drawn over all modalities, for some of them: an utterance may be left with nothing (BALM Table 8).

    So a modality's missing rate and its very pattern are the same whatever it is combined with.
    """
    if not modalities:
        return mask
    columns = [bundle.modalities.index(m) for m in sorted(modalities)]
    return Mask(
        mask.utterance[:, columns],
        {m: f for m, f in mask.frames.items() if m in modalities},
        mask.kept,
    )


def mask_of(
    spec: RunSpec,
    law: Law,
    whole: Bundle,
    split: str,
    epoch: int = 0,
    shares: np.ndarray | None = None,
) -> Mask:
    """A run's mask, over its own modalities; combinations are of these alone, all else is drawn over the whole."""
    where = _drawn_over(spec, law, whole)
    return _of_run(spec, whole, where, draw(law, where, split, spec.seed, epoch, shares))


def _drawn_over(spec: RunSpec, law: Law, whole: Bundle) -> Bundle:
    """The data that a law's mask is drawn over: a run's own modalities for combinations, else all."""
    return whole.only(spec.modalities) if law.kind == "patterns" and spec.modalities else whole


def _of_run(spec: RunSpec, whole: Bundle, where: Bundle, mask: Mask) -> Mask:
    """A mask that was drawn over ``where``, over the run's own modalities."""
    return restrict(mask, whole, spec.modalities) if where is whole else mask


@dataclass(frozen=True)
class _Evaluated:
    """The masks of validation and test."""

    valid: Mask
    """Of validation."""

    tests: dict[str, Mask]
    """Of test, by name."""

    rates: list[dict[str, Any]]
    """What the record says of their missing rates: a line for each mask and each of the run's modalities."""


def _evaluated(spec: RunSpec, whole: Bundle, modalities: Sequence[str]) -> _Evaluated:
    """The masks of validation and test, each drawn once, and their rates over all that they are drawn over."""
    masks: list[Mask] = []
    rates: list[dict[str, Any]] = []
    validation = ("valid", spec.valid_mask or spec.train_mask, "valid")
    for name, law, split in (validation, *((name, law, "test") for name, law in spec.eval_masks)):
        where = _drawn_over(spec, law, whole)
        drawn = draw(law, where, split, spec.seed)
        masks.append(_of_run(spec, whole, where, drawn))
        lines = audit_lines(law, where, split, drawn)
        rates += [{"mask": name, **line} for line in lines if line["modality"] in modalities]
    names = [name for name, _ in spec.eval_masks]
    return _Evaluated(masks[0], dict(zip(names, masks[1:], strict=True)), rates)


def build(spec: RunSpec, bundle: Bundle) -> Plain:
    """The method of a run, freshly initialised from its seed; equal seeds give equal backbones."""
    torch.manual_seed(spec.seed)
    backbone = build_backbone(
        spec.backbone, bundle.dims, bundle.task.outputs, bundle.speakers, spec.backbone_options
    )
    counts = train_counts(bundle) if bundle.task.kind == "classes" else []
    return build_method(
        spec.method, spec.variant, spec.options, backbone, bundle.task, bundle.dims, counts
    )


def train_counts(bundle: Bundle) -> list[int]:
    """Training utterances per class."""
    return np.bincount(bundle.labels[bundle.rows("train")], minlength=bundle.task.outputs).tolist()


def execute(spec: RunSpec, parent_arrays: dict[str, np.ndarray] | None = None) -> Outcome:
    """Run a spec on one thread, deterministically on CPU."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    start = time.perf_counter()
    whole = prepare(spec)
    bundle = whole.only(spec.modalities) if spec.modalities else whole
    drawn = _evaluated(spec, whole, bundle.modalities)
    valid_mask, test_masks = drawn.valid, drawn.tests
    method = build(spec, bundle)
    memory_before = _start_from(parent_arrays or {}, method, spec)
    device = pick_device()
    fitted = _fit(spec, whole, bundle, method, valid_mask, test_masks, memory_before, device)
    masks = {"valid": valid_mask, **test_masks}
    record, arrays = _results(spec, bundle, fitted, masks)
    arrays |= _kept_of_method(spec, method, fitted, bundle, test_masks[spec.eval_masks[0][0]])
    record |= _parts(masks)
    record |= _identity(spec, bundle, method)
    record["masks"] = {
        "valid": valid_mask.fingerprint,
        **{f"test.{name}": mask.fingerprint for name, mask in test_masks.items()},
    }
    record["rates"] = drawn.rates
    return Outcome(record, arrays, _sidecar(time.perf_counter() - start, device))


def _fit(
    spec: RunSpec,
    whole: Bundle,
    bundle: Bundle,
    method: Plain,
    valid_mask: Mask,
    test_masks: Mapping[str, Mask],
    memory_before: dict[str, torch.Tensor],
    device: torch.device,
) -> Fitted:
    """Train a method; test masks that the run does not follow are evaluated at the picked epochs alone."""

    def train_mask(epoch: int, shares: np.ndarray | None = None) -> Mask:
        return mask_of(spec, spec.train_mask, whole, "train", epoch, shares)

    followed = {spec.eval_masks[0][0]} if "picked" in spec.keep else set(test_masks)
    return fit(
        method,
        bundle,
        train_mask,
        valid_mask,
        {name: mask for name, mask in test_masks.items() if name in followed},
        spec.training,
        spec.seed,
        resampled=spec.train_mask.resampled,
        keep_series="series" in spec.keep,
        device=device,
        keep_weights="weights" in spec.keep or "embeddings" in spec.keep,
        memory_before=memory_before,
        unfollowed={name: mask for name, mask in test_masks.items() if name not in followed},
    )


def _identity(spec: RunSpec, bundle: Bundle, method: Plain) -> dict[str, Any]:
    """What a record says of which run it is: names, versions, the spec and the number of parameters."""
    fingerprint = open_bundle(spec.data).fingerprint
    return {
        "id": spec.run_id(fingerprint),
        "key": spec.key(fingerprint),
        "numerics": spec.numerics,
        "fingerprint": fingerprint,
        "bundle": bundle.name,
        "status": "done",
        "spec": spec.to_json(),
        "parameters": sum(p.numel() for p in method.parameters()),
        "backbone_parameters": sum(p.numel() for p in method.backbone.parameters()),
    }


def _kept_of_method(
    spec: RunSpec, method: Plain, fitted: Fitted, bundle: Bundle, mask: Mask
) -> dict[str, np.ndarray]:
    """The last weights and the embeddings under the main mask, where a run keeps them."""
    arrays: dict[str, np.ndarray] = {}
    if "last" in spec.keep:
        arrays |= {
            f"weights.{key}": value.cpu().clone().numpy()
            for key, value in method.state_dict().items()
        }
        arrays |= {f"memory.{key}": value.numpy() for key, value in fitted.memory.items()}
    if "embeddings" in spec.keep:
        method.load_state_dict(fitted.weights)
        embedded = embeddings(method, bundle, mask, next(method.parameters()).device)
        arrays |= {name: in_all_rows(values, mask) for name, values in embedded.items()}
    return arrays


@torch.no_grad()
def embeddings(
    method: Plain, bundle: Bundle, mask: Mask, device: torch.device
) -> dict[str, np.ndarray]:
    """What a method makes of the test utterances, rows in the order of ``bundle.rows("test")``.

    ``embeddings.input.<m>`` (n, d_m): what the backbone gets, calibrated where the method calibrates (BALM Eq. 10);
    ``embeddings.z.<m>`` (n, d_emb), Eq. 11; ``embeddings.hidden`` (n, d_h), Eq. 12.
    """
    method.eval()
    parts: dict[str, list[torch.Tensor]] = {}
    for batch in evaluation_batches(to_device(bundle, "test", mask, device)):
        calibrate = getattr(method, "fcm", None)
        inputs = calibrate(batch) if calibrate is not None else batch.features
        fused = method.backbone(batch, inputs)
        of_batch = {f"input.{m}": x for m, x in inputs.items()}
        of_batch |= {f"z.{m}": z for m, z in fused.z.items()}
        of_batch["hidden"] = fused.hidden
        for name, values in of_batch.items():
            parts.setdefault(f"embeddings.{name}", []).append(values)
    return {name: torch.cat(values).cpu().numpy() for name, values in parts.items()}


def _results(
    spec: RunSpec, bundle: Bundle, fitted: Fitted, masks: Mapping[str, Mask]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record's results, and arrays; masks: by name, those of test and that of validation as ``valid``."""
    check_finite(fitted)
    task = bundle.task
    truth = {
        name: bundle.labels[mask.of(bundle.rows("valid" if name == "valid" else "test"))]
        for name, mask in masks.items()
    }
    valid = _curves(task, fitted.valid, truth["valid"])
    tests = {name: _curves(task, outputs, truth[name]) for name, outputs in fitted.tests.items()}
    chosen = int(np.argmax(to_maximise(valid)))
    check_size(fitted, task, truth["valid"], chosen)
    selected, arrays = _selected(spec, task, fitted, truth, tests, chosen)
    arrays = {name: in_all_rows(x, masks[name.split(".", 2)[2]]) for name, x in arrays.items()}
    curves = {
        "loss": [float(v) for v in fitted.loss],
        "valid": valid,
        "test": tests,
        **_curves_of_method(task, fitted, truth),
    }
    return {"selected": selected, "curves": curves}, arrays | _kept_of_training(spec, fitted)


def _expected(spec: RunSpec, task: Task, name: str, outputs: np.ndarray) -> dict[str, float]:
    """The expected accuracy under a test mask, on twins that have it; outputs are of the epoch that accuracy picks."""
    law = dict(spec.eval_masks)[name]
    if law.kind == "patterns" and spec.modalities:  # drawn over these modalities alone
        return {}
    expected = expected_accuracy(spec, law, task, outputs)
    return {} if expected is None else {NAME: expected}


def _selected(
    spec: RunSpec,
    task: Task,
    fitted: Fitted,
    truth: Mapping[str, np.ndarray],
    curves: Mapping[str, Mapping[str, list[float]]],
    chosen: int,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """``selected`` of the record, and the predictions at the epochs that the main metric picks.

    truth: labels by mask, and of validation as ``valid``. curves: of test, by followed mask. chosen: the epoch that
    validation picks by the main metric.

    Of each selection and test mask: ``metrics``, each at the epoch that its own value picks, on validation or on test;
    ``epochs``, which that is; and ``epoch``, that of the main metric and of the predictions. Masks that are not
    followed have no selection on test.
    """
    last = len(fitted.loss) - 1
    on_valid = own_epochs([all_metrics(task, outputs, truth["valid"]) for outputs in fitted.valid])
    lasts = dict.fromkeys(on_valid, last)
    selected: dict[str, Any] = {s: {"epoch": {}, "epochs": {}, "metrics": {}} for s in SELECTIONS}
    arrays = {}
    followed = {name: dict(enumerate(outputs)) for name, outputs in fitted.tests.items()}
    for name, outputs in {**followed, **fitted.picked}.items():
        metrics = {at: all_metrics(task, x, truth[name]) for at, x in outputs.items()}
        picked = {"valid": (chosen, on_valid), "last": (last, lasts)}
        if name in followed:
            best = int(np.argmax(to_maximise(curves[name])))
            picked["test"] = best, own_epochs(list(metrics.values()))
        for selection, (main, epochs) in picked.items():
            part = selected[selection]
            of_accuracy = epochs.get("accuracy", main)
            expected = _expected(spec, task, name, outputs[of_accuracy])
            part["epoch"][name] = main
            part["epochs"][name] = epochs | dict.fromkeys(expected, of_accuracy)
            own = {metric: metrics[at][metric] for metric, at in epochs.items()}
            part["metrics"][name] = own | expected
            arrays[f"predictions.{selection}.{name}"] = outputs[main]
    return selected, arrays


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


def _start_from(
    arrays: Mapping[str, np.ndarray], method: Plain, spec: RunSpec
) -> dict[str, torch.Tensor]:
    """Give a method its parent's weights; returns the optimizer's state, where the method goes on from it."""
    if spec.parent is not None and method.continues and "last" not in spec.parent.keep:
        raise InputError(
            "run, parent",
            "a parent that keeps no optimizer state",
            "'last' in its keep",
            f"Add it: {spec.method}, {spec.variant} goes on from that state.",
        )
    before = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if before:
        method.load_state_dict(_under("weights.", before), strict=False)
    return _under("memory.", before) if method.continues else {}


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _epoch_means(steps: np.ndarray, epochs: int) -> list[list[float]]:
    """(steps, M) -> (epochs, M)."""
    means = steps.reshape(epochs, -1, steps.shape[1]).astype(np.float64).mean(axis=1)
    return [[float(value) for value in row] for row in means]


def _curves(task: Any, outputs: np.ndarray, truth: np.ndarray) -> dict[str, list[float]]:
    rows = [curve_metrics(task, epoch, truth) for epoch in outputs]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _sidecar(seconds: float, device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "seconds": seconds,
        "device": device.type,
        "device_name": name,
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _parts(masks: Mapping[str, Mask]) -> dict[str, dict[str, int]]:
    """How many utterances play a part under the masks that leave some out; nothing where none does."""
    counts = {name: int(mask.kept.sum()) for name, mask in masks.items() if mask.kept is not None}
    return {"utterances": counts} if counts else {}


def in_all_rows(outputs: np.ndarray, mask: Mask) -> np.ndarray:
    """Outputs (kept, C) as (n, C), NaN for utterances that play no part under the mask."""
    if mask.kept is None:
        return outputs
    rows = np.full((len(mask.kept), outputs.shape[1]), np.nan, dtype=outputs.dtype)
    rows[mask.kept] = outputs
    return rows
