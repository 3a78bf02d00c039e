"""EBMC's Table 5 and Figs 7 and 8: sequences whose frames are dropped at ten rates (ledger C22, E23, E24).

The pipeline of sequences, apart from all other artifacts: MoMKE with an utterance's frames as its tokens. One model
serves every rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mmlib import masks
from mmlib.data.catalog import is_twin
from mmlib.papers import compare as compared
from mmlib.papers import stages
from mmlib.papers.compare import best_possible, data_notes, selected, shown
from mmlib.papers.context import Cell, Context
from mmlib.papers.ebmc import runs, tables
from mmlib.papers.stages import BUDGETS, Budget
from mmlib.report import figures
from mmlib.report.artifact import Output
from mmlib.report.tables import metric
from mmlib.runs.spec import RunSpec

RATES = {f"{10 * k} %": k / 10 for k in range(10)}
STAGES = "for each of the two stages"
SPENT = {"smoke": dataclasses.replace(BUDGETS["smoke"], batch=32),
         "quick": dataclasses.replace(BUDGETS["quick"], epochs=4, batch=48),
         "laptop": dataclasses.replace(BUDGETS["laptop"], epochs=20, batch=16),
         "paper": Budget(50, 16, 1e-4, 256, 4, 0.5)}  # E23; batches are of utterances
PANELS = {"weighted_f1": "weighted F1 (%)", "acc7": "7-class accuracy (%)", "pearson": "correlation",
          "mae": "mean absolute error (score)"}  # of Figs 7 and 8, in the paper's order
BOUND = "best possible"
WRONG = ("mosei", "TETFN")  # a row that repeats that of the other data set (C18)
LAW = ("At test each frame is dropped with the rate's probability, at least one of a modality stays, and all rows see "
       "the same masks. One model serves every rate: in training each modality of each utterance has a rate of its "
       "own, 0 half of the time, else uniform (E23). The epoch is chosen on validation under that law; the released "
       "script chooses at 50 % (E23).")
ALONE = "The best possible is that of an utterance by itself, which is all that these networks see."
PRINTED = ("Printed rows of others are from LNLN's paper, whose epochs were chosen on test, at 50 % (E24). Left out: "
           "TETFN on MOSEI, which repeats its MOSI row (C18). The text calls EBMC best throughout; as printed it is "
           "not, in MAE and 7-class accuracy on MOSEI (C20).")


def budget(context: Context, dataset: str) -> Budget:
    """Of a profile; steps take whole dialogues, as many as hold about the batch's utterances."""
    spent, dialogue = SPENT[context.profile.name], context.bundle(dataset).dialogue
    return dataclasses.replace(spent, batch=max(1, round(spent.batch * len(np.unique(dialogue)) / len(dialogue))))


def reduced(context: Context) -> str:
    """What captions say of the budget of frames."""
    said = stages.reduced(context, runs.frames(context), SPENT, STAGES, "utterances or so")
    return said and f"Table 5, Figs 7 and 8: {said[0].lower()}{said[1:]}"


def specs(context: Context, dataset: str, row: runs.Row) -> list[RunSpec]:
    """One run per seed and fold: a second stage with frames dropped, from a first stage on complete data."""
    spent, ours = budget(context, dataset), row.kind == "ebmc"
    routing = "softmax" if row.kind == "momke" else "unnormalised"
    tests = tuple((name, masks.frames(rate)) for name, rate in RATES.items())
    first = context.specs(dataset, "enhance" if ours else "unimodal", row.variant, masks.complete(),
                          ((runs.ALL, masks.complete()),), backbone="momke_frames",
                          network=(*spent.network, ("routing", "own")), keep=("last",), **spent.training)
    return [dataclasses.replace(parent, method="ebmc" if ours else "plain", parent=parent, keep=(),
                                backbone_options=(*spent.network, ("routing", routing)),
                                train_mask=masks.random_frames(), eval_masks=tests) for parent in first]


def cells(context: Context, dataset: str) -> list[Cell]:
    """The rows of Table 5 at every rate; the two beside the method are ours."""
    return [Cell(row.name, name, spec, name) for row in runs.main_rows() for spec in specs(context, dataset, row)
            for name in RATES]


def specs_of(*datasets: str) -> Callable[[Context], list[RunSpec]]:
    """The runs behind some data sets, or behind all that have frames."""
    return lambda context: stages.specs_of(c for d in datasets or runs.frames(context) for c in cells(context, d))


def printed(context: Context, dataset: str) -> pd.DataFrame:
    """Table 5's cells of a data set, without the row that is wrong (C18)."""
    name = runs.FRAMES[dataset]
    frame = compared.published_cells(context, "table5", dataset, runs.SCORES, name)
    wrong = (frame["dataset"] == WRONG[0]) & (frame["row"] == WRONG[1])
    return frame[~wrong].assign(setting=runs.MEAN_MISSING, runs=tables.PAPER_RUNS)


def best(found: Sequence[Cell]) -> pd.DataFrame | None:
    """On twins, the best possible of an utterance by itself, which is all that these networks see."""
    return best_possible(found, runs.SCORES, context=False)


def table(context: Context) -> Output:
    """Table 5: means over the ten rates, within each run."""
    names = runs.frames(context)
    rows = {row.name: runs.PLAIN.name for row in runs.main_rows() if row != runs.PLAIN}
    return compared.compare(context, [(d, cells(context, d), printed(context, d)) for d in names], rows,
                            (LAW, *_alone(context, names), PRINTED, tables.EQUAL, *data_notes(context, names)),
                            runs.SCORES, best, {runs.MEAN_MISSING: list(RATES)}, (runs.MEAN_MISSING,))


def curves(dataset: str) -> Callable[[Context], Output]:
    """Fig 7 or 8: four metrics by rate."""
    def make(context: Context) -> Output:
        found = cells(context, dataset)
        results = {name: selected(context, found, name) for name in PANELS}
        if any(frame.empty for frame in results.values()):
            return Output(notes=("Not built yet.",))
        bound = best(found)
        figure, axes = figures.panel_grid(len(PANELS), columns=2, width=figures.DOUBLE, height=2.3)
        numbers = []
        for place, (axis, name) in enumerate(zip(axes, PANELS, strict=True)):
            known = pd.DataFrame() if bound is None else bound[bound["metric"] == name]
            figures.lines(axis, [100 * rate for rate in RATES.values()], _series(results[name], known),
                          xlabel="frames dropped at test (%)" if place > 1 else "", ylabel=PANELS[name],
                          title=metric(name).label, legend=False)
            numbers += [results[name], *([known.assign(row=BOUND)] if len(known) else [])]
        figures.shared_legend(figure, axes[0])
        frame = pd.concat(numbers).assign(rate=lambda f: f["setting"].map(RATES))
        notes = (f"{shown(context, dataset)}. Bold: mean over seeds; light: each seed.", LAW,
                 *_alone(context, [dataset]), *data_notes(context, [dataset]))
        return Output(figure=figure, numbers=frame, rows_built=1, notes=notes,
                      run_ids=tuple(frame["run_id"].dropna().unique()))
    return make


def _alone(context: Context, datasets: Sequence[str]) -> tuple[str, ...]:
    return (ALONE,) if any(is_twin(context.reference(d)) for d in datasets) else ()


def _series(results: pd.DataFrame, bound: pd.DataFrame) -> dict[str, np.ndarray]:
    """Row to (seeds, rates), and the best possible (rates,) where it is known."""
    series: dict[str, np.ndarray] = {}
    for row, group in results.groupby("row", sort=False):
        by = group.pivot_table(index="seed", columns="setting", values="value")
        series[str(row)] = by.reindex(columns=list(RATES)).to_numpy()
    if len(bound):
        series[BOUND] = np.asarray(bound.set_index("setting")["value"].reindex(list(RATES)), dtype=float)
    return series
