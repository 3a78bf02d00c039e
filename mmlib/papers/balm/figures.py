"""BALM's figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmlib.experiments.context import Cell, Context
from mmlib.masks import draw, imbalanced, shared
from mmlib.papers.balm import runs, tables
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


@dataclass(frozen=True)
class Watched:
    """A quantity of Eqs 19 and 25 along training, or (ours) a gradient norm: its key in the records, and its label."""

    key: str
    label: str


COSINE = Watched("cosine", "cosine")
KL = Watched("kl", "KL (nats)")
NORM = Watched("gradient_norm", "gradient norm (ours)")


def main_variants(backbone: str) -> list[runs.Row]:
    """Fig 5: the backbone (with heads that only watch), +FCM, +BALM."""
    return [watched_plain(backbone), runs.balm(backbone, "fcm", "FCM"), runs.balm(backbone)]


def other_variants(backbone: str) -> list[runs.Row]:
    """Fig 8 (variants): BALM-D, BALM-S, BALM."""
    return [runs.balm(backbone, "d", "BALM-D"), runs.balm(backbone, "s", "BALM-S"), runs.balm(backbone)]


def with_and_without(backbone: str) -> list[runs.Row]:
    """Figs 11 to 22: the backbone (with heads that only watch) and +BALM."""
    return [watched_plain(backbone), runs.balm(backbone)]


def watched_plain(backbone: str) -> runs.Row:
    """The backbone as it trains by itself, watched by heads that it does not feel."""
    return dataclasses.replace(runs.balm(backbone, "probe"), name=runs.plain(backbone).name)


def discrepancies(rows: Callable[[str], list[runs.Row]], rates: runs.Rates = runs.FOCUS, backbone: str = "",
                  watched: Sequence[Watched] = (COSINE, KL), grid: bool = False) -> tuple[
        Callable[[Context], list[RunSpec]], Callable[[Context], Output]]:
    """What is watched of each modality along training: one row per quantity, one column per variant."""
    def cells(context: Context, row: runs.Row) -> list[Cell]:
        return runs.cells(context, context.main, row, rates, series=True, grid=grid)

    def specs(context: Context) -> list[RunSpec]:
        if backbone and backbone not in context.backbones:
            return []
        return [cell.spec for row in rows(backbone or context.backbone) for cell in cells(context, row)]

    def make(context: Context) -> Output:
        if not specs(context):
            return Output(notes=(f"{backbone} is not among the backbones that were asked for.",))
        wanted = rows(backbone or context.backbone)
        across = len(wanted)
        figure, axes = figures.panel_grid(len(watched) * across, columns=across, height=1.9, sharex=True)
        modalities = context.bundle(context.main).modalities
        numbers, ids = [], []
        for column, row in enumerate(wanted):
            for line, quantity in enumerate(watched):
                curves, found = series(context, cells(context, row), quantity.key)  # (runs, epochs, M)
                figures.lines(axes[line * across + column], np.arange(1, curves.shape[1] + 1),
                              {m: curves[:, :, i] for i, m in enumerate(modalities)},
                              xlabel="epoch" if line + 1 == len(watched) else "",
                              ylabel="" if column else quantity.label,
                              title="" if line else row.name, legend=False)
                numbers.append(_tidy(curves, modalities, row.name, quantity.key))
            ids += found
        figures.shared_legend(figure, axes[0])
        for line in range(len(watched)):
            _share_limits(axes[line * across:(line + 1) * across])
        notes = (f"{tables.shown(context, context.main)} at (r_A, r_L, r_V) = {runs.label(rates)}; mean over the "
                 "steps of an epoch; one light line per run, the mean drawn heavily.",
                 "Cosine: of a head's gradient and the fused prediction's (Eq. 25)."
                 + (" Norms: of each encoder's gradient before modulation." if NORM in watched else ""),
                 "KL is the unimodal prediction's divergence from the fused one (A6), measured by heads that see a "
                 "detached embedding.")
        of_the_paper = sum(quantity != NORM for quantity in watched) * across
        return Output(figure=figure, numbers=pd.concat(numbers), notes=notes, rows_built=of_the_paper,
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


def series(context: Context, cells: Sequence[Cell], key: str) -> tuple[np.ndarray, list[str]]:
    """Per-epoch means of a recorded series, (runs, epochs, M), and the runs' ids."""
    curves, ids = [], []
    for cell in cells:
        record, _ = context.store.find(cell.spec, context.bundle_fingerprint(cell.spec.data))
        found = record["curves"].get("series") if record is not None else None
        if record is not None and found is not None:
            curves.append(np.array(found[key]))
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
