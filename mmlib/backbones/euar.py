"""EUAR: experts with an uncertainty of their own, and a gate that is led to those that are sure (BASELINES_MM2 21).

Every modality's embedding h_m goes to experts that each give a normal distribution, of mean mu_e and variance
sigma_e^2. A softmax gate keeps its largest shares g_e, and o_m = sum g_e z_e, z_e drawn in training, else mu_e. Layers
with layer norms read all o_m side by side. The method ``euar`` adds what the experts are held to. BERT, convolutions
and MulT's encoders are one linear map here (R1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_choice, check_counts
from mmlib.nn.encoder import Encoder
from mmlib.nn.latents import Several
from mmlib.nn.tokens import stacked

ACROSS = ("row", "batch")
HEAD = (
    1,
    2,
    4,
    2,
)  # widths of the layers, 72, 128, 256 and 128 as published, in widths of an embedding


@dataclass(frozen=True)
class EUARConfig:
    """hidden: width. experts, kept: of every modality, and how many of a row's gates stay.

    across: what gates are divided by, the sum of a ``row``'s, or an expert's mean over the ``batch`` as released, so
    that a prediction depends on the rest of its batch. drawn: an expert gives a draw in training; as released its mean,
    so that the task teaches no variance. A missing modality gives zeros, and is in no such mean.
    """

    hidden: int = 64
    experts: int = 4
    kept: int = 3
    across: str = "row"
    drawn: bool = True

    def __post_init__(self) -> None:
        check_counts("euar", self, ("hidden", "experts", "kept"))
        check_choice("euar", self, "across", ACROSS)
        if self.kept > self.experts:
            raise InputError(
                "euar kept", str(self.kept), f"{self.experts} experts at most", "Correct it."
            )


class Parts(NamedTuple):
    """What the loss reads, by modality: shares p and gates g, (M, n, E) each; mean and log variance, (M, E, n, hidden).

    A gate is 0 where it is not kept, and where the modality is missing.
    """

    fused: Fused
    shares: Tensor
    gates: Tensor
    mean: Tensor
    log_variance: Tensor


class EUAR(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is h_m."""

    Config = EUARConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: EUARConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width, experts = len(dims), config.hidden, config.experts
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.mean, self.log_variance = (Several(count * experts, width, width) for _ in range(2))
        self.gate = Several(count, width, experts)
        widths = [count * width, *(width * size for size in HEAD)]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)])
        self.norms = nn.ModuleList([nn.LayerNorm(b) for b in widths[1:]])
        self.prediction = nn.Linear(widths[-1], outputs)
        self.embedding_dim = width

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, ask the experts, predict from what they give."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        values = stacked(z, self.modalities).transpose(0, 1)  # (M, n, hidden)
        shares = self.gate(values).softmax(dim=2)
        gates = self.gates(shares, batch.observed.t()[..., None])
        asked = values[:, None].expand(-1, self.config.experts, -1, -1).flatten(0, 1)
        mean, log_variance = (
            x(asked).unflatten(0, (len(values), -1)) for x in (self.mean, self.log_variance)
        )
        given = mean
        if self.training and self.config.drawn:
            given = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        output = (gates.transpose(1, 2)[..., None] * given).sum(dim=1)  # (M, n, hidden), o_m
        hidden = output.transpose(0, 1).flatten(1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            hidden = F.relu(norm(layer(hidden)))
        fused = Fused(z, hidden, self.prediction(hidden))
        return Parts(fused, shares, gates, mean, log_variance)

    def gates(self, shares: Tensor, seen: Tensor) -> Tensor:
        """The largest shares of a row, divided by their sum, or by the mean over the rows with the modality.

        shares (M, n, E), seen (M, n, 1) bool -> (M, n, E).
        """
        best = shares.topk(
            self.config.kept, dim=2
        ).indices  # of equal ones, any: as many as are kept
        chosen = torch.zeros_like(shares, dtype=torch.bool).scatter(2, best, True)
        kept = torch.where(chosen & seen, shares, 0)
        if self.config.across == "row":
            return torch.where(seen, kept / kept.sum(dim=2, keepdim=True).clamp(min=1e-12), 0)
        total = kept.sum(dim=1, keepdim=True)  # 0 of an expert that no row goes to
        return kept * seen.sum(dim=1, keepdim=True) / total.clamp(min=1e-12)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused
