"""Of ours on MCULoRA: what adapters cost, the conflict that the paper starts from, and the cosines of its L_ort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmlib.experiments import own
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.conditions import initials, initials_note, short
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.method_looks import looks
from mmlib.experiments.rows import by_seed, runs_of
from mmlib.masks import combinations
from mmlib.papers.mculora import rows
from mmlib.papers.mculora.figures import averaged
from mmlib.report import figures, heatmaps
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.tables import mean_sd
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOM = 16  # values before an epoch for which a record has room: runs.results.FEW, whose module imports torch
WITH, WITHOUT = rows.OURS.name, rows.NEITHER.name
COMPARED = {"with MCLA": WITH, "joint training": WITHOUT}  # in the table of gradient conflicts
GRADIENTS = (
    "Gradients of the task loss of each combination of modalities on the training "
    "data, with respect to the maps W^m that the combinations share (with MCLA: W^m "
    "with its shared adapter). For a pair only the maps that both use count; pairs "
    "without a common map have no cell. A cosine below 0 is a conflict: a small step "
    "for one combination raises the loss of the other."
)
# Effect of L_ort: variants by their labels in tables.
LOSSES = {
    "L_ort as printed": WITH,
    rows.WITHOUT_ORT.name: rows.WITHOUT_ORT.name,
    rows.SQUARED_ORT.name: rows.SQUARED_ORT.name,
}
# The cosines of Eq. 3, by their names in the table, and those of their columns.
COSINES = {
    "cos(common, private)": "common-private",
    "cos(common, pre-trained)": "common-pretrained",
}
RULES = {
    "DPFT (Eq. 10)": rows.OURS,
    "first release (G5)": rows.FIRST_RELEASE,
    "LEAKS: released (G1)": rows.LEAKS_LABELS,
}

SECONDS = "seconds per epoch, evaluation included"
COSTED = (
    "Second stage only: every model starts from pre-training. Each of the {} models for one combination is "
    "evaluated at its own best validation epoch, whereas one model for all has a single best epoch."
)
TIMED = (
    "Seconds per epoch depend on the machine and are written to a separate file: medians over the runs of the sweep, "
    "whose workers share the machine. For one model per combination they are the total of all {0} models, which "
    "together see {0} times as many dialogues."
)


def _models(context: Context) -> dict[str, list[rows.Row]]:
    """What Cost compares: one model for all combinations, or one for each."""
    return {
        "adapters, one model (MCULoRA)": [rows.OURS],
        "one network (joint training)": [rows.JOINT],
        "one network (MoMKE)": [rows.MOMKE],
        "adapters, a model per combination (released protocol)": rows.alone_rows(context, "fixed"),
        "a network per combination": rows.alone_rows(context, "neither"),
    }


def cost_cells(context: Context) -> list[Cell]:
    """The method, joint training, MoMKE, and one network for each combination, on the main data set."""
    every = [row for of_model in _models(context).values() for row in of_model]
    return rows.cells(context, context.main, every, grid=True)


def cost(context: Context, cells: Sequence[Cell]) -> Output:
    """What trains and what is frozen, beside accuracy over the seven combinations; the time of an epoch apart."""
    dataset = context.main
    lines, numbers, timed = [], [], []
    for label, of_model in _models(context).items():
        specs = runs_of(cells, of_model[0].name)
        values = _over_combinations(context, cells, of_model[0].name)
        # One of each network: those for one combination differ in the law of training.
        networks = {spec.train_mask: spec for spec in specs}.values()
        sizes = [parameters(spec) for spec in networks]
        trained, frozen = (np.array(count) for count in zip(*sizes, strict=True))
        lines.append(
            {
                "model": label,
                "trained parameters": f"{trained.sum():,}",
                "frozen parameters": f"{frozen.max():,}",
                "mean accuracy of the combinations": mean_sd(values) if len(values) else "-",
            }
        )
        took = [s for s in (seconds(context, spec) for spec in specs) if s is not None]
        if took:
            timed.append({"model": label, SECONDS: f"{len(sizes) * np.median(took):.3f}"})
        numbers.append(values.rename("accuracy").reset_index().assign(model=label))
    models = own.count(len(rows.conditions(context, dataset)))
    costed, of_time = COSTED.format(models), TIMED.format(models)
    return Output(
        table=_known(pd.DataFrame(lines)),
        numbers=pd.concat(numbers)[["model", "seed", "accuracy"]],
        local=pd.DataFrame(timed) if timed else None,
        rows_built=len(lines),
        notes=(f"{shown(context, dataset)}. {costed}", of_time, *data_notes(context, [dataset])),
    )


def _known(table: pd.DataFrame) -> pd.DataFrame:
    """A table without the columns that have no value at all, as accuracies of scores without a neutral value."""
    return table.loc[:, ~(table == "-").all()]


def _over_combinations(context: Context, cells: Sequence[Cell], row: str) -> pd.Series:
    """A row's mean accuracy over all combinations, by seed, of the seeds that have all."""
    names = rows.conditions(context, context.main)
    results = averaged(context, context.main, [cell for cell in cells if cell.row == row])
    results = results[results["setting"].isin(names)]
    by_seed = results.groupby("seed")["value"].agg(["mean", "count"])
    return by_seed.loc[by_seed["count"] == len(names), "mean"]


def parameters(spec: RunSpec) -> tuple[int, int]:
    """Parameters of a run that train, and that are frozen."""
    from mmlib.runs.execute import build, prepare

    method = build(spec, prepare(spec))
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in method.parameters()) - trained


def seconds(context: Context, spec: RunSpec) -> float | None:
    """Seconds per epoch of a finished run, all in."""
    record = context.record(spec)
    took = context.store.sidecar(record.id).get("seconds") if record else None
    return took / spec.training.epochs if took else None


def lacks_room(context: Context) -> str:
    """Why what is recorded of every combination is lacking; empty where records have room for it."""
    modalities = len(context.bundle(context.main).modalities)
    if 2**modalities - 1 <= ROOM:
        return ""
    return (
        f"Records have room for {ROOM} values an epoch, and {modalities} modalities have {2**modalities - 1} "
        "combinations."
    )


def probed_cells(context: Context) -> list[Cell]:
    """The runs whose gradients and cosines are recorded."""
    return rows.cells(context, context.main, rows.PROBED, grid=True)


def conflicts(context: Context, cells: Sequence[Cell], row: str) -> dict[int, np.ndarray]:
    """By seed (epochs, K, K): the cosines between the combinations' gradients; folds averaged, NaN kept."""

    def read(record: Record) -> np.ndarray | None:
        curves = record["curves"].get("found", {})
        count = sum(name.startswith("conflict.") for name in curves)
        of_combination = [np.array(curves[f"conflict.{i}"], dtype=float) for i in range(count)]
        return np.stack(of_combination, axis=1) if count else None

    return by_seed(context, runs_of(cells, row), read)


def off_diagonal(cosines: np.ndarray) -> np.ndarray:
    """(..., K, K) -> (..., pairs): each pair of combinations once."""
    first, second = np.triu_indices(cosines.shape[-1], k=1)
    return np.asarray(cosines[..., first, second])


def premise(context: Context, cells: Sequence[Cell]) -> Output:
    """The paper's premise, which it does not measure: do the combinations' gradients on shared weights conflict?"""
    names = combination_names(context)
    narrow = _narrow_names(context)
    figure, axes = figures.panel_grid(4, columns=2, width=figures.DOUBLE, height=2.6)
    lines, numbers = [], []
    means, negative = {}, {}
    for axis, (label, row) in zip(axes[2:], COMPARED.items(), strict=True):
        cosines = conflicts(context, cells, row)
        if not cosines:
            return NOT_BUILT
        stacked = np.stack(list(cosines.values()))
        pairs = off_diagonal(stacked)
        mean, below = np.nanmean(pairs, axis=2), 100 * _share_negative(pairs)
        means[label], negative[label] = mean, below
        typical = stacked.mean(axis=(0, 1))
        others = np.where(np.eye(len(typical), dtype=bool), np.nan, typical)  # 1 with itself
        form: dict[str, Any] = {"signed": True, "limits": (-1.0, 1.0), "label": "cosine"}
        heatmaps.heatmap(axis, others, narrow, narrow, title=f"{label}: mean over epochs", **form)
        lines.append(
            {
                "model": label,
                "mean cosine": mean_sd(mean.mean(axis=1), 3),
                "pairs below 0 (%)": mean_sd(below.mean(axis=1)),
                "at the start": f"{mean[:, 0].mean():.3f}",
                "at the end": f"{mean[:, -1].mean():.3f}",
                "most opposed": _extreme(typical, names),
            }
        )
        of_pairs = {"mean cosine": mean, "below 0": below}
        numbers.append(figures.long(of_pairs, {"seed": 0, "epoch": 1}, model=label))
    _draw_conflicts(figure, axes[0], axes[1], means, negative)
    name = shown(context, context.main)
    notes = (
        f"{name}. {GRADIENTS} {figures.told(len(of) for of in means.values())}",
        *initials_note(context.bundle(context.main).modalities),
        *data_notes(context, [context.main]),
    )
    return Output(pd.DataFrame(lines), figure, pd.concat(numbers), len(lines), notes)


def _draw_conflicts(
    figure: figures.Figure,
    mean: Axes,
    below: Axes,
    means: Mapping[str, np.ndarray],
    negative: Mapping[str, np.ndarray],
) -> None:
    """The two upper panels: mean cosine and share of conflicts by epoch, (seeds, epochs) of each network.

    The network with MCLA has the method's look.
    """
    with_mcla, joint = COMPARED
    own = looks([joint]) | {with_mcla: looks([WITH])[WITH]}
    along = partial(figures.along, xlabel="epoch (at its start)", looks=own)
    along(mean, means, "mean cosine of pairs", "Along training", within=(-1.0, 1.0))
    along(below, negative, "pairs below 0 (%)", "In conflict")
    figures.shared_legend(figure, mean)
    mean.axhline(0, color="black", linewidth=0.8)


def combination_names(context: Context, in_picture: bool = False) -> list[str]:
    """The combinations in the order of the shares; in a picture, with what it has room for."""
    names = context.bundle(context.main).modalities
    modalities = np.array(list(initials(names).values()) if in_picture else names)
    return [short("+".join(modalities[c])) for c in combinations(len(modalities))]


def _narrow_names(context: Context) -> list[str]:
    """Those of the combinations beside a grid of colours: letters alone, where each modality has one."""
    names = combination_names(context, in_picture=True)
    letters = max(map(len, names)) <= 3 * len(context.bundle(context.main).modalities)
    return [name.strip("{}").replace(", ", "") if letters else name for name in names]


def _share_negative(pairs: np.ndarray) -> np.ndarray:
    known = np.isfinite(pairs)
    return np.asarray((np.where(known, pairs, 1.0) < 0).sum(axis=2) / known.sum(axis=2))


def _extreme(cosines: np.ndarray, names: Sequence[str]) -> str:
    values = np.where(np.eye(len(names), dtype=bool), np.nan, cosines)
    first, second = np.unravel_index(np.nanargmin(values), values.shape)
    return f"{names[int(first)]} and {names[int(second)]}: {values[first, second]:.2f}"


def angles(context: Context, cells: Sequence[Cell]) -> Output:
    """Effect of L_ort: the cosines of Eq. 3 during training, without it, as printed and with a square."""
    dataset = context.main
    cosines_by_seed = {
        label: by_seed(context, runs_of(cells, row), _cosines) for label, row in LOSSES.items()
    }
    if not all(cosines_by_seed.values()):
        return NOT_BUILT
    accuracy = averaged(context, dataset, cells)
    accuracy = accuracy[accuracy["setting"] == rows.MEAN_ALL]
    series, lines, numbers = {}, [], []
    for label, cosines in cosines_by_seed.items():
        values = series[label] = np.stack(list(cosines.values()))
        ends = {f"{name}, end": mean_sd(values[:, -1, i], 3) for i, name in enumerate(COSINES)}
        of_row = accuracy.loc[accuracy["row"] == LOSSES[label], "value"]
        mean = mean_sd(of_row) if len(of_row) else "-"
        lines.append({"loss": label, **ends, "mean accuracy": mean})
        columns = {name: values[:, :, i] for i, name in enumerate(COSINES.values())}
        numbers.append(figures.long(columns, {"seed": 0, "epoch": 1}, loss=label))
    told = figures.told(len(of) for of in series.values())
    notes = (
        f"{shown(context, dataset)}, training. {told} The printed loss pushes the first cosine below 0, "
        "so that the features become opposite, not orthogonal; with squares (F3) it is "
        "pushed to 0. beta is 0.001, as printed.",
        *data_notes(context, [dataset]),
    )
    table = _known(pd.DataFrame(lines))
    return Output(table, _draw_angles(series), pd.concat(numbers), len(lines), notes)


def _draw_angles(series: Mapping[str, np.ndarray]) -> figures.Figure:
    """A panel for each cosine; series: (seeds, epochs, 2) by loss."""
    figure, axes = figures.panel_grid(2, columns=2, width=figures.DOUBLE, height=2.6)
    for place, title in enumerate(COSINES):
        drawn = {label: values[:, :, place] for label, values in series.items()}
        figures.along(
            axes[place], drawn, "mean cosine", title, "epoch (at its start)", within=(-1.0, 1.0)
        )
    axes[0].axhline(0, color="black", linewidth=0.8)  # orthogonal
    figures.shared_legend(figure, axes[0])
    return figure


def _cosines(record: Record) -> np.ndarray | None:
    """(epochs, 2): the two cosines that Eq. 3 names."""
    cosines = record["curves"].get("found", {}).get("angles")
    return None if cosines is None else np.array(cosines, dtype=float)


def shares_cells(context: Context) -> list[Cell]:
    """The runs of three rules, each in the table that has it."""
    of_tables = rows.cells(context, context.main, [rows.OURS, rows.LEAKS_LABELS])
    return [*of_tables, *rows.cells(context, context.main, [rows.FIRST_RELEASE], grid=True)]


def shares(context: Context, cells: Sequence[Cell]) -> Output:
    """How the rules move the combinations' shares: DPFT, the first release's, the released one that leaks."""
    dataset = context.main
    names = combination_names(context)
    of_rules: dict[str, np.ndarray] = {}  # (runs, epochs, combinations)
    for title, row in RULES.items():
        records = [context.record(spec) for spec in runs_of(cells, row.name)]
        recorded = [r["curves"].get("found", {}).get("shares") for r in records if r]
        of_runs = [100 * np.array(of_run) for of_run in recorded if of_run is not None]
        if of_runs:
            of_rules[title] = np.stack(of_runs)
    if not of_rules:
        return NOT_BUILT
    lines = []
    for title, stacked in of_rules.items():
        typical = zip(names, stacked.mean(axis=(0, 1)), strict=True)
        means = {name: f"{mean:.1f}" for name, mean in typical}
        moved = np.abs(stacked - 100 / len(names)).max()
        lines.append({"rule": title, **means, "largest move from equal": f"{moved:.1f}"})
    told = figures.told((len(stacked) for stacked in of_rules.values()), of="run")
    notes = (
        f"{shown(context, dataset)}, training. Table: mean share over epochs. Figure: a panel for each combination, "
        f"all on one scale; dashed: equal shares, {100 / len(names):.1f} %. {told} Eq. 10 depends on the ranks: "
        "its step has nearly the same size for all combinations (F12).",
        *initials_note(context.bundle(dataset).modalities),
        *data_notes(context, [dataset]),
    )
    frame = pd.DataFrame(lines)
    return Output(frame, _draw_shares(context, of_rules), frame, len(lines), notes)


def _draw_shares(context: Context, of_rules: Mapping[str, np.ndarray]) -> figures.Figure:
    """A panel for each combination, with a line for each rule: how often it is trained, by epoch."""
    drawn = combination_names(context, in_picture=True)
    figure, axes = figures.panel_grid(len(drawn), columns=4, width=figures.DOUBLE, height=1.7)
    for place, (axis, name) in enumerate(zip(axes, drawn, strict=True)):
        series = {rule: stacked[:, :, place] for rule, stacked in of_rules.items()}
        ylabel = "" if place % 4 else "share of dialogues (%)"
        xlabel = "epoch" if place + 4 >= len(drawn) else ""
        figures.along(axis, series, ylabel, name, xlabel, within=(0.0, 100.0))
        axis.axhline(100 / len(drawn), color="black", linewidth=0.8, linestyle=(0, (4, 2)))
    figures.one_scale(axes)
    figures.shared_legend(figure, axes[0])
    return figure
