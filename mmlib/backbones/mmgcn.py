"""MMGCN: multimodal fusion by a deep graph convolution network (Hu et al., ACL 2021).

As BALM's released code has it (ledger 6.1): one linear encoder per modality, a BiLSTM on text,
a graph with one node per utterance and modality, GCNII layers, one linear head. The graph is kept
as one block of weights per dialogue and modality plus the edges between modalities of one
utterance, which gives the same numbers as a dense (M n, M n) adjacency at a tenth of its cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch, Layout
from mmlib.nn.dropout import dropout
from mmlib.nn.recurrent import DialogueLSTM

SHRINK = 0.99999


@dataclass(frozen=True)
class MMGCNConfig:
    """Sizes and switches of MMGCN.

    hidden: width of every encoder's output. graph: width of the graph layers. layers: how many
    (4 as BALM released, 64 in the official file: D16). alpha, lam: GCNII's initial residual and
    decay. speaker: the speaker embedding is added to ``all`` modalities (D17) or to ``text`` only
    as in the official code. recurrent: modalities whose encoder ends in a BiLSTM. packed: False
    lets the BiLSTM run over padding, as the released code does.
    """

    hidden: int = 200
    graph: int = 100
    layers: int = 4
    dropout: float = 0.4
    alpha: float = 0.1
    lam: float = 0.5
    speaker: str = "all"
    recurrent: tuple[str, ...] = ("text",)
    packed: bool = True

    def __post_init__(self) -> None:
        if self.speaker not in ("all", "text", "none"):
            raise unknown_name("mmgcn speaker", self.speaker, ("all", "text", "none"))
        for name in ("hidden", "graph", "layers"):
            if getattr(self, name) < 1:
                raise InputError(f"mmgcn {name}", str(getattr(self, name)), "1 or more", "Raise it.")
        if self.hidden % 2:
            raise InputError("mmgcn hidden", str(self.hidden), "an even number", "The BiLSTM halves it.")
        if not 0 <= self.dropout < 1:
            raise InputError("mmgcn dropout", str(self.dropout), "a share in [0, 1)", "Correct it.")


class MMGCN(Backbone):
    """The network; ``forward`` takes a batch and the features that a method made of it."""

    Config = MMGCNConfig

    def __init__(self, dims: Mapping[str, int], outputs: int, speakers: int, config: MMGCNConfig) -> None:
        super().__init__()
        self.config = config
        self.modalities = tuple(sorted(dims))
        self.encoders = nn.ModuleDict({m: Encoder(d, m in config.recurrent, config) for m, d in sorted(dims.items())})
        self.speaker = nn.Embedding(speakers, config.hidden)
        self.graph = GCNII(config)
        self.embedding_dim = config.hidden
        self.prediction = nn.Linear(len(dims) * (config.hidden + config.graph), outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, add speakers, pass messages, fuse, predict; features[m] is (n, d_m)."""
        z = {m: self.encoders[m](features[m], batch.layout) for m in self.modalities}
        nodes = torch.stack([self._with_speaker(m, z[m], batch.speaker) for m in self.modalities], dim=1)  # (n, M, h)
        edges = graph_edges(nodes, batch.layout)
        nodes = dropout(nodes, self.config.dropout, self.training)
        states = self.graph(nodes, edges, batch.layout)  # (n, M, g)
        fused = torch.cat([nodes, states], dim=2).flatten(1)  # (n, M (h + g))
        hidden = F.relu(dropout(fused, self.config.dropout, self.training))
        return Fused(z, hidden, self.prediction(hidden))

    def _with_speaker(self, modality: str, z: Tensor, speaker: Tensor) -> Tensor:
        wanted = self.config.speaker
        return z + self.speaker(speaker) if wanted == "all" or wanted == modality else z


class Encoder(nn.Module):
    """phi^m: a linear layer without activation, for some modalities followed by a two-layer BiLSTM."""

    def __init__(self, dim: int, recurrent: bool, config: MMGCNConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, config.hidden)
        half = config.hidden // 2
        self.lstm = DialogueLSTM(config.hidden, half, 2, config.dropout, config.packed) if recurrent else None

    def forward(self, features: Tensor, layout: Layout) -> Tensor:
        """(n, d) -> (n, hidden)."""
        z: Tensor = self.linear(features)
        return self.lstm(z, layout, self.linear.bias) if self.lstm is not None else z


@dataclass(frozen=True)
class Edges:
    """The normalised adjacency D^-1/2 A D^-1/2 in two parts.

    within: (dialogues M, steps, steps), all pairs of one dialogue and modality, self included.
    across: (n, M, M), the modalities of one utterance, zero on the diagonal.
    """

    within: Tensor
    across: Tensor


def graph_edges(nodes: Tensor, layout: Layout) -> Edges:
    """Edge weights 1 - arccos(0.99999 cos) / pi, normalised by degree; nodes (n, M, h)."""
    unit = F.normalize(nodes, dim=2)
    count = nodes.shape[1]
    grid = layout.pad(unit).transpose(1, 2).flatten(0, 1)  # (B M, T, h)
    exists = layout.exists.repeat_interleave(count, dim=0)  # (B M, T)
    within = _angular(grid @ grid.transpose(1, 2)) * (exists[:, :, None] & exists[:, None, :])
    across = _angular(unit @ unit.transpose(1, 2)) * (1 - torch.eye(count, device=nodes.device))
    inside = layout.unpad(within.sum(dim=2).unflatten(0, (-1, count)).transpose(1, 2))  # (n, M)
    scale = (inside + across.sum(dim=2)).rsqrt()
    padded_scale = layout.pad(scale).transpose(1, 2).flatten(0, 1)  # (B M, T)
    return Edges(within * padded_scale[:, :, None] * padded_scale[:, None, :],
                 across * scale[:, :, None] * scale[:, None, :])


def _angular(cosine: Tensor) -> Tensor:
    return 1 - torch.arccos(SHRINK * cosine) / math.pi


def propagate(edges: Edges, states: Tensor, layout: Layout) -> Tensor:
    """The normalised adjacency times the states, (n, M, g) -> (n, M, g)."""
    count = states.shape[1]
    grid = layout.pad(states).transpose(1, 2).flatten(0, 1)  # (B M, T, g)
    within = (edges.within @ grid).unflatten(0, (-1, count)).transpose(1, 2)  # (B, T, M, g)
    across = (edges.across[..., None] * states[:, None]).sum(dim=2)  # as a product, but fast for few modalities
    return layout.unpad(within) + across


class GCNII(nn.Module):
    """Graph convolutions with an initial residual and an identity map (Chen et al., 2020; variant form).

    H^l = ReLU(theta_l [A H; H^0] W_l + (1 - theta_l) ((1 - alpha) A H + alpha H^0)),
    theta_l = ln(lambda / l + 1), with dropout before the first and after each layer.
    """

    def __init__(self, config: MMGCNConfig) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Linear(config.hidden, config.graph)
        bound = 1 / math.sqrt(config.graph)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(2 * config.graph, config.graph).uniform_(-bound, bound))
            for _ in range(config.layers)
        )

    def forward(self, nodes: Tensor, edges: Edges, layout: Layout) -> Tensor:
        """(n, M, h) -> (n, M, g)."""
        config = self.config
        first = F.relu(self.enter(nodes))
        state = dropout(first, config.dropout, self.training)
        for depth, weight in enumerate(self.weights, start=1):
            theta = math.log(config.lam / depth + 1)
            message = propagate(edges, state, layout)
            mixed = (1 - config.alpha) * message + config.alpha * first
            state = F.relu(theta * (torch.cat([message, first], dim=2) @ weight) + (1 - theta) * mixed)
            state = dropout(state, config.dropout, self.training)
        return state
