"""D&R: diagnosing and re-learning for balanced multimodal learning (Wei et al., ECCV 2024).

A few times in training each modality is diagnosed: its embeddings of the training and of the validation clips are
clustered, and the gap between the purities of the two clusterings says how far the encoder has memorised. The encoder
is then drawn back towards its initial parameters by as much, and training goes on. Head, running statistics of batch
norm and momentum stay. (The released code trains the method without the augmentation that its baseline has, and keeps
the best epoch on test: here augmentation is the backbone's option, the same for every method.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.preprocessing import minmax_scale
from torch import Tensor

from mmlib.data.bundle import Task
from mmlib.errors import InputError
from mmlib.methods.plain import Peek, Plain, PlainConfig
from mmlib.nn.backbone import Backbone
from mmlib.nn.batch import Batch


@dataclass(frozen=True)
class RelearnConfig(PlainConfig):
    """When and how much.

    at: shares of the training, each the epoch (numbered from 0, rounded down) after which encoders are drawn back:
    20, 40 and 60 of the released script's 90. strength: lambda.
    """

    at: tuple[float, ...] = (20 / 90, 40 / 90, 60 / 90)
    strength: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= share < 1 for share in self.at):
            raise InputError(
                "relearn at", str(self.at), "shares in [0, 1)", "Give parts of the training."
            )
        if not 0 <= self.strength < math.inf:
            raise InputError(
                "relearn strength", str(self.strength), "0 or more", "The released script uses 3."
            )


VARIANTS: dict[str, RelearnConfig] = {"paper": RelearnConfig()}


class Relearn(Plain):
    """The method over any backbone; what it trains with in between is the loss of ``plain``."""

    Config = RelearnConfig
    config: RelearnConfig

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        config: RelearnConfig,
        dims: dict[str, int],
        class_counts: Sequence[int] = (),
    ) -> None:
        super().__init__(backbone, task, config, dims, class_counts)
        if task.kind != "classes":
            raise InputError("relearn", f"task {task.kind}", "classes", "Purity asks for classes.")
        self._initial: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Before the first epoch keep the encoders; at the chosen moments draw them back.

        Returns:
            Then, purity: (M, 2) of training and validation, and delta: (M,).
        """
        if peek.epoch == 0:  # after the weights of a parent run came in, if there is one
            self._initial = {
                m: [p.clone() for p in self.backbone.encoders[m].parameters()]
                for m in self.modalities
            }
        if peek.epoch - 1 not in moments(self.config.at, peek.epochs):
            return {}
        purity = torch.stack([self.purities(peek.train()), self.purities(peek.valid())], dim=1)
        delta = torch.tanh(self.config.strength * (purity[:, 0] - purity[:, 1]).abs())
        for weight, modality in zip(delta, self.modalities, strict=True):
            for now, initial in zip(
                self.backbone.encoders[modality].parameters(), self._initial[modality], strict=True
            ):
                now.lerp_(initial, weight.to(now))  # theta <- (1 - delta) theta + delta theta_init
        return {"purity": purity, "delta": delta}

    def purities(self, batches: list[Batch]) -> Tensor:
        """P^m of a split in evaluation mode, (M,), on the host."""
        self.eval()
        labels = torch.cat([batch.labels for batch in batches]).cpu().numpy()
        embeddings = [self(batch).z for batch in batches]
        return torch.tensor(
            [
                purity(
                    torch.cat([z[m] for z in embeddings]).double().cpu().numpy(),
                    labels,
                    self.task.outputs,
                )
                for m in self.modalities
            ]
        )


def moments(at: Sequence[float], epochs: int) -> set[int]:
    """Epochs after which encoders are drawn back; in a short training some may coincide, or be the last one."""
    return {math.floor(share * epochs + 1e-9) for share in at}


def purity(z: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Share of clips whose label is the most frequent one of their cluster.

    z (n, d), each coordinate scaled to [-1, 1] over the set, goes into as many clusters as there are classes.
    """
    scaled = minmax_scale(z, feature_range=(-1, 1))
    clusters = KMeans(min(classes, len(z)), n_init=1, random_state=0).fit_predict(scaled)
    counts = np.bincount(clusters * classes + labels, minlength=classes**2).reshape(
        classes, classes
    )
    return float(counts.max(axis=1).sum() / len(labels))
