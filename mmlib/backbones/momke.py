"""MoMKE: every modality through the experts of all, mixed by a router (BASELINES_MM section 3, EBMC E22).

Tokens of a modality attend to tokens of the same modality only; what other modalities know comes in by their experts'
weights. Two stages: each expert learns from its own modality alone (``routing`` "own", method ``unimodal``), then all
of them from all ("softmax"; EBMC's weights are not normalised).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.backbones.crossmodal import Encoder, TransformerConfig
from mmlib.errors import unknown_name
from mmlib.nn.attention import Tail
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.dropout import dropout

ROUTINGS = ("softmax", "unnormalised", "own")


@dataclass(frozen=True)
class MoMKEConfig(TransformerConfig):
    """Sizes, and how a modality's experts are weighed; ``own`` asks the modality's own expert alone."""

    routing: str = "softmax"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.routing not in ROUTINGS:
            raise unknown_name("momke routing", self.routing, ROUTINGS)


class MoMKE(Backbone):
    """The network; its parameters are the same whatever the routing, so one stage can start from another."""

    Config = MoMKEConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MoMKEConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, width = config, tuple(sorted(dims)), config.hidden
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], config) for m in self.modalities})
        self.routers = nn.ModuleDict({m: Router(width, len(dims), config) for m in self.modalities})
        self.heads = nn.ModuleDict({m: nn.Linear(width, outputs) for m in self.modalities})
        self.tail = Tail(len(dims) * width, config.dropout)
        self.embedding_dim = width
        self.prediction = nn.Linear(len(dims) * width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode by experts, mix them, join, predict; features[m] is (n, d_m)."""
        z = self.encoded(batch, features)
        hidden = self.tail(torch.cat([z[m] for m in self.modalities], dim=1))
        return Fused(z, hidden, self.prediction(hidden))

    def encoded(self, batch: Batch, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """z^m, modality to (n, hidden), zero where the modality is missing."""
        entered = torch.stack(
            [
                dropout(self.encoder(m).enter(features[m]), self.config.dropout, self.training)
                for m in self.modalities
            ]
        )  # (M, n, hidden)
        mixed = (
            self.own(batch, entered) if self.config.routing == "own" else self.mixed(batch, entered)
        )
        return {m: mixed[i] * batch.observed[:, i, None] for i, m in enumerate(self.modalities)}

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """Each modality's own head on its own expert, in the first stage."""
        return self.alone(fused.z) if self.config.routing == "own" else {}

    def alone(self, z: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the modalities' own heads say of features; modality to (n, outputs)."""
        return {m: self.heads[m](z[m]) for m in self.modalities}

    def encoder(self, modality: str) -> Encoder:
        """A modality's linear map and expert."""
        encoder = self.encoders[modality]
        assert isinstance(encoder, Encoder)
        return encoder

    def own(self, batch: Batch, entered: Tensor) -> Tensor:
        """(M, n, hidden) -> the same, each modality through its own expert."""
        layout, seen = batch.layout, batch.observed
        return torch.stack(
            [
                layout.unpad(self.encoder(m).expert(layout.pad(entered[i]), layout.pad(seen[:, i])))
                for i, m in enumerate(self.modalities)
            ]
        )

    def mixed(self, batch: Batch, entered: Tensor) -> Tensor:
        """(M, n, hidden) -> the same: sum over experts k of r_mk times what expert k makes of modality m."""
        layout, count = batch.layout, len(self.modalities)
        padded = torch.cat([layout.pad(part) for part in entered])  # (M dialogues, steps, hidden)
        seen = torch.cat([layout.pad(batch.observed[:, i]) for i in range(count)])
        by_expert = [
            self.encoder(k).expert(padded, seen).unflatten(0, (count, -1)) for k in self.modalities
        ]
        made = torch.stack(
            [torch.stack([layout.unpad(part[i]) for i in range(count)]) for part in by_expert]
        )
        weights = torch.stack(
            [self.routers[m](entered[i]) for i, m in enumerate(self.modalities)]
        )  # (M, n, experts)
        return torch.einsum("kmnh,mnk->mnh", made, weights)


class Router(nn.Module):
    """An MLP from a modality's tokens to the weights of the experts."""

    def __init__(self, width: int, experts: int, config: MoMKEConfig) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, experts)
        self.rate, self.normalised = config.dropout, config.routing == "softmax"

    def forward(self, entered: Tensor) -> Tensor:
        """(n, hidden) -> (n, experts); softmax weights add up to 1."""
        inner = dropout(F.gelu(self.first(entered)), self.rate, self.training)
        logits = dropout(self.second(inner), self.rate, self.training)
        return logits.softmax(dim=1) if self.normalised else logits
