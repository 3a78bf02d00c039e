"""The backbone alone, with missing modalities as zeros: what every method is compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmlib.data.bundle import Task
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import task_loss


@dataclass(frozen=True)
class PlainConfig:
    """No options."""


VARIANTS: dict[str, PlainConfig] = {"paper": PlainConfig()}


class Plain(nn.Module):
    """Task loss on the backbone's prediction; the base of the other methods.

    ``fit`` calls ``loss``, runs the backward pass, calls ``after_backward``, clips the gradients
    of ``clipped()`` and steps. ``series`` is read after each step when a run keeps it.
    """

    Config: type = PlainConfig
    config: Any

    def __init__(self, backbone: Backbone, task: Task, config: object, dims: dict[str, int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.task = task
        self.config = config
        self.modalities = tuple(sorted(dims))
        self.keep_series = False

    def forward(self, batch: Batch) -> Fused:
        """The backbone's view of a batch."""
        fused: Fused = self.backbone(batch, batch.features)
        return fused

    def loss(self, batch: Batch) -> Tensor:
        """Scalar training loss of a batch (BALM Eq. 14)."""
        return task_loss(self.task, self(batch).logits, batch.labels)

    def after_backward(self) -> None:
        """Change gradients before clipping and the step; nothing here."""

    def clipped(self) -> Iterable[nn.Parameter]:
        """Parameters whose global gradient norm is clipped."""
        return self.backbone.parameters()

    def series(self) -> dict[str, Tensor]:
        """Quantities of the last step, each (M,), on the device."""
        return {}
