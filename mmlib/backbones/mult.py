"""MulT: every modality looks at each other one, by a transformer for each ordered pair (BASELINES_MM 6, MM2 B).

A pair's layers let the target's frames look at the source's and pass a perceptron; what the pairs of a target leave
is put side by side. A vector is one frame: attention with one key is a linear map of the source, so that the target
enters through the residual alone, and queries and keys do not learn. The self-attention over each target's frames has
nothing to do there and is left out; ``mult_frames`` has it. With ``tokens`` one attention looks at all other modalities
together, and has something to weigh.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_heads, check_shares
from mmlib.nn.crossings import Crossings, ResidualHead, last, padded, pairs, reachable
from mmlib.nn.frames import as_frames, real_frames


@dataclass(frozen=True)
class MulTConfig:
    """hidden: width. heads, layers: of every pair. tokens: a target looks at all others in one attention.

    A missing source updates nothing; a missing target is zeros in what the prediction reads.
    """

    hidden: int = 64
    heads: int = 4
    layers: int = 4
    dropout: float = 0.1
    tokens: bool = False

    def __post_init__(self) -> None:
        check_counts("mult", self, ("hidden", "heads", "layers"))
        check_heads("mult", self.hidden, self.heads)
        check_shares("mult", self)


class MulT(Backbone):
    """The network over vectors (n, d). z^m is what the target's pairs leave, side by side."""

    Config = MulTConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MulTConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width = len(dims), config.hidden
        self.encoders = nn.ModuleDict(
            {m: nn.Linear(dims[m], width, bias=False) for m in self.modalities}
        )
        groups, parts = (count, 1) if config.tokens else (count * (count - 1), count - 1)
        self.crossings = Crossings(groups, width, config.heads, config.layers, config.dropout)
        self.embedding_dim = parts * width
        self.head = ResidualHead(count * parts * width, config.dropout)
        self.prediction = nn.Linear(count * parts * width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Map, let targets look at sources, read every target, predict."""
        frames = [as_frames(features[m]) for m in self.modalities]
        values = padded([self.encoders[m](x) for m, x in zip(self.modalities, frames, strict=True)])
        there = padded([real_frames(x)[:, :, None].to(x.dtype) for x in frames])[..., 0] > 0
        real = there & batch.observed.t()[:, :, None]  # (M, n, T)
        crossed = self.crossed(self.placed(values * math.sqrt(self.config.hidden)), real)
        read = self.read(crossed, real) * batch.observed.t()[:, :, None]  # (M, n, parts width)
        hidden = self.head(read.transpose(0, 1).flatten(1))
        z = dict(zip(self.modalities, read, strict=True))
        return Fused(z, hidden, self.prediction(hidden))

    def placed(self, values: Tensor) -> Tensor:
        """Frames (M, n, T, width) with their positions; vectors have none."""
        return values

    def crossed(self, values: Tensor, real: Tensor) -> Tensor:
        """values (M, n, T, width), real (M, n, T) bool -> (M, n, T, parts width): what each target's pairs leave."""
        count = len(self.modalities)
        every = pairs(count)
        allowed = torch.stack([reachable(real[i], real[j]) for i, j in every])
        if self.config.tokens:
            sources = torch.stack(
                [
                    torch.cat([values[j] for j in range(count) if j != i], dim=1)
                    for i in range(count)
                ]
            )
            among = allowed.unflatten(0, (count, -1)).movedim(1, 3).flatten(3)
            looked: Tensor = self.crossings(values, sources, among)
            return looked
        targets, sources = (torch.stack([values[pair[k]] for pair in every]) for k in (0, 1))
        apart = self.crossings(targets, sources, allowed).unflatten(0, (count, -1))
        return apart.movedim(1, 3).flatten(3)

    def read(self, crossed: Tensor, real: Tensor) -> Tensor:
        """(M, n, T, width) -> (M, n, width): each row's last real frame."""
        place = last(real.flatten(0, 1))[:, None, None].expand(-1, 1, crossed.shape[3])
        return crossed.flatten(0, 1).gather(1, place)[:, 0].unflatten(0, crossed.shape[:2])
