"""MPLMM: prompts that stand for missing modalities in a frozen cross-modal transformer (BASELINES_MM 15, MM2 B).

The first stage trains the transformer, where every modality's token attends to the present others. The second freezes
it, but for the input maps and the last layer, and learns three kinds of prompts: generative ones make a missing
modality's token from those that are there, signals say which are there, and a type token per modality, P_m times the
sum of Q_m' signal_m', joins after the crossing; the prediction reads its place. Published over frames, with 16 tokens
where there is one here, and pre-trained on another corpus, where the training rows serve here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.attention import Attention, Tail
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch
from mmlib.nn.dropout import dropout
from mmlib.nn.frames import time_mean
from mmlib.nn.tokens import TokenBlock, stacked
from mmlib.nn.two_stage import TwoStage


@dataclass(frozen=True)
class MPLMMConfig:
    """Sizes: hidden is a token's width, layers the depth of a modality's crossing; the source has 30 and 5.

    A missing modality is no key and gives zeros in the first stage; in the second its token is made from the others.
    """

    hidden: int = 64
    layers: int = 3
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"mplmm {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )
        if self.hidden % self.heads:
            raise InputError(
                "mplmm hidden", str(self.hidden), f"a multiple of {self.heads} heads", "Change one."
            )
        if not 0 <= self.dropout < 1:
            raise InputError("mplmm dropout", str(self.dropout), "a share in [0, 1)", "Correct it.")


class MPLMM(TwoStage):
    """The network over vectors (n, d), or frames (n, t, d) by their mean."""

    Config = MPLMMConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MPLMMConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        width, heads, rate = config.hidden, config.heads, config.dropout
        self.encoders = nn.ModuleDict(
            {m: nn.Linear(dims[m], width, bias=False) for m in self.modalities}
        )
        self.crossings = nn.ModuleList(
            [
                nn.ModuleList([CrossBlock(width, heads, rate) for _ in range(config.layers)])
                for _ in self.modalities
            ]
        )
        self.memories = nn.ModuleList(
            [TokenBlock(width, heads, 4 * width, rate) for _ in self.modalities]
        )
        self.tail = Tail(len(dims) * width, rate)
        self.prompts = Prompts(len(dims), width)
        self.embedding_dim = width
        self.prediction = nn.Linear(len(dims) * width, outputs)

    def frozen(self) -> list[nn.Module]:
        """All but the input maps, the prompts and the last layer."""
        return [self.crossings, self.memories, self.tail]

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Map, let every modality attend to the others, read each one's last token, predict."""
        z = {m: self.encoders[m](time_mean(features[m])) for m in self.modalities}
        tokens, seen, types = stacked(z, self.modalities), batch.observed, None
        if self.second:
            tokens, types = self.prompts(tokens, seen)
            seen = torch.ones_like(seen)
        hidden = self.tail(self.crossed(tokens, seen, types).flatten(1))
        return Fused(z, hidden, self.prediction(hidden))

    def crossed(self, tokens: Tensor, seen: Tensor, types: Tensor | None) -> Tensor:
        """tokens and types (n, M, width), seen (n, M) bool -> (n, M, width), zero where a modality is not seen."""
        read = []
        for i, (blocks, memory) in enumerate(zip(self.crossings, self.memories, strict=True)):
            sequence = tokens[:, i : i + 1]
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                sequence = block(sequence, without(tokens, i), without(seen, i))
            if types is not None:
                sequence = torch.cat([sequence, types[:, i : i + 1]], dim=1)
            there = seen.new_ones(sequence.shape[:2])
            read.append(memory(sequence, there)[:, -1] * seen[:, i, None])
        return torch.stack(read, dim=1)


def without(values: Tensor, index: int) -> Tensor:
    """(n, M, ...) -> (n, M - 1, ...): all modalities but one."""
    return torch.cat([values[:, :index], values[:, index + 1 :]], dim=1)


class CrossBlock(nn.Module):
    """A pre-norm transformer layer whose queries look at the tokens of others, which stay as they are."""

    def __init__(self, width: int, heads: int, rate: float) -> None:
        super().__init__()
        self.rate, self.attention = rate, Attention(width, heads)
        self.first, self.others, self.second = (nn.LayerNorm(width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, queries: Tensor, context: Tensor, seen: Tensor) -> Tensor:
        """queries (n, 1, width), context (n, k, width), seen (n, k) bool -> (n, 1, width)."""
        attended = self.out(self.attention(self.first(queries), self.others(context), seen))
        attended = attended * seen.any(dim=1)[:, None, None]
        queries = queries + dropout(attended, self.rate, self.training)
        inner = self.narrow(F.relu(self.widen(self.second(queries))))
        return queries + dropout(inner, self.rate, self.training)


class Prompts(nn.Module):
    """The generative prompts g_m, the signals of present and missing modalities, and the type prompts' factors.

    P starts at random and Q at 0: were both 0, their product would have no gradient and the types would stay 0.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.generative = nn.Parameter(0.02 * torch.randn(count, width))
        self.present = nn.Parameter(0.02 * torch.randn(count, width))
        self.missing = nn.Parameter(0.02 * torch.randn(count, width))
        self.P = nn.Parameter(torch.randn(count, width, width) / width**0.5)
        self.Q = nn.Parameter(torch.zeros(count, width, width))
        self.pairs = nn.ModuleList([nn.Linear(width, count * width) for _ in range(count)])
        self.joined = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(count)])

    def forward(self, tokens: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (n, M, width), seen (n, M) bool -> tokens of all modalities, and type tokens, (n, M, width) each."""
        there = seen[:, :, None]
        signals = torch.where(there, self.present, self.missing)
        whole = torch.where(there, tokens, self.generated(tokens, seen)) + signals
        common = torch.einsum("nmd,mde->ne", signals, self.Q)
        return whole, torch.einsum("ne,med->nmd", common, self.P)

    def generated(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """GELU(W_m [g_m; mean over present m' of GELU(W_mm' h_m')]) for every modality m, (n, M, width)."""
        known = torch.stack(
            [
                F.gelu(pair(tokens[:, i])).unflatten(1, (len(self.P), -1))
                for i, pair in enumerate(self.pairs)
            ],
            dim=1,
        )  # (n, from m', to m, width)
        known = torch.where(seen[:, :, None, None], known, 0.0).sum(dim=1)
        known = known / seen.sum(dim=1).clamp(min=1)[:, None, None]
        given = torch.cat([self.generative.expand_as(known), known], dim=2)
        return torch.stack([F.gelu(join(given[:, i])) for i, join in enumerate(self.joined)], dim=1)
