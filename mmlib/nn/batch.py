"""Dialogues on the device: one split held as tensors, and batches that are index tensors into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mmlib.data.bundle import Bundle
from mmlib.masks.law import Mask


@dataclass(frozen=True)
class Layout:
    """Where the n utterances of some dialogues stand, flat and padded.

    dialogue: (n,) number of the dialogue within the batch.
    slot: (n,) place in the flattened (dialogues, steps) grid.
    turn: (n,) the utterance at the mirrored position of the same dialogue.
    """

    dialogues: int
    steps: int
    dialogue: Tensor
    slot: Tensor
    turn: Tensor

    def pad(self, flat: Tensor) -> Tensor:
        """(n, ...) -> (dialogues, steps, ...), zero where there is no utterance."""
        grid = flat.new_zeros(self.dialogues * self.steps, *flat.shape[1:])
        return grid.index_copy(0, self.slot, flat).unflatten(0, (self.dialogues, self.steps))

    def unpad(self, padded: Tensor) -> Tensor:
        """(dialogues, steps, ...) -> (n, ...)."""
        return padded.flatten(0, 1).index_select(0, self.slot)

    @cached_property
    def membership(self) -> Tensor:
        """(dialogues, n) float: 1 where an utterance belongs to a dialogue."""
        numbers = torch.arange(self.dialogues, device=self.dialogue.device)
        return (numbers[:, None] == self.dialogue).float()

    @cached_property
    def exists(self) -> Tensor:
        """(dialogues, steps) bool: where there is an utterance."""
        return self.pad(torch.ones_like(self.slot, dtype=torch.bool))


@dataclass(frozen=True)
class Batch:
    """Some whole dialogues.

    features: modality to (n, d); zero where the modality is missing.
    observed: (n, M) bool, modalities in alphabetical order.
    labels, speaker: (n,).
    complete: features before anything was hidden, in training only and only where a backbone asks for them.
    rows: (n,) number of each utterance in the split that the batch is cut from, where it is cut from one.
    source: that split; None where the batch is made otherwise, or its features are no longer those of the split.
    """

    features: dict[str, Tensor]
    observed: Tensor
    labels: Tensor
    speaker: Tensor
    layout: Layout
    complete: dict[str, Tensor] | None = None
    rows: Tensor | None = None
    source: Resident | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Resident:
    """One split under one mask, on the device, rows in (dialogue, position) order.

    starts: (dialogues + 1,) row at which each dialogue begins, on the host.
    """

    features: dict[str, Tensor]
    observed: Tensor
    labels: Tensor
    speaker: Tensor
    starts: np.ndarray
    complete: dict[str, Tensor] | None = None

    def batch(self, dialogues: Sequence[int] | np.ndarray) -> Batch:
        """The batch of some dialogues, by their number within the split."""
        chosen = np.asarray(dialogues, dtype=np.int64)
        sizes = self.starts[chosen + 1] - self.starts[chosen]
        device = self.labels.device
        rows = torch.from_numpy(np.repeat(self.starts[chosen], sizes) + places(sizes)).to(device)
        layout = make_layout(sizes, device)
        complete = (
            {m: x.index_select(0, rows) for m, x in self.complete.items()}
            if self.complete
            else None
        )
        return Batch(
            {m: x.index_select(0, rows) for m, x in self.features.items()},
            self.observed.index_select(0, rows),
            self.labels.index_select(0, rows),
            self.speaker.index_select(0, rows),
            layout,
            complete,
            rows,
            self,
        )

    @property
    def dialogues(self) -> int:
        """How many dialogues the split has."""
        return len(self.starts) - 1


def hide(batch: Batch, kept: Tensor) -> Batch:
    """The same batch with only some modalities, kept (M,) bool, in alphabetical order; others become zeros."""
    observed = batch.observed & kept
    features = {}
    for index, (modality, values) in enumerate(sorted(batch.features.items())):
        seen = observed[:, index].reshape(-1, *[1] * (values.ndim - 1))
        features[modality] = torch.where(
            seen, values, torch.zeros((), dtype=values.dtype, device=values.device)
        )
    return replace(batch, features=features, observed=observed, source=None)


def places(sizes: np.ndarray) -> np.ndarray:
    """0, 1, ... within each dialogue, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def make_layout(lengths: Sequence[int] | np.ndarray, device: torch.device | str = "cpu") -> Layout:
    """The layout of dialogues of the given lengths, one after the other in flat order."""
    sizes = np.asarray(lengths)
    steps = int(sizes.max())
    dialogue = np.repeat(np.arange(len(sizes)), sizes)
    time = places(sizes)
    turn = np.arange(len(time)) + sizes[dialogue] - 1 - 2 * time
    on_device = [
        torch.from_numpy(a).to(device, non_blocking=True)
        for a in (dialogue, dialogue * steps + time, turn)
    ]
    return Layout(len(sizes), steps, *on_device)


def to_device(
    bundle: Bundle, split: str, mask: Mask, device: torch.device | str, complete: bool = False
) -> Resident:
    """Put one split on the device with what the mask hides set to zero (never multiplied: NaN stay out).

    Features may be (n, d) or (n, t, d); a frame mask hides frames as well. Utterances that play no part under the
    mask are left out, and their dialogues are shorter.
    complete: keep the features as they were beside that.
    """
    rows, observed = mask.of(bundle.rows(split)), mask.of(mask.utterance)
    features, whole = {}, {}
    for index, modality in enumerate(bundle.modalities):
        values = torch.from_numpy(np.ascontiguousarray(bundle.features[modality][rows])).to(device)
        seen = torch.from_numpy(np.ascontiguousarray(observed[:, index])).to(device)
        seen = seen.reshape(-1, *[1] * (values.ndim - 1))
        if modality in mask.frames:
            seen = seen & torch.from_numpy(mask.of(mask.frames[modality])).to(device)[..., None]
        features[modality] = torch.where(
            seen, values, torch.zeros((), dtype=values.dtype, device=device)
        )
        whole[modality] = values
    breaks = np.flatnonzero(np.diff(bundle.dialogue[rows])) + 1
    starts = np.concatenate([[0], breaks, [len(rows)]])
    return Resident(
        features,
        torch.from_numpy(observed).to(device),
        torch.from_numpy(bundle.labels[rows]).to(device),
        torch.from_numpy(bundle.speaker[rows]).to(device),
        starts,
        whole if complete else None,
    )
