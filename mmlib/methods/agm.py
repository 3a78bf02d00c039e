"""AGM: boosting multi-modal model performance with adaptive gradient modulation (Li et al., ICCV 2023).

The fused logits T split into one part per modality by putting zeros in place of the other's input, whatever the
fusion. How well each part predicts, now and on average so far, decides the factor of the gradient that enters it.
The equations follow the released code: the passes with a zero input are in evaluation mode and carry gradient.
After the backward pass, where an entry of the head's weight gradient exceeds 1, all gradients are cut to global
norm 1. Which sign the paper prints is not established; ``paper`` is the official code's, ``inverted`` the sign of a
re-implementation (BalanceBenchmark) and none of its other departures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mmlib.errors import InputError
from mmlib.methods.plain import Peek, Plain, PlainConfig, two_modalities_of_classes
from mmlib.nn.batch import Batch

FLOOR = 1e-8  # of a probability
CAP = 10.0  # of tau - r
LIMIT = 1.0  # of the entries of the head's gradient, and of the global norm


@dataclass(frozen=True)
class AgmConfig(PlainConfig):
    """Strength, duration and sign of the modulation.

    alpha: 1.5 is published for CREMA-D by the author, with 1500 epochs; 1 is the released default. until: share of the
    epochs that are modulated. inverted: invert r and tau, so that the modality is held back that predicts worse than it
    usually does, relative to the other, and not the one that predicts better.
    """

    alpha: float = 1.0
    until: float = 1.0
    inverted: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < math.inf:
            raise InputError(
                "alpha", str(self.alpha), "0 or more", "Published values are 1 and 1.5."
            )
        if not 0 <= self.until <= 1:
            raise InputError(
                "until", str(self.until), "a share in [0, 1]", "Give the share of the epochs."
            )


VARIANTS: dict[str, AgmConfig] = {"paper": AgmConfig(), "inverted": AgmConfig(inverted=True)}


class Agm(Plain):
    """The method over any backbone; it predicts T."""

    Config = AgmConfig
    config: AgmConfig
    mean_score: Tensor
    steps: Tensor

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        two_modalities_of_classes(self)
        self.acts = True
        self.register_buffer("mean_score", torch.zeros(2), persistent=False)
        self.register_buffer("steps", torch.zeros(()), persistent=False)
        self._series: dict[str, Tensor] = {}

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Decide whether the coming epoch is modulated."""
        self.acts = peek.epoch < round(self.config.until * peek.epochs)
        return {}

    def loss(self, batch: Batch) -> Tensor:
        """The task loss of R^a + R^v, which is T; gradients that enter R^m are multiplied by kappa^m."""
        fused = self(batch)
        if not self.acts:
            return self.fused_loss(batch, fused)
        parts = split(fused.logits, *self.with_zeros(batch))
        kappa = self.measure(parts.detach(), batch.labels)
        if parts.requires_grad:
            parts.register_hook(partial(torch.mul, kappa[:, None, None]))  # type: ignore[no-untyped-call]
        return self.fused_loss(batch, fused._replace(logits=parts.sum(dim=0)))

    def with_zeros(self, batch: Batch) -> list[Tensor]:
        """A = f(x^a, 0) and V = f(0, x^v), each (n, C), in evaluation mode, which updates no batch statistics."""
        training = self.backbone.training
        self.backbone.eval()
        logits = [
            self.backbone(batch, {**batch.features, other: blank(batch.features[other])}).logits
            for other in reversed(self.modalities)
        ]
        self.backbone.train(training)
        return logits

    @torch.no_grad()
    def measure(self, parts: Tensor, labels: Tensor) -> Tensor:
        """kappa of this step, (2,), from the means of S over the steps before it, which S of this one then joins."""
        score = scores(parts, labels)
        sign = -1.0 if self.config.inverted else 1.0
        kappa = coefficients(sign * score, sign * self.mean_score, self.config.alpha)
        self.steps += 1
        self.mean_score += (score - self.mean_score) / self.steps
        self._series = {"score": score, "kappa": kappa}
        return kappa

    @torch.no_grad()
    def after_backward(self) -> None:
        """Cut all gradients to global norm 1 if an entry of the head's weight gradient exceeds 1."""
        head = self.backbone.prediction.weight.grad
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        if head is None or not gradients:
            return
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, torch.where(head.abs().max() > LIMIT, LIMIT / norm, 1.0))

    def series(self) -> dict[str, Tensor]:
        """score (S) and kappa of the last modulated step, each (2,)."""
        return self._series


def blank(values: Tensor) -> Tensor:
    """Zeros of the same shape, as floats: the byte 0 of a picture would be black, not a zero input."""
    return torch.zeros_like(values, dtype=None if values.is_floating_point() else torch.float32)


def split(both: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """AGM, R^a = (T - V + A) / 2 and R^v = (T - A + V) / 2, stacked: three times (n, C) -> (2, n, C)."""
    return torch.stack([both - second + first, both - first + second]) / 2


def scores(parts: Tensor, labels: Tensor) -> Tensor:
    """AGM, S^m = -mean log softmax(R^m)_y with probabilities of 1e-8 or more, a loss; (2, n, C) -> (2,)."""
    true = labels.expand(len(parts), -1)[..., None]  # (2, n, 1)
    return -parts.softmax(dim=2).gather(2, true).clamp(min=FLOOR).log().mean(dim=(1, 2))


def coefficients(score: Tensor, mean_score: Tensor, alpha: float) -> Tensor:
    """AGM, kappa^m = exp(alpha min(tau^m - r^m, 10)), (2,).

    r^m = exp(S of the other - S^m) of this batch; tau^m the same of the means over all steps before.
    """
    r, tau = (torch.exp(s.flip(0) - s) for s in (score, mean_score))
    return torch.exp(alpha * (tau - r).clamp(max=CAP))
