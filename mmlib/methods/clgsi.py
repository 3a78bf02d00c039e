"""CLGSI: the task loss, and a contrast whose weights follow how far labels are apart (BASELINES_MM2 24).

L = L_task + 0.95 mean over pairs of modalities (x, z) of [l(x, z) + l(z, x)] / 2, over the rows that have both. With
cosines s of row i of x to all rows j of z, and to all others of x, and d the distance of labels that lie in [-1, 1]:
l = -log [sum P / (sum P + sum N)], where P = exp(1.5 tanh(0.8 - d) s / 0.03) of the rows with d <= 0.4, and
N = exp(1.5 tanh(d) 0.8 s / 0.03) of the others. Two classes are 2 apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.backbones.clgsi import CLGSI
from mmlib.data.bundle import Task
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_weights
from mmlib.nn.kinds import kinds
from mmlib.nn.sums import mean_where

STEEP, REACH, NEAR, LESS = 1.5, 0.8, 0.4, 0.8
TEMPERATURE = 0.03
NOTHING = -1e4  # the logarithm of no rival


@dataclass(frozen=True)
class ClgsiConfig(ReferenceConfig):
    """contrast: the weight, 0.95 as for CMU-MOSI (0.48 for MOSEI).

    whole: as released, a row is near itself, which outweighs almost all else, and every pair that is not near counts 1
    among the near ones, every pair that is near 1 among the others.
    """

    contrast: float = 0.95
    whole: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("clgsi", self, ("contrast",))


VARIANTS: dict[str, ClgsiConfig] = {
    "paper": ClgsiConfig(),
    "released": ClgsiConfig(whole=True),
    "no_contrast": ClgsiConfig(contrast=0.0),
}


class Clgsi(Reference):
    """The method over the backbone ``clgsi``."""

    Config = ClgsiConfig
    config: ClgsiConfig
    backbone: CLGSI

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "clgsi", CLGSI)

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        c, parts = self.config, self.backbone.parts(batch, batch.features)
        loss = self.fused_loss(batch, parts.fused)
        if not c.contrast:
            return loss
        apart = distances(self.task, batch.labels)
        losses, there = [], []
        for i, j in combinations(range(len(self.modalities)), 2):
            both = batch.observed[:, i] & batch.observed[:, j]
            x, z = parts.embedded[:, i], parts.embedded[:, j]
            ways = (pulled(a, b, apart, both, c.whole) for a, b in ((x, z), (z, x)))
            losses.append(sum(ways, x.new_zeros(())) / 2)
            there.append(both.any())
        return loss + c.contrast * mean_where(torch.stack(losses), torch.stack(there))


def distances(task: Task, labels: Tensor) -> Tensor:
    """(n, n): how far labels are apart, where the range of a score has length 2; 0 or 2 of classes."""
    if task.kind == "score":
        lowest, highest = task.range or (-1.0, 1.0)
        return 2 * (labels[:, None] - labels).abs() / (highest - lowest)
    of_kind = F.normalize(kinds(task, labels), dim=1)
    return 2.0 * (of_kind @ of_kind.t() < 0.99)


def weights(apart: Tensor) -> tuple[Tensor, Tensor]:
    """Of near pairs, and of the others: of any shape, each 0 where the other is not."""
    near = apart <= NEAR
    pull = torch.where(near, STEEP * torch.tanh(REACH - apart), 0)
    push = torch.where(near, 0, STEEP * torch.tanh(apart))
    return pull, push


def pulled(x: Tensor, z: Tensor, apart: Tensor, counts: Tensor, whole: bool) -> Tensor:
    """l(x, z), mean over the rows that count: x, z (n, d), apart (n, n), counts (n,) bool; 0 where none does."""
    x, z = F.normalize(x, dim=1), F.normalize(z, dim=1)
    cosine = torch.cat([x @ z.t(), x @ x.t()], dim=1) / TEMPERATURE  # (n, 2 n)
    pull, push = weights(apart.repeat(1, 2))
    there = counts.repeat(2).expand_as(cosine)
    near, far = pull > 0, push > 0
    if whole:
        near = far = there
    else:
        other = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        there = there & torch.cat([torch.ones_like(other), other], dim=1)
    near_sum = added(cosine * pull, near & there)
    far_sum = added(LESS * cosine * push, far & there)
    return mean_where(F.softplus(far_sum - near_sum), counts)


def added(scores: Tensor, counts: Tensor) -> Tensor:
    """log sum exp over the last axis of what counts; next to nothing where nothing does."""
    return torch.where(counts, scores, NOTHING).logsumexp(dim=1)
