"""EBMC's figures: Fig 3 (t-SNE), Fig 4 (what each modality contributes), Fig 5 (cases), Fig 6 (the weights)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmlib.data.bundle import Bundle
from mmlib.experiments.cases import corrections
from mmlib.experiments.comparison import data_notes, has_seven, selected, shown
from mmlib.experiments.conditions import in_picture, initials_note
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.method_looks import looks
from mmlib.experiments.rows import Row, of_row, on, runs_of
from mmlib.experiments.rows import cells as cells_of
from mmlib.metrics import sign_labels
from mmlib.papers.ebmc import rows
from mmlib.report import figures, grouped, projection
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.colours import Look
from mmlib.report.tables import mean_sd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = {
    "w/o MSD": rows.WITHOUT["msd"],
    "+ MSD": rows.WITHOUT["cce"],
    "+ MSD + CCE": rows.OURS,
}  # Fig 3
BALANCED = {"with EMC": rows.OURS, "w/o EMC": rows.WITHOUT["emc"]}  # Fig 4


def tsne_cells(context: Context) -> list[Cell]:
    """One run of each step, whose embeddings are kept."""
    protocol = rows.whole_grid(context, context.main)
    kept = [row.but(keep=("embeddings",)) for row in STEPS.values()]
    return [cells_of(context, context.main, [row], protocol)[0] for row in kept]


def tsne(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 3: what the prediction reads, with and without MSD and CCE, by the label's sign or class."""
    bundle = context.bundle(context.main)
    words = projection.words(bundle.task)
    figure, axes = figures.panel_grid(len(STEPS), columns=3, width=figures.DOUBLE, height=1.9)
    frames, ids = [], []
    for axis, title, spec in zip(axes, STEPS, (cell.spec for cell in cells), strict=True):
        record = context.record(spec)
        kept = context.store.arrays(record.id) if record else {}
        if record is None or "embeddings.hidden" not in kept:
            return Output(
                notes=("The embeddings are not in the store: run `mmlib sweep` for this figure.",)
            )
        labels = np.array(words)[_signs(bundle, spec.fold)]
        frame = projection.panel(axis, kept["embeddings.hidden"], labels, title, words)
        if frame is not None:
            frames.append(frame.assign(row=title))
        ids.append(record.id)
    if not frames:
        return Output(
            figure=figure, notes=(f"{projection.TOO_FEW}.",), rows_built=0, run_ids=tuple(ids)
        )
    projection.legend(figure, axes, words)
    return Output(
        figure=figure,
        numbers=pd.concat(frames),
        rows_built=len(frames),
        notes=_tsne_notes(context, frames),
        run_ids=tuple(ids),
    )


def _signs(bundle: Bundle, fold: int | None) -> np.ndarray:
    """(n_test,): the label's sign as 0, 1, 2, or its class."""
    folded = bundle if fold is None else bundle.with_fold(fold)
    truth = folded.labels[folded.rows("test")]
    return np.sign(truth).astype(int) + 1 if bundle.task.kind == "score" else truth


def _tsne_notes(context: Context, frames: Sequence[pd.DataFrame]) -> tuple[str, ...]:
    silhouettes = [f"{f['row'].iloc[0]} {f['silhouette'].iloc[0]:+.3f}" for f in frames]
    return (
        f"{shown(context, context.main)}, test utterances with all modalities, one run of each. The axes "
        "of t-SNE have no unit. Each title gives the silhouette score of the labels in "
        "the embedding before projection (1: separated, 0: mixed): "
        + f"{'; '.join(silhouettes)}. {projection.seen([f['silhouette'].iloc[0] for f in frames])}",
        *projection.notes(projection.words(context.bundle(context.main).task)),
        *data_notes(context, [context.main]),
    )


def shapley(values: Mapping[frozenset[str], float], players: Sequence[str]) -> dict[str, float]:
    """The Shapley value of each player, exactly; values: of every coalition, the empty one too."""
    shares = {}
    for player in players:
        others, total = [p for p in players if p != player], 0.0
        for size in range(len(players)):
            weight = (
                math.factorial(size)
                * math.factorial(len(others) - size)
                / math.factorial(len(players))
            )
            for coalition in itertools.combinations(others, size):
                total += weight * (
                    values[frozenset((*coalition, player))] - values[frozenset(coalition)]
                )
        shares[player] = total
    return shares


def contributions(context: Context, dataset: str, cells: Sequence[Cell]) -> pd.DataFrame:
    """Each modality's Shapley value of a row's test accuracy, in points, by seed: seeds by modalities.

    A coalition's value is the accuracy of the one model when these modalities are there; that of none, the share of
    the most frequent class in test.
    """
    frame = selected(context, cells, "accuracy")
    names = context.bundle(dataset).modalities
    lines = {}
    for seed, group in frame.groupby("seed"):
        by = dict(zip(group["setting"], group["value"], strict=True))
        if len(by) < 2 ** len(names) - 1:
            continue
        values = {frozenset(names if s == rows.ALL else s.split("+")): v for s, v in by.items()}
        lines[seed] = shapley({**values, frozenset(): guessing(context, dataset)}, names)
    return pd.DataFrame.from_dict(lines, orient="index", columns=list(names), dtype=float)


def guessing(context: Context, dataset: str) -> float:
    """Accuracy (%) of the most frequent answer, averaged over folds where there are any."""
    bundle, shares = context.bundle(dataset), []
    for fold in context.folds(dataset):
        folded = bundle if fold is None else bundle.with_fold(fold)
        truth = folded.labels[folded.rows("test")]
        truth = (
            sign_labels(truth, truth, with_zero=False)[0]
            if bundle.task.kind == "score"
            else truth.ravel()
        )
        shares.append(100 * np.unique(truth, return_counts=True)[1].max() / len(truth))
    return float(np.mean(shares))


def contribution_cells(context: Context, dataset: str, row: Row) -> list[Cell]:
    """A row under every condition."""
    return cells_of(context, dataset, [row], rows.missing(context, dataset))


def contributions_cells(context: Context) -> list[Cell]:
    """The runs of Fig 4."""
    return [
        cell
        for dataset in rows.vectors(context)
        for row in BALANCED.values()
        for cell in contribution_cells(context, dataset, row)
    ]


def contribution(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 4: what each modality contributes with and without EMC; the accuracy with all of them in words."""
    shares = {dataset: _shares(context, dataset, cells) for dataset in rows.vectors(context)}
    shares = {d: of for d, of in shares.items() if not any(frame.empty for frame in of.values())}
    if not shares:
        return NOT_BUILT
    figure, axes = figures.panel_grid(
        len(shares), columns=3, width=figures.DOUBLE if len(shares) > 1 else None, height=2.3
    )
    for axis, (dataset, of) in zip(axes, shares.items(), strict=True):
        ylabel = "Shapley value (points)" if axis is axes[0] else ""
        _contribution_panel(context, axis, dataset, of, ylabel)
    figures.one_scale(axes)
    figures.shared_legend(figure, axes[0])
    lines = [
        frame.melt(ignore_index=False, var_name="modality", value_name="points")
        .rename_axis("seed")
        .reset_index()
        .assign(dataset=dataset, row=name)
        for dataset, of in shares.items()
        for name, frame in of.items()
    ]
    counts = [len(frame) for of in shares.values() for frame in of.values()]
    notes = (
        "The paper does not define contribution; we use the exact Shapley value of "
        "the test accuracy. The values sum to the accuracy with all modalities minus "
        "that of predicting the most frequent class. One model for all combinations. "
        f"The panels share their scale. {figures.told(counts, 'bars')}",
        *(_whole_accuracy(context, dataset, cells) for dataset in shares),
        *dict.fromkeys(n for d in shares for n in initials_note(context.bundle(d).modalities)),
        *data_notes(context, rows.vectors(context)),
    )
    built = len(rows.vectors(context))
    return Output(figure=figure, numbers=pd.concat(lines), rows_built=built, notes=notes)


def _shares(context: Context, dataset: str, cells: Sequence[Cell]) -> dict[str, pd.DataFrame]:
    """Seeds by modalities, with and without EMC."""
    mine = on(cells, dataset)
    return {
        name: contributions(context, dataset, of_row(mine, row.name))
        for name, row in BALANCED.items()
    }


def _contribution_panel(
    context: Context, axis: Axes, dataset: str, shares: Mapping[str, pd.DataFrame], ylabel: str
) -> None:
    """Each modality's contribution; shares: seeds by modalities, with and without EMC."""
    names = list(context.bundle(dataset).modalities)
    grouped.bars(
        axis,
        [in_picture(m, names) for m in names],
        {k: [list(f[m]) for m in names] for k, f in shares.items()},
        ylabel=ylabel,
        title=shown(context, dataset),
        legend=False,
        looks=looks_of_balanced(),
        within=(-100.0, 100.0),
    )
    axis.axhline(0, color="black", linewidth=0.8)


def looks_of_balanced() -> dict[str, Look]:
    """The method's look with EMC, and its hollow one without."""
    with_emc, without = BALANCED
    own = looks([rows.OURS.name, without], {without: rows.OURS.name})
    return {with_emc: own[rows.OURS.name], without: own[without]}


def _whole_accuracy(context: Context, dataset: str, cells: Sequence[Cell]) -> str:
    """The right half of the printed figure as a sentence: accuracy with all modalities."""
    whole = [cell for cell in on(cells, dataset) if cell.setting == rows.ALL]
    values = selected(context, whole, "accuracy").groupby("row")["value"]
    told = "; ".join(f"{k} {mean_sd(values.get_group(r.name))}" for k, r in BALANCED.items())
    return f"Accuracy with all modalities (%), {shown(context, dataset)}: {told}."


def case_cells(context: Context) -> list[Cell]:
    """The runs of Fig 5: the first seed of the method and of the same network without it."""
    dataset = rows.of_cases(context)
    compared = cells_of(context, dataset, [rows.OURS, rows.PLAIN], rows.whole(context, dataset))
    return [cell for cell in compared if cell.spec.seed == 0]


def cases(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 5: the test utterances that the method corrects most, and how many each way."""
    named = {"EBMC": rows.OURS, "task loss alone": rows.PLAIN}
    ours, theirs = ((name, runs_of(cells, row.name)) for name, row in named.items())
    return corrections(context, rows.of_cases(context), ours, theirs, rows.ALL, rows.ALL)


def weight_cells(context: Context) -> list[Cell]:
    """The runs of Fig 6."""
    (dataset,) = rows.of_weights(context)
    tried = [row for values in rows.weight_rows(context).values() for _, row in values]
    return cells_of(context, dataset, tried, rows.whole_grid(context, dataset))


def weights(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 6: seven-class accuracy and MAE against each weight of Eq. 17; accuracy of scores on another scale."""
    (dataset,), tried = rows.of_weights(context), rows.weight_rows(context)
    scores = context.bundle(dataset).task.kind == "score"
    seven = "acc7" if has_seven(context, dataset) else "accuracy"
    metrics = (seven, "mae") if scores else ("accuracy", "weighted_f1")
    figure, axes = figures.panel_grid(2 * len(tried), columns=4, width=figures.DOUBLE, height=2.0)
    numbers = []
    for line, metric in enumerate(metrics):
        for place, (weight, values) in enumerate(tried.items()):
            names = [row.name for _, row in values]
            results = selected(context, [c for c in cells if c.row in names], metric)
            axis = axes[line * len(tried) + place]
            _weight_panel(
                axis,
                {value: row.name for value, row in values},
                results,
                xlabel=f"${_TEX[weight]}$",
                ylabel=_YLABELS[metric] if place == 0 else "",
                title=_PART[weight] if line == 0 else "",
                within=(0.0, math.inf) if metric == "mae" else (0.0, 100.0),
            )
            numbers.append(results.assign(weight=weight))
        figures.one_scale(axes[line * len(tried) : (line + 1) * len(tried)])
    told = figures.told(figures.seeds_of(pd.concat(numbers), "metric", "row"))
    notes = (
        f"{shown(context, dataset)}, test with all modalities, at the epoch that validation picks. "
        f"The panels of a line share their scale. {told} The other weights "
        f"are as printed: {_printed_weights()}.",
        *data_notes(context, [dataset]),
    )
    frame = pd.concat(numbers)
    return Output(
        figure=figure,
        numbers=frame,
        rows_built=len(tried),
        notes=notes,
        run_ids=tuple(frame["run_id"].unique()),
    )


def _printed_weights() -> str:
    return ", ".join(f"{value:g} for {_PART[name]}" for name, value in rows.WEIGHTS.items())


def _weight_panel(
    axis: Axes,
    names: Mapping[float, str],
    results: pd.DataFrame,
    xlabel: str,
    ylabel: str,
    title: str,
    within: tuple[float, float],
) -> None:
    """A metric against a weight; names: of the rows, by the weight's value."""
    table = results.pivot_table(index="seed", columns="row", values="value")
    curves = table.reindex(columns=list(names.values())).to_numpy()
    figures.lines(
        axis,
        list(names),
        {rows.OURS.name: curves},
        xlabel=xlabel,
        ylabel=ylabel,
        title=title,
        legend=False,
        looks=looks([rows.OURS.name]),
        within=within,
    )
    axis.set_xscale("log")
    axis.set_xticks(list(names), [f"{value:g}" for value in names])
    axis.set_xticks([], minor=True)


_YLABELS = {
    "acc7": "7-class accuracy (%)",
    "mae": "MAE",
    "accuracy": "accuracy (%)",
    "weighted_f1": "weighted F1 (%)",
}
_TEX = {"zeta": r"\zeta", "beta": r"\beta", "gamma": r"\gamma", "eta": r"\eta"}
_PART = {"zeta": "MSD", "beta": "CCE", "gamma": "EMC", "eta": "IMTD"}
