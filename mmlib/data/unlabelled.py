"""Utterances to predict: what a bundle has of them, without what only training and measuring need.

Labels may be absent, one split or none may be named, and a modality or all of them may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from mmlib.data.bundle import SPLITS, Bundle, Task
from mmlib.data.bundle_file import short_names
from mmlib.data.groups import NAMES
from mmlib.errors import InputError


@dataclass(frozen=True)
class Unlabelled:
    """n utterances in any order."""

    name: str
    """What messages call them."""

    features: Mapping[str, np.ndarray]
    """Modality to (n, d), (n, t, d), (n, c, h, w) or (n, k, c, h, w); float32 or float64, or uint8 for pixels."""

    observed: np.ndarray
    """(n, M) bool, modalities in alphabetical order."""

    ids: Sequence[str]
    """The utterances' names, each once."""

    lengths: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Modality to (n,), how many frames of each sequence exist."""

    split: Sequence[str] | None = None
    """A name of ``SPLITS`` each; None where the utterances are not divided."""

    dialogue: Sequence[Any] | None = None
    """Sortable values; None where each utterance is its own dialogue."""

    position: Sequence[int] | None = None
    """Orders the utterances of a dialogue; None for the order in which they are given."""

    speaker: Sequence[Any] | None = None
    """Sortable values; None for one speaker."""


def to_predict(rows: Unlabelled, task: Task) -> Bundle:
    """A bundle of these utterances by sorted ids, in the test split where none is named; all labels are 0.

    It meets none of the contract that ``check_bundle`` holds the bundles of a training to.

    Raises:
        InputError: an id twice, columns of another length, or a dialogue in two splits.
    """
    n, where = len(rows.ids), f"{rows.name}, utterances"
    _check_columns(where, rows)
    there = np.asarray(rows.observed, dtype=bool)
    lengths = {
        m: none_as_one(np.asarray(rows.lengths[m], dtype=np.int64), there[:, index])
        for index, m in enumerate(sorted(rows.features))
        if m in rows.lengths
    }
    order = np.argsort(np.asarray(rows.ids, dtype=str), kind="stable")
    ids = tuple(str(rows.ids[i]) for i in order)
    twice = next((a for a, b in pairwise(ids) if a == b), None)
    if twice is not None:
        raise InputError(where, f"{twice!r} twice", "each id once", "Remove or rename one.")
    split = np.full(n, SPLITS.index("test"), dtype=np.int8)
    if rows.split is not None:
        split = np.array([SPLITS.index(rows.split[i]) for i in order], dtype=np.int8)
    dialogue = _numbered(rows.dialogue, order, np.arange(n))
    _check_dialogues(where, dialogue, split, ids)
    shape = (n, len(task.names)) if task.kind == "binaries" else (n,)
    spoken = rows.speaker is not None
    speakers, speaker = (
        np.unique(np.asarray(rows.speaker)[order], return_inverse=True)
        if spoken
        else ((), np.zeros(n))
    )
    return Bundle(
        name=rows.name,
        task=task,
        features={m: rows.features[m][order] for m in sorted(rows.features)},
        labels=np.zeros(shape, dtype=np.float32 if task.kind == "score" else np.int64),
        split=split,
        dialogue=dialogue,
        position=order if rows.position is None else np.asarray(rows.position)[order],
        speaker=speaker.astype(np.int64),
        observed=there[order],
        ids=ids,
        lengths={m: ends[order] for m, ends in lengths.items()},
        notes={NAMES: [str(name) for name in speakers]} if spoken else {},
    )


def none_as_one(lengths: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """(n,) the frames of each sequence; a 0 of what is not observed becomes 1, a frame that counts for nothing."""
    return np.where(~observed & (lengths == 0), 1, lengths)


def _check_columns(where: str, rows: Unlabelled) -> None:
    n = len(rows.ids)
    for names in (rows.ids, rows.dialogue, rows.speaker):
        short_names(where, () if names is None else names)
    if not n:
        raise InputError(where, "no utterance", "one or more", "Give some to predict.")
    columns = {
        "split": rows.split,
        "dialogue": rows.dialogue,
        "position": rows.position,
        "speaker": rows.speaker,
        **{f"features of {m}": values for m, values in rows.features.items()},
        **{f"lengths of {m}": values for m, values in rows.lengths.items()},
    }
    for name, values in columns.items():
        if values is not None and len(values) != n:
            raise InputError(
                where,
                f"{name} of {len(values)} rows",
                f"{n} rows",
                "Give every array the same rows in the same order.",
            )
    if np.shape(rows.observed) != (n, len(rows.features)):
        raise InputError(
            where,
            f"observed of shape {np.shape(rows.observed)}",
            f"({n}, {len(rows.features)})",
            "Give one column per modality, in alphabetical order.",
        )


def _check_dialogues(
    where: str, dialogue: np.ndarray, split: np.ndarray, ids: Sequence[str]
) -> None:
    pairs = np.unique(np.stack([dialogue, split]), axis=1)[0]
    crossing = pairs[:-1][np.diff(pairs) == 0]
    if len(crossing):
        row = int(np.flatnonzero(dialogue == crossing[0])[0])
        raise InputError(
            where,
            f"the dialogue of {ids[row]!r} in two splits",
            "whole dialogues in one split",
            "Move its utterances into one split, or leave the column out.",
        )


def _numbered(values: Sequence[Any] | None, order: np.ndarray, default: np.ndarray) -> np.ndarray:
    """(n,) the place of each value among the different ones, sorted; rows in order."""
    if values is None:
        return default.astype(np.int64)
    return np.unique(np.asarray(values)[order], return_inverse=True)[1].astype(np.int64)
