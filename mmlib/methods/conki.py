"""A reading of ConKI: the task loss, and a contrast of kinds of knowledge, modalities and rows (BASELINES_MM2 29).

L = L_task + 0.1 contrast. Vectors are G and S of every modality that a row has. Alike are two of one kind, G or S, in
rows of one label, the same row among them; unlike are two of different kinds. For every vector the contrast is the mean
over those alike of -log [exp(cos / 0.1) / sum of exp(cos / 0.1) over all that are alike or unlike].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.backbones.conki import ConKI
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_weights
from mmlib.nn.kinds import kinds
from mmlib.nn.sums import mean_where

LEVELS = 7  # of a score that count as one label
TEMPERATURE = 0.1
NOTHING = -1e4  # the logarithm of no rival


@dataclass(frozen=True)
class ConkiConfig(ReferenceConfig):
    """contrast: its weight."""

    contrast: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("conki", self, ("contrast",))


VARIANTS: dict[str, ConkiConfig] = {
    "style": ConkiConfig(),
    "no_contrast": ConkiConfig(contrast=0.0),
}


class Conki(Reference):
    """The method over the backbone ``conki``, which may start from a run of ``unimodal``."""

    Config = ConkiConfig
    config: ConkiConfig
    backbone: ConKI

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "conki", ConKI)

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        parts = self.backbone.parts(batch, batch.features)
        loss = self.fused_loss(batch, parts.fused)
        if not self.config.contrast:
            return loss
        of_kind = F.normalize(kinds(self.task, batch.labels, LEVELS), dim=1)
        same = of_kind @ of_kind.t() > 0.99
        pulled = contrast(parts.general, parts.special, batch.observed, same)
        return loss + self.config.contrast * pulled


def contrast(general: Tensor, special: Tensor, observed: Tensor, same: Tensor) -> Tensor:
    """Mean over the vectors that have one alike; 0 where none has.

    general, special: (n, M, d). observed: (n, M) bool. same: (n, n) bool, rows of one label.
    """
    n, count = observed.shape
    there = observed.flatten()
    pair = there[:, None] & there
    alike = same[:, None, :, None].expand(n, count, n, count).reshape(n * count, n * count) & pair
    alike = alike & ~torch.eye(n * count, dtype=torch.bool, device=there.device)
    g, s = (F.normalize(x.flatten(0, 1), dim=1) for x in (general, special))
    unlike = torch.where(pair, g @ s.t() / TEMPERATURE, NOTHING)
    each = []
    for own, rivals in ((g, unlike), (s, unlike.t())):
        scores = own @ own.t() / TEMPERATURE
        among = torch.where(alike, scores, NOTHING)
        total = torch.cat([among, rivals], dim=1).logsumexp(dim=1)
        each.append(total - mean_where(scores, alike))
    return mean_where(torch.cat(each), alike.any(dim=1).repeat(2))
