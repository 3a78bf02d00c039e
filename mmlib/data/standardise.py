"""Features with mean 0 and standard deviation 1 over the training split, for data whose files are not scaled."""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn.preprocessing import StandardScaler

from mmlib.data.bundle import Bundle
from mmlib.errors import InputError


def standardised(bundle: Bundle) -> Bundle:
    """The same data, each dimension less its mean and over its standard deviation in the training split.

    Vectors and frames alike; missing modalities and frames beyond a sequence's length count for nothing and stay zero.
    Dimensions without spread become 0.

    Raises:
        InputError: folds, whose training splits differ, pictures, or a modality that training lacks.
    """
    if bundle.fold is not None:
        raise InputError(
            f"bundle {bundle.name}", "folds", "one training split", "Leave --standardise out."
        )
    features = {}
    for index, (m, values) in enumerate(sorted(bundle.features.items())):
        if values.ndim not in (2, 3):
            raise InputError(
                f"bundle {bundle.name}, {m}",
                f"shape {values.shape}",
                "vectors or frames",
                "Leave --standardise out.",
            )
        counts = _counts(bundle, m, index)
        train = counts & (bundle.split == 0).reshape(-1, *[1] * (counts.ndim - 1))
        if not train.any():
            raise InputError(
                f"bundle {bundle.name}, {m}",
                "nothing in the training split",
                "at least one utterance",
                "Leave the modality out.",
            )
        scaler = StandardScaler().fit(values[train].astype(np.float64))
        scaled = np.zeros(values.shape, dtype=np.float32)
        scaled[counts] = scaler.transform(values[counts].astype(np.float64))
        features[m] = scaled
    return dataclasses.replace(
        bundle, features=features, notes={**bundle.notes, "scale": "standardised over train"}
    )


def _counts(bundle: Bundle, modality: str, index: int) -> np.ndarray:
    """(n,) or (n, t) bool: the vectors or frames that are there."""
    values, there = bundle.features[modality], bundle.observed[:, index]
    if values.ndim == 2:
        return there
    lengths = bundle.lengths.get(modality, np.full(len(bundle), values.shape[1]))
    return np.asarray(there[:, None] & (np.arange(values.shape[1]) < lengths[:, None]))
