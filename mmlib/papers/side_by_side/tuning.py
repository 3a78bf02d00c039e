"""The trials of every row's learning rate, on validation, and what they chose."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.masks import Law
from mmlib.papers import stages
from mmlib.papers.context import Context
from mmlib.papers.side_by_side import rates, runs
from mmlib.papers.side_by_side.runs import Ground
from mmlib.papers.side_by_side.tables import title
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

Trial = tuple[Ground, runs.Row, dict[float, list[RunSpec]]]


def trials(context: Context) -> list[Trial]:
    """Every row's trials: factors of the learning rate to runs, on the first ground of its data that has the row."""
    found: dict[tuple[str, str], Trial] = {}
    for ground in runs.grounds(context):
        reference = context.reference(ground.dataset)
        data = "twins" if is_twin(reference) else reference
        drawn = list(runs.trainings(context, ground).values())[-1 if ground.modalities else 1]
        for row in runs.rows(context, ground):
            tried = {f: trial(context, ground, row, drawn, f) for f in rates.FACTORS}
            found.setdefault((data, row.name), (ground, row, tried))
    return list(found.values())


def trial(context: Context, ground: Ground, row: runs.Row, drawn: Law, factor: float) -> list[RunSpec]:
    """The runs of one trial, which are the comparison's own where the factor is chosen."""
    seeds = rates.trial_seeds(context, ground.dataset)
    return [s for s in runs.specs(context, ground, row, drawn, factor) if s.seed in seeds]


def specs(context: Context) -> list[RunSpec]:
    """The runs of the trials, and those that they start from."""
    return stages.with_parents(s for _, _, by_factor in trials(context) for found in by_factor.values()
                               for s in found)


def table(context: Context) -> Output:
    """Every row's trials on validation, and the factor that the comparison uses."""
    lines, tried = [], trials(context)
    diverged = {f.id for f in context.store.failures() if "training diverged" in f.error}  # or a parent's did
    for ground, row, by_factor in tried:
        means = {factor: mean(context, found, diverged) for factor, found in sorted(by_factor.items())}
        if None in means.values():
            continue
        finite = {factor: round(value, 6) for factor, value in means.items() if value is not None and value >= 0}
        lines.append({"data": title(context, ground), "row": row.name,
                      "chosen": max(rates.FACTORS, key=lambda f: finite.get(f, -1.0)),
                      "used": runs.factor_of(context, ground, row),
                      **{f"x {factor:.3g}": value for factor, value in means.items()}})
    if not lines:
        return Output(notes=("Not built yet.",))
    numbers = pd.DataFrame(lines)
    runs_each = " or ".join(map(str, sorted({len(found) for _, _, by in tried for found in by.values()})))
    notes = (f"Weighted F1 (%) on validation at its best epoch, mean over {runs_each} runs (seeds and folds), by what "
             "the common learning rate is multiplied with; nothing where a run diverged. Training on mixed "
             "combinations; on complete data for rows that two modalities of more alone have.", *at_edges(numbers),
             *((rates.USED,) if all(map(is_twin, context.data.values())) else ()))
    return Output(table=numbers.round(3), numbers=numbers, rows_built=len(lines), notes=notes)


def mean(context: Context, found: list[RunSpec], diverged: set[str]) -> float | None:
    """A trial's outcome: NaN where a run diverged, None where one has not been made."""
    values = []
    for spec in found:
        fingerprint = context.bundle_fingerprint(spec.data)
        record, _ = context.store.find(spec, fingerprint)
        if record is None and spec.run_id(fingerprint) not in diverged:
            return None
        values.append(max(record["curves"]["valid"][runs.METRIC]) if record else math.nan)
    return float(np.mean(values))


def at_edges(numbers: pd.DataFrame) -> tuple[str, ...]:
    """Which rows may be better still beyond what was tried."""
    ends = numbers[numbers["chosen"].isin((min(rates.FACTORS), max(rates.FACTORS)))]
    named = ", ".join(f"{row} on {data}" for row, data in zip(ends["row"], ends["data"], strict=True))
    return (f"Best at an end of what was tried, and perhaps better beyond: {named}.",) if named else ()
