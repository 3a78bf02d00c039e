"""What claims measure: differences of rows and settings, each with one value per seed.

A measure reads the values of a source and gives one value per seed; above 0 supports the sentence. It says which rows
it reads, and which differences it is a sum of, so that the interval for other test data follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from mmlib.experiments.comparison import Averages
from mmlib.experiments.other_data import Term

Values = Mapping[tuple[str, str], pd.Series]
"""(row, setting) to the values by seed."""


NOTHING = pd.Series(dtype=float)  # by seed


def at(by_place: Values, row: str, setting: str) -> pd.Series:
    """By seed; empty where nothing is known."""
    return by_place.get((row, setting), NOTHING)


def means(by_place: Values, averages: Averages) -> Values:
    """(row, average) to the values by seed, of the rows that have all settings of an average."""
    rows = dict.fromkeys(row for row, _ in by_place)
    return {
        (row, name): pd.concat([by_place[row, part] for part in parts], axis=1).mean(axis=1)
        for name, parts in averages.items()
        for row in rows
        if parts and all((row, part) in by_place for part in parts)
    }


@dataclass(frozen=True)
class Lead:
    """How far one row is ahead of another in a setting."""

    first: str
    """The row that the sentence says is better."""

    second: str
    """The other row."""

    setting: str = ""
    """May be an average of the source."""

    def __call__(self, read: Values | Validated) -> pd.Series:
        """First minus second by seed, of the seeds that both have."""
        of = _of_test(read)
        return (at(of, self.first, self.setting) - at(of, self.second, self.setting)).dropna()

    def terms(self, read: object) -> list[Term]:
        """Itself."""
        return [Term(self.first, self.second, self.setting)]

    def rows(self) -> set[str]:
        """Both."""
        return {self.first, self.second}


@dataclass(frozen=True)
class Shift:
    """How much better a row is in one setting than in another."""

    row: str
    """The row."""

    first: str
    """The setting in which the sentence says that it is better; may be an average of the source."""

    second: str
    """The other setting, likewise."""

    def __call__(self, read: Values | Validated) -> pd.Series:
        """First minus second by seed, of the seeds that both have."""
        of = _of_test(read)
        return (at(of, self.row, self.first) - at(of, self.row, self.second)).dropna()

    def terms(self, read: object) -> list[Term]:
        """Itself."""
        return [Term(self.row, self.row, self.first, against=self.second)]

    def rows(self) -> set[str]:
        """The one."""
        return {self.row}


@dataclass(frozen=True)
class Weighted:
    """A sum of several differences within each seed, of the seeds that all have."""

    parts: Sequence[tuple[float, Difference]]
    """Each with its weight."""

    def __call__(self, read: Values | Validated) -> pd.Series:
        """By seed; empty where there is no part."""
        each = [weight * part(read) for weight, part in self.parts]
        return pd.concat(each, axis=1).sum(axis=1, skipna=False) if each else NOTHING

    def terms(self, read: object) -> list[Term]:
        """Those of the parts, each with its share."""
        return [
            replace(term, weight=weight * term.weight)
            for weight, part in self.parts
            for term in part.terms(read)
        ]

    def rows(self) -> set[str]:
        """Those of all parts."""
        return {row for _, part in self.parts for row in part.rows()}


@dataclass(frozen=True)
class Change:
    """How much larger a difference is than another one, of the same or other rows in another setting."""

    to: Difference
    """What it changes to."""

    start: Difference
    """What it changes from."""

    def __call__(self, read: Values | Validated) -> pd.Series:
        """By seed, of the seeds that all have."""
        return (self.to(read) - self.start(read)).dropna()

    def terms(self, read: object) -> list[Term]:
        """Those of both, the second ones turned round."""
        return [*self.to.terms(read), *(term.turned() for term in self.start.terms(read))]

    def rows(self) -> set[str]:
        """Those of both."""
        return self.to.rows() | self.start.rows()


@dataclass(frozen=True)
class Mean:
    """The mean of several differences within each seed, of the seeds that all have."""

    leads: Sequence[Lead | Shift]
    """Each of one setting or against one row."""

    def __call__(self, read: Values | Validated) -> pd.Series:
        """By seed; empty where there is none."""
        each = [lead(read) for lead in self.leads]
        return pd.concat(each, axis=1).mean(axis=1, skipna=False) if each else NOTHING

    def terms(self, read: object) -> list[Term]:
        """The differences, each with its share."""
        share = 1 / max(1, len(self.leads))
        return [replace(term, weight=share) for lead in self.leads for term in lead.terms(read)]

    def rows(self) -> set[str]:
        """Those of all."""
        return {row for lead in self.leads for row in lead.rows()}


Difference = Lead | Shift | Weighted | Change | Mean
"""What is a sum of differences of two places."""


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

    def terms(self, read: Validated) -> list[Term]:
        """The lead over the row that validation picks; nothing where none is run."""
        best = read.best(self.others)
        return [Term(self.first, best, self.setting)] if best else []

    def name(self, read: Validated) -> str:
        """Which row validation picks, in words."""
        best = read.best(self.others)
        return f"the best on validation: {best}" if best else ""

    def rows(self) -> set[str]:
        """All that may be read."""
        return {self.first, *self.others}


def _of_test(read: Values | Validated) -> Values:
    """The test values of what a source reads."""
    return read.values if isinstance(read, Validated) else read


Measure = Difference | BestLead
"""What says which rows it reads."""
