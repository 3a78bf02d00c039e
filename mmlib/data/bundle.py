"""What a data set is: arrays, splits and dialogues, in one frozen object.

A bundle's rows are always in the order of their sorted ids, so nothing that is drawn or shuffled
from it depends on the order of a file, a folder or a set.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmlib import names
from mmlib.data.bundle_file import read_arrays, read_head, short_names
from mmlib.data.keep import HEAD, arrays_file, newest, replace_bundle
from mmlib.data.labels import check_labels, check_varied, stored, with_sign
from mmlib.errors import InputError, unknown_name

SPLITS = ("train", "valid", "test")
FORMAT = 1
_OPTIONAL = ("fold",)


@dataclass(frozen=True)
class Task:
    """What is predicted.

    kind: ``classes`` (labels are class indices), ``score`` (labels are real numbers in ``range``)
    or ``binaries`` (labels are (n, K) zeros and ones, one column per name).
    signed: whether scores lie on both sides of 0, so that their sign can be asked for; bundles
    compute it from their labels, and it is no part of their fingerprint.
    """

    kind: Literal["classes", "score", "binaries"]
    names: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    signed: bool = dataclasses.field(default=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in ("classes", "score", "binaries"):
            raise unknown_name("task kind", self.kind, ("classes", "score", "binaries"))
        if self.kind == "score" and self.range is None:
            raise InputError(
                "task", "a score without a range", "(lowest, highest)", "Give the range."
            )
        if self.kind != "score" and not self.names:
            raise InputError("task", f"{self.kind} without names", "class names", "Give the names.")

    @property
    def outputs(self) -> int:
        """How many numbers a model predicts per utterance."""
        return {"classes": len(self.names), "score": 1, "binaries": 2 * len(self.names)}[self.kind]


@dataclass(frozen=True)
class Bundle:
    """A data set of n utterances.

    features: modality name to (n, d), (n, t, d) with ``lengths`` (frames), (n, c, h, w) images or
        spectrograms, or (n, k, c, h, w) clips of k images; float32, or uint8 for pixels.
    labels: (n,) int64 for classes, (n,) float32 for a score, (n, K) int64 for binaries.
    split: (n,) int8, an index into ``SPLITS``.
    dialogue, speaker: (n,) int64 numbers; ``position`` orders the utterances of a dialogue.
    observed: (n, M) bool, False where a modality is naturally missing; M in the order of
        ``modalities``, which is alphabetical.
    fold: (n,) int64 or None.
    """

    name: str
    task: Task
    features: Mapping[str, np.ndarray]
    labels: np.ndarray
    split: np.ndarray
    dialogue: np.ndarray
    position: np.ndarray
    speaker: np.ndarray
    observed: np.ndarray
    ids: tuple[str, ...]
    lengths: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    fold: np.ndarray | None = None
    source: str = ""
    licence: str = ""
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modality names, alphabetical: audio, text, vision for the papers' A, L (or T), V."""
        return tuple(sorted(self.features))

    @property
    def dims(self) -> dict[str, int]:
        """What a network's first layer has to fit: d of (n, d) and (n, t, d), the channels c of images and clips."""
        return {m: shape[-3] if len(shape) > 2 else shape[-1] for m, shape in self.shapes.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one sample of each modality: (d,), (t, d), (c, h, w) or (k, c, h, w)."""
        return {m: tuple(map(int, self.features[m].shape[1:])) for m in self.modalities}

    @property
    def speakers(self) -> int:
        """How many distinct speaker numbers there are."""
        return int(self.speaker.max()) + 1

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of one split, in (dialogue, position) order."""
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        rows = np.flatnonzero(self.split == SPLITS.index(split))
        return rows[np.lexsort((self.position[rows], self.dialogue[rows]))]

    def dialogues(self, split: str) -> list[np.ndarray]:
        """Row numbers of each dialogue of a split, by position; dialogues by number."""
        rows = self.rows(split)
        if len(rows) == 0:
            return []
        return np.split(rows, np.flatnonzero(np.diff(self.dialogue[rows])) + 1)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the arrays, ids, splits and task: 16 hexadecimal digits. Names play no part."""
        digest = hashlib.sha256(repr((self.task, self.ids)).encode())
        for key, array in sorted(_arrays(self).items()):
            digest.update(f"{key}{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def with_fold(self, number: int) -> Bundle:
        """The same data with fold ``number`` as test, the next as validation, the others as train."""
        if self.fold is None:
            raise InputError(
                f"bundle {self.name}",
                "no folds",
                "a fold number per utterance",
                "Leave the fold out, or import the data with a `fold` column.",
            )
        count = int(self.fold.max()) + 1
        if not 0 <= number < count:
            raise InputError(
                "fold", str(number), f"0 to {count - 1}", "Choose a fold in that range."
            )
        split = np.zeros(len(self), dtype=np.int8)
        split[self.fold == (number + 1) % count] = 1
        split[self.fold == number] = 2
        return dataclasses.replace(self, split=split)

    def only(self, modalities: Sequence[str]) -> Bundle:
        """The same data with some modalities alone."""
        for modality in modalities:
            if modality not in self.features:
                raise unknown_name("modality", modality, self.modalities)
        keep = [i for i, m in enumerate(self.modalities) if m in modalities]
        return dataclasses.replace(
            self,
            features={m: self.features[m] for m in sorted(modalities)},
            lengths={m: v for m, v in self.lengths.items() if m in modalities},
            observed=self.observed[:, keep],
        )


def make_bundle(
    name: str,
    task: Task,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    split: np.ndarray | Sequence[str],
    ids: Sequence[str],
    *,
    dialogue: Sequence[Any] | None = None,
    position: Sequence[Any] | None = None,
    speaker: Sequence[Any] | None = None,
    fold: Sequence[Any] | None = None,
    observed: np.ndarray | None = None,
    lengths: Mapping[str, np.ndarray] | None = None,
    source: str = "",
    licence: str = "",
    notes: Mapping[str, Any] | None = None,
) -> Bundle:
    """Build a checked bundle from rows in any order.

    split holds names or indices of ``SPLITS``; dialogue, speaker and fold hold any sortable
    values (each utterance is its own dialogue, by one speaker, where they are left out).
    Features that come as float32 or uint8, contiguous, by sorted ids, are taken as they are, not copied.

    Raises:
        InputError: whatever ``check_bundle`` finds.
    """
    n = len(ids)
    short_names(f"bundle {name}", ids)
    order = np.argsort(np.asarray(ids, dtype=str), kind="stable")
    split_array = np.asarray(split)
    if split_array.dtype.kind in "UO":
        split_array = np.array([_split_index(name, s) for s in split_array], dtype=np.int8)

    def numbered(values: Sequence[Any] | None, default: np.ndarray) -> np.ndarray:
        if values is None:
            return default
        _same_length(name, "dialogue, speaker or fold", len(values), n)
        short_names(f"bundle {name}", values)
        return np.unique(np.asarray(values)[order], return_inverse=True)[1].astype(np.int64)

    for key, array in {**features, "labels": labels, "split": split_array}.items():
        _same_length(name, key, len(array), n)
    label_array = stored(f"bundle {name}", task, np.asarray(labels), ids)[order]
    splits = split_array[order].astype(np.int8)
    folds = numbered(fold, np.zeros(n, np.int64)) if fold is not None else None
    bundle = Bundle(
        name=name,
        task=with_sign(task, label_array, splits, folds),
        features={m: _ordered(_compact(features[m]), order) for m in sorted(features)},
        labels=label_array,
        split=splits,
        dialogue=numbered(dialogue, np.arange(n, dtype=np.int64)),
        position=np.asarray(position)[order].astype(np.int64)
        if position is not None
        else np.arange(n),
        speaker=numbered(speaker, np.zeros(n, dtype=np.int64)),
        observed=np.ones((n, len(features)), bool)
        if observed is None
        else np.asarray(observed, bool)[order],
        ids=tuple(str(ids[i]) for i in order),
        lengths={m: np.asarray(v, np.int64)[order] for m, v in sorted((lengths or {}).items())},
        fold=folds,
        source=source,
        licence=licence,
        notes=dict(notes or {}),
    )
    check_bundle(bundle)
    return bundle


def check_bundle(bundle: Bundle) -> None:
    """Hold a bundle to its contract.

    Raises:
        InputError: fewer than two modalities, one whose name none can have, wrong shapes, non-finite features or
            labels, labels out of range or all the same, repeated ids, a dialogue across splits or folds, an empty
            split, fewer than three folds, a class that train lacks, or an utterance with nothing observed.
    """
    where, n = f"bundle {bundle.name}", len(bundle)
    if len(bundle.features) < 2:
        raise InputError(
            where, f"{len(bundle.features)} modality", "two or more", "Add a modality's features."
        )
    if len(set(bundle.ids)) != n:
        twice = next(a for a, b in zip(bundle.ids, bundle.ids[1:], strict=False) if a == b)
        raise InputError(
            where,
            f"the utterance {twice!r} twice",
            "unique ids",
            "Remove the copy: an utterance stands in one split only.",
        )
    if bundle.observed.shape != (n, len(bundle.features)):
        raise InputError(
            where,
            f"observed of shape {bundle.observed.shape}",
            f"({n}, {len(bundle.features)})",
            "Give one column per modality, in alphabetical order.",
        )
    for modality in bundle.modalities:
        names.check_modality(f"{where}, modality", modality)
        _check_features(where, bundle, modality)
    check_labels(where, bundle)
    check_varied(where, bundle)
    if not bundle.observed.any(axis=1).all():
        row = int(np.flatnonzero(~bundle.observed.any(axis=1))[0])
        raise InputError(
            where,
            f"utterance {bundle.ids[row]!r} with no modality observed",
            "at least one",
            "Remove the utterance.",
        )
    for index, split in enumerate(SPLITS):
        if not (bundle.split == index).any():
            raise InputError(
                where,
                f"an empty {split} split",
                "at least one utterance in each split",
                "Mark some utterances of the data for it.",
            )
    _check_whole(where, bundle, bundle.split, "split")
    if bundle.fold is not None:
        count = len(np.unique(bundle.fold))
        if count < 3 or not 0 <= bundle.fold.min() <= bundle.fold.max() < count:
            raise InputError(
                f"{where}, fold",
                f"{count} folds, {bundle.fold.min()} to {bundle.fold.max()}",
                "three or more, from 0: one tests, the next validates, the others train",
                "Deal the dialogues to more folds, or leave the fold out.",
            )
        _check_whole(where, bundle, bundle.fold, "fold")
        for number in range(count):
            check_labels(f"{where}, fold {number}", bundle.with_fold(number))


def _check_whole(where: str, bundle: Bundle, part: np.ndarray, kind: str) -> None:
    pairs = np.unique(np.stack([bundle.dialogue, part]), axis=1)[0]
    crossing = pairs[:-1][np.diff(pairs) == 0]
    if len(crossing):
        row = int(np.flatnonzero(bundle.dialogue == crossing[0])[0])
        raise InputError(
            where,
            f"the dialogue of utterance {bundle.ids[row]!r} in two {kind}s",
            f"whole dialogues in one {kind}",
            f"Move its utterances into one {kind}.",
        )


def save_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a bundle's folder, or replace the bundle in it; a kill in between leaves the old one, or none.

    Raises:
        InputError: a name that names no folder, or a folder of other files or that cannot be written: left as it was.
    """
    names.check_bundle_name("bundle name", bundle.name)
    head = {
        "format": FORMAT,
        "name": bundle.name,
        "task": dataclasses.asdict(bundle.task),
        "ids": bundle.ids,
        "source": bundle.source,
        "licence": bundle.licence,
        "notes": dict(bundle.notes),
        "fingerprint": bundle.fingerprint,
    }
    replace_bundle(folder, head, _arrays(bundle))


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle folder; the arrays are memory-mapped.

    Raises:
        InputError: no bundle there, or one that is damaged, from a later format, or with names that none can have.
    """
    return newest(folder, _load)


def _load(folder: Path) -> Bundle:
    path = folder / HEAD
    if not path.exists():
        raise InputError(
            str(folder), "no bundle.json", "a bundle folder", "Make one with `mmlib data import`."
        )
    try:
        head = read_head(path, FORMAT)
        arrays = read_arrays(folder / arrays_file(head), len(head["ids"]))
        task = head["task"]
        bundle = Bundle(
            name=head["name"],
            task=with_sign(
                Task(
                    task["kind"],
                    tuple(task["names"]),
                    tuple(task["range"]) if task["range"] else None,
                ),
                arrays["labels"],
                arrays["split"],
                arrays.get("fold"),
            ),
            features=_under(arrays, "features."),
            lengths=_under(arrays, "lengths."),
            ids=tuple(head["ids"]),
            source=head["source"],
            licence=head["licence"],
            notes=head["notes"],
            fold=arrays.get("fold"),
            **{
                k: arrays[k]
                for k in ("labels", "split", "dialogue", "position", "speaker", "observed")
            },
        )
    except ValueError as error:
        raise InputError(
            str(folder),
            f"a damaged bundle ({error})",
            "what `mmlib data import` wrote",
            "Import the data again.",
        ) from error
    if bundle.fingerprint != head["fingerprint"]:
        raise InputError(
            str(folder),
            f"fingerprint {bundle.fingerprint}",
            head["fingerprint"],
            "The files have changed since they were imported: import the data again.",
        )
    names.check_bundle_name(
        f"{path}, name", bundle.name, "Correct the name in the file, or import the data again."
    )
    for modality in bundle.modalities:
        names.check_modality(
            f"{folder}, modality", modality, "Import the data again with another name for it."
        )
    check_bundle(bundle)
    return bundle


def _arrays(bundle: Bundle) -> dict[str, np.ndarray]:
    arrays = {f"features.{m}": v for m, v in bundle.features.items()}
    arrays |= {f"lengths.{m}": v for m, v in bundle.lengths.items()}
    for key in ("labels", "split", "dialogue", "position", "speaker", "observed", *_OPTIONAL):
        if getattr(bundle, key) is not None:
            arrays[key] = getattr(bundle, key)
    return arrays


def _under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in sorted(arrays.items()) if k.startswith(prefix)}


def _compact(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    return array if array.dtype == np.uint8 else array.astype(np.float32, copy=False)


def _ordered(array: np.ndarray, order: np.ndarray) -> np.ndarray:
    return array if array.flags.carray and (order == np.arange(len(order))).all() else array[order]


def _split_index(name: str, split: object) -> int:
    if split not in SPLITS:
        raise unknown_name(f"bundle {name}, split", split, SPLITS)
    return SPLITS.index(str(split))


def _same_length(name: str, key: str, found: int, n: int) -> None:
    if found != n:
        raise InputError(
            f"bundle {name}, {key}",
            f"{found} rows",
            f"{n} rows, one per id",
            "Give every array the same rows in the same order.",
        )


def _check_features(where: str, bundle: Bundle, modality: str) -> None:
    array, here = bundle.features[modality], f"{where}, {modality}"
    if not 2 <= array.ndim <= 5 or 0 in array.shape:
        raise InputError(
            here,
            f"shape {array.shape}",
            "(n, d) or (n, t, d) with d of 1 or more, (n, c, h, w) or (n, k, c, h, w)",
            "Give one vector, one sequence of vectors, or images, per utterance.",
        )
    lengths = bundle.lengths.get(modality)
    if lengths is not None and array.ndim != 3:
        raise InputError(
            here,
            f"lengths, and shape {array.shape}",
            "lengths of (n, t, d) alone",
            "Leave them out.",
        )
    if lengths is not None and ((lengths < 1) | (lengths > array.shape[1])).any():
        raise InputError(
            here,
            f"lengths from {lengths.min()} to {lengths.max()}",
            f"1 to {array.shape[1]}",
            "Correct the lengths.",
        )
    if array.dtype == np.uint8:
        return
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    bad &= bundle.observed[:, bundle.modalities.index(modality)]
    if bad.any():
        counts = {s: int(bad[bundle.split == i].sum()) for i, s in enumerate(SPLITS)}
        raise InputError(
            here,
            f"NaN or infinite features in {int(bad.sum())} utterances {counts}",
            "finite numbers",
            "Mend them, or mark them as not observed.",
        )
