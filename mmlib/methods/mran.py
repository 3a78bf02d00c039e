"""Training in the style of MRAN: reconstruct what is hidden, and pull all of it to its class's word (MM2 31).

L = L_task + lambda_1 MSE(made_m, h_m) + lambda_2 mean over m of (1 - cos(P made_m, w_y)). The mean squared error is
over the modalities that were hidden; h_m, the embedding of what was there, does not learn from it. No word vectors are
given here, so the classes' w are fixed random orthonormal ones. A score has the word of its third of the range; an
answer to several questions has the sum of one word for each, brought to unit length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.backbones.mran import MRAN
from mmlib.data.bundle import Task
from mmlib.errors import InputError, unknown_name
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.completion import TARGETS, Known, known
from mmlib.nn.sums import mean_where

BINS = 3  # of a score: negative, neutral, positive


@dataclass(frozen=True)
class MranConfig(ReferenceConfig):
    """reconstruction, alignment: lambda_1 and lambda_2.

    targets: of the reconstruction, ``selfdrop`` of what is there, or ``complete`` training rows.
    """

    reconstruction: float = 1.0
    alignment: float = 0.1
    targets: str = "selfdrop"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("reconstruction", "alignment"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(
                    f"mran {name}", str(getattr(self, name)), "0 or more", "Correct it."
                )
        if self.targets not in TARGETS:
            raise unknown_name("mran targets", self.targets, TARGETS)


VARIANTS: dict[str, MranConfig] = {
    "style": MranConfig(),
    "complete": MranConfig(targets="complete"),
    "no_alignment": MranConfig(alignment=0.0),
    "no_reconstruction": MranConfig(reconstruction=0.0),
}


class Mran(Reference):
    """The method over the backbone ``mran``.

    words: (words, hidden) orthonormal, those of the classes.
    """

    Config = MranConfig
    config: MranConfig
    backbone: MRAN
    words: Tensor

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "mran", MRAN)
        self.backbone.needs_complete = self.config.targets == "complete"
        width = self.backbone.embedding_dim
        count = BINS if self.task.kind == "score" else self.task.outputs
        if count > width:
            raise InputError(
                "mran hidden", str(width), f"{count} or more", "Raise it: words are orthogonal."
            )
        self.register_buffer("words", nn.init.orthogonal_(torch.empty(count, width)))
        self.project = nn.Linear(width, width)  # P

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        c, division = self.config, known(batch, self.config.targets)
        parts = self.backbone.parts(division.given, division.given.features)
        loss = self.fused_loss(batch, parts.fused)
        if c.reconstruction:
            loss = loss + c.reconstruction * self.missed(division, parts.made)
        if c.alignment:
            loss = loss + c.alignment * self.apart(parts.made, batch.labels)
        return loss

    def missed(self, division: Known, made: Tensor) -> Tensor:
        """MSE(made_m, h_m) over the modalities that are known and were not given; made (n, M, hidden)."""
        with torch.no_grad():
            truth = self.backbone.embed(division.whole, division.whole.features)
        each = (made - truth).square().mean(dim=2)
        return mean_where(each.flatten(), division.wanted.flatten())

    def apart(self, made: Tensor, labels: Tensor) -> Tensor:
        """1 - cos(P made_m, w_y), mean over rows and modalities: 0 where all point to their word, at the most 2."""
        wanted = words_of(self.task, labels) @ self.words  # (n, hidden)
        cosine = F.cosine_similarity(self.project(made), wanted[:, None], dim=2)
        return (1 - cosine).mean()

    def clipped(self) -> list[nn.Parameter]:
        """All that trains."""
        return list(self.parameters())


def words_of(task: Task, labels: Tensor) -> Tensor:
    """(n, words) float: how a row's word is made of the classes' words; of orthonormal ones its length is 1.

    labels: as in the bundle. One word for a class, or for a third of the range of a score; of questions one of two
    words for each.
    """
    if task.kind == "score":
        low, high = task.range or (-1.0, 1.0)
        bins = ((labels - low) / (high - low) * BINS).floor().clamp(0, BINS - 1)
        return (bins[:, None] == torch.arange(BINS, device=labels.device)).float()
    if task.kind == "binaries":
        chosen = labels[:, :, None] == torch.arange(2, device=labels.device)  # (n, K, 2)
        return chosen.flatten(1).float() * labels.shape[1] ** -0.5
    return (labels[:, None] == torch.arange(task.outputs, device=labels.device)).float()
