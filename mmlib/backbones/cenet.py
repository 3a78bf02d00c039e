"""CENET: text is shifted by what it finds in the other modalities, early on its way up (BASELINES_MM 16, MM2 25).

The text's embedding gets W [attention over modality 1; over modality 2; ...] added, then passes two residual layers,
which stand for the upper layers of BERT. Queries are the text's frames, keys and values those of another modality. A
vector is one frame, whose attention has one key: what the text asks for plays no part, and the shift is a linear map of
the others' embeddings. So on vectors this is an additive injection, no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.anchor import ANCHOR, anchor_of
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_shares
from mmlib.nn.dropout import dropout
from mmlib.nn.frames import as_frames, mean_over, real_frames


@dataclass(frozen=True)
class CENETConfig:
    """hidden: width. layers: residual ones after the shift. sharpness: what scores are multiplied by, 8 as published.

    anchor: the modality that is shifted, or the first where the data have no text; a learned vector where it is
    missing. Another one that is missing adds nothing to the shift.
    """

    hidden: int = 64
    layers: int = 2
    dropout: float = 0.1
    sharpness: float = 8.0
    anchor: str = ANCHOR

    def __post_init__(self) -> None:
        check_counts("cenet", self, ("hidden", "layers"))
        check_shares("cenet", self)


class CENET(Backbone):
    """The network over vectors (n, d), or frames (n, t, d), whose numbers may differ by modality.

    z^m is the mean of a modality's frames as they enter. anchor: the modality that is shifted. others: the rest.
    """

    Config = CENETConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: CENETConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        self.anchor = anchor_of("cenet", config.anchor, self.modalities)
        self.others = tuple(m for m in self.modalities if m != self.anchor)
        width = self.embedding_dim = config.hidden
        self.encoders = nn.ModuleDict(
            {m: Enter(dims[m], width, 1 if m == self.anchor else 2) for m in self.modalities}
        )
        self.absent = nn.Parameter(torch.zeros(width))
        self.query = nn.ModuleDict({m: nn.Linear(width, width) for m in self.others})
        self.told = nn.ModuleDict({m: nn.Linear(width, 2 * width) for m in self.others})
        self.shift = nn.Linear(len(self.others) * width, width)  # W
        self.upper = nn.ModuleList([Upper(width, config.dropout) for _ in range(config.layers)])
        self.prediction = nn.Linear(width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Let the text's frames look at the others', shift them, lift them, predict from their mean."""
        frames = {m: as_frames(features[m]) for m in self.modalities}
        seen = dict(zip(self.modalities, batch.observed.unbind(dim=1), strict=True))
        there = {m: seen[m][:, None, None] for m in self.modalities}
        frames = {m: torch.where(there[m], x, 0) for m, x in frames.items()}
        real = {m: real_frames(x) for m, x in frames.items()}
        entered = {m: self.encoders[m](x) for m, x in frames.items()}
        text = torch.where(there[self.anchor], entered[self.anchor], self.absent)
        found = [
            self.found(m, text, entered[m], real[m] & seen[m][:, None]) * there[m]
            for m in self.others
        ]
        text = text + self.shift(torch.cat(found, dim=2))
        for layer in self.upper:
            text = layer(text)
        hidden = mean_over(text, real[self.anchor])
        z = {m: mean_over(x, real[m]) for m, x in entered.items()}
        return Fused(z, hidden, self.prediction(hidden))

    def found(self, modality: str, text: Tensor, context: Tensor, seen: Tensor) -> Tensor:
        """What the text's frames (n, q, width) find in another modality's (n, k, width), seen (n, k) bool.

        One head, and scores times ``sharpness``, where attention usually divides by the root of the width.
        """
        key, value = self.told[modality](context).chunk(2, dim=2)
        scores = self.config.sharpness * self.query[modality](text) @ key.transpose(1, 2)
        hidden = ~(seen | ~seen.any(dim=1, keepdim=True))[:, None]
        found: Tensor = scores.masked_fill(hidden, -torch.inf).softmax(dim=2) @ value
        return found


class Enter(nn.Module):
    """Linear layers with ReLU, of every frame."""

    def __init__(self, dim: int, width: int, layers: int) -> None:
        super().__init__()
        sizes = [dim, *[width] * layers]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])

    def forward(self, values: Tensor) -> Tensor:
        """(n, t, dim) -> (n, t, width)."""
        for layer in self.layers:
            values = F.relu(layer(values))
        return values


class Upper(nn.Module):
    """x + W_2 ReLU(W_1 LN(x)): what is left of a layer of BERT."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.norm, self.rate = nn.LayerNorm(width), rate
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, values: Tensor) -> Tensor:
        """(..., width) -> the same."""
        inner = self.narrow(F.relu(self.widen(self.norm(values))))
        return values + dropout(inner, self.rate, self.training)
