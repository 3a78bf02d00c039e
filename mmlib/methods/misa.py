"""MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment Analysis (BASELINES_MM 7, MM2 B).

L = L_task + w_d L_diff + w_s L_sim + w_r L_rec. L_diff makes private and shared images, and the private ones of two
modalities, orthogonal over the batch; L_sim is the central moment discrepancy of the shared ones; L_rec holds h_m
against what is made of its images. Differences are over the rows that have both modalities, discrepancies and
reconstructions over the rows that have the one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from mmlib.backbones.misa import MISA, Parts
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_weights
from mmlib.nn.moments import discrepancy
from mmlib.nn.sums import mean_where

SMALL = 1e-6


@dataclass(frozen=True)
class MisaConfig(ReferenceConfig):
    """difference, similarity, reconstruction: w_d, w_s and w_r, as for CMU-MOSI. A score has the squared error."""

    absolute: bool = False
    difference: float = 0.1
    similarity: float = 0.3
    reconstruction: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("misa", self, ("difference", "similarity", "reconstruction"))


VARIANTS: dict[str, MisaConfig] = {
    "paper": MisaConfig(),
    "no_difference": MisaConfig(difference=0.0),
    "no_similarity": MisaConfig(similarity=0.0),
    "no_reconstruction": MisaConfig(reconstruction=0.0),
}


class Misa(Reference):
    """The method over the backbone ``misa``."""

    Config = MisaConfig
    config: MisaConfig
    backbone: MISA

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "misa", MISA)

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        c, parts = self.config, self.backbone.parts(batch, batch.features)
        loss = self.fused_loss(batch, parts.fused)
        loss = loss + c.difference * differences(parts, batch.observed)
        loss = loss + c.similarity * discrepancy(parts.shared, batch.observed)
        return loss + c.reconstruction * reconstruction(parts, batch.observed)


def differences(parts: Parts, observed: Tensor) -> Tensor:
    """The sum of ``difference`` over (p_m, c_m), and over pairs (p_m, p_m'); observed (n, M) bool."""
    private, seen = parts.private.unbind(dim=1), observed.unbind(dim=1)
    pairs = list(zip(private, parts.shared.unbind(dim=1), seen, strict=True))
    pairs += [
        (private[i], private[j], seen[i] & seen[j]) for i, j in combinations(range(len(seen)), 2)
    ]
    return torch.stack([difference(*pair) for pair in pairs]).sum()


def difference(first: Tensor, second: Tensor, counts: Tensor) -> Tensor:
    """Mean over (i, j) of (X^T Y)_ij^2 of (n, d) each, over the rows that count, (n,) bool; 0 of fewer than two.

    X and Y are centred over these rows, each row then brought to unit length, which has no gradient.
    """
    share = counts.to(first.dtype) / counts.sum().clamp(min=1)
    unit = []
    for values in (first, second):
        centred = torch.where(counts[:, None], values - share @ values, 0)
        unit.append(centred / (centred.detach().norm(dim=1, keepdim=True) + SMALL))
    several = counts.sum() > 1
    return torch.where(several, (unit[0].t() @ unit[1]).square().mean(), 0)


def reconstruction(parts: Parts, observed: Tensor) -> Tensor:
    """Mean over modalities of the mean squared error of h_m, over the rows that have it; its target learns as well."""
    gaps = (parts.made - parts.embedded).square().mean(dim=2)
    return mean_where(gaps.t(), observed.t()).mean()
