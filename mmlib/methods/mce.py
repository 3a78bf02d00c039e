"""MCE: losses that weigh more for modalities that are missed more often or fall short (BASELINES_MM2 19).

A modality's factor is w_m b_m. w_m = 1 / (1 - r_m) follows its missing rate, measured on the training rows before each
epoch. b_m = max(0, u_m - phi_m) / n_m compares how many rows of the batch its frozen unimodal network has right, u_m,
with its Shapley share of what the joint network has right, phi_m. The factors weigh completion and the modalities' own
heads; every subset of a row's modalities has a task loss too. No row must be complete.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmlib.backbones.mce import MCE
from mmlib.errors import InputError, unknown_name
from mmlib.methods.mce_shares import EXACT, ranked, shares
from mmlib.methods.own_network import own_network
from mmlib.methods.plain import Peek
from mmlib.methods.reference import ReferenceConfig
from mmlib.methods.second_stage import SecondStage
from mmlib.nn import shapley
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import each_loss
from mmlib.nn.shapley import Plan
from mmlib.nn.sums import mean_where

SMALL = 1e-6
SHARES, STARTS = ("shapley", "released"), ("inputs", "fused")


@dataclass(frozen=True)
class MceConfig(ReferenceConfig):
    """The weights of the three further losses, and where the released code departs from the text.

    completion, own, subsets: weights of completion, of the modalities' own heads, of the subsets' task loss.
    share: phi by Shapley's formula, or ``released``, which subtracts v({m}) in the place of v(S), so that a better
    modality has a smaller share. start: subsets begin from the ``inputs``' tokens, or from ``fused`` ones, which have
    seen all of them. detach: the target of completion carries no gradient. positions: the modalities' position vectors
    learn; else they are zero. swapped: every loss reads the masks of the last two modalities exchanged.
    """

    completion: float = 1.0
    own: float = 1.0
    subsets: float = 2.0
    share: str = "shapley"
    start: str = "inputs"
    detach: bool = True
    positions: bool = True
    swapped: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("completion", "own", "subsets"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"mce {name}", str(getattr(self, name)), "0 or more", "Correct it."
                )
        for name, known in (("share", SHARES), ("start", STARTS)):
            if getattr(self, name) not in known:
                raise unknown_name(f"mce {name}", getattr(self, name), known)


VARIANTS: dict[str, MceConfig] = {
    "paper": MceConfig(),
    "released_share": MceConfig(share="released"),
    "swapped": MceConfig(swapped=True),
    "released": MceConfig(  # whole with the network's ``absent`` at zero
        share="released", start="fused", detach=False, positions=False, swapped=True
    ),
}


class Mce(SecondStage):
    """The second stage, over the backbone ``mce`` whose unimodal networks a run of ``unimodal`` has trained.

    rates: r_m, (M,). factors: of the last step, name to (M,).
    """

    Config = MceConfig
    config: MceConfig
    rates: Tensor
    subsets: Tensor
    without: Tensor
    joined: Tensor
    weights: Tensor

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        count, c = len(self.modalities), self.config
        if c.swapped and count != 3:
            raise InputError(
                "mce swapped", f"{count} modalities", "three, as released", "Use the variant paper."
            )
        if c.share == "released" and count > EXACT:
            raise InputError(
                "mce share", f"{count} modalities", f"{EXACT} at most", "Take Shapley's."
            )
        self.register_buffer("rates", torch.zeros(count), persistent=False)
        plan = shapley.exact_plan(count) if count <= EXACT else None
        for name, values in plan._asdict().items() if plan else ():
            self.register_buffer(name, values, persistent=False)
        self.factors: dict[str, Tensor] = {}

    @property
    def net(self) -> MCE:
        """The backbone.

        Raises:
            InputError: another one.
        """
        return own_network(self, "mce", MCE)

    def prepare(self) -> None:
        """Position vectors that are zero and stay so, as released."""
        if not self.config.positions:
            self.net.positions.requires_grad_(False).zero_()

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Measure how often each modality is missing in training.

        Returns:
            rate: r_m, (M,).
        """
        there = torch.cat([self.availability(batch.observed) for batch in peek.train()])
        self.rates = 1 - there.float().mean(dim=0)
        return {"rate": self.rates}

    def availability(self, observed: Tensor) -> Tensor:
        """The availability that the losses read, (n, M) bool -> the same shape."""
        if not self.config.swapped:
            return observed
        first, second, third = observed.unbind(dim=1)
        return torch.stack([first, third, second], dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss: the task's, and the three further ones."""
        self.check_given()
        c, there = self.config, self.availability(batch.observed)
        parts = self.net.parts(batch, batch.features)
        ranks = ranked(there) if len(self.modalities) > EXACT else None
        subsets = self.looked_at(there, ranks)
        tokens = parts.encoded if c.start == "inputs" else parts.mixed
        made, logits = self.net.of_subsets(tokens, subsets)
        factor = self.factor(batch, there, self.worth(batch, logits, subsets), ranks)
        loss = self.fused_loss(batch, parts.fused)
        loss = loss + c.subsets * self.subset_loss(batch, logits, subsets)
        target = parts.mixed.detach() if c.detach else parts.mixed
        loss = loss + c.completion * (factor * completion(target, made, subsets, there)).sum()
        return loss + c.own * (factor * self.own_losses(batch, parts.mixed, there)).mean()

    def looked_at(self, there: Tensor, ranks: Tensor | None) -> Tensor:
        """Subsets of what is there, (S, n, M) bool: all but the empty one, or a chain of M for each row."""
        if ranks is None:
            return self.subsets[1:, None] & there
        sizes = torch.arange(1, there.shape[1] + 1, device=there.device)
        return (ranks < sizes[:, None, None]) & there

    @torch.no_grad()
    def factor(self, batch: Batch, there: Tensor, worth: Tensor, ranks: Tensor | None) -> Tensor:
        """w_m b_m, (M,), a constant; worth (S, n) of the subsets that are looked at."""
        counts = there.sum(dim=0).clamp(min=1)
        plan = None if ranks is not None else self.plan
        share = shares(plan, ranks, worth, self.config.share == "released")
        alone = (self.unimodally_right(batch) * there).sum(dim=0)
        batch_factor = (alone - (share * there).sum(dim=0)).clamp(min=0) / counts
        dataset_factor = 1 / (1 - self.rates).clamp(min=SMALL)
        self.factors = {"dataset_factor": dataset_factor, "batch_factor": batch_factor}
        return dataset_factor * batch_factor

    @property
    def plan(self) -> Plan:
        """Of all subsets of up to four modalities."""
        return Plan(self.subsets, self.without, self.joined, self.weights)

    def worth(self, batch: Batch, logits: Tensor, subsets: Tensor) -> Tensor:
        """v(S): whether the joint network is right, (S, n) in [0, 1], and 0 of a row that has nothing of S."""
        return self.right(batch, logits) * subsets.any(dim=2)

    def unimodally_right(self, batch: Batch) -> Tensor:
        """Whether the unimodal networks are right, (n, M) in [0, 1]."""
        z = self.net.alone(batch.features)
        logits = torch.stack([self.net.unimodal_heads[m](z[m]) for m in self.modalities])
        return self.right(batch, logits).t()

    def right(self, batch: Batch, logits: Tensor) -> Tensor:
        """(k, n, C) -> (k, n): the share of an example's decisions that are right; of a score its sign."""
        decided = shapley.decisions(self.task, logits)
        return (decided == shapley.truths(self.task, batch.labels)).float().mean(dim=2)

    def subset_loss(self, batch: Batch, logits: Tensor, subsets: Tensor) -> Tensor:
        """The task loss from subsets: mean over a row's subsets, then over rows."""
        labels = batch.labels.expand(len(logits), *batch.labels.shape)
        each = self.each(logits.flatten(0, 1), labels.flatten(0, 1)).unflatten(0, logits.shape[:2])
        return mean_where(each.t(), subsets.any(dim=2).t()).mean()

    def own_losses(self, batch: Batch, mixed: Tensor, there: Tensor) -> Tensor:
        """The task loss of each modality's head on f_m, over the rows that have it, (M,)."""
        each = [self.each(head(mixed[:, i]), batch.labels) for i, head in enumerate(self.net.heads)]
        return mean_where(torch.stack(each), there.t())

    def each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(n,): the task loss of every example."""
        if self.task.kind == "score" and self.config.absolute:
            return (logits[:, 0] - labels).abs()
        return each_loss(self.task, logits, labels)

    def series(self) -> dict[str, Tensor]:
        """Both factors of the last step, each (M,)."""
        return self.factors


def completion(target: Tensor, made: Tensor, subsets: Tensor, there: Tensor) -> Tensor:
    """L1 between f_m and what a subset without m makes of it, (M,): mean over a row's subsets, then over rows.

    target (n, M, width), made (S, n, M, width), subsets (S, n, M) bool, there (n, M) bool. A subset that has m counts
    as 0, and so does every subset of a row with one modality.
    """
    gaps = (target - made).abs().mean(dim=3)
    counts = subsets.any(dim=2, keepdim=True)
    lacks = there & ~subsets & counts
    each = (gaps * lacks).sum(dim=0) / counts.sum(dim=0).clamp(min=1)
    return each.mean(dim=0)
