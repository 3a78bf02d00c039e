"""MCULoRA's figures: the rank, accuracy of every combination along training, and test cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmlib.experiments import stages
from mmlib.experiments.cases import corrections
from mmlib.experiments.comparison import data_notes, shown, with_averages
from mmlib.experiments.context import Context
from mmlib.papers.mculora import runs
from mmlib.report import figures, stats
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

ROWS = (runs.OURS, runs.MOMKE, runs.JOINT)


def averaged(context: Context, dataset: str, rows: Sequence[runs.Row], grid: bool = False,
             metric: str = "accuracy") -> pd.DataFrame:
    """Values at the epoch that validation picks, by row, setting (both averages too), seed; folds averaged."""
    frame = context.results(runs.cells(context, dataset, rows, grid))
    frame = frame[(frame["metric"] == metric) & (frame["selection"] == "valid")]
    frame = with_averages(frame, runs.averages(context, dataset), ("row", "seed", "fold", "selection", "metric"))
    return stats.average_folds(frame)


def rank(context: Context) -> Output:
    """Fig 3: the mean over the missing conditions, and all modalities, by the adapters' rank."""
    dataset, rows = context.main, runs.rank_rows(context)
    found = averaged(context, dataset, rows, grid=True)
    ranks = [int(r.name.removeprefix("rank ")) for r in rows]
    full = runs.conditions(context, dataset)[-1]
    figure, axes = figures.panel_grid(2, columns=2, width=figures.DOUBLE, height=2.5)
    for axis, (setting, title) in zip(axes, ((runs.MEAN_MISSING, "average of the missing conditions"),
                                             (full, "all modalities")), strict=True):
        table = found[found["setting"] == setting].pivot_table(index="seed", columns="row", values="value")
        table = table.reindex(columns=[r.name for r in rows])
        figures.lines(axis, ranks, {"MCULoRA": table.to_numpy()}, xlabel="rank of the adapters",
                      ylabel="accuracy (%)", title=title, legend=False)
    numbers = found[found["setting"].isin([runs.MEAN_MISSING, full])]
    built = numbers.groupby("row")["value"].count()
    notes = (f"{shown(context, dataset)}. Bold: mean over seeds; light: each seed.",
             *([f"Of the paper's ranks 1 to 8 here {', '.join(map(str, ranks))}."] if len(ranks) < 8 else []),
             *data_notes(context, [dataset]))
    return Output(figure=figure, numbers=numbers, rows_built=2 if len(built) == len(rows) else 0, notes=notes,
                  run_ids=tuple(found["run_id"].unique()) if "run_id" in found else ())


def curves(context: Context, dataset: str, row: runs.Row) -> dict[str, pd.DataFrame]:
    """Test accuracy by condition: seeds by epochs, folds averaged; only seeds whose folds are all there."""
    found: dict[tuple[str, int], list[list[float]]] = {}
    folds = len(context.folds(dataset))
    for spec in runs.specs(context, dataset, row):
        record, _ = context.store.find(spec, context.bundle_fingerprint(spec.data))
        for name, curve in (record["curves"]["test"] if record else {}).items():
            found.setdefault((name, spec.seed), []).append(curve["accuracy"])
    whole: dict[str, dict[int, np.ndarray]] = {}
    for (name, seed), parts in found.items():
        if len(parts) == folds:
            whole.setdefault(name, {})[seed] = np.mean(parts, axis=0)
    return {name: pd.DataFrame.from_dict(values, orient="index") for name, values in whole.items()}


def along_dataset(context: Context) -> str:
    """The paper draws Fig 4 for IEMOCAP; the main data set stands in where there is none."""
    return "iemocap" if "iemocap" in context.datasets else context.main


def along_specs(context: Context) -> list[RunSpec]:
    """The runs of Fig 4."""
    return stages.specs_of(runs.cells(context, along_dataset(context), ROWS))


def along_training(context: Context) -> Output:
    """Fig 4: accuracy of every combination along the second stage, beside MoMKE's and joint training's."""
    dataset = along_dataset(context)
    found = {row.name: curves(context, dataset, row) for row in ROWS}
    names = runs.conditions(context, dataset)
    figure, axes = figures.panel_grid(len(names), columns=4, width=figures.DOUBLE, height=2.0)
    lines = []
    for axis, name in zip(axes, names, strict=True):
        series = {row: values[name].to_numpy() for row, values in found.items() if name in values}
        if not series:
            return Output(notes=("Not built yet.",))
        epochs = np.arange(1, next(iter(series.values())).shape[1] + 1)
        figures.lines(axis, epochs, series, xlabel="epoch", ylabel="accuracy (%)" if axis in axes[::4] else "",
                      title=short(name), legend=False)
        for row, values in series.items():
            seed, epoch = np.indices(values.shape)
            lines.append(pd.DataFrame({"row": row, "condition": name, "run": seed.ravel(), "epoch": epoch.ravel() + 1,
                                       "accuracy": values.ravel()}))
    figures.shared_legend(figure, axes[0])
    notes = (f"{shown(context, dataset)}, test accuracy after each epoch of the second stage; bold is the mean over "
             "seeds. Nothing is chosen on these curves. The paper's third model is not named in its text; joint "
             "training of the same network stands here.", *data_notes(context, [dataset]))
    return Output(figure=figure, numbers=pd.concat(lines), rows_built=len(names), notes=notes)


def short(condition: str) -> str:
    """``{a,t}`` as the paper writes a combination of the usual modalities; else with whole names."""
    letters = {"audio": "a", "text": "t", "vision": "v"}
    return "{" + ", ".join(letters.get(m, m) for m in condition.split("+")) + "}"


def case_specs(context: Context) -> list[RunSpec]:
    """The runs of Fig 5: the first seed of the method and of MoMKE."""
    return stages.specs_of(c for c in runs.cells(context, context.main, (runs.OURS, runs.MOMKE)) if c.spec.seed == 0)


def cases(context: Context) -> Output:
    """Fig 5: the test utterances under random missing that the method corrects most, and how many each way."""
    ours, theirs = ((row.name, [s for s in runs.specs(context, context.main, row) if s.seed == 0])
                    for row in (runs.OURS, runs.MOMKE))
    return corrections(context, context.main, ours, theirs, runs.RANDOM, "random missing")
