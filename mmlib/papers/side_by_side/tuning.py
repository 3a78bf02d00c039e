"""The trials of every row's learning rate, on validation, and what they chose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.experiments import stages
from mmlib.experiments.context import Context
from mmlib.masks import Law
from mmlib.papers.side_by_side import rates, runs
from mmlib.papers.side_by_side.runs import Ground
from mmlib.papers.side_by_side.tables import title
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

RULE = ("Chosen: the factor nearest to 1 within one standard error of the best, which is that of a share counted over "
        "the validation's utterances.")
NESTED = "Every fold chooses by itself: what it validates on, other folds test on."


@dataclass(frozen=True)
class Trials:
    """A row's trials on some data, or on one fold of them: factors of the learning rate to runs, one a seed."""

    ground: Ground
    row: runs.Row
    fold: int | None
    tried: Mapping[float, list[RunSpec]]


def trials(context: Context) -> list[Trials]:
    """Every row's trials, on the first ground of its data that has the row."""
    found: dict[tuple[str, str, int | None], Trials] = {}
    for ground in runs.grounds(context):
        reference = context.reference(ground.dataset)
        data = "twins" if is_twin(reference) else reference
        drawn = list(runs.trainings(context, ground).values())[-1 if ground.modalities else 1]
        for row, fold in itertools.product(runs.rows(context, ground), context.folds(ground.dataset)):
            tried = {f: trial(context, ground, row, drawn, f, fold) for f in rates.FACTORS}
            found.setdefault((data, row.name, fold), Trials(ground, row, fold, tried))
    return list(found.values())


def trial(context: Context, ground: Ground, row: runs.Row, drawn: Law, factor: float,
          fold: int | None) -> list[RunSpec]:
    """The runs of one trial, which are the comparison's own where the factor is chosen."""
    made = runs.specs(context, ground, row, drawn, factor)
    return [s for s in made if s.seed < rates.SEEDS and s.fold == fold]


def specs(context: Context) -> list[RunSpec]:
    """The runs of the trials, and those that they start from."""
    return stages.with_parents(s for one in trials(context) for found in one.tried.values() for s in found)


def table(context: Context) -> Output:
    """Every row's trials on validation, and the factor that the comparison uses."""
    lines, made = [], trials(context)
    diverged = {f.id for f in context.store.failures() if f.kind == "diverged"}  # or a parent's did
    for one in made:
        values = {factor: value(context, found, diverged) for factor, found in sorted(one.tried.items())}
        reached = {factor: found for factor, found in values.items() if found is not None}
        if len(reached) < len(values):
            continue
        error = standard_error(best(reached), validated(context, one))
        used = rates.chosen(context.bundle(one.ground.dataset)).factor(one.row.name, one.fold)
        lines.append({"data": title(context, one.ground), "row": one.row.name,
                      **({} if one.fold is None else {"fold": one.fold}), "chosen": choose(reached, error),
                      "used": used, **{f"x {factor:.3g}": found for factor, found in reached.items()},
                      "standard error": error})
    if not lines:
        return Output(notes=("Not built yet.",))
    numbers = pd.DataFrame(lines)
    seeds = sorted({len(found) for one in made for found in one.tried.values()})
    notes = (f"Weighted F1 (%) on validation at the best epoch of the mean curve of {' or '.join(map(str, seeds))} "
             f"seed{'s' * (seeds != [1])}, by what the common learning rate is multiplied with; nothing where a run "
             "diverged. Training on mixed combinations; on complete data for rows that two modalities of more alone "
             "have.", RULE, *((NESTED,) if "fold" in numbers else ()), *at_edges(numbers),
             *((rates.USED,) if all(map(is_twin, context.data.values())) else ()))
    return Output(table=numbers.round(3), numbers=numbers, rows_built=len(lines), notes=notes)


def value(context: Context, found: list[RunSpec], diverged: set[str]) -> float | None:
    """A trial's outcome: NaN where a run diverged, None where one has not been made.

    The best epoch is that of the mean over runs: the mean of each run's own best would reward what leaps about.
    """
    curves = []
    for spec in found:
        fingerprint = context.bundle_fingerprint(spec.data)
        record, _ = context.store.find(spec, fingerprint)
        if record is None and spec.run_id(fingerprint) not in diverged:
            return None
        curves.append(record["curves"]["valid"][runs.METRIC] if record else [math.nan] * spec.training.epochs)
    return float(np.mean(curves, axis=0).max())


def validated(context: Context, one: Trials) -> int:
    """How many utterances validation has."""
    bundle = context.bundle(one.ground.dataset)
    return len((bundle if one.fold is None else bundle.with_fold(one.fold)).rows("valid"))


def best(values: Mapping[float, float]) -> float:
    """Of the trials that did not diverge; 0 where all did."""
    return max((found for found in values.values() if not math.isnan(found)), default=0.0)


def standard_error(percent: float, utterances: int) -> float:
    """Of a share that was counted over so many utterances, in points."""
    return math.sqrt(percent * (100 - percent) / utterances)


def choose(values: Mapping[float, float], error: float) -> float:
    """The factor nearest to 1 whose trial is within one standard error of the best; of two as near, the better.

    Where every trial diverged, 1.

    The one-standard-error rule of Breiman, Friedman, Olshen and Stone (1984): validation sets are small, and what is
    best by less than their noise need not be better.
    """
    good = [f for f, found in values.items() if found >= best(values) - error]
    return min(good or [1.0], key=lambda f: (round(abs(math.log(f)), 9), -values[f]))


def at_edges(numbers: pd.DataFrame) -> tuple[str, ...]:
    """Which rows may be better still beyond what was tried."""
    ends = numbers[numbers["chosen"].isin((min(rates.FACTORS), max(rates.FACTORS)))]
    named = ", ".join(dict.fromkeys(f"{row} on {data}" for row, data in zip(ends["row"], ends["data"], strict=True)))
    return (f"Best at an end of what was tried, and perhaps better beyond: {named}.",) if named else ()
