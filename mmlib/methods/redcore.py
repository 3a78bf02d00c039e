"""RedCore's training: completion of every modality, weighed by which of them is behind (BASELINES_MM 16, MM2 B).

L = L_joint + sum L_m + 8e-4 sum KL_m + 4 sum beta_m ||gen_m - E_m||^2. A modality's terms are over the rows that have
it, that of its completion over those that have another as well: no complete data are needed. A modality whose
completion has a smaller error than the mean of all loses weight, one with a larger error gains. Not given by the
source, and so guesses: the step of the weights, taken after each step of the network, and the memory of the running
errors. The squared norm is read as its mean over the width, as in MMIN, whose weight 4 it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmlib.backbones.redcore import Parts, RedCore
from mmlib.errors import InputError
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import each_loss
from mmlib.nn.sums import mean_where

LEAST = 0.1  # of a weight, before all are brought to unit norm


@dataclass(frozen=True)
class RedCoreConfig(ReferenceConfig):
    """divergence, completion: weights of the KL terms and of the completions.

    step: of the weights' own learning, 0 leaves them equal. memory: what a step keeps of the running errors.
    attached: the completions' targets learn as well, as released, at the risk of collapse.
    """

    divergence: float = 8e-4
    completion: float = 4.0
    step: float = 0.01
    memory: float = 0.9
    attached: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("divergence", "completion", "step"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(
                    f"redcore {name}", str(getattr(self, name)), "0 or more", "Correct it."
                )
        if not 0 <= self.memory < 1:
            raise InputError("redcore memory", str(self.memory), "a share in [0, 1)", "Correct it.")


VARIANTS: dict[str, RedCoreConfig] = {
    "paper": RedCoreConfig(),
    "attached": RedCoreConfig(attached=True),
    "equal": RedCoreConfig(step=0.0),
}


class RedCoreTraining(Reference):
    """The method over the backbone ``redcore``.

    beta: (M,) the modalities' weights, of unit norm. errors, known: (M,) running sums of completions' errors and of
    what they are divided by.
    """

    Config = RedCoreConfig
    config: RedCoreConfig
    backbone: RedCore
    beta: Tensor
    errors: Tensor
    known: Tensor

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "redcore", RedCore)
        count = len(self.modalities)
        self.register_buffer("beta", torch.full((count,), count**-0.5))
        self.register_buffer("errors", torch.zeros(count))
        self.register_buffer("known", torch.zeros(count))

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch; the weights move after it."""
        c, parts = self.config, self.backbone.parts(batch, batch.features)
        seen = batch.observed.t()  # (M, n)
        alone = mean_where(self.own_losses(parts.alone, batch.labels), seen).sum()
        divergence = mean_where(from_normal(parts.mean, parts.log_variance).t(), seen).sum()
        counts = seen & (batch.observed.sum(dim=1) > 1)
        errors = mean_where(self.gaps(parts).t(), counts)
        loss = self.fused_loss(batch, parts.fused) + alone
        loss = loss + c.divergence * divergence + c.completion * (self.beta * errors).sum()
        if self.training:
            self.follow(errors.detach(), counts.any(dim=1))
        return loss

    def own_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(M, n): each modality's task loss of each row; logits (n, M, C)."""
        if self.task.kind == "score" and self.config.absolute:
            return (logits[:, :, 0] - labels[:, None]).abs().t()
        return torch.stack([each_loss(self.task, x, labels) for x in logits.unbind(dim=1)])

    def gaps(self, parts: Parts) -> Tensor:
        """(n, M): ||gen_m - E_m||^2 over the width."""
        target = parts.own if self.config.attached else parts.own.detach()
        return (parts.made - target).square().mean(dim=2)

    def follow(self, errors: Tensor, known: Tensor) -> None:
        """Take a step's errors (M,) into the running ones, where there are any, and move the weights."""
        kept = torch.where(known, self.config.memory, 1.0)
        self.errors = kept * self.errors + (1 - kept) * errors
        self.known = kept * self.known + (1 - kept)
        means = self.errors / self.known.clamp(min=torch.finfo(errors.dtype).tiny)
        self.beta = moved(self.beta, means, self.known > 0, self.config.step)

    def series(self) -> dict[str, Tensor]:
        """The weights after the step."""
        return {"beta": self.beta}


def from_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(...,): the divergence KL(N(mean, variance) || N(0, I)), over the last axis."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1) / 2


def moved(beta: Tensor, means: Tensor, known: Tensor, step: float) -> Tensor:
    """beta <- max(0.1, beta - step RA), brought to unit norm; RA_m = (mean - L_m) / mean, 0 where L_m is not known.

    beta, means: (M,), the latter L_m. known: (M,) bool.
    """
    mean = mean_where(means, known)
    ahead = torch.where(known & (mean > 0), (mean - means) / mean, 0)
    raised = (beta - step * ahead).clamp(min=LEAST)
    return raised / raised.norm()
