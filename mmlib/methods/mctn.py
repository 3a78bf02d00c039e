"""MCTN: Found in Translation: Learning Robust Joint Representations by Cyclic Translations (BASELINES_MM 12, MM2 B).

Of every source's model L = L_task + 0.1 (MSE of the first target + MSE of its translation back + MSE of each further
target), over the rows that have the source, a target's over those that have it too; the mean over sources. Targets are
brought to mean 0 and variance 1 by the training rows that have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmlib.backbones.mctn import MCTN, Read
from mmlib.methods.own_network import own_network
from mmlib.methods.plain import Peek
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_weights
from mmlib.nn.frames import time_mean
from mmlib.nn.objectives import each_loss
from mmlib.nn.sums import mean_where

LEAST = 1e-6  # of a variance


@dataclass(frozen=True)
class MctnConfig(ReferenceConfig):
    """weight: of every translation's error."""

    weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("mctn", self, ("weight",))


VARIANTS: dict[str, MctnConfig] = {
    "paper": MctnConfig(),
    "no_translation": MctnConfig(weight=0.0),
}


class Mctn(Reference):
    """The method over the backbone ``mctn``.

    means, spreads: modality to (d,), of the training rows that have it.
    """

    Config = MctnConfig
    config: MctnConfig
    backbone: MCTN

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "mctn", MCTN)
        self.means: dict[str, Tensor] = {}
        self.spreads: dict[str, Tensor] = {}

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Before the first epoch, look how the features are spread."""
        if peek.epoch:
            return {}
        batches = peek.train()
        seen = torch.cat([batch.observed for batch in batches])
        for index, m in enumerate(self.modalities):
            values = torch.cat([time_mean(batch.features[m]) for batch in batches])
            shares = seen[:, index] / seen[:, index].sum().clamp(min=1)
            self.means[m] = shares @ values
            variance = shares @ (values - self.means[m]).square()
            self.spreads[m] = variance.clamp(min=LEAST).sqrt()
        return {}

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch: the mean over sources."""
        parts = self.backbone.parts(batch, batch.features)
        seen = dict(zip(self.modalities, batch.observed.unbind(dim=1), strict=True))
        truth = {m: self.standard(m, time_mean(x)) for m, x in batch.features.items()}
        each = []
        for source, read in parts.reads.items():
            task = mean_where(self.task_losses(read.logits, batch.labels), seen[source])
            each.append(task + self.config.weight * self.errors(source, read, truth, seen))
        return torch.stack(each).mean()

    def errors(
        self, source: str, read: Read, truth: dict[str, Tensor], seen: dict[str, Tensor]
    ) -> Tensor:
        """The sum of a source's mean squared errors; truth, modality to (n, d), and seen to (n,) bool."""
        back = (read.back - truth[source]).square().mean(dim=1)
        total = mean_where(back, seen[source])
        for m, made in read.made.items():
            missed = (made - truth[m]).square().mean(dim=1)
            total = total + mean_where(missed, seen[source] & seen[m])
        return total

    def standard(self, modality: str, values: Tensor) -> Tensor:
        """(n, d) brought to mean 0 and variance 1; as it is before training has begun."""
        if modality not in self.means:
            return values
        return (values - self.means[modality]) / self.spreads[modality]

    def task_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(n,): the task loss of every row."""
        if self.task.kind == "score" and self.config.absolute:
            return (logits[:, 0] - labels).abs()
        return each_loss(self.task, logits, labels)
