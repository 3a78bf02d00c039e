"""EBMC's Table 5 and Figs 7 and 8: sequences whose frames are dropped at ten rates (ledger C22, E23, E24).

The pipeline of sequences, apart from all other artifacts: MoMKE with an utterance's frames as its tokens. One model
serves every rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from mmlib import masks
from mmlib.data.catalog import is_twin
from mmlib.papers import compare as compared
from mmlib.papers import stages
from mmlib.papers.claims import Claim, Values, minus, values
from mmlib.papers.compare import best_possible, data_notes, selected, shown
from mmlib.papers.context import Cell, Context
from mmlib.papers.ebmc import runs, tables
from mmlib.papers.stages import BUDGETS, Budget
from mmlib.report import figures
from mmlib.report.artifact import Output
from mmlib.report.tables import metric
from mmlib.runs.spec import RunSpec

RATES = {f"{10 * k} %": k / 10 for k in range(10)}
HALF = runs.Row("EBMC, epoch chosen at 50 % (E23)", condition="50 %")
STAGES = "for each of the two stages"
SPENT = {"smoke": dataclasses.replace(BUDGETS["smoke"], batch=32),
         "quick": dataclasses.replace(BUDGETS["quick"], epochs=4, batch=48),
         "laptop": dataclasses.replace(BUDGETS["laptop"], epochs=20, batch=16),
         "paper": Budget(50, 16, 1e-4, 256, 4, 0.5)}  # E23; batches are of utterances
PANELS = {"weighted_f1": "weighted F1 (%)", "acc7": "7-class accuracy (%)", "pearson": "correlation",
          "mae": "mean absolute error (score)"}  # of Figs 7 and 8, in the paper's order
WRONG = ("mosei", "TETFN")  # a row that repeats that of the other data set (C18)
LAW = ("At test each frame is dropped with the rate's probability, at least one of a modality stays, and all rows see "
       "the same masks. One model serves every rate: in training each modality of each utterance has a rate of its "
       "own, 0 half of the time, else uniform (E23). The epoch is chosen on validation under that law, of one row at "
       "50 %, as the released script does (E23).")
ALONE = "The best possible is that of an utterance by itself, which is all that these networks see."
PRINTED = ("Printed rows of others are from LNLN's paper, whose epochs were chosen on test, at 50 % (E24). Left out: "
           "TETFN on MOSEI, which repeats its MOSI row (C18). The text calls EBMC best throughout; as printed it is "
           "not, in MAE and 7-class accuracy on MOSEI (C20).")


def rows() -> list[runs.Row]:
    """Of Table 5; those beside the method are ours: networks under it, IMTD for the text, the script's choice (E23)."""
    return [*runs.main_rows(), runs.WITHOUT["imtd"], HALF]


def budget(context: Context, dataset: str) -> Budget:
    """Of a profile; steps take whole dialogues, as many as hold about the batch's utterances."""
    spent = SPENT[context.profile.name]
    return dataclasses.replace(spent, batch=stages.whole_dialogues(spent.batch, context.bundle(dataset)))


def reduced(context: Context) -> str:
    """What captions say of the budget of frames."""
    said = stages.reduced(context, runs.frames(context), SPENT, STAGES, "utterances or so")
    return said and f"Table 5, Figs 7 and 8: {said[0].lower()}{said[1:]}"


def specs(context: Context, dataset: str, row: runs.Row) -> list[RunSpec]:
    """One run per seed and fold: a second stage with frames dropped, from a first stage on complete data."""
    spent, ours = budget(context, dataset), row.kind == "ebmc"
    routing = "softmax" if row.kind == "momke" else "unnormalised"
    tests, whole = tuple((name, masks.frames(rate)) for name, rate in RATES.items()), masks.complete()
    first = context.specs(dataset, "enhance" if ours else "unimodal", "paper", whole, ((runs.ALL, whole),),
                          backbone="momke_frames", network=(*spent.network, ("routing", "own")), keep=("last",),
                          **spent.training)
    return [dataclasses.replace(parent, method="ebmc" if ours else "plain", variant=row.variant, parent=parent,
                                keep=(), backbone_options=(*spent.network, ("routing", routing)),
                                train_mask=masks.random_frames(), eval_masks=tests,
                                valid_mask=masks.frames(RATES[row.condition]) if row.condition else None)
            for parent in first]


def cells(context: Context, dataset: str) -> list[Cell]:
    """The rows of Table 5 at every rate."""
    return [Cell(row.name, name, spec, name) for row in rows() for spec in specs(context, dataset, row)
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
    against = {row.name: runs.PLAIN.name for row in rows() if row != runs.PLAIN}
    return compared.compare(context, [(d, cells(context, d), printed(context, d)) for d in names], against,
                            (LAW, *_alone(context, names), PRINTED, tables.EQUAL, *data_notes(context, names)),
                            runs.SCORES, best, {runs.MEAN_MISSING: list(RATES)}, (runs.MEAN_MISSING,))


def curves(dataset: str) -> Callable[[Context], Output]:
    """Fig 7 or 8: four metrics by rate."""
    def make(context: Context) -> Output:
        found = [c for c in cells(context, dataset) if c.row != HALF.name]  # the same training: Table 5 has it
        results = {name: selected(context, found, name) for name in PANELS}
        if any(frame.empty for frame in results.values()):
            return Output(notes=("Not built yet.",))
        bound = best(found)
        figure, axes = figures.panel_grid(len(PANELS), columns=2, width=figures.DOUBLE, height=2.3)
        numbers = []
        for place, (axis, name) in enumerate(zip(axes, PANELS, strict=True)):
            known = pd.DataFrame() if bound is None else bound[bound["metric"] == name]
            series = compared.by_setting(results[name], known, list(RATES))
            figures.lines(axis, [100 * rate for rate in RATES.values()], series,
                          xlabel="frames dropped at test (%)" if place > 1 else "", ylabel=PANELS[name],
                          title=metric(name).label, legend=False)
            numbers += [results[name], *([known.assign(row=compared.BOUND)] if len(known) else [])]
        figures.shared_legend(figure, axes[0])
        frame = pd.concat(numbers).assign(rate=lambda f: f["setting"].map(RATES))
        notes = (f"{shown(context, dataset)}. Bold: mean over seeds; light: each seed.", LAW,
                 *_alone(context, [dataset]), *data_notes(context, [dataset]))
        return Output(figure=figure, numbers=frame, rows_built=1, notes=notes,
                      run_ids=tuple(frame["run_id"].dropna().unique()))
    return make


def claims(context: Context) -> list[Claim]:
    """Section 4.4's sentences on Table 5 and appendix C.3's on Figs 7 and 8."""
    made = []
    for dataset in runs.frames(context):
        found = compared.with_averages(selected(context, cells(context, dataset), "weighted_f1"),
                                       {runs.MEAN_MISSING: list(RATES)}, ("row", "seed", "selection", "metric"))
        told, full, (least, *_, most) = values(found), runs.OURS.name, RATES
        ours, theirs = (_fall(told, row, least, most) for row in (full, runs.PLAIN.name))
        claim = partial(Claim, data=shown(context, dataset), backbone="momke_frames", unit=runs.POINTS)
        imtd, curves_of = runs.WITHOUT["imtd"].name, "C.3, Figs 7, 8"
        tests = [("best where frames are dropped", "4.4, Table 5", f"EBMC minus {row.name}, mean of the rates",
                  minus(told, full, row.name, runs.MEAN_MISSING)) for row in (runs.PLAIN, runs.MOMKE)]
        tests += [("this robustness stems from IMTD", "4.4", f"EBMC minus {imtd}, mean of the rates",
                   minus(told, full, imtd, runs.MEAN_MISSING)),
                  ("its degradation is smoother", curves_of, f"fall of {runs.PLAIN.name} from {least} to {most} minus "
                   "EBMC's", theirs - ours),
                  ("it avoids the collapse to the majority", curves_of, f"EBMC at {most} minus the most frequent "
                   "answer's weighted F1", _of(told, full, most) - majority_f1(context, dataset))]
        made += [claim(text, where, test=test, values=x.dropna().to_numpy()) for text, where, test, x in tests]
    return made


def _of(told: Values, row: str, setting: str) -> pd.Series:
    return told.get((row, setting), pd.Series(dtype=float))


def _fall(told: Values, row: str, least: str, most: str) -> pd.Series:
    return _of(told, row, least) - _of(told, row, most)


def majority_f1(context: Context, dataset: str) -> float:
    """Weighted F1 (%) on test of the answer that is most frequent there, scores of 0 left out."""
    bundle = context.bundle(dataset)
    labels = bundle.labels[bundle.rows("test")]
    positive = labels[labels != 0] > 0
    return 100 * float(f1_score(positive, np.full(len(positive), positive.mean() >= 0.5), average="weighted",
                                zero_division=0))


def _alone(context: Context, datasets: Sequence[str]) -> tuple[str, ...]:
    return (ALONE,) if any(is_twin(context.reference(d)) for d in datasets) else ()
