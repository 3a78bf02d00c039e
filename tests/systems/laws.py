"""A comparison system's networks on made data, for laws that all of them keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.experiments.rows import Stage
from mmlib.masks import complete, draw, patterns
from mmlib.methods import build_method
from mmlib.methods.plain import Peek, Plain
from mmlib.nn.batch import Batch, Resident, to_device

CLASSES = Task("classes", ("a", "b", "c"))
SCORE = Task("score", range=(-3.0, 3.0))
TASKS = {"classes": CLASSES, "score": SCORE}
DIMS = {
    2: {"audio": 6, "text": 5},
    3: {"audio": 6, "text": 5, "vision": 4},
    4: {"audio": 6, "gaze": 3, "text": 5, "vision": 4},
}


def built(stage: Stage, bundle: Bundle, seed: int = 0, parent: Plain | None = None) -> Plain:
    """The method of a stage over its network, for a bundle, with weights that are not the published ones.

    parent: of the stage before, whose weights a later stage starts from, as in a run.
    """
    torch.manual_seed(seed)
    outputs = bundle.task.outputs
    network = build_backbone(stage.backbone, bundle.dims, outputs, bundle.speakers, stage.network)
    counts = [10] * outputs if bundle.task.kind == "classes" else []
    method = build_method(
        stage.method, stage.variant, stage.options, network, bundle.task, bundle.dims, counts
    )
    if parent is not None:
        method.load_state_dict(parent.state_dict(), strict=False)
    return method


def chain(stages: Sequence[Stage], bundle: Bundle, seed: int = 0) -> list[Plain]:
    """The methods of a system's stages, each started from the weights of the one before, as runs do."""
    methods: list[Plain] = []
    for number, stage in enumerate(stages):
        before = methods[-1] if methods else None
        methods.append(built(stage, bundle, seed + number, before))
    return methods


def resident(bundle: Bundle, split: str = "train", whole: bool = False) -> Resident:
    """A split on the device, every combination of modalities in it; or with nothing hidden."""
    law = complete() if whole else patterns()
    return to_device(bundle, split, draw(law, bundle, split, 0), "cpu", complete=True)


def batch_of(bundle: Bundle, split: str = "train") -> Batch:
    """A whole split under mixed combinations of modalities as one batch."""
    held = resident(bundle, split)
    return held.batch(range(held.dialogues))


def peek(bundle: Bundle, epoch: int = 0, epochs: int = 10) -> Peek:
    """What a method may look at before an epoch."""

    def batches(split: str, whole: bool = False) -> Callable[[], list[Batch]]:
        held = resident(bundle, split, whole)
        return lambda: [held.batch(range(held.dialogues))]

    return Peek(
        epoch,
        epochs,
        batches("train"),
        batches("valid"),
        lambda: [],
        lambda method, count: None,
        lambda split: batches(split, True)(),
    )


def filled_in(batch: Batch, values: Mapping[str, torch.Tensor]) -> Batch:
    """The batch with other content where modalities are missing."""
    features: dict[str, Any] = {}
    for index, (m, x) in enumerate(sorted(batch.features.items())):
        seen = batch.observed[:, index].reshape(-1, *[1] * (x.ndim - 1))
        features[m] = torch.where(seen, x, values[m])
    return dataclasses.replace(batch, features=features)
