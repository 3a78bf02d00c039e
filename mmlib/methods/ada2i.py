"""Ada2I: encoders of stronger modalities learn more slowly (BASELINES_MM 16, MM2 B).

From an epoch on, the gradients of modality m's encoder are multiplied by 1 - tanh(alpha s_m / min s) where s_m is above
the smallest, and get noise of their own deviation: OGM-GE's rule for any number of modalities. s_m is the mean
probability that m's own logits give the true class, over the rows that have m. This happens before gradients are
clipped, where the released code does it afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmlib.backbones.ada2i import Ada2I
from mmlib.data.bundle import Task
from mmlib.errors import InputError
from mmlib.methods.ogm_ge import coefficients
from mmlib.methods.own_network import own_network
from mmlib.methods.plain import Peek
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import each_loss
from mmlib.nn.sums import mean_where


@dataclass(frozen=True)
class Ada2iConfig(ReferenceConfig):
    """The auxiliary loss and the modulation.

    auxiliary: weight of the loss of the weighing; the source's is not known. alpha: strength of the modulation.
    start: epochs before it begins. noise: whether gradients get noise. modulated: False switches all of it off.
    """

    auxiliary: float = 1.0
    alpha: float = 0.037
    start: int = 4
    noise: bool = True
    modulated: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("auxiliary", "alpha", "start"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"ada2i {name}", str(getattr(self, name)), "0 or more", "Correct it."
                )


VARIANTS: dict[str, Ada2iConfig] = {
    "paper": Ada2iConfig(),
    "no_noise": Ada2iConfig(noise=False),
    "no_modulation": Ada2iConfig(modulated=False),
}


class Ada2i(Reference):
    """The method over the backbone ``ada2i``."""

    Config = Ada2iConfig
    config: Ada2iConfig

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "ada2i", Ada2I)
        self.acts = False
        self.measured: dict[str, Tensor] = {}

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Decide whether the coming epoch is modulated."""
        self.acts = self.config.modulated and peek.epoch >= self.config.start
        return {}

    def loss(self, batch: Batch) -> Tensor:
        """The task loss, and the auxiliary one of the weighing."""
        assert isinstance(self.backbone, Ada2I)
        parts = self.backbone.parts(batch, batch.features)
        self.measure(batch, parts.fused)
        return self.fused_loss(batch, parts.fused) + self.config.auxiliary * parts.gap

    @torch.no_grad()
    def measure(self, batch: Batch, fused: Fused) -> None:
        """s_m over the smallest, (M,), and the coefficients that follow; 1 of a modality that no row has."""
        alone = self.backbone.unimodal(fused)
        sure = torch.stack([surety(self.task, alone[m], batch.labels) for m in self.modalities])
        score, there = mean_where(sure, batch.observed.t()), batch.observed.any(dim=0)
        least = torch.where(there, score, math.inf).min()
        ratio = torch.where(there, score / least, 1.0)
        k = coefficients(ratio, self.config.alpha) if self.acts else torch.ones_like(ratio)
        self.measured = {"ratio": ratio, "k": k}

    def after_backward(self) -> None:
        """Scale the encoders' gradients, and add noise to them."""
        if not self.acts:
            return
        for modality, k in zip(self.modalities, self.measured["k"].unbind(), strict=True):
            for gradient in self.backbone.encoder_gradients(modality):
                deviation = gradient.std(correction=0)
                gradient.mul_(k)
                if self.config.noise:
                    gradient.add_(torch.randn_like(gradient) * deviation)

    def series(self) -> dict[str, Tensor]:
        """ratio and k of the last step, each (M,)."""
        return self.measured


def surety(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """(n,): the probability of the true class, the mean over binary labels, or exp(-|error|) of a score."""
    if task.kind == "score":
        return (-(logits[:, 0] - labels).abs()).exp()
    if task.kind == "binaries":
        truth = labels[:, :, None]
        return logits.unflatten(1, (-1, 2)).softmax(dim=2).gather(2, truth)[:, :, 0].mean(dim=1)
    return (-each_loss(task, logits, labels)).exp()
