"""A network in the style of UMDF: mixed tokens that a gate raises, and weights of modalities (BASELINES_MM2 30).

Only an abstract of UMDF is known here, so layers are this reading's. A transformer layer mixes the modalities' tokens
into f_m. Each is raised to f_m + r_m f_m, coordinate by coordinate, r_m = sigmoid(W_m f_m), and a softmax over the
modalities that a row has weighs them in what is predicted from. Coarse and fine interaction are one on a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_heads, check_shares
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder
from mmlib.nn.latents import Several
from mmlib.nn.tokens import TokenBlock, stacked


@dataclass(frozen=True)
class UMDFConfig:
    """hidden: width of a token. layers, heads: of the transformer. dropout: there, and of what predicts.

    A missing modality's token is no key, and has no weight.
    """

    hidden: int = 64
    layers: int = 1
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_counts("umdf", self, ("hidden", "layers"))
        check_heads("umdf", self.hidden, self.heads)
        check_shares("umdf", self)


class Parts(NamedTuple):
    """The prediction; the tokens before and after the gate, (n, M, hidden) each; the weights, (n, M)."""

    fused: Fused
    mixed: Tensor
    raised: Tensor
    weights: Tensor


class UMDF(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is a modality's embedding."""

    Config = UMDFConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: UMDFConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        width, rate = config.hidden, config.dropout
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.blocks = nn.ModuleList(
            [TokenBlock(width, config.heads, 2 * width, rate) for _ in range(config.layers)]
        )
        self.gate, self.weigh = Several(len(dims), width, width), nn.Linear(width, 1)
        self.prediction = nn.Linear(width, outputs)
        self.embedding_dim = width

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, mix, raise, weigh, predict."""
        z, seen = {m: self.encoders[m](features[m]) for m in self.modalities}, batch.observed
        mixed = stacked(z, self.modalities)
        for block in self.blocks:
            mixed = block(mixed, seen)
        raised = mixed + torch.sigmoid(self.gate(mixed.transpose(0, 1))).transpose(0, 1) * mixed
        hides = ~seen & seen.any(dim=1, keepdim=True)  # a row without anything hides nothing
        scores = self.weigh(raised)[:, :, 0]
        weights = scores.masked_fill(hides, -torch.inf).softmax(dim=1)
        hidden = (weights[:, :, None] * raised).sum(dim=1)
        hidden = dropout(hidden, self.config.dropout, self.training)
        return Parts(Fused(z, hidden, self.prediction(hidden)), mixed, raised, weights)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused
