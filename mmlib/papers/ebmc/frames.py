"""EBMC's Table 5 and Figs 7 and 8: sequences whose frames are dropped at ten rates (ledger C22, E23, E24).

The pipeline of sequences, apart from all other artifacts: MoMKE with an utterance's frames as its tokens. One model
serves every rate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmlib import masks
from mmlib.data.catalog import is_twin
from mmlib.experiments import budgets, comparison, own, systems
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.budgets import TransformerBudget
from mmlib.experiments.claims import Claim, of_metric
from mmlib.experiments.comparison import best_possible, data_notes, selected, shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import Change, Lead, at
from mmlib.experiments.method_looks import looks
from mmlib.experiments.recipes import whole_dialogues
from mmlib.experiments.rows import Protocol, Row
from mmlib.experiments.rows import cells as cells_of
from mmlib.experiments.tables import Table, fixed
from mmlib.papers.ebmc import rows, tables
from mmlib.report import figures
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.tables import metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NETWORK = "momke_frames"
RATES = {f"{10 * k} %": k / 10 for k in range(10)}
STAGES = "for each of the two stages"
PRINTED_BUDGET = TransformerBudget(50, 16, 1e-4, 256, 4, 0.5)  # E23; batches are of utterances
PANELS = {
    "weighted_f1": "weighted F1 (%)",
    "acc7": "7-class accuracy (%)",
    "pearson": "correlation",
    "mae": "mean absolute error (score)",
}  # of Figs 7 and 8, in the paper's order
SPANS = {"pearson": (-1.0, 1.0), "mae": (0.0, math.inf)}  # of metrics that are no percentages
WRONG = ("mosei", "TETFN")  # a row that repeats that of the other data set (C18)
LAW = (
    "At test each frame is dropped with the given probability, at least one frame of "
    "a modality stays, and all rows have the same masks. One model serves every rate: "
    "in training each modality of each utterance has its own rate, which is 0 with "
    "probability one half and otherwise uniform (E23). The epoch is chosen on "
    "validation with the same masks; one row chooses it at 50 %, as the released "
    "script does (E23)."
)
ALONE = (
    "The best possible result is that for a single utterance, since these networks see no context."
)
PRINTED = (
    "The printed rows of the other methods are from LNLN's paper, which chose epochs "
    "on test, at 50 % (E24). Left out: TETFN on MOSEI, whose row repeats that on MOSI "
    "(C18). According to the text EBMC is always best; by the printed numbers it is "
    "not, in MAE and 7-class accuracy on MOSEI (C20)."
)


OTHERS = "Thin grey lines: the comparison systems, each by its mean; the table 'Figs 7 and 8 as a table' names them."
OURS = rows.ours(backbone=NETWORK)
WITHOUT_IMTD = rows.ours("w/o IMTD", "no_imtd", backbone=NETWORK)
HALF = OURS.but(name="EBMC, epoch chosen at 50 % (E23)", valid=masks.frames(RATES["50 %"]))
# Of Table 5; those beside the method are ours: networks under it, IMTD for the text, the script's choice (E23).
ROWS = (OURS, rows.plain(NETWORK), rows.momke(NETWORK), WITHOUT_IMTD, HALF, LINEAR)


def every_row(context: Context, dataset: str) -> list[Row]:
    """Table 5 and Figs 7 and 8, with the other systems before the linear model."""
    *own_rows, linear = ROWS
    return [*own_rows, *rows.systems_on_frames(context), linear]


def protocol(context: Context, dataset: str) -> Protocol:
    """Frames dropped in training and at every rate at test; steps take about as many utterances in whole dialogues.

    Nothing reads results at the epoch that test picks, and to evaluate ten rates after each epoch takes half of a run.
    """
    batch = whole_dialogues(PRINTED_BUDGET.batch, context.bundle(dataset))
    printed = {dataset: dataclasses.replace(PRINTED_BUDGET, batch=batch)}
    tests = tuple((name, masks.frames(rate)) for name, rate in RATES.items())
    budget = budgets.budget(context, dataset, printed, NETWORK)
    return Protocol(masks.random_frames(), tests, budget, followed=False)


def reduced(context: Context) -> str:
    """What captions say of the budget of frames."""
    budget = budgets.reduced(context, rows.frames(context), STAGES)
    if budget in context.profile.reduced:  # said already of the vectors
        return ""
    return f"Table 5, Figs 7 and 8: {budget[0].lower()}{budget[1:]}"


def printed(context: Context, dataset: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Table 5's cells of a data set, without the row that is wrong (C18)."""
    frame = comparison.published_cells(context, "table5", dataset, metrics, rows.FRAMES[dataset])
    wrong = (frame["dataset"] == WRONG[0]) & (frame["row"] == WRONG[1])
    return frame[~wrong].assign(setting=rows.MEAN_MISSING, runs=tables.PAPER_RUNS)


def best(cells: Sequence[Cell]) -> pd.DataFrame | None:
    """On twins, the best possible of an utterance by itself, which is all that these networks see."""
    return best_possible(cells, rows.SCORES, context=False)


TABLE5 = Table(
    every_row,
    protocol,
    rows.PLAIN.name,
    fixed(rows.SCORES),
    rows.frames,
    printed,
    lambda context, dataset: {rows.MEAN_MISSING: list(RATES)},
    settings=(rows.MEAN_MISSING,),
    best=best,
    notes=(LAW,),
)
BY_RATE = Table(
    every_row,
    protocol,
    rows.PLAIN.name,
    fixed(("weighted_f1",)),
    rows.frames,
    best=best,
    notes=(LAW, tables.EQUAL, systems.noted),
)


def table(context: Context, cells: Sequence[Cell]) -> Output:
    """Table 5: means over the ten rates, within each run."""
    alone = _alone(context, rows.frames(context))
    printed_rows = own.of_the_paper(context, PRINTED, systems.NOTE)
    notes = (LAW, *alone, *printed_rows, tables.EQUAL)
    return dataclasses.replace(TABLE5, notes=notes).draw(context, cells)


def cells_on(dataset: str) -> Callable[[Context], list[Cell]]:
    """The rows of Table 5 on one data set, at every rate."""
    return lambda context: cells_of(
        context, dataset, every_row(context, dataset), protocol(context, dataset)
    )


def claimed_on(dataset: str) -> Callable[[Context], list[Cell]]:
    """``cells_on`` without the other systems, of which the paper claims nothing that is tested."""
    return lambda context: cells_of(context, dataset, ROWS, protocol(context, dataset))


def curves(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 7 or 8: four metrics by rate."""
    drawn = [c for c in cells if c.row != HALF.name]  # the same training: Table 5 has it
    others = {row.name for row in rows.systems_on_frames(context)}
    dataset = drawn[0].dataset
    panels = _panels(context, dataset)
    results = {name: selected(context, drawn, name) for name in panels}
    if any(frame.empty for frame in results.values()):
        return NOT_BUILT
    bound = best(drawn)
    figure, axes = figures.panel_grid(len(panels), columns=2, width=figures.DOUBLE, height=2.3)
    numbers = []
    for place, (axis, name) in enumerate(zip(axes, panels, strict=True)):
        known = pd.DataFrame() if bound is None else bound[bound["metric"] == name]
        series = comparison.by_setting(results[name], known, list(RATES))
        xlabel = "frames dropped at test (%)" if place > 1 else ""
        _panel(axis, series, others, name, panels[name], xlabel)
        numbers += [results[name], *([known.assign(row=comparison.BOUND)] if len(known) else [])]
    figures.shared_legend(figure, axes[0])
    frame = pd.concat(numbers).assign(rate=lambda f: f["setting"].map(RATES))
    told = figures.told(figures.seeds_of(pd.concat(results.values()), "metric", "row"))
    notes = (
        f"{shown(context, dataset)}, test. {told}",
        LAW,
        *([OTHERS] if others else []),
        *_constant(results),
        *_alone(context, [dataset]),
        *data_notes(context, [dataset]),
    )
    built = 1 + len(others)
    return Output(None, figure, frame, built, notes, tuple(frame["run_id"].dropna().unique()))


def _panel(
    axis: Axes,
    series: dict[str, np.ndarray],
    others: Collection[str],
    name: str,
    ylabel: str,
    xlabel: str,
) -> None:
    """A metric by rate, the other systems behind the curves; name: of the metric."""
    levels = [100 * rate for rate in RATES.values()]
    behind = [values for row, values in series.items() if row in others]
    if behind:
        label = f"{own.count(len(behind))} comparison systems"
        figures.behind(axis, levels, behind, label)
    front = {row: values for row, values in series.items() if row not in others}
    figures.lines(
        axis,
        levels,
        front,
        xlabel=xlabel,
        ylabel=ylabel,
        title=metric(name).label,
        legend=False,
        looks=looks(front, {rows.PLAIN.name: OURS.name}),
        within=SPANS.get(name),
    )


def _constant(results: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """Which rows give every utterance the same answer at every rate: they have no correlation."""
    correlated = set(results["pearson"].dropna(subset="value")["row"])
    names = [name for name in results["weighted_f1"]["row"].unique() if name not in correlated]
    told = f"The same answer to every utterance, so no correlation: {', '.join(names)}."
    return (told,) if names else ()


def _panels(context: Context, dataset: str) -> dict[str, str]:
    """The metrics of Figs 7 and 8 with their axes; accuracy where scores have no seven classes."""
    if comparison.has_seven(context, dataset):
        return PANELS
    other = ("accuracy", "accuracy (%)")
    return dict(other if name == "acc7" else (name, label) for name, label in PANELS.items())


def claims(context: Context) -> list[Claim]:
    """Section 4.4's sentences on Table 5 and appendix C.3's on Figs 7 and 8."""
    return [claim for dataset in rows.frames(context) for claim in _claims_on(context, dataset)]


def _claims_on(context: Context, dataset: str) -> list[Claim]:
    """The lead averaged over the rates."""
    cells = claimed_on(dataset)(context)
    f1 = of_metric(dataset, cells, "weighted_f1", {rows.MEAN_MISSING: list(RATES)})
    claim = partial(Claim, source=f1, network=NETWORK)
    leads = [
        claim(
            "best where frames are dropped",
            "4.4, Table 5",
            f"EBMC minus {other}, mean of the rates",
            measure=Lead(OURS.name, other, rows.MEAN_MISSING),
        )
        for other in (rows.PLAIN.name, rows.MOMKE.name)
    ]
    return [
        *leads,
        *_in_other_metrics(context, dataset, cells),
        claim(
            "this robustness stems from IMTD",
            "4.4",
            f"EBMC minus {WITHOUT_IMTD.name}, mean of the rates",
            measure=Lead(OURS.name, WITHOUT_IMTD.name, rows.MEAN_MISSING),
        ),
        *_at_the_ends(claim, partial(majority_f1, context, dataset)),
    ]


def other_metrics(context: Context, dataset: str) -> dict[str, tuple[str, str]]:
    """The metrics beside weighted F1 that a data set has, with their names and the units of their differences."""
    known = {
        "acc7": ("7-class accuracy", ""),
        "pearson": ("correlation", "difference of correlations"),
        "mae": ("mean absolute error", "units of the score"),
    }
    return {name: known[name] for name in comparison.available(context, dataset, tuple(known))}


def _in_other_metrics(context: Context, dataset: str, cells: Sequence[Cell]) -> list[Claim]:
    """Table 5's other metrics."""
    averages = {rows.MEAN_MISSING: list(RATES)}
    return [
        Claim(
            f"better in {words} where frames are dropped",
            "4.4, Table 5",
            f"{first} minus {second}, {words}, mean of the rates",
            of_metric(dataset, cells, metric, averages),
            Lead(first, second, rows.MEAN_MISSING),
            unit,
            NETWORK,
        )
        for metric, (words, unit) in other_metrics(context, dataset).items()
        for other in (rows.PLAIN.name, rows.MOMKE.name)
        for first, second in [(other, OURS.name) if metric == "mae" else (OURS.name, other)]
    ]


def _at_the_ends(claim: Callable[..., Claim], majority: Callable[[], float]) -> list[Claim]:
    """What happens from the lowest rate to the highest; majority: gives weighted F1 of the most frequent answer."""
    full, plain, (least, *_, most) = OURS.name, rows.PLAIN.name, RATES

    return [
        claim(
            "its degradation is smoother",
            "C.3, Figs 7, 8",
            f"fall of {plain} from {least} to {most} minus EBMC's",
            measure=Change(Lead(full, plain, most), Lead(full, plain, least)),
        ),
        claim(
            "it avoids the collapse to the majority",
            "C.3, Figs 7, 8",
            f"EBMC at {most} minus the most frequent answer's weighted F1",
            measure=lambda f1: at(f1, full, most) - majority(),
        ),
    ]


def majority_f1(context: Context, dataset: str) -> float:
    """Weighted F1 (%) on test of the answer that is most frequent there, scores of 0 left out; mean over folds."""
    whole, folds = context.bundle(dataset), context.folds(dataset)
    bundles = [whole if fold is None else whole.with_fold(fold) for fold in folds]
    each = [_majority_f1(bundle.labels[bundle.rows("test")]) for bundle in bundles]
    return each[0] if len(each) == 1 else float(np.mean(each))


def _majority_f1(labels: np.ndarray) -> float:
    """Of scores (n,)."""
    from sklearn.metrics import f1_score

    positive = labels[labels != 0] > 0
    return 100 * float(
        f1_score(
            positive,
            np.full(len(positive), positive.mean() >= 0.5),
            average="weighted",
            zero_division=0,
        )
    )


def _alone(context: Context, datasets: Sequence[str]) -> tuple[str, ...]:
    return (ALONE,) if any(is_twin(context.reference(d)) for d in datasets) else ()
