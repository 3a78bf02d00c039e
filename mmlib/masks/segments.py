"""Contiguous stretches of frames that are missing, as a sensor that fails for a while leaves them (after MuteBench)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmlib.masks.draw import Drawing, Kind
from mmlib.masks.frame_dropping import existing_frames
from mmlib.masks.law import Law, Mask, check_rate

ROUNDING = 1e-9


def segment(rate: float, resampled: bool = False) -> Law:
    """One stretch of ceil(rate T) of an utterance's T frames missing in each modality; at least one frame stays.

    It begins anywhere with the same chance, so that frames at the ends are missing less often than those between.
    """
    check_rate("segment", "the rate", rate)
    return Law("segment", rate=rate, resampled=resampled)


def _draw(law: Law, drawing: Drawing) -> Mask:
    kept = {}
    for modality, generator in zip(drawing.bundle.modalities, drawing.per_modality, strict=True):
        exists = existing_frames(drawing.bundle, modality, drawing.rows)
        length = exists.sum(axis=1)
        lost = np.minimum(np.ceil(law.rate * length - ROUNDING).astype(int), length - 1)
        start = np.floor(generator.random(len(length)) * (length - lost + 1)).astype(int)
        place = np.arange(exists.shape[1])
        inside = (place >= start[:, None]) & (place < (start + lost)[:, None])
        kept[modality] = exists & ~inside
    return Mask(np.ones(drawing.shape, dtype=bool), kept)


def _nominal(law: Law, modalities: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(modalities, law.rate)


SEGMENT = Kind(12, _draw, _nominal, needs_frames=True, rates_of_frames=True)
