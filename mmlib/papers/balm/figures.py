"""BALM's figures: of rates (Figs 1, 2, 4), during training (5, 8, 11 to 22), of tau and rho (7), of what BALM adds (6),
and of what a network makes of its inputs (t-SNE: 8 to 10)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmlib.data.bundle import Bundle
from mmlib.experiments import own
from mmlib.experiments.comparison import selected, shown
from mmlib.experiments.conditions import in_picture, initials_note
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.method_looks import looks
from mmlib.experiments.rows import Row, of_row, on
from mmlib.masks import draw, imbalanced, shared
from mmlib.papers.balm import rows, tables
from mmlib.report import figures, grouped, projection
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWS = 300
HALF: rows.Rates = (0.5, 0.5, 0.5)
OTHERS = "Plain backbones other than GCNet are added by us. Mi-CGA and SDR-GNN are not built yet."
TSNE_NOTE = (
    "The axes of t-SNE have no unit, and distances between clusters have no meaning. "
    "Each title gives the silhouette score of the labels in the embedding before "
    "projection (1: separated, 0: mixed)."
)


def missing_rates(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 1: the realised missing rates of many draws at a shared rate of 0.5, and the operator's one value.

    Independent draws (Eq. 1) scatter as Eq. 2 says; the quota operator (Eq. 36) gives one value. Both are
    a little below 0.5 because no utterance may lose everything (A2). What the data themselves lack does not count.
    """
    whole, fold = context.bundle(context.main), context.folds(context.main)[0]
    bundle = whole if fold is None else whole.with_fold(fold)
    there = bundle.observed[bundle.rows("train")]  # (n, M)
    masks = [draw(shared(0.5), bundle, "train", seed).utterance for seed in range(DRAWS)]
    rates = {
        name: np.array([1 - mask[has, place].mean() for mask in masks])
        for place, (name, has) in enumerate(zip(bundle.modalities, there.T, strict=True))
    }
    quota = draw(imbalanced(dict.fromkeys(bundle.modalities, 0.5)), bundle, "train", 0).utterance
    figure, axes = figures.panel_grid(1, height=2.4)
    figures.histogram(
        axes[0],
        rates,
        bins=24,
        mark=1 - quota[there].mean(),
        xlabel="realised missing rate of the modality",
        ylabel=f"draws of {DRAWS}",
        title="Shared missing rate 0.5",
    )
    first = "" if fold is None else " of the first fold"
    data = f"{shown(context, context.main)}, {len(there)} training utterances{first}."
    line = f"Dashed line: the quota operator's rate, {1 - quota[there].mean():.3f}"
    deviations = [float(np.std(values, ddof=1)) for values in rates.values()]
    explained = _by_eq2(there, line, deviations) if there.all() else _by_nature(bundle, line)
    numbers = pd.DataFrame(rates).rename_axis("seed").reset_index()
    return Output(
        figure=figure, numbers=numbers, notes=(f"{data} {explained}",), rows_built=len(rates)
    )


def _by_eq2(there: np.ndarray, line: str, deviations: Sequence[float]) -> str:
    """What Eq. 2 predicts of Fig 1, and what was measured, of data that lack nothing; there: (n, M)."""
    n, count = there.shape
    return (
        f"{line}; the rate after restoring one modality of utterances that would lose all is "
        f"{0.5 - 0.5**count / count:.3f}. Eq. 2 predicts a deviation of {np.sqrt(0.25 / n):.3f}; measured "
        f"{np.mean(deviations):.3f}."
    )


def _by_nature(bundle: Bundle, line: str) -> str:
    """Of what Fig 1 has the rates where the data themselves lack modalities, which Eq. 2 does not know."""
    there = bundle.observed[bundle.rows("train")]
    counts = zip(bundle.modalities, there.sum(axis=0), strict=True)
    listed = ", ".join(f"{name} in {count}" for name, count in counts if count < len(there))
    return (
        f"The data themselves lack modalities ({listed}); each rate is of the utterances that have the modality. "
        f"{line}, of all modalities together. Rates are below 0.5 because an utterance that would lose all that it "
        "has keeps one; Eq. 2 is of data that lack nothing, and is not compared."
    )


def shared_cells(context: Context) -> list[Cell]:
    """Fig 2: backbones at a shared rate of 0.5 and at six imbalanced settings of the same mean."""
    places = rows.in_settings([HALF, *rows.SETTINGS])
    bare = [rows.plain(backbone) for backbone in context.backbones]
    return rows.of_rows(context, context.main, bare, places)


def shared_against_imbalanced(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 2: accuracy under equivalent rates (Eq. 39): one shared rate says little of a model's behaviour."""
    results = selected(context, cells, "accuracy")
    imbalanced = [rows.setting_of(context, r) for r in rows.kept(context, rows.SETTINGS)]
    names = {rows.setting_of(context, HALF): "shared 0.5"} | {name: name for name in imbalanced}
    figure, axes = figures.panel_grid(1, width=figures.DOUBLE, height=2.6)
    per_row = _lists(results, "value", list(names))
    grouped.points(
        axes[0],
        list(names.values()),
        per_row,
        ylabel="accuracy (%)",
        title=f"A shared rate of 0.5 and {_others(context, 'its equivalents')} ({rows.order(context)})",
        looks=looks(per_row),
    )
    means = results.groupby(["row", "setting"])["value"].mean()
    spread = means.groupby("row").agg(lambda values: values.max() - values.min())
    spreads = ", ".join(f"{row} {value:.1f} points" for row, value in spread.items())
    notes = (
        f"{shown(context, context.main)}, test accuracy at the epoch that validation picks. "
        + figures.told(figures.seeds_of(results, "row", "setting"), "points"),
        f"Largest minus smallest mean over the {len(names)} settings: {spreads}.",
        *own.of_the_paper(context, "The paper's other models are not built yet."),
    )
    run_ids = tuple(results["run_id"].unique()) if "run_id" in results else ()
    return Output(None, figure, results, len(names) - 1, notes, run_ids)


def against_shared(context: Context) -> str:
    """The caption of Fig 2."""
    others = _others(context, "imbalanced rates of the same mean")
    return f"Accuracy under a shared rate of 0.5 and under {others}."


def _others(context: Context, equivalents: str) -> str:
    """The rates beside the shared one; those of any modalities, or that were given, may have another mean."""
    if context.given_rates:
        return "the given rates"
    return "imbalanced rates" if context.own else equivalents


def _lists(
    results: pd.DataFrame, column: str, settings: Sequence[str]
) -> dict[str, list[list[float]]]:
    """Row to the values of each setting."""
    return {
        str(row): [list(group[group["setting"] == setting][column]) for setting in settings]
        for row, group in results.groupby("row", sort=False)
    }


def rate_cells(context: Context) -> list[Cell]:
    """Fig 4: the runs of Tables 11 and 12."""
    return [
        cell
        for dataset in context.datasets
        for cell in rows.of_rows(context, dataset, rows.pairs(context), rows.at_shared)
    ]


def shared_rates(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 4: weighted F1 against the shared missing rate, a column for each backbone with and without the method."""
    pairs = rows.pairs(context)
    across = len(pairs) // 2
    figure, axes = figures.panel_grid(
        len(context.datasets) * across,
        columns=across,
        width=figures.DOUBLE if across > 1 else None,
        height=2.0,
        sharex=True,
    )
    frames = []
    for line, dataset in enumerate(context.datasets):
        results = selected(context, on(cells, dataset), "weighted_f1")
        beside = axes[line * across : (line + 1) * across]
        for place, axis in enumerate(beside):
            pair = pairs[2 * place : 2 * place + 2]
            _with_the_rate(context, axis, results, pair, shown(context, dataset))
            axis.set_ylabel("" if place else "weighted F1 (%)")
            axis.set_xlabel("shared missing rate" * (line + 1 == len(context.datasets)))
        figures.one_scale(beside)
        frames.append(results.assign(dataset=dataset))
    figures.shared_legend(figure, axes, columns=3)
    everything = pd.concat(frames)
    seeds = figures.told(figures.seeds_of(everything, "dataset", "row", "setting"))
    scale = "Test, at the epoch that validation picks. The panels of a data set share their scale."
    notes = (" ".join((scale, seeds, *own.of_the_paper(context, OTHERS))),)
    return Output(figure=figure, numbers=everything, rows_built=across, notes=notes)


def _with_the_rate(
    context: Context, axis: Axes, results: pd.DataFrame, pair: Sequence[Row], data: str
) -> None:
    """A backbone with and without the method, by the missing rate."""
    rates = context.profile.shared_rates
    table = results.pivot_table(index=["row", "seed"], columns="setting", values="value")
    table = table.reindex(columns=[f"{rate:.1f}" for rate in rates])
    curves = {r.name: table.loc[r.name].to_numpy() for r in pair if r.name in table.index}
    figures.lines(
        axis,
        rates,
        curves,
        ylabel="weighted F1 (%)",
        title=f"{data}: {pair[0].name}",
        legend=False,
        looks=looks(curves),
    )
    axis.set_xticks(rates)


def combination_gains(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 6: what BALM adds for each combination of modalities, over the settings of Table 9.

    Left as the paper draws it, against GCNet whatever the backbone; right against the own backbone (A24).
    """
    results = selected(context, cells, "weighted_f1")
    parts = results["setting"].str.rsplit(" ", n=1)
    results = results.assign(combination=parts.str[1], rates=parts.str[0])
    means = results.groupby(["row", "combination", "seed"])["value"].mean()
    by_seed = means.unstack("seed")
    chosen = rows.combination_rows(context)
    names = [name for name, _ in rows.groups(context, "iemocap")]
    modalities = context.bundle("iemocap").modalities
    labels = [in_picture(name, modalities) for name in names]
    figure, axes = figures.panel_grid(2, columns=2, width=figures.DOUBLE, height=2.6, sharey=True)
    reference = chosen[0].name  # GCNet where it is among the backbones
    own = {row.name: row.against for row in chosen if row.against}
    kinds = {
        f"against {reference} (as printed)": dict.fromkeys(own, reference),
        "compared with the own backbone": own,
    }
    numbers = []
    for place, (title, baseline) in enumerate(kinds.items()):
        gains = {
            row: [_gain(by_seed, row, other, name) for name in names]
            for row, other in baseline.items()
        }
        ylabel = "" if place else "gain in weighted F1 (points)"
        _gain_panel(axes[place], labels, gains, title, ylabel)
        for row, lists in gains.items():
            for name, values in zip(names, lists, strict=True):
                frame = pd.DataFrame({"gain": values}).rename_axis("seed_place").reset_index()
                numbers.append(frame.assign(row=row, against=title, combination=name))
    figures.shared_legend(figure, axes[0])
    notes = (
        f"{shown(context, 'iemocap')}, mean over the settings of Table 9 ({context.profile.combined}) within each "
        f"seed. {figures.told(means.groupby(['row', 'combination']).size(), 'bars')}",
        "With a single modality there is nothing to rebalance, so +BALM is FCM alone.",
        *initials_note(modalities),
    )
    columns = ["row", "against", "combination", "seed_place", "gain"]
    frame = pd.concat(numbers, ignore_index=True)[columns]
    return Output(figure=figure, numbers=frame, rows_built=2, notes=notes)


def _gain(means: pd.DataFrame, row: str, other: str, combination: str) -> list[float]:
    """What a row has more than another, by seed; NaN alone where no seed has both, because runs failed.

    means: a line for each row and combination, a column for each seed.
    """
    pair = means.reindex([(row, combination), (other, combination)])
    gains = (pair.iloc[0] - pair.iloc[1]).dropna()
    return list(gains) or [math.nan]


def _gain_panel(
    axis: Axes,
    labels: Sequence[str],
    gains: Mapping[str, Sequence[Sequence[float]]],
    title: str,
    ylabel: str,
) -> None:
    """What the method adds by combination, a bar for each of its rows."""
    grouped.bars(
        axis,
        labels,
        gains,
        ylabel=ylabel,
        title=title,
        legend=False,
        looks=looks(gains),
        within=(-100.0, 100.0),
    )
    axis.axhline(0, color="black", linewidth=0.8)


@dataclass(frozen=True)
class Watched:
    """A quantity of Eqs 19 and 25 during training, or (ours) a gradient norm."""

    key: str
    """Its name in the records."""

    label: str
    """Of its axis."""

    within: tuple[float, float] = (0.0, math.inf)
    """What it can be."""


COSINE = Watched("cosine", "cosine", (-1.0, 1.0))
KL = Watched("kl", "KL (nats)")
NORM = Watched("gradient_norm", "gradient norm (ours)")


def main_variants(backbone: str) -> list[Row]:
    """Fig 5: the backbone (with heads that only watch), +FCM, +BALM."""
    return [rows.watched_plain(backbone), rows.fcm(backbone), rows.balm(backbone)]


def other_variants(backbone: str) -> list[Row]:
    """Fig 8 (variants): BALM-D, BALM-S, BALM."""
    parts = [rows.balm(backbone, "d", "BALM-D"), rows.balm(backbone, "s", "BALM-S")]
    return [*parts, rows.balm(backbone)]


def with_and_without(backbone: str) -> list[Row]:
    """Figs 11 to 22: the backbone (with heads that only watch) and +BALM."""
    return [rows.watched_plain(backbone), rows.balm(backbone)]


@dataclass(frozen=True)
class Discrepancies:
    """A figure of what is watched of each modality during training: a line per quantity, a column per variant."""

    variants: Callable[[str], list[Row]]
    """The rows of a backbone."""

    rates: rows.Rates = rows.FOCUS
    """The missing rates of training."""

    backbone: str = ""
    """The main one where empty."""

    watched: tuple[Watched, ...] = (COSINE, KL)
    """The quantities, one a line of panels."""

    grid: bool = False
    """Whether it gets the seeds of a grid instead of a table's."""

    def cells(self, context: Context) -> list[Cell]:
        """The runs of its variants; none where its backbone was not asked for."""
        backbone = self.backbone or context.backbone
        if backbone not in context.backbones or self._replaced(context):
            return []
        return [
            cell
            for row in self.variants(backbone)
            for cell in rows.cells(
                context, context.main, rows.watched(row), self.rates, grid=self.grid
            )
        ]

    def caption(self, context: Context) -> str:
        """What Figs 11 to 22 show."""
        replaced = self._replaced(context)
        rates = rows.label(self.rates) if replaced else rows.setting_of(context, self.rates)
        return (
            f"Discrepancy of each modality during training at {rates}: {rows.NAMES[self.backbone]} "
            "with and without BALM; the gradient norms are added by us."
        )

    def _replaced(self, context: Context) -> bool:
        """Whether given rates, which the focus setting stands for, take the place of this setting."""
        return self.rates not in rows.chosen(context, [self.rates])

    def draw(self, context: Context, cells: Sequence[Cell]) -> Output:
        """The figure, from finished runs."""
        if self._replaced(context):
            return Output(
                notes=("The given rates take this setting's place: see the figures of them.",)
            )
        if not cells:
            return Output(
                notes=(f"{self.backbone} is not among the backbones that were asked for.",)
            )
        names = list(dict.fromkeys(cell.row for cell in cells))
        across = len(names)
        count = len(self.watched) * across
        figure, axes = figures.panel_grid(count, columns=across, height=1.9, sharex=True)
        numbers: list[pd.DataFrame] = []
        run_ids: list[str] = []
        counts: list[int] = []
        modalities = context.bundle(context.main).modalities
        for column, name in enumerate(names):
            records = [context.record(cell.spec) for cell in of_row(cells, name)]
            run_ids += [r.id for r in records if r is not None and recorded(r, KL.key) is not None]
            for line, quantity in enumerate(self.watched):
                series = [recorded(record, quantity.key) for record in records]
                done = [curve for curve in series if curve is not None]
                counts.append(max(1, len(done)))
                nothing = np.full((1, 1, len(modalities)), np.nan)
                curves = np.stack(done) if done else nothing  # (runs, epochs, M)
                self._panel(context, axes[line * across + column], curves, name, line, column)
                of_axes = {"run": 0, "epoch": 1, "modality": modalities}
                frame = figures.long({"value": curves}, of_axes, row=name, quantity=quantity.key)
                numbers.append(frame)
        figures.shared_legend(figure, axes[0])
        for line in range(len(self.watched)):
            figures.one_scale(axes[line * across : (line + 1) * across])
        of_the_paper = sum(quantity != NORM for quantity in self.watched) * across
        frame, notes = pd.concat(numbers), self._notes(context, counts)
        return Output(None, figure, frame, of_the_paper, notes, tuple(run_ids))

    def _panel(
        self, context: Context, axis: Axes, curves: np.ndarray, name: str, line: int, column: int
    ) -> None:
        modalities = context.bundle(context.main).modalities
        figures.along(
            axis,
            {m: curves[:, :, i] for i, m in enumerate(modalities)},
            "" if column else self.watched[line].label,
            "" if line else name,
            "epoch" if line + 1 == len(self.watched) else "",
            within=self.watched[line].within,
        )

    def _notes(self, context: Context, counts: Sequence[int]) -> tuple[str, ...]:
        cosine = (
            "Cosine: between the gradients of a unimodal head and of the fused prediction (Eq. 25)."
        )
        norms = " Norm: of each encoder's gradient before modulation."
        return (
            f"{shown(context, context.main)} at {_rates(context, self.rates)}; mean over "
            "the steps of an epoch. The panels of a line share their scale. "
            + figures.told(counts, of="run"),
            cosine + (norms if NORM in self.watched else ""),
            "KL: divergence of the unimodal from the fused prediction (A6), measured "
            "by heads whose gradients do not reach the backbone.",
        )


def _rates(context: Context, rates: rows.Rates) -> str:
    """A setting with what its numbers are the rates of."""
    order = rows.order(context) if rows.by_name(context) else "(r_A, r_L, r_V)"
    return f"{order} = {rows.setting_of(context, rates)}"


FIG5 = Discrepancies(main_variants)
FIG8 = Discrepancies(other_variants)
ALONG_TRAINING = tuple(  # Figs 11 to 22: six settings, two backbones
    Discrepancies(with_and_without, rates, backbone, (COSINE, KL, NORM), grid=True)
    for backbone in ("mmgcn", "mmdfn")
    for rates in rows.SETTINGS
)


def recorded(record: Record | None, key: str) -> np.ndarray | None:
    """(epochs, M): per-epoch means of a series that a run recorded; None where it is not done or recorded none."""
    kept = record["curves"].get("series") if record is not None else None
    return np.array(kept[key]) if kept is not None else None


def sensitivity(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 7: weighted F1 by tau, a line for each rho, of the two configurations on one scale with their seeds."""
    frames = tables.grid_frames(context, cells)
    figure, axes = figures.panel_grid(len(frames), columns=2, width=figures.DOUBLE, height=2.6)
    numbers, counts = [], []
    configurations = rows.configurations(context).values()
    for axis, (name, frame), rates in zip(axes, frames.items(), configurations, strict=True):
        law = context.rates(context.main, rates)
        mine = [cell for cell in cells if cell.spec.train_mask == law]
        results = selected(context, mine, "weighted_f1")
        counts += figures.seeds_of(results, "setting")
        _by_tau(context, axis, results, f"Config {name}")
        long = frame.rename_axis("tau").reset_index()
        long = long.melt("tau", var_name="rho", value_name="weighted_f1")
        numbers.append(long.assign(configuration=name))
    figures.one_scale(axes)
    figures.shared_legend(figure, axes[0])
    notes = (
        f"{shown(context, context.main)}, test; rates as {rows.order(context)}. The panels share their scale. "
        + figures.told(counts),
    )
    return Output(figure=figure, numbers=pd.concat(numbers), rows_built=len(frames), notes=notes)


def _by_tau(context: Context, axis: Axes, results: pd.DataFrame, title: str) -> None:
    """A configuration's results by tau, a line for each rho."""
    taus, rhos = context.profile.taus, context.profile.rhos
    by = results.pivot_table(index="seed", columns="setting", values="value")
    curves = {
        f"rho {r:g}": by.reindex(columns=[f"tau={t:g} rho={r:g}" for t in taus]).to_numpy()
        for r in rhos
    }
    figures.lines(
        axis, taus, curves, xlabel="tau", ylabel="weighted F1 (%)", title=title, legend=False
    )
    axis.set_xticks(taus)


def tsne_cells(context: Context) -> list[Cell]:
    """Figs 8 to 10: one run of the main backbone with and without BALM, whose embeddings are kept."""
    kept = [
        row.but(keep=("embeddings",))
        for row in (rows.plain(context.backbone), rows.balm(context.backbone))
    ]
    return [rows.cells(context, context.main, row, rows.FOCUS)[0] for row in kept]


@dataclass(frozen=True)
class Embeddings:
    """Figs 8 to 10: t-SNE of the test utterances, one row of panels per method."""

    part: str
    """``input``, ``z`` or ``hidden``."""

    def draw(self, context: Context, cells: Sequence[Cell]) -> Output:
        """The figure, from finished runs."""
        names = self._names(context)
        columns = 2 if len(names) == 1 else len(names)
        figure, axes = figures.panel_grid(
            len(cells) * len(names), columns=columns, width=figures.DOUBLE, height=1.8
        )
        words = projection.words(context.bundle(context.main).task)
        frames, run_ids = [], []
        for line, cell in enumerate(cells):
            record = context.record(cell.spec)
            arrays = context.store.arrays(record.id) if record is not None else {}
            if record is None or f"embeddings.{next(iter(names))}" not in arrays:
                continue
            run_ids.append(record.id)
            for column, (name, modality) in enumerate(names.items()):
                values, labels = self._observed(context, cell.spec, arrays, name, column)
                title = f"{cell.row}, {modality}" if modality else cell.row
                axis = axes[line * len(names) + column]
                frame = projection.panel(axis, values, labels, title, words)
                if frame is not None:
                    frames.append(frame.assign(row=cell.row, part=name))
        if not run_ids:
            lacking = "The embeddings are not in the store: run `mmlib sweep` for this figure."
            return Output(notes=(lacking,))
        if not frames:
            few = f"{projection.TOO_FEW} that have a modality."
            return Output(figure=figure, notes=(few,), rows_built=0, run_ids=tuple(run_ids))
        projection.legend(figure, axes, words)
        notes = self._notes(context, frames)
        return Output(None, figure, pd.concat(frames), len(frames), notes, tuple(run_ids))

    def _names(self, context: Context) -> dict[str, str]:
        """Embedding to its modality, which the fused one lacks."""
        if self.part == "hidden":
            return {self.part: ""}
        return {f"{self.part}.{m}": m for m in context.bundle(context.main).modalities}

    def _observed(
        self,
        context: Context,
        spec: RunSpec,
        arrays: Mapping[str, np.ndarray],
        name: str,
        column: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """An embedding and the labels, of the inputs those of utterances that have the modality."""
        labels, observed = _labels(context, spec)
        there = observed[:, column] if self.part == "input" else np.ones(len(labels), dtype=bool)
        return arrays[f"embeddings.{name}"][there], labels[there]

    def _notes(self, context: Context, frames: Sequence[pd.DataFrame]) -> tuple[str, ...]:
        where = (
            f"{shown(context, context.main)}, test utterances of one run at {rows.setting_of(context, rows.FOCUS)}, "
            "coloured by label. "
        )
        only = "Only utterances that have the modality; in the others its features are zeros."
        first = [frame.iloc[0] for frame in frames]
        scores = "; ".join(f"{f['row']}, {f['part']}: {f['silhouette']:+.3f}" for f in first)
        return (
            where + (only if self.part == "input" else ""),
            TSNE_NOTE,
            f"{scores}. {projection.seen([f['silhouette'] for f in first])}",
            *projection.notes(projection.words(context.bundle(context.main).task)),
        )


def _labels(context: Context, spec: RunSpec) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the test utterances as words, and which modalities each has under the run's mask."""
    bundle = context.bundle(context.main)
    bundle = bundle if spec.fold is None else bundle.with_fold(spec.fold)
    values = bundle.labels[bundle.rows("test")]
    places = values if bundle.task.kind == "classes" else np.sign(values).astype(int) + 1
    observed = draw(spec.eval_masks[0][1], bundle, "test", spec.seed).utterance
    return np.array(projection.words(bundle.task))[places], observed
