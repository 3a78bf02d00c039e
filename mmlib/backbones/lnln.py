"""LNLN: a text that may lack something is mixed with a stand-in made from the other modalities (BASELINES_MM 9, MM2 B).

How complete the text is, w, is predicted from its tokens; p is made from the others' tokens, and h_d = (1 - w) p + w h
takes the text's place. With it the others are gathered in a hyper-modality, as in ALMT. Besides, each modality's
tokens are made again from all that is there: the method ``lnln`` holds these, w and h_d to what they should be.
On vectors a modality's tokens are parts of one linear map with ReLU, where the source has learned tokens before its
frames. A missing modality is no key; learned tokens stand for a missing text.
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
from mmlib.nn.checks import check_counts, check_heads, check_shares
from mmlib.nn.hyper import Hyper, HyperSizes, Stack, Tokens, split_off
from mmlib.nn.reversal import reverse


@dataclass(frozen=True)
class LNLNConfig:
    """tokens: of a modality, 8 as published. hidden: width of one. layers: of the transformers that make w, p, tokens.

    depth: layers that read what the text found. anchor: the dominant modality, or the first where the data have no
    text. turned: as released, the gradient is turned round where p enters h_d, so that the task's is, too.
    """

    hidden: int = 64
    tokens: int = 4
    heads: int = 4
    layers: int = 2
    depth: int = 2
    dropout: float = 0.1
    anchor: str = ANCHOR
    turned: bool = False

    def __post_init__(self) -> None:
        check_counts("lnln", self, ("hidden", "tokens", "heads", "layers", "depth"))
        check_heads("lnln", self.hidden, self.heads)
        check_shares("lnln", self)


class Parts(NamedTuple):
    """What the loss reads: tokens (n, M, K, hidden) of the modalities.

    complete: (n, 1), the w. text, judged: (n, K, hidden), the h_d, and h_d with the gradient of p turned round.
    """

    fused: Fused
    tokens: Tensor
    complete: Tensor
    text: Tensor
    judged: Tensor


class LNLN(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is a modality's tokens side by side."""

    Config = LNLNConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: LNLNConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, c = config, tuple(sorted(dims)), config
        self.anchor = anchor_of("lnln", c.anchor, self.modalities)
        width = c.hidden
        sizes = HyperSizes(c.tokens, width, c.heads, c.depth, c.dropout)
        self.encoders = nn.ModuleDict({m: self.enter(dims[m], sizes) for m in dims})
        stacks = [self.stack(count) for count in (1, *[c.tokens] * (1 + len(dims)))]
        self.judge, self.proxy, self.again = stacks[0], stacks[1], nn.ModuleList(stacks[2:])
        self.completeness = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1), nn.Sigmoid()
        )
        self.hyper = Hyper(len(dims) - 1, sizes)
        self.embedding_dim = c.tokens * width
        self.prediction = nn.Linear(width, outputs)

    def enter(self, dim: int, sizes: HyperSizes) -> nn.Module:
        """What makes a modality's tokens."""
        return Tokens(dim, sizes.count, sizes.width)

    def stack(self, count: int) -> Stack:
        """A transformer with learned tokens of its own."""
        c = self.config
        return Stack(count, c.hidden, c.heads, c.layers, c.dropout)

    def embed(self, batch: Batch, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Modality to its tokens, (n, K, hidden)."""
        seen = dict(zip(self.modalities, batch.observed.unbind(dim=1), strict=True))
        return {m: self.encoders[m](features[m], seen[m]) for m in self.modalities}

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Make tokens, complete the text, let it gather from the others, predict from its tokens' mean."""
        tokens = self.embed(batch, features)
        seen = dict(zip(self.modalities, batch.observed.unbind(dim=1), strict=True))
        text, others = split_off(tokens, self.anchor)
        there = split_off(seen, self.anchor)[1]
        w = self.completeness(self.judge(text, torch.ones_like(text[:, :, 0]) > 0)[:, 0])  # (n, 1)
        p = self.proxy(torch.cat(others, dim=1), self.keys(torch.stack(there, dim=1)))
        given = reverse(p) if self.config.turned else p
        share = w[:, :, None]
        completed, judged = ((1 - share) * x + share * text for x in (given, reverse(p)))
        hidden = self.hyper(completed, others, there, normed=True)[:, 1:].mean(dim=1)
        z = {m: x.flatten(1) for m, x in tokens.items()}
        fused = Fused(z, hidden, self.prediction(hidden))
        return Parts(fused, torch.stack(list(tokens.values()), dim=1), w, completed, judged)

    def remade(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Every modality's tokens made from all that is there, (n, M, K, hidden); seen (n, M) bool."""
        keys = self.keys(seen)
        return torch.stack([again(tokens.flatten(1, 2), keys) for again in self.again], dim=1)

    def keys(self, seen: Tensor) -> Tensor:
        """(n, k) bool, of modalities -> (n, k K), of their tokens."""
        return seen[:, :, None].expand(-1, -1, self.config.tokens).flatten(1)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused
