"""Utterances that stand in the data twice: in train, and in what is held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from mmlib.data.bundle import Bundle

MANY = 0.01  # share of held-out utterances, beyond chance, above which accuracy on them is that on train
ERRORS = 3.0


@dataclass(frozen=True)
class Copies:
    """Rows that have the features of another in every modality."""

    held_out: np.ndarray
    """Row numbers held out that have a copy in train."""

    in_train: int
    """How many rows of train have another copy in train."""


def copies(bundle: Bundle) -> Copies:
    """Rows whose features are, in all that they observe, those of a row of train.

    Rows are compared as a whole: utterances of few values, such as votes of three raters, may be equal by chance, and
    are so inside train too.
    """
    marks = [_mark(bundle, row) for row in range(len(bundle))]
    train = [marks[row] for row in np.flatnonzero(bundle.split == 0)]
    times = Counter(train)
    held_out = [row for row in np.flatnonzero(bundle.split > 0) if marks[row] in times]
    return Copies(np.array(held_out, dtype=np.int64), sum(n for n in times.values() if n > 1))


def copy_lines(bundle: Bundle, twice: Copies) -> list[str]:
    """One line."""
    count = int((bundle.split > 0).sum())
    if not len(twice.held_out):
        return [f"copies: none of the {count} held-out utterances has the features of one in train"]
    return [
        f"copies: {len(twice.held_out)} of {count} held-out utterances have the features of one in train, such as "
        f"{bundle.ids[twice.held_out[0]]}; {twice.in_train} of {int((bundle.split == 0).sum())} in train repeat another"
    ]


def copy_warnings(bundle: Bundle, twice: Copies) -> list[str]:
    """Held-out utterances that train has, where they are more than features of few values would have by chance."""
    count = int((bundle.split > 0).sum())
    share = len(twice.held_out) / count
    by_chance = twice.in_train / (bundle.split == 0).sum()
    error = np.sqrt(by_chance * (1 - by_chance) / count)
    if share <= by_chance + max(MANY, ERRORS * error):
        return []
    return [
        f"WARNING: {share:.0%} of the held-out utterances of {bundle.name} are in train as well, under other ids, such "
        f"as {bundle.ids[twice.held_out[0]]}: results on them are not results on new data. Remove the copies."
    ]


def _mark(bundle: Bundle, row: int) -> bytes:
    """A hash of what a row observes."""
    digest = hashlib.blake2b(bundle.observed[row].tobytes(), digest_size=16)
    for index, modality in enumerate(bundle.modalities):
        if bundle.observed[row, index]:
            digest.update(np.ascontiguousarray(bundle.features[modality][row]).tobytes())
    return digest.digest()
