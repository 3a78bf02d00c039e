"""EBMC's tables, and those of ours that have their form."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mmlib.experiments import comparison
from mmlib.experiments.baselines import GCNET
from mmlib.experiments.comparison import data_notes, difference, shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import cells as cells_of
from mmlib.experiments.tables import Printed, Table, fixed, main_data_set, of_rows
from mmlib.papers.ebmc import rows
from mmlib.report import stats
from mmlib.report.artifact import Output
from mmlib.report.tables import mean_sd, metric

PAPER_RUNS = 5
EQUAL = (
    "All rows have two stages of equal length; 'same network, task loss alone' trains each expert by itself, "
    "then the fusion, without any of EBMC's losses."
)
ONE_STAGE = (
    "GCNet alone has one stage, as long as the two of the other rows together.",
    GCNET,
)
ONE = (
    "One model serves every condition, trained under combinations drawn anew each epoch; its epoch is chosen on "
    "validation under the same law. The released protocol trains a model for each condition and chooses on test "
    "(E1, E2)."
)
WITHOUT_MSD = (
    "Without MSD the predictors read z_m itself and train on, since EMC and IMTD need them."
)
EMOTIONS = (
    "The paper has the release of 4,453 clips with yes-or-no questions; its code has four "
    "classes in five sessions and no F1 of an emotion (E4). Here: the code's data, the paper's "
    "measure."
)


def printed(table: str) -> Printed:
    """A printed table's cells; those without a setting have all modalities."""

    def cells(context: Context, dataset: str, metrics: Sequence[str]) -> pd.DataFrame:
        frame = comparison.published_cells(context, table, dataset, metrics)
        setting = frame["setting"].replace("", rows.ALL).fillna(rows.ALL)
        return frame.assign(setting=setting, runs=PAPER_RUNS)

    return cells


def iemocap(context: Context) -> list[str]:
    """The data set of Table 2."""
    return ["iemocap"]


def of_emotions(context: Context, dataset: str) -> list[str]:
    """F1 of each emotion."""
    return [f"f1_{name}" for name in context.bundle(dataset).task.names]


TABLE1 = Table(
    of_rows(rows.MAIN),
    rows.whole,
    rows.PLAIN.name,
    fixed(rows.SCORES),
    rows.scores,
    printed("table1"),
    notes=(EQUAL,),
)
TABLE2 = Table(
    rows.with_gcnet,
    rows.whole,
    rows.PLAIN.name,
    of_emotions,
    iemocap,
    printed("table2"),
    means=lambda context, dataset: {"f1_mean": of_emotions(context, dataset)},
    notes=(EMOTIONS, EQUAL, *ONE_STAGE),
)
TABLE3 = Table(
    rows.with_gcnet,
    rows.missing,
    rows.PLAIN.name,
    fixed(("weighted_f1",)),
    rows.of_weights,
    printed("table3"),
    rows.averages,
    notes=(ONE, EQUAL, *ONE_STAGE),
)
TABLE4 = Table(
    of_rows(rows.ABLATION),
    rows.whole,
    rows.OURS.name,
    fixed(rows.SCORES[:4]),
    rows.scores,
    printed("table4"),
    notes=(WITHOUT_MSD,),
)
TABLE7 = Table(
    of_rows(rows.ENERGY),
    rows.whole,
    rows.OURS.name,
    fixed(("weighted_f1_with_zero", "weighted_f1", "acc7", "mae")),
    rows.of_weights,
    printed("table7"),
)
MISSING_PARTS = Table(
    of_rows(rows.ABLATION),
    rows.missing,
    rows.OURS.name,
    fixed(("weighted_f1",)),
    main_data_set,
    averages=rows.averages,
    notes=(ONE,),
)
DEPARTURES = Table(
    of_rows(rows.DEPARTURES),
    rows.whole_grid,
    rows.OURS.name,
    fixed(("accuracy", "weighted_f1")),
    main_data_set,
)


def selection_cells(context: Context) -> list[Cell]:
    """The runs of Table 1."""
    return TABLE1.cells(context)


def selection(context: Context, cells: Sequence[Cell]) -> Output:
    """What choosing the epoch on test buys: each run's result there minus that at the epoch validation picks (E1)."""
    lines, numbers = [], []
    for dataset in rows.scores(context):
        results = context.results(c for c in cells if c.dataset == dataset)
        frame = pd.concat(
            stats.average_folds(results[results["selection"] == s]).assign(selection=s)
            for s in ("valid", "test", "last")
        )
        frame = frame[frame["metric"].isin(["accuracy", "weighted_f1", "acc7", "mae"])]
        for (row, name), group in frame.groupby(["row", "metric"], sort=False):
            table = group.pivot_table(index="seed", columns="selection", values="value")
            decimals = metric(str(name)).decimals
            means = {
                f"epoch by {s}": mean_sd(table[s], decimals) for s in ("valid", "test", "last")
            }
            names = {"data": shown(context, dataset), "row": row, "metric": metric(str(name)).label}
            lines.append({**names, **means, "test minus valid": difference(table, "test", "valid")})
        numbers.append(frame.assign(dataset=dataset))
    notes = (
        "The released code reports the epoch with the best test F1 (E1) and reads all other metrics there. The "
        "95 % intervals are of paired differences, each alone.",
        *data_notes(context, rows.scores(context)),
    )
    return Output(pd.DataFrame(lines), None, pd.concat(numbers), len(lines), notes)


def protocol_cells(context: Context) -> list[Cell]:
    """Table 3's method under its two protocols."""
    every = [rows.OURS, *rows.alone_rows(context, context.main)]
    return cells_of(context, context.main, every, rows.missing_grid(context, context.main))


def protocol(context: Context, cells: Sequence[Cell]) -> Output:
    """Table 3's two protocols: one model for all conditions, and one for each (E2)."""
    dataset = context.main
    averages = rows.averages(context, dataset)
    frame = comparison.selected(context, cells, "weighted_f1")
    frame = comparison.with_averages(frame, averages, ("row", "seed"))
    lines = []
    for setting in (*rows.names_of(context, dataset), rows.MEAN_MISSING):
        of_setting = frame[frame["setting"] == setting]
        table = of_setting.pivot_table(index="seed", columns="row", values="value")
        if table.shape[1] < 2:
            continue
        lines.append(
            {
                "tested with": setting,
                "one model": mean_sd(table[rows.OURS.name]),
                "a model per condition (E2)": mean_sd(table[rows.ALONE]),
                "difference": difference(table, rows.ALONE, rows.OURS.name),
            }
        )
    if not lines:
        return Output(notes=("Not built yet.",))
    notes = (
        "Weighted F1 (%). A model per condition knows in training what will be missing at test, and trains on "
        "nothing else; the other rows of Table 3 are one model for all. 95 % intervals, each alone.",
        *data_notes(context, [dataset]),
    )
    run_ids = tuple(cell.spec.run_id(context.bundle_fingerprint(cell.spec.data)) for cell in cells)
    return Output(pd.DataFrame(lines), None, frame, len(lines), notes, run_ids)
