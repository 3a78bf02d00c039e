"""The GMM-loss paper's figures: the mixture on the gap, its rounds, and accuracies during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy  # its parts are imported when they are used: scipy.stats takes a second

from mmlib.experiments.budgets import seeds_in_words
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.published import published
from mmlib.experiments.rows import runs_of
from mmlib.papers.gmm_loss import rows
from mmlib.report import colours, figures
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.runs.spec import RunSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = "modality gap"
COMPONENTS = ("balanced", "imbalanced")
COMPARED = ("gmm_loss", "plain")  # the panels of Fig 4


@dataclass(frozen=True)
class Round:
    """A mixture as one run fitted it before a round, or at its end; arrays (2,), the balanced component first."""

    run_id: str
    """Of the run."""

    seed: int
    """Of the run."""

    number: int
    """0 after the warm-up."""

    shares: np.ndarray
    """Of the components."""

    means: np.ndarray
    """Of the components, of modality gaps."""

    variances: np.ndarray
    """Of the components."""

    gaps: np.ndarray | None
    """(n_train,), none where the store has the record alone."""

    def density(self, at: np.ndarray) -> np.ndarray:
        """(2, len(at)): the components' parts of the density (Eq. 8)."""
        components = zip(self.shares, self.means, self.variances, strict=True)
        return np.stack([p * scipy.stats.norm.pdf(at, m, np.sqrt(v)) for p, m, v in components])


def rounds(context: Context, spec: RunSpec) -> list[Round]:
    """The mixtures of a run of the method, in order; empty where it is not in the store."""
    record = context.record(spec)
    if record is None:
        return []
    fitted = record["curves"]["found"]
    parts = [np.array(fitted[name]) for name in ("shares", "means", "variances")]
    gaps = context.store.arrays(record.id).get("found.gap")
    return [
        Round(record.id, spec.seed, number, p, m, v, None if gaps is None else gaps[number])
        for number, (p, m, v) in enumerate(zip(*parts, strict=True))
    ]


def paths(context: Context, cells: Sequence[Cell], dataset: str) -> list[list[Round]]:
    """The rounds of each finished run of the method on a data set."""
    ours = [cell.spec for cell in cells if (cell.row, cell.dataset) == (rows.OURS, dataset)]
    return [path for spec in ours if (path := rounds(context, spec))]


def after_warmups(
    context: Context, cells: Sequence[Cell], dataset: str
) -> list[tuple[Round, np.ndarray]]:
    """The first mixture of each run of the method, and its gaps, where the store has these."""
    first = [path[0] for path in paths(context, cells, dataset)]
    return [(mixture, mixture.gaps) for mixture in first if mixture.gaps is not None]


def mixture_panel(
    axis: Axes, mixture: Round, title: str, legend: bool = False, reach: float = 1.0
) -> None:
    """A gap's histogram with the mixture's components and their sum, from -reach to reach."""
    at = np.linspace(-reach, reach, 400)
    parts = mixture.density(at)
    with figures.style():
        if mixture.gaps is not None:
            histogram(axis, mixture.gaps, 40, reach)
        for place, (name, part) in enumerate(zip(COMPONENTS, parts, strict=True)):
            form = colours.look(name, place)
            axis.plot(at, part, color=form["color"], linestyle=("--", "-.")[place], label=name)
        axis.plot(at, parts.sum(axis=0), color="black", linewidth=1.0, label="mixture")
        axis.set_title(title)
        axis.set_xlabel(GAP)
        if legend:
            axis.legend(loc="best")


def histogram(axis: Axes, gaps: np.ndarray, bins: int, reach: float = 1.0) -> None:
    """The density of gaps in grey."""
    axis.hist(
        gaps,
        bins=bins,
        range=(-reach, reach),
        density=True,
        color="#bbbbbb",
        label="training clips",
    )


def tidy(mixtures: Sequence[Round]) -> pd.DataFrame:
    """Mixtures as lines: run, seed, round, component, share, mean, sd, density at 0."""
    return pd.DataFrame(
        [
            {
                "run": mixture.run_id,
                "seed": mixture.seed,
                "round": mixture.number,
                "component": name,
                "share": mixture.shares[place],
                "mean": mixture.means[place],
                "sd": float(np.sqrt(mixture.variances[place])),
                "density at 0": mixture.density(np.zeros(1))[:, 0].sum(),
            }
            for mixture in mixtures
            for place, name in enumerate(COMPONENTS)
        ]
    )


def after_warmup(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 2: the mixture fitted to the training gaps after the warm-up, on every data set, first seed."""
    count = len(context.datasets)
    figure, axes = figures.panel_grid(count, columns=2, width=figures.DOUBLE, height=2.6)
    everything: list[Round] = []
    notes = []
    for axis, dataset in zip(axes, context.datasets, strict=True):
        name = shown(context, dataset)
        first = [path[0] for path in paths(context, cells, dataset)]
        if not first:
            notes.append(f"{name}: not built yet.")
            continue
        everything += first
        mixture_panel(axis, first[0], name, legend=True)
        axis.set_ylabel("density")
        seen = f"one run (seed {first[0].seed}), {_clips(first[0])}"
        notes.append(
            f"{name}: the picture is of {seen}. Mean of {seeds_in_words([len(first)])}: {_means(first)}."
        )
    notes.append(_papers_mixture(context))
    return Output(
        figure=figure,
        numbers=tidy(everything),
        rows_built=2 if everything else 0,
        notes=(*filter(None, notes), *data_notes(context, context.datasets)),
        run_ids=tuple(mixture.run_id for mixture in everything),
    )


def _clips(mixture: Round) -> str:
    """Of how many training clips a run has the gaps, where the store has them."""
    return "without its gaps" if mixture.gaps is None else f"{len(mixture.gaps):,} training clips"


def _means(mixtures: Sequence[Round]) -> str:
    mean = tidy(mixtures).groupby("component")[["share", "mean", "sd"]].mean()
    return "; ".join(
        f"{name} share {mean['share'][name]:.3f}, mean {mean['mean'][name]:+.3f}, sd {mean['sd'][name]:.3f}"
        for name in COMPONENTS
    )


def _papers_mixture(context: Context) -> str:
    """The printed mixture, where the data are the paper's."""
    if not context.is_papers(context.main):
        return ""
    values = published("gmm_loss", "fig2").set_index(["condition", "metric"])["value"]
    printed = "; ".join(
        f"{name} share {values[name, 'weight']:.3f}, mean {values[name, 'mean']:+.4f}"
        for name in COMPONENTS
    )
    return f"Printed: {printed}."


def each_round(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 3: gaps and mixture after the warm-up and after each round, first seed; shares and means over all seeds."""
    runs = paths(context, cells, context.main)
    if not runs:
        return NOT_BUILT
    across = 4 if len(runs[0]) == 4 else 3
    figure, axes = figures.panel_grid(
        len(runs[0]), columns=across, width=figures.DOUBLE, height=2.0
    )
    for axis, mixture in zip(axes, runs[0], strict=True):
        mixture_panel(
            axis, mixture, f"round {mixture.number}" if mixture.number else "after the warm-up"
        )
    for axis in axes[::across]:
        axis.set_ylabel("density")
    figures.one_scale(axes)
    for axis in axes:
        axis.set_ylim(bottom=0)
    figures.shared_legend(figure, axes[0])
    numbers = tidy([mixture for path in runs for mixture in path])
    by_round = numbers[numbers["component"] == "imbalanced"].groupby("round")
    means = "; ".join(
        f"{number} {group['share'].mean():.3f}, {group['mean'].mean():+.3f}, {group['density at 0'].mean():.2f}"
        for number, group in by_round
    )
    notes = (
        f"{shown(context, context.main)}, one run (seed {runs[0][0].seed}), {_clips(runs[0][0])}; the panels share "
        "their scale. Collapsed mixtures are a single Gaussian (H1).",
        f"Mean of {seeds_in_words([len(runs)])} by round (share of the imbalanced component, its mean, "
        f"density at 0): {means}.",
        *data_notes(context, [context.main]),
    )
    return Output(
        figure=figure,
        numbers=numbers,
        rows_built=len(runs[0]),
        notes=notes,
        run_ids=tuple(path[0].run_id for path in runs),
    )


def views(context: Context, spec: RunSpec) -> dict[str, np.ndarray] | None:
    """Validation accuracy of the fused and of each modality's own prediction by epoch, from the warm-up on.

    None where a stage is not done.
    """
    stages = [spec] if spec.parent is None else [spec.parent, spec]
    parts = []
    for stage in stages:
        record = context.record(stage)
        if record is None:
            return None
        curves = record["curves"]
        own = {
            name.removeprefix("valid."): curve["accuracy"]
            for name, curve in curves.get("views", {}).items()
            if name.startswith("valid.")
        }
        parts.append({"fused": curves["valid"]["accuracy"], **own})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def along_cells(context: Context) -> list[Cell]:
    """The method's runs and plain ones."""
    dataset = context.main
    compared = [rows.row(context, dataset, method) for method in COMPARED]
    return rows.cells(context, dataset, compared)


def along_training(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 4: unimodal and fused validation accuracy during training, the method's and that of plain training."""
    figure, axes = figures.panel_grid(2, columns=2, width=figures.DOUBLE, height=2.5, sharey=True)
    numbers: list[pd.DataFrame] = []
    counts: list[int] = []
    for axis, name in zip(axes, (rows.NAMES[method] for method in COMPARED), strict=True):
        chosen = runs_of(cells, name)
        curves = [by_view for spec in chosen if (by_view := views(context, spec)) is not None]
        if not curves:
            continue
        stacked = {key: np.stack([by_view[key] for by_view in curves]) for key in curves[0]}
        counts.append(len(curves))
        figures.along(
            axis,
            stacked,
            "" if numbers else "validation accuracy (%)",
            name,
            within=(0.0, 100.0),
        )
        if chosen[0].parent:
            start = chosen[0].parent.training.epochs + 0.5
            axis.axvline(start, color="black", linewidth=0.8, linestyle=(0, (4, 2)))
        numbers += [
            figures.long({"accuracy": values}, {"run": 0, "epoch": 1}, row=name, prediction=key)
            for key, values in stacked.items()
        ]
    if not numbers:
        return NOT_BUILT
    figures.shared_legend(figure, axes[0])
    notes = (
        f"{shown(context, context.main)}, validation (H14). {figures.told(counts)} Dashed line: start of the "
        "adaptive phase. The unimodal prediction of a modality is its part of the "
        "fused logits.",
        *data_notes(context, [context.main]),
    )
    run_ids = tuple(record.id for cell in cells if (record := context.record(cell.spec)))
    return Output(None, figure, pd.concat(numbers), 3, notes, run_ids)
