"""MFON: the text looks at each other modality, whose images follow teachers trained on that alone (BASELINES_MM2 26).

x_m = what MulT's layers make of the text that looks at modality m; only one query of the text is read, so one is made.
The text and all x_m side by side give the prediction. In a first stage a small network of every modality learns alone;
in the second it stays, and the method ``mfon`` holds x_m to what the modality's gives, and to the text. A vector is one
frame, attention with one key a linear map, and the source's learned positions nothing but a bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.anchor import ANCHOR, anchor_of
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_heads, check_shares
from mmlib.nn.crossings import Crossings, padded, positions
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder
from mmlib.nn.frames import as_frames, real_frames
from mmlib.nn.own_heads import mean_of_heads
from mmlib.nn.two_stage import TwoStage


@dataclass(frozen=True)
class MFONConfig:
    """hidden: width. heads, layers, dropout: of the text's look at a modality; published are 8 heads and 2 to 5 layers.

    entering: dropout of the text. anchor: the modality that looks, or the first where the data have no text; a learned
    vector where it is missing. Another one that is missing gives zeros.
    """

    hidden: int = 64
    heads: int = 4
    layers: int = 2
    dropout: float = 0.1
    entering: float = 0.3
    anchor: str = ANCHOR

    def __post_init__(self) -> None:
        check_counts("mfon", self, ("hidden", "heads", "layers"))
        check_heads("mfon", self.hidden, self.heads)
        check_shares("mfon", self, ("dropout", "entering"))


class Parts(NamedTuple):
    """What the loss reads: text (n, hidden); crossed (n, M - 1, hidden), the x_m of the others, zeros where missing."""

    fused: Fused
    text: Tensor
    crossed: Tensor


class MFON(TwoStage):
    """The network over vectors (n, d), or frames (n, t, d), whose numbers may differ by modality.

    z^m is the text's embedding, and x_m of the others; in the first stage what the small networks give.
    anchor: the modality that looks. others: those that it looks at. teachers: the small networks.
    """

    Config = MFONConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MFONConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, c = config, tuple(sorted(dims)), config
        self.anchor = anchor_of("mfon", c.anchor, self.modalities)
        self.others = tuple(m for m in self.modalities if m != self.anchor)
        width = self.embedding_dim = c.hidden
        self.encoders = nn.ModuleDict(
            {
                m: Encoder(dims[m], width) if m == self.anchor else nn.Linear(dims[m], width)
                for m in self.modalities
            }
        )
        self.absent = nn.Parameter(torch.zeros(width))
        self.cross = Crossings(len(self.others), width, c.heads, c.layers, c.dropout)
        self.teachers = nn.ModuleDict(
            {
                m: nn.Sequential(Encoder(dims[m], width), nn.Linear(width, width))
                for m in self.modalities
            }
        )
        self.own_heads = nn.ModuleDict({m: nn.Linear(width, outputs) for m in self.modalities})
        half, eighth = max(width // 2, 1), max(width // 8, 4)
        self.first, self.second_layer = nn.Linear(len(dims) * width, width), nn.Linear(width, half)
        self.third = nn.Linear(half, eighth)
        self.prediction = nn.Linear(eighth, outputs)

    def frozen(self) -> list[nn.Module]:
        """The small networks."""
        return [self.teachers, self.own_heads]

    def taught(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the small networks give, modality to (n, hidden)."""
        return {m: teacher(features[m]) for m, teacher in self.teachers.items()}

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed the text, let it look at the others, predict."""
        seen = dict(zip(self.modalities, batch.observed.unbind(dim=1), strict=True))
        there = seen[self.anchor][:, None]
        text = torch.where(there, self.encoders[self.anchor](features[self.anchor]), self.absent)
        text = dropout(text, self.config.entering, self.training)
        frames = {m: as_frames(features[m]) for m in self.others}
        frames = {m: torch.where(seen[m][:, None, None], x, 0) for m, x in frames.items()}
        entered = padded([self.enter(m, x) for m, x in frames.items()])  # (M - 1, n, t, hidden)
        real = [real_frames(x)[:, :, None] for x in frames.values()]
        allowed = padded([x.float() for x in real])[:, :, None, :, 0] > 0  # (M - 1, n, 1, t)
        query = text[None, :, None].expand(len(self.others), -1, -1, -1)
        crossed = self.cross(query, entered, allowed)[:, :, 0].transpose(0, 1)
        reached = torch.stack([seen[m] for m in self.others], dim=1)
        crossed = torch.where(reached[:, :, None], crossed, 0)
        hidden = torch.cat([text, crossed.flatten(1)], dim=1)
        for layer in (self.first, self.second_layer, self.third):
            hidden = F.gelu(layer(hidden))
        z = {self.anchor: text, **dict(zip(self.others, crossed.unbind(dim=1), strict=True))}
        return Parts(Fused(z, hidden, self.prediction(hidden)), text, crossed)

    def enter(self, modality: str, frames: Tensor) -> Tensor:
        """(n, t, d) -> (n, t, hidden); several frames have positions."""
        made: Tensor = self.encoders[modality](frames)
        return made + positions(made.shape[1], made.shape[2], made) if made.shape[1] > 1 else made

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m). In the first stage the mean of the present networks' predictions."""
        if self.second:
            return self.parts(batch, features).fused
        z = self.taught(features)
        return mean_of_heads(z, self.own_heads, self.modalities, batch.observed)

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """In the first stage the small networks' logits, modality to (n, C)."""
        if self.second:
            return {}
        return {m: self.own_heads[m](fused.z[m]) for m in self.modalities}
