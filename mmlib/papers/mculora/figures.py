"""MCULoRA's figures: the rank, accuracy of every combination during training, and test cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmlib.experiments.cases import corrections
from mmlib.experiments.comparison import data_notes, shown, with_averages
from mmlib.experiments.conditions import in_picture, initials_note, short
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.method_looks import looks
from mmlib.experiments.rows import by_seed, runs_of
from mmlib.papers.mculora import rows
from mmlib.report import figures, stats
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.runs.store import Record

COMPARED = (rows.OURS, rows.MOMKE, rows.JOINT)  # in Fig 4
ALL_RANKS = 8


def averaged(context: Context, dataset: str, cells: Sequence[Cell]) -> pd.DataFrame:
    """Accuracy at the epoch that validation picks, by row, setting (both averages too), seed; folds averaged."""
    frame = context.results(cells)
    frame = frame[(frame["metric"] == "accuracy") & (frame["selection"] == "valid")]
    by = ("row", "seed", "fold", "selection", "metric")
    return stats.average_folds(with_averages(frame, rows.averages(context, dataset), by))


def rank_cells(context: Context) -> list[Cell]:
    """The runs of Fig 3."""
    return rows.cells(context, context.main, rows.rank_rows(context).values(), grid=True)


def rank(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 3: the mean over the missing conditions, and all modalities, by the adapters' rank."""
    dataset, tried = context.main, rows.rank_rows(context)
    results = averaged(context, dataset, cells)
    names = [row.name for row in tried.values()]
    full = rows.conditions(context, dataset)[-1]
    panels = {rows.MEAN_MISSING: "average of the missing conditions", full: "all modalities"}
    figure, axes = figures.panel_grid(2, columns=2, width=figures.DOUBLE, height=2.5)
    for axis, (setting, title) in zip(axes, panels.items(), strict=True):
        of_setting = results[results["setting"] == setting]
        table = of_setting.pivot_table(index="seed", columns="row", values="value")
        figures.lines(
            axis,
            list(tried),
            {rows.OURS.name: table.reindex(columns=names).to_numpy()},
            xlabel="rank of the adapters",
            ylabel="accuracy (%)",
            title=title,
            legend=False,
            looks=looks([rows.OURS.name]),
        )
    figures.one_span(axes)
    numbers = results[results["setting"].isin(panels)]
    built = numbers.groupby("row")["value"].count()
    notes = [
        f"{shown(context, dataset)}, test, at the epoch that validation picks. Both panels are as many points high. "
        + figures.told(figures.seeds_of(numbers, "row", "setting"))
    ]
    if len(tried) < ALL_RANKS:
        notes.append(f"Of the paper's ranks 1 to {ALL_RANKS} here {', '.join(map(str, tried))}.")
    return Output(
        figure=figure,
        numbers=numbers,
        rows_built=2 if len(built) == len(tried) else 0,
        notes=(*notes, *data_notes(context, [dataset])),
        run_ids=tuple(results["run_id"].unique()),
    )


def curves(
    context: Context, dataset: str, cells: Sequence[Cell], row: str
) -> dict[int, np.ndarray]:
    """By seed (epochs, conditions): a row's test accuracy; folds averaged, only seeds whose folds are all there."""
    names = rows.conditions(context, dataset)

    def read(record: Record) -> np.ndarray:
        of_test = record["curves"]["test"]
        return np.array([of_test[name]["accuracy"] for name in names]).T

    return by_seed(context, runs_of(cells, row), read, dataset)


def along_dataset(context: Context) -> str:
    """The paper draws Fig 4 for IEMOCAP; the main data set stands in where there is none."""
    return "iemocap" if "iemocap" in context.datasets else context.main


def along_cells(context: Context) -> list[Cell]:
    """The runs of Fig 4."""
    return rows.cells(context, along_dataset(context), COMPARED)


def along_training(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 4: accuracy of every combination along the second stage, beside MoMKE's and joint training's."""
    dataset = along_dataset(context)
    of_row = {row.name: curves(context, dataset, cells, row.name) for row in COMPARED}
    # Seeds, epochs, conditions.
    stacked = {row: np.stack(list(of.values())) for row, of in of_row.items() if of}
    if not stacked:
        return NOT_BUILT
    names = rows.conditions(context, dataset)
    figure, axes = figures.panel_grid(len(names), columns=4, width=figures.DOUBLE, height=1.8)
    lines = []
    modalities = context.bundle(dataset).modalities
    for place, name in enumerate(names):
        series = {row: values[:, :, place] for row, values in stacked.items()}
        title = short(in_picture(name, modalities))
        figures.along(
            axes[place],
            series,
            "" if place % 4 else "accuracy (%)",
            title,
            "epoch" if place + 4 >= len(names) else "",
            looks=looks(series),
            within=(0.0, 100.0),
        )
        lines += [
            figures.long({"accuracy": values}, {"run": 0, "epoch": 1}, row=row, condition=name)
            for row, values in series.items()
        ]
    figures.one_span(axes)
    figures.shared_legend(figure, axes[0])
    notes = (
        f"{shown(context, dataset)}, test accuracy after each epoch of the second stage. All panels are as many points "
        f"high. {figures.told(len(of) for of in stacked.values())} No epoch is selected on these curves. The paper "
        "does not name its third model; we show joint training of the same network "
        "instead.",
        *initials_note(modalities),
        *data_notes(context, [dataset]),
    )
    numbers = pd.concat(lines)
    return Output(figure=figure, numbers=numbers, rows_built=len(names), notes=notes)


def case_cells(context: Context) -> list[Cell]:
    """The runs of Fig 5: the first seed of the method and of MoMKE."""
    compared = rows.cells(context, context.main, (rows.OURS, rows.MOMKE), settings=(rows.RANDOM,))
    return [cell for cell in compared if cell.spec.seed == 0]


def cases(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 5: the test utterances under random missing that the method corrects most, and how many each way."""
    ours, theirs = ((row.name, runs_of(cells, row.name)) for row in (rows.OURS, rows.MOMKE))
    return corrections(context, context.main, ours, theirs, rows.RANDOM, "random missing")
