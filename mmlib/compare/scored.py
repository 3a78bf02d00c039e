"""What training knew of the tests' missingness, and scores over all test conditions, contender by contender."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmlib.compare.plan import MAJORITY
from mmlib.compare.results import Results
from mmlib.data.catalog import is_av_twin, is_twin
from mmlib.experiments.comparison import best_possible
from mmlib.experiments.conditions import ALL, framed
from mmlib.experiments.context import Cell
from mmlib.papers.side_by_side.equity import FLAGS
from mmlib.report.indices import scores
from mmlib.runs.prior import NONE, most, serves_all
from mmlib.runs.spec import RunSpec

COLUMNS = ("complete", "mean", "worst", "drop", "area")
MEANING = (
    "Of one model, in {unit}: on complete data; the mean and the worst over all conditions in which something is "
    "missing; drop, what complete data are better than that mean; and the area under the curve against the shared "
    "missing rate, over its width. Mean ± sd over seeds."
)
SHARES = (
    " In brackets the mean of the same of shares (%) of the best possible under the same masks."
)


def flags(made: Results, contender: str) -> dict[str, str]:
    """``prior``, what its training knew of the tests' missingness, and ``one model``, whether one serves all of them.

    Of the majority, which reads nothing: none and yes. Empty texts for a contender without runs.
    """
    if contender == MAJORITY:
        return {"prior": NONE, "one model": "yes"}
    specs = made.specs.get(contender, [])
    if not specs:
        return {"prior": "", "one model": ""}
    tests = [name for name, _ in made.plan.tests]
    answering = [s for name in tests for s in specs if name in dict(s.eval_masks)]
    one = "yes" if serves_all(answering) else "no"
    return {"prior": most(specs, made.plan.bundle.modalities, tests), "one model": one}


def table(made: Results, names: Sequence[str]) -> pd.DataFrame:
    """A line for each of some contenders: its flags, its scores, and those of shares of the best possible."""
    best = bests(made, names)
    lines = []
    for name in names:
        of_name = made.values[made.values["contender"] == name]
        by_seed = of_name.pivot_table(index="seed", columns="condition", values="value")
        reached = _scores(made, by_seed)
        shares = _scores(made, 100 * by_seed / pd.Series(best)) if best else None
        line: dict[str, object] = {"contender": name, **flags(made, name)}
        for column in COLUMNS:
            beside = "" if shares is None else f" ({shares[column].mean():.1f})"
            line[column] = _text(reached[column], made.metric) + beside
        lines.append(line)
    return pd.DataFrame(lines)


def told(made: Results, unit: str) -> str:
    """What is to be known when reading the table; unit: of the metric, in words."""
    return MEANING.format(unit=unit) + (SHARES if _is_exact(made) else "") + f" {FLAGS}"


def bests(made: Results, names: Sequence[str]) -> dict[str, float]:
    """Condition to the best possible result under the first look's masks; empty where it is not known."""
    if not names or not _is_exact(made):
        return {}
    plan = made.plan
    longest = max((made.specs[name] for name in names), key=len)
    first = [spec for spec in longest if spec.seed < plan.looks[0]]
    cells = [_cell(made, spec, name) for spec in first for name, _ in plan.tests]
    alone = not framed(plan.context, plan.ground.dataset)
    found = best_possible(cells, (made.metric,), context=alone)
    return {} if found is None else dict(zip(found["setting"], found["value"], strict=True))


def _cell(made: Results, spec: RunSpec, condition: str) -> Cell:
    return Cell("", condition, spec, condition, made.plan.ground.dataset)


def _is_exact(made: Results) -> bool:
    """Whether the best possible is known: of twins, in weighted F1."""
    if made.metric == "mae":
        return False
    reference = made.plan.context.reference(made.plan.ground.dataset)
    return is_twin(reference) and not is_av_twin(reference)


def _scores(made: Results, by_seed: pd.DataFrame) -> pd.DataFrame:
    """A line for each seed that has all conditions, a column for each score; errors keep their sign.

    by_seed: seeds down, conditions across. A drop is positive where missing modalities make it worse.
    """
    sign = -1.0 if made.metric == "mae" else 1.0
    tests = [name for name, _ in made.plan.tests]
    rates = {name: law.rate for name, law in made.plan.tests if law.kind == "shared"}
    lines = []
    for _, of in by_seed.reindex(columns=tests).dropna().iterrows():
        values = {name: sign * float(of[name]) for name in tests}
        curve = {rate: values[name] for name, rate in rates.items()}
        one = scores(values[ALL], [values[name] for name in tests if name != ALL], curve)
        kept = dataclasses.asdict(one)
        lines.append({k: value if k == "drop" else sign * value for k, value in kept.items()})
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _text(values: pd.Series, metric: str) -> str:
    """Mean and standard deviation."""
    digits = 3 if metric == "mae" else 1
    known = values.dropna()
    if known.empty:
        return "-"
    mean = f"{known.mean():.{digits}f}"
    mean = mean if float(mean) else mean.removeprefix("-")
    return mean if len(known) < 2 else f"{mean} ± {np.std(known, ddof=1):.{digits}f}"
