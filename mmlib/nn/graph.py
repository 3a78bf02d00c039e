"""A graph with one node per utterance and modality, and the GCNII layers that run on it.

All pairs of utterances of one dialogue and modality are joined, and the modalities of one utterance.
The graph is kept as one block of weights per dialogue and modality plus the edges between modalities,
which gives the same numbers as a dense (M n, M n) adjacency at a tenth of its cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.batch import Layout
from mmlib.nn.dropout import dropout

SHRINK = 0.99999


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
    degree_within = layout.unpad(
        within.sum(dim=2).unflatten(0, (-1, count)).transpose(1, 2)
    )  # (n, M)
    scale = (degree_within + across.sum(dim=2)).rsqrt()
    padded_scale = layout.pad(scale).transpose(1, 2).flatten(0, 1)  # (B M, T)
    return Edges(
        within * padded_scale[:, :, None] * padded_scale[:, None, :],
        across * scale[:, :, None] * scale[:, None, :],
    )


def _angular(cosine: Tensor) -> Tensor:
    return 1 - torch.arccos(SHRINK * cosine) / math.pi


def propagate(edges: Edges, states: Tensor, layout: Layout) -> Tensor:
    """The normalised adjacency times the states, (n, M, g) -> (n, M, g)."""
    count = states.shape[1]
    grid = layout.pad(states).transpose(1, 2).flatten(0, 1)  # (B M, T, g)
    within = (edges.within @ grid).unflatten(0, (-1, count)).transpose(1, 2)  # (B, T, M, g)
    across = (edges.across[..., None] * states[:, None]).sum(
        dim=2
    )  # as a product, but fast for few modalities
    return layout.unpad(within) + across


class GCNII(nn.Module):
    """Graph convolutions with an initial residual and an identity map (Chen et al., 2020; variant form).

    H^l = ReLU(theta_l [A H; H^0] W_l + (1 - theta_l) ((1 - alpha) A H + alpha H^0)),
    theta_l = ln(lambda / l + 1), with dropout before the first and after each layer.

    gated: MM-DFN's dynamic fusion (ledger 6.3, D15). Before each layer the state goes through one LSTM
    cell that the layers share, its memory carried from layer to layer, and what the layer is given is
    added to what it makes.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        layers: int,
        dropout: float,
        alpha: float,
        lam: float,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.dropout, self.alpha, self.lam = dropout, alpha, lam
        self.enter = nn.Linear(inputs, width)
        bound = 1 / math.sqrt(width)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(2 * width, width).uniform_(-bound, bound))
            for _ in range(layers)
        )
        self.gate = nn.LSTMCell(width, width) if gated else None

    def forward(self, nodes: Tensor, edges: Edges, layout: Layout) -> Tensor:
        """(n, M, h) -> (n, M, g)."""
        first = F.relu(self.enter(nodes))
        state, memory = dropout(first, self.dropout, self.training), None
        for depth, weight in enumerate(self.weights, start=1):
            if self.gate is not None:
                memory = self.gate(state.flatten(0, 1), memory)
                state = memory[0].view_as(state)
            made = self._layer(depth, weight, propagate(edges, state, layout), first)
            state = made if self.gate is None else made + state
        return state

    def _layer(self, depth: int, weight: Tensor, message: Tensor, first: Tensor) -> Tensor:
        theta = math.log(self.lam / depth + 1)
        mixed = (1 - self.alpha) * message + self.alpha * first
        state = F.relu(theta * (torch.cat([message, first], dim=2) @ weight) + (1 - theta) * mixed)
        return dropout(state, self.dropout, self.training)
