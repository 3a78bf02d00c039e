"""How completion is trained: on batches with more hidden, with a loss on that, beside the task loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmlib.errors import InputError, unknown_name
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.completion import TARGETS, Known, known


@dataclass(frozen=True)
class CompletionConfig(ReferenceConfig):
    """targets: ``selfdrop`` or ``complete`` training rows (R5). dropped: share of rows in which self-drop hides more.

    weight: of the further losses, next to the task's.
    """

    targets: str = "selfdrop"
    dropped: float = 0.5
    weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets not in TARGETS:
            raise unknown_name("targets", self.targets, TARGETS)
        if not 0 <= self.dropped <= 1:
            raise InputError("dropped", str(self.dropped), "a share in [0, 1]", "Correct it.")
        if not 0 <= self.weight < float("inf"):
            raise InputError("weight", str(self.weight), "0 or more", "Correct it.")


class Completion(Reference):
    """The task loss on what is given, and what a subclass adds to it."""

    Config = CompletionConfig
    config: CompletionConfig

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.backbone.needs_complete = self.config.targets == "complete"

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch: what is given of it is drawn first."""
        return self.divided_loss(known(batch, self.config.targets, self.config.dropped))

    def divided_loss(self, division: Known) -> Tensor:
        """Scalar loss of a divided batch."""
        raise NotImplementedError


def over_modalities(values: Tensor, counts: Tensor) -> Tensor:
    """Sum over modalities of the mean over the rows that count; 0 for one without any. values, counts (n, M)."""
    return ((values * counts).sum(dim=0) / counts.sum(dim=0).clamp(min=1)).sum()
