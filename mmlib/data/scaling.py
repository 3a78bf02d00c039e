"""Standardisation of a modality's array: the mean and sd over some of its vectors or frames, and what they do.

All of it is computed in 64 bits, a block of rows at a time; what is rounded to the 32 bits of a bundle comes last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BLOCK = 2**19  # values that are widened to 64 bits at a time
LARGEST = float(np.finfo(np.float32).max)
APART = 1e-3  # sds: values further apart than this must stay so in 32 bits
NOISE = 1e-12  # of the mean: values that differ by less are one value that a sum has rounded

Scaling = Mapping[str, Sequence[float]]
"""``mean`` and ``sd``, (d,) each: raw features less the one and over the other are a bundle's."""


@dataclass(frozen=True)
class Counted:
    """A modality's array, and what of it counts."""

    values: np.ndarray
    """(n, d) or (n, t, d), float32 or float64; other arrays are pictures, which are not scaled."""

    counts: np.ndarray
    """(n,) or (n, t) bool: the vectors or frames that are there."""

    train: np.ndarray
    """The same shape, those of them that training has."""

    @property
    def scales(self) -> bool:
        """Whether it can be scaled: vectors or frames, of which training has one."""
        return has_vectors(self.values) and bool(self.train.any())


def has_vectors(values: np.ndarray) -> bool:
    """Whether an array holds vectors or frames, not pictures."""
    return values.ndim in (2, 3) and values.dtype != np.uint8


def counted(
    values: np.ndarray, observed: np.ndarray, lengths: np.ndarray | None, train: np.ndarray
) -> Counted:
    """What counts of a modality's array.

    observed, train: (n,) bool. lengths: (n,) frames of each sequence that exist; None for all.
    """
    if values.ndim != 3:
        return Counted(values, observed, observed & train)
    frames = values.shape[1]
    ends = np.full(len(values), frames) if lengths is None else lengths
    counts = observed[:, None] & (np.arange(frames) < ends[:, None])
    return Counted(values, counts, counts & train[:, None])


def standardise(part: Counted, before: Scaling | None) -> tuple[np.ndarray, Scaling]:
    """The array with mean 0 and sd 1 over what training has, and the mean and sd that make raw values so.

    before: by which the array was scaled already; None where it is raw. What does not count becomes zero.
    """
    mean, sd = _mean_and_sd(part.values, part.train)
    sd = np.where(sd == 0, 1, sd)
    scaled_values = np.zeros(part.values.shape, dtype=np.float32)
    for rows, there in blocks(part.values, part.counts):
        scaled_values[rows][part.counts[rows]] = (there - mean) / sd
    if before is not None:
        mean = np.asarray(before["mean"]) + np.asarray(before["sd"]) * mean
        sd = np.asarray(before["sd"]) * sd
    return scaled_values, {"mean": mean.tolist(), "sd": sd.tolist()}


def _mean_and_sd(values: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(d,) mean and sd over the chosen vectors or frames; sd 0 where they are the same but for rounding.

    The two passes of Chan, Golub and LeVeque, one vector after the other in their order, as scikit-learn's
    ``StandardScaler`` does it on the whole array: the same bits, in the memory of a block.
    """
    n, d = int(chosen.sum()), values.shape[-1]
    total, error, squares = np.zeros(d), np.zeros(d), np.zeros(d)
    for _, there in blocks(values, chosen):
        total = _added(total, there)
    mean = total / n
    for _, there in blocks(values, chosen):
        there -= mean
        error = _added(error, there)
        squares = _added(squares, np.square(there, out=there))
    variance = (squares - error**2 / n) / n
    least = n * np.finfo(np.float64).eps
    same = variance <= least * variance + (least * mean) ** 2
    return mean, np.sqrt(np.where(same, 0, variance))


def _added(total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(d,) the total and each row after it, in this order; of a single dimension as NumPy sums."""
    if rows.shape[1] == 1:
        return total + rows.sum(axis=0)
    return np.add.reduce(np.concatenate([total[None], rows]), axis=0)


def blocks(values: np.ndarray, chosen: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Some rows, and those of their vectors or frames that are chosen, (k, d) in float64; none where none is."""
    step = max(1, BLOCK // max(1, int(np.prod(values.shape[1:]))))
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        if chosen[rows].any():
            yield rows, values[rows][chosen[rows]].astype(np.float64, order="C")


def fits(values: np.ndarray) -> np.ndarray:
    """(n,) whether all numbers of a row are finite in 32 bits too; bytes are."""
    step = max(1, BLOCK // max(1, int(np.prod(values.shape[1:]))))
    parts = [values[start : start + step] for start in range(0, len(values), step)]
    return np.concatenate(
        [(np.abs(part) <= LARGEST).reshape(len(part), -1).all(axis=1) for part in parts]
    )


def floats(values: np.ndarray) -> np.ndarray:
    """Numbers of any kind as float32 where it holds them all, else as float64; no copy where they are so already."""
    exact = np.can_cast(values.dtype, np.float32)
    with np.errstate(over="ignore"):
        return values.astype(np.float32 if exact else np.float64, copy=False)


def in_32_bits(values: np.ndarray) -> np.ndarray:
    """The array in the 32 bits of a bundle; float32 and bytes are not copied, and what is too large is infinite."""
    with np.errstate(over="ignore"):
        return values if values.dtype == np.uint8 else values.astype(np.float32, copy=False)


def lost(values: np.ndarray, counts: np.ndarray) -> int | None:
    """The first dimension in which 32 bits lose what tells values apart; None where they keep it.

    values: (n, ..., d). counts: (n,) or, of frames, (n, t) bool: what is there. Of pictures each place is a dimension.
    """
    if values.dtype != np.float64 or not counts.any():
        return None
    flat = values if has_vectors(values) else values.reshape(len(values), -1)
    mean, sd = _mean_and_sd(flat, counts)
    moved = np.zeros(len(mean))
    for _, there in blocks(flat, counts):
        moved = np.maximum(moved, np.abs(there - in_32_bits(there)).max(axis=0))
    wrong = np.flatnonzero((moved > APART * sd) & (sd > NOISE * np.abs(mean)))
    return int(wrong[0]) if len(wrong) else None


def scaled(raw: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Raw features (..., d) as a bundle with this scaling of their modality has them, float32."""
    mean, sd = (np.asarray(scaling[name], dtype=np.float64) for name in ("mean", "sd"))
    return ((np.asarray(raw, dtype=np.float64) - mean) / sd).astype(np.float32)


def zero(scaling: Scaling) -> np.ndarray:
    """(d,) what a raw row of zeros alone has become."""
    return scaled(np.zeros(len(scaling["mean"])), scaling)
