"""DREAM's Figs 3, 4 and 5: F1 by how much is missing, in training and in test alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.experiments import stages
from mmlib.experiments.comparison import BOUND, by_setting, data_notes, shown
from mmlib.experiments.context import Cell, Context
from mmlib.papers.dream import runs, tables
from mmlib.report import figures
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

LABELS = {tables.MEAN: "mean F1 of the emotions (%)", "weighted_f1": "weighted F1 (%)"}
TEXT = "The paper's text does not give the ratios at which its figures are drawn."
A4 = ("Of the affected share two fifths lack one or two modalities, two fifths half of their frames, and one fifth "
      "both (A.4); what happens inside an affected utterance is our reading.")
VECTORS = ("{} has one vector for each utterance and no frames to lose: each whole modality is dropped at that rate, "
           "and one is restored where all are. This is another experiment than the paper's.")


@dataclass(frozen=True)
class Panel:
    """One set of axes: its title, data set and cells; xlabel: what the levels are."""

    title: str
    dataset: str
    cells: list[Cell]
    xlabel: str


def curves(context: Context, panels: Sequence[Panel], notes: Sequence[str], columns: int = 3,
           built: int = 1) -> Output:
    """Mean over seeds by level, each seed drawn lightly, and on twins the best possible."""
    results = [tables.measured(context, p.dataset, p.cells) for p in panels]
    if any(frame.empty for frame in results):
        return Output(notes=("Not built yet.",))
    figure, axes = figures.panel_grid(len(panels), columns=columns, width=figures.DOUBLE, height=2.6)
    numbers = []
    for axis, panel, found in zip(axes, panels, results, strict=True):
        settings, metric = list(dict.fromkeys(c.setting for c in panel.cells)), str(found["metric"].iloc[0])
        bound, at = tables.best(panel.cells), [float(s.rstrip(" %")) for s in settings]
        known = pd.DataFrame() if bound is None else bound[bound["metric"] == metric].assign(row=BOUND)
        figures.lines(axis, at, by_setting(found, known, settings), xlabel=panel.xlabel, ylabel=LABELS[metric],
                      title=panel.title, legend=False)
        axis.set_xticks(at)
        everything = pd.concat([found, known]) if len(known) else found
        numbers.append(everything.assign(panel=panel.title, dataset=panel.dataset,
                                         level=everything["setting"].str.rstrip(" %").astype(float) / 100))
    for name in {p.dataset for p in panels}:
        same = [axis for axis, p in zip(axes, panels, strict=True) if p.dataset == name]
        low, high = (of(ends) for of, ends in ((min, [a.get_ylim()[0] for a in same]),
                                               (max, [a.get_ylim()[1] for a in same])))
        for axis in same:
            axis.set_ylim(low, high)
    figures.shared_legend(figure, axes[0], columns=5)
    frame, names = pd.concat(numbers, ignore_index=True), list(dict.fromkeys(p.dataset for p in panels))
    alone = (f"'{BOUND}' is that of an utterance by itself, from the twin's exact posterior, for the very masks.",)
    vectors = [VECTORS.format(shown(context, d)) for d in names if not stages.framed(context, d)]
    said = ("Bold: mean over seeds; light: each seed. Every point is a training of its own, P's included.", *notes,
            *vectors, *(alone if any(is_twin(context.reference(d)) for d in names) else ()),
            *data_notes(context, names))
    return Output(figure=figure, numbers=frame, rows_built=built, notes=said,
                  run_ids=tuple(frame["run_id"].dropna().unique()))


def lost(context: Context, dataset: str, mixed: bool = False) -> str:
    """What the levels of a figure are."""
    if not stages.framed(context, dataset):
        return "modalities dropped (%)"
    return "utterances affected (%)" if mixed else "frames dropped (%)"


def frame_cells(context: Context, dataset: str) -> list[Cell]:
    """Fig 3's runs on a data set."""
    return runs.lossy(context, dataset, runs.main_rows())


def frame_specs(context: Context) -> list[RunSpec]:
    """The runs of Fig 3."""
    return stages.specs_of(c for d in context.datasets for c in frame_cells(context, d))


def frames(context: Context) -> Output:
    """Fig 3: frames of every modality dropped at one ratio, independently (B19), in training and in test."""
    panels = [Panel(shown(context, d), d, frame_cells(context, d), lost(context, d)) for d in context.datasets]
    return curves(context, panels, ("Frames of each modality are dropped independently at one ratio (B19), once, in "
                                    "training, validation and test; at least one of a modality stays.", TEXT,
                                    tables.EQUAL))


def ablation_cells(context: Context) -> list[Cell]:
    """Fig 4's runs."""
    return runs.mixtures(context, runs.ablated(context), [runs.OURS, *runs.ABLATED])


def ablation_specs(context: Context) -> list[RunSpec]:
    """The runs of Fig 4."""
    return stages.specs_of(ablation_cells(context))


def ablation(context: Context) -> Output:
    """Fig 4: without dynamic enhancement (all are enhanced), and without the masked fusion (w alone)."""
    dataset = runs.ablated(context)
    panel = Panel(shown(context, dataset), dataset, ablation_cells(context), lost(context, dataset, True))
    return curves(context, [panel], (A4, TEXT, "Without dynamic enhancement every modality is enhanced, whatever its "
                                     "PSS; without MMFM the predicted weights fuse alone."), columns=1, built=3)


def by_themselves() -> list[runs.Row]:
    """The Ps of Fig 5 without DREAM."""
    return [dataclasses.replace(row, kind="reference", variant="paper") for row in runs.reference_rows()]


def reference_cells(context: Context, dataset: str) -> dict[str, list[Cell]]:
    """Fig 5's runs on a data set: the method with each P, and each P by itself."""
    return {"DREAM with this P": runs.mixtures(context, dataset, runs.reference_rows()),
            "P by itself": runs.mixtures(context, dataset, by_themselves())}


def reference_specs(context: Context) -> list[RunSpec]:
    """The runs of Fig 5."""
    return stages.specs_of(c for d in runs.compared(context) for found in reference_cells(context, d).values()
                           for c in found)


def references(context: Context) -> Output:
    """Fig 5: P is CorrKD's backbone, the same under-trained, Self-MM, or an MLP; and what each does by itself."""
    names = runs.compared(context)
    panels = [Panel(f"{shown(context, d)}: {title}", d, found, lost(context, d, True)) for d in names
              for title, found in reference_cells(context, d).items()]
    guessed = ("Self-MM's own training is of scores: on other data its network learns from the task loss.",) if any(
        d not in runs.scores(context) for d in names) else ()
    return curves(context, panels, (A4, TEXT, "The paper does not name the data set (a guess: IEMOCAP). Under-trained: "
                                    "a tenth of the epochs, one at the least.", *guessed), columns=2, built=4)
