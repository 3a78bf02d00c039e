"""ConFEDE: every modality in a part that modalities share and a part that they do not (BASELINES_MM2 22).

Projections s_m and d_m of the embedding h_m, all of them side by side, give the prediction; one further perceptron
predicts from each of them alone. The method ``confede`` asks that s_m be near for rows of one label, and d_m far from
the text's s. In a first stage every embedding learns by a head of its own; then the text's encoder stays as it is. BERT
and the transformers over frames are one linear map with a layer norm here (R1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.nn.anchor import ANCHOR, anchor_of
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_shares
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder
from mmlib.nn.own_heads import mean_of_heads
from mmlib.nn.trunk import Head
from mmlib.nn.two_stage import TwoStage

LEAST = 4  # of a layer's width


@dataclass(frozen=True)
class ConFEDEConfig:
    """hidden: width of an embedding; projections have half of it. dropout: of projections, and in the first stage.

    anchor: the modality whose encoder stays as the first stage left it, and that others are held to; or the first where
    the data have no text. A missing modality gives zeros, and no term of a loss.
    """

    hidden: int = 64
    dropout: float = 0.5
    anchor: str = ANCHOR

    def __post_init__(self) -> None:
        check_counts("confede", self, ("hidden",))
        check_shares("confede", self)


class Images(NamedTuple):
    """s and d of every modality, (n, M, half the width) each."""

    alike: Tensor
    apart: Tensor


class Parts(NamedTuple):
    """What the loss reads: the prediction, the projections, and what is predicted from each of them, (n, 2 M, C)."""

    fused: Fused
    images: Images
    alone: Tensor


class ConFEDE(TwoStage):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is h_m.

    anchor: the modality that others are held to. Its first stage trains encoders and the modalities' own heads.
    """

    Config = ConFEDEConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: ConFEDEConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        self.anchor = anchor_of("confede", config.anchor, self.modalities)
        count, width = len(dims), config.hidden
        half, quarter, eighth = (max(width // k, LEAST) for k in (2, 4, 8))
        self.encoders = nn.ModuleDict(
            {m: Encoder(dims[m], width, norm=True) for m in self.modalities}
        )
        self.own_heads = nn.ModuleDict(
            {m: Head(width, width, outputs, config.dropout) for m in self.modalities}
        )
        self.to_alike, self.to_apart = (
            nn.ModuleList([Project(width, half, config.dropout) for _ in dims]) for _ in range(2)
        )
        self.layers = perceptron([2 * count * half, width, half, quarter, eighth])
        self.mono = nn.Sequential(perceptron([half, quarter, eighth]), nn.Linear(eighth, outputs))
        self.prediction = nn.Linear(eighth, outputs)
        self.embedding_dim = width

    def frozen(self) -> list[nn.Module]:
        """The text's encoder, and the heads of the first stage."""
        return [self.encoders[self.anchor], self.own_heads]

    def images(self, z: Mapping[str, Tensor]) -> Images:
        """Project embeddings, modality to (n, hidden)."""
        return Images(
            *(
                torch.stack([to(z[m]) for m, to in zip(self.modalities, each, strict=True)], dim=1)
                for each in (self.to_alike, self.to_apart)
            )
        )

    def embed(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The h_m."""
        return {m: self.encoders[m](features[m]) for m in self.modalities}

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, project, predict from all projections and from each."""
        z = self.embed(features)
        images = self.images(z)
        both = torch.cat(images, dim=1)  # (n, 2 M, half), s_1 ... s_M, d_1 ... d_M
        seen = batch.observed.repeat(1, 2)[:, :, None]
        hidden = self.layers(torch.where(seen, both, 0).flatten(1))
        return Parts(Fused(z, hidden, self.prediction(hidden)), images, self.mono(both))

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m). In the first stage the mean of the present heads' predictions."""
        if self.second:
            return self.parts(batch, features).fused
        z = self.embed(features)
        return mean_of_heads(z, self.own_heads, self.modalities, batch.observed)

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """In the first stage the heads' logits, modality to (n, C)."""
        if self.second:
            return {}
        return {m: self.own_heads[m](fused.z[m]) for m in self.modalities}


class Project(nn.Module):
    """dropout(tanh(W LN(h)))."""

    def __init__(self, width: int, half: int, rate: float) -> None:
        super().__init__()
        self.norm, self.linear, self.rate = nn.LayerNorm(width), nn.Linear(width, half), rate

    def forward(self, values: Tensor) -> Tensor:
        """(n, width) -> (n, half)."""
        return dropout(torch.tanh(self.linear(self.norm(values))), self.rate, self.training)


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with GELU after each."""
    return nn.Sequential(*(x for a, b in pairwise(widths) for x in (nn.Linear(a, b), nn.GELU())))
