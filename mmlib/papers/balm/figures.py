"""BALM's figures: of rates (Figs 1, 2, 4), during training (5, 8, 11 to 22), of tau and rho (7), of what BALM adds (6),
and of what a network makes of its inputs (t-SNE: 8 to 10)."""

from __future__ import annotations

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
from mmlib.experiments.rows import Row, of_row, on
from mmlib.masks import draw, imbalanced, shared
from mmlib.papers.balm import rows, tables
from mmlib.report import figures, projection
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
    figures.grouped_bars(
        axes[0],
        list(names.values()),
        _lists(results, "value", list(names)),
        ylabel="accuracy (%)",
        title=f"A shared rate of 0.5 and {_others(context, 'its equivalents')} ({rows.order(context)})",
        base=5 * np.floor(results["value"].min() / 5 - 1),
    )
    means = results.groupby(["row", "setting"])["value"].mean()
    spread = means.groupby("row").agg(lambda values: values.max() - values.min())
    spreads = ", ".join(f"{row} {value:.1f} points" for row, value in spread.items())
    notes = (
        f"{shown(context, context.main)}; bars are means over seeds with 95 % intervals, points are "
        "seeds; the axis does not start at 0.",
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
    """Fig 4: weighted F1 against the shared missing rate."""
    figure, axes = figures.panel_grid(
        len(context.datasets), columns=2, width=figures.DOUBLE, height=2.8
    )
    rates = context.profile.shared_rates
    pairs = rows.pairs(context)
    frames = []
    for axis, dataset in zip(axes, context.datasets, strict=True):
        results = selected(context, on(cells, dataset), "weighted_f1")
        table = results.pivot_table(index=["row", "seed"], columns="setting", values="value")
        table = table.reindex(columns=[f"{rate:.1f}" for rate in rates])
        figures.lines(
            axis,
            rates,
            {r.name: table.loc[r.name].to_numpy() for r in pairs if r.name in table.index},
            xlabel="shared missing rate",
            ylabel="weighted F1 (%)",
            title=shown(context, dataset),
            legend=False,
        )
        frames.append(results.assign(dataset=dataset))
    figures.shared_legend(figure, axes[0], columns=3)
    lines = "Bold lines are means over seeds, light lines single seeds."
    notes = (" ".join((lines, *own.of_the_paper(context, OTHERS))),)
    return Output(figure=figure, numbers=pd.concat(frames), rows_built=len(pairs) // 2, notes=notes)


def combination_gains(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 6: what BALM adds for each combination of modalities, over the settings of Table 9.

    Left as the paper draws it, against GCNet whatever the backbone; right against the own backbone (A24).
    """
    results = selected(context, cells, "weighted_f1")
    parts = results["setting"].str.rsplit(" ", n=1)
    results = results.assign(combination=parts.str[1], rates=parts.str[0])
    means = results.groupby(["row", "combination", "seed"])["value"].mean()
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
            row: [list(means[row, name] - means[other, name]) for name in names]
            for row, other in baseline.items()
        }
        ylabel = "" if place else "gain in weighted F1 (points)"
        figures.grouped_bars(axes[place], labels, gains, ylabel=ylabel, title=title, legend=False)
        axes[place].axhline(0, color="black", linewidth=0.8)
        for row, lists in gains.items():
            for name, values in zip(names, lists, strict=True):
                frame = pd.DataFrame({"gain": values}).rename_axis("seed_place").reset_index()
                numbers.append(frame.assign(row=row, against=title, combination=name))
    figures.shared_legend(figure, axes[0])
    notes = (
        f"{shown(context, 'iemocap')}, mean over the settings of Table 9 ({context.profile.combined}) within each "
        "seed; points are seeds, whiskers 95 % intervals.",
        "With a single modality there is nothing to rebalance, so +BALM is FCM alone.",
        *initials_note(modalities),
    )
    columns = ["row", "against", "combination", "seed_place", "gain"]
    frame = pd.concat(numbers, ignore_index=True)[columns]
    return Output(figure=figure, numbers=frame, rows_built=2, notes=notes)


@dataclass(frozen=True)
class Watched:
    """A quantity of Eqs 19 and 25 during training, or (ours) a gradient norm."""

    key: str
    """Its name in the records."""

    label: str
    """Of its axis."""


COSINE = Watched("cosine", "cosine")
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
        modalities = context.bundle(context.main).modalities
        for column, name in enumerate(names):
            records = [context.record(cell.spec) for cell in of_row(cells, name)]
            run_ids += [r.id for r in records if r is not None and recorded(r, KL.key) is not None]
            for line, quantity in enumerate(self.watched):
                series = [recorded(record, quantity.key) for record in records]
                done = [curve for curve in series if curve is not None]
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
        frame = pd.concat(numbers)
        return Output(None, figure, frame, of_the_paper, self._notes(context), tuple(run_ids))

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
        )

    def _notes(self, context: Context) -> tuple[str, ...]:
        cosine = (
            "Cosine: between the gradients of a unimodal head and of the fused prediction (Eq. 25)."
        )
        norms = " Norm: of each encoder's gradient before modulation."
        return (
            f"{shown(context, context.main)} at {_rates(context, self.rates)}; mean over "
            "the steps of an epoch. Light lines are single runs, bold lines their mean.",
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
    """Fig 7: weighted F1 over tau and rho for the two configurations, on one colour scale."""
    frames = tables.grid_frames(context, cells)
    everything = np.concatenate([frame.to_numpy().ravel() for frame in frames.values()])
    limits = (float(np.nanmin(everything)), float(np.nanmax(everything)))
    figure, axes = figures.panel_grid(len(frames), columns=2, width=figures.DOUBLE, height=2.6)
    numbers = []
    for axis, (name, frame) in zip(axes, frames.items(), strict=True):
        figures.heatmap(
            axis,
            frame,
            xlabel="rho",
            ylabel="tau",
            label="weighted F1 (%)",
            title=f"Config {name}",
            limits=limits,
        )
        long = frame.rename_axis("tau").reset_index()
        long = long.melt("tau", var_name="rho", value_name="weighted_f1")
        numbers.append(long.assign(configuration=name))
    notes = (f"{shown(context, context.main)}; rates as {rows.order(context)}.",)
    return Output(figure=figure, numbers=pd.concat(numbers), rows_built=len(frames), notes=notes)


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
            len(cells) * len(names), columns=columns, width=figures.DOUBLE, height=2.5
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
            f"{scores}.",
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
