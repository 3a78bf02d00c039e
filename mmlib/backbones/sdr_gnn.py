"""SDR-GNN: spectral domain reconstruction graph network for dialogues (BASELINES_MM 16, MM2 B).

GCNet's skeleton: a recurrent layer over the dialogue, a graph of time and one of speakers over windows of utterances.
In each graph a relational convolution, a convolution over hyperedges (an utterance's window is one) and a step of
signed, gated messages; what they make is read beside the nodes by a recurrent layer. Of single utterances the graphs
have one node. Reduced: a linear map for each modality in front (R1), an attention of 4 heads and ``hidden`` columns
for 256 and 2560. The reconstruction wants complete training rows; BALM leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.backbones.gcnet import (
    MOST_PAIRS,
    TIMES,
    Neighbours,
    RelationalConv,
    gather_sum,
    neighbours,
    speaker_relation,
    time_relation,
)
from mmlib.errors import InputError, unknown_name
from mmlib.nn.attention import Attention
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch, Layout
from mmlib.nn.encoder import Encoder
from mmlib.nn.frames import time_mean
from mmlib.nn.gru import DialogueGRU

HEADS = 4  # of the reconstruction's attention
ATTENDS = ("time", "dialogues")


@dataclass(frozen=True)
class SDRGNNConfig:
    """Sizes and switches. A missing modality enters as zeros, since the recurrent layer needs something there.

    hidden: width of encodings, nodes and graphs. window: utterances before and after, 3 as published. reconstruct: w
    of (1 - w) L_task + w L_rec, 0 in BALM; the loss here is that over 1 - w. It makes the training rows' complete
    features the targets. attends: the reconstruction's attention is over ``time``, or over the ``dialogues`` of a
    batch, as the released code's order of axes has it; the prediction is before it.
    """

    hidden: int = 64
    window: int = 3
    dropout: float = 0.5
    reconstruct: float = 0.0
    attends: str = "time"

    def __post_init__(self) -> None:
        if self.attends not in ATTENDS:
            raise unknown_name("sdr_gnn attends", self.attends, ATTENDS)
        for name, right, expected in (
            ("hidden", self.hidden >= HEADS and self.hidden % HEADS == 0, "a multiple of 4"),
            ("window", self.window >= 0, "0 or more"),
            ("dropout", 0 <= self.dropout < 1, "a share in [0, 1)"),
            ("reconstruct", 0 <= self.reconstruct < 1, "a share in [0, 1)"),
        ):
            if not right:
                raise InputError(
                    f"sdr_gnn {name}", str(getattr(self, name)), expected, "Correct it."
                )


class SDRGNN(Backbone):
    """The network over dialogues of vectors (n, d), or of frames (n, t, d) by their mean."""

    Config = SDRGNNConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: SDRGNNConfig
    ) -> None:
        super().__init__()
        self.config, self.speakers, self.modalities = config, speakers, tuple(sorted(dims))
        width = config.hidden
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.embedding_dim = width
        self.sequence = DialogueGRU(len(dims) * width, width // 2, 1, 0.0)
        pairs = speakers**2 if speakers**2 <= MOST_PAIRS else 2
        self.temporal, self.speaker = Graph(TIMES, config), Graph(pairs, config)
        self.prediction = nn.Linear(width, outputs)
        self.needs_complete = config.reconstruct > 0
        total = sum(dims.values())
        self.rebuild = Rebuild(width, total, config.attends) if self.needs_complete else None

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, pass messages in both graphs, add, predict."""
        z = {
            m: torch.where(batch.observed[:, i, None], self.encoders[m](features[m]), 0)
            for i, m in enumerate(self.modalities)
        }
        nodes = self.sequence(torch.cat(list(z.values()), dim=1), batch.layout)  # (n, hidden)
        near = neighbours(batch.layout, self.config.window, self.config.window)
        hidden = self.temporal(nodes, near, time_relation(near), batch.layout)
        hidden = hidden + self.speaker(
            nodes, near, speaker_relation(near, batch.speaker, self.speakers), batch.layout
        )
        return Fused(z, hidden, self.prediction(hidden))

    def extra_loss(self, batch: Batch, fused: Fused) -> Tensor | None:
        """w / (1 - w) times the squared error over missing entries of finite truth, each modality's over its width."""
        if self.rebuild is None or batch.complete is None:
            return None
        made = self.rebuild(fused.hidden, batch.layout)
        total, missing = made.new_zeros(()), made.new_zeros(())
        start = 0
        for number, m in enumerate(self.modalities):
            truth = time_mean(batch.complete[m])
            width = truth.shape[1]
            wanted = ~batch.observed[:, number] & truth.isfinite().all(dim=1)
            error = torch.where(wanted[:, None], made[:, start : start + width] - truth, 0)
            total, missing = total + error.square().sum() / width, missing + wanted.sum()
            start += width
        share = self.config.reconstruct / (1 - self.config.reconstruct)
        return share * total / missing.clamp(min=1)


class Graph(nn.Module):
    """Relational, hyperedge and signed steps, and a recurrent layer over what they make beside the nodes."""

    def __init__(self, relations: int, config: SDRGNNConfig) -> None:
        super().__init__()
        width = config.hidden
        self.relational = RelationalConv(width, width, relations)
        self.theta = nn.Linear(width, width)
        self.mine, self.theirs = nn.Linear(width, 1), nn.Linear(width, 1, bias=False)
        self.sequence = DialogueGRU(2 * width, width // 2, 2, config.dropout)
        self.last = nn.Linear(width, width)

    def forward(self, nodes: Tensor, near: Neighbours, relation: Tensor, layout: Layout) -> Tensor:
        """Nodes (n, hidden), relation (n, K) -> (n, hidden)."""
        states = self.relational(nodes, near, relation)
        states = self.signed(hyperedges(self.theta(states), near), near)
        return F.relu(self.last(self.sequence(torch.cat([nodes, states], dim=1), layout)))

    def signed(self, states: Tensor, near: Neighbours) -> Tensor:
        """x_i + sum over i's window of tanh(w [x_i; x_j] + b) x_j / sqrt(d_i d_j), d the number of neighbours."""
        scale = near.valid.sum(dim=1, keepdim=True).to(states.dtype).rsqrt()  # (n, 1)
        weight = torch.tanh(self.mine(states) + self.theirs(states)[:, 0][near.row])  # (n, K)
        weight = weight * near.valid * scale * scale[:, 0][near.row]
        return states + gather_sum(states, near.row, weight)


def hyperedges(states: Tensor, near: Neighbours) -> Tensor:
    """D^-1 H B^-1 H^T X: each window's mean, then for each utterance the mean over the windows that it is in.

    Windows reach as far back as ahead, so that the windows that an utterance is in are those of the utterances in its
    own.
    """
    share = near.valid / near.valid.sum(dim=1, keepdim=True)  # (n, K)
    return gather_sum(gather_sum(states, near.row, share), near.row, share)


class Rebuild(nn.Module):
    """All features of an utterance, side by side, from its hidden state and those that its attention reaches."""

    def __init__(self, width: int, total: int, attends: str) -> None:
        super().__init__()
        self.over_dialogues = attends == "dialogues"
        self.enter, self.attention = nn.Linear(width, width), Attention(width, HEADS)
        self.leave = nn.Linear(width, total)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """(n, hidden) -> (n, sum of d_m)."""
        grid, exists = layout.pad(self.enter(hidden)), layout.exists
        if self.over_dialogues:
            grid, exists = grid.transpose(0, 1), exists.t()
        made = self.attention(grid, grid, exists)
        made = made.transpose(0, 1) if self.over_dialogues else made
        rebuilt: Tensor = self.leave(layout.unpad(made))
        return rebuilt
