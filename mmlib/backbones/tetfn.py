"""TETFN: MulT's pairs over what the text has enhanced, and a score of every modality (BASELINES_MM 16, MM2 B).

A source enters its pairs as c_s = h_s + W_s LN(h_text). As published c_s is what the source finds in the text's frames.
In a single vector it would find W LN(h_text) alone and lose its own content, so that is added here. Besides the fused
prediction every modality has one of its own, from h_m; the method ``own_labels`` trains both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.backbones.selfmm import Head
from mmlib.nn.anchor import ANCHOR, anchor_of
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_heads, check_shares
from mmlib.nn.crossings import Crossings, ResidualHead, pairs
from mmlib.nn.encoder import Encoder


@dataclass(frozen=True)
class TETFNConfig:
    """hidden: width, the published one is 50. heads, layers: of every pair. own: width of a modality's own head.

    anchor: the modality that enhances, or the first where the data have no text; where it is missing a learned vector
    enhances. A missing source updates nothing; a missing target is zeros in what the prediction reads.
    """

    hidden: int = 64
    heads: int = 4
    layers: int = 2
    own: int = 32
    dropout: float = 0.1
    anchor: str = ANCHOR

    def __post_init__(self) -> None:
        check_counts("tetfn", self, ("hidden", "heads", "layers", "own"))
        check_heads("tetfn", self.hidden, self.heads)
        check_shares("tetfn", self)


class TETFN(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean.

    z^m is the feature in the middle of a modality's own head.
    """

    Config = TETFNConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: TETFNConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        self.anchor = anchor_of("tetfn", config.anchor, self.modalities)
        count, width = len(dims), config.hidden
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.absent = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)
        self.enhance = nn.ModuleDict(
            {m: nn.Linear(width, width) for m in self.modalities if m != self.anchor}
        )
        self.crossings = Crossings(
            count * (count - 1), width, config.heads, config.layers, config.dropout
        )
        self.heads = nn.ModuleDict(
            {m: Head(width, config.own, outputs, config.dropout) for m in self.modalities}
        )
        joined = count * (count - 1) * width
        self.tail = ResidualHead(joined, config.dropout)
        self.embedding_dim = config.own
        self.prediction = nn.Linear(joined, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        h = {m: self.encoders[m](features[m]) for m in self.modalities}
        seen = batch.observed.t()  # (M, n)
        there = dict(zip(self.modalities, seen, strict=True))
        text = torch.where(there[self.anchor][:, None], h[self.anchor], self.absent)
        enhanced = {
            m: x if m == self.anchor else x + self.enhance[m](self.norm(text)) for m, x in h.items()
        }
        every = [(self.modalities[i], self.modalities[j]) for i, j in pairs(len(self.modalities))]
        targets = torch.stack([h[i] for i, _ in every])[:, :, None]  # (pairs, n, 1, hidden)
        sources = torch.stack([enhanced[j] for _, j in every])[:, :, None]
        allowed = torch.stack([there[j] for _, j in every])[:, :, None, None]
        crossed = self.crossings(targets, sources, allowed)[:, :, 0]
        reads = torch.stack([there[i] for i, _ in every])[:, :, None]
        hidden = self.tail((crossed * reads).transpose(0, 1).flatten(1))
        z = {m: self.head(m).feature(x) for m, x in h.items()}
        return Fused(z, hidden, self.prediction(hidden))

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """Each modality's own prediction, modality to (n, outputs)."""
        return {m: self.head(m).score(fused.z[m]) for m in self.modalities}

    def head(self, modality: str) -> Head:
        """A modality's own."""
        head = self.heads[modality]
        assert isinstance(head, Head)
        return head
