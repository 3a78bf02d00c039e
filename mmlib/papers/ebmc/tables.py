"""EBMC's tables, and those of ours that have their form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mmlib.papers import compare as compared
from mmlib.papers import stages
from mmlib.papers.compare import best_possible, data_notes, shown
from mmlib.papers.context import Cell, Context
from mmlib.papers.ebmc import runs
from mmlib.report import stats
from mmlib.report.artifact import Output
from mmlib.report.tables import mean_sd, metric
from mmlib.runs.spec import RunSpec

PAPER_RUNS = 5
EQUAL = ("All rows have two stages of equal length; 'same network, task loss alone' trains each expert by itself, "
         "then the fusion, without any of EBMC's losses.")
ONE = ("One model serves every condition, trained under combinations drawn anew each epoch; its epoch is chosen on "
       "validation under the same law. The released protocol trains a model for each condition and chooses on test "
       "(E1, E2).")
Cells = Callable[[Context, str], list[Cell]]


def whole(rows: Sequence[runs.Row], grid: bool = False) -> Cells:
    """Cells of rows with all modalities."""
    return lambda context, dataset: runs.whole(context, dataset, rows, grid)


def missing(rows: Sequence[runs.Row], grid: bool = False) -> Cells:
    """Cells of rows under each condition."""
    return lambda context, dataset: runs.missing(context, dataset, rows, grid)


def specs_of(cells: Cells, which: Callable[[Context], Sequence[str]]) -> Callable[[Context], list[RunSpec]]:
    """The runs behind a table."""
    return lambda context: stages.specs_of(c for d in which(context) for c in cells(context, d))


def paper_numbers(context: Context, table: str, dataset: str, metrics: Sequence[str]) -> pd.DataFrame:
    """The printed cells; those without a setting have all modalities."""
    frame = compared.published_cells(context, table, dataset, metrics)
    return frame.assign(setting=frame["setting"].replace("", runs.ALL).fillna(runs.ALL), runs=PAPER_RUNS)


def comparison(table: str, cells: Cells, which: Callable[[Context], Sequence[str]], baseline: str,
               metrics: Sequence[str], notes: Sequence[str] = (), averaged: bool = False,
               means: Mapping[str, Sequence[str]] | None = None) -> Callable[[Context], Output]:
    """A table over some data sets, every row against one of them; table: of the paper's numbers, or none."""
    def make(context: Context) -> Output:
        names = which(context)
        parts: list[compared.Part] = []
        for d in names:
            found = cells(context, d)
            parts.append((d, found, paper_numbers(context, table, d, [*metrics, *(means or {})]) if table else None))
        rows = dict.fromkeys(c.row for _, found, _ in parts for c in found)
        return compared.compare(context, parts, {r: baseline for r in rows if r != baseline},
                                (*notes, *data_notes(context, names)), metrics, best_possible,
                                runs.averages(context, names[0]) if averaged else None, means=means)
    return make


def emotion_metrics(context: Context) -> list[str]:
    """F1 of each emotion."""
    return [f"f1_{name}" for name in context.bundle("iemocap").task.names]


def emotions(context: Context) -> Output:
    """Table 2: F1 of each emotion, and their mean."""
    made = comparison("table2", whole(runs.main_rows()), lambda _: ["iemocap"], runs.PLAIN.name,
                      emotion_metrics(context), (
                          "The paper has the release of 4,453 clips with yes-or-no questions; its code has four "
                          "classes in five sessions and no F1 of an emotion (E4). Here: the code's data, the paper's "
                          "measure.", EQUAL), means={"f1_mean": emotion_metrics(context)})
    return made(context)


def selection(context: Context) -> Output:
    """What choosing the epoch on test buys: each run's result there minus that at the epoch validation picks (E1)."""
    lines, numbers = [], []
    for dataset in runs.scores(context):
        frame = context.results(runs.whole(context, dataset, runs.main_rows()))
        frame = pd.concat([stats.average_folds(frame[frame["selection"] == s]).assign(selection=s)
                           for s in ("valid", "test", "last")])
        frame = frame[frame["metric"].isin(["accuracy", "weighted_f1", "acc7", "mae"])]
        for (row, name), group in frame.groupby(["row", "metric"], sort=False):
            table = group.pivot_table(index="seed", columns="selection", values="value")
            decimals = metric(str(name)).decimals
            gap = stats.paired(table["test"].to_numpy(), table["valid"].to_numpy()) if len(table) > 1 else None
            lines.append({"data": shown(context, dataset), "row": row, "metric": metric(str(name)).label,
                          **{f"epoch by {s}": mean_sd(table[s], decimals) for s in ("valid", "test", "last")},
                          "test minus valid": f"{gap.difference:+.2f} [{gap.low:.2f}, {gap.high:.2f}]" if gap else "-"})
        numbers.append(frame.assign(dataset=dataset))
    notes = ("The released code reports the epoch with the best test F1 (E1) and reads all other metrics there. The "
             "95 % intervals are of paired differences, each alone.", *data_notes(context, runs.scores(context)))
    return Output(table=pd.DataFrame(lines), numbers=pd.concat(numbers), rows_built=len(lines), notes=notes)


def protocol(context: Context) -> Output:
    """Table 3's two protocols: one model for all conditions, and one for each (E2)."""
    dataset = context.main
    cells = [*runs.missing(context, dataset, [runs.OURS], grid=True),
             *runs.missing(context, dataset, runs.alone_rows(context), grid=True)]
    every = {runs.MEAN_MISSING: runs.conditions(context, dataset)[:-1]}
    frame = context.results(cells)
    frame = compared.with_averages(stats.average_folds(
        frame[frame["metric"].isin(["weighted_f1"]) & (frame["selection"] == "valid")]), every, ("row", "seed"))
    lines = []
    for setting in (*runs.conditions(context, dataset), runs.MEAN_MISSING):
        found = frame[frame["setting"] == setting].pivot_table(index="seed", columns="row", values="value")
        if found.shape[1] < 2:
            continue
        one, many = found[runs.OURS.name], found[runs.alone_rows(context)[0].name]
        test = stats.paired(many.to_numpy(), one.to_numpy()) if len(found) > 1 else None
        lines.append({"tested with": setting, "one model": mean_sd(one), "a model per condition (E2)": mean_sd(many),
                      "difference": f"{test.difference:+.2f} [{test.low:.2f}, {test.high:.2f}]" if test else "-"})
    if not lines:
        return Output(notes=("Not built yet.",))
    notes = ("Weighted F1 (%). A model per condition knows in training what will be missing at test, and trains on "
             "nothing else; the other rows of Table 3 are one model for all. 95 % intervals, each alone.",
             *data_notes(context, [dataset]))
    return Output(table=pd.DataFrame(lines), numbers=frame, rows_built=len(lines), notes=notes,
                  run_ids=tuple(np.unique([c.spec.run_id(context.bundle_fingerprint(c.spec.data)) for c in cells])))
