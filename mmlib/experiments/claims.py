"""The testable claims of a paper, each with its test and the measured value.

A paper declares its claims: the sentence, the runs that it is about, and what is measured of them. The runs, the values
and the table follow. Every test has one value per seed; its sign is chosen so that above 0 supports the sentence. The
few primary claims and the exploratory ones have different rules of decision: ``mmlib.report.looks``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmlib.experiments import comparison
from mmlib.experiments.comparison import Averages, selected, shown, with_averages
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import with_parents
from mmlib.metrics import to_maximise
from mmlib.report import figures as draw
from mmlib.report import looks, stats
from mmlib.report.artifact import Output

VERDICTS = {
    "better": "supported",
    "worse": "contradicted",
    "equivalent": "no difference that matters",
    "undecided": "undecided",
    stats.TOO_FEW: stats.TOO_FEW,
}
NOT_RUN = "not run"
NOT_SHOWN = "not shown here"  # of what can happen, which one data set cannot contradict
OPEN = (stats.TOO_FEW, NOT_RUN)
PRIMARY, EXPLORATORY = "primary", "exploratory"
NO_MARGIN = 0.0
LIMITS = {"correlation": 1.0}  # that values of a unit cannot leave, nor their intervals
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
class Validated:
    """Test values, and what validation says of each row."""

    values: Values
    """At the epoch that validation picks."""

    valid: Mapping[str, pd.Series]
    """By row and seed, up to the first look: what picks the epoch, at the picked one, folds averaged."""

    def best(self, rows: Sequence[str]) -> str:
        """The row that is best on validation, over the seeds that all rows have; empty where none is run.

        Later seeds have no part in it, so that all looks are at the same row.
        """
        known = pd.DataFrame({row: self.valid[row] for row in rows if row in self.valid}).dropna()
        return str(known.mean().idxmax()) if len(known) else ""


@dataclass(frozen=True)
class BestLead:
    """How far one row is ahead of the one of several others that validation picks."""

    first: str
    """The row that the sentence says is better."""

    others: Sequence[str]
    """Those that validation chooses from."""

    setting: str = ""
    """May be an average of the source."""

    def __call__(self, read: Validated) -> pd.Series:
        """By seed; empty where no other row is run."""
        return Lead(self.first, read.best(self.others), self.setting)(read.values)

    def name(self, read: Validated) -> str:
        """Which row validation picks, in words."""
        best = read.best(self.others)
        return f"the best on validation: {best}" if best else ""


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

    exists: bool = False
    """Whether it says that something can happen: one data set may show it, and none can contradict it."""

    def cells(self) -> list[Cell]:
        """The source's cells of the rows that the measure reads, all of them where it does not say which."""
        read = rows_read(self.measure)
        return [cell for cell in self.source.cells if read is None or cell.row in read]


def rows_read(measure: Callable[..., Any]) -> set[str] | None:
    """The rows that a measure reads; None where it does not say."""
    match measure:
        case Lead(first, second):
            return {first, second}
        case BestLead(first, others):
            return {first, *others}
        case Mean(leads):
            return {row for lead in leads for row in (lead.first, lead.second)}
    return None


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

    primary: bool = False
    """Whether it was named in advance as what the paper stands on."""

    exists: bool = False
    """Whether it says that something can happen."""


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

    def primary(self, context: Context, seeds: int = looks.LOOKS[-1]) -> list[Claim]:
        """The primary claims with their runs of so many seeds."""
        wide = dataclasses.replace(context, seed_count=seeds)
        return [claim for claim in self.declared(wide) if claim.primary]

    def standing(self, context: Context) -> list[stats.Comparison | None]:
        """What finished runs of up to the last look's seeds say of each primary claim."""
        measured = self._of(context, self.primary(context))
        tests = _tests(measured, self.points)
        return [tests.get(number) for number in range(1, len(measured) + 1)]

    def measured(self, context: Context) -> list[Measured]:
        """What finished runs say of each claim; of primary ones, with all seeds up to the last look that there are."""
        wide = iter(self.primary(context))
        chosen = [next(wide) if claim.primary else claim for claim in self.declared(context)]
        return self._of(context, chosen)

    def _of(self, context: Context, chosen: Sequence[Claim]) -> list[Measured]:
        """What finished runs say of some claims; each source is read once."""
        read: dict[Source, Any] = {}
        made = []
        for claim in chosen:
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
                    _in_order(claim.measure(of)),
                    claim.detail(of),
                    claim.primary,
                    claim.exists,
                )
            )
        return made

    def draw(self, context: Context, cells: Sequence[Cell]) -> Output:
        """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
        notes = (*self.notes, *self.data_notes(context, context.datasets))
        further = [
            cell
            for claim in self.primary(context)
            for cell in claim.cells()
            if context.record(cell.spec) is not None
        ]
        every = list(dict.fromkeys([*cells, *further]))
        return table(context, self.measured(context), self.points, notes, every)


NOTHING = pd.Series(dtype=float)  # by seed


def _in_order(values: pd.Series | Mapping[int, float] | Sequence[float]) -> np.ndarray:
    """Values in the order of their seeds, from the first seed to the last before one that is lacking."""
    known = pd.Series(values, dtype=float).dropna().sort_index()
    if isinstance(values, pd.Series | Mapping):
        known = known[known.index == np.arange(len(known))]
    return known.to_numpy()


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


def with_validation(metric: str) -> Callable[..., Validated]:
    """What reads a metric as ``by_metric`` does, and how good each row is on validation."""
    of_test = by_metric(metric)

    def read(context: Context, cells: Sequence[Cell]) -> Validated:
        picked: dict[str, dict[int, list[float]]] = {}
        for cell in cells:
            early = cell.spec.seed < looks.LOOKS[0]
            record = context.record(cell.spec) if early else None
            if record is not None:
                of_row = picked.setdefault(cell.row, {}).setdefault(cell.spec.seed, [])
                of_row.append(float(np.max(to_maximise(record["curves"]["valid"]))))
        valid = {
            row: pd.Series({seed: np.mean(of) for seed, of in by_seed.items()}, dtype=float)
            for row, by_seed in picked.items()
        }
        return Validated(of_test(context, cells), valid)

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
    tests = _tests(claims, points)
    numbered = list(enumerate(claims, start=1))
    numbers = pd.DataFrame([_line(number, claim, tests.get(number)) for number, claim in numbered])
    drawn = {
        f"{number}. {claim.backbone}, {claim.data}": tests[number]
        for number, claim in numbered
        if number in tests and claim.unit == points and tests[number].verdict != stats.TOO_FEW
    }
    return Output(
        table=numbers.drop(columns=[c for c in NUMBERS_ONLY if c in numbers]).fillna(""),
        figure=_figure(drawn, points) if drawn else None,
        numbers=numbers,
        rows_built=len(tests),
        notes=_notes(numbers, points, notes, len(drawn)),
        run_ids=run_ids,
    )


def _tests(claims: Sequence[Measured], points: str) -> dict[int, stats.Comparison]:
    """The values of each claim that was run against 0, by the claim's number from 1."""
    tests: dict[int, stats.Comparison] = {}
    for rule, primary in ((looks.primary, True), (looks.exploratory, False)):
        chosen = [(n, c) for n, c in enumerate(claims, start=1) if c.primary == primary]
        margins = [stats.MARGIN if claim.unit == points else NO_MARGIN for _, claim in chosen]
        made = rule([claim.values for _, claim in chosen], margins)
        tests |= {
            n: _within(test, LIMITS.get(claim.unit, math.inf))
            for (n, claim), test in zip(chosen, made, strict=True)
            if test is not None
        }
    return dict(sorted(tests.items()))


def _within(test: stats.Comparison, limit: float) -> stats.Comparison:
    """A comparison whose intervals end where values do."""
    ends = {
        name: min(max(getattr(test, name), -limit), limit)
        for name in ("low", "high", "low90", "high90")
    }
    return dataclasses.replace(test, **ends)


def _line(number: int, claim: Measured, test: stats.Comparison | None) -> dict[str, object]:
    line: dict[str, object] = {
        "no": number,
        "claim": claim.text,
        "where": claim.where,
        "data": claim.data,
        "backbone": claim.backbone,
        "kind": PRIMARY if claim.primary else EXPLORATORY,
        "test (above 0 supports)": claim.test,
        "unit": claim.unit,
        "seeds": test.n if test else 0,
    }
    if test is None:
        return line | {"measured": NOT_RUN, "verdict": NOT_RUN, "detail": claim.detail}
    return line | {
        "measured": f"{test} ({test.n})" if test.verdict == stats.TOO_FEW else str(test),
        "verdict": _verdict(claim, test),
        "difference": test.difference,
        "low": test.low,
        "high": test.high,
        "could have shown": test.detectable,
        "detail": claim.detail,
    }


def _verdict(claim: Measured, test: stats.Comparison) -> str:
    """In words; of what can happen, that it was not shown, unless it was."""
    shown = test.verdict in ("better", stats.TOO_FEW)
    return NOT_SHOWN if claim.exists and not shown else VERDICTS[test.verdict]


def _notes(numbers: pd.DataFrame, points: str, notes: Sequence[str], drawn: int) -> tuple[str, ...]:
    """How many claims have each verdict, and how to read them; drawn: how many claims the figure is of."""
    remarks = [
        *(_counted(str(kind), of["verdict"]) for kind, of in numbers.groupby("kind", sort=False)),
        f"One value per seed, paired. Under {stats.FEWEST} seeds there is no interval and no verdict.",
    ]
    kinds = set(numbers["kind"])
    if PRIMARY in kinds:
        remarks.append(
            "Primary claims were named in advance and are looked at after "
            f"{', '.join(map(str, looks.LOOKS[:-1]))} and {looks.LOOKS[-1]} seeds. The chance that any of them is "
            f"called supported or contradicted by accident is {100 * looks.LEVEL:g} % (Pocock for the looks, Holm for "
            "their number); an interval has the level that these rules give to its claim."
        )
    if EXPLORATORY in kinds:
        remarks.append(
            "Exploratory claims have 95 % intervals each; at most 5 % of those that are called supported or "
            "contradicted are expected to be false (Benjamini-Hochberg)."
        )
    if set(numbers["unit"]) - {points}:
        remarks.append(
            f"Differences of up to {stats.MARGIN:g} {points} do not matter. Other units have no such margin."
        )
    if drawn > DRAWN:
        remarks.append(
            f"Figure: {DRAWN} of {drawn} claims about results: decided ones first, then those nearest to a decision."
        )
    return (*remarks, *notes)


def _counted(kind: str, verdicts: pd.Series) -> str:
    counts = verdicts.value_counts()
    return f"{kind.capitalize()}: " + ", ".join(f"{counts[v]} {v}" for v in counts.index) + "."


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
