"""MISA: what the modalities share, and what each has of its own, are read as two tokens (BASELINES_MM 7, MM2 B).

Every embedding h_m has a private image p_m, by a map of its own, and a shared one c_m, by a map of all. A transformer
layer over these 2M tokens and two layers over all of them give the prediction. Maps of p_m + c_m should give h_m back:
the method ``misa`` asks for that. BERT and the recurrent layers are one linear map with a layer norm here (R1).
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
from mmlib.nn.post_norm import PostBlock
from mmlib.nn.tokens import stacked


@dataclass(frozen=True)
class MISAConfig:
    """hidden: width of embeddings and tokens. heads, wide: of the transformer layer. dropout: before the last layer.

    A missing modality is no key, and its two tokens are zeros in what the prediction reads.
    """

    hidden: int = 128
    heads: int = 2
    wide: int = 2048
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_counts("misa", self, ("hidden", "heads", "wide"))
        check_heads("misa", self.hidden, self.heads)
        check_shares("misa", self)


class Parts(NamedTuple):
    """What the loss reads, (n, M, hidden) each: h_m, p_m, c_m, and h_m as made from these two."""

    fused: Fused
    embedded: Tensor
    private: Tensor
    shared: Tensor
    made: Tensor


class MISA(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is h_m."""

    Config = MISAConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MISAConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width = len(dims), config.hidden
        self.encoders = nn.ModuleDict(
            {m: Encoder(dims[m], width, norm=True) for m in self.modalities}
        )
        self.own = nn.ModuleList([nn.Linear(width, width) for _ in self.modalities])
        self.common = nn.Linear(width, width)
        self.back = nn.ModuleList([nn.Linear(width, width) for _ in self.modalities])
        self.block = PostBlock(width, config.heads, config.wide, 0.1)  # PyTorch's default, kept
        self.joint = nn.Linear(2 * count * width, count * width)
        self.prediction = nn.Linear(count * width, outputs)
        self.embedding_dim = width

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, split into private and shared, let the tokens look at one another, predict."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        embedded = stacked(z, self.modalities)
        private = torch.sigmoid(
            torch.stack([own(embedded[:, i]) for i, own in enumerate(self.own)], dim=1)
        )
        shared = torch.sigmoid(self.common(embedded))
        both = private + shared
        made = torch.stack([back(both[:, i]) for i, back in enumerate(self.back)], dim=1)
        seen = batch.observed.repeat(1, 2)  # of p_1 ... p_M, c_1 ... c_M
        tokens = self.block(torch.cat([private, shared], dim=1), seen) * seen[:, :, None]
        joined = dropout(self.joint(tokens.flatten(1)), self.config.dropout, self.training)
        hidden = F.relu(joined)
        return Parts(Fused(z, hidden, self.prediction(hidden)), embedded, private, shared, made)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused
