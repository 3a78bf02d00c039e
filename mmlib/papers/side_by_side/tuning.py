"""The trials of every row's learning rate, on validation, and what they chose."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.experiments.conditions import ALL
from mmlib.experiments.context import Cell, Context
from mmlib.masks import complete
from mmlib.papers.side_by_side import grounds, rates, rows
from mmlib.papers.side_by_side.grounds import Ground, ground_of
from mmlib.papers.side_by_side.tables import title
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.runs.execute import prepare
from mmlib.runs.spec import RunSpec

RULE = (
    "Chosen: the factor nearest to 1 whose result is within one standard error of the "
    "best. The standard error is that of a proportion over the validation "
    "utterances."
)
NESTED = (
    "Every fold chooses separately, because the validation data of one fold are "
    "test data of another."
)


@dataclass(frozen=True)
class Trials:
    """A row's trials on some data, or on one fold of them."""

    ground: Ground
    """The data."""

    row: str
    """The row's name."""

    fold: int | None
    """None where the data have none."""

    tried: Mapping[float, list[RunSpec]]
    """Factors of the learning rate to runs, one a seed."""


def cells(context: Context) -> list[Cell]:
    """Every row's trials, on the first ground of its data that has the row; settings say the factor.

    The comparison's own runs are among them, where the factor is the chosen one.
    """
    made: list[Cell] = []
    tried: set[tuple[str, str]] = set()
    for ground in grounds.grounds(context):
        reference = context.reference(ground.dataset)
        data = "twins" if is_twin(reference) else reference
        training = grounds.trainings(context, ground).get(grounds.MIXED, complete())
        new = [row for row in rows.rows(context, ground) if (data, row.name) not in tried]
        tried |= {(data, row.name) for row in new}
        made += [
            Cell(row.name, _setting(factor), spec, ALL, ground.dataset)
            for row in new
            for factor in rates.FACTORS
            for spec in rows.specs(context, ground, row, training, factor)
            if spec.seed < rates.SEEDS
        ]
    return made


def _setting(factor: float) -> str:
    return f"x {factor:.3g}"


def trials(cells: Iterable[Cell]) -> list[Trials]:
    """The cells by row and fold."""
    factors = {_setting(factor): factor for factor in rates.FACTORS}
    tried: dict[tuple[Ground, str, int | None], dict[float, list[RunSpec]]] = {}
    for cell in cells:
        of_row = tried.setdefault((ground_of(cell), cell.row, cell.spec.fold), {})
        of_row.setdefault(factors[cell.setting], []).append(cell.spec)
    return [Trials(*place, of_row) for place, of_row in tried.items()]


def table(context: Context, cells: Sequence[Cell]) -> Output:
    """Every row's trials on validation, and the factor that the comparison uses."""
    made = trials(cells)
    diverged = {f.id for f in context.store.failures() if f.kind == "diverged"}  # or a parent's did
    lines = [line for one in made if (line := _line(context, one, diverged))]
    if not lines:
        return NOT_BUILT
    numbers = pd.DataFrame(lines)
    seeds = sorted({len(specs) for one in made for specs in one.tried.values()})
    notes = (
        f"Weighted F1 (%) on validation at the best epoch of the mean curve of {' or '.join(map(str, seeds))} "
        f"seed{'s' * (seeds != [1])}, for each factor of the common learning rate; "
        "empty if a run diverged. Trained on mixed combinations; on complete data for "
        "the rows that only the comparison on two modalities has.",
        RULE,
        *((NESTED,) if "fold" in numbers else ()),
        *at_edges(numbers),
        *((rates.USED,) if any(map(is_twin, context.data.values())) else ()),
    )
    return Output(numbers.round(3), numbers=numbers, rows_built=len(lines), notes=notes)


def _line(context: Context, one: Trials, diverged: set[str]) -> dict[str, object]:
    """A row's line of the table; nothing where a trial has not been made."""
    outcomes = {f: value(context, one.tried[f], diverged) for f in sorted(rates.FACTORS)}
    reached = {factor: outcome for factor, outcome in outcomes.items() if outcome is not None}
    if len(reached) < len(outcomes):
        return {}
    error = standard_error(best(reached), validated(one))
    chosen = rates.chosen(context.bundle(one.ground.dataset))
    return {
        "data": title(context, one.ground),
        "row": one.row,
        **({} if one.fold is None else {"fold": one.fold}),
        "chosen": choose(reached, error),
        "used": chosen.factor(one.row, one.fold),
        **{_setting(factor): outcome for factor, outcome in reached.items()},
        "standard error": error,
    }


def value(context: Context, specs: Sequence[RunSpec], diverged: set[str]) -> float | None:
    """A trial's outcome: NaN where a run diverged, None where one has not been made.

    The best epoch is that of the mean over runs: the mean of each run's own best would reward what leaps about.
    """
    curves = []
    for spec in specs:
        record = context.record(spec)
        run_id = spec.run_id(context.bundle_fingerprint(spec.data))
        if record is None and run_id not in diverged:
            return None
        lost = [math.nan] * spec.training.epochs
        curves.append(record["curves"]["valid"][rows.METRIC] if record else lost)
    return float(np.mean(curves, axis=0).max())


def validated(one: Trials) -> int:
    """How many utterances validation has."""
    return len(prepare(one.tried[1.0][0]).rows("valid"))


def best(values: Mapping[float, float]) -> float:
    """Of the trials that did not diverge; 0 where all did."""
    return max((reached for reached in values.values() if not math.isnan(reached)), default=0.0)


def standard_error(percent: float, utterances: int) -> float:
    """Of a share that was counted over so many utterances, in points."""
    return math.sqrt(percent * (100 - percent) / utterances)


def choose(values: Mapping[float, float], error: float) -> float:
    """The factor nearest to 1 whose trial is within one standard error of the best; of two as near, the better.

    Where every trial diverged, 1.

    The one-standard-error rule of Breiman, Friedman, Olshen and Stone (1984): validation sets are small, and what is
    best by less than their noise need not be better.
    """
    good = [factor for factor, reached in values.items() if reached >= best(values) - error]
    return min(good or [1.0], key=lambda f: (round(abs(math.log(f)), 9), -values[f]))


def at_edges(numbers: pd.DataFrame) -> tuple[str, ...]:
    """Which rows may be better still beyond what was tried."""
    ends = numbers[numbers["chosen"].isin((min(rates.FACTORS), max(rates.FACTORS)))]
    places = (f"{row} on {data}" for row, data in zip(ends["row"], ends["data"], strict=True))
    named = ", ".join(dict.fromkeys(places))
    return (
        (
            f"The best rate is at an end of the tried range, and a rate beyond it may be better: {named}.",
        )
        if named
        else ()
    )
