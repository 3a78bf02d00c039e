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
from mmlib.data.bundle_file import checked_scaling, read_arrays, read_head, short_names
from mmlib.data.keep import HEAD, arrays_file, newest, replace_bundle
from mmlib.data.labels import check_labels, check_varied, stored, with_sign
from mmlib.data.scaling import Counted, Scaling, counted, fits, in_32_bits, standardise
from mmlib.errors import InputError, unknown_name

SPLITS = ("train", "valid", "test")
FORMAT = 1
_PER_ROW = ("labels", "split", "dialogue", "position", "speaker", "observed")
_OPTIONAL = ("fold",)


@dataclass(frozen=True)
class Task:
    """What is predicted."""

    kind: Literal["classes", "score", "binaries"]
    """``classes`` (labels are class indices), ``score`` (labels are real numbers in ``range``) or ``binaries``
    (labels are (n, K) zeros and ones, one column per name)."""

    names: tuple[str, ...] = ()
    """The names of the classes, or of the binary labels; empty for a score."""

    range: tuple[float, float] | None = None
    """The lowest and the highest score; None for other kinds."""

    signed: bool = dataclasses.field(default=True, repr=False, compare=False)
    """Whether scores lie on both sides of 0, so that their sign can be asked for; bundles compute it from their
    labels, and it is no part of their fingerprint."""

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
    """A data set of n utterances."""

    name: str
    """What it is called in messages, results and on disk."""

    task: Task
    """What is predicted."""

    features: Mapping[str, np.ndarray]
    """Modality to (n, d), (n, t, d) with ``lengths`` (frames), (n, c, h, w) images or spectrograms, or
    (n, k, c, h, w) clips of k images; float32, or uint8 for pixels."""

    labels: np.ndarray
    """(n,) int64 for classes, (n,) float32 for a score, (n, K) int64 for binaries."""

    split: np.ndarray
    """(n,) int8, an index into ``SPLITS``."""

    dialogue: np.ndarray
    """(n,) int64, the number of each utterance's dialogue."""

    position: np.ndarray
    """(n,) int64, which orders the utterances of a dialogue."""

    speaker: np.ndarray
    """(n,) int64, the number of each utterance's speaker."""

    observed: np.ndarray
    """(n, M) bool, False where a modality is naturally missing; M in the order of ``modalities``, which is
    alphabetical."""

    ids: tuple[str, ...]
    """The utterances' names, sorted and each once."""

    lengths: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Modality to (n,) int64, how many frames of each sequence count."""

    fold: np.ndarray | None = None
    """(n,) int64, the number of each utterance's fold; None where there are no folds."""

    source: str = ""
    """Where the data come from, in words."""

    licence: str = ""
    """The licence of the data, in words."""

    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What else a user should know of how the bundle was made, by topic."""

    scaling: Mapping[str, Scaling] = dataclasses.field(default_factory=dict)
    """Modality to the mean and sd by which its raw features were standardised; absent where they were not."""

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
        if self.scaling and self.fold is not None:
            digest.update(f"standardised in each fold: {sorted(self.scaling)}".encode())
        return digest.hexdigest()[:16]

    def with_fold(self, number: int) -> Bundle:
        """The same data with fold ``number`` as test, the next as validation, the others as train.

        Standardised features are so over the training rows of the fold.
        """
        folded = self._with_split_of_fold(number)
        return folded.standardised_over_train() if self.scaling else folded

    def counted(self, modality: str) -> Counted:
        """What of a modality is there, and of it what training has."""
        values, lengths = self.features[modality], self.lengths.get(modality)
        observed = self.observed[:, self.modalities.index(modality)]
        return counted(values, observed, lengths, self.split == 0)

    def standardised_over_train(self) -> Bundle:
        """The same data, vectors and frames with mean 0 and sd 1 over what training has of them."""
        features, scaling = dict(self.features), dict(self.scaling)
        for modality in self.modalities:
            part = self.counted(modality)
            if part.scales:
                features[modality], scaling[modality] = standardise(part, scaling.get(modality))
        return dataclasses.replace(self, features=features, scaling=scaling)

    def _with_split_of_fold(self, number: int) -> Bundle:
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
            scaling={m: v for m, v in self.scaling.items() if m in modalities},
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
    wide: bool = False,
) -> Bundle:
    """Build a checked bundle from rows in any order.

    split holds names or indices of ``SPLITS``; dialogue, speaker and fold hold any sortable
    values (each utterance is its own dialogue, by one speaker, where they are left out).
    Features that come as float32 or uint8, contiguous, by sorted ids, are taken as they are, not copied.
    wide: float64 ones keep their bits, for ``standardise`` to round.

    Raises:
        InputError: whatever ``check_bundle`` finds.
    """
    splits = _split_of_rows(name, ids, {**features, "labels": labels}, split)
    order = np.argsort(np.asarray(ids, dtype=str), kind="stable")
    arrays = {
        "labels": stored(f"bundle {name}", task, np.asarray(labels), ids)[order],
        "split": splits[order].astype(np.int8),
        **_groups(name, order, fold=fold, dialogue=dialogue, speaker=speaker),
        **_positions_and_observed(order, len(features), position, observed),
    }
    kept = features if wide else {m: in_32_bits(np.asarray(v)) for m, v in features.items()}
    bundle = _assembled(name, task, ids, order, kept, lengths or {}, arrays)
    bundle = dataclasses.replace(bundle, source=source, licence=licence, notes=dict(notes or {}))
    check_bundle(bundle)
    return bundle


def _split_of_rows(
    name: str,
    ids: Sequence[str],
    arrays: Mapping[str, np.ndarray],
    split: np.ndarray | Sequence[str],
) -> np.ndarray:
    """(n,) the split as indices of ``SPLITS``, once ids, arrays and split are known to have the same rows."""
    short_names(f"bundle {name}", ids)
    splits = np.asarray(split)
    if splits.dtype.kind in "UO":
        splits = np.array([_split_index(name, s) for s in splits], dtype=np.int8)
    for key, array in {**arrays, "split": splits}.items():
        _same_length(name, key, len(array), len(ids))
    return splits


def _groups(
    name: str,
    order: np.ndarray,
    fold: Sequence[Any] | None,
    dialogue: Sequence[Any] | None,
    speaker: Sequence[Any] | None,
) -> dict[str, Any]:
    """Folds, dialogues and speakers by number, rows in order; without them no fold, a dialogue each, one speaker."""
    n = len(order)
    return {
        "fold": None if fold is None else _numbered(name, order, fold),
        "dialogue": np.arange(n, dtype=np.int64)
        if dialogue is None
        else _numbered(name, order, dialogue),
        "speaker": np.zeros(n, dtype=np.int64)
        if speaker is None
        else _numbered(name, order, speaker),
    }


def _numbered(name: str, order: np.ndarray, values: Sequence[Any]) -> np.ndarray:
    """(n,) the place of each value among the different ones, sorted; rows in order."""
    _same_length(name, "dialogue, speaker or fold", len(values), len(order))
    short_names(f"bundle {name}", values)
    return np.unique(np.asarray(values)[order], return_inverse=True)[1].astype(np.int64)


def _positions_and_observed(
    order: np.ndarray, modalities: int, position: Sequence[Any] | None, observed: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Both with rows in order; where they are left out, the row itself, and all observed."""
    n = len(order)
    return {
        "position": np.arange(n)
        if position is None
        else np.asarray(position)[order].astype(np.int64),
        "observed": np.ones((n, modalities), bool)
        if observed is None
        else np.asarray(observed, bool)[order],
    }


def _assembled(
    name: str,
    task: Task,
    ids: Sequence[str],
    order: np.ndarray,
    features: Mapping[str, np.ndarray],
    lengths: Mapping[str, np.ndarray],
    arrays: Mapping[str, Any],
) -> Bundle:
    """A bundle of arrays that are in order, and of ids, features and lengths that are brought into it."""
    return Bundle(
        name=name,
        task=with_sign(task, arrays["labels"], arrays["split"], arrays["fold"]),
        features={m: _ordered(features[m], order) for m in sorted(features)},
        ids=tuple(str(ids[i]) for i in order),
        lengths={m: np.asarray(v, np.int64)[order] for m, v in sorted(lengths.items())},
        **arrays,
    )


def check_bundle(bundle: Bundle) -> None:
    """Hold a bundle to its contract.

    Raises:
        InputError: fewer than two modalities, one whose name none can have, wrong shapes, non-finite features or
            labels, labels out of range or all the same, repeated ids, a dialogue across splits or folds, an empty
            split, fewer than three folds, a class that train lacks, or an utterance with nothing observed.
    """
    where = f"bundle {bundle.name}"
    _check_rows(where, bundle)
    for modality in bundle.modalities:
        names.check_modality(f"{where}, modality", modality)
        _check_features(where, bundle, modality)
    check_labels(where, bundle)
    check_varied(where, bundle)
    _check_observed(where, bundle)
    _check_splits(where, bundle)
    if bundle.fold is not None:
        _check_folds(where, bundle, bundle.fold)


def _check_rows(where: str, bundle: Bundle) -> None:
    """Two modalities or more, ids that differ, and a column of ``observed`` for each modality."""
    n, modalities = len(bundle), len(bundle.features)
    if modalities < 2:
        raise InputError(
            where, f"{modalities} modality", "two or more", "Add a modality's features."
        )
    if len(set(bundle.ids)) != n:
        twice = next(a for a, b in zip(bundle.ids, bundle.ids[1:], strict=False) if a == b)
        raise InputError(
            where,
            f"the utterance {twice!r} twice",
            "unique ids",
            "Remove the copy: an utterance stands in one split only.",
        )
    if bundle.observed.shape != (n, modalities):
        raise InputError(
            where,
            f"observed of shape {bundle.observed.shape}",
            f"({n}, {modalities})",
            "Give one column per modality, in alphabetical order.",
        )


def _check_observed(where: str, bundle: Bundle) -> None:
    lacking = np.flatnonzero(~bundle.observed.any(axis=1))
    if len(lacking):
        more = f", and {len(lacking) - 1} more" * (len(lacking) > 1)
        raise InputError(
            where,
            f"utterance {bundle.ids[int(lacking[0])]!r} with no modality observed{more}",
            "at least one",
            "Remove the utterances: nothing can be said of them.",
        )


def _check_splits(where: str, bundle: Bundle) -> None:
    for index, split in enumerate(SPLITS):
        if not (bundle.split == index).any():
            raise InputError(
                where,
                f"an empty {split} split",
                "at least one utterance in each split",
                "Mark some utterances of the data for it.",
            )
    _check_whole(where, bundle, bundle.split, "split")


def _check_folds(where: str, bundle: Bundle, fold: np.ndarray) -> None:
    count = len(np.unique(fold))
    if count < 3 or not 0 <= fold.min() <= fold.max() < count:
        raise InputError(
            f"{where}, fold",
            f"{count} folds, {fold.min()} to {fold.max()}",
            "three or more, from 0: one tests, the next validates, the others train",
            "Deal the dialogues to more folds, or leave the fold out.",
        )
    _check_whole(where, bundle, fold, "fold")
    for number in range(count):
        check_labels(f"{where}, fold {number}", bundle._with_split_of_fold(number))


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
        "scaling": {m: {name: list(v) for name, v in s.items()} for m, s in bundle.scaling.items()},
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
        bundle = _from_files(head, read_arrays(folder / arrays_file(head), len(head["ids"])))
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


def _from_files(head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Bundle:
    """The bundle whose two files hold a head and arrays."""
    task, fold = head["task"], arrays.get("fold")
    bounds = tuple(task["range"]) if task["range"] else None
    return Bundle(
        name=head["name"],
        task=with_sign(
            Task(task["kind"], tuple(task["names"]), bounds),
            arrays["labels"],
            arrays["split"],
            fold,
        ),
        features=_under(arrays, "features."),
        lengths=_under(arrays, "lengths."),
        ids=tuple(head["ids"]),
        source=head["source"],
        licence=head["licence"],
        notes=head["notes"],
        scaling=checked_scaling(head, arrays),
        fold=fold,
        **{key: arrays[key] for key in _PER_ROW},
    )


def _arrays(bundle: Bundle) -> dict[str, np.ndarray]:
    arrays = {f"features.{m}": v for m, v in bundle.features.items()}
    arrays |= {f"lengths.{m}": v for m, v in bundle.lengths.items()}
    for key in (*_PER_ROW, *_OPTIONAL):
        if getattr(bundle, key) is not None:
            arrays[key] = getattr(bundle, key)
    return arrays


def _under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in sorted(arrays.items()) if k.startswith(prefix)}


def _ordered(array: np.ndarray, order: np.ndarray) -> np.ndarray:
    return array if array.flags.carray and (order == np.arange(len(order))).all() else array[order]


def _split_index(name: str, split: object) -> int:
    if split not in SPLITS:
        raise unknown_name(f"bundle {name}, split", split, SPLITS)
    return SPLITS.index(str(split))


def _same_length(name: str, key: str, rows: int, n: int) -> None:
    if rows != n:
        raise InputError(
            f"bundle {name}, {key}",
            f"{rows} rows",
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
            "Correct the lengths; 0 is right where the modality is marked as not observed.",
        )
    if array.dtype == np.uint8:
        return
    bad = ~fits(array)
    bad &= bundle.observed[:, bundle.modalities.index(modality)]
    if bad.any():
        counts = {s: int(bad[bundle.split == i].sum()) for i, s in enumerate(SPLITS)}
        raise InputError(
            here,
            f"NaN or infinite features in {int(bad.sum())} utterances {counts}",
            "finite numbers",
            f"Mend them, or mark them as not observed (in a folder: {modality}_observed.npy). Numbers beyond "
            "3.4e38 count as infinite.",
        )
