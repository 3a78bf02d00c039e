"""The testable claims of a paper, each with its test and the measured value.

Every test has one value per seed; its sign is chosen so that above 0 supports the sentence. The intervals are
simultaneous for the whole table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import with_parents
from mmlib.report import figures as draw
from mmlib.report import stats
from mmlib.report.artifact import Output

VERDICTS = {
    "better": "supported",
    "worse": "contradicted",
    "equivalent": "no difference that matters",
    "undecided": "undecided",
}
NO_MARGIN = 0.0
DRAWN = 30  # claims in a figure
# Columns that the table leaves out.
NUMBERS_ONLY = ("difference", "low", "high", "could have shown")


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper with its test, and what the test measured."""

    text: str
    """The sentence."""

    where: str
    """Where it stands in the paper."""

    data: str
    """The data set, as readers see it."""

    backbone: str
    """The network."""

    test: str
    """What is measured, in words."""

    unit: str
    """Of the values."""

    values: np.ndarray
    """One per seed; above 0 supports the sentence."""

    detail: str = ""
    """What is worth knowing beside the test."""


Values = Mapping[tuple[str, str], pd.Series]


def values(frame: pd.DataFrame) -> Values:
    """(row, setting) to the values by seed, of results with one value for each."""
    return {
        (str(r), str(s)): group.set_index("seed")["value"]
        for (r, s), group in frame.groupby(["row", "setting"])
    }


def minus(by_place: Values, first: str, second: str, setting: str) -> pd.Series:
    """First minus second by seed, of the seeds that both have."""
    a, b = by_place.get((first, setting)), by_place.get((second, setting))
    return pd.Series(dtype=float) if a is None or b is None else (a - b).dropna()


def table(
    context: Context,
    claims: Sequence[Claim],
    points: str,
    notes: Sequence[str],
    cells: Sequence[Cell],
) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict.

    points: the unit whose differences are judged by the margin of metrics, and drawn. cells: all that a claim reads.
    """
    needed = with_parents(cell.spec for cell in cells)
    run_ids = tuple(spec.run_id(context.bundle_fingerprint(spec.data)) for spec in needed)
    family = max(1, sum(len(claim.values) > 1 for claim in claims))
    tests = _tests(claims, points, family)
    numbered = list(enumerate(claims, start=1))
    numbers = pd.DataFrame([_line(number, claim, tests.get(number)) for number, claim in numbered])
    drawn = {
        f"{number}. {claim.backbone}, {claim.data}": tests[number]
        for number, claim in numbered
        if number in tests and claim.unit == points
    }
    return Output(
        table=numbers.drop(columns=[c for c in NUMBERS_ONLY if c in numbers]).fillna(""),
        figure=_figure(drawn, points) if drawn else None,
        numbers=numbers,
        rows_built=len(tests),
        notes=_notes(numbers["verdict"], family, notes, len(drawn)),
        run_ids=run_ids,
    )


def _tests(claims: Sequence[Claim], points: str, family: int) -> dict[int, stats.Comparison]:
    """The values of each claim with more than one seed against 0, by the claim's number from 1."""
    tests = {}
    for number, claim in enumerate(claims, start=1):
        if len(claim.values) > 1:
            margin = stats.MARGIN if claim.unit == points else NO_MARGIN
            zeros = np.zeros(len(claim.values))
            tests[number] = stats.paired(claim.values, zeros, margin, comparisons=family)
    return tests


def _line(number: int, claim: Claim, test: stats.Comparison | None) -> dict[str, object]:
    line: dict[str, object] = {
        "no": number,
        "claim": claim.text,
        "where": claim.where,
        "data": claim.data,
        "backbone": claim.backbone,
        "test (above 0 supports)": claim.test,
        "unit": claim.unit,
        "seeds": len(claim.values),
    }
    if test is None:
        lacking = "one seed only" if len(claim.values) else "not built yet"
        return line | {"measured": lacking, "verdict": lacking, "detail": claim.detail}
    return line | {
        "measured": f"{test.difference:+.2f} [{test.low:.2f}, {test.high:.2f}]",
        "verdict": VERDICTS[test.verdict],
        "difference": test.difference,
        "low": test.low,
        "high": test.high,
        "could have shown": test.detectable,
        "detail": claim.detail,
    }


def _notes(verdicts: pd.Series, family: int, notes: Sequence[str], drawn: int) -> tuple[str, ...]:
    """How many claims have each verdict, and how to read them; drawn: how many claims the figure is of."""
    counts = verdicts.value_counts()
    remarks = (
        ", ".join(f"{counts[v]} {v}" for v in counts.index) + ".",
        f"Each test has one value per seed, paired; the {family} intervals are "
        "simultaneous (95 %). 'Undecided' is no evidence against a claim: more seeds "
        "are needed.",
        *notes,
    )
    if drawn <= DRAWN:
        return remarks
    return (
        *remarks,
        f"Figure: {DRAWN} of {drawn} claims about results: decided ones first, then those nearest to a decision.",
    )


def _figure(drawn: Mapping[str, stats.Comparison], points: str) -> draw.Figure:
    figure, axes = draw.panel_grid(1, width=draw.DOUBLE, height=0.9 + 0.26 * min(DRAWN, len(drawn)))
    draw.forest(
        axes[0],
        most_telling(drawn, DRAWN),
        xlabel=f"measured, {points} (above 0 supports the claim)",
        title="Claims about results, by number",
    )
    return figure


def most_telling(tests: Mapping[str, stats.Comparison], most: int) -> dict[str, stats.Comparison]:
    """At most so many, in their order: the decided ones first, then those with the largest difference for its error."""

    def rank(name: str) -> tuple[bool, float]:
        test = tests[name]
        width = max(test.high - test.low, np.finfo(float).eps)
        return test.verdict == "undecided", -abs(test.difference) / width

    kept = sorted(tests, key=rank)[:most]
    return {name: test for name, test in tests.items() if name in kept}
