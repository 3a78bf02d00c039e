"""DREAM's Table 1 under both readings of its protocol, and tables of ours that have its form."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from mmlib.data.catalog import open_twin
from mmlib.experiments import comparison, systems
from mmlib.experiments.baselines import GCNET, LINEAR
from mmlib.experiments.comparison import Averages, data_notes, shown, with_averages
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import cells as cells_of
from mmlib.experiments.rows import on, with_parents
from mmlib.experiments.tables import Table, no_averages
from mmlib.experiments.undeclared import printed_rows
from mmlib.metrics import has_decisions
from mmlib.papers.dream import rows
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.tables import metric

PREDICTIONS = f"predictions.valid.{rows.ALL}"
LACKING = "Records that came with the repository lack these predictions: give a --label and an empty MMLIB_RUNS."
TIMED = ("DREAM", "pre-trained")  # rows of Table 2, and other systems
TIMED_SYSTEMS = ("CubeMLP", "TransModality", "GCNet")
PAPER_RUNS = 5  # A.2
MEAN = "f1_mean"  # over emotions
WHOLE = ("audio+text+vision", "")  # what the printed tables call all modalities
ZEROS = (
    "For scores, F1 is of positive against negative without zeros (B17), and also shown with zeros."
)
EMOTIONS = "For IEMOCAP it is the mean of the weighted F1 of the four emotions (ledger 2.1)."
AS_P = (
    f"'{rows.CORRKD_AS_P}' is P by itself, CorrKD's network without its distillation (B16). "
    f"'{rows.SELFMM_AS_P}' is the other network of Fig 5, likewise, on scores with Self-MM's own "
    "training; it is not in the paper's table and compared with no row."
)
EQUAL = (
    "P is CorrKD's backbone without its distillation (B16), trained on the same data "
    "as the second stage (B15); all rows share its run. 'Same network, task loss "
    "alone' trains as long as DREAM's second stage, without P, enhancement, PSS and "
    "distillation."
)
DROPPING = (
    "In training each modality of each utterance is dropped with probability 0.5, "
    "anew in each epoch, and one is restored if all are dropped: the reading of B14 "
    "that the printed CorrKD shares. Epochs are chosen on validation with the same "
    "masks. The table 'Training on complete data' has the other reading."
)
COMPLETE = (
    "Nothing is missing in training and validation; modalities are removed only at "
    "test, as section 4.2 says (B14). According to the abstract, no complete data are "
    "needed."
)
READINGS = (
    f"Trained and tested with the masks of Figs 4 and 5 at {rows.percent(rows.DEPARTING)}; each row "
    "is compared with DREAM in the recommended reading and shares its P unless P "
    "itself differs. The paper does not give lambda of Eq. 13; we use 0.1."
)


def zeros(context: Context) -> str:
    """What F1 is, of scores and of IEMOCAP; of own data only where they are scores."""
    if context.own:
        signed = any(has_decisions(context.bundle(d).task) for d in rows.scores(context))
        return ZEROS if signed else ""
    return f"{ZEROS} {EMOTIONS}"


def main_metric(context: Context, dataset: str) -> str:
    """The F1 that stands for a data set."""
    return MEAN if context.bundle(dataset).task.kind == "binaries" else "weighted_f1"


def means(context: Context, dataset: str) -> Averages:
    """Of binary labels the mean of F1 over them."""
    task = context.bundle(dataset).task
    return {MEAN: [f"f1_{name}" for name in task.names]} if task.kind == "binaries" else {}


def metrics(context: Context, dataset: str) -> list[str]:
    """The main one, and those that it is the mean of."""
    parts = means(context, dataset).get(MEAN, ())
    return [*parts, main_metric(context, dataset)]


def metrics_with_zeros(context: Context, dataset: str) -> list[str]:
    """Those of Table 1."""
    scores = context.bundle(dataset).task.kind == "score"
    return [*metrics(context, dataset), *(["weighted_f1_with_zero"] if scores else [])]


def every_selection(context: Context, cells: Sequence[Cell]) -> pd.DataFrame:
    """The main metric of one data set's cells by row, setting, seed and way of choosing the epoch; folds averaged."""
    dataset = cells[0].dataset
    frame = context.results(cells)
    frame = with_averages(
        frame, means(context, dataset), ("row", "setting", "seed", "fold", "selection"), "metric"
    )
    frame = frame[frame["metric"] == main_metric(context, dataset)]
    return comparison.every_selection(frame)


def measured(context: Context, cells: Sequence[Cell]) -> pd.DataFrame:
    """The main metric of one data set's cells at the epoch that validation picks: a line per row, setting and seed."""
    frame = every_selection(context, cells)
    return frame[frame["selection"] == "valid"].drop(columns="selection")


def best(cells: Sequence[Cell]) -> pd.DataFrame | None:
    """On twins, the best possible of an utterance by itself, which is all that these networks see."""
    data = cells[0].spec.data
    if not data.startswith("twin:"):
        return None
    names = [name for name in open_twin(data).metrics if name.startswith("f1_")]
    bound = comparison.best_possible(cells, (*names, "weighted_f1"), context=False)
    averages = {MEAN: names} if names else {}
    return None if bound is None else with_averages(bound, averages, ("setting",), "metric")


def printed(context: Context, dataset: str, names: Sequence[str]) -> pd.DataFrame:
    """Table 1's printed cells under our names of settings and of the metric."""
    frame = comparison.published_cells(context, "table1", dataset, ["weighted_f1", MEAN])
    settings = frame["setting"].where(~frame["setting"].isin(WHOLE), rows.ALL)
    return frame.assign(setting=settings, metric=main_metric(context, dataset), runs=PAPER_RUNS)


OWN = Table(  # what claims and other artifacts read of Table 1
    rows.main_rows,
    rows.dropped,
    rows.PLAIN,
    metrics_with_zeros,
    printed=printed,
    averages=rows.averages,
    means=means,
    parts_too=False,
    best=best,
    notes=(DROPPING, zeros, EQUAL),
)
TABLE1 = dataclasses.replace(
    OWN,
    rows=rows.table_rows,
    notes=(DROPPING, zeros, EQUAL, AS_P, GCNET, systems.noted),
)
MAIN = dataclasses.replace(
    OWN,
    rows=rows.compared_rows,
    protocol=rows.dropped_main,
    datasets=lambda context: [rows.ablated(context)],
    printed=None,
    settings=(rows.AVERAGE, rows.ALL),
    notes=(DROPPING, EQUAL),
)
COMPLETE_TRAINING = dataclasses.replace(
    OWN,
    rows=lambda context, dataset: [*rows.main_rows(context, dataset), LINEAR],
    protocol=rows.whole,
    notes=(COMPLETE, zeros, EQUAL),
)
LOSSY = dataclasses.replace(
    OWN,
    rows=rows.lossy_rows,
    protocol=None,
    places=rows.lossy_places,
    printed=None,
    averages=no_averages,
    notes=(zeros, EQUAL, systems.noted),
)
DEPARTURES = Table(
    rows.departure_rows,
    rows.departing,
    rows.OURS,
    metrics,
    rows.of_readings,
    means=means,
    parts_too=False,
    best=best,
    notes=(READINGS,),
)


def selection(context: Context, cells: Sequence[Cell]) -> Output:
    """What choosing the epoch on test buys: Table 1's average there minus that at the epoch validation picks."""
    lines, numbers = [], []
    for dataset in context.datasets:
        frame = every_selection(context, on(cells, dataset))
        averages = rows.averages(context, dataset)
        frame = with_averages(frame, averages, ("row", "seed", "selection", "metric"))
        frame = frame[frame["setting"].isin([rows.AVERAGE, rows.ALL])]
        for (row, setting), group in frame.groupby(["row", "setting"], sort=False):
            names = {
                "data": shown(context, dataset),
                "row": row,
                "tested with": setting,
                "metric": metric(main_metric(context, dataset)).label,
            }
            lines.append({**names, **comparison.selections_beside(group)})
        numbers.append(frame.assign(dataset=dataset))
    if not lines:
        return NOT_BUILT
    frame = pd.concat(numbers)
    notes = (
        "The best test epoch is chosen for each condition separately. The 95 % "
        "intervals are of paired differences and not simultaneous.",
        *data_notes(context, context.datasets),
    )
    run_ids = tuple(frame["run_id"].unique())
    return Output(pd.DataFrame(lines), None, frame, len(lines), notes, run_ids)


def looked_cells(context: Context) -> list[Cell]:
    """The runs whose P is looked at: DREAM's of both readings of Table 1."""
    cells = []
    for dataset in context.datasets:
        ours = rows.main_rows(context, dataset)[:1]
        cells += cells_of(context, dataset, ours, rows.dropped(context, dataset))
        cells += cells_of(context, dataset, ours, rows.whole(context, dataset))
    return cells


def lacking(context: Context) -> str:
    """Why it cannot be told what is enhanced: records of the repository do not carry what each clip was answered."""
    for spec in with_parents(cell.spec for cell in OWN.cells(context)):
        record = context.record(spec)
        if record and PREDICTIONS in record.left_out:
            return LACKING
    return ""


def lacks_counts(context: Context) -> str:
    """Why parameters are not counted: the counts are of the paper's three data sets, and of no others."""
    if any(map(context.shows_printed, context.datasets)):
        return ""
    return "Counts the parameters of networks for the paper's own data sets, and of no others."


def time_cells(context: Context) -> list[Cell]:
    """The first seed's runs of Table 1: P's weights are needed, and how the other systems are trained."""
    systems_too = [c for c in TABLE1.cells(context) if c.row in TIMED_SYSTEMS]
    cells = [*OWN.cells(context), *([] if context.own else systems_too)]
    return [cell for cell in cells if cell.spec.seed == 0 and not cell.spec.fold]


def times_left_out(context: Context) -> list[str]:
    """The rows of Table 2 that are not timed here."""
    names = printed_rows(context.paper, "table2", TIMED)
    return [name for name in names if systems.PRINTED_AS.get(name, name) not in TIMED_SYSTEMS]
