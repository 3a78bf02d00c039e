"""ALMT: the text gathers what it needs of the other modalities in a hyper-modality, and reads that (BASELINES_MM 16).

LNLN without its completeness, its proxy and its reconstruction (MM2 B). On vectors a modality's tokens are parts of one
linear map with ReLU, where the source has learned tokens before its frames. The prediction reads a token that sees the
hyper-modality alone: the text counts only by what it asks the others. So learned tokens stand for those that are
missing; were they no keys (``skip``), all rows with nothing but text would have one prediction. Learned tokens stand
for a missing text, too, and the network then has little to go by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.nn.anchor import ANCHOR, anchor_of
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_choice, check_counts, check_heads, check_shares
from mmlib.nn.hyper import Hyper, HyperSizes, Tokens, split_off

ABSENT = ("token", "skip")


@dataclass(frozen=True)
class ALMTConfig:
    """tokens: of a modality, 8 as published. hidden: width of one. depth: layers that read what the text found.

    anchor: the modality that gathers, or the first where the data have no text. absent: what a missing other modality
    is to it, a learned ``token``, or no key (``skip``).
    """

    hidden: int = 64
    tokens: int = 4
    heads: int = 4
    depth: int = 2
    dropout: float = 0.1
    anchor: str = ANCHOR
    absent: str = "token"

    def __post_init__(self) -> None:
        check_choice("almt", self, "absent", ABSENT)
        check_counts("almt", self, ("hidden", "tokens", "heads", "depth"))
        check_heads("almt", self.hidden, self.heads)
        check_shares("almt", self)


class ALMT(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is a modality's tokens side by side."""

    Config = ALMTConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: ALMTConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, c = config, tuple(sorted(dims)), config
        self.anchor = anchor_of("almt", c.anchor, self.modalities)
        sizes = HyperSizes(c.tokens, c.hidden, c.heads, c.depth, c.dropout)
        self.encoders = nn.ModuleDict({m: self.enter(dims[m], sizes) for m in self.modalities})
        self.hyper = Hyper(len(dims) - 1, sizes)
        self.embedding_dim = c.tokens * c.hidden
        self.prediction = nn.Linear(c.hidden, outputs)

    def enter(self, dim: int, sizes: HyperSizes) -> nn.Module:
        """What makes a modality's tokens."""
        return Tokens(dim, sizes.count, sizes.width)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Make tokens, let the text gather from the others, predict from the token before it."""
        seen = dict(zip(self.modalities, batch.observed.unbind(dim=1), strict=True))
        tokens = {m: self.encoders[m](features[m], seen[m]) for m in self.modalities}
        text, others = split_off(tokens, self.anchor)
        there = split_off(seen, self.anchor)[1]
        if self.config.absent == "token":
            there = [torch.ones_like(x) for x in there]
        hidden = self.hyper(text, others, there, normed=False)[:, 0]
        z = {m: x.flatten(1) for m, x in tokens.items()}
        return Fused(z, hidden, self.prediction(hidden))
