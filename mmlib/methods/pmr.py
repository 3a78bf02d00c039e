"""PMR: prototypical modal rebalance for multimodal learning (Fan et al., CVPR 2023).

Each class has a prototype per modality, the mean embedding of its clips, taken before every epoch. How near a batch
lies to the prototypes of its own classes tells which modality lags behind: its encoder alone gets a loss on them, as
much as it lags (prototypical cross-entropy, PCE), and in the first epochs the other one's certainty is held down
(prototypical entropy regularisation, PER). Eqs 6-13; a is the first modality (0 there), v the second.

The released code has no PER and gives the lagging modality the full weight however little it lags: the variant
``switch``. It takes AVE's prototypes from validation; here they come from training clips only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.data.bundle import Task
from mmlib.errors import InputError
from mmlib.methods.plain import Peek, Plain, PlainConfig, two_modalities_of_classes
from mmlib.nn.backbone import Backbone
from mmlib.nn.batch import Batch, make_layout

TINY = 1e-12


@dataclass(frozen=True)
class PmrConfig(PlainConfig):
    """Weights and prototypes.

    alpha, mu: of PCE and PER (the paper has 1 or 2, and 1e-2 or 1e-3, and names no data set). eps: how much of its old
    self a prototype keeps from epoch to epoch. subset: share of each class's training clips that make its prototype,
    one at least. per_until: share of the epochs with PER (E_r, which the paper does not give). switch: the lagging
    modality's weight is 1 instead of beta or gamma.
    """

    alpha: float = 1.0
    mu: float = 1e-2
    eps: float = 0.0
    subset: float = 0.1
    per_until: float = 0.3
    switch: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (
            ("alpha", float("inf")),
            ("mu", float("inf")),
            ("eps", 1.0),
            ("per_until", 1.0),
        ):
            if not 0 <= getattr(self, name) <= most or getattr(self, name) == float("inf"):
                raise InputError(
                    f"pmr {name}", str(getattr(self, name)), f"0 to {most}", "Correct it."
                )
        if not 0 < self.subset <= 1:
            raise InputError(
                "pmr subset", str(self.subset), "a share above 0, at most 1", "The paper uses 0.1."
            )


PAPER = PmrConfig()
VARIANTS: dict[str, PmrConfig] = {
    "paper": PAPER,
    "no_per": dataclasses.replace(PAPER, per_until=0.0),
    "switch": dataclasses.replace(PAPER, per_until=0.0, switch=True, alpha=2.0),
}


class Pmr(Plain):
    """The method over any backbone; prototypes are (2, C, d_emb)."""

    Config = PmrConfig
    config: PmrConfig
    prototypes: Tensor

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        config: PmrConfig,
        dims: dict[str, int],
        class_counts: Sequence[int] = (),
    ) -> None:
        super().__init__(backbone, task, config, dims, class_counts)
        two_modalities_of_classes(self)
        # All alike: until the first are taken no modality lags, and the loss is that of ``plain``.
        self.register_buffer(
            "prototypes", torch.zeros(2, task.outputs, backbone.embedding_dim), persistent=False
        )
        self.regularised = False
        self._rows: np.ndarray | None = None
        self._series: dict[str, Tensor] = {}

    def loss(self, batch: Batch) -> Tensor:
        """CE(f) + alpha (beta L_PCE^a + gamma L_PCE^v), and - mu (gamma H(p^a) + beta H(p^v)) in the first epochs."""
        fused = self(batch)
        near = self.near(fused.z)
        weight = imbalance(near.detach(), batch.labels, self.config.switch)
        away = -own_class(near, batch.labels).mean(dim=1)  # L_PCE, (2,)
        loss = self.fused_loss(batch, fused) + self.config.alpha * (weight * away).sum()
        if self.keep_series:
            self._series = {
                "own_class": own_class(near.detach(), batch.labels).exp().mean(dim=1),
                "weight": weight,
            }
        if not self.regularised:
            return loss
        entropy = -(near.exp() * near).sum(dim=2).mean(dim=1)
        return loss - self.config.mu * (weight.flip(0) * entropy).sum()  # the leading modality's

    def near(self, z: Mapping[str, Tensor]) -> Tensor:
        """Log p^m_i over classes, (2, n, C); embeddings carry gradient, prototypes do not."""
        return torch.stack(
            [log_nearness(z[m], self.prototypes[k]) for k, m in enumerate(self.modalities)]
        )

    @torch.no_grad()
    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Take the prototypes from a fixed subset of the training clips, in evaluation mode."""
        self.regularised = peek.epoch < round(self.config.per_until * peek.epochs)
        self.eval()
        batches, start = peek.train(), 0
        if self._rows is None:
            everyone = torch.cat([batch.labels for batch in batches]).cpu().numpy()
            self._rows = choose(everyone, self.task.outputs, self.config.subset)
        parts = []
        for batch in batches:
            rows = self._rows[(self._rows >= start) & (self._rows < start + len(batch))] - start
            start += len(batch)
            if len(rows):
                parts.append(some(batch, rows))
        labels = torch.cat([part.labels for part in parts])
        embeddings = [self(part).z for part in parts]
        prototypes = torch.stack(
            [
                class_means(torch.cat([z[m] for z in embeddings]), labels, self.task.outputs)
                for m in self.modalities
            ]
        )
        keep = self.config.eps if peek.epoch else 0.0
        self.prototypes = keep * self.prototypes + (1 - keep) * prototypes
        return {}

    def series(self) -> dict[str, Tensor]:
        """own_class, the mean of p^m_i[y_i], and weight, (beta, gamma), of the last step, each (2,)."""
        return self._series


def log_nearness(z: Tensor, prototypes: Tensor) -> Tensor:
    """Log softmax over classes of minus the Euclidean distance (not squared): (n, d), (C, d) -> (n, C)."""
    squared = (z[:, None] - prototypes).square().sum(dim=2)
    return (-(squared + TINY).sqrt()).log_softmax(dim=1)  # no NaN where an embedding is a prototype


def own_class(near: Tensor, labels: Tensor) -> Tensor:
    """What (2, n, C) has for each clip's own class, (2, n)."""
    return near[:, torch.arange(len(labels), device=labels.device), labels]


def imbalance(near: Tensor, labels: Tensor, switch: bool = False) -> Tensor:
    """(beta, gamma), (2,), from rho = sum p^a_i[y_i] / sum p^v_i[y_i]: at most one is above 0, both are at most 1.

    beta = clip(1 / rho - 1, 0, 1), gamma = clip(rho - 1, 0, 1); as a switch, 1 for the modality that lags and else 0.
    """
    first, second = own_class(near, labels).exp().sum(dim=1).clamp(min=TINY)
    if switch:
        return torch.stack([first < second, first >= second]).to(near.dtype)
    return torch.stack([second / first - 1, first / second - 1]).clamp(0, 1)


def class_means(z: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(n, d) -> (C, d); each class has a clip."""
    member = F.one_hot(labels, classes).to(z.dtype)  # (n, C)
    return member.T @ z / member.sum(dim=0)[:, None]


def choose(labels: np.ndarray, classes: int, share: float) -> np.ndarray:
    """Rows of a fixed random share of each class, one at least, in order."""
    order = np.random.default_rng(0).permutation(len(labels))
    rows = [order[labels[order] == k] for k in range(classes)]
    if empty := [k for k in range(classes) if not len(rows[k])]:
        raise InputError(
            "pmr",
            f"no training clip of the classes {empty}",
            "one at least",
            "Split the data otherwise.",
        )
    return np.sort(np.concatenate([r[: max(1, round(share * len(r)))] for r in rows]))


def some(batch: Batch, rows: np.ndarray) -> Batch:
    """Some clips of a batch, each as a dialogue of its own."""
    device = batch.labels.device
    index = torch.from_numpy(rows).to(device)
    return Batch(
        {m: x.index_select(0, index) for m, x in batch.features.items()},
        batch.observed.index_select(0, index),
        batch.labels.index_select(0, index),
        batch.speaker.index_select(0, index),
        make_layout([1] * len(rows), device),
    )
