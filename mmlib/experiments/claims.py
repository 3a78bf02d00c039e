"""The testable claims of a paper, each with its test and the measured value.

A paper declares its claims: the sentence, the runs that it is about, and what is measured of them. The runs, the values
and the table follow. Every test has one value per seed; its sign is chosen so that above 0 supports the sentence. The
intervals are simultaneous for the whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmlib.experiments import comparison
from mmlib.experiments.comparison import Averages, selected, shown, with_averages
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
Values = Mapping[tuple[str, str], pd.Series]
"""(row, setting) to the values by seed."""


@dataclass(frozen=True, eq=False)
class Source:
    """Runs on one data set, and what is read from them once for all claims about them."""

    dataset: str
    """As the published numbers have it."""

    cells: Sequence[Cell]
    """The runs' places."""

    read: Callable[[Context, Sequence[Cell]], Any]
    """From finished runs to what a claim's measure takes, such as ``Values``."""


@dataclass(frozen=True)
class Lead:
    """How far one row is ahead of another in a setting."""

    first: str
    """The row that the sentence says is better."""

    second: str
    """The other row."""

    setting: str = ""
    """May be an average of the source."""

    def __call__(self, values: Values) -> pd.Series:
        """First minus second by seed, of the seeds that both have."""
        return (
            at(values, self.first, self.setting) - at(values, self.second, self.setting)
        ).dropna()


@dataclass(frozen=True)
class Mean:
    """The mean of several leads within each seed, of the seeds that all have."""

    leads: Sequence[Lead]
    """Each of one setting or against one row."""

    def __call__(self, values: Values) -> pd.Series:
        """By seed; empty where there is no lead."""
        each = [lead(values) for lead in self.leads]
        return pd.concat(each, axis=1).mean(axis=1, skipna=False) if each else NOTHING


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper with its test, as declared."""

    text: str
    """The sentence."""

    where: str
    """Where it stands in the paper."""

    test: str
    """What is measured, in words."""

    source: Source
    """The runs that it is about."""

    measure: Callable[[Any], pd.Series | Mapping[int, float] | Sequence[float]]
    """From what the source reads to one value per seed; above 0 supports the sentence."""

    unit: str = ""
    """Of the values; the points of the paper's claims where empty."""

    network: str = ""
    """The backbone; that of the paper's claims where empty."""

    detail: Callable[[Any], str] = lambda read: ""
    """From what the source reads to what is worth knowing beside the test."""

    primary: bool = False
    """Whether it is one of the few that were named in advance as what the paper stands on."""


@dataclass(frozen=True)
class Measured:
    """A claim as its table has it."""

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


@dataclass(frozen=True)
class Claims:
    """A paper's claims: what its artifact is declared by."""

    declared: Callable[[Context], Sequence[Claim]]
    """The claims, in the order of the table."""

    points: str
    """The unit whose differences are judged by the margin of metrics, and drawn."""

    network: str
    """The backbone of claims that name none."""

    notes: tuple[str, ...] = ()
    """What stands below the table, before what is said of the data."""

    data_notes: Callable[[Context, Sequence[str]], Sequence[str]] = comparison.data_notes
    """What is said of the data below the table."""

    def cells(self, context: Context) -> list[Cell]:
        """The places of the runs that the claims are about, each once."""
        sources = dict.fromkeys(claim.source for claim in self.declared(context))
        return list(dict.fromkeys(cell for source in sources for cell in source.cells))

    def measured(self, context: Context) -> list[Measured]:
        """What finished runs say of each claim."""
        read: dict[Source, Any] = {}
        made = []
        for claim in self.declared(context):
            source = claim.source
            if source not in read:
                read[source] = source.read(context, source.cells)
            of = read[source]
            made.append(
                Measured(
                    claim.text,
                    claim.where,
                    shown(context, source.dataset),
                    claim.network or self.network,
                    claim.test,
                    claim.unit or self.points,
                    pd.Series(claim.measure(of), dtype=float).dropna().to_numpy(),
                    claim.detail(of),
                )
            )
        return made

    def draw(self, context: Context, cells: Sequence[Cell]) -> Output:
        """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
        notes = (*self.notes, *self.data_notes(context, context.datasets))
        return table(context, self.measured(context), self.points, notes, cells)


NOTHING = pd.Series(dtype=float)  # by seed


def values(frame: pd.DataFrame) -> Values:
    """(row, setting) to the values by seed, of results with one value for each."""
    return {
        (str(r), str(s)): group.set_index("seed")["value"]
        for (r, s), group in frame.groupby(["row", "setting"])
    }


def at(by_place: Values, row: str, setting: str) -> pd.Series:
    """By seed; empty where nothing is known."""
    return by_place.get((row, setting), NOTHING)


def by_metric(metric: str, averages: Averages | None = None) -> Callable[..., Values]:
    """What reads a metric of cells at the epoch that validation picks, folds averaged, and means of some settings."""

    def read(context: Context, cells: Sequence[Cell]) -> Values:
        by = ("row", "seed", "selection", "metric")
        return values(with_averages(selected(context, cells, metric), averages or {}, by))

    return read


def table(
    context: Context,
    claims: Sequence[Measured],
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


def _tests(claims: Sequence[Measured], points: str, family: int) -> dict[int, stats.Comparison]:
    """The values of each claim with more than one seed against 0, by the claim's number from 1."""
    tests = {}
    for number, claim in enumerate(claims, start=1):
        if len(claim.values) > 1:
            margin = stats.MARGIN if claim.unit == points else NO_MARGIN
            zeros = np.zeros(len(claim.values))
            tests[number] = stats.paired(claim.values, zeros, margin, comparisons=family)
    return tests


def _line(number: int, claim: Measured, test: stats.Comparison | None) -> dict[str, object]:
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
        "measured": str(test),
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
