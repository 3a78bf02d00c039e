"""MCULoRA's and EBMC's laws: combinations of modalities, drawn for utterances or dialogues."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from mmlib.errors import InputError
from mmlib.masks.draw import Drawing, Kind
from mmlib.masks.law import Law, Mask


def random_missing(resampled: bool = False) -> Law:
    """One or two modalities missing in each utterance, both equally likely (MCULoRA's protocol)."""
    return Law("random", resampled=resampled)


def patterns(resampled: bool = True) -> Law:
    """Each dialogue in one of the 2^M - 1 combinations of modalities, drawn with given shares (MCULoRA section 3.4)."""
    return Law("patterns", resampled=resampled)


def combinations(count: int) -> np.ndarray:
    """(2^M - 1, M) bool: the combinations of M modalities without the empty one, read as binary numbers from 1."""
    return np.array(list(itertools.product((False, True), repeat=count)))[1:]


def one_or_two_missing(n: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """(n, count) bool: one or two of the modalities missing in each row, one at least observed."""
    missing = generator.integers(1, min(2, count - 1) + 1, size=n)
    rank = np.argsort(np.argsort(generator.random((n, count)), axis=1), axis=1)
    return rank >= missing[:, None]


def mean_missing_rate(count: int) -> float:
    """A modality's missing rate under ``one_or_two_missing``."""
    return (1 + min(2, count - 1)) / 2 / count


def _random(law: Law, drawing: Drawing) -> Mask:
    return Mask(one_or_two_missing(*drawing.shape, drawing.joint))


def _by_dialogue(law: Law, drawing: Drawing) -> Mask:
    known = combinations(drawing.shape[1])
    weights = _weights(drawing.shares, len(known))
    _, place = np.unique(drawing.bundle.dialogue[drawing.rows], return_inverse=True)
    uniform = drawing.joint.random(place.max() + 1)
    of_dialogue = np.searchsorted(np.cumsum(weights)[:-1], uniform, side="right")
    return Mask(known[of_dialogue[place]])


def _weights(shares: np.ndarray | None, count: int) -> np.ndarray:
    """The combinations' shares, equal where none are given."""
    weights = np.full(count, 1 / count) if shares is None else np.asarray(shares, dtype=np.float64)
    proper = (
        weights.shape == (count,)
        and (weights >= 0).all()
        and math.isclose(weights.sum(), 1, abs_tol=1e-6)
    )
    if not proper:
        raise InputError(
            "mask law patterns", f"shares {weights}", f"{count} that sum to 1", "Correct them."
        )
    return weights


def _of_random(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(modalities, mean_missing_rate(len(modalities)))


def _of_patterns(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    count = len(modalities)
    return dict.fromkeys(modalities, 1 - 2 ** (count - 1) / (2**count - 1))


RANDOM = Kind(2, _random, _of_random)
PATTERNS = Kind(7, _by_dialogue, _of_patterns)
