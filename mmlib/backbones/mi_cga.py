"""A network in the style of Mi-CGA, of which only the abstract is known here (MM2 32).

Each modality has a recurrent layer over the dialogue; a graph attention over the utterances of a window sees those
that have the modality; crossmodal attention goes from every modality's utterances to those of each other one in the
dialogue. Layers, sizes and their order are readings. Left out: the simulated absence and the reconstruction, as BALM
runs it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.backbones.gcnet import Neighbours, neighbours
from mmlib.errors import InputError
from mmlib.nn.attention import Attention
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder
from mmlib.nn.gru import DialogueGRU

HEADS = 4


@dataclass(frozen=True)
class MiCGAConfig:
    """Sizes. A missing modality is zeros to the recurrent layer, and is skipped by both attentions.

    hidden: width of an utterance in each modality. window: utterances before and after that the graph joins.
    """

    hidden: int = 64
    window: int = 4
    dropout: float = 0.3

    def __post_init__(self) -> None:
        for name, right, expected in (
            ("hidden", self.hidden >= HEADS and self.hidden % HEADS == 0, "a multiple of 4"),
            ("window", self.window >= 0, "0 or more"),
            ("dropout", 0 <= self.dropout < 1, "a share in [0, 1)"),
        ):
            if not right:
                raise InputError(
                    f"mi_cga {name}", str(getattr(self, name)), expected, "Correct it."
                )


class MiCGA(Backbone):
    """The network over dialogues of vectors (n, d), or of frames (n, t, d) by their mean."""

    Config = MiCGAConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MiCGAConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        width, names = config.hidden, self.modalities
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in names})
        self.sequences = nn.ModuleDict({m: DialogueGRU(width, width // 2, 1, 0.0) for m in names})
        self.graphs = nn.ModuleDict({m: GraphAttention(width) for m in names})
        self.pairs = tuple(permutations(range(len(names)), 2))
        self.crossings = nn.ModuleList(Attention(width, HEADS) for _ in self.pairs)
        self.embedding_dim = width
        self.prediction = nn.Linear((len(names) + len(self.pairs)) * width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, read each modality's dialogue and graph, attend across modalities, put all side by side, predict."""
        near, layout = (
            neighbours(batch.layout, self.config.window, self.config.window),
            batch.layout,
        )
        z, graphs = {}, []
        for number, m in enumerate(self.modalities):
            seen = batch.observed[:, number]
            z[m] = torch.where(seen[:, None], self.encoders[m](features[m]), 0)
            graphs.append(self.graphs[m](self.sequences[m](z[m], layout), near, seen))
        grids = [layout.pad(g) for g in graphs]  # (dialogues, steps, hidden)
        there = layout.pad(batch.observed)  # (dialogues, steps, M); padding is not there
        crossed = [
            layout.unpad(attention(grids[target], grids[source], there[:, :, source]))
            for (target, source), attention in zip(self.pairs, self.crossings, strict=True)
        ]
        hidden = torch.cat([*graphs, *crossed], dim=1)
        hidden = dropout(hidden, self.config.dropout, self.training)
        return Fused(z, hidden, self.prediction(hidden))


class GraphAttention(nn.Module):
    """x_i + ELU(sum_j a_ij W x_j), a_i. = softmax over seen j of LeakyReLU(u W x_i + v W x_j), by head.

    (Velickovic et al., 2018, with a residual.)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        bound = 1 / math.sqrt(width // HEADS)
        self.mine, self.theirs = (
            nn.Parameter(torch.empty(HEADS, width // HEADS).uniform_(-bound, bound))
            for _ in range(2)
        )

    def forward(self, states: Tensor, near: Neighbours, seen: Tensor) -> Tensor:
        """states (n, width), seen (n,) bool -> (n, width); with no neighbour that is seen, x_i."""
        values = self.linear(states).unflatten(1, (HEADS, -1))  # (n, heads, width / heads)
        mine, theirs = ((values * w).sum(dim=2) for w in (self.mine, self.theirs))  # (n, heads)
        usable = near.valid & seen[near.row]  # (n, K)
        scores = F.leaky_relu(mine[:, None] + theirs[near.row], 0.2)  # (n, K, heads)
        some = usable.any(dim=1)[:, None, None]
        hidden = (
            ~usable[:, :, None] & some
        )  # a row that sees nothing hides nothing, and stays finite
        weights = scores.masked_fill(hidden, -math.inf).softmax(dim=1) * some
        message = (weights[..., None] * values[near.row]).sum(dim=1)  # (n, heads, width / heads)
        return states + F.elu(message.flatten(1))
