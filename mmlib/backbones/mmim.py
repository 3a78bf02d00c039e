"""MMIM: embeddings side by side, and networks that bound what they share with text and fusion (BASELINES_MM 16, MM2 B).

The prediction reads all embeddings through two layers. Beside it, q(h_m | h_anchor) is a normal distribution for every
modality but the anchor, and a linear map for every modality predicts its embedding from the fused one: the method
``mmim`` reads both, and prediction neither. BERT and the recurrent layers are one linear map here (R1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.nn.anchor import ANCHOR, anchor_of
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_shares
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder
from mmlib.nn.tokens import stacked


@dataclass(frozen=True)
class MMIMConfig:
    """hidden: width of an embedding. fusion: of the two layers that read all of them. dropout: of the embeddings.

    anchor: the modality that others are predicted from, or the first where the data have no text. A missing modality,
    the anchor too, is zeros in what the fusion reads.
    """

    hidden: int = 32
    fusion: int = 128
    dropout: float = 0.1
    anchor: str = ANCHOR

    def __post_init__(self) -> None:
        check_counts("mmim", self, ("hidden", "fusion"))
        check_shares("mmim", self)


class Parts(NamedTuple):
    """What the loss reads: embedded (n, M, hidden), the h_m, of zeros where missing."""

    fused: Fused
    embedded: Tensor


class Normal(nn.Module):
    """q(h | text): a perceptron each for the mean and for the logarithm of the variance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean, self.log_variance = (
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(2)
        )

    def forward(self, given: Tensor, values: Tensor) -> Tensor:
        """(n,): log q(values | given) but for its constant; (n, width) each."""
        log_variance = torch.tanh(self.log_variance(given))  # published: a bounded one
        gaps = (values - self.mean(given)).square() * (-log_variance).exp()
        likelihood: Tensor = -(gaps + log_variance).sum(dim=1) / 2
        return likelihood


class MMIM(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is h_m.

    anchor: the modality that others are predicted from. others: these. conditional: their q. maps: from the fused
    embedding to each modality's.
    """

    Config = MMIMConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MMIMConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        self.anchor = anchor_of("mmim", config.anchor, self.modalities)
        self.others = tuple(m for m in self.modalities if m != self.anchor)
        width = self.embedding_dim = config.hidden
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.conditional = nn.ModuleDict({m: Normal(width) for m in self.others})
        self.first = nn.Linear(len(dims) * width, config.fusion)
        self.second = nn.Linear(config.fusion, config.fusion)
        self.maps = nn.ModuleList([nn.Linear(config.fusion, width) for _ in self.modalities])
        self.prediction = nn.Linear(config.fusion, outputs)

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, put side by side, predict."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        embedded = torch.where(batch.observed[:, :, None], stacked(z, self.modalities), 0)
        joined = dropout(embedded.flatten(1), self.config.dropout, self.training)
        hidden = torch.tanh(self.second(torch.tanh(self.first(joined))))
        return Parts(Fused(z, hidden, self.prediction(hidden)), embedded)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused
