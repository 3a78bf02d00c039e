"""EBMC's figures: Fig 3 (t-SNE), Fig 4 (what each modality contributes), Fig 5 (cases), Fig 6 (the weights)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmlib.masks import complete
from mmlib.metrics import sign_labels
from mmlib.papers import stages
from mmlib.papers.cases import corrections
from mmlib.papers.compare import data_notes, selected, shown
from mmlib.papers.context import Cell, Context
from mmlib.papers.ebmc import runs
from mmlib.report import figures, projection
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

STEPS = {"w/o MSD": runs.WITHOUT["msd"], "+ MSD": runs.WITHOUT["cce"], "+ MSD + CCE": runs.OURS}  # Fig 3
BALANCED = {"with EMC": runs.OURS, "w/o EMC": runs.WITHOUT["emc"]}  # Fig 4


def tsne_cells(context: Context) -> list[Cell]:
    """One run of each step, whose embeddings are kept."""
    return [runs.whole(context, context.main, [row], True, ("embeddings",))[0] for row in STEPS.values()]


def tsne_specs(context: Context) -> list[RunSpec]:
    """The runs of Fig 3."""
    return stages.specs_of(tsne_cells(context))


def tsne(context: Context) -> Output:
    """Fig 3: what the prediction reads, with and without MSD and CCE, by the label's sign or class."""
    bundle = context.bundle(context.main)
    words = list(bundle.task.names) if bundle.task.kind == "classes" else ["negative", "neutral", "positive"]
    figure, axes = figures.panel_grid(len(STEPS), columns=3, width=figures.DOUBLE, height=2.5)
    frames, ids = [], []
    for axis, title, spec in zip(axes, STEPS, (cell.spec for cell in tsne_cells(context)), strict=True):
        record, _ = context.store.find(spec, context.bundle_fingerprint(spec.data))
        kept = context.store.arrays(record.id) if record else {}
        if "embeddings.hidden" not in kept:
            return Output(notes=("The embeddings are not in the store: run `mmlib sweep` for this figure.",))
        folded = bundle if spec.fold is None else bundle.with_fold(spec.fold)
        truth = folded.labels[folded.rows("test")]
        signs = np.sign(truth).astype(int) + 1 if bundle.task.kind == "score" else truth
        frame = projection.panel(axis, kept["embeddings.hidden"], np.array(words)[signs], title, words)
        if frame is not None:
            frames.append(frame.assign(row=title))
        ids.append(record.id if record else "")
    if not frames:
        return Output(figure=figure, notes=(f"{projection.TOO_FEW}.",), rows_built=0, run_ids=tuple(ids))
    figures.shared_legend(figure, axes[0])
    notes = (f"{shown(context, context.main)}, test utterances with all modalities, one run of each. t-SNE axes have "
             "no unit. The silhouette of the labels in the embedding itself (1 separate, 0 mixed) is in each title: "
             + "; ".join(f"{f['row'].iloc[0]} {f['silhouette'].iloc[0]:+.3f}" for f in frames) + ".",
             *data_notes(context, [context.main]))
    return Output(figure=figure, numbers=pd.concat(frames), rows_built=len(frames), notes=notes, run_ids=tuple(ids))


def shapley(values: Mapping[frozenset[str], float], players: Sequence[str]) -> dict[str, float]:
    """The Shapley value of each player, exactly; values: of every coalition, the empty one too."""
    found = {}
    for player in players:
        others, total = [p for p in players if p != player], 0.0
        for size in range(len(players)):
            weight = math.factorial(size) * math.factorial(len(others) - size) / math.factorial(len(players))
            for coalition in itertools.combinations(others, size):
                total += weight * (values[frozenset((*coalition, player))] - values[frozenset(coalition)])
        found[player] = total
    return found


def contributions(context: Context, dataset: str, row: runs.Row) -> pd.DataFrame:
    """Each modality's Shapley value of test accuracy, in points, by seed: seeds by modalities.

    A coalition's value is the accuracy of the one model when these modalities are there; that of none, the share of
    the most frequent class in test.
    """
    frame = selected(context, runs.missing(context, dataset, [row]), "accuracy")
    names = context.bundle(dataset).modalities
    lines = {}
    for seed, group in frame.groupby("seed"):
        by = dict(zip(group["setting"], group["value"], strict=True))
        if len(by) < 2**len(names) - 1:
            continue
        values = {frozenset(names if s == runs.ALL else s.split("+")): v for s, v in by.items()}
        lines[seed] = shapley({**values, frozenset(): guessing(context, dataset)}, names)
    return pd.DataFrame.from_dict(lines, orient="index", columns=list(names), dtype=float)


def guessing(context: Context, dataset: str) -> float:
    """Accuracy (%) of the most frequent answer, averaged over folds where there are any."""
    bundle, found = context.bundle(dataset), []
    for fold in context.folds(dataset):
        folded = bundle if fold is None else bundle.with_fold(fold)
        truth = folded.labels[folded.rows("test")]
        truth = sign_labels(truth, truth, with_zero=False)[0] if bundle.task.kind == "score" else truth.ravel()
        found.append(100 * np.unique(truth, return_counts=True)[1].max() / len(truth))
    return float(np.mean(found))


def contribution_specs(context: Context) -> list[RunSpec]:
    """The runs of Fig 4."""
    return stages.specs_of(c for d in runs.vectors(context) for c in runs.missing(context, d, BALANCED.values()))


def contribution(context: Context) -> Output:
    """Fig 4: what each modality contributes with and without EMC, and the accuracy with all of them."""
    datasets = runs.vectors(context)
    figure, axes = figures.panel_grid(2 * len(datasets), columns=2, width=figures.DOUBLE, height=2.3)
    lines = []
    for place, dataset in enumerate(datasets):
        found = {name: contributions(context, dataset, row) for name, row in BALANCED.items()}
        cells = runs.missing(context, dataset, BALANCED.values())
        whole = selected(context, [c for c in cells if c.setting == runs.ALL], "accuracy")
        if any(not len(f) for f in found.values()):
            continue
        names = list(context.bundle(dataset).modalities)
        figures.grouped_bars(axes[2 * place], names, {k: [list(f[m]) for m in names] for k, f in found.items()},
                             ylabel="Shapley value (points)", title=shown(context, dataset), legend=place == 0)
        by = {k: [list(whole[whole["row"] == row.name]["value"])] for k, row in BALANCED.items()}
        low = min(v for lists in by.values() for v in lists[0])
        figures.grouped_bars(axes[2 * place + 1], ["all modalities"], by, base=5 * math.floor(low / 5 - 1),
                             ylabel="accuracy (%)", title=shown(context, dataset), legend=False)
        lines += [frame.melt(ignore_index=False, var_name="modality", value_name="points").rename_axis("seed")
                  .reset_index().assign(dataset=dataset, row=name) for name, frame in found.items()]
    if not lines:
        return Output(notes=("Not built yet.",))
    notes = ("The paper does not say what its contribution is; here it is the Shapley value of test accuracy, exact "
             "over all combinations: the values add up to the accuracy with all modalities minus that of the most "
             "frequent answer. One model for all combinations. Points are seeds, whiskers 95 % intervals.",
             *data_notes(context, datasets))
    return Output(figure=figure, numbers=pd.concat(lines), rows_built=len(datasets), notes=notes)


def _seed0(context: Context, row: runs.Row) -> list[RunSpec]:
    return [s for s in runs.specs(context, cases_dataset(context), row, complete()) if s.seed == 0]


def cases_dataset(context: Context) -> str:
    """The paper shows cases of IEMOCAP; the main data set stands in where there is none."""
    return "iemocap" if "iemocap" in context.datasets else context.main


def case_specs(context: Context) -> list[RunSpec]:
    """The runs of Fig 5: the first seed of the method and of the same network without it."""
    cells = runs.whole(context, cases_dataset(context), [runs.OURS, runs.PLAIN])
    return stages.specs_of(c for c in cells if c.spec.seed == 0)


def cases(context: Context) -> Output:
    """Fig 5: the test utterances that the method corrects most, and how many each way."""
    named = (("EBMC", runs.OURS), ("task loss alone", runs.PLAIN))
    ours, theirs = ((name, _seed0(context, row)) for name, row in named)
    return corrections(context, cases_dataset(context), ours, theirs, runs.ALL, runs.ALL)


def weight_specs(context: Context) -> list[RunSpec]:
    """The runs of Fig 6."""
    rows = [row for found in runs.weight_rows(context).values() for _, row in found]
    return stages.specs_of(runs.whole(context, weights_dataset(context), rows, grid=True))


def weights_dataset(context: Context) -> str:
    """The paper draws Fig 6, and has Table 7, for MOSEI; the main data set stands in where there is none."""
    return "mosei" if "mosei" in context.datasets else context.main


def weights(context: Context) -> Output:
    """Fig 6: seven-class accuracy and MAE against each weight of Eq. 17."""
    dataset, rows = weights_dataset(context), runs.weight_rows(context)
    names = ("acc7", "mae") if context.bundle(dataset).task.kind == "score" else ("accuracy", "weighted_f1")
    labels = {"acc7": "7-class accuracy (%)", "mae": "MAE", "accuracy": "accuracy (%)",
              "weighted_f1": "weighted F1 (%)"}
    figure, axes = figures.panel_grid(2 * len(rows), columns=4, width=figures.DOUBLE, height=2.0)
    numbers = []
    for line, metric in enumerate(names):
        for place, (name, values) in enumerate(rows.items()):
            cells = [cell for _, row in values for cell in
                     runs.whole(context, dataset, [row], grid=True)]
            found = selected(context, cells, metric)
            table = found.pivot_table(index="seed", columns="row", values="value")
            table = table.reindex(columns=[row.name for _, row in values])
            axis = axes[line * len(rows) + place]
            figures.lines(axis, [v for v, _ in values], {"EBMC": table.to_numpy()}, xlabel=f"${_TEX[name]}$",
                          ylabel=labels[metric] if place == 0 else "", title=_PART[name] if line == 0 else "",
                          legend=False)
            axis.set_xscale("log")
            numbers.append(found.assign(weight=name))
    notes = (f"{shown(context, dataset)}, all modalities. Bold: mean over seeds; light: each seed. Other weights as "
             "printed: 0.5 for MSD, 0.1 for the others.", *data_notes(context, [dataset]))
    frame = pd.concat(numbers)
    return Output(figure=figure, numbers=frame, rows_built=len(rows), notes=notes,
                  run_ids=tuple(frame["run_id"].unique()))


_TEX = {"zeta": r"\zeta", "beta": r"\beta", "gamma": r"\gamma", "eta": r"\eta"}
_PART = {"zeta": "MSD", "beta": "CCE", "gamma": "EMC", "eta": "IMTD"}
