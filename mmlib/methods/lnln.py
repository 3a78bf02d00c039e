"""LNLN: Towards Robust Multimodal Sentiment Analysis with Incomplete Data (BASELINES_MM 9, MM2 B).

L = L_task + 0.9 (w - w*)^2 + 0.8 L_adv + 0.1 L_rec. w* says whether the text is there, or which share of it. A
discriminator tells the completed text from the text as it is, and what stands in for the text learns against it.
L_rec holds the tokens made of a modality that was hidden against the true ones.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.backbones.lnln import LNLN, Parts
from mmlib.methods.completion import Completion, CompletionConfig
from mmlib.methods.own_network import own_network
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_weights
from mmlib.nn.completion import Known
from mmlib.nn.sums import mean_where


@dataclass(frozen=True)
class LnlnConfig(CompletionConfig):
    """weight: of L_rec. completeness, adversary: of the other two. A score has the squared error.

    attached: the true tokens learn from L_rec as well, as released. noise: share of rows whose text loses a share of
    its coordinates (frames of a sequence), drawn from 0 to 1.
    """

    absolute: bool = False
    weight: float = 0.1
    completeness: float = 0.9
    adversary: float = 0.8
    attached: bool = True
    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("lnln", self, ("completeness", "adversary", "noise"))


VARIANTS: dict[str, LnlnConfig] = {
    "paper": LnlnConfig(),
    "complete": LnlnConfig(targets="complete"),
    "noise": LnlnConfig(noise=0.5),
    "no_adversary": LnlnConfig(adversary=0.0),
    "no_reconstruction": LnlnConfig(weight=0.0),
}


class Lnln(Completion):
    """The method over the backbone ``lnln``.

    discriminator: of one token, whether it is of a completed text.
    """

    Config = LnlnConfig
    config: LnlnConfig
    backbone: LNLN

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        net = own_network(self, "lnln", LNLN)
        width = net.config.hidden
        self.discriminator = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        self.place = net.modalities.index(net.anchor)

    def divided_loss(self, division: Known) -> Tensor:
        """Scalar loss of a divided batch."""
        c, net = self.config, self.backbone
        batch, complete = self.noised(division.given)
        parts = net.parts(batch, batch.features)
        loss = self.fused_loss(batch, parts.fused)
        loss = loss + c.completeness * (parts.complete[:, 0] - complete).square().mean()
        truth = torch.stack(
            list(net.embed(division.whole, division.whole.features).values()), dim=1
        )
        loss = loss + c.adversary * self.told_apart(parts, truth, division.seen)
        target = truth if c.attached else truth.detach()
        made = net.remade(parts.tokens, batch.observed)
        missed = (made - target).square().flatten(2).mean(dim=2)
        return loss + c.weight * mean_where(missed.flatten(), division.wanted.flatten())

    def told_apart(self, parts: Parts, truth: Tensor, seen: Tensor) -> Tensor:
        """Cross-entropy of the discriminator: completed texts are 1, those as they are 0, where a row has one."""
        completed = self.discriminator(parts.judged).flatten(0, 1)
        own = self.discriminator(truth[:, self.place]).flatten(0, 1)
        ones = torch.ones(len(own), dtype=torch.long, device=own.device)
        there = seen[:, self.place, None].expand(-1, truth.shape[2]).flatten()
        first = F.cross_entropy(completed, ones)
        second = mean_where(F.cross_entropy(own, 0 * ones, reduction="none"), there)
        return (first + second) / 2

    def noised(self, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch with part of some texts zeroed, and w*, (n,): how much of its text a row has."""
        there = batch.observed[:, self.place].float()
        if not self.config.noise:
            return batch, there
        name = self.backbone.anchor
        values = batch.features[name]
        lost = torch.rand_like(there) * (torch.rand_like(there) < self.config.noise)
        kept = torch.rand(values.shape[:2], device=values.device) >= lost[:, None]
        kept = kept.reshape(*values.shape[:2], *[1] * (values.ndim - 2))
        features = {**batch.features, name: values * kept}
        return dataclasses.replace(batch, features=features, source=None), there * (1 - lost)

    def clipped(self) -> list[nn.Parameter]:
        """All that trains."""
        return list(self.parameters())
