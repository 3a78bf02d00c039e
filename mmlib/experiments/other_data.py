"""Whether a claim would hold on other test data: the interval for other seeds and other dialogues or speakers.

It is known for means of differences of a metric that clusters count for, from the runs' counts (``runs.clusters``), by
the crossed bootstrap (``report.crossed``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mmlib.experiments.comparison import Averages
from mmlib.experiments.context import Cell, Context
from mmlib.report.crossed import FEWEST, Interval, Pair, crossed
from mmlib.runs import clusters

Places = Mapping[tuple[str, str], Mapping[tuple[int, int | None], Cell]]
"""(row, setting) to (seed, fold) to the cell."""


@dataclass(frozen=True)
class Term:
    """A difference of two rows in a setting."""

    first: str
    """The row that the sentence says is better."""

    second: str
    """The other row."""

    setting: str
    """May be an average of the source."""

    weight: float = 1.0
    """In the sum over all terms."""

    against: str = ""
    """The setting of the other row; the same where empty."""

    def turned(self) -> Term:
        """The difference the other way round."""
        other = self.against or self.setting
        against = self.setting if self.against else ""
        return replace(self, first=self.second, second=self.first, setting=other, against=against)


def places(cells: Sequence[Cell]) -> Places:
    """The cells of a source by where they stand."""
    made: dict[tuple[str, str], dict[tuple[int, int | None], Cell]] = {}
    for cell in cells:
        made.setdefault((cell.row, cell.setting), {})[cell.spec.seed, cell.spec.fold] = cell
    return made


def interval(
    context: Context,
    dataset: str,
    cells: Sequence[Cell],
    terms: Sequence[Term],
    metric: str,
    averages: Averages,
    seeds: Sequence[int],
) -> Interval | None:
    """The interval of a sum of terms over some seeds; None where a run lacks the counts that it is made from.

    Folds count the same, and each has clusters of its own.
    """
    if len(seeds) < FEWEST:
        return None
    at, folds = places(cells), context.folds(dataset)
    counts: dict[str, dict[str, np.ndarray]] = {}  # by run: its arrays are read once
    pairs = []
    for term in terms:
        settings = list(settings_of(term, averages))
        share = term.weight / len(settings) / len(folds)
        for (first, second), fold in itertools.product(settings, folds):
            sides = [
                counts_of(context, at.get(place, {}), fold, metric, seeds, counts)
                for place in ((term.first, first), (term.second, second))
            ]
            if sides[0] is None or sides[1] is None:
                return None
            pairs.append(Pair(sides[0], sides[1], share, fold))
    return crossed(pairs, partial(clusters.value, metric)) if pairs else None


def settings_of(term: Term, averages: Averages) -> Iterable[tuple[str, str]]:
    """Of both rows the settings whose differences a term is the mean of."""
    first = averages.get(term.setting, (term.setting,))
    if not term.against:
        return zip(first, first, strict=True)
    return itertools.product(first, averages.get(term.against, (term.against,)))


def counts_of(
    context: Context,
    cells: Mapping[tuple[int, int | None], Cell],
    fold: int | None,
    metric: str,
    seeds: Sequence[int],
    known: dict[str, dict[str, np.ndarray]],
) -> np.ndarray | None:
    """(S, G, ...) what the clusters count in the runs of some seeds; known: arrays of runs that were read."""
    of_seed = []
    for seed in seeds:
        cell = cells.get((seed, fold))
        record = context.record(cell.spec) if cell else None
        if cell is None or record is None:
            return None
        if record.id not in known:
            arrays = context.store.arrays(record.id)
            known[record.id] = {n: x for n, x in arrays.items() if n.startswith(clusters.PREFIX)}
        counts = known[record.id].get(clusters.array_name(metric, cell.mask))
        if counts is None:
            return None
        of_seed.append(counts)
    return np.stack(of_seed)
