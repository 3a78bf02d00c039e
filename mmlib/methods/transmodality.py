"""TransModality: the task loss, and 10 times the error of every translation (BASELINES_MM2 27)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmlib.backbones.transmodality import Translated, TransModality
from mmlib.errors import InputError
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.frames import time_mean
from mmlib.nn.sums import mean_where


@dataclass(frozen=True)
class TransmodalityConfig(ReferenceConfig):
    """weight: of the mean absolute errors of translation, summed over cells and both ways."""

    weight: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight < math.inf:
            raise InputError("transmodality weight", str(self.weight), "0 or more", "Correct it.")


VARIANTS: dict[str, TransmodalityConfig] = {
    "paper": TransmodalityConfig(),
    "no_translation": TransmodalityConfig(weight=0.0),
}


class Transmodality(Reference):
    """The method over the backbone ``transmodality``."""

    Config = TransmodalityConfig
    config: TransmodalityConfig

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "transmodality", TransModality)

    @property
    def net(self) -> TransModality:
        """The backbone."""
        assert isinstance(self.backbone, TransModality)
        return self.backbone

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        parts = self.net.parts(batch, batch.features)
        errors = self.errors(batch, parts.translated)
        return self.fused_loss(batch, parts.fused) + self.config.weight * errors

    def errors(self, batch: Batch, translated: Mapping[str, Translated]) -> Tensor:
        """The sum over cells of |source - made| and |anchor - made|, means over features and over rows.

        A translation counts in the rows that have the source; that back into the anchor, in those that have both.
        """
        net, total = self.net, batch.labels.new_zeros((), dtype=torch.float32)
        seen = dict(zip(net.modalities, batch.observed.unbind(dim=1), strict=True))
        target = {m: time_mean(x) for m, x in batch.features.items()}
        for m, made in translated.items():
            both = seen[m] & seen[net.anchor]
            there = (made.source - target[m]).abs().mean(dim=1)
            back = (made.anchor - target[net.anchor]).abs().mean(dim=1)
            total = total + mean_where(there, seen[m]) + mean_where(back, both)
        return total
