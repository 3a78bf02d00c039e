"""A perceptron over means over real frames: the simplest pre-trained network of DREAM's Fig. 5 (a guess)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.frames import time_mean


@dataclass(frozen=True)
class MLPConfig:
    """hidden: units of the one layer between features and prediction."""

    hidden: int = 64

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise InputError("mlp hidden", str(self.hidden), "1 or more", "Raise it.")


class MLP(Backbone):
    """Linear(all means side by side) -> ReLU -> Linear; z^m is a modality's part of the first layer's sum."""

    Config = MLPConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MLPConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        layers = {m: nn.Linear(dims[m], config.hidden, bias=False) for m in self.modalities}
        for layer in layers.values():
            bound = sum(dims.values()) ** -0.5  # as of one layer over all
            nn.init.uniform_(layer.weight, -bound, bound)
        self.encoders = nn.ModuleDict(layers)
        self.bias = nn.Parameter(torch.zeros(config.hidden))
        self.embedding_dim = config.hidden
        self.prediction = nn.Linear(config.hidden, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        z = {m: self.encoders[m](time_mean(features[m])) for m in self.modalities}
        hidden = F.relu(torch.stack([z[m] for m in self.modalities]).sum(dim=0) + self.bias)
        return Fused(z, hidden, self.prediction(hidden))
