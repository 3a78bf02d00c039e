"""Features with mean 0 and standard deviation 1 over the training split, for data whose files are not scaled.

Mean and standard deviation stay in the bundle (``Bundle.scaling``), so that raw features of other utterances can be
brought to what a trained model knows: ``scaling.scaled``. A bundle with folds is scaled anew over each fold's own
training rows when the fold is opened. To scale what is scaled already gives what scaling the raw values would, so no
utterance of a fold's test or validation set moves a value.
"""

from __future__ import annotations

import dataclasses

from mmlib.data.bundle import Bundle
from mmlib.data.scaling import has_vectors
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
    made = bundle.standardised_over_train()
    if not made.scaling:
        return bundle
    over = OVER if bundle.fold is None else OVER_FOLDS
    return dataclasses.replace(made, notes={**bundle.notes, "scale": over})
