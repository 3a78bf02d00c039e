"""BALM's figures of results and of what a network makes of its inputs: Figs 2, 4, 6, and 8 to 10 (t-SNE)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from mmlib.experiments.comparison import selected
from mmlib.experiments.context import Cell, Context
from mmlib.masks import draw
from mmlib.papers.balm import runs, tables
from mmlib.report import figures, projection
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

HALF: runs.Rates = (0.5, 0.5, 0.5)


def fig2_cells(context: Context) -> list[Cell]:
    """Fig 2: backbones at a shared rate of 0.5 and at six imbalanced settings of the same mean."""
    rows = [runs.plain(b) for b in context.backbones]
    return runs.grid_of(context, context.main, rows, [HALF, *runs.SETTINGS])


def shared_against_imbalanced(context: Context) -> Output:
    """Fig 2: accuracy under equivalent rates (Eq. 39): one shared rate says little of a model's behaviour."""
    results = selected(context, fig2_cells(context), "accuracy")
    names = {runs.label(HALF): "shared 0.5", **{runs.label(r): runs.label(r) for r in runs.SETTINGS}}
    bars = {row: [list(group[group["setting"] == s]["value"]) for s in names]
            for row, group in results.groupby("row", sort=False)}
    figure, axes = figures.panel_grid(1, width=figures.DOUBLE, height=2.6)
    low = results["value"].min()
    figures.grouped_bars(axes[0], list(names.values()), {str(row): b for row, b in bars.items()}, ylabel="accuracy (%)",
                         title="A shared rate of 0.5 and its equivalents (r_A/r_L/r_V)", base=5 * np.floor(low / 5 - 1))
    spread = results.groupby(["row", "setting"])["value"].mean().groupby("row").agg(lambda v: v.max() - v.min())
    notes = (f"{tables.shown(context, context.main)}; bars are means over seeds with 95 % intervals, points are "
             "seeds; the axis does not start at 0.",
             "Largest minus smallest mean over the seven settings: "
             + ", ".join(f"{row} {value:.1f} points" for row, value in spread.items()) + ".",
             "The paper's other models are not built yet.")
    return Output(figure=figure, numbers=results, notes=notes, rows_built=len(names) - 1,
                  run_ids=tuple(results["run_id"].unique()) if "run_id" in results else ())


def fig4_cells(context: Context) -> list[Cell]:
    """Fig 4: the runs of Tables 11 and 12."""
    return [cell for d in context.datasets for cell in runs.shared_cells(context, d)]


def shared_rates(context: Context) -> Output:
    """Fig 4: weighted F1 against the shared missing rate."""
    figure, axes = figures.panel_grid(len(context.datasets), columns=2, width=figures.DOUBLE, height=2.8)
    rates = [f"{rate:.1f}" for rate in context.profile.shared_rates]
    frames = []
    for axis, dataset in zip(axes, context.datasets, strict=True):
        results = selected(context, runs.shared_cells(context, dataset), "weighted_f1")
        table = results.pivot_table(index=["row", "seed"], columns="setting", values="value").reindex(columns=rates)
        rows = [row.name for row in runs.shared_rows(context) if row.name in table.index]
        figures.lines(axis, [float(r) for r in rates], {row: table.loc[row].to_numpy() for row in rows},
                      xlabel="shared missing rate", ylabel="weighted F1 (%)", title=tables.shown(context, dataset),
                      legend=False)
        frames.append(results.assign(dataset=dataset))
    figures.shared_legend(figure, axes[0], columns=3)
    return Output(figure=figure, numbers=pd.concat(frames), rows_built=len(runs.shared_rows(context)) // 2,
                  notes=("Means over seeds drawn heavily, seeds lightly. Plain backbones other than GCNet are ours; "
                         "Mi-CGA and SDR-GNN are not built yet.",))


def combination_gains(context: Context) -> Output:
    """Fig 6: what BALM adds for each combination of modalities, over the six settings.

    Left as the paper draws it, against GCNet whatever the backbone; right against the own backbone (A24).
    """
    results = selected(context, runs.combination_cells(context, "iemocap"), "weighted_f1")
    parts = results["setting"].str.rsplit(" ", n=1)
    results = results.assign(combination=parts.str[1], rates=parts.str[0])
    means = results.groupby(["row", "combination", "seed"])["value"].mean()
    rows = runs.combination_rows(context)
    names = [name for name, _ in runs.groups(context, "iemocap")]
    figure, axes = figures.panel_grid(2, columns=2, width=figures.DOUBLE, height=2.6, sharey=True)
    numbers: list[dict[str, object]] = []
    reference = runs.plain("gcnet").name if "gcnet" in context.backbones else rows[0].name
    for axis, title, baseline in ((axes[0], f"against {reference} (as printed)", {r.name: reference for r in rows}),
                                  (axes[1], "against the own backbone", runs.own_plain(rows))):
        gains = {row.name: [list(means[row.name, name] - means[baseline[row.name], name]) for name in names]
                 for row in rows if row.method == "balm"}
        figures.grouped_bars(axis, names, gains, ylabel="" if numbers else "gain in weighted F1 (points)", title=title,
                             legend=False)
        axis.axhline(0, color="black", linewidth=0.8)
        numbers += [{"row": row, "against": title, "combination": name, "seed_place": place, "gain": value}
                    for row, lists in gains.items() for name, values in zip(names, lists, strict=True)
                    for place, value in enumerate(values)]
    figures.shared_legend(figure, axes[0])
    return Output(figure=figure, numbers=pd.DataFrame(numbers), rows_built=2,
                  notes=(f"{tables.shown(context, 'iemocap')}, mean over the six settings of Table 9 within each seed; "
                         "points are seeds, whiskers 95 % intervals.",
                         "A single modality has nothing to rebalance: there +BALM is FCM alone."))


def tsne_rows(context: Context) -> list[runs.Row]:
    """Figs 8 to 10: the main backbone with and without BALM."""
    return [runs.plain(context.backbone), runs.balm(context.backbone)]


def tsne_cells(context: Context) -> list[Cell]:
    """One run of each row, whose embeddings are kept."""
    return [runs.cells(context, context.main, row, runs.FOCUS, keep=("embeddings",))[0] for row in tsne_rows(context)]


def embeddings(part: str) -> tuple[Callable[[Context], list[RunSpec]], Callable[[Context], Output]]:
    """Figs 8 (``input``), 9 (``z``) and 10 (``hidden``): t-SNE of the test utterances, one row of panels per method."""
    def specs(context: Context) -> list[RunSpec]:
        return runs.specs_of(tsne_cells(context))

    def make(context: Context) -> Output:
        modalities = context.bundle(context.main).modalities
        names = [part] if part == "hidden" else [f"{part}.{m}" for m in modalities]
        cells = tsne_cells(context)
        figure, axes = figures.panel_grid(len(cells) * len(names), columns=2 if part == "hidden" else len(names),
                                          width=figures.DOUBLE, height=2.5)
        frames, drawn, ids, words = [], [], [], _words(context)
        for line, cell in enumerate(cells):
            kept = _kept(context, cell.spec)
            if not kept:
                continue
            ids.append(cell.spec.run_id(context.bundle_fingerprint(cell.spec.data)))
            labels, observed = _labels(context, cell.spec)
            for column, name in enumerate(names):
                seen = observed[:, column] if part == "input" else np.ones(len(labels), dtype=bool)
                title = cell.row if part == "hidden" else f"{cell.row}, {modalities[column]}"
                axis = axes[line * len(names) + column]
                frame = projection.panel(axis, kept[f"embeddings.{name}"][seen], labels[seen], title, words)
                if frame is not None:
                    drawn.append(axis)
                    frames.append(frame.assign(row=cell.row, part=name))
        if not ids:
            return Output(notes=("The embeddings are not in the store: run `mmlib sweep` for this figure.",))
        if not frames:
            return Output(figure=figure, notes=(f"{projection.TOO_FEW} that have a modality.",), rows_built=0,
                          run_ids=tuple(ids))
        figures.shared_legend(figure, drawn[0])
        scores = [(f["row"].iloc[0], f["part"].iloc[0], f["silhouette"].iloc[0]) for f in frames]
        notes = (f"{tables.shown(context, context.main)}, test utterances of one run at {runs.label(runs.FOCUS)}, "
                 "coloured by label. " + ("Only utterances in which the modality is there: the others are all zeros."
                                          if part == "input" else ""),
                 "t-SNE axes have no unit, and distances between clusters no meaning. The silhouette of the labels in "
                 "the embedding itself (1 separate, 0 mixed) is in each title.",
                 "; ".join(f"{row}, {name}: {value:+.3f}" for row, name, value in scores) + ".")
        return Output(figure=figure, numbers=pd.concat(frames), notes=notes, rows_built=len(frames), run_ids=tuple(ids))
    return specs, make


def _kept(context: Context, spec: RunSpec) -> dict[str, np.ndarray]:
    record, _ = context.store.find(spec, context.bundle_fingerprint(spec.data))
    arrays = context.store.arrays(record.id) if record is not None else {}
    return {name: array for name, array in arrays.items() if name.startswith("embeddings.")}


def _words(context: Context) -> list[str]:
    """The labels' names, in the order of their colours."""
    task = context.bundle(context.main).task
    return list(task.names) if task.kind == "classes" else ["negative", "neutral", "positive"]


def _labels(context: Context, spec: RunSpec) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the test utterances as words, and which modalities each has under the run's mask."""
    bundle = context.bundle(context.main)
    bundle = bundle if spec.fold is None else bundle.with_fold(spec.fold)
    values = bundle.labels[bundle.rows("test")]
    words = np.array(bundle.task.names)[values] if bundle.task.kind == "classes" else np.where(
        values > 0, "positive", np.where(values < 0, "negative", "neutral"))
    return words, draw(spec.eval_masks[0][1], bundle, "test", spec.seed).utterance
