"""BALM's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

from functools import partial
from typing import Any

from mmlib.experiments.context import Cell, Context, Paper
from mmlib.experiments.tables import Table
from mmlib.experiments.takes import VECTORS, Takes
from mmlib.papers.balm import analyses, claims, figures, rows, tables, theory
from mmlib.papers.balm.choices import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.report.artifact import Artifact, declare

_artifact = declare("balm", "BALM")
_OURS = "ours"
_SIX = (
    "Six imbalanced missing rates (r_A/r_L/r_V): accuracy and weighted F1 (%), data in the role of"
)
_ONE = "One missing rate for all modalities: accuracy and weighted F1 (%), data in the role of"
_MSE = "KL replaced by a mean squared error (BALM-M), data in the role of"
_SOME = "Training and test with some modalities alone, at six missing rates:"
_TSNE = "t-SNE with and without BALM at 0.5/0.7/0.3:"
_IEMOCAP, _MOSEI = {"needs": "iemocap"}, {"needs": "mosei"}


def _table(
    id_: str, title: str, caption: str, table: Table, rows_in_paper: int | None, **other: Any
) -> Artifact:
    source = "" if table.printed else _OURS
    return _artifact(
        id_,
        "table",
        title,
        caption,
        table.cells,
        table.draw,
        rows_in_paper,
        source,
        any_score=True,
        **other,
    )


def _combined(number: int, metric: str, table: Table) -> Artifact:
    return _artifact(
        f"table{number}",
        "table",
        f"Table {number}",
        f"{_SOME} {metric} (%).",
        table.cells,
        partial(tables.combinations, table),
        3,
        **_IEMOCAP,
    )


def _tsne(id_: str, title: str, what: str, part: str, panels: int, source: str = "") -> Artifact:
    draw = figures.Embeddings(part).draw
    caption = f"{_TSNE} {what}."
    return _artifact(id_, "figure", title, caption, figures.tsne_cells, draw, panels, source)


def _along_training(number: int, figure: figures.Discrepancies) -> Artifact:
    caption = (
        f"Discrepancy of each modality along training at {rows.label(figure.rates)}: "
        f"{rows.NAMES[figure.backbone]} with and without BALM; gradient norms are ours."
    )
    title = f"Fig {number}"
    return _artifact(
        f"fig{number}", "figure", title, caption, figure.cells, figure.draw, 4, any_score=True
    )


def _none(context: Context) -> list[Cell]:
    return []


ARTIFACTS: tuple[Artifact, ...] = (
    _artifact(
        "fig1",
        "figure",
        "Fig 1",
        "Realised missing rates of each modality under a shared rate of 0.5.",
        _none,
        figures.missing_rates,
        3,
    ),
    _artifact(
        "fig2",
        "figure",
        "Fig 2",
        "Accuracy under a shared rate of 0.5 and under imbalanced rates of the same mean.",
        figures.shared_cells,
        figures.shared_against_imbalanced,
        6,
    ),
    _table("table1", "Table 1", f"{_SIX} IEMOCAP.", tables.TABLE1, 13, **_IEMOCAP),
    _table("table2", "Table 2", f"{_SIX} CMU-MOSEI.", tables.TABLE2, 12, **_MOSEI),
    _artifact(
        "table3",
        "table",
        "Table 3",
        "Mean over the seven modality subsets, trained at 0.5/0.7/0.3, with and without FCM.",
        tables.TABLE10.cells,
        tables.average,
        2,
        any_score=True,
    ),
    _table("table4", "Table 4", "Severe missing rates: one modality at 0.9.", tables.TABLE4, 3),
    _artifact(
        "fig4",
        "figure",
        "Fig 4",
        "Weighted F1 against the shared missing rate.",
        figures.rate_cells,
        figures.shared_rates,
        5,
    ),
    _artifact(
        "fig5",
        "figure",
        "Fig 5",
        "Discrepancy of each modality along training: backbone, +FCM, +BALM.",
        figures.FIG5.cells,
        figures.FIG5.draw,
        6,
        any_score=True,
    ),
    _artifact(
        "fig6",
        "figure",
        "Fig 6",
        "What BALM adds for each combination of modalities.",
        tables.TABLE9.cells,
        figures.combination_gains,
        2,
        **_IEMOCAP,
    ),
    _artifact(
        "table7",
        "table",
        "Table 7",
        "Weighted F1 over tau and rho under two configurations.",
        tables.grid_cells,
        tables.grid_table,
        10,
    ),
    _artifact(
        "fig7",
        "figure",
        "Fig 7",
        "Sensitivity to tau and rho under two configurations.",
        tables.grid_cells,
        figures.sensitivity,
        2,
    ),
    _artifact(
        "fig8-variants",
        "figure",
        "Fig 8 (variants)",
        "Discrepancy of each modality along training: distribution part alone, spatial part alone, both.",
        figures.FIG8.cells,
        figures.FIG8.draw,
        6,
        "BALM Fig 8 (first)",
        any_score=True,
    ),
    _combined(8, "accuracy", tables.TABLE8),
    _combined(9, "weighted F1", tables.TABLE9),
    _tsne(
        "fig8-tsne",
        "Fig 8 (t-SNE)",
        "what the backbone is given",
        "input",
        6,
        "BALM Fig 8 (second)",
    ),
    _tsne("fig9", "Fig 9", "the embeddings z", "z", 6),
    _tsne("fig10", "Fig 10", "the fused representation h", "hidden", 2),
    _table(
        "table10",
        "Table 10",
        "Each modality subset on complete test data, trained at 0.5/0.7/0.3, with and without FCM.",
        tables.TABLE10,
        2,
    ),
    _table("table11", "Table 11", f"{_ONE} IEMOCAP.", tables.TABLE11, 5, **_IEMOCAP),
    _table("table12", "Table 12", f"{_ONE} CMU-MOSEI.", tables.TABLE12, 5, **_MOSEI),
    _table(
        "table13",
        "Table 13",
        "The two halves of the gradient rebalancing module apart.",
        tables.TABLE13,
        2,
    ),
    _table("table14", "Table 14", f"{_MSE} IEMOCAP.", tables.TABLE14, 3, **_IEMOCAP),
    _table("table15", "Table 15", f"{_MSE} CMU-MOSEI.", tables.TABLE15, 3, **_MOSEI),
    *(_along_training(number, figure) for number, figure in enumerate(figures.ALONG_TRAINING, 11)),
    _artifact(
        "claims",
        "table",
        "Claims",
        "The paper's sentences, each with its test and what was measured.",
        claims.claim_cells,
        claims.claims,
        source="ours, on BALM's text",
    ),
    _artifact(
        "what-the-protocol-buys",
        "table",
        "What the protocol buys",
        "The same runs read at the epoch that validation picks, that test picks, and at the last.",
        analyses.protocol_cells,
        analyses.protocol,
        source=_OURS,
    ),
    _artifact(
        "paper-or-released",
        "table",
        "Paper or released",
        "Masks, spatial loss and gradient noise: as printed or as released, 2 x 2 x 2.",
        rows.factor_cells,
        analyses.factors,
        source=_OURS,
    ),
    _artifact(
        "of-the-best-possible",
        "table",
        "Of the best possible",
        "Accuracy over the Bayes accuracy, per modality subset.",
        analyses.best_cells,
        analyses.of_the_best,
        source=_OURS,
        needs="twins",
    ),
    _table(
        "controls",
        "Controls",
        "Readings and controls that the paper does not have, at 0.5/0.7/0.3.",
        tables.CONTROLS,
        None,
    ),
    _table(
        "forms",
        "Forms of the backbones",
        "Official, released and other forms of each backbone, at 0.5/0.7/0.3.",
        tables.FORMS,
        None,
    ),
    _artifact(
        "theory",
        "table",
        "Supplement B, measured",
        "Each claim of the supplement beside what was measured.",
        _none,
        theory.theory,
        source="ours, on BALM supplement B",
        any_score=True,
    ),
    _artifact(
        "cost",
        "table",
        "What BALM costs",
        "Parameters and time of a training step over the bare backbone.",
        _none,
        analyses.cost,
        source=_OURS,
        any_score=True,
    ),
)

PAPER = Paper(
    "balm",
    "BALM",
    "BALM: balanced multimodal learning under imbalanced missing rates",
    "01_balm.ipynb",
    rows.ROLES,
    {"": Takes((VECTORS,))},
    rows.BACKBONES,
    ARTIFACTS,
    OBSTACLES,
    LEFT_OUT,
    GUESSES,
)
context = PAPER.context
