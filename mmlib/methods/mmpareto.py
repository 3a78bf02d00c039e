"""MMPareto: boosting multimodal learning with innocent unimodal assistance (Wei and Hu, ICML 2024).

Beside the joint head every modality has a linear head of its own, and the loss is the sum of all their losses. Each
encoder thus gets two gradients, of the joint loss and of its own modality's. Where they conflict they are weighed so
that their sum has the smallest norm, a direction in which both losses fall; then the sum is enlarged. Prediction is
the joint head's.

The equations follow the released code: the cosine is that of a whole encoder, the enlargement each tensor's own. Where
nothing conflicts the outcome is gamma times the gradient of the summed losses, no more than a larger learning rate of
the encoders. The variant ``sum`` has that rate everywhere and weighs nothing: what exceeds it is the method's. Under
Adam gamma would cancel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.methods.plain import Plain, PlainConfig
from mmlib.methods.separate import linear_heads, needs_separate_embeddings, own_logits
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch

LEAST = 1e-3  # the weight of either gradient where they conflict
TINY = 1e-30


@dataclass(frozen=True)
class MmParetoConfig(PlainConfig):
    """How the two gradients of an encoder make one.

    gamma: by which it is enlarged. weighed: whether conflicting gradients are weighed; else they are added up.
    """

    gamma: float = 1.5
    weighed: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gamma < math.inf:
            raise InputError(
                "mmpareto gamma", str(self.gamma), "above 0", "The released script has 1.5."
            )


VARIANTS: dict[str, MmParetoConfig] = {
    "paper": MmParetoConfig(),
    "sum": MmParetoConfig(weighed=False),
}


class MmPareto(Plain):
    """The method over ``concat``, with any number of modalities and any task."""

    Config = MmParetoConfig
    config: MmParetoConfig

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        needs_separate_embeddings(self)
        self.heads = linear_heads(self)
        self._combined: list[tuple[nn.Parameter, Tensor]] = []
        self._series: dict[str, Tensor] = {}

    def views(self, fused: Fused) -> dict[str, Tensor]:
        """The logits of each modality's own head."""
        return own_logits(self.heads, fused.z)

    def clipped(self) -> Iterable[nn.Parameter]:
        """All parameters: the heads are part of the same loss."""
        return self.parameters()

    def loss(self, batch: Batch) -> Tensor:
        """Sum of the joint and the modalities' losses; the encoders' gradients are combined on the way."""
        fused = self(batch)
        joint = self.fused_loss(batch, fused)
        own = [self.task_loss(logits, batch.labels) for logits in self.views(fused).values()]
        alone = torch.stack(own).sum()
        if self.config.weighed:
            self._weigh(joint, alone)
        return joint + alone

    def _weigh(self, joint: Tensor, alone: Tensor) -> None:
        """Keep for every encoder what its gradient is to be.

        A modality's loss reaches its own encoder alone, so one pass of their sum gives the gradients of all.
        """
        encoders = [list(self.backbone.encoders[m].parameters()) for m in self.modalities]
        every = [p for encoder in encoders for p in encoder]
        of_joint = torch.autograd.grad(joint, every, retain_graph=True)
        of_alone = torch.autograd.grad(alone, every, retain_graph=True)
        self._combined, found, start = [], [], 0
        for encoder in encoders:
            own = slice(start, start + len(encoder))
            start += len(encoder)
            found.append(weigh(of_joint[own], of_alone[own]))
            made = enlarged(of_joint[own], of_alone[own], found[-1][0], self.config.gamma)
            self._combined += zip(encoder, made, strict=True)
        c, cosine = (torch.stack(values) for values in zip(*found, strict=True))
        self._series = {"c": c, "cosine": cosine}

    @torch.no_grad()
    def after_backward(self) -> None:
        """Give the encoders the combined gradients, or gamma times those of the summed losses."""
        for parameter, gradient in self._combined:
            parameter.grad = gradient
        if not self.config.weighed:
            encoders = self.backbone.encoders.parameters()
            torch._foreach_mul_([p.grad for p in encoders if p.grad is not None], self.config.gamma)

    def series(self) -> dict[str, Tensor]:
        """Of the last step, each (M,): c, the weight of the joint gradient, and the two gradients' cosine."""
        return self._series


def weigh(joint: Sequence[Tensor], alone: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """MMPareto, c = 1/2 where the cosine is above 0, else (|g_m|^2 - <g_J, g_m>) / |g_J - g_m|^2 in [.001, .999].

    Returns c, the joint gradient's weight, of which the modality's has the rest, and the cosine; scalars.
    """
    dot, g_joint, g_alone = inner(joint, alone), inner(joint, joint), inner(alone, alone)
    difference = [a - b for a, b in zip(joint, alone, strict=True)]
    smallest = (g_alone - dot) / inner(difference, difference).clamp(min=TINY)
    c = torch.where(dot > 0, 0.5, smallest.clamp(LEAST, 1 - LEAST))
    return c, dot / (g_joint.sqrt() * g_alone.sqrt()).clamp(min=TINY)


def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """The inner product over all tensors, a scalar."""
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def enlarged(
    joint: Sequence[Tensor], alone: Sequence[Tensor], c: Tensor, gamma: float
) -> list[Tensor]:
    """MMPareto, h = 2 (c g_J + (1 - c) g_m), of each tensor gamma h max(1, |g_J + g_m| / |h|)."""
    made = []
    for a, b in zip(joint, alone, strict=True):
        h = 2 * (c * a + (1 - c) * b)
        ratio = (a + b).norm() / h.norm().clamp(min=TINY)
        made.append(gamma * ratio.clamp(min=1) * h)
    return made
