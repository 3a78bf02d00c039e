"""Self-MM: a fused score, and modalities' own on labels that training makes up for them (BASELINES_MM 1).

A training utterance keeps a label for every modality, which starts as its score and moves by where the modality's
feature stands between the centres of positive and negative ones, next to the fused feature. Here to pre-train one of
the networks that DREAM's Fig. 5 takes as P; one learning rate instead of Self-MM's five groups, no accumulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.errors import InputError
from mmlib.methods.plain import Peek, Plain, PlainConfig
from mmlib.nn.batch import Batch
from mmlib.nn.rows import RowIndex

SMALL = 1e-8


@dataclass(frozen=True)
class SelfMMConfig(PlainConfig):
    """bound: H, the largest size of a made-up label."""

    bound: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.bound < float("inf"):
            raise InputError("selfmm bound", str(self.bound), "above 0", "Raise it.")


VARIANTS: dict[str, SelfMMConfig] = {"paper": SelfMMConfig()}


class SelfMM(Plain):
    """The method over a backbone with scores of single modalities (selfmm); scores alone.

    labels: (M, rows) the modalities' current ones. features: of the fusion ("") and each modality, (rows, width).
    """

    Config = SelfMMConfig
    config: SelfMMConfig

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        if self.task.kind != "score":
            raise InputError(
                "selfmm", f"a task of {self.task.kind}", "scores", "Take another method."
            )
        self.index: RowIndex | None = None
        self.epoch = 0
        self.truth = self.labels = torch.zeros(0)
        self.features: dict[str, Tensor] = {}

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Number the training rows as this epoch shows them; at first a modality's label is the utterance's."""
        batches = peek.train()
        self.index, self.epoch = RowIndex(batches), peek.epoch
        if peek.epoch == 0:
            self.truth = torch.cat([batch.labels for batch in batches])
            self.labels = self.truth.repeat(len(self.modalities), 1)
            self.features = {}
        return {}

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """|y_m - y| + sum over modalities of tanh|label - y| |y_s - label|, means; after the step, new labels.

        Raises:
            InputError: rows that ``start_epoch`` has not seen.
        """
        rows = self.index.find(batch) if self.index is not None else None
        if rows is None:
            raise InputError(
                "selfmm",
                "utterances that it keeps no labels of",
                "those of the epoch",
                "Train it by fit.",
            )
        fused = self(batch)
        alone = self.backbone.unimodal(fused)
        own = self.labels.index_select(1, rows)
        loss = (fused.logits[:, 0] - batch.labels).abs().mean()
        for label, m in zip(own, self.modalities, strict=True):
            loss = (
                loss
                + (torch.tanh((label - batch.labels).abs()) * (alone[m][:, 0] - label).abs()).mean()
            )
        yield loss
        current = {"": fused.hidden.detach(), **{m: fused.z[m].detach() for m in self.modalities}}
        if self.epoch > 0:
            self.labels[:, rows] = self.moved(own, batch.labels, current)
        for name, values in current.items():
            stored = self.features.setdefault(
                name, values.new_zeros(len(self.truth), values.shape[1])
            )
            stored[rows] = values

    def moved(self, own: Tensor, truth: Tensor, current: dict[str, Tensor]) -> Tensor:
        """(M, n): labels part of the way to their new values, in epoch n by 2 / (n + 1)."""
        number = self.epoch + 1
        fused = self.leaning(current[""], self.features[""], self.truth)
        made = torch.stack(
            [
                made_label(
                    truth,
                    self.leaning(current[m], self.features[m], self.labels[i]),
                    fused,
                    self.config.bound,
                )
                for i, m in enumerate(self.modalities)
            ]
        )
        return (number - 1) / (number + 1) * own + 2 / (number + 1) * made

    def leaning(self, features: Tensor, stored: Tensor, labels: Tensor) -> Tensor:
        """delta, (n,): (distance to the negative centre - to the positive one) over the latter."""
        positive, negative = (labels > 0).float(), (labels < 0).float()
        near, far = (
            (features - (of @ stored) / of.sum().clamp(min=1)).norm(dim=1)
            for of in (positive, negative)
        )
        both = positive.any() & negative.any()  # else there is nothing to lean to
        return torch.where(both, (far - near) / (near + SMALL), 0.0)


def made_label(truth: Tensor, own: Tensor, fused: Tensor, bound: float) -> Tensor:
    """clip(delta_s / delta_m y / 2 + (y + delta_s - delta_m) / 2); a modality that leans as the fusion does keeps y.

    truth, own (delta_s), fused (delta_m): (n,).
    """
    ratio = own / (fused + SMALL)
    return (0.5 * ratio * truth + 0.5 * (truth + own - fused)).clamp(-bound, bound)
