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
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError
from mmlib.fit import Fitted, evaluation_batches, fit, pick_device
from mmlib.masks import Law, Mask, audit_lines, draw, is_random
from mmlib.methods import build_method
from mmlib.methods.plain import Plain
from mmlib.nn.batch import to_device
from mmlib.runs.gradients import watch
from mmlib.runs.results import draw_name, draw_seed, in_all_rows, results
from mmlib.runs.spec import RunSpec


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

    further: dict[str, dict[int, Mask]]
    """Further draws of the random ones of test, by name and number."""

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
    tests = dict(zip(names, masks[1:], strict=True))
    return _Evaluated(masks[0], tests, _further(spec, whole, tests), rates)


def _further(spec: RunSpec, whole: Bundle, first: Mapping[str, Mask]) -> dict[str, dict[int, Mask]]:
    """Further draws of the random test masks; none where all are the first one again, as at a rate of 0."""
    drawn: dict[str, dict[int, Mask]] = {}
    for name, law in spec.eval_masks:
        if not is_random(law):
            continue
        where = _drawn_over(spec, law, whole)
        masks = {
            number: _of_run(spec, whole, where, draw(law, where, "test", draw_seed(spec, number)))
            for number in range(1, spec.draws)
        }
        if any(mask.fingerprint != first[name].fingerprint for mask in masks.values()):
            drawn[name] = masks
    return drawn


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
    # Nothing reads memory before it is written, so results are the same, and a step has a thousand operations fewer.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    start = time.perf_counter()
    whole = prepare(spec)
    bundle = whole.only(spec.modalities) if spec.modalities else whole
    drawn = _evaluated(spec, whole, bundle.modalities)
    method = build(spec, bundle)
    if "gradients" in spec.keep:
        watch(method)
    memory_before = _start_from(parent_arrays or {}, method, spec)
    device = pick_device()
    fitted = _fit(spec, whole, bundle, method, drawn, memory_before, device)
    record, arrays = results(spec, bundle, fitted, drawn.valid, drawn.tests, drawn.further)
    arrays |= _kept_of_method(spec, method, fitted, bundle, drawn.tests[spec.eval_masks[0][0]])
    record |= _parts({"valid": drawn.valid, **drawn.tests})
    record |= _identity(spec, bundle, method)
    record["masks"] = {
        "valid": drawn.valid.fingerprint,
        **{f"test.{name}": mask.fingerprint for name, mask in drawn.tests.items()},
    }
    record["rates"] = drawn.rates
    return Outcome(record, arrays, _sidecar(time.perf_counter() - start, device))


def _fit(
    spec: RunSpec,
    whole: Bundle,
    bundle: Bundle,
    method: Plain,
    drawn: _Evaluated,
    memory_before: dict[str, torch.Tensor],
    device: torch.device,
) -> Fitted:
    """Train a method; what the run does not follow of test, and further draws, are evaluated at picked epochs alone."""

    def train_mask(epoch: int, shares: np.ndarray | None = None) -> Mask:
        return mask_of(spec, spec.train_mask, whole, "train", epoch, shares)

    followed = {spec.eval_masks[0][0]} if "picked" in spec.keep else set(drawn.tests)
    further = {
        draw_name(name, number): mask
        for name, masks in drawn.further.items()
        for number, mask in masks.items()
    }
    return fit(
        method,
        bundle,
        train_mask,
        drawn.valid,
        {name: mask for name, mask in drawn.tests.items() if name in followed},
        spec.training,
        spec.seed,
        resampled=spec.train_mask.resampled,
        keep_series=bool({"series", "gradients"} & set(spec.keep)),
        device=device,
        keep_weights="weights" in spec.keep or "embeddings" in spec.keep,
        memory_before=memory_before,
        unfollowed={n: mask for n, mask in drawn.tests.items() if n not in followed} | further,
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
