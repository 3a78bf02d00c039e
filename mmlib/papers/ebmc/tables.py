"""EBMC's tables, and those of ours that have their form."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from mmlib.experiments import comparison, systems
from mmlib.experiments.baselines import GCNET, LINEAR
from mmlib.experiments.comparison import data_notes, difference, shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import cells as cells_of
from mmlib.experiments.rows import on
from mmlib.experiments.tables import Printed, Table, fixed, main_data_set, of_rows
from mmlib.papers.ebmc import rows
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.tables import mean_sd, metric

PAPER_RUNS = 5
EQUAL = (
    "All rows have two stages of equal length. 'Same network, task loss alone' trains "
    "each expert separately, then the fusion, without EBMC's losses."
)
ONE_STAGE = (
    "GCNet alone has one stage, of twice the epochs of its schedule, since the other rows have two stages.",
    GCNET,
)
ONE = (
    "One model serves every condition. It is trained with combinations drawn anew in "
    "each epoch, and its epoch is chosen on validation with such masks. The released "
    "protocol trains a model for each condition and chooses epochs on test (E1, E2)."
)
WITHOUT_MSD = (
    "Without MSD the predictors read z_m and continue to be trained, since EMC and IMTD need them."
)
EMOTIONS = (
    "The paper uses the release of 4,453 clips with binary labels; its code uses four "
    "classes in five sessions and computes no F1 per emotion (E4). We use the data "
    "of the code and the metric of the paper."
)


def printed(table: str) -> Printed:
    """A printed table's cells; those without a setting have all modalities."""

    def cells(context: Context, dataset: str, metrics: Sequence[str]) -> pd.DataFrame:
        frame = comparison.published_cells(context, table, dataset, metrics)
        setting = frame["setting"].replace("", rows.ALL).fillna(rows.ALL)
        return frame.assign(setting=setting, runs=PAPER_RUNS)

    return cells


def emotions(context: Context) -> str:
    """Which data Table 2 is of; own data are not the paper's."""
    return "" if context.own else EMOTIONS


def iemocap(context: Context) -> list[str]:
    """The data set of Table 2."""
    return ["iemocap"]


def of_emotions(context: Context, dataset: str) -> list[str]:
    """F1 of each emotion."""
    return [f"f1_{name}" for name in context.bundle(dataset).task.names]


TABLE1 = Table(
    rows.complete_rows,
    rows.whole,
    rows.PLAIN.name,
    fixed(rows.SCORES),
    rows.scores,
    printed("table1"),
    notes=(EQUAL, systems.noted),
)
TABLE2 = Table(
    rows.emotion_rows,
    rows.whole,
    rows.PLAIN.name,
    of_emotions,
    iemocap,
    printed("table2"),
    means=lambda context, dataset: {"f1_mean": of_emotions(context, dataset)},
    notes=(emotions, EQUAL, *ONE_STAGE, systems.noted),
)
TABLE3 = Table(
    rows.missing_rows,
    rows.missing,
    rows.PLAIN.name,
    fixed(("weighted_f1",)),
    rows.of_weights,
    printed("table3"),
    rows.averages,
    notes=(ONE, EQUAL, *ONE_STAGE, systems.noted),
)
MAIN = Table(
    of_rows((rows.OURS, rows.PLAIN, LINEAR)),
    rows.missing_main,
    rows.PLAIN.name,
    fixed(("accuracy", "weighted_f1")),
    rows.of_weights,
    averages=rows.averages,
    settings=(rows.MEAN_MISSING, rows.ALL),
    notes=(ONE, EQUAL),
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
    """The runs of Table 1 but those of the other systems."""
    own = dataclasses.replace(TABLE1, rows=of_rows((*rows.MAIN, LINEAR)))
    return own.cells(context)


def selection(context: Context, cells: Sequence[Cell]) -> Output:
    """What choosing the epoch on test buys: each run's result there minus that at the epoch validation picks (E1)."""
    lines, numbers = [], []
    for dataset in rows.scores(context):
        frame = comparison.every_selection(context.results(on(cells, dataset)))
        wanted = ("accuracy", "weighted_f1", "acc7", "mae")
        frame = frame[frame["metric"].isin(comparison.available(context, dataset, wanted))]
        for (row, name), group in frame.groupby(["row", "metric"], sort=False):
            of = metric(str(name))
            names = {"data": shown(context, dataset), "row": row, "metric": of.label}
            lines.append({**names, **comparison.selections_beside(group, of.decimals)})
        numbers.append(frame.assign(dataset=dataset))
    notes = (
        "The released code reports all metrics at the epoch with the best test F1 "
        "(E1). The 95 % intervals are of paired differences and not simultaneous.",
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
        return NOT_BUILT
    notes = (
        "Weighted F1 (%). A model per condition is trained only with the modalities "
        "that are present at test; the other rows of Table 3 are one model for all "
        "conditions. The 95 % intervals are not simultaneous.",
        *data_notes(context, [dataset]),
    )
    run_ids = tuple(cell.spec.run_id(context.bundle_fingerprint(cell.spec.data)) for cell in cells)
    return Output(pd.DataFrame(lines), None, frame, len(lines), notes, run_ids)
