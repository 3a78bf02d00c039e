"""MCULoRA's network: a transformer for each modality, and cross-attention between them (ledger 4.1).

Every modality's utterances attend to each other within a dialogue; then the modalities, to one another. Padding and
what is missing are no keys of any attention, which the released code lacks (G12). The widths, the blocks and what
stands before the prediction are MoMKE's (BASELINES_MM section 3); the paper says of its fusion only that it is
cross-attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.attention import Attention, Expert, Tail
from mmlib.nn.backbone import Staged
from mmlib.nn.batch import Batch, Layout
from mmlib.nn.dropout import dropout


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes: hidden is d, depth the blocks Q, heads of every attention."""

    hidden: int = 256
    depth: int = 4
    heads: int = 2
    dropout: float = 0.5

    def __post_init__(self) -> None:
        for name in ("hidden", "depth", "heads"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"transformer {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )
        if self.hidden % self.heads:
            raise InputError(
                "transformer hidden",
                str(self.hidden),
                f"a multiple of {self.heads} heads",
                "Change one.",
            )
        if not 0 <= self.dropout < 1:
            raise InputError(
                "transformer dropout", str(self.dropout), "a share in [0, 1)", "Correct it."
            )


class Crossmodal(Staged):
    """The network; every z^m is a modality's representation after the fusion, zero where the modality is missing."""

    Config = TransformerConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: TransformerConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, width = config, tuple(sorted(dims)), config.hidden
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], config) for m in self.modalities})
        self.outputs = nn.ModuleDict({m: nn.Linear(width, width) for m in self.modalities})
        self.crossings = nn.ModuleDict({m: Attention(width, config.heads) for m in self.modalities})
        self.tail = Tail(len(dims) * width, config.dropout)
        self.embedding_dim = width
        self.prediction = nn.Linear(len(dims) * width, outputs)

    def represent(self, batch: Batch, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """x^m: modality to (n, hidden)."""
        return {
            m: self.encoders[m](features[m], batch.observed[:, index], batch.layout)
            for index, m in enumerate(self.modalities)
        }

    def fuse(
        self, batch: Batch, representations: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Omega of MCULoRA Eq. 4."""
        layout = batch.layout
        seen = {m: layout.pad(batch.observed[:, index]) for index, m in enumerate(self.modalities)}
        padded = {m: layout.pad(representations[m]) for m in self.modalities}
        z = {}
        for index, modality in enumerate(self.modalities):
            others = [m for m in self.modalities if m != modality]
            crossed = representations[modality]
            if others:
                keys = torch.cat([padded[m] for m in others], 1)
                keys_seen = torch.cat([seen[m] for m in others], 1)
                crossed = crossed + layout.unpad(
                    self.crossings[modality](padded[modality], keys, keys_seen)
                )
            z[modality] = crossed * batch.observed[:, index, None]
        return z, self.tail(torch.cat([z[m] for m in self.modalities], dim=1))


class Encoder(nn.Module):
    """A linear map into the width, then blocks over the utterances of each dialogue."""

    def __init__(self, dim: int, config: TransformerConfig) -> None:
        super().__init__()
        self.enter = nn.Linear(dim, config.hidden)
        self.expert = Expert(config.hidden, config.depth, config.heads, config.dropout)
        self.rate = config.dropout

    def forward(self, features: Tensor, observed: Tensor, layout: Layout) -> Tensor:
        """features (n, dim), observed (n,) bool -> (n, hidden)."""
        entered = dropout(self.enter(features), self.rate, self.training)
        encoded: Tensor = layout.unpad(self.expert(layout.pad(entered), layout.pad(observed)))
        return encoded
