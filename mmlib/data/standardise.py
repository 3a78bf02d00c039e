"""Features with mean 0 and standard deviation 1 over the training split, for data whose files are not scaled.

Mean and standard deviation stay in the bundle (``Bundle.scaling``), so that raw features of other utterances can be
brought to what a trained model knows: ``scaling.scaled``. A bundle with folds is scaled anew over each fold's own
training rows when the fold is opened. To scale what is scaled already gives what scaling the raw values would, so no
utterance of a fold's test or validation set moves a value.
"""

from __future__ import annotations

import dataclasses

from mmlib.data.bundle import Bundle
from mmlib.data.scaling import has_vectors, in_32_bits, lost
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
        where, values = f"bundle {bundle.name}, {modality}", bundle.features[modality]
        if not has_vectors(values):
            raise InputError(
                where, f"shape {values.shape}", "vectors or frames", "Leave --standardise out."
            )
        if not bundle.counted(modality).scales:
            raise InputError(
                where,
                "nothing in the training split",
                "at least one utterance",
                "Leave the modality out.",
            )
    return standardised_where_possible(bundle)


def standardised_where_possible(bundle: Bundle) -> Bundle:
    """The same as ``standardised``, but pictures and modalities that training lacks stay as they are."""
    made = rounded(bundle.standardised_over_train())
    if not made.scaling:
        return made
    over = OVER if bundle.fold is None else OVER_FOLDS
    return dataclasses.replace(made, notes={**bundle.notes, "scale": over})


def rounded(bundle: Bundle) -> Bundle:
    """The same data with the features in the 32 bits that bundles keep.

    Raises:
        InputError: a modality of which they lose what tells values apart.
    """
    for modality in bundle.modalities:
        part = bundle.counted(modality)
        dimension = lost(part.values, part.counts)
        if dimension is not None:
            raise InputError(
                f"bundle {bundle.name}, {modality}",
                f"values of dimension {dimension} (counted from 0) that are equal or moved in 32 bits, because they "
                "differ by little beside their size",
                "values that 32 bits tell apart",
                "Subtract what they have in common, or import vectors and frames without --raw: they are then "
                "standardised before they are rounded.",
            )
    features = {m: in_32_bits(values) for m, values in bundle.features.items()}
    return dataclasses.replace(bundle, features=features)
