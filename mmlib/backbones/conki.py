"""A network in the style of ConKI: a general encoder for each modality, and an adapter beside it (BASELINES_MM2 29).

Of ConKI the abstract is known here, of its adapters those of a similar system. g_1, g_2 are the layers of a modality's
encoder. The adapter is s_1 = B_1(g_1), s_2 = B_2(s_1 + g_2), with B(x) = x + W_up GELU(W_down x) through half the
width. G = g_2 and S = s_2 of all modalities side by side give the prediction. A first stage trains each modality alone.
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
from mmlib.nn.checks import check_counts, check_shares
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder


@dataclass(frozen=True)
class ConKIConfig:
    """hidden: width. dropout: of what the prediction reads. A missing modality gives zeros there, and no contrast."""

    hidden: int = 64
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_counts("conki", self, ("hidden",))
        check_shares("conki", self)


class Parts(NamedTuple):
    """What the loss reads: general and special, G and S, (n, M, hidden) each."""

    fused: Fused
    general: Tensor
    special: Tensor


class ConKI(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is [G; S]."""

    Config = ConKIConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: ConKIConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, width = config, tuple(sorted(dims)), config.hidden
        self.encoders = nn.ModuleDict({m: Adapted(dims[m], width) for m in self.modalities})
        self.own_heads = nn.ModuleDict({m: nn.Linear(2 * width, outputs) for m in self.modalities})
        self.joint = nn.Linear(2 * len(dims) * width, 2 * width)
        self.prediction = nn.Linear(2 * width, outputs)
        self.embedding_dim = 2 * width

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed by encoders and adapters, predict."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        both = torch.stack([z[m] for m in self.modalities], dim=1)  # (n, M, 2 hidden)
        joined = torch.where(batch.observed[:, :, None], both, 0).flatten(1)
        hidden = F.relu(self.joint(dropout(joined, self.config.dropout, self.training)))
        return Parts(Fused(z, hidden, self.prediction(hidden)), *both.chunk(2, dim=2))

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """The heads of the first stage, which the second leaves alone: modality to (n, C)."""
        return {m: self.own_heads[m](fused.z[m]) for m in self.modalities}


class Adapted(nn.Module):
    """[G; S] of one modality."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.first, self.second = Encoder(dim, width), nn.Linear(width, width)
        self.adapters = nn.ModuleList([Bottleneck(width) for _ in range(2)])

    def forward(self, values: Tensor) -> Tensor:
        """(n, dim) or (n, t, dim) -> (n, 2 width)."""
        first = self.first(values)
        general = F.relu(self.second(first))
        special = self.adapters[1](self.adapters[0](first) + general)
        return torch.cat([general, special], dim=1)


class Bottleneck(nn.Module):
    """x + W_up GELU(W_down x), through half the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = max(width // 2, 1)
        self.down, self.up = nn.Linear(width, half), nn.Linear(half, width)

    def forward(self, values: Tensor) -> Tensor:
        """(n, width) -> (n, width)."""
        adapted: Tensor = values + self.up(F.gelu(self.down(values)))
        return adapted
