"""OGM-GE: balanced multimodal learning via on-the-fly gradient modulation (Peng et al., CVPR 2022).

In each batch the modality that is surer of the true classes has its encoder's gradients scaled down (Eq. 10), and
Gaussian noise of the gradients' own deviation is added to those of both encoders (generalisation enhancement, GE).
The equations follow the released code: k jumps from 1 to 1 - tanh(alpha) where rho passes 1, and the noise also
reaches the weaker modality. That code changes convolution kernels only; here it is every encoder weight of two or
more dimensions (kernels in a ResNet, matrices in a perceptron). Biases, batch norm and the head stay untouched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.errors import InputError
from mmlib.methods.plain import Peek, Plain, PlainConfig, two_modalities_of_classes
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch

EPSILON = 1e-8


@dataclass(frozen=True)
class OgmGeConfig(PlainConfig):
    """How strongly, and for how long.

    alpha: intensity of the modulation; 0.8 is published for CREMA-D, nothing for AVE. noise: GE.
    until: share of the epochs in which both act, from the first on; the released code stops after epoch 50 of 100.
    """

    alpha: float = 0.8
    noise: bool = True
    until: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < math.inf:
            raise InputError(
                "alpha", str(self.alpha), "0 or more", "Published values are 0.1 to 2.6."
            )
        if not 0 <= self.until <= 1:
            raise InputError(
                "until", str(self.until), "a share in [0, 1]", "Give the share of the epochs."
            )


VARIANTS: dict[str, OgmGeConfig] = {"paper": OgmGeConfig(), "no_noise": OgmGeConfig(noise=False)}


class OgmGe(Plain):
    """The method over a backbone whose logits split by modality."""

    Config = OgmGeConfig
    config: OgmGeConfig

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        two_modalities_of_classes(self)
        if type(self.backbone).unimodal is Backbone.unimodal:
            raise InputError(
                type(self).__name__,
                f"the backbone {type(self.backbone).__name__}",
                "one whose logits split by modality",
                "Use concat.",
            )
        self.acts = True
        self._series: dict[str, Tensor] = {}

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Decide whether the coming epoch is modulated."""
        self.acts = peek.epoch < round(self.config.until * peek.epochs)
        return {}

    def loss(self, batch: Batch) -> Tensor:
        """The task loss of the fused prediction alone; the unimodal logits only measure."""
        fused = self(batch)
        self.measure(fused, batch.labels)
        return self.fused_loss(batch, fused)

    @torch.no_grad()
    def measure(self, fused: Fused, labels: Tensor) -> Tensor:
        """rho of this batch, (2,), from which follows the k of this step."""
        ratio = ratios(scores(self.backbone.unimodal(fused), self.modalities, labels))
        k = coefficients(ratio, self.config.alpha) if self.acts else torch.ones_like(ratio)
        self._series = {"ratio": ratio, "k": k}
        return ratio

    def after_backward(self) -> None:
        """Scale the gradients of both encoders' weights and add noise to them."""
        if not self.acts:
            return
        for modality, k in zip(self.modalities, self._series["k"].unbind(), strict=True):
            weights = (p for p in self.backbone.encoders[modality].parameters() if p.ndim >= 2)
            modulate([p.grad for p in weights if p.grad is not None], k, self.config.noise)

    def series(self) -> dict[str, Tensor]:
        """ratio (rho) and k of the last step, each (2,)."""
        return self._series


def scores(alone: Mapping[str, Tensor], modalities: Sequence[str], labels: Tensor) -> Tensor:
    """s^m = sum over the batch of softmax(l^m_i)_{y_i}, (M,); alone: modality to (n, C)."""
    return torch.stack(
        [alone[m].softmax(dim=1).gather(1, labels[:, None]).sum() for m in modalities]
    )


def ratios(score: Tensor) -> Tensor:
    """OGM-GE, the discrepancy ratio rho^m = s^m / s of the other modality; (2,) -> (2,)."""
    return score / score.flip(0)


def coefficients(ratio: Tensor, alpha: float) -> Tensor:
    """OGM-GE Eq. 10: k^m = 1 - tanh(alpha rho^m) where rho^m > 1, else 1; (2,) -> (2,)."""
    return torch.where(ratio > 1, 1 - torch.tanh(alpha * ratio), 1.0)


def modulate(gradients: list[Tensor], k: Tensor, noise: bool) -> None:
    """In place: k gradient, with GE plus N(0, deviation^2), the deviation being that of the gradient before scaling."""
    deviations = (
        [g.std() + EPSILON if g.numel() > 1 else g.new_zeros(()) for g in gradients]
        if noise
        else []
    )
    torch._foreach_mul_(gradients, k)
    for gradient, deviation in zip(gradients, deviations, strict=False):
        gradient.add_(torch.randn_like(gradient) * deviation)
