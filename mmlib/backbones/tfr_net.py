"""TFR-Net: every modality with what the others tell of it, from which its features are made (BASELINES_MM 8, MM2 B).

H_m = [h_m; cross_m], cross_m from attention over the modalities that are there. A linear map of H_m should give the
features x_m: the method ``tfr_net`` asks for that of what was hidden. The prediction reads, coordinate by coordinate,
the largest value of any modality that is there, each behind a gate. On vectors an encoder of one modality's frames is
the identity, and the recurrent layer is out; batch norm before the head is a layer norm, so that rows go their own way.
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
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder
from mmlib.nn.tokens import TokenBlock, stacked


@dataclass(frozen=True)
class TFRNetConfig:
    """hidden: width of h_m and cross_m. layers, heads: of the attention over modalities. fusion: of the last layer.

    A missing modality is no key and has h_m = 0, and is not among those that the prediction reads; its cross_m comes
    from a learned vector that asks.
    """

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    fusion: int = 128
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_counts("tfr_net", self, ("hidden", "layers", "heads", "fusion"))
        check_heads("tfr_net", self.hidden, self.heads)
        check_shares("tfr_net", self)


class Parts(NamedTuple):
    """What the loss reads: made, modality to (n, d_m), its features (of frames their mean) as made from H_m."""

    fused: Fused
    made: dict[str, Tensor]


class TFRNet(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is H_m."""

    Config = TFRNetConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: TFRNetConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        width, rate = config.hidden, config.dropout
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.which = nn.Parameter(torch.randn(len(dims), width) * width**-0.5)
        self.cross = nn.ModuleList(
            [TokenBlock(width, config.heads, 4 * width, rate) for _ in range(config.layers)]
        )
        self.generators = nn.ModuleDict({m: nn.Linear(2 * width, dims[m]) for m in self.modalities})
        self.gates = nn.ModuleList([nn.Linear(2 * width, 1) for _ in dims])
        self.maps = nn.ModuleList([nn.Linear(2 * width, 2 * width) for _ in dims])
        self.norm, self.last = nn.LayerNorm(2 * width), nn.Linear(2 * width, config.fusion)
        self.embedding_dim = 2 * width
        self.prediction = nn.Linear(config.fusion, outputs)

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, let the modalities look at one another, make their features, predict from the gated ones."""
        seen = batch.observed
        h = stacked({m: self.encoders[m](features[m]) for m in self.modalities}, self.modalities)
        h = torch.where(seen[:, :, None], h, 0)
        tokens = h + self.which
        for block in self.cross:
            tokens = block(tokens, seen)
        joined = torch.cat([h, tokens], dim=2)  # H_m, (n, M, 2 hidden)
        z = dict(zip(self.modalities, joined.unbind(dim=1), strict=True))
        made = {m: self.generators[m](z[m]) for m in self.modalities}
        hidden = self.head(self.largest(joined, seen))
        return Parts(Fused(z, hidden, self.prediction(hidden)), made)

    def largest(self, joined: Tensor, seen: Tensor) -> Tensor:
        """max over present m of sigmoid(w_m H_m) tanh(W_m H_m): H (n, M, 2 hidden), seen (n, M) -> (n, 2 hidden).

        Zeros where a row has nothing.
        """
        gated = [
            torch.sigmoid(gate(joined[:, i])) * torch.tanh(to(joined[:, i]))
            for i, (gate, to) in enumerate(zip(self.gates, self.maps, strict=True))
        ]
        below = torch.where(seen[:, :, None], torch.stack(gated, dim=1), -2.0)  # tanh lies above
        return below.amax(dim=1) * seen.any(dim=1, keepdim=True)

    def head(self, values: Tensor) -> Tensor:
        """(n, 2 hidden) -> (n, fusion)."""
        dropped = dropout(values, self.config.dropout, self.training)
        return F.leaky_relu(self.last(self.norm(dropped)))

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused
