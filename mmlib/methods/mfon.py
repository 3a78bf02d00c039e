"""MFON: the task loss, and images of the other modalities that follow teachers and the text (BASELINES_MM2 26).

L = L_task + 0.5 sum_m KL(softmax x*_m || softmax x_m) + 0.5 sum_m NCE(x_m, text), m the modalities but the text. x*_m
is what the frozen network of m alone gives. NCE is the mean of log sum_j exp(cos_ij) - cos_ii over the rows that have
both, without a temperature, so that it stays far from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.backbones.mfon import MFON, Parts
from mmlib.methods.mmim import contrast
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import ReferenceConfig
from mmlib.methods.second_stage import SecondStage
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_weights
from mmlib.nn.sums import mean_where


@dataclass(frozen=True)
class MfonConfig(ReferenceConfig):
    """teachers, contrast: weights, as for CMU-MOSI (0.3 and 0.001 for MOSEI). A score has the squared error."""

    absolute: bool = False
    teachers: float = 0.5
    contrast: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("mfon", self, ("teachers", "contrast"))


VARIANTS: dict[str, MfonConfig] = {
    "paper": MfonConfig(),
    "mosei": MfonConfig(teachers=0.3, contrast=0.001),
    "no_teachers": MfonConfig(teachers=0.0),
    "no_contrast": MfonConfig(contrast=0.0),
}


class Mfon(SecondStage):
    """The second stage, over the backbone ``mfon`` whose small networks a run of ``unimodal`` has trained."""

    Config = MfonConfig
    config: MfonConfig

    @property
    def net(self) -> MFON:
        """The backbone."""
        return own_network(self, "mfon", MFON)

    def prepare(self) -> None:
        """Refuse another network."""
        own_network(self, "mfon", MFON)

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        self.check_given()
        c, parts = self.config, self.net.parts(batch, batch.features)
        loss = self.fused_loss(batch, parts.fused)
        if c.teachers:
            loss = loss + c.teachers * self.apart(batch, parts)
        if c.contrast:
            loss = loss + c.contrast * self.contrast(batch, parts)
        return loss

    def apart(self, batch: Batch, parts: Parts) -> Tensor:
        """Sum over m of the mean KL over the rows that have m."""
        with torch.no_grad():
            taught = self.net.taught(batch.features)
        wanted = torch.stack([taught[m] for m in self.net.others], dim=1)  # (n, M - 1, hidden)
        gaps = divergence(wanted, parts.crossed)
        return mean_where(gaps.t(), self.others_seen(batch).t()).sum()

    def contrast(self, batch: Batch, parts: Parts) -> Tensor:
        """Sum over m of NCE(x_m, text) over the rows that have both."""
        text, seen = F.normalize(parts.text, dim=1), self.others_seen(batch)
        both = seen & batch.observed[:, self.modalities.index(self.net.anchor), None]
        each = [
            contrast(F.normalize(parts.crossed[:, i], dim=1) @ text.t(), both[:, i])
            for i in range(both.shape[1])
        ]
        return torch.stack(each).sum()

    def others_seen(self, batch: Batch) -> Tensor:
        """(n, M - 1) bool: which of the modalities but the text there are."""
        seen = [
            x
            for m, x in zip(self.modalities, batch.observed.unbind(dim=1), strict=True)
            if m != self.net.anchor
        ]
        return torch.stack(seen, dim=1)


def divergence(wanted: Tensor, made: Tensor) -> Tensor:
    """KL(softmax wanted || softmax made) over the last axis."""
    logs = wanted.log_softmax(dim=-1)
    return (logs.exp() * (logs - made.log_softmax(dim=-1))).sum(dim=-1)
