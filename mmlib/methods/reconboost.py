"""ReconBoost: boosting can achieve modality reconcilement (Hua et al., ICML 2024).

The modalities take turns. In the first phase of a modality's stage its encoder and the head that all share are trained
on its own prediction, by a cross-entropy that counts less where the others are right already, with a term that draws
it towards what the others say; in the second phase everything is trained by the cross-entropy of the scaled sum of all
logits, which is the prediction. The backbone's own prediction layer is not used: it gets no gradient.

The equations follow the released code. Readings: the agreement term compares posteriors; phases have equal shares of
the epochs, in whole cycles over the modalities, of which a training has as many as it has epochs for (published are
four epochs a phase, about 100 stages); there is no unimodal pre-training, which every other method would lack. The
released agreement term has no gradient at all (``released``): here it has that of the modality at its turn.
``alternating`` is the control without both terms: phases and shared head alone. In the first phase, the first term is
a cross-entropy weighted by (w_1 - w_2 p) / C: with 5 and 1 no clip counts less than 80 % of another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.methods.plain import Peek, Plain, PlainConfig
from mmlib.methods.separate import needs_classes, needs_separate_embeddings
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch


@dataclass(frozen=True)
class ReconBoostConfig(PlainConfig):
    """The first phase's loss, and how often the modalities take turns.

    w1, w2: weights of the cross-entropy and of its part by which the others' posterior lowers it. agreement: alpha.
    detached: the agreement term without gradient. cycles: over all modalities, at most; fewer where a phase would be
    shorter than an epoch.
    """

    w1: float = 5.0
    w2: float = 1.0
    agreement: float = 0.5
    detached: bool = False
    cycles: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.focal or self.class_weights != "none":
            raise InputError(
                "reconboost",
                f"focal {self.focal}, class_weights {self.class_weights}",
                "neither",
                "Leave them out: its first phase weighs clips itself.",
            )
        for name, least in (("w1", 0), ("w2", 0), ("agreement", 0), ("cycles", 1)):
            if not least <= getattr(self, name) < math.inf:
                raise InputError(
                    f"reconboost {name}",
                    str(getattr(self, name)),
                    f"{least} or more",
                    "Correct it.",
                )


VARIANTS: dict[str, ReconBoostConfig] = {
    "paper": ReconBoostConfig(),
    "released": ReconBoostConfig(detached=True),
    "alternating": ReconBoostConfig(w2=0.0, agreement=0.0),
}


class ReconBoost(Plain):
    """The method over ``concat``, with any number of modalities."""

    Config = ReconBoostConfig
    config: ReconBoostConfig

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        needs_separate_embeddings(self)
        needs_classes(self)
        width = self.backbone.embedding_dim
        hidden = max(1, width // 2)
        layers = nn.Linear(width, hidden), nn.Linear(hidden, self.task.outputs)
        for layer in layers:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.head = nn.Sequential(layers[0], nn.ReLU(), layers[1])
        self.scale = nn.Parameter(torch.ones(()))
        self.turn: str | None = None  # the modality in its first phase; None in a second one

    def forward(self, batch: Batch) -> Fused:
        """The backbone's view with the scaled sum of the modalities' logits as the fused ones."""
        fused: Fused = self.backbone(batch, batch.features)
        total = torch.stack(list(self.views(fused).values())).sum(dim=0)
        return fused._replace(logits=self.scale * total)

    def views(self, fused: Fused) -> dict[str, Tensor]:
        """What the shared head makes of each embedding, modality to (n, C)."""
        return {m: self.head(fused.z[m]) for m in self.modalities}

    def clipped(self) -> Iterable[nn.Parameter]:
        """All parameters, the shared head among them."""
        return self.parameters()

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Set and record whose stage the coming epoch is in, and in which phase: stage (2,), both from 0."""
        place, phase = stage(peek.epoch, peek.epochs, len(self.modalities), self.config.cycles)
        self.turn = None if phase else self.modalities[place]
        return {"stage": torch.tensor([place, phase])}

    def loss(self, batch: Batch) -> Tensor:
        """The phase's loss: of the modality at its turn, or of the scaled sum."""
        if self.turn is None:
            return self.fused_loss(batch, self(batch))
        z = self.backbone(batch, batch.features).z
        with torch.no_grad():
            others = [self.head(z[m]) for m in self.modalities if m != self.turn]
            rest = torch.stack(others).sum(dim=0).softmax(dim=1)
        return self.turns_loss(self.head(z[self.turn]), rest, batch.labels)

    def turns_loss(self, logits: Tensor, rest: Tensor, labels: Tensor) -> Tensor:
        """ReconBoost, mean_k of -w_1 Y log p_m + w_2 Y p_rest log p_m, plus alpha |p_m - p_rest|^2 / C; batch means.

        logits (n, C) of the modality at its turn; rest (n, C), the posterior of the sum of all others' logits.
        """
        right = rest.gather(1, labels[:, None])[:, 0]  # (n,)
        counts = (self.config.w1 - self.config.w2 * right) / logits.shape[1]
        loss = (counts * F.cross_entropy(logits, labels, reduction="none")).mean()
        own = logits.softmax(dim=1)
        apart = F.mse_loss(own.detach() if self.config.detached else own, rest)
        return loss + self.config.agreement * apart


def stage(epoch: int, epochs: int, modalities: int, cycles: int) -> tuple[int, int]:
    """The modality's place and the phase, both counted from 0, of an epoch.

    Whole cycles; in a training of fewer epochs than a single cycle has phases, some phases are left out.
    """
    phases = 2 * modalities * max(1, min(cycles, epochs // (2 * modalities)))
    at = epoch * phases // epochs
    return at // 2 % modalities, at % 2
