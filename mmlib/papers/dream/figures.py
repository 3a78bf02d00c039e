"""DREAM's Figs 3, 4 and 5: F1 by how much is missing, in training and in test alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.experiments import own, systems
from mmlib.experiments.comparison import BOUND, by_setting, data_notes, shown
from mmlib.experiments.conditions import framed
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.method_looks import looks
from mmlib.experiments.rows import Row, on
from mmlib.papers.dream import rows, tables
from mmlib.report import figures
from mmlib.report.artifact import NOT_BUILT, Output

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BY = ("row", "setting")
LABELS = {tables.MEAN: "mean F1 of the emotions (%)", "weighted_f1": "weighted F1 (%)"}
EVERY_POINT = (
    "Test, at the epoch that validation picks; every point is trained separately, including P. Panels of one metric "
    "share their scale. {}"
)
NETWORKS = {rows.PLAIN: rows.OURS}
TEXT = "The paper does not state the ratios that its figures show."
A4 = (
    "Of the affected utterances two fifths lack one or two modalities, two fifths "
    "half of their frames, and one fifth both (appendix A.4). The details within an "
    "affected utterance are our reading."
)
INDEPENDENT = (
    "The frames of each modality are dropped independently with the same ratio (B19), "
    "once, in training, validation and test. At least one frame of a modality stays."
)
PARTS = (
    "Without dynamic enhancement every modality is enhanced, whatever its PSS. "
    "Without MMFM the fusion uses the predicted weights alone."
)
GUESS = (
    "The paper does not name the data set (our guess: IEMOCAP). Under-trained: a "
    "tenth of the epochs, at least one."
)
SELFMM = (
    "Self-MM's training is defined for scores; on other data its network is "
    "trained with the task loss."
)
ALONE = f"'{BOUND}' is that of an utterance by itself, from the twin's exact posterior, for the very masks."
OTHERS = "Thin grey lines: the comparison systems, each by its mean; the table 'Fig 3 as a table' names them."
VECTORS = (
    "{} has one vector per utterance and no frames to drop. Instead each modality is "
    "dropped at that rate, and one is restored if all are dropped. This is not the "
    "paper's experiment."
)


@dataclass(frozen=True)
class Panel:
    """One set of axes: curves of one data set."""

    title: str
    """Above the axes."""

    cells: Sequence[Cell]
    """The runs that are drawn."""

    xlabel: str
    """What the levels are."""

    behind: frozenset[str] = frozenset()
    """The rows that are drawn as thin lines behind the others."""

    @property
    def dataset(self) -> str:
        """The data set of all its cells."""
        return self.cells[0].dataset


def curves(
    context: Context, panels: Sequence[Panel], notes: Sequence[str], columns: int, built: int
) -> Output:
    """Mean and spread over seeds by level, and on twins the best possible."""
    results = [tables.measured(context, panel.cells) for panel in panels]
    if any(frame.empty for frame in results):
        return NOT_BUILT
    figure, axes = figures.panel_grid(
        len(panels), columns=columns, width=figures.DOUBLE, height=2.6
    )
    drawn = [_draw(*of_panel) for of_panel in zip(axes, panels, results, strict=True)]
    frame = pd.concat(drawn, ignore_index=True)
    datasets = list(dict.fromkeys(panel.dataset for panel in panels))
    for label in {axis.get_ylabel() for axis in axes}:
        figures.one_scale([axis for axis in axes if axis.get_ylabel() == label])
    figures.shared_legend(figure, axes[0], columns=5)
    if rows.own_vectors(context):
        notes = [note for note in notes if note not in (INDEPENDENT, A4)]
    vectors = [shown(context, d) for d in datasets if not framed(context, d)]
    twins = any(is_twin(context.reference(dataset)) for dataset in datasets)
    notes = (
        EVERY_POINT.format(figures.told(n for of in results for n in figures.seeds_of(of, *BY))),
        *notes,
        *(VECTORS.format(name) for name in vectors),
        *([ALONE] if twins else []),
        *data_notes(context, datasets),
    )
    run_ids = tuple(frame["run_id"].dropna().unique())
    return Output(None, figure, frame, built, notes, run_ids)


def _draw(axis: Axes, panel: Panel, results: pd.DataFrame) -> pd.DataFrame:
    """Draw a panel; what it shows."""
    settings = list(dict.fromkeys(cell.setting for cell in panel.cells))
    levels = [float(setting.rstrip(" %")) for setting in settings]
    metric = str(results["metric"].iloc[0])
    bound = tables.best(panel.cells)
    known = pd.DataFrame()
    if bound is not None:
        known = bound[bound["metric"] == metric].assign(row=BOUND)
    series = by_setting(results, known, settings)
    others = [series.pop(name) for name in sorted(panel.behind & set(series))]
    if others:
        figures.behind(axis, levels, others, f"{own.count(len(others))} comparison systems")
    figures.lines(
        axis,
        levels,
        series,
        xlabel=panel.xlabel,
        ylabel=LABELS[metric],
        title=panel.title,
        legend=False,
        looks=looks(series, NETWORKS),
    )
    axis.set_xticks(levels)
    everything = pd.concat([results, known]) if len(known) else results
    level = everything["setting"].str.rstrip(" %").astype(float) / 100
    return everything.assign(panel=panel.title, dataset=panel.dataset, level=level)


def lost(context: Context, dataset: str, mixed: bool = False) -> str:
    """What the levels of a figure are."""
    if not framed(context, dataset):
        return "modalities dropped (%)"
    return "utterances affected (%)" if mixed else "frames dropped (%)"


def frame_cells(context: Context) -> list[Cell]:
    """The runs of Fig 3."""
    return tables.LOSSY.cells(context)


def frames(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 3: frames of every modality dropped at one ratio, independently (B19), in training and in test."""
    others = {cell.row for cell in cells} & systems.CALLED
    panels = [
        Panel(shown(context, d), on(cells, d), lost(context, d), frozenset(others))
        for d in context.datasets
    ]
    notes = [INDEPENDENT, TEXT, tables.EQUAL, *([OTHERS] if others else [])]
    return curves(context, panels, notes, columns=3, built=1 + len(others))


def ablation_cells(context: Context) -> list[Cell]:
    """The runs of Fig 4."""
    dataset = rows.ablated(context)
    return rows.mixtures(context, dataset, rows.ablation_rows(context, dataset))


def ablation(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 4: without dynamic enhancement (all are enhanced), and without the masked fusion (w alone)."""
    dataset = rows.ablated(context)
    panel = Panel(shown(context, dataset), cells, lost(context, dataset, mixed=True))
    return curves(context, [panel], (A4, TEXT, PARTS), columns=1, built=3)


def reference_cells(context: Context) -> list[Cell]:
    """The runs of Fig 5: on each data set the method with each P, then each P by itself."""
    made = []
    for dataset in rows.compared(context):
        alone = [Row(name, (p,)) for name, p in rows.references(context, dataset).items()]
        made += rows.mixtures(context, dataset, rows.reference_rows(context, dataset))
        made += rows.mixtures(context, dataset, alone)
    return made


def references(context: Context, cells: Sequence[Cell]) -> Output:
    """Fig 5: P is CorrKD's backbone, the same under-trained, Self-MM, or an MLP; and what each does by itself."""
    panels = []
    for dataset in rows.compared(context):
        name, levels = shown(context, dataset), lost(context, dataset, mixed=True)
        guided = [cell for cell in on(cells, dataset) if cell.spec.parent]
        alone = [cell for cell in on(cells, dataset) if not cell.spec.parent]
        panels.append(Panel(f"{name}: DREAM with this P", guided, levels))
        panels.append(Panel(f"{name}: P by itself", alone, levels))
    other = set(rows.compared(context)) - set(rows.scores(context))
    guesses = (GUESS, SELFMM) if other else (GUESS,)
    return curves(context, panels, (A4, TEXT, *guesses), columns=2, built=4)
