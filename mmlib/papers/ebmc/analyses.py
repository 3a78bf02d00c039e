"""Analyses that the paper lacks: the effect of EMC on the balance; and the cost of both stages (Table 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd

from mmlib.data.bundle import Task
from mmlib.experiments import sizes
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.own import of_the_paper
from mmlib.experiments.published import published
from mmlib.experiments.rows import Row, by_seed, of_row, runs_of, with_parents
from mmlib.experiments.rows import cells as cells_of
from mmlib.experiments.undeclared import printed_rows
from mmlib.papers.ebmc import rows
from mmlib.papers.ebmc.figures import BALANCED
from mmlib.report import figures
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.tables import mean_sd, shows_published
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Record

TERMS = ("norm", "loss", "uncertainty")
ENERGY, OWN = "energy E(m)", "own accuracy (%)"  # what is drawn during training
GCNET = {"audio": 512, "text": 1024, "vision": 1024}  # wav2vec, DeBERTa and MA-Net (E3)
COUNTED = (
    "Of GLoMo and EUAR the parameters of the published networks are counted layer by layer, the language model "
    "included; a part of EUAR's is inferred from the printed total, as arithmetic.csv says. The times are those of "
    "our short readings, which have no language model."
)
STATED = {"audio": 74, "text": 768, "vision": 35}  # COVAREP, BERT and Facet, as section 4 says


def balance_cells(context: Context) -> list[Cell]:
    """Runs with all modalities, with and without EMC, whose energies are recorded in every step."""
    watched = [row.but(keep=("series",)) for row in BALANCED.values()]
    return cells_of(context, context.main, watched, rows.whole_grid(context, context.main))


def energies(context: Context, row: Row) -> dict[int, np.ndarray]:
    """By seed (epochs, M): the energy E(m) of Eq. 8, mean over an epoch's steps; folds averaged."""

    def read(record: Record) -> np.ndarray | None:
        series = record["curves"].get("series")
        return np.sum([np.array(series[t], dtype=float) for t in TERMS], axis=0) if series else None

    return by_seed(context, _balanced(context, row), read)


def own_accuracy(context: Context, row: Row) -> dict[int, np.ndarray]:
    """By seed (epochs, M): test accuracy of each modality's predictor T_m after an epoch; folds averaged."""
    names = context.bundle(context.main).modalities

    def read(record: Record) -> np.ndarray | None:
        views = record["curves"].get("views", {})
        own = [views[f"{rows.ALL}.{m}"]["accuracy"] for m in names if f"{rows.ALL}.{m}" in views]
        return np.array(own).T if len(own) == len(names) else None

    return by_seed(context, _balanced(context, row), read)


def _balanced(context: Context, row: Row) -> list[RunSpec]:
    return runs_of(balance_cells(context), row.name)


def gaps(context: Context, row: Row) -> pd.Series:
    """By seed: the largest energy minus the smallest, at the end of training."""
    return pd.Series(
        {seed: float(np.ptp(e[-1])) for seed, e in energies(context, row).items()}, dtype=float
    )


def balance(context: Context, cells: Sequence[Cell]) -> Output:
    """Energies and the predictors' own accuracy along the second stage, with and without EMC, paired."""
    names = context.bundle(context.main).modalities
    figure, axes = figures.panel_grid(4, columns=2, width=figures.DOUBLE, height=2.3)
    lines, numbers, falls, counts = [], [], [], []
    for place, (label, row) in enumerate(BALANCED.items()):
        energy, own = energies(context, row), own_accuracy(context, row)
        if not energy or not own:
            return NOT_BUILT
        below = {axes[place]: (ENERGY, energy, label, ""), axes[2 + place]: (OWN, own, "", "epoch")}
        for axis, (quantity, by_seed_of, title, xlabel) in below.items():
            stacked = np.stack(list(by_seed_of.values()))  # (seeds, epochs, M)
            curves = {m: stacked[:, :, i] for i, m in enumerate(names)}
            span = (0.0, 100.0) if quantity == OWN else None
            figures.along(axis, curves, "" if place else quantity, title, xlabel, within=span)
            counts.append(len(by_seed_of))
            of_axes = {"seed": list(by_seed_of), "epoch": 1, "modality": names}
            numbers.append(figures.long({"value": stacked}, of_axes, row=label, quantity=quantity))
        falls += [e.max() / np.abs(e[-1]).max() for e in energy.values()]
        lines.append(_balance_line(label, energy, own, gaps(context, row), names))
    if max(falls) > 10:
        for axis in axes[:2]:  # energies of hundreds fall to a few, and may be negative
            axis.set_yscale("symlog", linthresh=1)
    for alike in (axes[:2], axes[2:]):  # with EMC and without
        figures.one_scale(alike)
    figures.shared_legend(figure, axes[0])
    notes = (
        f"{shown(context, context.main)}, all modalities, second stage. The panels of a line share their scale. "
        f"{figures.told(counts)} Energies are "
        "means over the training steps of an epoch; accuracies are those of each "
        "modality's own predictor on test; no epoch is selected on them.",
        *data_notes(context, [context.main]),
    )
    return Output(
        table=pd.DataFrame(lines),
        figure=figure,
        numbers=pd.concat(numbers),
        rows_built=len(lines),
        notes=notes,
    )


def _balance_line(
    row: str,
    energy: Mapping[int, np.ndarray],
    own: Mapping[int, np.ndarray],
    apart: pd.Series,
    names: Sequence[str],
) -> dict[str, str]:
    """A row's energies and accuracies at the end; apart: the largest energy minus the smallest, by seed."""
    last = np.stack([e[-1] for e in energy.values()])
    ends = np.stack([o[-1] for o in own.values()])
    return {
        "row": row,
        **{f"E({m})": mean_sd(last[:, i], 3) for i, m in enumerate(names)},
        "largest minus smallest": mean_sd(apart, 3),
        **{f"accuracy of T_{m} (%)": mean_sd(ends[:, i]) for i, m in enumerate(names)},
    }


@cache
def trained_parameters(variant: str, audio: int, text: int, vision: int) -> int:
    """Parameters of the second stage that train, at the paper's size, for one score."""
    import torch

    from mmlib.backbones import build_backbone
    from mmlib.methods import build_method

    dims = {"audio": audio, "text": text, "vision": vision}
    with torch.device("meta"):
        backbone = build_backbone("momke", dims, 1, 1, (("routing", "unnormalised"),))
        method = build_method("ebmc", variant, (), backbone, Task("score", range=(-3.0, 3.0)), dims)
    return sum(p.numel() for p in method.parameters() if p.requires_grad)


def cost_cells(context: Context) -> list[Cell]:
    """Both stages as recommended and as released, and the other systems that the paper's table has."""
    dataset = context.main
    timed = [rows.OURS, *rows.systems_of(context, "table6")]
    return [
        *cells_of(context, dataset, timed, rows.whole(context, dataset)),
        *cells_of(context, dataset, [rows.RELEASED], rows.whole_grid(context, dataset)),
    ]


def cost_left_out(context: Context) -> list[str]:
    """The rows of Table 6 that nothing here answers."""
    printed = published(context.paper, "table6")["row"]
    built = [row for row in printed if "EBMC" in row or row in rows.SYSTEMS_OF["table6"]]
    return printed_rows(context.paper, "table6", built)


def cost(context: Context, cells: Sequence[Cell]) -> Output:
    """Table 6: parameters at the paper's size, by features; the time of all stages here stands apart."""
    lines = pd.DataFrame([*_printed_costs(context), *_counted_costs(), *_counted_others(context)])
    timed = _timed_costs(context, cells)
    notes = (
        "Times depend on the machine and are written to a separate file. They were measured during the sweep, whose "
        "workers share the machine; `mmlib bench ebmc` measures on an idle machine.",
        "With the features that the released code reads, the parameter count equals the paper's figure for "
        "'offline'; with the features that section 4 names it does not (E3).",
        *of_the_paper(context, COUNTED),
        *data_notes(context, [context.main]),
    )
    local = pd.DataFrame(timed) if timed else None
    built = 1 + len(rows.systems_of(context, "table6"))  # EBMC offline
    return Output(table=lines, numbers=lines, local=local, rows_built=built, notes=notes)


def _printed_costs(context: Context) -> list[dict[str, str]]:
    """Table 6 as printed; without values where our data are not the paper's own."""
    beside = (
        shows_published(context.collection)
        and "mosi" in context.datasets
        and context.is_papers("mosi")
    )
    lines = []
    for method, group in published(context.paper, "table6").groupby("row", sort=False):
        pairs = zip(group["metric"], group["value"], strict=True)
        printed = dict(pairs) if beside else {}
        count = f"{printed['parameters']:,.0f}" if "parameters" in printed else "–"
        lines.append(_cost_line(str(method), "paper, 300 epochs", count, _printed_time(printed)))
    return lines


def _printed_time(printed: Mapping[str, float]) -> str:
    if "hours" in printed:
        return f"{printed['hours']:g} h"
    return f"{printed['minutes']:g} min" if "minutes" in printed else "–"


def _counted_costs() -> list[dict[str, str]]:
    """Parameters of both variants, with the features of the released code and with those that the text names."""
    lines = []
    for variant, words in (("released", "as released"), ("paper", "as recommended")):
        for dims, features in ((GCNET, "GCNet's features (E3)"), (STATED, "section 4's features")):
            count = f"{trained_parameters(variant, **dims):,}"
            lines.append(
                _cost_line(f"EBMC {words}, {features}", "here, the paper's size", count, "–")
            )
    return lines


def _counted_others(context: Context) -> list[dict[str, str]]:
    """Parameters of other systems by their published layers, language model included; none on own data."""
    if context.own:
        return []
    return [
        _cost_line(
            f"{name}, layer by layer", "here, its published size", f"{sum(parts().values()):,}", "–"
        )
        for name, parts in sizes.PRINTED["ebmc", "table6"].items()
    ]


def _timed_costs(context: Context, cells: Sequence[Cell]) -> list[dict[str, str]]:
    """The time of both stages, as recommended and as released, and of other systems, where the store knows it."""
    lines = []
    for row in (rows.OURS, rows.RELEASED, *rows.systems_of(context, "table6")):
        took = _seconds(context, of_row(cells, row.name))
        method = f"{row.name}, {shown(context, context.main)}"
        if took:
            lines.append(_cost_line(method, "here, this profile", "–", f"{mean_sd(took)} s"))
    return lines


def _cost_line(method: str, source: str, parameters: str, time: str) -> dict[str, str]:
    return {
        "method": method,
        "source": source,
        "trained parameters": parameters,
        "time of all stages": time,
    }


def _seconds(context: Context, cells: Sequence[Cell]) -> list[float]:
    """Of all stages, for the runs whose store says it."""
    totals = []
    for cell in cells:
        stages = with_parents([cell.spec])
        records = [context.record(s) for s in stages]
        times = [context.store.sidecar(r.id).get("seconds") for r in records if r]
        if len(times) == len(stages) and all(times):
            totals.append(float(sum(t for t in times if t)))
    return totals
