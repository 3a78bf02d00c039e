"""DMD: Decoupled Multimodal Distilling for Emotion Recognition (BASELINES_MM 10, MM2 B).

L = sum of 2M + 2 task losses + 0.05 (distillation among shared parts + among own parts) + 0.1 (cycle + back +
0.1 (margin + orthogonal)). Distillation weighs |logits_j - logits_k| by edge and prior, where only j learns, and holds
the edges' mean to the prior. A modality's terms are over the rows that have it, a pair's over those that have both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.backbones.dmd import DMD, Branch, Parts, among
from mmlib.data.bundle import Task
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_weights
from mmlib.nn.crossings import pairs
from mmlib.nn.kinds import kinds
from mmlib.nn.objectives import each_loss
from mmlib.nn.sums import mean_where

LEVELS = 7  # of a score that count as one label in the margin
KEPT = 10.0  # weight of the edges' distance to their prior


@dataclass(frozen=True)
class DmdConfig(ReferenceConfig):
    """distilled, apart: weights of the distillations, and of what takes parts apart. margin: for labels 1 apart.

    pushed: own parts' states are distilled as released, by max(0, cos), which pushes them apart.
    """

    distilled: float = 0.05
    apart: float = 0.1
    margin: float = 0.15
    pushed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("dmd", self, ("distilled", "apart", "margin"))


VARIANTS: dict[str, DmdConfig] = {
    "paper": DmdConfig(),
    "pushed": DmdConfig(pushed=True),
    "no_distillation": DmdConfig(distilled=0.0),
    "no_decoupling": DmdConfig(apart=0.0),
}


class Dmd(Reference):
    """The method over the backbone ``dmd``."""

    Config = DmdConfig
    config: DmdConfig
    backbone: DMD

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "dmd", DMD)

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        c, parts, seen = self.config, self.backbone.parts(batch, batch.features), batch.observed
        loss = self.fused_loss(batch, parts.fused) + self.task_losses(parts, batch)
        taught = distilled(parts.alike, seen) + distilled(parts.unlike, seen)
        if c.pushed:
            taught = taught + pushed(parts.unlike, seen)
        return loss + c.distilled * taught + c.apart * self.decoupled(parts, batch)

    def task_losses(self, parts: Parts, batch: Batch) -> Tensor:
        """The joint prediction's loss, and the sum of those of all single modalities in both branches."""
        total = self.each(parts.joint, batch.labels).mean()
        for branch in (parts.alike, parts.unlike):
            each = [self.each(x, batch.labels) for x in branch.logits.unbind(dim=1)]
            total = total + mean_where(torch.stack(each), batch.observed.t()).sum()
        return total

    def each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(n,): the task loss of every row; logits (n, C)."""
        if self.task.kind == "score" and self.config.absolute:
            return (logits[:, 0] - labels).abs()
        return each_loss(self.task, logits, labels)

    def decoupled(self, parts: Parts, batch: Batch) -> Tensor:
        """cycle + back + 0.1 (margin + orthogonal)."""
        seen = batch.observed.flatten()
        cycle = (parts.own - parts.again).square().mean(dim=2)
        back = (parts.embedded - parts.made).square().mean(dim=2)
        orthogonal = F.cosine_similarity(parts.own, parts.shared, dim=2).clamp(min=0)
        ranked = margin(self.task, parts.shared, batch, self.config.margin)
        terms = cycle + back + 0.1 * orthogonal
        return mean_where(terms.flatten(), seen) + 0.1 * ranked


def distilled(branch: Branch, observed: Tensor) -> Tensor:
    """Mean over rows of sum (edge + prior) |logits_j - logits_k|, and 10 |mean edge - prior|^2.

    logits_k has no gradient. A row's prior is over the pairs that it has; rows without a pair play no part.
    """
    counts = torch.stack([observed[:, j] & observed[:, k] for j, k in every(branch)], dim=1)
    prior = among(branch.prior.log().expand_as(branch.edges), counts)
    gaps = [
        (branch.logits[:, j] - branch.logits[:, k].detach()).abs().mean(dim=1)
        for j, k in every(branch)
    ]
    weighed = ((branch.edges + prior) * torch.stack(gaps, dim=1)).sum(dim=1)
    some = counts.any(dim=1)
    away = mean_where((branch.edges - prior).t(), some.expand(len(counts[0]), -1))
    return mean_where(weighed, some) + KEPT * away.square().sum()


def pushed(branch: Branch, observed: Tensor) -> Tensor:
    """Mean over rows of sum edge max(0, cos(state_j, state_k)), state_k without gradient."""
    cosines = [
        F.cosine_similarity(branch.states[:, j], branch.states[:, k].detach(), dim=1).clamp(min=0)
        for j, k in every(branch)
    ]
    some = observed.sum(dim=1) > 1
    return mean_where((branch.edges * torch.stack(cosines, dim=1)).sum(dim=1), some)


def every(branch: Branch) -> list[tuple[int, int]]:
    """The pairs (j, k) of a branch's edges."""
    return pairs(branch.states.shape[1])


def margin(task: Task, shared: Tensor, batch: Batch, size: float) -> Tensor:
    """max(0, size |y_i - y_k| - cos(c_i, c_j) + cos(c_i, c_k)), mean over shared parts i of the batch, (n, M, hidden).

    j is another modality's part of the same label, k any part of another label, one each drawn for every i; scores that
    round to one of seven values have one label. |y_i - y_k| is 1 of classes.
    """
    count = shared.shape[1]
    seen = batch.observed.flatten()
    modality = torch.arange(count, device=seen.device).repeat(len(batch))
    of_kind = kinds(task, batch.labels, LEVELS).repeat_interleave(count, dim=0)
    of_kind = of_kind / of_kind.norm(dim=1, keepdim=True).clamp(min=1)
    same = of_kind @ of_kind.t() > 0.99
    unit = F.normalize(shared.flatten(0, 1), dim=1)
    cosine = unit @ unit.t()
    like = same & seen & (modality[:, None] != modality)
    other = ~same & seen
    far = torch.ones_like(cosine)
    if task.kind == "score":
        scores = batch.labels.repeat_interleave(count)
        far = (scores[:, None] - scores).abs()
    j, k = (drawn(x) for x in (like, other))
    near, away, gap = cosine.gather(1, j), cosine.gather(1, k), far.gather(1, k)
    each = (size * gap - near + away).clamp(min=0)[:, 0]
    return mean_where(each, seen & like.any(dim=1) & other.any(dim=1))


def drawn(counts: Tensor) -> Tensor:
    """(n, 1): for every row one of the columns that count, counts (n, n) bool, all of them equally likely."""
    draws = torch.rand(counts.shape, device=counts.device)
    return torch.where(counts, draws, -1.0).argmax(dim=1, keepdim=True)
