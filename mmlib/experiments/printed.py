"""The papers' printed numbers in the form in which claims read results: what a claim would measure on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pandas as pd

from mmlib.experiments.published import published

Named = Callable[[pd.DataFrame], pd.Series]
"""From a printed table's cells to our names of their settings; missing where they are none of ours."""


def as_printed(frame: pd.DataFrame) -> pd.Series:
    """The settings as they stand in the table, of cells without a condition."""
    return frame["setting"].where(frame["condition"] == "")


@cache
def values(
    paper: str, tables: tuple[str, ...], dataset: str, metric: str, named: Named = as_printed
) -> dict[tuple[str, str], pd.Series]:
    """(row, setting) to a series of one value, of the cells of some printed tables.

    dataset, metric: as the published numbers have them.
    """
    made = {}
    for table in tables:
        frame = published(paper, table)
        frame = frame[(frame["dataset"] == dataset) & (frame["metric"] == metric)]
        known = frame.assign(setting=named(frame)).dropna(subset=["setting", "value"])
        for row, setting, value in known[["row", "setting", "value"]].itertuples(index=False):
            made[str(row), str(setting)] = pd.Series({0: float(value)})
    return made
