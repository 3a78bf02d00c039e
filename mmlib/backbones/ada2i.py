"""Ada2I: a transformer per modality, features weighed by what the other modalities say, heads of unit norm.

BASELINES_MM 16, MM2 B. A transformer runs over the utterances of a dialogue; of a single vector it leaves a perceptron.
Then each layer multiplies a modality's features by att = sum over r of (A_r x_m) * (B_r c_m), c_m the mean of what the
dialogue has of the other modalities: x_m <- x_m * att + beta x_m. The modalities' logits add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch, Layout
from mmlib.nn.encoder import Encoder
from mmlib.nn.tokens import TokenBlock

NORMALISED = ("features", "classes")


@dataclass(frozen=True)
class Ada2IConfig:
    """Sizes, and the heads' norm.

    hidden: width, 300 in the source. blocks, heads: of a modality's transformer. layers, rank: of the weighing.
    beta: how much of x_m goes past the weighing. normalised: a head's weights have unit norm over the ``features`` for
    each class, or over the ``classes`` for each feature, as released.
    A missing modality is no key, no part of a mean and has no logits; with nothing of the others x_m stays as it is.
    """

    hidden: int = 64
    blocks: int = 2
    heads: int = 4
    layers: int = 2
    rank: int = 11
    beta: float = 0.012
    dropout: float = 0.1
    normalised: str = "features"

    def __post_init__(self) -> None:
        for name in ("hidden", "blocks", "heads", "layers", "rank"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"ada2i {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )
        if self.hidden % self.heads:
            raise InputError(
                "ada2i hidden", str(self.hidden), f"a multiple of {self.heads} heads", "Change one."
            )
        if not 0 <= self.beta < float("inf"):
            raise InputError("ada2i beta", str(self.beta), "0 or more", "The source has 0.012.")
        if not 0 <= self.dropout < 1:
            raise InputError("ada2i dropout", str(self.dropout), "a share in [0, 1)", "Correct it.")
        if self.normalised not in NORMALISED:
            raise unknown_name("ada2i normalised", self.normalised, NORMALISED)


class Ada2IParts(NamedTuple):
    """The prediction, and the auxiliary loss of the weighing, a scalar."""

    fused: Fused
    gap: Tensor


class Ada2I(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean; ``prediction`` holds the heads' weights."""

    Config = Ada2IConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: Ada2IConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, width = config, tuple(sorted(dims)), config.hidden
        self.encoders = nn.ModuleDict({m: Utterances(dims[m], config) for m in self.modalities})
        self.layers = nn.ModuleList(
            [
                nn.ModuleList([Weighing(width, config.rank, config.beta) for _ in self.modalities])
                for _ in range(config.layers)
            ]
        )
        self.embedding_dim = width
        self.prediction = nn.Linear(len(dims) * width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, weigh, add up the modalities' logits."""
        return self.parts(batch, features).fused

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Ada2IParts:
        """The prediction, with the mean over layers and present modalities of |att - W x_m|."""
        seen = batch.observed
        x = torch.stack(
            [
                self.encoders[m](features[m], seen[:, i], batch.layout)
                for i, m in enumerate(self.modalities)
            ],
            dim=1,
        )  # (n, M, hidden)
        gaps = []
        for layer in self.layers:
            others, any_other = of_others(x, seen, batch.layout)
            weighed = seen & any_other
            assert isinstance(layer, nn.ModuleList)
            steps = [weighing(x[:, i], others[:, i]) for i, weighing in enumerate(layer)]
            x = torch.where(weighed[:, :, None], torch.stack([step[0] for step in steps], dim=1), x)
            gap = torch.stack([step[1] for step in steps], dim=1) * weighed
            gaps.append(gap.sum() / weighed.sum().clamp(min=1))
        z = dict(zip(self.modalities, x.unbind(dim=1), strict=True))
        alone = torch.stack(list(self.alone(z).values()))  # 0 where z is, of a missing modality
        logits = alone.sum(dim=0) + self.prediction.bias
        return Ada2IParts(Fused(z, x.flatten(1), logits), torch.stack(gaps).mean())

    def alone(self, z: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each modality's logits without bias, modality to (n, C)."""
        weight = self.prediction.weight.unflatten(1, (len(self.modalities), -1))  # (C, M, hidden)
        weight = F.normalize(weight, dim=2 if self.config.normalised == "features" else 0)
        return {m: z[m] @ weight[:, i].t() for i, m in enumerate(self.modalities)}

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """Each modality's own logits with its share of the bias, modality to (n, C)."""
        share = self.prediction.bias / len(self.modalities)
        return {m: logits + share for m, logits in self.alone(fused.z).items()}


class Utterances(nn.Module):
    """The encoder of one modality: a map into the width, then a transformer over each dialogue's utterances.

    It ends in a layer norm: the weighing multiplies features twice a layer, and small ones would vanish.
    """

    def __init__(self, dim: int, config: Ada2IConfig) -> None:
        super().__init__()
        width = config.hidden
        self.enter = Encoder(dim, width)
        self.blocks = nn.ModuleList(
            [
                TokenBlock(width, config.heads, 4 * width, config.dropout)
                for _ in range(config.blocks)
            ]
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor, seen: Tensor, layout: Layout) -> Tensor:
        """(n, dim) or (n, t, dim), seen (n,) bool -> (n, width), zero where the modality is missing."""
        tokens, keys = layout.pad(self.enter(values)), layout.pad(seen)
        for block in self.blocks:
            tokens = block(tokens, keys)
        encoded: Tensor = layout.unpad(self.norm(tokens))
        return torch.where(seen[:, None], encoded, 0.0)


class Weighing(nn.Module):
    """One layer's step of one modality."""

    def __init__(self, width: int, rank: int, beta: float) -> None:
        super().__init__()
        self.rank, self.beta = rank, beta
        self.own = nn.Linear(width, rank * width, bias=False)  # A_r
        self.other = nn.Linear(width, rank * width, bias=False)  # B_r
        self.direct = nn.Linear(width, width)

    def forward(self, x: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """x_m and c_m, (n, width) each -> x_m * att + beta x_m, (n, width), and the mean |att - W x_m|, (n,)."""
        products = self.own(x) * self.other(others)
        weights = products.unflatten(1, (self.rank, -1)).sum(dim=1)
        return x * weights + self.beta * x, (weights - self.direct(x)).abs().mean(dim=1)


def of_others(x: Tensor, seen: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """c_m of every utterance, (n, M, width), and whether its dialogue has anything of the other modalities, (n, M).

    The mean over the dialogue's utterances and the modalities but m, where they are there.
    """
    sums = layout.pad(x * seen[:, :, None]).sum(dim=1)  # (dialogues, M, width)
    counts = layout.pad(seen).sum(dim=1)  # (dialogues, M)
    sums = sums.sum(dim=1, keepdim=True) - sums
    counts = counts.sum(dim=1, keepdim=True) - counts
    means = sums / counts.clamp(min=1)[:, :, None]
    return means.index_select(0, layout.dialogue), (counts > 0).index_select(0, layout.dialogue)
