"""Gradient blending: what makes training multi-modal classification networks hard? (Wang et al., CVPR 2020).

Every modality has a linear head of its own beside the joint one, and the loss is a weighted sum of all their losses.
A source's weight is how much training on it alone helps on held-out clips, over the square of how much it overfits:
before each super-epoch a copy of the model per source is trained on that source's loss alone, and thrown away.
Prediction is the joint head's.

A re-implementation takes absolute values, so that a source whose held-out loss rises has a weight too: the variant
``absolute``. Everything else of its departures (sums over batches for means, no heads) is left out.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.data.bundle import Task
from mmlib.errors import InputError
from mmlib.methods.plain import Peek, Plain, PlainConfig
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch


@dataclass(frozen=True)
class GBlendingConfig(PlainConfig):
    """How weights are estimated.

    held_out: share of the training clips kept for the estimate. online: anew before each super-epoch, else once over
    a training from the initial weights as long as the whole. super_epoch: share of the epochs, one epoch at least.
    floor: the change of overfitting counts as at least this share of the mean held-out loss before (ours: the weight
    explodes where it vanishes). absolute: absolute gains instead of those above 0.
    """

    held_out: float = 0.1
    online: bool = True
    super_epoch: float = 0.1
    floor: float = 0.01
    absolute: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("held_out", "floor"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(
                    f"gblending {name}",
                    str(getattr(self, name)),
                    "a share in (0, 1)",
                    "Correct it.",
                )
        if not 0 < self.super_epoch <= 1:
            raise InputError(
                "gblending super_epoch",
                str(self.super_epoch),
                "a share above 0, at most 1",
                "Give a part of the training.",
            )


PAPER = GBlendingConfig()
VARIANTS: dict[str, GBlendingConfig] = {
    "paper": PAPER,
    "offline": dataclasses.replace(PAPER, online=False),
    "absolute": dataclasses.replace(PAPER, absolute=True),
}


class GBlending(Plain):
    """The method over any backbone. Sources are the modalities in alphabetical order, then ``joint``."""

    Config = GBlendingConfig
    config: GBlendingConfig
    weights: Tensor

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        config: GBlendingConfig,
        dims: dict[str, int],
        class_counts: Sequence[int] = (),
    ) -> None:
        super().__init__(backbone, task, config, dims, class_counts)
        self.held_out = config.held_out
        self.heads = nn.ModuleDict(
            {m: nn.Linear(backbone.embedding_dim, task.outputs) for m in self.modalities}
        )
        for head in self.heads.values():
            nn.init.xavier_normal_(head.get_parameter("weight"))
            nn.init.zeros_(head.get_parameter("bias"))
        self.sources = len(self.modalities) + 1
        self.register_buffer(
            "weights", torch.full((self.sources,), 1 / self.sources), persistent=False
        )
        self.only: int | None = None  # in a copy, the source that it is trained on

    def loss(self, batch: Batch) -> Tensor:
        """Sum over sources of w_k L_k."""
        each = self.source_losses(batch)
        return torch.stack(each) @ self.weights if self.only is None else each[self.only]

    def source_losses(self, batch: Batch) -> list[Tensor]:
        """L_k, a scalar each."""
        fused = self(batch)
        alone = [self.task_loss(logits, batch.labels) for logits in self.views(fused).values()]
        return [*alone, self.fused_loss(batch, fused)]

    def views(self, fused: Fused) -> dict[str, Tensor]:
        """The logits of each modality's own head."""
        return {m: self.heads[m](fused.z[m]) for m in self.modalities}

    def clipped(self) -> list[nn.Parameter]:
        """All parameters: the heads are part of the same loss."""
        return list(self.parameters())

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Before a super-epoch, estimate the weights.

        Returns:
            Then, weights, gain (G) and overfitting (Delta O), each (M + 1,).
        """
        span = (
            max(1, round(self.config.super_epoch * peek.epochs))
            if self.config.online
            else peek.epochs
        )
        if peek.epoch % span:
            return {}
        before = self.mean_losses(peek)
        after = torch.stack(
            [
                self.practised(peek, source, min(span, peek.epochs - peek.epoch))[:, source]
                for source in range(self.sources)
            ],
            dim=1,
        )
        gain, overfitting = progress(before, after)
        self.weights = blend(
            gain, overfitting, self.config.floor * before[1].mean(), self.config.absolute
        )
        return {"weights": self.weights, "gain": gain, "overfitting": overfitting}

    def practised(self, peek: Peek, source: int, epochs: int) -> Tensor:
        """``mean_losses`` of a copy after some epochs on one source's loss; the random state stays as it was."""
        other = copy.deepcopy(self)
        other.only, other.keep_series = source, False
        device = self.weights.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            peek.practise(other, epochs)
        return other.mean_losses(peek)

    @torch.no_grad()
    def mean_losses(self, peek: Peek) -> Tensor:
        """L^T and L^V of every source in evaluation mode, means over clips, (2, M + 1)."""
        self.eval()
        means = []
        for batches in (peek.train(), peek.held_out()):
            clips = sum(len(batch) for batch in batches)
            if not clips:
                raise InputError(
                    "gblending",
                    "no training clip on one side of the division",
                    "one at least",
                    "Raise held_out or give more data.",
                )
            parts = [
                torch.stack(self.source_losses(batch)) * (len(batch) / clips) for batch in batches
            ]
            means.append(torch.stack(parts).sum(dim=0))
        return torch.stack(means)


def progress(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """G = L^V(n) - L^V(N) and Delta O = O(N) - O(n), O = L^V - L^T, (K,) each.

    before, after: (2, K) train and held-out losses at n and N.
    """
    return before[1] - after[1], (after[1] - after[0]) - (before[1] - before[0])


def blend(
    gain: Tensor, overfitting: Tensor, least: Tensor | float, absolute: bool = False
) -> Tensor:
    """w_k = G_k / Delta O_k^2 over their sum, (K,); equal where no source gains.

    A loss that rises counts as no gain, unless ``absolute``; abs(Delta O_k) counts as ``least`` or more.
    """
    raw = (gain.abs() if absolute else gain.clamp(min=0)) / overfitting.abs().clamp(
        min=least
    ).square()
    total = raw.sum()
    return torch.where(total > 0, raw / total, torch.full_like(raw, 1 / len(raw)))
