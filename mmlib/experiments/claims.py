"""The testable claims of a paper, each with its test and the measured value.

A paper declares its claims: the sentence, the runs that it is about, and what is measured of them. The runs, the values
and the table follow. Every test has one value per seed; its sign is chosen so that above 0 supports the sentence. The
few primary claims and the exploratory ones have different rules of decision: ``mmlib.report.looks``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_av_twin, is_twin
from mmlib.experiments import comparison, derived_again, other_data
from mmlib.experiments.comparison import Averages, selected, shown, with_averages
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import Measure, Validated, Values, means
from mmlib.experiments.verdicts import Measured, table, tested
from mmlib.metrics import to_maximise
from mmlib.names import few
from mmlib.report import looks, stats
from mmlib.report.artifact import Output
from mmlib.report.crossed import Interval
from mmlib.runs import clusters
from mmlib.runs.clusters import EXPECTED
from mmlib.runs.spec import RunSpec


@dataclass(frozen=True, eq=False)
class Source:
    """Runs on one data set, and what is read from them once for all claims about them."""

    dataset: str
    """As the published numbers have it."""

    cells: Sequence[Cell]
    """The runs' places."""

    read: Callable[[Context, Sequence[Cell]], Any]
    """From finished runs to what a claim's measure takes, such as ``Values``."""

    metric: str = ""
    """What it reads is the values of this metric; empty where it is something else."""

    averages: Averages = field(default_factory=dict)
    """Name to the settings that are averaged under it."""

    printed: Any = None
    """What it would read of the paper's own numbers, with one seed; None where the paper prints none."""


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

    costly: bool = False
    """Whether its runs take so long that only ``mmlib decide`` gives it the seeds of a primary claim."""

    exists: bool = False
    """Whether it says that something can happen: one data set may show it, and none can contradict it."""

    def printed(self) -> float | None:
        """What the paper's own numbers give for it; None where it does not print all that is measured."""
        if not self.source.printed:
            return None
        known = pd.Series(self.measure(self.source.printed), dtype=float).dropna()
        return float(known.iloc[0]) if len(known) else None

    def cells(self) -> list[Cell]:
        """The source's cells of the rows that the measure reads, all of them where it does not say which."""
        read = rows_read(self.measure)
        return [cell for cell in self.source.cells if read is None or cell.row in read]


def rows_read(measure: Callable[..., Any]) -> set[str] | None:
    """The rows that a measure reads; None where it does not say."""
    return measure.rows() if isinstance(measure, Measure) else None


@dataclass(frozen=True)
class Untested:
    """A sentence of a paper that no test of ours measures."""

    text: str
    """What it says."""

    where: str
    """Where it stands in the paper."""

    why: str
    """Why it has no test, or where else it is looked at."""


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

    untested: tuple[Untested, ...] = ()
    """The paper's other sentences that a run could be thought to test."""

    def cells(self, context: Context) -> list[Cell]:
        """The places of the runs that the claims are about, each once; of primary ones, with the profile's seeds."""
        sources = dict.fromkeys(claim.source for claim in self.declared(context))
        return list(
            dict.fromkeys(
                [
                    *(cell for source in sources for cell in source.cells),
                    *self._of_first_look(context),
                ]
            )
        )

    def _of_first_look(self, context: Context) -> list[Cell]:
        """The cells of primary claims that a profile gives more seeds than its tables, but of costly claims."""
        seeds = context.profile.primary_seeds
        if not seeds or context.seed_count or context.own:
            return []
        chosen = [claim for claim in self.primary(context, seeds) if not claim.costly]
        return [cell for claim in chosen for cell in claim.cells()]

    def primary(self, context: Context, seeds: int = looks.LOOKS[-1]) -> list[Claim]:
        """The primary claims with their runs of so many seeds."""
        wide = replace(context, seed_count=seeds)
        return [claim for claim in self.declared(wide) if claim.primary]

    def standing(self, context: Context) -> list[stats.Comparison | None]:
        """What finished runs of up to the last look's seeds say of each primary claim."""
        measured = self._of(context, self.primary(context))
        tests = tested(measured, self.points)
        return [tests.get(number) for number in range(1, len(measured) + 1)]

    def measured(self, context: Context) -> list[Measured]:
        """What finished runs say of each claim; of primary ones, with all seeds up to the last look that there are."""
        wide = iter(self.primary(context))
        chosen = [next(wide) if claim.primary else claim for claim in self.declared(context)]
        return self._of(context, chosen)

    def _of(self, context: Context, chosen: Sequence[Claim]) -> list[Measured]:
        """What finished runs say of some claims; each source is read once."""
        read: dict[Source, Any] = {}
        for source in dict.fromkeys(claim.source for claim in chosen):
            read[source] = source.read(context, source.cells)
        return [self._measured(context, claim, read[claim.source]) for claim in chosen]

    def _measured(self, context: Context, claim: Claim, read: Any) -> Measured:
        """What finished runs say of a claim; read: what its source reads of them."""
        dataset, known = claim.source.dataset, _in_order(claim.measure(read))
        seeds = [int(seed) for seed in known.index]
        return Measured(
            claim.text,
            claim.where,
            shown(context, dataset),
            claim.network or self.network,
            claim.test,
            claim.unit or self.points,
            known.to_numpy(),
            ". ".join(filter(None, (claim.detail(read), _left_out(seeds)))),
            claim.primary,
            claim.exists,
            partial(_elsewhere, context, claim, read, seeds),
            partial(_again, context, claim, read, seeds),
            clusters.of_test(context.bundle(dataset)).kind,
            claim.printed() if _beside(context, dataset) else None,
        )

    def further(self, context: Context) -> list[Cell]:
        """The cells of the primary claims that are run, with all seeds up to the last look that there are."""
        wide = [cell for claim in self.primary(context) for cell in claim.cells()]
        found = context.found(cell.spec for cell in wide)
        return [cell for cell in wide if found[id(cell.spec)][0] is not None]

    def counts(self, context: Context) -> dict[RunSpec, set[str]]:
        """By run, the arrays that the intervals for other test data are made from."""
        wide = self.primary(context)
        sources = dict.fromkeys(claim.source for claim in [*self.declared(context), *wide])
        made: dict[RunSpec, set[str]] = {}
        for source in sources:
            for cell in source.cells if source.metric else ():
                name = clusters.array_name(source.metric, cell.mask)
                made.setdefault(cell.spec, set()).add(name)
        return made

    def draw(self, context: Context, cells: Sequence[Cell]) -> Output:
        """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
        measured = self.measured(context)
        of_data = self.data_notes(context, context.datasets)
        if any(of.printed is not None for of in measured):  # the figure shows the paper's gains
            of_data = [note.replace(comparison.NOT_BESIDE, "") for note in of_data]
        expected = any(c.source.metric == EXPECTED for c in self.declared(context))
        notes = (*self.notes, *((ON_TWINS,) if expected else ()), *of_data)
        every = list(dict.fromkeys([*cells, *self.further(context)]))
        return table(context, measured, self.points, notes, every)


ON_TWINS = "On twins accuracy is the expected one: the exact probability that an answer is right, averaged."


def _elsewhere(
    context: Context, claim: Claim, read: Any, seeds: Sequence[int], count: int
) -> Interval | None:
    """The interval for other seeds and other test data of a claim about differences of a metric.

    count: of the seeds, from the first.
    """
    source, measure = claim.source, claim.measure
    if not source.metric or not isinstance(measure, Measure):
        return None
    return other_data.interval(
        context,
        source.dataset,
        source.cells,
        measure.terms(read),
        source.metric,
        source.averages,
        seeds[:count],
    )


def _again(context: Context, claim: Claim, read: Any, seeds: Sequence[int], count: int) -> str:
    """A claim's second derivation and the other choices of the epoch, where it is about differences of a metric."""
    source, measure = claim.source, claim.measure
    if not source.metric or not isinstance(measure, Measure):
        return ""
    finding = derived_again.Finding(
        source.dataset, source.cells, source.metric, source.averages, tuple(seeds[:count])
    )

    def differences(frame: pd.DataFrame) -> pd.Series:
        of_test = values(frame)
        known = replace(read, values=of_test) if isinstance(read, Validated) else of_test
        return pd.Series(claim.measure(known), dtype=float)

    return derived_again.sentence(context, finding, measure.terms(read), differences)


def _beside(context: Context, dataset: str) -> bool:
    """Whether the paper's gains are shown beside those on a data set: real ones, but for a reader's own."""
    return context.shows_printed(dataset) and not is_twin(context.reference(dataset))


def _in_order(values: pd.Series | Mapping[int, float] | Sequence[float]) -> pd.Series:
    """The values that there are by seed, in the order of the seeds."""
    return pd.Series(values, dtype=float).dropna().sort_index()


def _left_out(seeds: Sequence[int]) -> str:
    """Which seeds before the last one have no value; a run that has diverged is made again by no sweep."""
    lacking = [str(seed) for seed in sorted(set(range(max(seeds, default=0))) - set(seeds))]
    if not lacking:
        return ""
    if len(lacking) == 1:
        return f"Seed {lacking[0]} is left out: not all of its runs are done"
    return f"Seeds {few(lacking)} are left out: not all of their runs are done"


def values(frame: pd.DataFrame) -> Values:
    """(row, setting) to the values by seed, of results with one value for each."""
    return {
        (str(r), str(s)): group.set_index("seed")["value"]
        for (r, s), group in frame.groupby(["row", "setting"])
    }


def by_metric(metric: str, averages: Averages | None = None) -> Callable[..., Values]:
    """What reads a metric of cells at the epoch that validation picks, folds averaged, and means of some settings."""

    def read(context: Context, cells: Sequence[Cell]) -> Values:
        by = ("row", "seed", "selection", "metric")
        return values(with_averages(selected(context, cells, metric), averages or {}, by))

    return read


def of_metric(
    dataset: str,
    cells: Sequence[Cell],
    metric: str,
    averages: Averages | None = None,
    printed: Values | None = None,
) -> Source:
    """A metric of cells at the epoch that validation picks, and its means over some settings.

    printed: the paper's own values, without these means.
    """
    named = averages or {}
    known = None if printed is None else {**printed, **means(printed, named)}
    return Source(dataset, cells, by_metric(metric, named), metric, named, known)


def with_validation(
    dataset: str, cells: Sequence[Cell], metric: str, printed: Values | None = None
) -> Source:
    """A metric as ``of_metric`` has it, and how good each row is on validation.

    printed: the paper's own values, whose best row is that of test.
    """
    of_test = by_metric(metric)

    def read(context: Context, cells: Sequence[Cell]) -> Validated:
        picked: dict[str, dict[int, list[float]]] = {}
        early = [cell for cell in cells if cell.spec.seed < looks.LOOKS[0]]
        found = context.found(cell.spec for cell in early)
        for cell in early:
            record = found[id(cell.spec)][0]
            if record is not None:
                of_row = picked.setdefault(cell.row, {}).setdefault(cell.spec.seed, [])
                of_row.append(float(np.max(to_maximise(record["curves"]["valid"]))))
        valid = {
            row: pd.Series({seed: np.mean(of) for seed, of in by_seed.items()}, dtype=float)
            for row, by_seed in picked.items()
        }
        return Validated(of_test(context, cells), valid)

    known = Validated(printed, {row: of for (row, _), of in printed.items()}) if printed else None
    return Source(dataset, cells, read, metric, printed=known)


def by_metrics(dataset: str, cells: Sequence[Cell], metrics: Sequence[str]) -> Source:
    """Several metrics of cells of one setting, each under its name in the place of a setting's."""

    def read(context: Context, cells: Sequence[Cell]) -> Values:
        frames = [selected(context, cells, metric).assign(setting=metric) for metric in metrics]
        return values(pd.concat(frames, ignore_index=True))

    return Source(dataset, cells, read)


def accuracy_of(context: Context, dataset: str) -> str:
    """The metric that stands for accuracy: the expected one on twins whose posterior is known (design, section 7)."""
    reference = context.reference(dataset)
    return EXPECTED if is_twin(reference) and not is_av_twin(reference) else "accuracy"
