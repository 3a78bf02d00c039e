"""A finding derived a second time, before it is published: by other code, and at other choices of the epoch.

The first derivation averages the metrics that runs report (``claims.of_metric``). The second one starts from what the
test clusters of each run answered (``runs.clusters``) and has scikit-learn make the metric of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmlib.experiments.comparison import Averages, with_averages
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.other_data import Term, counts_of, places, settings_of
from mmlib.report import stats
from mmlib.runs.clusters import EXPECTED, MEAN_F1

OTHERS = {"last": "at the last epoch", "test": "at the epoch that test picks"}


@dataclass(frozen=True)
class Finding:
    """The runs behind a claim about differences of a metric."""

    dataset: str
    """As the published numbers have it."""

    cells: Sequence[Cell]
    """The runs' places."""

    metric: str
    """Of the values."""

    averages: Averages
    """Name to the settings that are averaged under it."""

    seeds: tuple[int, ...]
    """Those that it is over."""


def sentence(
    context: Context,
    finding: Finding,
    terms: Sequence[Term],
    measure: Callable[[pd.DataFrame], pd.Series],
) -> str:
    """Both derivations of a finding, and the finding at the other choices of the epoch, in words.

    measure: from results with one value per row, setting and seed to one difference per seed.
    """
    parts = [
        f"{where} {_at(context, finding, rule, measure):+.2f}" for rule, where in OTHERS.items()
    ]
    counted = by_counts(context, finding, terms)
    if counted is not None:
        parts.append(f"derived again from the runs' answers {counted:+.2f}")
    return "; ".join(parts).capitalize() + "."


def _at(
    context: Context,
    finding: Finding,
    rule: str,
    measure: Callable[[pd.DataFrame], pd.Series],
) -> float:
    """The mean difference over seeds at another choice of the epoch."""
    results = context.results(finding.cells)
    chosen = results[(results["metric"] == finding.metric) & (results["selection"] == rule)]
    by = ("row", "seed", "selection", "metric")
    values = with_averages(stats.average_folds(chosen), finding.averages, by)
    return float(measure(values).loc[list(finding.seeds)].mean())


def by_counts(context: Context, finding: Finding, terms: Sequence[Term]) -> float | None:
    """The mean difference from the runs' counts by cluster; None where a run has none.

    Draws of a test mask are pooled here and averaged in what runs report: equal for accuracy, nearly so for F1.
    """
    at, folds = places(finding.cells), context.folds(finding.dataset)
    known: dict[str, dict[str, np.ndarray]] = {}
    total = 0.0
    for term in terms:
        means = []
        settings = list(settings_of(term, finding.averages))
        for (ours, theirs), fold in itertools.product(settings, folds):
            first, second = (
                counts_of(context, at.get(place, {}), fold, finding.metric, finding.seeds, known)
                for place in ((term.first, ours), (term.second, theirs))
            )
            if first is None or second is None:
                return None
            scores = [np.mean(_scores(finding.metric, side)) for side in (first, second)]
            means.append(scores[0] - scores[1])
        total += term.weight * float(np.mean(means))
    return total


def _scores(metric: str, counts: np.ndarray) -> list[float]:
    """One per seed, in percent, of what each cluster counts: (S, G, ...)."""
    return [_score(metric, of_seed.astype(float).sum(axis=0)) for of_seed in counts]


def _score(metric: str, sums: np.ndarray) -> float:
    """A metric in percent of a confusion matrix, truth down; several of them for the mean F1 of binary labels."""
    from sklearn import metrics  # takes a second, and few claims need it

    if metric == EXPECTED:
        right, answers = sums
        return float(100 * right / answers)
    if metric == MEAN_F1:
        return float(np.mean([_score("weighted_f1", one) for one in sums]))
    truth, answer = np.indices(sums.shape).reshape(2, -1)
    weights = {"sample_weight": sums.ravel()}
    if metric == "accuracy":
        return float(100 * metrics.accuracy_score(truth, answer, **weights))
    return float(
        100 * metrics.f1_score(truth, answer, average="weighted", zero_division=0.0, **weights)
    )
