"""Of ours on MCULoRA: what adapters cost, the conflict that the paper starts from, and the cosines of its L_ort."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmlib.experiments import stages
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Context
from mmlib.masks import combinations
from mmlib.papers.mculora import runs
from mmlib.papers.mculora.figures import averaged, short
from mmlib.report import figures
from mmlib.report.artifact import Output
from mmlib.report.tables import mean_sd
from mmlib.runs.execute import build, prepare
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Record

PROBED = {row.name: row for row in runs.probed_rows()}
WITH, WITHOUT = runs.OURS.name, runs.NEITHER.name


def cost_specs(context: Context) -> list[RunSpec]:
    """The method, joint training, MoMKE, and one network for each combination, on the main data set."""
    return stages.specs_of(cell for _, rows in _models(context)
                           for cell in runs.cells(context, context.main, rows, grid=True))


def _models(context: Context) -> list[tuple[str, list[runs.Row]]]:
    return [("adapters, one model (MCULoRA)", [runs.OURS]), ("one network (joint training)", [runs.JOINT]),
            ("one network (MoMKE)", [runs.MOMKE]),
            ("adapters, a model per combination (released protocol)", runs.alone_rows(context, "fixed")),
            ("a network per combination", runs.alone_rows(context, "neither"))]


def cost(context: Context) -> Output:
    """What trains, what is frozen and how long an epoch takes, beside accuracy over the seven combinations."""
    dataset = context.main
    lines, numbers = [], []
    for name, chosen in _models(context):
        names = runs.conditions(context, dataset)
        found = averaged(context, dataset, chosen, grid=True)
        singles = found[found["setting"].isin(names)].groupby("seed")["value"].agg(["mean", "count"])
        values = singles.loc[singles["count"] == len(names), "mean"]
        timed = [seconds(context, s) for r in chosen for s in runs.specs(context, dataset, r, grid=True)]
        per_epoch = [s for s in timed if s is not None]
        sizes = [parameters(runs.specs(context, dataset, r, grid=True)[0]) for r in chosen]
        lines.append({"model": name, "trained parameters": f"{sum(t for t, _ in sizes):,}",
                      "frozen parameters": f"{max(f for _, f in sizes):,}",
                      "seconds per epoch, evaluation included":
                          f"{len(chosen) * np.median(per_epoch):.3f}" if per_epoch else "-",
                      "mean accuracy of the combinations": mean_sd(values) if len(values) else "-"})
        numbers.append(pd.DataFrame({"model": name, "seed": values.index, "accuracy": values.to_numpy()}))
    notes = (f"{shown(context, dataset)}. Second stage alone: every model starts from pre-training. The seconds per "
             "epoch are medians over runs as they ran in the sweep, whose other workers share the machine; those of "
             "a model per combination are for all seven, which between them see seven times the dialogues. Each of the "
             "seven is taken at its own best validation epoch; one model for all has a single best epoch.",
             *data_notes(context, [dataset]))
    frame = pd.concat(numbers)
    return Output(table=pd.DataFrame(lines), numbers=frame, rows_built=len(lines), notes=notes)


def parameters(spec: RunSpec) -> tuple[int, int]:
    """Parameters of a run that train, and that are frozen."""
    method = build(spec, prepare(spec))
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in method.parameters()) - trained


def seconds(context: Context, spec: RunSpec) -> float | None:
    """Seconds per epoch of a finished run, all in."""
    record, _ = context.store.find(spec, context.bundle_fingerprint(spec.data))
    took = context.store.sidecar(record.id).get("seconds") if record else None
    return took / spec.training.epochs if took else None


def probed_specs(context: Context) -> list[RunSpec]:
    """The runs whose gradients and cosines are recorded."""
    return stages.specs_of(runs.cells(context, context.main, PROBED.values(), grid=True))


def conflicts(context: Context, row: runs.Row) -> dict[int, np.ndarray]:
    """By seed (epochs, K, K): the cosines between the combinations' gradients; folds averaged, NaN kept."""
    def read(record: Record) -> np.ndarray | None:
        told = record["curves"].get("found", {})
        count = sum(name.startswith("conflict.") for name in told)
        rows = [np.array(told[f"conflict.{i}"], dtype=float) for i in range(count)]
        return np.stack(rows, axis=1) if rows else None

    return stages.by_seed(context, runs.specs(context, context.main, row, grid=True), read)


def off_diagonal(cosines: np.ndarray) -> np.ndarray:
    """(..., K, K) -> (..., pairs): each pair of combinations once."""
    first, second = np.triu_indices(cosines.shape[-1], k=1)
    return np.asarray(cosines[..., first, second])


def premise(context: Context) -> Output:
    """The paper's premise, which it does not measure: do the combinations' gradients on shared weights conflict?"""
    names = _names(context)
    narrow = [name.strip("{}").replace(", ", "") if len(name) < 10 else name for name in names]
    figure, axes = figures.panel_grid(4, columns=2, width=figures.DOUBLE, height=3.0)
    lines, means, negative = [], {}, {}
    for place, (label, row) in enumerate((("with MCLA", PROBED[WITH]), ("joint training", PROBED[WITHOUT]))):
        found = conflicts(context, row)
        if not found:
            return Output(notes=("Not built yet.",))
        stacked = np.stack(list(found.values()))
        pairs = off_diagonal(stacked)
        means[label], negative[label] = np.nanmean(pairs, axis=2), 100 * _share_negative(pairs)
        figures.heatmap(axes[2 + place], stacked.mean(axis=(0, 1)), narrow, narrow, label="cosine",
                        title=f"{label}: mean over epochs")
        lines.append({"model": label, "mean cosine": mean_sd(means[label].mean(axis=1), 3),
                      "pairs below 0 (%)": mean_sd(negative[label].mean(axis=1)),
                      "at the start": f"{means[label][:, 0].mean():.3f}",
                      "at the end": f"{means[label][:, -1].mean():.3f}",
                      "most opposed": _extreme(stacked.mean(axis=(0, 1)), names)})
    epochs = np.arange(1, means["with MCLA"].shape[1] + 1)
    figures.lines(axes[0], epochs, means, xlabel="before epoch", ylabel="mean cosine of pairs", title="Along training")
    figures.lines(axes[1], epochs, negative, xlabel="before epoch", ylabel="pairs below 0 (%)", title="In conflict",
                  legend=False)
    axes[0].axhline(0, color="black", linewidth=0.8)
    notes = (f"{shown(context, context.main)}. Gradients of the task loss, one for each combination of modalities, on "
             "the training data, with respect to the maps W^m that all combinations share (with MCLA: W^m with its "
             "shared adapter), over the maps that both of a pair use; no cell where there is none. A cosine below 0 is "
             "a conflict: a small step for one combination raises the other's loss.",
             *data_notes(context, [context.main]))
    numbers = pd.concat([
        pd.DataFrame({"model": label, "seed": s, "epoch": epochs, "mean cosine": m, "below 0": n})
        for label in means for s, (m, n) in enumerate(zip(means[label], negative[label], strict=True))])
    return Output(table=pd.DataFrame(lines), figure=figure, numbers=numbers, rows_built=len(lines), notes=notes)


def _names(context: Context) -> list[str]:
    """The combinations in the order of the shares."""
    modalities = np.array(context.bundle(context.main).modalities)
    return [short("+".join(modalities[c])) for c in combinations(len(modalities))]


def _share_negative(pairs: np.ndarray) -> np.ndarray:
    known = np.isfinite(pairs)
    return np.asarray((np.where(known, pairs, 1.0) < 0).sum(axis=2) / known.sum(axis=2))


def _extreme(cosines: np.ndarray, names: Sequence[str]) -> str:
    values = np.where(np.eye(len(names), dtype=bool), np.nan, cosines)
    first, second = np.unravel_index(np.nanargmin(values), values.shape)
    return f"{names[int(first)]} and {names[int(second)]}: {values[first, second]:.2f}"


def angles(context: Context) -> Output:
    """What L_ort moves: the cosines that Eq. 3 names, along training, without it, as printed and with a square."""
    dataset = context.main
    figure, axes = figures.panel_grid(2, columns=2, width=figures.DOUBLE, height=2.6)
    series: dict[str, np.ndarray] = {}
    for name in (WITH, "w/o L_ort", "L_ort with a square (F3)"):
        found = _angles(context, PROBED[name])
        if not found:
            return Output(notes=("Not built yet.",))
        series["L_ort as printed" if name == WITH else name] = np.stack(found)
    accuracy = averaged(context, dataset, list(PROBED.values()), grid=True)
    means = accuracy[accuracy["setting"] == runs.MEAN_ALL].set_index(["row", "seed"])["value"]
    lines = []
    for place, title in enumerate(("cos(common, private)", "cos(common, pre-trained)")):
        drawn = {name: v[:, :, place] for name, v in series.items()}
        epochs = np.arange(1, next(iter(drawn.values())).shape[1] + 1)
        figures.lines(axes[place], epochs, drawn, xlabel="before epoch", ylabel="mean cosine", title=title,
                      legend=False)
    for name, values in series.items():
        row = WITH if name == "L_ort as printed" else name
        lines.append({"loss": name, "cos(common, private), end": mean_sd(values[:, -1, 0], 3),
                      "cos(common, pre-trained), end": mean_sd(values[:, -1, 1], 3),
                      "mean accuracy": mean_sd(means[row]) if row in means.index.get_level_values(0) else "-"})
    figures.shared_legend(figure, axes[0])
    numbers = pd.concat([pd.DataFrame({"loss": name, "seed": s, "epoch": np.arange(1, len(v) + 1),
                                       "common-private": v[:, 0], "common-pretrained": v[:, 1]})
                         for name, values in series.items() for s, v in enumerate(values)])
    notes = (f"{shown(context, dataset)}. As printed the first cosine is pushed below 0, to opposition, not to "
             "orthogonality; with a square (F3) to 0. beta is 0.001, as printed.", *data_notes(context, [dataset]))
    return Output(table=pd.DataFrame(lines), figure=figure, numbers=numbers, rows_built=len(lines), notes=notes)


def _angles(context: Context, row: runs.Row) -> list[np.ndarray]:
    """For each seed (epochs, 2); folds averaged."""
    def read(record: Record) -> np.ndarray | None:
        told = record["curves"].get("found", {}).get("angles")
        return None if told is None else np.array(told, dtype=float)

    return list(stages.by_seed(context, runs.specs(context, context.main, row, grid=True), read).values())


def shares(context: Context) -> Output:
    """How the rules move the combinations' shares: DPFT, the first release's, the released one that leaks."""
    dataset = context.main
    named = {"DPFT (Eq. 10)": (runs.OURS, False), "first release (G5)": (runs.departure_rows()[4], True),
             "LEAKS: released (G1)": (runs.leak_rows()[4], False)}
    names = _names(context)
    figure, axes = figures.panel_grid(len(named), columns=3, width=figures.DOUBLE, height=2.6)
    lines = []
    for axis, (title, (row, grid)) in zip(axes, named.items(), strict=True):
        found = []
        for spec in runs.specs(context, dataset, row, grid=grid):
            record, _ = context.store.find(spec, context.bundle_fingerprint(spec.data))
            told = record["curves"].get("found", {}).get("shares") if record else None
            if told is not None:
                found.append(100 * np.array(told))
        if not found:
            continue
        stacked = np.stack(found)
        epochs = np.arange(1, stacked.shape[1] + 1)
        figures.lines(axis, epochs, {n: stacked[:, :, i] for i, n in enumerate(names)}, xlabel="epoch",
                      ylabel="share of dialogues (%)" if axis is axes[0] else "", title=title, legend=False)
        mean = stacked.mean(axis=(0, 1))
        lines.append({"rule": title, **{n: f"{m:.1f}" for n, m in zip(names, mean, strict=True)},
                      "largest move from equal": f"{np.abs(stacked - 100 / len(names)).max():.1f}"})
    if not lines:
        return Output(notes=("Not built yet.",))
    figures.shared_legend(figure, axes[0], columns=7)
    notes = (f"{shown(context, dataset)}. Mean share over epochs, runs drawn lightly. Equal shares are "
             f"{100 / len(names):.1f} %. Eq. 10 is a rule on ranks: its step is nearly the same for all (F12).",
             *data_notes(context, [dataset]))
    frame = pd.DataFrame(lines)
    return Output(table=frame, figure=figure, numbers=frame, rows_built=len(lines), notes=notes)

