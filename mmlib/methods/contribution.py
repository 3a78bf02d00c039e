"""What a frozen network predicts from every subset of a batch's modalities, in one pass (DREAM section 3.3)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mmlib.data.bundle import Task
from mmlib.nn import shapley
from mmlib.nn.backbone import Backbone
from mmlib.nn.batch import Batch, Layout
from mmlib.nn.rows import RowIndex
from mmlib.nn.shapley import Plan

VALUES = 2**23  # features of a pass at the most; larger batches take several, each of some subsets
EMPTY = ("zeros", "undecided")


@torch.no_grad()
def predictions(reference: Backbone, batch: Batch, subsets: Tensor) -> Tensor:
    """(S, n, C): the logits under each subset of the modalities; subsets (S, M) bool.

    A subset's other modalities are zeros and count as missing, and so are all those that the batch lacks (B1).
    """
    size = max(1, sum(x.numel() for x in batch.features.values()))
    logits = []
    for part in subsets.split(max(1, VALUES // size)):
        whole = repeated(batch, part)
        logits.append(reference(whole, whole.features).logits.unflatten(0, (len(part), len(batch))))
    return torch.cat(logits)


def repeated(batch: Batch, subsets: Tensor) -> Batch:
    """The batch once for each subset (S, M), one after the other, with no modality but these: S n utterances."""
    count, features, layout = len(subsets), {}, batch.layout
    observed = subsets[:, None] & batch.observed  # (S, n, M)
    for index, (m, x) in enumerate(sorted(batch.features.items())):
        seen = observed[:, :, index].reshape(count, len(batch), *[1] * (x.ndim - 1))
        features[m] = torch.where(seen, x, torch.zeros((), dtype=x.dtype, device=x.device)).flatten(
            0, 1
        )
    step = torch.arange(count, device=subsets.device)[:, None]
    places = Layout(
        count * layout.dialogues,
        layout.steps,
        (layout.dialogue + step * layout.dialogues).flatten(),
        (layout.slot + step * layout.dialogues * layout.steps).flatten(),
        (layout.turn + step * len(batch)).flatten(),
    )
    return replace(
        batch,
        features=features,
        observed=observed.flatten(0, 1),
        layout=places,
        complete=None,
        rows=None,
        source=None,
        labels=batch.labels.repeat(count, *[1] * (batch.labels.ndim - 1)),
        speaker=batch.speaker.repeat(count),
    )


def decided(
    reference: Backbone,
    batch: Batch,
    plan: Plan,
    task: Task,
    rule: str = "sign",
    empty: str = "zeros",
) -> Tensor:
    """(S, n, K): the decisions under each subset of a plan.

    rule: as ``shapley.decisions``. empty: what is decided of nothing; that of zeros, or no decision at all, which
    every modality then changes (B1).
    """
    decisions = shapley.decisions(task, predictions(reference, batch, plan.subsets), rule)
    nothing = ~plan.subsets.any(dim=1)[:, None, None]
    return decisions.masked_fill(nothing, shapley.NOTHING) if empty == "undecided" else decisions


class Memory:
    """Decisions of a frozen network that need not be made twice.

    Those on training rows are found again by the rows' numbers, and made anew when what the rows hold has changed;
    those on other batches by the batch itself.
    """

    def __init__(self) -> None:
        self.index: RowIndex | None = None
        self.train = torch.zeros(0)
        self.others: dict[int, tuple[Batch, Tensor]] = {}

    def knows(self, index: RowIndex) -> bool:
        """Whether the training rows hold what they held when it decided; asked once an epoch."""
        return self.index is not None and torch.equal(self.index.keys, index.keys)

    def of_training(self, batch: Batch) -> Tensor | None:
        """(S, n, K), or None where a row is not known."""
        rows = self.index.find(batch) if self.index is not None else None
        return None if rows is None else self.train.index_select(1, rows)

    def of_other(self, batch: Batch) -> Tensor | None:
        """(S, n, K), or None for a batch that is not known."""
        entry = self.others.get(id(batch))
        return entry[1] if entry is not None and entry[0] is batch else None
