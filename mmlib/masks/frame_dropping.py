"""Laws that drop frames of sequences: DREAM's (section 4, appendix A.4) and EBMC's in training (E23)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmlib.data.bundle import Bundle
from mmlib.masks.draw import Drawing, Kind, restore
from mmlib.masks.law import Law, Mask
from mmlib.masks.modality_patterns import mean_missing_rate, one_or_two_missing

MIX_FRAME_RATE = 0.5


def frames(rate: float, resampled: bool = False) -> Law:
    """Each frame of each modality dropped independently at one rate; at least one frame stays."""
    return Law("frames", rate=rate, resampled=resampled)


def random_frames(resampled: bool = True) -> Law:
    """Frames dropped at a rate of each modality of each utterance; at least one frame stays (EBMC E23).

    The rate is 0 with probability one half, else uniform on (0, 1).
    """
    return Law("random_frames", resampled=resampled)


def mix(share: float) -> Law:
    """DREAM appendix A.4: of the affected share, 2/5 lack modalities, 2/5 lack frames, 1/5 both."""
    return Law("mix", rate=share)


def existing_frames(bundle: Bundle, modality: str, rows: np.ndarray) -> np.ndarray:
    """(n, t) bool: the frames that utterances have; the rest is padding."""
    steps = bundle.features[modality].shape[1]
    lengths = bundle.lengths.get(modality)
    return np.arange(steps) < (
        lengths[rows, None] if lengths is not None else np.full((len(rows), 1), steps)
    )


def largest_remainder(n: int, shares: Sequence[float]) -> list[int]:
    """Whole counts that sum to n and are nearest to n times the shares (which sum to 1)."""
    exact = [n * share for share in shares]
    counts = [math.floor(value + 1e-9) for value in exact]
    by_fraction = sorted(range(len(shares)), key=lambda i: counts[i] - exact[i])
    for index in by_fraction[: n - sum(counts)]:
        counts[index] += 1
    return counts


def _kept(
    drawing: Drawing, modality: str, rate: np.ndarray | float, generator: np.random.Generator
) -> np.ndarray:
    """(n, t) bool: a modality's frames that stay; rate: one, or (n, 1), of each utterance."""
    exists = existing_frames(drawing.bundle, modality, drawing.rows)
    return restore(exists & (generator.random(exists.shape) >= rate), exists, generator)


def _at_one_rate(law: Law, drawing: Drawing) -> Mask:
    generators = dict(zip(drawing.bundle.modalities, drawing.per_modality, strict=True))
    kept = {m: _kept(drawing, m, law.rate, generator) for m, generator in generators.items()}
    return Mask(np.ones(drawing.shape, dtype=bool), kept)


def _at_random_rates(law: Law, drawing: Drawing) -> Mask:
    kept = {}
    for modality, generator in zip(drawing.bundle.modalities, drawing.per_modality, strict=True):
        spared, rates = generator.random((2, drawing.shape[0], 1))
        kept[modality] = _kept(drawing, modality, np.where(spared < 1 / 2, 0.0, rates), generator)
    return Mask(np.ones(drawing.shape, dtype=bool), kept)


def _mixed(law: Law, drawing: Drawing) -> Mask:
    """Counts by largest remainder; what happens inside an affected utterance is not stated in A.4.

    Our reading: one or two modalities missing; frames dropped at ``MIX_FRAME_RATE``.
    """
    n, count = drawing.shape
    shares = [law.rate * 2 / 5, law.rate * 2 / 5, law.rate / 5, 1 - law.rate]
    inter, intra, both = largest_remainder(n, shares)[:3]
    group = np.repeat([0, 1, 2, 3], [inter, intra, both, n - inter - intra - both])
    group = drawing.joint.permutation(group)
    lacks, drops = np.isin(group, (0, 2)), np.isin(group, (1, 2))
    utterance = np.where(lacks[:, None], one_or_two_missing(n, count, drawing.joint), True)
    kept = {}
    for modality, generator in zip(drawing.bundle.modalities, drawing.per_modality, strict=True):
        exists = existing_frames(drawing.bundle, modality, drawing.rows)
        kept[modality] = np.where(
            drops[:, None], _kept(drawing, modality, MIX_FRAME_RATE, generator), exists
        )
    return Mask(utterance, kept)


def _of_frames(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(modalities, law.rate)


def _of_random_frames(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(modalities, 1 / 4)


def _of_mix(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(modalities, law.rate * 3 / 5 * mean_missing_rate(len(modalities)))


FRAMES = Kind(5, _at_one_rate, _of_frames, needs_frames=True, rates_of_frames=True, most=1.0)
MIX = Kind(6, _mixed, _of_mix, needs_frames=True, most=1.0)
RANDOM_FRAMES = Kind(
    8, _at_random_rates, _of_random_frames, needs_frames=True, rates_of_frames=True
)
