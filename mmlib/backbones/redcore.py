"""RedCore: what is missing is made from the other modalities, each of which has a prediction of its own (MM2 B).

An encoder gives a distribution over a modality's embedding, of which training draws and prediction takes the mean. A
short cascade of autoencoders makes each modality from the others, with zeros where one of them is missing; where the
modality itself is missing, what was made stands in its place. A joint head predicts, and one for each modality. The
transformers are a perceptron here (R1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.cascade import Cascade
from mmlib.nn.encoder import Encoder
from mmlib.nn.trunk import Head, Trunk


@dataclass(frozen=True)
class RedCoreConfig:
    """hidden: width of an embedding and of the heads' layers. blocks: autoencoders that make a modality.

    dropout: in the heads.
    """

    hidden: int = 128
    blocks: int = 3
    dropout: float = 0.5

    def __post_init__(self) -> None:
        for name in ("hidden", "blocks"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"redcore {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )
        if not 0 <= self.dropout < 1:
            raise InputError(
                "redcore dropout", str(self.dropout), "a share in [0, 1)", "Correct it."
            )


class Variational(nn.Module):
    """The encoder, and linear maps of what it gives to a mean and to the logarithm of a variance."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.encoder, self.both = Encoder(dim, width), nn.Linear(width, 2 * width)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(n, dim) or (n, t, dim) -> twice (n, width)."""
        mean, log_variance = self.both(self.encoder(values)).chunk(2, dim=1)
        return mean, log_variance


class Parts(NamedTuple):
    """What the loss reads, modalities in alphabetical order.

    mean, log_variance: (n, M, hidden), of the embeddings' distributions. own, made: (n, M, hidden), the embeddings of
    the modalities themselves, and as made from the others; own are 0 where missing. alone: (n, M, C), the modalities'
    own predictions.
    """

    fused: Fused
    mean: Tensor
    log_variance: Tensor
    own: Tensor
    made: Tensor
    alone: Tensor


class RedCore(Backbone):
    """The network. z^m is the embedding of a modality, made from the others where it is missing."""

    Config = RedCoreConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: RedCoreConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width, rate = len(dims), config.hidden, config.dropout
        self.encoders = nn.ModuleDict({m: Variational(dims[m], width) for m in self.modalities})
        self.makers = nn.ModuleDict(
            {m: Cascade((count - 1) * width, config.blocks, width) for m in self.modalities}
        )
        self.heads = nn.ModuleDict({m: Head(width, width, outputs, rate) for m in self.modalities})
        self.trunk = Trunk(count * width, width, rate)
        self.prediction = nn.Linear(width, outputs)
        self.embedding_dim = width

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, make each modality from the others, put what was made where one is missing, predict."""
        seen = batch.observed[:, :, None]
        encoded = [self.encoders[m](features[m]) for m in self.modalities]
        mean, log_variance = (torch.stack(x, dim=1) for x in zip(*encoded, strict=True))
        drawn = mean
        if self.training:
            drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        own = torch.where(seen, drawn, 0)
        made = torch.stack([self.make(i, own) for i in range(len(self.modalities))], dim=1)
        filled = torch.where(seen, own, made)
        hidden = self.trunk(filled.flatten(1))
        z = dict(zip(self.modalities, filled.unbind(dim=1), strict=True))
        alone = torch.stack([self.heads[m](z[m]) for m in self.modalities], dim=1)
        fused = Fused(z, hidden, self.prediction(hidden))
        return Parts(fused, mean, log_variance, own, made, alone)

    def make(self, index: int, own: Tensor) -> Tensor:
        """gen_m, (n, hidden), of the modality of that number, from the embeddings (n, M, hidden) of all others."""
        others = torch.cat([own[:, :index], own[:, index + 1 :]], dim=1)
        made: Tensor = self.makers[self.modalities[index]](others.flatten(1)).made
        return made

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m), or (n, t, d_m) by the mean of its frames."""
        return self.parts(batch, features).fused
