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
from mmlib.experiments.rows import Row, of_row, on, runs_of
from mmlib.experiments.rows import cells as cells_of
from mmlib.metrics import sign_labels
from mmlib.papers.ebmc import rows
from mmlib.report import figures, projection
from mmlib.report.artifact import NOT_BUILT, Output

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
    figure, axes = figures.panel_grid(len(STEPS), columns=3, width=figures.DOUBLE, height=2.5)
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
        "the embedding before projection (1: separated, 0: mixed): " + "; ".join(silhouettes) + ".",
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
    """Fig 4: what each modality contributes with and without EMC, and the accuracy with all of them."""
    datasets = rows.vectors(context)
    figure, axes = figures.panel_grid(
        2 * len(datasets), columns=2, width=figures.DOUBLE, height=2.3
    )
    lines: list[pd.DataFrame] = []
    for place, dataset in enumerate(datasets):
        mine = on(cells, dataset)
        shares = {
            name: contributions(context, dataset, of_row(mine, row.name))
            for name, row in BALANCED.items()
        }
        if any(frame.empty for frame in shares.values()):
            continue
        whole = selected(context, [c for c in mine if c.setting == rows.ALL], "accuracy")
        _contribution_panels(
            context, dataset, (axes[2 * place], axes[2 * place + 1]), shares, whole, place == 0
        )
        lines += [
            frame.melt(ignore_index=False, var_name="modality", value_name="points")
            .rename_axis("seed")
            .reset_index()
            .assign(dataset=dataset, row=name)
            for name, frame in shares.items()
        ]
    if not lines:
        return NOT_BUILT
    notes = (
        "The paper does not define contribution; we use the exact Shapley value of "
        "the test accuracy. The values sum to the accuracy with all modalities minus "
        "that of predicting the most frequent class. One model for all combinations. "
        "Points are seeds, whiskers 95 % intervals.",
        *dict.fromkeys(n for d in datasets for n in initials_note(context.bundle(d).modalities)),
        *data_notes(context, datasets),
    )
    return Output(figure=figure, numbers=pd.concat(lines), rows_built=len(datasets), notes=notes)


def _contribution_panels(
    context: Context,
    dataset: str,
    axes: tuple[Axes, Axes],
    shares: Mapping[str, pd.DataFrame],
    whole: pd.DataFrame,
    legend: bool,
) -> None:
    """Each modality's contribution, and the accuracy with all.

    shares: seeds by modalities, with and without EMC; whole: results with all modalities.
    """
    names = list(context.bundle(dataset).modalities)
    title = shown(context, dataset)
    figures.grouped_bars(
        axes[0],
        [in_picture(m, names) for m in names],
        {k: [list(f[m]) for m in names] for k, f in shares.items()},
        ylabel="Shapley value (points)",
        title=title,
        legend=legend,
    )
    accuracy = {k: [list(whole[whole["row"] == row.name]["value"])] for k, row in BALANCED.items()}
    low = min(v for lists in accuracy.values() for v in lists[0])
    figures.grouped_bars(
        axes[1],
        ["all modalities"],
        accuracy,
        base=5 * math.floor(low / 5 - 1),
        ylabel="accuracy (%)",
        title=title,
        legend=False,
    )


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
            )
            numbers.append(results.assign(weight=weight))
    notes = (
        f"{shown(context, dataset)}, all modalities. Bold lines are means over seeds, "
        "light lines single seeds. The other weights are as printed:"
        f" 0.5 for MSD, 0.1 for the others.",
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


def _weight_panel(
    axis: Axes,
    names: Mapping[float, str],
    results: pd.DataFrame,
    xlabel: str,
    ylabel: str,
    title: str,
) -> None:
    """A metric against a weight; names: of the rows, by the weight's value."""
    table = results.pivot_table(index="seed", columns="row", values="value")
    curves = table.reindex(columns=list(names.values())).to_numpy()
    figures.lines(
        axis,
        list(names),
        {"EBMC": curves},
        xlabel=xlabel,
        ylabel=ylabel,
        title=title,
        legend=False,
    )
    axis.set_xscale("log")


_YLABELS = {
    "acc7": "7-class accuracy (%)",
    "mae": "MAE",
    "accuracy": "accuracy (%)",
    "weighted_f1": "weighted F1 (%)",
}
_TEX = {"zeta": r"\zeta", "beta": r"\beta", "gamma": r"\gamma", "eta": r"\eta"}
_PART = {"zeta": "MSD", "beta": "CCE", "gamma": "EMC", "eta": "IMTD"}
