"""Standardisation of a modality's array: the mean and sd over some of its vectors or frames, and what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Scaling = Mapping[str, Sequence[float]]
"""``mean`` and ``sd``, (d,) each: raw features less the one and over the other are a bundle's."""


@dataclass(frozen=True)
class Counted:
    """A modality's array, and what of it counts."""

    values: np.ndarray
    """(n, d) or (n, t, d); other arrays are pictures, which are not scaled."""

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
    from sklearn.preprocessing import StandardScaler  # takes a second, and few commands need it

    scaler = StandardScaler().fit(part.values[part.train].astype(np.float64))
    scaled_values = np.zeros(part.values.shape, dtype=np.float32)
    scaled_values[part.counts] = scaler.transform(part.values[part.counts].astype(np.float64))
    mean, sd = scaler.mean_, scaler.scale_
    if before is not None:
        mean = np.asarray(before["mean"]) + np.asarray(before["sd"]) * mean
        sd = np.asarray(before["sd"]) * sd
    return scaled_values, {"mean": mean.tolist(), "sd": sd.tolist()}


def scaled(raw: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Raw features (..., d) as a bundle with this scaling of their modality has them, float32."""
    mean, sd = (np.asarray(scaling[name], dtype=np.float64) for name in ("mean", "sd"))
    return ((np.asarray(raw, dtype=np.float64) - mean) / sd).astype(np.float32)


def zero(scaling: Scaling) -> np.ndarray:
    """(d,) what a raw row of zeros alone has become."""
    return scaled(np.zeros(len(scaling["mean"])), scaling)
