"""A network in the style of MRAN: missing modalities are reconstructed from tokens that say what is missing (MM2 31).

Only an abstract of MRAN is known here, so layers and weights are this reading's. Every modality is mapped into one
space, which stands for that of the text. Its token is u_m = e_m h_m + E_m + I_{m,e_m}: a learned vector says which
modality it is, another one whether the row has it. So a missing modality has a token without content (R3: token), and
the others may look at it. Two transformer layers over the M tokens give what is reconstructed, and the prediction reads
all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.encoder import Encoder
from mmlib.nn.tokens import TokenBlock, stacked


@dataclass(frozen=True)
class MRANConfig:
    """hidden: width of the space that all modalities share. layers, heads: of the transformer.

    dropout: in its layers.
    """

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads"):
            if getattr(self, name) < 1:
                raise InputError(f"mran {name}", str(getattr(self, name)), "1 or more", "Raise it.")
        if self.hidden % self.heads:
            raise InputError(
                "mran heads", f"{self.heads} of width {self.hidden}", "a divisor", "Correct it."
            )
        if not 0 <= self.dropout < 1:
            raise InputError("mran dropout", str(self.dropout), "a share in [0, 1)", "Correct it.")


class Parts(NamedTuple):
    """What the loss reads: made (n, M, hidden), the modalities as they are reconstructed."""

    fused: Fused
    made: Tensor


class MRAN(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is h_m, 0 where missing."""

    Config = MRANConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MRANConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width = len(dims), config.hidden
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.which = nn.Parameter(torch.randn(count, width) * width**-0.5)  # E_m
        self.there = nn.Parameter(torch.randn(2, count, width) * width**-0.5)  # I_{m,0}, I_{m,1}
        self.blocks = nn.ModuleList(
            [
                TokenBlock(width, config.heads, 4 * width, config.dropout)
                for _ in range(config.layers)
            ]
        )
        self.out = nn.Linear(width, width)
        self.prediction = nn.Linear(count * width, outputs)
        self.embedding_dim = width

    def embed(self, batch: Batch, features: Mapping[str, Tensor]) -> Tensor:
        """e_m h_m, (n, M, hidden)."""
        z = stacked({m: self.encoders[m](features[m]) for m in self.modalities}, self.modalities)
        return torch.where(batch.observed[:, :, None], z, 0)

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Make the tokens, let them look at one another, reconstruct, predict."""
        z, seen = self.embed(batch, features), batch.observed
        tokens = z + self.which + torch.where(seen[:, :, None], self.there[1], self.there[0])
        for block in self.blocks:
            tokens = block(tokens, torch.ones_like(seen))
        made = self.out(tokens)
        hidden = made.flatten(1)
        own = dict(zip(self.modalities, z.unbind(dim=1), strict=True))
        return Parts(Fused(own, hidden, self.prediction(hidden)), made)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused
