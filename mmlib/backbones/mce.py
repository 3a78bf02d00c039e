"""MCE: modalities as the tokens of one transformer block, and a unimodal network beside each (BASELINES_MM2 19).

The first stage trains the unimodal networks alone, each on the rows that have its modality, so no row must be complete.
They are frozen in the second, where the method ``mce`` asks how often they are right. Text and audio encoders are a
linear map each; the source's widths are 128, and 2048 within the block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch
from mmlib.nn.encoder import Encoder
from mmlib.nn.tokens import TokenBlock, stacked
from mmlib.nn.trunk import Head
from mmlib.nn.two_stage import TwoStage

ABSENT = ("skip", "zero")


@dataclass(frozen=True)
class MceConfig:
    """Sizes, and what a missing modality is.

    hidden: width of a token and of the heads. wide: of the block's perceptron. dropout: in the block.
    head_dropout: in the heads and the unimodal networks.
    absent: ``skip`` hides a missing modality's token from the others, and its own place holds what they complete it to;
    ``zero`` encodes zeros and hides nothing, as released.
    """

    hidden: int = 64
    heads: int = 8
    wide: int = 256
    dropout: float = 0.1
    head_dropout: float = 0.5
    absent: str = "skip"

    def __post_init__(self) -> None:
        for name in ("hidden", "heads", "wide"):
            if getattr(self, name) < 1:
                raise InputError(f"mce {name}", str(getattr(self, name)), "1 or more", "Raise it.")
        if self.hidden % self.heads:
            raise InputError(
                "mce hidden", str(self.hidden), f"a multiple of {self.heads} heads", "Change one."
            )
        for name in ("dropout", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"mce {name}", str(getattr(self, name)), "a share in [0, 1)", "Correct it."
                )
        if self.absent not in ABSENT:
            raise unknown_name("mce absent", self.absent, ABSENT)


class MceParts(NamedTuple):
    """What the network makes of a batch: the prediction, h_m before the block and f_m after it, (n, M, hidden) each."""

    fused: Fused
    encoded: Tensor
    mixed: Tensor


class MCE(TwoStage):
    """The network over vectors (n, d), or frames (n, t, d) by their mean.

    In the first stage it predicts the mean of the present modalities' own predictions.
    """

    Config = MceConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MceConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        width, rate = config.hidden, config.head_dropout
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.positions = nn.Parameter(0.02 * torch.randn(len(dims), width))
        self.block = TokenBlock(width, config.heads, config.wide, config.dropout)
        self.joint = Head(len(dims) * width, width, outputs, rate)
        self.heads = nn.ModuleList([Head(width, width, outputs, rate) for _ in dims])
        self.unimodal_encoders = nn.ModuleDict(
            {m: Encoder(dims[m], width) for m in self.modalities}
        )
        self.unimodal_heads = nn.ModuleDict(
            {m: Head(width, width, outputs, rate) for m in self.modalities}
        )
        self.embedding_dim = width
        self.prediction = self.joint.last

    def frozen(self) -> list[nn.Module]:
        """The unimodal networks."""
        return [self.unimodal_encoders, self.unimodal_heads]

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """The joint prediction, or in the first stage that of the unimodal networks."""
        if self.second:
            return self.parts(batch, features).fused
        z = self.alone(features)
        hidden = stacked(z, self.modalities).flatten(1)
        own = torch.stack([self.unimodal_heads[m](z[m]) for m in self.modalities], dim=1)
        seen = batch.observed[:, :, None]
        return Fused(z, hidden, (own * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1))

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> MceParts:
        """Encode each modality, mix the tokens, predict."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        encoded, seen = stacked(z, self.modalities), batch.observed
        if self.config.absent == "skip":
            encoded = torch.where(seen[:, :, None], encoded, 0.0)
        mixed = self.mix(encoded, seen)
        hidden = self.joint.hidden(mixed.flatten(1))
        return MceParts(Fused(z, hidden, self.prediction(hidden)), encoded, mixed)

    def mix(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """f_m of the tokens, (n, M, hidden) -> (n, M, hidden), from those that are seen, (n, M) bool."""
        keys = seen if self.config.absent == "skip" else torch.ones_like(seen)
        mixed: Tensor = self.block(tokens + self.positions, keys)
        return mixed

    def of_subsets(self, tokens: Tensor, subsets: Tensor) -> tuple[Tensor, Tensor]:
        """f_m and the joint logits from some of the tokens alone, the others zero.

        tokens (n, M, hidden), subsets (S, n, M) bool -> (S, n, M, hidden) and (S, n, C).
        """
        kept = torch.where(subsets[..., None], tokens, 0.0).flatten(0, 1)
        mixed = self.mix(kept, subsets.flatten(0, 1))
        logits = self.joint(mixed.flatten(1))
        return tuple(x.unflatten(0, subsets.shape[:2]) for x in (mixed, logits))  # type: ignore[return-value]

    def alone(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The unimodal networks' embeddings, modality to (n, hidden)."""
        return {m: self.unimodal_encoders[m](features[m]) for m in self.modalities}

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """In the first stage the unimodal networks' logits, modality to (n, C)."""
        if self.second:
            return {}
        return {m: self.unimodal_heads[m](fused.z[m]) for m in self.modalities}
