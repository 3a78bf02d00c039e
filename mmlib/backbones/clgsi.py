"""CLGSI: one tiny function of all modalities for every coordinate, and a gate of each by itself (BASELINES_MM2 24).

Coordinate j of the fused embedding is a function of (h_1,j ... h_M,j), the same for every j: a weighted sum, then a
perceptron that ends in tanh. Beside it the prediction reads u_m = sigmoid(W_2 ReLU(W_1 h_m)) of every modality.
The method ``clgsi`` adds a contrast of the embeddings. BERT and the transformers over frames are one linear map here
(R1).
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
from mmlib.nn.checks import check_counts
from mmlib.nn.encoder import Encoder
from mmlib.nn.tokens import stacked


@dataclass(frozen=True)
class CLGSIConfig:
    """hidden: width of an embedding. fusion: F; the two layers that predict have 3 F and 2 F.

    A missing modality is zeros to the tiny function, and has no gate. Where a step has a single row, batch norm takes
    the means and variances of earlier ones.
    """

    hidden: int = 64
    fusion: int = 64

    def __post_init__(self) -> None:
        check_counts("clgsi", self, ("hidden", "fusion"))


class Parts(NamedTuple):
    """What the loss reads: embedded (n, M, hidden), the h_m."""

    fused: Fused
    embedded: Tensor


class CLGSI(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is h_m."""

    Config = CLGSIConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: CLGSIConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        width, fusion = config.hidden, config.fusion
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.shared = Shared(len(dims))
        self.gates = nn.ModuleDict(
            {
                m: nn.Sequential(
                    nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Sigmoid()
                )
                for m in self.modalities
            }
        )
        self.first = nn.Linear((1 + len(dims)) * width, 3 * fusion)
        self.second = nn.Linear(3 * fusion, 2 * fusion)
        self.norm = nn.BatchNorm1d(2 * fusion)
        self.prediction = nn.Linear(2 * fusion, outputs)
        self.embedding_dim = width

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, fuse coordinate by coordinate, gate each modality, predict."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        embedded, seen = stacked(z, self.modalities), batch.observed[:, :, None]
        fused = self.shared(torch.where(seen, embedded, 0).transpose(1, 2))
        gates = torch.stack([self.gates[m](z[m]) for m in self.modalities], dim=1)
        joined = torch.cat([fused, torch.where(seen, gates, 0).flatten(1)], dim=1)
        hidden = F.relu(self.second(F.relu(self.first(joined))))
        norm = self.norm
        hidden = F.batch_norm(
            hidden,
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
            training=self.training and len(hidden) > 1,
            momentum=norm.momentum or 0.0,
            eps=norm.eps,
        )
        return Parts(Fused(z, hidden, self.prediction(hidden)), embedded)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused


class Shared(nn.Module):
    """One function of M numbers, for every coordinate: M-1-8-16-1, PReLU after the 8 and tanh at the end."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.join, self.widen = nn.Linear(count, 1), nn.Linear(1, 8)
        self.bend = nn.PReLU()
        self.wider, self.narrow = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, table: Tensor) -> Tensor:
        """table (n, width, M) -> (n, width)."""
        inner = self.wider(self.bend(self.widen(self.join(table))))
        return torch.tanh(self.narrow(inner))[:, :, 0]
