"""A reading of DEVA: the task loss, on features whose thirds are found in the training rows first (MM2 28)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmlib.backbones.deva import DEVA
from mmlib.methods.own_network import own_network
from mmlib.methods.plain import Peek
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.frames import time_mean

VARIANTS: dict[str, ReferenceConfig] = {
    "style": ReferenceConfig(),
    "squared": ReferenceConfig(absolute=False),
}


class Deva(Reference):
    """The method over the backbone ``deva``."""

    backbone: DEVA

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "deva", DEVA)

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Before the first epoch, find the thirds of every feature."""
        if peek.epoch == 0:
            batches = peek.train()
            seen = torch.cat([b.observed for b in batches])
            for m, description in self.backbone.descriptions.items():
                values = torch.cat([time_mean(b.features[m]) for b in batches])
                description.cut(values, seen[:, self.modalities.index(m)])  # type: ignore[operator]
        return {}
