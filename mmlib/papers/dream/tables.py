"""DREAM's Table 1 under both readings of its protocol, and tables of ours that have its form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mmlib.data.catalog import open_twin
from mmlib.experiments import comparison as compared
from mmlib.experiments import stages
from mmlib.experiments.comparison import data_notes, shown, with_averages
from mmlib.experiments.context import Cell, Context
from mmlib.papers.dream import runs
from mmlib.report import stats
from mmlib.report.artifact import Output
from mmlib.report.tables import mean_sd, metric
from mmlib.runs.spec import RunSpec

PAPER_RUNS = 5  # A.2
MEAN = "f1_mean"  # over emotions
WHOLE = ("audio+text+vision", "")  # what the printed tables call all modalities
ZEROS = ("F1 of scores is of positive and negative, without zeros (B17), and beside it with them; of IEMOCAP it is the "
         "mean over its four emotions' weighted F1 (ledger 2.1).")
EQUAL = ("P is CorrKD's backbone without its distillation (B16), trained on what the second stage sees (B15), and its "
         "run is one for all rows. 'Same network, task loss alone' trains as long as DREAM's second stage and has no "
         "P, no enhancement, no PSS and no distillation.")
DROPPING = ("In training each modality of each utterance is dropped with probability 0.5, anew each epoch, and one is "
            "restored where all are: the reading of B14 that the printed CorrKD shares. Epochs are chosen on "
            "validation under that law. The other reading is the table 'complete training'.")
COMPLETE = ("Nothing is missing in training and validation; modalities are removed at test alone, as section 4.2 says "
            "(B14), though the abstract does without complete data.")
Cells = Callable[[Context, str], list[Cell]]


def main_metric(context: Context, dataset: str) -> str:
    """The F1 that stands for a data set."""
    return MEAN if context.bundle(dataset).task.kind == "binaries" else "weighted_f1"


def emotions(context: Context, dataset: str) -> list[str]:
    """The metrics that ``MEAN`` is the mean of; none of other tasks."""
    task = context.bundle(dataset).task
    return [f"f1_{name}" for name in task.names] if task.kind == "binaries" else []


def metrics(context: Context, dataset: str) -> list[str]:
    """Those of Table 1, and those that its mean is made of."""
    zeros = ["weighted_f1_with_zero"] if context.bundle(dataset).task.kind == "score" else []
    return [*emotions(context, dataset), main_metric(context, dataset), *zeros]


def measured(context: Context, dataset: str, cells: Sequence[Cell]) -> pd.DataFrame:
    """The main metric at the epoch that validation picks, folds averaged; one line per row, setting and seed."""
    return _measured(context, dataset, cells).query("selection == 'valid'").drop(columns="selection")


def _measured(context: Context, dataset: str, cells: Sequence[Cell]) -> pd.DataFrame:
    names, main = emotions(context, dataset), main_metric(context, dataset)
    frame = context.results(cells)
    frame = with_averages(frame, {main: names} if names else {}, ("row", "setting", "seed", "fold", "selection"),
                          "metric")
    frame = frame[frame["metric"] == main]
    found = [stats.average_folds(frame[frame["selection"] == s]).assign(selection=s) for s in ("valid", "test", "last")]
    return pd.concat(found, ignore_index=True)


def best(found: Sequence[Cell]) -> pd.DataFrame | None:
    """On twins, the best possible of an utterance by itself, which is all that these networks see."""
    data = found[0].spec.data
    if not data.startswith("twin:"):
        return None
    names = [n for n in open_twin(data).metrics if n.startswith("f1_")]
    bound = compared.best_possible(found, (*names, "weighted_f1"), context=False)
    return None if bound is None else with_averages(bound, {MEAN: names} if names else {}, ("setting",), "metric")


def paper_numbers(context: Context, table: str, dataset: str) -> pd.DataFrame:
    """The printed cells under our names of settings and of the metric."""
    frame = compared.published_cells(context, table, dataset, ["weighted_f1", MEAN])
    settings = frame["setting"].where(~frame["setting"].isin(WHOLE), runs.ALL)
    return frame.assign(setting=settings, metric=main_metric(context, dataset), runs=PAPER_RUNS)


def dropped(rows: Sequence[runs.Row]) -> Cells:
    """Cells of rows that see modalities dropped in training."""
    return lambda context, dataset: runs.dropped(context, dataset, rows)


def whole(rows: Sequence[runs.Row]) -> Cells:
    """Cells of rows that see complete data in training."""
    return lambda context, dataset: runs.whole(context, dataset, rows)


def specs_of(cells: Cells) -> Callable[[Context], list[RunSpec]]:
    """The runs behind a table of all data sets."""
    return lambda context: stages.specs_of(c for d in context.datasets for c in cells(context, d))


def comparison(table: str, cells: Cells, notes: Sequence[str]) -> Callable[[Context], Output]:
    """Table 1's form: every condition of every data set, each row against the same network by itself."""
    def make(context: Context) -> Output:
        names = context.datasets
        parts: list[compared.Part] = [(d, cells(context, d), paper_numbers(context, table, d)) for d in names]
        means = next(({MEAN: emotions(context, d)} for d in names if emotions(context, d)), {})
        rows = dict.fromkeys(c.row for _, found, _ in parts for c in found)
        plain = {r: runs.PLAIN.name for r in rows if r != runs.PLAIN.name}
        return compared.compare(context, parts, plain, (*notes, ZEROS, EQUAL, *data_notes(context, names)),
                                {d: metrics(context, d) for d in names}, best,
                                lambda d: runs.averages(context, d), means=means, parts_too=False)
    return make


def departure_parts(context: Context) -> list[compared.Part]:
    """By data set, the readings that its task has: those of Fig 4's data, and of scores where that has others."""
    first = runs.ablated(context)
    rows = {first: runs.departure_rows(context, first)}
    for dataset in [d for d in runs.scores(context) if first not in runs.scores(context)][:1]:
        known = {row.name for row in rows[first]} - {runs.OURS.name}
        rows[dataset] = [r for r in runs.departure_rows(context, dataset) if r.name not in known]
    return [(d, runs.departures(context, d, found), None) for d, found in rows.items()]


def departures(context: Context) -> Output:
    """Each reading's switch against the recommended one, under the law of Figs 4 and 5."""
    parts = departure_parts(context)
    means = next(({MEAN: emotions(context, d)} for d, _, _ in parts if emotions(context, d)), {})
    rows = dict.fromkeys(c.row for _, found, _ in parts for c in found if c.row != runs.OURS.name)
    notes = (f"Trained and tested under the law of Figs 4 and 5 at {runs.percent(runs.DEPARTING)}; each row against "
             "DREAM as recommended, whose run it shares P with but where P itself differs. The paper does not give "
             "lambda of Eq. 13: 0.1 here.", *data_notes(context, [d for d, _, _ in parts]))
    return compared.compare(context, parts, dict.fromkeys(rows, runs.OURS.name), notes,
                            {d: [*emotions(context, d), main_metric(context, d)] for d, _, _ in parts}, best,
                            means=means, parts_too=False)


def selection(context: Context) -> Output:
    """What choosing the epoch on test buys: Table 1's average there minus that at the epoch validation picks."""
    lines, numbers = [], []
    for dataset in context.datasets:
        every: Mapping[str, Sequence[str]] = runs.averages(context, dataset)
        frame = _measured(context, dataset, runs.dropped(context, dataset, runs.main_rows()))
        frame = with_averages(frame, every, ("row", "seed", "selection", "metric"))
        frame = frame[frame["setting"].isin([runs.AVERAGE, runs.ALL])]
        for (row, setting), group in frame.groupby(["row", "setting"], sort=False):
            table = group.pivot_table(index="seed", columns="selection", values="value")
            gap = stats.paired(table["test"].to_numpy(), table["valid"].to_numpy()) if len(table) > 1 else None
            lines.append({"data": shown(context, dataset), "row": row, "tested with": setting,
                          "metric": metric(main_metric(context, dataset)).label,
                          **{f"epoch by {s}": mean_sd(table[s]) for s in ("valid", "test", "last")},
                          "test minus valid": f"{gap.difference:+.2f} [{gap.low:.2f}, {gap.high:.2f}]" if gap else "-"})
        numbers.append(frame.assign(dataset=dataset))
    if not lines:
        return Output(notes=("Not built yet.",))
    frame = pd.concat(numbers)
    notes = ("A test epoch is chosen for each condition by itself, which is what such selection does. The 95 % "
             "intervals are of paired differences, each alone.", *data_notes(context, context.datasets))
    return Output(table=pd.DataFrame(lines), numbers=frame, rows_built=len(lines), notes=notes,
                  run_ids=tuple(np.unique(frame["run_id"])))
