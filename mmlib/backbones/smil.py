"""SMIL: a missing modality as a mixture of centres of those that are there (BASELINES_MM 14, MM2 B).

The weights of the mixture come from the mean of what is present; noise that depends on it too is added to two layers.
Reduced: the published networks of image and sound become an encoder each (R1). The method ``smil`` finds the centres
before each epoch and trains by an inner and an outer step. More than two modalities, and scores, are a reading of
ours: one set of centres for each modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.encoder import Encoder
from mmlib.nn.latents import mean_seen
from mmlib.nn.tokens import stacked


@dataclass(frozen=True)
class SMILConfig:
    """Sizes. What is missing is completed, so that every modality takes part in the prediction.

    hidden: width of an encoding and of the hidden layer. centres: K, for each modality.
    """

    hidden: int = 64
    centres: int = 10

    def __post_init__(self) -> None:
        for name in ("hidden", "centres"):
            if getattr(self, name) < 1:
                raise InputError(f"smil {name}", str(getattr(self, name)), "1 or more", "Raise it.")


class Layers(NamedTuple):
    """The prediction, and two layers before and after what is added to them.

    joined, noisy_joined: (n, M hidden). inner, noisy_inner: (n, hidden).
    """

    fused: Fused
    joined: Tensor
    noisy_joined: Tensor
    inner: Tensor
    noisy_inner: Tensor


class SMIL(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean."""

    Config = SMILConfig
    centres: Tensor  # (M, K, hidden); zeros before the first epoch

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: SMILConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width = len(dims), config.hidden
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.weights = nn.ModuleDict({m: nn.Linear(width, config.centres) for m in self.modalities})
        self.joined_noise = nn.Linear(width, count * width)
        self.inner_noise = nn.Linear(width, width)
        self.joint = nn.Linear(count * width, width)
        self.embedding_dim = width
        self.prediction = nn.Linear(width, outputs)
        self.register_buffer("centres", torch.zeros(count, config.centres, width))

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, complete, join, predict."""
        return self.parts(batch, features).fused

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Layers:
        """The prediction of completed modalities, with what is added on the way; its noise is 0 outside training."""
        latents = self.latents(batch, features)
        told = mean_seen(latents, batch.observed)
        joined = torch.where(batch.observed[:, :, None], latents, self.mixed(told)).flatten(1)
        inner = F.relu(self.joint(joined))
        noisy_joined = joined + self.added(self.joined_noise(told))
        noisy_inner = F.relu(self.joint(noisy_joined)) + self.added(self.inner_noise(told))
        fused = self.fused(latents, noisy_inner)
        return Layers(fused, joined, noisy_joined, inner, noisy_inner)

    def present(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """The prediction of what is present, zeros elsewhere, with nothing added: that of the inner step."""
        latents = self.latents(batch, features)
        return self.fused(latents, F.relu(self.joint(latents.flatten(1))))

    def latents(self, batch: Batch, features: Mapping[str, Tensor]) -> Tensor:
        """h of each modality, zeros where it is missing, (n, M, hidden)."""
        encoded = {m: self.encoders[m](features[m]) for m in self.modalities}
        return torch.where(batch.observed[:, :, None], stacked(encoded, self.modalities), 0)

    def mixed(self, told: Tensor) -> Tensor:
        """sum_k w_k c_k / sum_k w_k, w = softplus(W told + b), for each modality: (n, hidden) -> (n, M, hidden)."""
        raw = torch.stack([self.weights[m](told) for m in self.modalities])  # (M, n, K)
        weights = F.softplus(raw)
        shares = weights / weights.sum(dim=2, keepdim=True)
        return torch.bmm(shares, self.centres).transpose(0, 1)

    def added(self, mean: Tensor) -> Tensor:
        """softplus(mean + noise)."""
        return F.softplus(mean + torch.randn_like(mean) if self.training else mean)

    def fused(self, latents: Tensor, inner: Tensor) -> Fused:
        """What the last layer makes of the hidden one."""
        z = dict(zip(self.modalities, latents.unbind(dim=1), strict=True))
        return Fused(z, inner, self.prediction(inner))

    def trained_inside(self) -> dict[str, nn.Parameter]:
        """The parameters that the inner step moves, by name: encoders, hidden layer and prediction."""
        parts = ("encoders.", "joint.", "prediction.")
        return {n: p for n, p in self.named_parameters() if n.startswith(parts)}
