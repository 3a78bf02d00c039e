"""What the frame-level pickles share: train, valid and test, each with arrays of frames by modality.

Frames are moved to the front of their sequence, as ``Bundle.lengths`` has them: some releases pad at the end, others
at the front. A frame is padding where it is zero, at either end of the sequence, in every modality of a word-aligned
file (so that frames stay aligned), or in its own modality where modalities have steps of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmlib.data.bundle import SPLITS
from mmlib.data.readers.common import single
from mmlib.data.unpickle import safe_load
from mmlib.errors import InputError

MODALITIES = ("audio", "text", "vision")
Parts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Frames:
    """Sequences without padding before them."""

    features: Mapping[str, np.ndarray]
    """Modality to (n, t, d) float32."""

    lengths: Mapping[str, np.ndarray]
    """Modality to (n,), 1 or more."""

    observed: np.ndarray
    """(n, M) bool, False where every frame is zero; all True where that is so in every modality."""


def load_splits(path: Path, needed: Sequence[str]) -> Parts:
    """Split to what the pickle holds of it, read safely.

    Raises:
        InputError: what ``safe_load`` raises, or a pickle without the splits or one of the ``needed`` keys.
    """
    content = safe_load(path)
    names = sorted(map(str, content)) if isinstance(content, dict) else []
    if not set(SPLITS) <= set(names) or not all(
        isinstance(content[split], dict) for split in SPLITS
    ):
        description = f"the keys {', '.join(names[:9])}" if names else f"a {type(content).__name__}"
        raise InputError(
            str(path),
            description,
            "a dictionary of train, valid and test, each a dictionary of arrays",
            "Give the pickle of the release itself.",
        )
    for split in SPLITS:
        for key in needed:
            if key not in content[split]:
                raise InputError(
                    f"{path}, {split}",
                    f"the keys {', '.join(sorted(map(str, content[split])))}",
                    f"{key!r} among them",
                    "Give the pickle of the release itself.",
                )
    return {split: content[split] for split in SPLITS}


def rows_of(path: Path, parts: Parts) -> dict[str, int]:
    """How many utterances each split has, by its audio.

    Raises:
        InputError: audio, text or vision that are no numbers, not (n, t, d), or of other rows, steps or dims.
    """
    for modality in MODALITIES:
        first = np.shape(parts["train"][modality])
        for split in SPLITS:
            array = np.asarray(parts[split][modality])
            expected = (len(np.asarray(parts[split]["audio"])), *first[1:])
            if array.dtype.kind not in "fiub" or array.ndim != 3 or array.shape != expected:
                raise InputError(
                    f"{path}, {split}, {modality}",
                    f"{array.dtype} of shape {array.shape}",
                    f"numbers of shape (n, t, d), here {expected}",
                    "Use one release's arrays, unchanged.",
                )
    return {split: len(np.asarray(parts[split]["audio"])) for split in SPLITS}


def column(path: Path, parts: Parts, key: str, axes: tuple[int, ...] = ()) -> np.ndarray:
    """(n, *axes) float64: the numbers under a key, all splits after one another.

    Raises:
        InputError: another count, another shape, or entries that are no numbers.
    """
    columns = []
    for split, count in rows_of(path, parts).items():
        try:
            array = np.asarray(parts[split][key], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path}, {split}, {key}",
                f"entries that are no numbers ({error})",
                "numbers",
                "Use one release's arrays, unchanged.",
            ) from error
        if array.size != count * int(np.prod(axes)) or len(array) != count:
            raise InputError(
                f"{path}, {split}, {key}",
                f"shape {array.shape}",
                str((count, *axes)),
                "Use one release's arrays, unchanged.",
            )
        columns.append(array.reshape(count, *axes))
    return np.concatenate(columns)


def frames(path: Path, parts: Parts, stated: Mapping[str, np.ndarray]) -> tuple[Frames, int]:
    """The frames of all splits after one another, and how many numbers in audio were minus infinity.

    stated: modality to (n,) lengths that the file states; of the others they follow from the zeros.
    Minus infinity in audio (COVAREP's logarithm of silence) becomes 0, as the releases' own code has it.

    Raises:
        InputError: what ``rows_of`` raises, or stated lengths that leave frames out.
    """
    rows_of(path, parts)
    features = {
        m: np.concatenate([single(np.asarray(parts[s][m])) for s in SPLITS]) for m in MODALITIES
    }
    silent = features["audio"] == -np.inf
    features["audio"][silent] = 0
    exists = {m: np.any(array, axis=2) for m, array in features.items()}
    aligned = not stated and len({array.shape[1] for array in features.values()}) == 1
    together = np.logical_or.reduce(list(exists.values())) if aligned else None
    lengths = {}
    for modality, array in features.items():
        first, end = _ends(exists[modality] if together is None else together)
        if modality in stated:
            first, end = _placed(
                f"{path}, {modality}_lengths", first, end, stated[modality], array.shape[1]
            )
        for row in np.flatnonzero(first):
            array[row] = np.roll(array[row], -first[row], axis=0)
        lengths[modality] = np.maximum(end - first, 1)
    observed = np.stack([exists[m].any(axis=1) for m in MODALITIES], axis=1)
    observed[~observed.any(axis=1)] = True
    return Frames(features, lengths, observed), int(silent.sum())


def _ends(exists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first frame that exists and the one after the last, (n,) each; 0 and 0 where there is none."""
    some = exists.any(axis=1)
    first = np.where(some, exists.argmax(axis=1), 0)
    return first, np.where(some, exists.shape[1] - exists[:, ::-1].argmax(axis=1), 0)


def _placed(
    where: str, first: np.ndarray, end: np.ndarray, stated: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where sequences of the stated lengths begin and end: at the front, or else at the back."""
    length = np.minimum(stated, steps)
    start = np.where(end <= length, 0, steps - length)
    wrong = (stated < 0) | (stated != np.floor(stated)) | (first < start) & (end > first)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            where,
            f"{int(wrong.sum())} lengths that leave frames out, {stated[row]:g} for frames "
            f"{first[row]} to {end[row] - 1} first",
            "zeros beyond the length",
            "Give --option lengths=zeros, to take the frames that are not zero.",
        )
    return start.astype(int), (start + length).astype(int)
