"""EUAR: ten times the task loss, and what every modality's experts are held to (BASELINES_MM2 21).

L = 10 L_task + w sum_m [balance + KL + uncertainty], over the rows that have modality m. Balance is E^2 mean_e of the
share of rows that go to e times its mean gate, KL that of an expert's distribution to N(0, 1), and uncertainty
mean sum_e g_e sum_k sigma_e,k^2, which leads the gate to experts that are sure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmlib.backbones.euar import EUAR, Parts
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_weights
from mmlib.nn.sums import mean_where


@dataclass(frozen=True)
class EuarConfig(ReferenceConfig):
    """task: the 10. experts: w, which leaves its terms next to nothing as published; 1e-3 in a re-implementation."""

    task: float = 10.0
    experts: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("euar", self, ("task", "experts"))


VARIANTS: dict[str, EuarConfig] = {
    "paper": EuarConfig(),
    "stronger": EuarConfig(experts=1e-3),
    "no_experts": EuarConfig(experts=0.0),
}


class Euar(Reference):
    """The method over the backbone ``euar``."""

    Config = EuarConfig
    config: EuarConfig
    backbone: EUAR

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "euar", EUAR)

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        c, parts = self.config, self.backbone.parts(batch, batch.features)
        loss = c.task * self.fused_loss(batch, parts.fused)
        if not c.experts:
            return loss
        seen = batch.observed.t()
        terms = balance(parts, seen) + divergence(parts, seen) + uncertainty(parts, seen)
        return loss + c.experts * terms.sum()


def balance(parts: Parts, seen: Tensor) -> Tensor:
    """E^2 mean_e (share of rows that go to e) (mean p_e): (M,), the number of gates kept where both are even."""
    there = seen[:, None].expand(-1, parts.shares.shape[2], -1)  # (M, E, n)
    going = mean_where((parts.gates > 0).float().transpose(1, 2), there)
    mean = mean_where(parts.shares.transpose(1, 2), there)
    return parts.shares.shape[2] ** 2 * (going * mean).mean(dim=1)


def divergence(parts: Parts, seen: Tensor) -> Tensor:
    """Mean over experts and rows of KL(N(mu, sigma^2) || N(0, 1)), summed over its coordinates: (M,)."""
    variance = parts.log_variance.exp()
    each = (parts.mean.square() + variance - 1 - parts.log_variance).sum(dim=3) / 2  # (M, E, n)
    return mean_where(each, seen[:, None].expand_as(each)).mean(dim=1)


def uncertainty(parts: Parts, seen: Tensor) -> Tensor:
    """Mean over rows of sum_e g_e sum_k sigma_e,k^2: (M,)."""
    each = parts.gates.transpose(1, 2) * parts.log_variance.exp().sum(dim=3)
    return mean_where(each.sum(dim=1), seen)
