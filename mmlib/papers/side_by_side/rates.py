"""Learning rates: what every row tries on validation, as often as every other row, and what it chose.

Rows differ too much for one learning rate, and which is best depends on the data. Data on which nothing was tried use
what was chosen on twins; the tables then say so. The rule of ``tuning.choose`` replaced another (the mean of
each run's best epoch) after test results of mosi-bclstm under that one had been seen; it looks at validation alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmlib.data.bundle import Bundle
from mmlib.data.catalog import is_twin
from mmlib.experiments.context import Context

FACTORS = (1.0, 1 / 3, 3.0, 10.0, 30.0)  # of the common learning rate: the trials of every row
SEEDS = 3  # of a trial, at most

USED = (
    "The rates chosen here are also used on the twins' sequences and on all data "
    "without a learning-rate search of their own."
)
TUNED = (
    "The learning rates were chosen on twins (artifact `tuning`). On these "
    "data another rate may be better, by several points."
)


@dataclass(frozen=True)
class Chosen:
    """What the trials on some data chose."""

    fingerprint: str
    """Of the data."""

    factors: Mapping[str, float | tuple[float, ...]]
    """By row, where that is not 1.

    One for each fold of data with folds, chosen on that fold's validation alone, since what one fold validates on
    another tests on.
    """

    def factor(self, row: str, fold: int | None) -> float:
        """What a row multiplies the common learning rate with, on a fold."""
        factor = self.factors.get(row, 1.0)
        return factor[fold or 0] if isinstance(factor, tuple) else factor


TWINS = Chosen("", {"MMGCN": 3.0, "BALM on MMGCN": 3.0, "DREAM": 3.0})
# By name of the results' folder, whose artifact ``tuning`` is tested to agree.
REAL: dict[str, Chosen] = {
    "crema-d-votes": Chosen("8f11e24f2fb820be", {"MMGCN": 3.0, "BALM on MMGCN": 10.0}),
    "mmmo-standardised": Chosen("c7635d36e41141ef", {}),
    "mosi-bclstm": Chosen("918a052a2609f9d3", {"MCULoRA's network": 1 / 3}),
    "mosi-unseen": Chosen(
        "3b618ebb4b6cbe38",
        {
            "BALM on MMGCN": (1.0, 3.0, 1.0, 1.0, 1.0),
            "DREAM": (1.0, 1.0, 3.0, 1.0, 1.0),
            "EBMC": (3.0, 1.0, 1.0, 1.0, 3.0),
            "MCULoRA": (1.0, 3.0, 1.0, 1.0, 1.0),
        },
    ),
}


def chosen(bundle: Bundle) -> Chosen:
    """What was chosen on these very data, else on twins."""
    return {trials.fingerprint: trials for trials in REAL.values()}.get(bundle.fingerprint, TWINS)


def elsewhere(context: Context, dataset: str) -> bool:
    """Whether a data set's learning rates were chosen on other data."""
    return not is_twin(context.reference(dataset)) and chosen(context.bundle(dataset)) is TWINS
