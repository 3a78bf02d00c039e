"""DMD: what modalities share, and what each has of its own, predict apart and learn from one another (BASELINES_MM 10).

Every embedding x_m has a part of its own s_m and a shared one c_m, by bias-free maps; a map of both should give x_m
back, and its part of its own should be s_m again. Each c_m predicts through a residual layer; every s_m looks at the
present others' and predicts; all c_m together predict. The output reads what these read, each part through a gate. Two
small networks weigh who learns from whom: the method ``dmd`` does the rest. On vectors the convolutions are linear
maps, and attention over time is one layer over modalities (MM2 B).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_heads, check_shares
from mmlib.nn.crossings import ResidualHead, pairs
from mmlib.nn.encoder import Encoder
from mmlib.nn.tokens import TokenBlock, stacked

LOUD = 4.0  # of the prior: how much more a favoured pair weighs, before the softmax
SPREAD = 8.0  # what the edges' scores are divided by
TEACHERS = {"text": ("audio", "vision"), "audio": ("vision",)}  # who learns from them, a priori


@dataclass(frozen=True)
class DMDConfig:
    """hidden: width of all parts. heads: of the attentions over modalities. dropout: in them and before predictions.

    A missing modality is no key, and its parts are zeros in what the predictions of several modalities read.
    """

    hidden: int = 64
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_counts("dmd", self, ("hidden", "heads"))
        check_heads("dmd", self.hidden, self.heads)
        check_shares("dmd", self)


class Branch(NamedTuple):
    """Predictions that learn from one another: states (n, M, hidden), logits (n, M, C), edges (n, P), prior (P,).

    An edge (j, k) is how much j learns from k; of a row they sum to 1 over the pairs of modalities that it has.
    """

    states: Tensor
    logits: Tensor
    edges: Tensor
    prior: Tensor


class Parts(NamedTuple):
    """What the loss reads. embedded, own, shared, made, again: (n, M, hidden), the x, s, c, made x and its s.

    alike, unlike: the branches of c and of s. joint: (n, C), the prediction from all c.
    """

    fused: Fused
    embedded: Tensor
    own: Tensor
    shared: Tensor
    made: Tensor
    again: Tensor
    alike: Branch
    unlike: Branch
    joint: Tensor


class DMD(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is x_m."""

    Config = DMDConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: DMDConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width, rate = len(dims), config.hidden, config.dropout
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.to_own = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in dims])
        self.to_shared = nn.Linear(width, width, bias=False)
        self.back = nn.ModuleList([nn.Linear(2 * width, width, bias=False) for _ in dims])
        self.alike = Predict(width, outputs, count, rate)
        self.look = TokenBlock(width, config.heads, 4 * width, rate)
        self.unlike = Predict(width, outputs, count, rate)
        self.mix = TokenBlock(width, config.heads, 4 * width, rate)
        self.joint, self.of_joint = (
            ResidualHead(count * width, rate),
            nn.Linear(count * width, outputs),
        )
        self.gates = nn.ModuleList([nn.Linear(width, width) for _ in range(count)])
        self.joint_gate = nn.Linear(count * width, count * width)
        self.tail = ResidualHead(2 * count * width, rate)
        self.prediction = nn.Linear(2 * count * width, outputs)
        self.embedding_dim = width
        self.register_buffer("prior_alike", prior(self.modalities, False), persistent=False)
        self.register_buffer("prior_unlike", prior(self.modalities, True), persistent=False)

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, take apart, put together again, predict in all ways."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        embedded, seen = stacked(z, self.modalities), batch.observed
        there = seen[:, :, None]
        own, shared = each(self.to_own, embedded), self.to_shared(embedded)
        made = each(self.back, torch.cat([own, shared], dim=2))
        again = each(self.to_own, made)
        alike = self.alike(shared, seen, self.prior_alike)
        unlike = self.unlike(self.look(own, seen), seen, self.prior_unlike)
        mixed = self.joint((self.mix(shared, seen) * there).flatten(1))
        gated = [
            torch.sigmoid(gate(state)) * state
            for gate, state in zip(self.gates, (unlike.states * there).unbind(dim=1), strict=True)
        ]
        gated.append(torch.sigmoid(self.joint_gate(mixed)) * mixed)
        hidden = self.tail(torch.cat(gated, dim=1))
        fused = Fused(z, hidden, self.prediction(hidden))
        joint = self.of_joint(mixed)
        return Parts(fused, embedded, own, shared, made, again, alike, unlike, joint)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused


class Predict(nn.Module):
    """Each modality's residual layer and prediction, and how much each learns from each other one."""

    def __init__(self, width: int, outputs: int, count: int, rate: float) -> None:
        super().__init__()
        self.tails = nn.ModuleList([ResidualHead(width, rate) for _ in range(count)])
        self.heads = nn.ModuleList([nn.Linear(width, outputs) for _ in range(count)])
        self.edge = nn.Linear(2 * width, 1)
        self.pairs = pairs(count)

    def forward(self, values: Tensor, seen: Tensor, prior: Tensor) -> Branch:
        """values (n, M, width), seen (n, M) bool, prior (pairs,)."""
        states = each(self.tails, values)
        both = torch.stack([torch.cat([states[:, j], states[:, k]], 1) for j, k in self.pairs], 1)
        scores = self.edge(both)[:, :, 0] / SPREAD
        return Branch(states, each(self.heads, states), among(scores, self.present(seen)), prior)

    def present(self, seen: Tensor) -> Tensor:
        """(n, pairs) bool: which pairs a row has both modalities of."""
        return torch.stack([seen[:, j] & seen[:, k] for j, k in self.pairs], dim=1)


def among(scores: Tensor, counts: Tensor) -> Tensor:
    """Softmax over what counts, both (n, pairs), zeros where nothing does."""
    hidden = ~(counts | ~counts.any(dim=1, keepdim=True))
    return scores.masked_fill(hidden, -torch.inf).softmax(dim=1) * counts


def each(layers: nn.ModuleList, values: Tensor) -> Tensor:
    """A layer for each modality, (n, M, inputs) -> (n, M, outputs)."""
    return torch.stack([layer(values[:, i]) for i, layer in enumerate(layers)], dim=1)


def prior(modalities: Sequence[str], unlike: bool) -> Tensor:
    """(pairs,): before training, audio and vision learn from text; among the unlike parts vision from audio, too.

    The same for all pairs where the modalities are not these three.
    """
    wanted = torch.zeros(len(pairs(len(modalities))))
    if set(modalities) == {"audio", "text", "vision"}:
        for number, (j, k) in enumerate(pairs(len(modalities))):
            teacher = modalities[k]
            if teacher == "text" or unlike:
                wanted[number] = float(modalities[j] in TEACHERS.get(teacher, ()))
    return (LOUD * wanted).softmax(dim=0)
