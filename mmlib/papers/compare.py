"""What the papers' tables share: names as readers must see them, published cells, and the comparison itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.papers.context import Cell, Context
from mmlib.papers.published import published
from mmlib.report import tables
from mmlib.report.artifact import Output

NAMES = {"iemocap": "IEMOCAP", "mosei": "CMU-MOSEI", "crema-d": "CREMA-D", "ave": "AVE"}
Part = tuple[str, list[Cell], pd.DataFrame | None]
Best = Callable[[Sequence[Cell]], pd.DataFrame | None]


def shown(context: Context, dataset: str) -> str:
    """A data set's name as readers must see it: twins are called twins, other data by their own name."""
    if is_twin(context.reference(dataset)):
        return f"{NAMES[dataset]} twin"
    return NAMES[dataset] if context.is_papers(dataset) else context.bundle(dataset).name


def published_cells(context: Context, table: str, dataset: str, metrics: Sequence[str]) -> pd.DataFrame:
    """A printed table's cells of a data set, all its columns; values only where our data are the paper's own."""
    frame = published(context.paper, table)
    frame = frame[(frame["dataset"] == dataset) & frame["metric"].isin(metrics)]
    return frame if context.is_papers(dataset) else frame.assign(value=np.nan, sd=np.nan)


def data_notes(context: Context, datasets: Sequence[str]) -> tuple[str, ...]:
    """What to say where the data are not the paper's: its numbers are left out."""
    notes = []
    for dataset in datasets:
        name = shown(context, dataset)
        if is_twin(context.reference(dataset)):
            notes.append(f"{name}: synthetic data whose law is known; not the paper's data set.")
        elif not context.is_papers(dataset):
            notes.append(f"{name} stands in for the paper's data set, so the paper's numbers are not shown beside it.")
        split = context.bundle(dataset).notes.get("split")
        if split:
            notes.append(f"{name}: {split}.")
    return tuple(notes)


def compare(context: Context, parts: Sequence[Part], baselines: Mapping[str, str], notes: Sequence[str],
            metrics: Sequence[str], best: Best = lambda _: None) -> Output:
    """A comparison table over one or more data sets; each part is (data set, cells, the paper's numbers).

    With more than one part, settings carry the data set's name. best: on twins, the best that can be had.
    """
    many = len(parts) > 1
    results, known, bounds = [], [], []
    for dataset, cells, paper in parts:
        prefix = f"{shown(context, dataset)} " if many else ""
        frame = context.results(cells)
        results.append(frame.assign(setting=(prefix + frame["setting"]).str.strip()))
        if paper is not None:
            known.append(paper.assign(setting=(prefix + paper["setting"]).str.strip()))
        bound = best(cells)
        if bound is not None:
            bounds.append(bound.assign(setting=prefix + bound["setting"]))
    everything = pd.concat(results, ignore_index=True)
    everything = everything[everything["metric"].isin(metrics)]
    paper_cells = pd.concat(known) if known else None
    numbers = tables.compare(everything, paper_cells, collection=context.collection,
                             baselines=baselines, best=pd.concat(bounds) if bounds else None)
    return Output(table=tables.layout(numbers), numbers=numbers, rows_built=tables.rows_built(numbers),
                  notes=(*tables.remarks(numbers, paper_cells), *notes),
                  run_ids=tuple(everything["run_id"].unique()))
