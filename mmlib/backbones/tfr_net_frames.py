"""TFR-Net over frames: every frame with what its own and the other modalities' frames tell of it (BASELINES_MM 8).

H_m holds a self-attention of the modality's frames and an attention over each other modality's, for dropped frames,
too, whose positions ask. A linear map of H_m should give the features of the frames that were dropped: the method
``tfr_net_frames`` asks for that. The prediction reads each modality's largest gated value over its frames. The encoder
that takes time for channels fixes the number of frames and is left out, as are the recurrent layers of the fusion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_heads, check_shares
from mmlib.nn.crossings import Crossings, over, padded, pairs, positions
from mmlib.nn.dropout import dropout
from mmlib.nn.frames import as_frames
from mmlib.nn.latents import Several


@dataclass(frozen=True)
class FrameTFRNetConfig:
    """hidden: width of each part of H_m. layers, heads: of every attention. fusion: of the last layer.

    Dropped frames and padding are no keys, and are not among those that the prediction reads; a missing modality gives
    it zeros.
    """

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    fusion: int = 128
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_counts("tfr_net_frames", self, ("hidden", "layers", "heads", "fusion"))
        check_heads("tfr_net_frames", self.hidden, self.heads)
        check_shares("tfr_net_frames", self)


class Parts(NamedTuple):
    """What the loss reads: made, modality to (n, t, d_m), the features of its frames as made from H_m."""

    fused: Fused
    made: dict[str, Tensor]


class FrameTFRNet(Backbone):
    """The network over frames (n, t, d), whose numbers may differ by modality. z^m is what is read of a modality."""

    Config = FrameTFRNetConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: FrameTFRNetConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width, of = len(dims), config.hidden, (config.heads, config.layers, config.dropout)
        self.encoders = nn.ModuleDict(
            {m: nn.Linear(dims[m], width, bias=False) for m in self.modalities}
        )
        self.own = Crossings(count, width, *of)
        self.cross = Crossings(count * (count - 1), width, *of)
        joined = count * width
        self.generators = nn.ModuleDict({m: nn.Linear(joined, dims[m]) for m in self.modalities})
        self.gates, self.maps = Several(count, joined, 1), Several(count, joined, width)
        self.norm, self.last = nn.LayerNorm(joined), nn.Linear(joined, config.fusion)
        self.embedding_dim = width
        self.prediction = nn.Linear(config.fusion, outputs)

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, let frames look at frames, make the frames' features, predict from the largest gated values."""
        frames = [as_frames(features[m]) for m in self.modalities]
        real = padded([(x != 0).any(dim=2, keepdim=True).to(x.dtype) for x in frames])[..., 0] > 0
        real = real & batch.observed.t()[:, :, None]  # (M, n, T)
        values = padded([self.encoders[m](x) for m, x in zip(self.modalities, frames, strict=True)])
        values = torch.where(real[..., None], values, 0)
        values = values + positions(values.shape[2], values.shape[3], values)
        joined = self.joined(values, real)
        read = self.largest(joined, real)  # (M, n, hidden)
        values = dropout(read.transpose(0, 1).flatten(1), self.config.dropout, self.training)
        hidden = F.leaky_relu(self.last(self.norm(values)))
        made = {
            m: self.generators[m](joined[i, :, : frames[i].shape[1]])
            for i, m in enumerate(self.modalities)
        }
        z = dict(zip(self.modalities, read, strict=True))
        return Parts(Fused(z, hidden, self.prediction(hidden)), made)

    def joined(self, values: Tensor, real: Tensor) -> Tensor:
        """H: values (M, n, T, hidden), real (M, n, T) bool -> (M, n, T, M hidden)."""
        count, every = len(real), pairs(len(real))
        steps = real.shape[2]
        keys = real[:, :, None].expand(-1, -1, steps, -1)  # (M, n, T, T)
        own = self.own(values, values, keys)
        crossed = self.cross(
            torch.stack([values[i] for i, _ in every]),
            torch.stack([values[j] for _, j in every]),
            torch.stack([keys[j] for _, j in every]),
        )
        return torch.cat([own, *crossed.unflatten(0, (count, -1)).unbind(dim=1)], dim=3)

    def largest(self, joined: Tensor, real: Tensor) -> Tensor:
        """max over real frames of sigmoid(w_m H_m) tanh(W_m H_m), (M, n, hidden); zeros where there is none."""
        gated = torch.sigmoid(over(self.gates, joined)) * torch.tanh(over(self.maps, joined))
        below = torch.where(real[..., None], gated, -2.0)  # tanh lies above
        return below.amax(dim=2) * real.any(dim=2)[..., None]

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, t, d_m)."""
        return self.parts(batch, features).fused
