"""LFM: facilitating multimodal classification via dynamically learning modality gap (Yang et al., NeurIPS 2024).

Every modality has a linear head of its own, the prediction is the mean of their logits, and beside its cross-entropy
the loss has the Jensen-Shannon divergence (JS) of the modalities' posteriors: 2 (alpha_1 CE + alpha_2 JS) with
alpha_1 + alpha_2 = 1. Early on the modalities are drawn together, later they are trained to be right. The backbone's
own prediction layer is not used: it gets no gradient.

The text speaks of a contrastive term; the equations follow the released code. Its schedule of alpha_1 is a polynomial
fitted to a learned one: here straight lines through its values at six of the 200 epochs, over the share of the epochs.
Controls: ``late_fusion`` has alpha_2 = 0, which also undoes that CE counts for less early on; ``no_divergence`` leaves
the JS out and keeps the schedule, and so tells the two apart.

The learned alpha is left out. What the released code descends along is not the gradient of the held-out loss by alpha;
a step that is needs the optimizer's learning rate, which no method here sees, and a size that nothing documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmlib.methods.plain import Peek, Plain, PlainConfig
from mmlib.methods.separate import (
    linear_heads,
    needs_classes,
    needs_separate_embeddings,
    own_logits,
)
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch

SHIPPED = ((0, 0.205), (20, 0.30), (40, 0.40), (80, 0.50), (100, 0.54), (199, 0.92))
"""Epoch of 200, and alpha_1 in it."""


@dataclass(frozen=True)
class LfmConfig(PlainConfig):
    """What the loss is made of.

    scheduled: alpha_1 rises as shipped; else it is 1. divergence: whether the loss has the JS.
    """

    scheduled: bool = True
    divergence: bool = True


VARIANTS: dict[str, LfmConfig] = {
    "paper": LfmConfig(),
    "late_fusion": LfmConfig(scheduled=False),
    "no_divergence": LfmConfig(divergence=False),
}


class Lfm(Plain):
    """The method over ``concat``, with any number of modalities."""

    Config = LfmConfig
    config: LfmConfig

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        needs_separate_embeddings(self)
        needs_classes(self)
        self.heads = linear_heads(self)
        self.alpha = SHIPPED[0][1] if self.config.scheduled else 1.0

    def forward(self, batch: Batch) -> Fused:
        """The backbone's view with the mean of the modalities' logits as the fused ones."""
        fused: Fused = self.backbone(batch, batch.features)
        return fused._replace(logits=torch.stack(list(self.views(fused).values())).mean(dim=0))

    def views(self, fused: Fused) -> dict[str, Tensor]:
        """The logits of each modality's own head."""
        return own_logits(self.heads, fused.z)

    def clipped(self) -> Iterable[nn.Parameter]:
        """All parameters: the heads are what predicts."""
        return self.parameters()

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Set and record alpha_1 of the coming epoch, (1,)."""
        if self.config.scheduled:
            self.alpha = alpha_at(peek.epoch, peek.epochs)
        return {"alpha": torch.tensor([self.alpha])}

    def loss(self, batch: Batch) -> Tensor:
        """2 (alpha_1 CE + (1 - alpha_1) JS), the latter's mean over the batch."""
        fused = self(batch)
        loss = self.alpha * self.fused_loss(batch, fused)
        if self.config.divergence and self.alpha < 1:
            apart = divergence(torch.stack(list(self.views(fused).values())))
            loss = loss + (1 - self.alpha) * apart.mean()
        return 2 * loss


def alpha_at(epoch: int, epochs: int) -> float:
    """alpha_1 of an epoch, counted from 0: the first and the last have the shipped ends."""
    at, alphas = zip(*SHIPPED, strict=True)
    return float(np.interp(at[-1] * epoch / max(1, epochs - 1), at, alphas))


def divergence(logits: Tensor) -> Tensor:
    """LFM, JS of the posteriors, between 0 and ln M, (n,): the mean over modalities of KL(p_m || their mean).

    logits: (M, n, C). For two modalities it is the usual JS; for more, its usual extension.
    """
    log_p = logits.log_softmax(dim=2)
    log_mean = log_p.logsumexp(dim=0) - math.log(len(logits))
    return (log_p.exp() * (log_p - log_mean)).sum(dim=2).mean(dim=0)
