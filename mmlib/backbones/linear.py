"""One linear layer over the standardised features side by side: what every network is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.frames import time_mean

SPREAD = 1e-6


@dataclass(frozen=True)
class LinearConfig:
    """It has no options."""


class Standardise(nn.Module):
    """One modality's features less their mean and over their standard deviation; zero where it is missing.

    mean, sd: (d,), those that ``fitted`` has set; 0 and 1 before.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("sd", torch.ones(dim))

    def fitted(self, values: Tensor) -> None:
        """Take mean and standard deviation over rows (n, d); dimensions without spread, or no rows, keep sd 1."""
        if not len(values):
            return
        exact = values.double()
        sd = exact.std(dim=0, unbiased=False)
        self.mean = exact.mean(dim=0).float()
        self.sd = torch.where(sd > SPREAD, sd, torch.ones_like(sd)).float()

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """(n, d), observed (n,) bool -> (n, d)."""
        return torch.where(
            observed[:, None], (values - self.mean) / self.sd, torch.zeros_like(values)
        )


class Linear(Backbone):
    """Linear(standardised features of all modalities, and for each whether it is observed).

    z^m is a modality's part of the logits, (n, C); hidden is the layer's input.
    """

    Config = LinearConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: LinearConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        self.encoders = nn.ModuleDict({m: Standardise(dims[m]) for m in self.modalities})
        self.embedding_dim = outputs
        self.prediction = nn.Linear(sum(dims.values()) + len(dims), outputs)

    def scaler(self, modality: str) -> Standardise:
        """What standardises a modality."""
        module = self.encoders[modality]
        assert isinstance(module, Standardise)
        return module

    def standardise(self, batch: Batch) -> None:
        """Take each modality's mean and standard deviation from the rows of a batch that have it."""
        for index, m in enumerate(self.modalities):
            self.scaler(m).fitted(time_mean(batch.features[m])[batch.observed[:, index]])

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        parts = {}
        for index, m in enumerate(self.modalities):
            observed = batch.observed[:, index]
            scaled = self.scaler(m)(time_mean(features[m]), observed)
            parts[m] = torch.cat([scaled, observed[:, None].to(scaled.dtype)], dim=1)
        hidden = torch.cat([parts[m] for m in self.modalities], dim=1)
        weights = self.prediction.weight.split([parts[m].shape[1] for m in self.modalities], dim=1)
        z = {
            m: F.linear(parts[m], weight)
            for m, weight in zip(self.modalities, weights, strict=True)
        }
        return Fused(z, hidden, self.prediction(hidden))
