"""Comparison tables: rows under a protocol, beside what the paper prints, each row against another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from mmlib.experiments import comparison, rows
from mmlib.experiments.comparison import Averages, Best, best_possible, data_notes
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Protocol, Row
from mmlib.report.artifact import Output, Text, said

Printed = Callable[[Context, str, Sequence[str]], pd.DataFrame]
Places = Callable[[Context, str, Row], list[Cell]]


def every_data_set(context: Context) -> Sequence[str]:
    """All data sets that have data, in the paper's order."""
    return context.datasets


def main_data_set(context: Context) -> Sequence[str]:
    """The first data set that has data."""
    return context.datasets[:1]


def fixed_data_set(name: str) -> Callable[[Context], Sequence[str]]:
    """A data set by its name, where it has data."""
    return lambda context: [d for d in context.datasets if d == name]


def every_mask(context: Context, dataset: str) -> Sequence[str]:
    """All test masks of a run."""
    return ()


def no_averages(context: Context, dataset: str) -> Averages:
    """No averages."""
    return {}


@dataclass(frozen=True)
class Table:
    """A comparison of rows, over one data set or several."""

    rows: Callable[[Context, str], Sequence[Row]]
    """The rows on a data set; what they are compared with follows from ``baseline`` and from ``Row.against``."""

    protocol: Callable[[Context, str], Protocol] | None
    """What the rows share on a data set; None where ``places`` says how they are run."""

    baseline: str
    """The row that every other is compared with, but for those that name another; empty where all do that need one."""

    metrics: Callable[[Context, str], Sequence[str]]
    """The metrics to show of a data set, in their order."""

    datasets: Callable[[Context], Sequence[str]] = every_data_set
    """The data sets to show, of those that have data."""

    printed: Printed | None = None
    """The cells that the paper prints, under our names of settings and metrics; None for a table of ours."""

    averages: Callable[[Context, str], Averages] = no_averages
    """Settings that are means of others, taken within each run."""

    means: Callable[[Context, str], Averages] = no_averages
    """Metrics that are means of others, likewise."""

    parts_too: bool = True
    """Whether the metrics that ``means`` are made of are shown as well."""

    settings: tuple[str, ...] = ()
    """Those to show, averages too; all where empty."""

    best: Best = best_possible
    """On twins, the best that can be had."""

    notes: tuple[Text, ...] = ()
    """What stands below the table, before what is said of the data; nothing for one that is empty."""

    places: Places | None = None
    """A row's cells on a data set, where its columns are trainings under several laws and not tests of one."""

    data_notes: Callable[[Context, Sequence[str]], Sequence[str]] = data_notes
    """What is said of the data below the table."""

    masks: Callable[[Context, str], Sequence[str]] = every_mask
    """The test masks that the table reads, of runs that are tested under more; all where empty."""

    def cells(self, context: Context) -> list[Cell]:
        """The places of the table's runs, data set by data set."""
        return [
            cell for dataset in self.datasets(context) for cell in self.cells_of(context, dataset)
        ]

    def cells_of(self, context: Context, dataset: str) -> list[Cell]:
        """The places of the runs of one data set."""
        chosen = [row for row in self.rows(context, dataset) if rows.fits(context, dataset, row)]
        if self.protocol is not None:
            shared, masks = self.protocol(context, dataset), self.masks(context, dataset)
            return rows.cells(context, dataset, chosen, shared, masks)
        assert self.places is not None  # one of the two says it
        return [cell for row in chosen for cell in self.places(context, dataset, row)]

    def draw(self, context: Context, cells: Sequence[Cell]) -> Output:
        """The table, from finished runs."""
        names = self.datasets(context)
        notes = filter(None, (said(context, note) for note in self.notes))
        metrics = {d: self.metrics(context, d) for d in names}
        means = {d: self.means(context, d) for d in names}
        parts = []
        for dataset in names:
            asked = [*metrics[dataset], *means[dataset]]
            known = None
            if self.printed and context.shows_printed(dataset):
                known = self.printed(context, dataset, asked)
            parts.append((dataset, rows.on(cells, dataset), known))
        return comparison.compare(
            context,
            parts,
            self.baselines(context),
            (*notes, *self.absent(context), *self.data_notes(context, names)),
            metrics,
            self.best,
            lambda dataset: self.averages(context, dataset),
            self.settings,
            {name: of for d in names for name, of in means[d].items()},
            self.parts_too,
        )

    def baselines(self, context: Context) -> dict[str, str]:
        """Row to the row that it is compared with."""
        chosen = [row for dataset in self.datasets(context) for row in self.rows(context, dataset)]
        against = {
            row.name: row.against or self.baseline
            for row in chosen
            if row.name != self.baseline and row.against is not None
        }
        return {name: other for name, other in against.items() if other}

    def absent(self, context: Context) -> list[str]:
        """For each row that is absent on some data sets, what its networks take and on which it is."""
        lacking: dict[Row, list[str]] = {}
        for dataset in self.datasets(context):
            for row in self.rows(context, dataset):
                if not rows.fits(context, dataset, row):
                    lacking.setdefault(row, []).append(comparison.shown(context, dataset))
        return [
            f"{row.name} takes {row.takes}: no such row on {', '.join(names)}."
            for row, names in lacking.items()
        ]

    def left_out(self, context: Context) -> list[str]:
        """The rows that the paper prints of the data sets and that nothing declares, in the printed order."""
        names: list[str] = []
        for dataset in self.datasets(context):
            metrics = [*self.metrics(context, dataset), *self.means(context, dataset)]
            if self.printed is None or not context.shows_printed(dataset):
                continue
            known = self.printed(context, dataset, metrics)
            declared = {row.name for row in self.rows(context, dataset)}
            names += [name for name in known.get("row", ()) if name not in declared]
        return list(dict.fromkeys(names))


def fixed(names: Sequence[str]) -> Callable[[Context, str], Sequence[str]]:
    """The same names whatever the data."""
    return lambda context, dataset: names


def of_rows(chosen: Sequence[Row]) -> Callable[[Context, str], Sequence[Row]]:
    """The same rows whatever the data."""
    return lambda context, dataset: chosen
