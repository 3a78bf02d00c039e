"""Features with mean 0 and standard deviation 1 over the training split, and the mean and sd that make them so.

Mean and standard deviation stay in the bundle (``Bundle.scaling``), so that raw features of other utterances can be
brought to what a trained model knows: ``scaled``. A bundle with folds is scaled anew over each fold's own training
rows when the fold is opened. To scale what is scaled already gives what scaling the raw values would, so no utterance
of a fold's test or validation set moves a value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mmlib.data.bundle import Bundle, Scaling
from mmlib.errors import InputError

OVER = "standardised over train"
OVER_FOLDS = "standardised over train; with folds, over the training rows of each fold"


def standardised(bundle: Bundle) -> Bundle:
    """The same data, each dimension less its mean and over its standard deviation in the training split.

    Vectors and frames alike; missing modalities and frames beyond a sequence's length count for nothing and stay zero.
    Dimensions without spread become 0.

    Raises:
        InputError: pictures, or a modality that training lacks.
    """
    for modality in bundle.modalities:
        where, do = f"bundle {bundle.name}, {modality}", "Leave --standardise out."
        if not _can_be_scaled(bundle, modality):
            shape = bundle.features[modality].shape
            raise InputError(where, f"shape {shape}", "vectors or frames", do)
        if not _in_training(bundle, modality).any():
            raise InputError(
                where,
                "nothing in the training split",
                "at least one utterance",
                "Leave the modality out.",
            )
    return standardised_where_possible(bundle)


def standardised_where_possible(bundle: Bundle) -> Bundle:
    """The same as ``standardised``, but pictures and modalities that training lacks stay as they are."""
    features, scaling = dict(bundle.features), dict(bundle.scaling)
    for modality in bundle.modalities:
        if _can_be_scaled(bundle, modality) and _in_training(bundle, modality).any():
            features[modality], own = _of_training(bundle, modality)
            scaling[modality] = _composed(scaling.get(modality), own)
    if not scaling:
        return bundle
    over = OVER if bundle.fold is None else OVER_FOLDS
    notes = {**bundle.notes, "scale": over}
    return dataclasses.replace(bundle, features=features, scaling=scaling, notes=notes)


def scaled(raw: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Raw features (..., d) as a bundle with this scaling of their modality has them, float32."""
    mean, sd = (np.asarray(scaling[name], dtype=np.float64) for name in ("mean", "sd"))
    return ((np.asarray(raw, dtype=np.float64) - mean) / sd).astype(np.float32)


def zero(scaling: Scaling) -> np.ndarray:
    """(d,) what a raw row of zeros alone has become."""
    return scaled(np.zeros(len(scaling["mean"])), scaling)


def _can_be_scaled(bundle: Bundle, modality: str) -> bool:
    values = bundle.features[modality]
    return values.ndim in (2, 3) and values.dtype != np.uint8


def _of_training(bundle: Bundle, modality: str) -> tuple[np.ndarray, dict[str, list[float]]]:
    """The standardised features of a modality, and the mean and sd that made them so."""
    from sklearn.preprocessing import StandardScaler  # takes a second, and few commands need it

    values, counts = bundle.features[modality], _counts(bundle, modality)
    scaler = StandardScaler().fit(values[_in_training(bundle, modality)].astype(np.float64))
    own = {"mean": scaler.mean_.tolist(), "sd": scaler.scale_.tolist()}
    features = np.zeros(values.shape, dtype=np.float32)
    features[counts] = scaler.transform(values[counts].astype(np.float64))
    return features, own


def _composed(first: Scaling | None, then: Mapping[str, Sequence[float]]) -> Scaling:
    """What scaling by one mean and sd and then by another does to raw values, as one mean and sd."""
    if first is None:
        return then
    (mean, sd), (mean2, sd2) = (
        (np.asarray(part["mean"]), np.asarray(part["sd"])) for part in (first, then)
    )
    return {"mean": (mean + sd * mean2).tolist(), "sd": (sd * sd2).tolist()}


def _in_training(bundle: Bundle, modality: str) -> np.ndarray:
    """(n,) or (n, t) bool: the vectors or frames of the training split that are there."""
    counts = _counts(bundle, modality)
    return counts & (bundle.split == 0).reshape(-1, *[1] * (counts.ndim - 1))


def _counts(bundle: Bundle, modality: str) -> np.ndarray:
    """(n,) or (n, t) bool: the vectors or frames that are there."""
    values = bundle.features[modality]
    there = bundle.observed[:, bundle.modalities.index(modality)]
    if values.ndim == 2:
        return there
    lengths = bundle.lengths.get(modality, np.full(len(bundle), values.shape[1]))
    return np.asarray(there[:, None] & (np.arange(values.shape[1]) < lengths[:, None]))
