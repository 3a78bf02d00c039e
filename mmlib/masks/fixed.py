"""Laws without chance: everything is there, or some modalities alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmlib.errors import InputError
from mmlib.masks.draw import Drawing, Kind
from mmlib.masks.law import Law, Mask


def complete() -> Law:
    """Nothing missing but what is missing by nature."""
    return Law("complete")


def subset(modalities: Sequence[str]) -> Law:
    """Only these modalities are observed; utterances that by nature have none of them are left out (``Mask.kept``)."""
    if not modalities:
        raise InputError(
            "mask law subset", "no modality", "at least one", "Name what stays observed."
        )
    return Law("subset", modalities=tuple(sorted(modalities)))


def _everything(law: Law, drawing: Drawing) -> Mask:
    return Mask(np.ones(drawing.shape, dtype=bool))


def _those(law: Law, drawing: Drawing) -> Mask:
    stays = [m in law.modalities for m in drawing.bundle.modalities]
    return Mask(np.tile(stays, (drawing.shape[0], 1)))


COMPLETE = Kind(0, _everything, lambda law, modalities: dict.fromkeys(modalities, 0.0))
SUBSET = Kind(
    1,
    _those,
    lambda law, modalities: {m: float(m not in law.modalities) for m in modalities},
    leaves_out=True,
)
