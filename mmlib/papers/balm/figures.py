"""BALM's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mmlib.data.catalog import open_bundle
from mmlib.masks import draw, imbalanced, shared
from mmlib.papers.balm import runs, tables
from mmlib.papers.context import Cell, Context
from mmlib.report import figures
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

DRAWS = 300


def missing_rates(context: Context) -> Output:
    """Fig 1: the realised missing rates of many draws at a shared rate of 0.5, and the operator's one value.

    Independent draws (Eq. 1) scatter as Eq. 2 says; the quota operator (Eq. 36) gives one value. Both are
    a little below 0.5 because no utterance may lose everything (A2).
    """
    bundle = context.bundle(context.main)
    rates: dict[str, list[float]] = {m: [] for m in bundle.modalities}
    for seed in range(DRAWS):
        mask = draw(shared(0.5), bundle, "train", seed).utterance
        for index, modality in enumerate(bundle.modalities):
            rates[modality].append(1 - mask[:, index].mean())
    quota = draw(imbalanced(dict.fromkeys(bundle.modalities, 0.5)), bundle, "train", 0).utterance
    figure, axes = figures.panel_grid(1, height=2.4)
    figures.histogram(axes[0], {m: np.array(v) for m, v in rates.items()}, bins=24, mark=1 - quota.mean(),
                      xlabel="realised missing rate of the modality", ylabel=f"draws of {DRAWS}",
                      title="Shared missing rate 0.5")
    n, count = len(bundle.rows("train")), len(bundle.modalities)
    notes = (f"{tables.shown(context, context.main)}, {n} training utterances. Dashed line: the quota operator's rate, "
             f"{1 - quota.mean():.3f}; the rate after giving back one modality to empty utterances is "
             f"{0.5 - 0.5 ** count / count:.3f}. Eq. 2 predicts a deviation of {np.sqrt(0.25 / n):.3f}; measured "
             f"{np.mean([np.std(v, ddof=1) for v in rates.values()]):.3f}.",)
    numbers = pd.DataFrame(rates).rename_axis("seed").reset_index()
    return Output(figure=figure, numbers=numbers, notes=notes, rows_built=count)


def discrepancy_rows(context: Context, variants: Sequence[tuple[str, str]]) -> list[Cell]:
    """Runs whose cosines and divergences along training are drawn."""
    return [cell for row, variant in variants
            for cell in runs.cells(context, context.main, row, "balm", variant, runs.FOCUS, series=True)]


def main_variants(context: Context) -> list[tuple[str, str]]:
    """Fig 5: the backbone (with heads that only watch), +FCM, +BALM."""
    name = runs.backbone_name(context)
    return [(name, "probe"), (f"{name}+FCM", "fcm"), (f"{name}+BALM", "paper")]


def other_variants(context: Context) -> list[tuple[str, str]]:
    """Fig 8 (variants): BALM-D, BALM-S, BALM."""
    name = runs.backbone_name(context)
    return [(f"{name}+BALM-D", "d"), (f"{name}+BALM-S", "s"), (f"{name}+BALM", "paper")]


def discrepancies(variants: Callable[[Context], list[tuple[str, str]]]) -> tuple[
        Callable[[Context], list[RunSpec]], Callable[[Context], Output]]:
    """Cosine (Eq. 25) and KL (Eq. 19) of each modality along training, one column per variant."""
    def specs(context: Context) -> list[RunSpec]:
        return [cell.spec for cell in discrepancy_rows(context, variants(context))]

    def make(context: Context) -> Output:
        wanted = variants(context)
        figure, axes = figures.panel_grid(2 * len(wanted), columns=len(wanted), height=2.0, sharex=True)
        modalities = context.bundle(context.main).modalities
        numbers, ids = [], []
        for column, (row, variant) in enumerate(wanted):
            found = {key: _series(context, row, variant, key) for key in ("cosine", "kl")}
            ids += found["cosine"][1]
            for line, (key, ylabel) in enumerate((("cosine", "cosine with the fused gradient"),
                                                  ("kl", "KL divergence (nats)"))):
                curves = found[key][0]  # (runs, epochs, M)
                epochs = np.arange(1, curves.shape[1] + 1)
                axis = axes[line * len(wanted) + column]
                figures.lines(axis, epochs, {m: curves[:, :, i] for i, m in enumerate(modalities)},
                              xlabel="epoch" if line else "", ylabel="" if column else ylabel,
                              title="" if line else row, legend=False)
                numbers.append(_tidy(curves, modalities, row, key))
        figures.shared_legend(figure, axes[0])
        for line in range(2):
            _share_limits(axes[line * len(wanted):(line + 1) * len(wanted)])
        notes = (f"{tables.shown(context, context.main)} at (r_A, r_L, r_V) = {runs.label(runs.FOCUS)}; mean over the "
                 "steps of an epoch; one light line per run, the mean drawn heavily.",
                 "KL is the unimodal prediction's divergence from the fused one (A6), measured by heads that see a "
                 "detached embedding.")
        return Output(figure=figure, numbers=pd.concat(numbers), notes=notes, rows_built=2 * len(wanted),
                      run_ids=tuple(ids))
    return specs, make


def sensitivity(context: Context) -> Output:
    """Fig 7: weighted F1 over tau and rho for the two configurations, on one colour scale."""
    frames = tables.grid_frames(context)
    everything = np.concatenate([f.to_numpy().ravel() for f in frames.values()])
    limits = (float(np.nanmin(everything)), float(np.nanmax(everything)))
    figure, axes = figures.panel_grid(len(frames), columns=2, width=figures.DOUBLE, height=2.6)
    for axis, (name, frame) in zip(axes, frames.items(), strict=True):
        figures.heatmap(axis, frame, xlabel="rho", ylabel="tau", label="weighted F1 (%)", title=f"Config {name}",
                        limits=limits)
    numbers = pd.concat([f.rename_axis("tau").reset_index().melt("tau", var_name="rho", value_name="weighted_f1")
                         .assign(configuration=name) for name, f in frames.items()])
    return Output(figure=figure, numbers=numbers, rows_built=len(frames),
                  notes=(f"{tables.shown(context, context.main)}; rates as r_A/r_L/r_V.",))


def _series(context: Context, row: str, variant: str, key: str) -> tuple[np.ndarray, list[str]]:
    """Per-epoch means of a recorded series, (runs, epochs, M), and the runs' ids."""
    curves, ids = [], []
    for cell in runs.cells(context, context.main, row, "balm", variant, runs.FOCUS, series=True):
        record, _ = context.store.find(cell.spec, open_bundle(cell.spec.data).fingerprint)
        if record is None:
            continue
        steps = context.store.arrays(record.id).get(f"series.{key}")
        if steps is None:
            continue
        curves.append(steps.reshape(cell.spec.training.epochs, -1, steps.shape[1]).mean(axis=1))
        ids.append(record.id)
    count = len(context.bundle(context.main).modalities)
    return (np.stack(curves) if curves else np.full((1, 1, count), np.nan)), ids


def _tidy(curves: np.ndarray, modalities: Sequence[str], row: str, key: str) -> pd.DataFrame:
    run, epoch, modality = np.indices(curves.shape)
    return pd.DataFrame({"row": row, "quantity": key, "run": run.ravel(), "epoch": epoch.ravel() + 1,
                         "modality": np.array(modalities)[modality.ravel()], "value": curves.ravel()})


def _share_limits(axes: Sequence[object]) -> None:
    limits = [axis.get_ylim() for axis in axes]  # type: ignore[attr-defined]
    for axis in axes:
        axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))  # type: ignore[attr-defined]
