"""MCTN: one modality is translated into each other in turn, and what that leaves on the way predicts (BASELINES_MM 12).

E_1 = f(x_source) gives the first target, which is translated back; E_2 = f_2(E_1) gives the second, and so on; the last
E predicts. So a prediction reads one modality alone. A model of each source is trained (MM2 B): a row is predicted from
the anchor, where it has it, or else from the first modality that it has. The recurrent encoders and decoders with
attention are perceptrons of vectors here. What is translated has mean 0 and variance 1 over the training rows; the
method ``mctn`` sets that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.nn.anchor import ANCHOR, anchor_of
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_shares
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder


@dataclass(frozen=True)
class MCTNConfig:
    """hidden: width of every E. dropout: of E_1. anchor: the source that is preferred, or the first without text.

    The order of the other modalities, as sources and as targets, is the alphabetical one.
    """

    hidden: int = 64
    dropout: float = 0.1
    anchor: str = ANCHOR

    def __post_init__(self) -> None:
        check_counts("mctn", self, ("hidden",))
        check_shares("mctn", self)


class Read(NamedTuple):
    """What the model of one source makes: E_1 and the last E, (n, hidden); logits (n, C).

    made: modality to (n, d), its features as translated. back: (n, d), the source's, from the first translation.
    """

    first: Tensor
    last: Tensor
    logits: Tensor
    made: dict[str, Tensor]
    back: Tensor


class Parts(NamedTuple):
    """What the loss reads: what every source's model makes."""

    fused: Fused
    reads: dict[str, Read]


class MCTN(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is E_1 of the modality as a source.

    order: the sources, the preferred one first.
    """

    Config = MCTNConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MCTNConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        anchor = anchor_of("mctn", config.anchor, self.modalities)
        self.order = (anchor, *(m for m in self.modalities if m != anchor))
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], config.hidden) for m in self.modalities})
        self.chains = nn.ModuleDict(
            {
                m: Chain({k: dims[k] for k in (m, *self.others(m))}, config.hidden, outputs)
                for m in self.modalities
            }
        )
        self.embedding_dim = config.hidden
        first = self.chains[anchor]
        assert isinstance(first, Chain)
        self.prediction = first.head

    def others(self, source: str) -> tuple[str, ...]:
        """The targets of a source, in the order of translation."""
        return tuple(m for m in self.order if m != source)

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Run every source's model, and take each row from the first source that it has."""
        rate = self.config.dropout
        reads: dict[str, Read] = {}
        for m in self.order:
            entered = dropout(self.encoders[m](features[m]), rate, self.training)
            reads[m] = self.chains[m](entered)
        seen = dict(zip(self.modalities, batch.observed.unbind(dim=1), strict=True))
        there = [seen[m] for m in self.order]
        hidden = first_of([reads[m].last for m in self.order], there)
        logits = first_of([reads[m].logits for m in self.order], there)
        z = {m: reads[m].first for m in self.modalities}
        return Parts(Fused(z, hidden, logits), reads)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused


class Chain(nn.Module):
    """The model of one source: a translation into each target, the first also back."""

    def __init__(self, dims: Mapping[str, int], width: int, outputs: int) -> None:
        super().__init__()
        self.source, *self.targets = dims
        first = dims[self.targets[0]]
        self.steps = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in self.targets[1:]]
        )
        self.into = nn.ModuleDict({m: nn.Linear(width, dims[m]) for m in self.targets})
        self.back = nn.Sequential(
            nn.Linear(first, width), nn.ReLU(), nn.Linear(width, dims[self.source])
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, first: Tensor) -> Read:
        """E_1, (n, width)."""
        made = {self.targets[0]: self.into[self.targets[0]](first)}
        back = self.back(made[self.targets[0]])
        last = first
        for m, step in zip(self.targets[1:], self.steps, strict=True):
            last = step(last)
            made[m] = self.into[m](last)
        return Read(first, last, self.head(last), made, back)


def first_of(values: Sequence[Tensor], there: Sequence[Tensor]) -> Tensor:
    """(n, d): for every row the first of the values whose modality it has, else the first; there (n,) bool each."""
    chosen = values[0]
    taken = there[0]
    for value, seen in zip(values[1:], there[1:], strict=True):
        chosen = torch.where((seen & ~taken)[:, None], value, chosen)
        taken = taken | seen
    return chosen
