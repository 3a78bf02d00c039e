"""The backbone alone, with missing modalities as zeros: what every method is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmlib.data.bundle import Task
from mmlib.errors import InputError, unknown_name
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import TaskLoss

WEIGHTINGS = ("none", "normalised", "unnormalised")


@dataclass(frozen=True)
class PlainConfig:
    """The loss of a classification, which scores ignore.

    focal: exponent of the focal factor. class_weights: the inverse of each class's share of the training
    utterances; ``normalised`` divides a batch's loss by the sum of its weights (D13), ``unnormalised`` by
    its size (D14).
    """

    focal: float = 0.0
    class_weights: str = "none"

    def __post_init__(self) -> None:
        if self.class_weights not in WEIGHTINGS:
            raise unknown_name("class_weights", self.class_weights, WEIGHTINGS)
        if not 0 <= self.focal < float("inf"):
            raise InputError("focal", str(self.focal), "0 or more", "MM-DFN uses 0.5.")


VARIANTS: dict[str, PlainConfig] = {"paper": PlainConfig()}


@dataclass(frozen=True)
class Peek:
    """What a method may look at between epochs; test is not among it.

    epoch, epochs: the number of the epoch to come, and how many there are.
    train, valid, held_out: batches in order, the whole of the split without what is held out, and that.
    practise: train another method (a copy) for some epochs on the training data, under the same schedule.
    whole: the batches of a split with nothing hidden; of test only where the method says that it ``leaks``.
    """

    epoch: int
    epochs: int
    train: Callable[[], list[Batch]]
    valid: Callable[[], list[Batch]]
    held_out: Callable[[], list[Batch]]
    practise: Callable[[Plain, int], None]
    whole: Callable[[str], list[Batch]] = lambda _: []


class Plain(nn.Module):
    """Task loss on the backbone's prediction; the base of the other methods.

    Before each epoch ``fit`` calls ``start_epoch``. In each step it takes one loss after the other from ``losses``,
    runs the backward pass, calls ``after_backward``, clips the gradients of ``clipped()`` and steps. ``series`` is
    read after each step when a run keeps it. ``views`` are evaluated beside the prediction.

    continues: whether the optimizer goes on from the state in which a parent run left it.
    held_out: share of the training dialogues that no step sees, for methods that estimate something on them.
    leaks: whether the method looks at test data, as some released codes do; its variants' names then begin with
    ``leaking``.
    """

    continues: bool = False
    held_out: float = 0.0
    leaks: bool = False

    Config: type = PlainConfig
    config: Any

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        config: Any,
        dims: dict[str, int],
        class_counts: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.task = task
        self.config = config
        self.task_loss = _task_loss(task, config, class_counts)
        self.modalities = tuple(sorted(dims))
        self.keep_series = False

    def forward(self, batch: Batch) -> Fused:
        """The backbone's view of a batch."""
        fused: Fused = self.backbone(batch, batch.features)
        return fused

    def loss(self, batch: Batch) -> Tensor:
        """Scalar training loss of a batch (BALM Eq. 14)."""
        return self.fused_loss(batch, self(batch))

    def fused_loss(self, batch: Batch, fused: Fused) -> Tensor:
        """The task loss of the fused prediction, with what the backbone adds to it."""
        loss: Tensor = self.task_loss(fused.logits, batch.labels)
        extra = self.backbone.extra_loss(batch, fused)
        return loss if extra is None else loss + extra

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """The losses of a batch, each with an optimizer step of its own before the next is asked for; one here."""
        yield self.loss(batch)

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Look at training and validation before an epoch; what it returns is recorded, by name. Nothing here."""
        return {}

    def end_training(self, peek: Peek) -> dict[str, Tensor]:
        """Look once more after the last epoch; recorded as what ``start_epoch`` returns."""
        return {}

    def resets(self, epoch: int) -> bool:
        """Whether the optimizer forgets its state before an epoch."""
        return False

    def shares(self) -> np.ndarray | None:
        """Shares of the combinations of modalities in the epoch to come, (2^M - 1,), where the method sets them."""
        return None

    def views(self, fused: Fused) -> dict[str, Tensor]:
        """Further logits to evaluate, name to (n, C): each modality's own where the backbone has them."""
        return self.backbone.unimodal(fused)

    def after_backward(self) -> None:
        """Change gradients before clipping and the step; nothing here."""

    def clipped(self) -> Iterable[nn.Parameter]:
        """Parameters whose global gradient norm is clipped."""
        return self.backbone.parameters()

    def series(self) -> dict[str, Tensor]:
        """Quantities of the last step, each (M,), on the device."""
        return {}


def two_modalities_of_classes(method: Plain) -> None:
    """Raise InputError for a method of two modalities that was given another number, or another task than classes."""
    if len(method.modalities) != 2 or method.task.kind != "classes":
        raise InputError(
            type(method).__name__,
            f"{len(method.modalities)} modalities, task {method.task.kind}",
            "two modalities and classes",
            "Choose two of the modalities of a classification.",
        )


def _task_loss(task: Task, config: object, class_counts: Sequence[int]) -> TaskLoss:
    if not isinstance(config, PlainConfig):  # a method of a reader's own
        return TaskLoss(task)
    if config.class_weights == "none" or task.kind != "classes":
        return TaskLoss(task, config.focal)
    if len(class_counts) != task.outputs or min(class_counts) < 1:
        raise InputError(
            "class_weights",
            f"the counts {tuple(class_counts)}",
            f"{task.outputs} counts above 0",
            "Give build_method the training utterances per class.",
        )
    counts = torch.tensor(class_counts, dtype=torch.float32)
    return TaskLoss(task, config.focal, counts.sum() / counts, config.class_weights == "normalised")
