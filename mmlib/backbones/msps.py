"""MSPs-style: one block of prompts per modality beside the input of a frozen transformer (BASELINES_MM2 33).

Only an abstract is known of Jang et al. (ICASSP 2024), so lengths, weight and wiring are guesses. First a transformer
over one token per modality is trained on the rows as they are; the second stage freezes it and trains the prompts and
the last layer. A row's prompt is made of the blocks of its present modalities: M blocks, not one for each of 2^M - 1
cases. Here the transformer is small and pre-trained on the training rows, in the place of ViLT on another corpus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch
from mmlib.nn.encoder import Encoder
from mmlib.nn.tokens import TokenBlock, stacked
from mmlib.nn.two_stage import TwoStage


@dataclass(frozen=True)
class MSPsConfig:
    """Sizes, and the prompts' own loss.

    hidden: width of a token. layers, heads: of the transformer. prompts: tokens in a modality's block.
    orthogonality: weight of the mean |cosine| of two blocks. A missing modality has neither token nor prompts.
    """

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    prompts: int = 4
    orthogonality: float = 0.15

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "prompts"):
            if getattr(self, name) < 1:
                raise InputError(f"msps {name}", str(getattr(self, name)), "1 or more", "Raise it.")
        if self.hidden % self.heads:
            raise InputError(
                "msps hidden", str(self.hidden), f"a multiple of {self.heads} heads", "Change one."
            )
        if not 0 <= self.dropout < 1:
            raise InputError("msps dropout", str(self.dropout), "a share in [0, 1)", "Correct it.")
        if not 0 <= self.orthogonality < float("inf"):
            raise InputError(
                "msps orthogonality", str(self.orthogonality), "0 or more", "Correct it."
            )


class MSPs(TwoStage):
    """The network over vectors (n, d), or frames (n, t, d) by their mean; prompts enter in the second stage."""

    Config = MSPsConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MSPsConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, width = config, tuple(sorted(dims)), config.hidden
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.blocks = nn.ModuleList(
            [
                TokenBlock(width, config.heads, 4 * width, config.dropout)
                for _ in range(config.layers)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.prompts = nn.Parameter(0.02 * torch.randn(len(dims), config.prompts, width))
        self.embedding_dim = width
        self.prediction = nn.Linear(width, outputs)

    def frozen(self) -> list[nn.Module]:
        """All but the prompts and the last layer."""
        return [self.encoders, self.blocks, self.norm]

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Mix the present modalities' tokens, with their prompts in the second stage; predict from the tokens' mean."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        tokens, seen = stacked(z, self.modalities), batch.observed  # (n, M, hidden), (n, M)
        if self.second:
            tokens = torch.cat([tokens, self.prompts.flatten(0, 1).expand(len(tokens), -1, -1)], 1)
            of_prompts = seen[:, :, None].expand(-1, -1, self.config.prompts).flatten(1)
            seen = torch.cat([seen, of_prompts], dim=1)  # (n, M + M prompts)
        for block in self.blocks:
            tokens = block(tokens, seen)
        present = batch.observed[:, :, None]
        mixed = self.norm(tokens[:, : len(self.modalities)]) * present
        hidden = mixed.sum(dim=1) / present.sum(dim=1).clamp(min=1)
        return Fused(z, hidden, self.prediction(hidden))

    def extra_loss(self, batch: Batch, fused: Fused) -> Tensor | None:
        """The penalty on prompts that point the same way, in the second stage."""
        return self.config.orthogonality * overlap(self.prompts) if self.second else None


def overlap(prompts: Tensor) -> Tensor:
    """Mean over pairs i < j of |cos(vec P_i, vec P_j)|; prompts (M, k, width)."""
    count = len(prompts)
    directions = F.normalize(prompts.flatten(1), dim=1)
    cosines = (directions @ directions.t()).abs().triu(1)
    return cosines.sum() / (count * (count - 1) / 2)
