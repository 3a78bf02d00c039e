"""The GMM-loss paper's figures: the mixture on the gap, its rounds, and accuracies along training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import norm

from mmlib.experiments import stages
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Context
from mmlib.experiments.published import published
from mmlib.papers.gmm_loss import runs
from mmlib.report import figures
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Record

GAP = "modality gap"
COMPONENTS = ("balanced", "imbalanced")


@dataclass(frozen=True)
class Round:
    """A mixture as one run found it before a round, or at its end; arrays (2,), the balanced component first.

    number: 0 after the warm-up. gaps: (n_train,), none where the store has the record alone.
    """

    run_id: str
    seed: int
    number: int
    shares: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    gaps: np.ndarray | None

    def density(self, at: np.ndarray) -> np.ndarray:
        """(2, len(at)): the components' parts of the density (Eq. 8)."""
        return np.stack([p * norm.pdf(at, m, np.sqrt(v))
                         for p, m, v in zip(self.shares, self.means, self.variances, strict=True)])


def ours(context: Context, dataset: str) -> list[RunSpec]:
    """The full method's runs."""
    return runs.specs(context, dataset, runs.row("gmm_loss"), runs.seeds(context, dataset))


def specs(context: Context) -> list[RunSpec]:
    """The full method on the first data set, which has its warm-ups in it."""
    return stages.with_parents(ours(context, context.main))


def find(context: Context, spec: RunSpec) -> Record | None:
    """A run's record."""
    return context.store.find(spec, context.bundle_fingerprint(spec.data))[0]


def rounds(context: Context, spec: RunSpec) -> list[Round]:
    """What a run of the method found, in order; empty where it is not in the store."""
    record = find(context, spec)
    if record is None:
        return []
    found: dict[str, Any] = record["curves"]["found"]
    gaps = context.store.arrays(record.id).get("found.gap")
    parts = [np.array(found[name]) for name in ("shares", "means", "variances")]
    return [Round(record.id, spec.seed, number, shares, means, variances, None if gaps is None else gaps[number])
            for number, (shares, means, variances) in enumerate(zip(*parts, strict=True))]


def mixture_panel(axis: Axes, found: Round, title: str, legend: bool = False, reach: float = 1.0) -> None:
    """A gap's histogram with the mixture's components and their sum, from -reach to reach."""
    at = np.linspace(-reach, reach, 400)
    parts = found.density(at)
    with figures.style():
        if found.gaps is not None:
            axis.hist(found.gaps, bins=40, range=(-reach, reach), density=True, color="#bbbbbb", label="training clips")
        for place, (name, part) in enumerate(zip(COMPONENTS, parts, strict=True)):
            form = figures.look(name, place)
            axis.plot(at, part, color=form["color"], linestyle=("--", "-.")[place], label=name)
        axis.plot(at, parts.sum(axis=0), color="black", linewidth=1.0, label="mixture")
        axis.set_title(title)
        axis.set_xlabel(GAP)
        if legend:
            axis.legend(loc="best")


def tidy(found: list[Round]) -> pd.DataFrame:
    """Mixtures as lines: run, seed, round, component, share, mean, sd, density at 0."""
    lines = []
    for r in found:
        zero = r.density(np.zeros(1))[:, 0]
        for place, name in enumerate(COMPONENTS):
            lines.append({"run": r.run_id, "seed": r.seed, "round": r.number, "component": name,
                          "share": r.shares[place], "mean": r.means[place], "sd": float(np.sqrt(r.variances[place])),
                          "density at 0": zero.sum()})
    return pd.DataFrame(lines)


def after_warmup(context: Context) -> Output:
    """Fig 2: the mixture fitted to the training gaps after the warm-up, on every data set, first seed."""
    figure, axes = figures.panel_grid(len(context.datasets), columns=2, width=figures.DOUBLE, height=2.6)
    everything: list[Round] = []
    notes = []
    for axis, dataset in zip(axes, context.datasets, strict=True):
        found = [r for spec in ours(context, dataset) for r in rounds(context, spec)[:1]]
        if not found:
            notes.append(f"{shown(context, dataset)}: not built yet.")
            continue
        everything += found
        mixture_panel(axis, found[0], shown(context, dataset), legend=True)
        axis.set_ylabel("density")
        mean = tidy(found).groupby("component")[["share", "mean", "sd"]].mean()
        notes.append(f"{shown(context, dataset)}, mean of {len(found)} seeds: " + "; ".join(
            f"{name} share {mean['share'][name]:.3f}, mean {mean['mean'][name]:+.3f}, sd {mean['sd'][name]:.3f}"
            for name in COMPONENTS) + ".")
    notes.append(_papers_mixture(context))
    return Output(figure=figure, numbers=tidy(everything), rows_built=2 if everything else 0,
                  notes=(*filter(None, notes), *data_notes(context, context.datasets)),
                  run_ids=tuple(r.run_id for r in everything))


def _papers_mixture(context: Context) -> str:
    """The printed mixture, where the data are the paper's."""
    if not context.is_papers(context.main):
        return ""
    frame = published("gmm_loss", "fig2")
    values = {(line["condition"], line["metric"]): line["value"] for line in frame.to_dict("records")}
    return "Printed: " + "; ".join(f"{c} share {values[c, 'weight']:.3f}, mean {values[c, 'mean']:+.4f}"
                                   for c in COMPONENTS) + "."


def each_round(context: Context) -> Output:
    """Fig 3: gaps and mixture after the warm-up and after each round, first seed; shares and means over all seeds."""
    chosen = ours(context, context.main)
    found = [rounds(context, spec) for spec in chosen]
    found = [r for r in found if r]
    if not found:
        return Output(notes=("Not built yet.",))
    figure, axes = figures.panel_grid(len(found[0]), columns=3, width=figures.DOUBLE, height=2.0)
    for axis, r in zip(axes, found[0], strict=True):
        mixture_panel(axis, r, f"round {r.number}" if r.number else "after the warm-up", legend=False)
    for axis in axes[::3]:
        axis.set_ylabel("density")
    figures.shared_legend(figure, axes[0])
    frame = tidy([r for run in found for r in run])
    frame = frame[frame["component"] == "imbalanced"]
    lines = [f"{name} {float(group['share'].mean()):.3f}, {float(group['mean'].mean()):+.3f}, "
             f"{float(group['density at 0'].mean()):.2f}" for name, group in frame.groupby("round")]
    notes = (f"{shown(context, context.main)}, seed {chosen[0].seed}; densities differ in scale. Collapsed mixtures "
             "are one Gaussian (H1).", f"Mean of {len(found)} seeds by round (share of the imbalanced component, its "
             "mean, density at 0): " + "; ".join(lines) + ".")
    return Output(figure=figure, numbers=tidy([r for run in found for r in run]), rows_built=len(found[0]),
                  notes=(*notes, *data_notes(context, [context.main])), run_ids=tuple(run[0].run_id for run in found))


def views(context: Context, spec: RunSpec, split: str = "valid") -> dict[str, np.ndarray] | None:
    """Accuracy of the fused and of each modality's own prediction by epoch, from the warm-up on; none if not run."""
    parts = []
    for part in ([spec.parent] if spec.parent else []) + [spec]:
        record = find(context, part)
        if record is None:
            return None
        curves = record["curves"]
        fused = curves["valid" if split == "valid" else "test"]
        own = {name.split(".", 1)[1]: curve["accuracy"] for name, curve in curves.get("views", {}).items()
               if name.startswith(f"{split}.")}
        parts.append({"fused": (fused if split == "valid" else fused[split])["accuracy"], **own})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def along_training(context: Context) -> Output:
    """Fig 4: unimodal and fused validation accuracy along training, the method's and that of plain training."""
    plans = [(runs.NAMES["gmm_loss"], ours(context, context.main)),
             (runs.NAMES["plain"], runs.specs(context, context.main, runs.row("plain"), context.seeds(context.main)))]
    figure, axes = figures.panel_grid(2, columns=2, width=figures.DOUBLE, height=2.5, sharey=True)
    numbers: list[pd.DataFrame] = []
    ids: list[str] = []
    warmup = runs.BUDGETS[context.profile.name].phases()[0]
    for axis, (name, chosen) in zip(axes, plans, strict=True):
        curves = [c for spec in chosen if (c := views(context, spec)) is not None]
        if not curves:
            continue
        stacked = {key: np.stack([c[key] for c in curves]) for key in curves[0]}
        epochs = np.arange(1, len(stacked["fused"][0]) + 1)
        figures.lines(axis, epochs, stacked, xlabel="epoch", ylabel="" if numbers else "validation accuracy (%)",
                      title=name, legend=False)
        if chosen[0].parent:
            axis.axvline(warmup + 0.5, color="black", linewidth=0.8, linestyle=(0, (4, 2)))
        for key, values in stacked.items():
            run, epoch = np.indices(values.shape)
            numbers.append(pd.DataFrame({"row": name, "prediction": key, "run": run.ravel(), "epoch": epoch.ravel() + 1,
                                         "accuracy": values.ravel()}))
        ids += [record.id for spec in chosen if (record := find(context, spec))]
    if not numbers:
        return Output(notes=("Not built yet.",))
    figures.shared_legend(figure, axes[0])
    notes = (f"{shown(context, context.main)}, validation (H14). Dashed: where the adaptive phase starts. Each "
             "modality's own prediction is its part of the fused logits.", *data_notes(context, [context.main]))
    return Output(figure=figure, numbers=pd.concat(numbers), rows_built=3, notes=notes, run_ids=tuple(ids))


def along_specs(context: Context) -> list[RunSpec]:
    """The method's runs and plain ones."""
    return [*specs(context), *runs.specs(context, context.main, runs.row("plain"), context.seeds(context.main))]
