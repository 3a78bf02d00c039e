"""Self-MM's made-up labels where modalities may be missing, and for classes (BASELINES_MM 1, 16, MM2 B).

As the method ``selfmm``, with three differences. A modality's loss, its label's move and the centres of its features
are over the rows that have it. What is missing is zeros to the network. Of classes no labels are made up: a modality's
own prediction has the utterance's label, as MM2 reads TETFN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mmlib.errors import InputError
from mmlib.methods.plain import Peek
from mmlib.methods.selfmm import SelfMM, SelfMMConfig, made_label
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch, hide
from mmlib.nn.objectives import each_loss
from mmlib.nn.rows import RowIndex
from mmlib.nn.sums import mean_where

VARIANTS: dict[str, SelfMMConfig] = {"paper": SelfMMConfig()}


class OwnLabels(SelfMM):
    """The method over a backbone with predictions of single modalities.

    there: (M, rows) bool, which of the kept features are of a modality that was there.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super(SelfMM, self).__init__(*arguments, **more)  # which refuses classes
        self.index: RowIndex | None = None
        self.epoch = 0
        self.truth = self.labels = torch.zeros(0)
        self.features: dict[str, Tensor] = {}
        self.there = torch.zeros(0)

    def forward(self, batch: Batch) -> Fused:
        """The backbone's view of a batch, with zeros where a modality is missing."""
        given = hide(batch, torch.ones_like(batch.observed[0]))
        fused: Fused = self.backbone(batch, given.features)
        return fused

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """As Self-MM's, for scores."""
        if self.task.kind == "score":
            super().start_epoch(peek)
            if peek.epoch == 0:
                self.there = torch.zeros_like(self.labels, dtype=torch.bool)
        return {}

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """Of scores as Self-MM's, over the rows that have a modality; of classes the sum of the M + 1 task losses.

        Raises:
            InputError: scores of rows that ``start_epoch`` has not seen.
        """
        fused, seen = self(batch), batch.observed.t()  # (M, n)
        alone = self.backbone.unimodal(fused)
        if self.task.kind != "score":
            each = [each_loss(self.task, alone[m], batch.labels) for m in self.modalities]
            yield self.fused_loss(batch, fused) + mean_where(torch.stack(each), seen).sum()
            return
        rows = self.known_rows(batch)
        own = self.labels.index_select(1, rows)  # (M, n)
        scores = torch.stack([alone[m][:, 0] for m in self.modalities])
        weighed = torch.tanh((own - batch.labels).abs()) * (scores - own).abs()
        task = (fused.logits[:, 0] - batch.labels).abs().mean()
        yield task + mean_where(weighed, seen).sum()
        self.keep(batch, fused, rows, own)

    def known_rows(self, batch: Batch) -> Tensor:
        """(n,): the numbers of a batch's rows among those that labels are kept of."""
        rows = self.index.find(batch) if self.index is not None else None
        if rows is None:
            raise InputError(
                "own_labels",
                "utterances that it keeps no labels of",
                "those of the epoch",
                "Train it by fit.",
            )
        return rows

    def keep(self, batch: Batch, fused: Fused, rows: Tensor, own: Tensor) -> None:
        """Move the labels of a batch, own (M, n) so far, and keep its features."""
        seen = batch.observed.t()
        current = {"": fused.hidden.detach(), **{m: fused.z[m].detach() for m in self.modalities}}
        if self.epoch > 0:
            moved = self.moved(own, batch.labels, current)
            self.labels[:, rows] = torch.where(seen, moved, own)
        for name, values in current.items():
            stored = self.features.setdefault(
                name, values.new_zeros(len(self.truth), values.shape[1])
            )
            stored[rows] = values
        self.there[:, rows] = seen

    def moved(self, own: Tensor, truth: Tensor, current: dict[str, Tensor]) -> Tensor:
        """As Self-MM's, with centres over the rows that have the modality (a label of 0 is in none)."""
        number = self.epoch + 1
        fused = self.leaning(current[""], self.features[""], self.truth)
        made = [
            made_label(
                truth,
                self.leaning(current[m], self.features[m], self.labels[i] * self.there[i]),
                fused,
                self.config.bound,
            )
            for i, m in enumerate(self.modalities)
        ]
        return (number - 1) / (number + 1) * own + 2 / (number + 1) * torch.stack(made)
