"""BALM's artifacts: what the paper shows, and what it does not.

``ARTIFACTS`` in the paper's order; ``NEEDS`` names what an artifact cannot do without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from mmlib.papers.balm import figures, ours, supplement, tables
from mmlib.papers.balm.runs import ROLES, control_cells, factor_cells
from mmlib.papers.context import Cell, Context, make_context
from mmlib.report.artifact import Artifact, Output
from mmlib.runs.spec import RunSpec

__all__ = ["ARTIFACTS", "NEEDS", "ROLES", "context"]
PAPER = "balm"
TITLE = "BALM: balanced multimodal learning under imbalanced missing rates"


def context(profile: str = "quick", data: dict[str, str] | None = None, backbone: str = "mmgcn", label: str = "",
            seeds: int = 0) -> Context:
    """BALM's context: profile, data for the roles iemocap6 and mosei, backbone, collection label, seeds."""
    return make_context(PAPER, ROLES, profile_name=profile, data=data, backbone=backbone, label=label, seeds=seeds)


def _artifact(id_: str, kind: Literal["table", "figure"], title: str, caption: str,
              specs: Callable[[Context], Sequence[RunSpec]], draw: Callable[[Context], Output],
              rows: int | None, source: str) -> Artifact:
    return Artifact(id_, PAPER, kind, title, caption, specs, draw, rows, source)


def _table(id_: str, title: str, caption: str, cells: Callable[[Context], list[Cell]],
           draw: Callable[[Context], Output], rows: int | None, source: str = "") -> Artifact:
    return _artifact(id_, "table", title, caption, tables.specs_of(cells), draw, rows, source or f"BALM {title}")


def _none(_: Context) -> list[RunSpec]:
    return []


_T1, _T2 = tables.main_table("table1", "iemocap"), tables.main_table("table2", "mosei")
_SIX = "Six imbalanced missing rates (r_A/r_L/r_V): accuracy and weighted F1 (%), data in the role of"
_MSE = "KL replaced by a mean squared error (BALM-M), data in the role of"
_BOTH = ("iemocap", "mosei")
_T13 = tables.variants("table13", _BOTH, [("BALM-D", "d"), ("BALM-S", "s")])
_T14 = tables.variants("table14", ("iemocap",), [("BALM-M", "m")])
_T15 = tables.variants("table15", ("mosei",), [("BALM-M", "m")])
_FIG5 = figures.discrepancies(figures.main_variants)
_FIG8 = figures.discrepancies(figures.other_variants)

ARTIFACTS: tuple[Artifact, ...] = (
    _artifact("fig1", "figure", "Fig 1", "Realised missing rates of each modality under a shared rate of 0.5.",
              _none, figures.missing_rates, 3, "BALM Fig 1"),
    _table("table1", "Table 1", f"{_SIX} IEMOCAP.", *_T1, 13),
    _table("table2", "Table 2", f"{_SIX} CMU-MOSEI.", *_T2, 12),
    _table("table3", "Table 3", "Mean over the seven modality subsets, trained at 0.5/0.7/0.3, with and without FCM.",
           tables.fcm_cells, tables.subset_average, 2),
    _table("table4", "Table 4", "Severe missing rates: one modality at 0.9.", tables.severe_cells, tables.severe, 3),
    _artifact("fig5", "figure", "Fig 5", "Discrepancy of each modality along training: backbone, +FCM, +BALM.",
              *_FIG5, 6, "BALM Fig 5"),
    _table("table7", "Table 7", "Weighted F1 over tau and rho under two configurations.",
           tables.grid_cells, tables.grid_table, 10),
    _artifact("fig7", "figure", "Fig 7", "Sensitivity to tau and rho under two configurations.",
              tables.specs_of(tables.grid_cells), figures.sensitivity, 2, "BALM Fig 7"),
    _artifact("fig8-variants", "figure", "Fig 8 (variants)",
              "Discrepancy of each modality along training: distribution part alone, spatial part alone, both.",
              *_FIG8, 6, "BALM Fig 8 (first)"),
    _table("table10", "Table 10",
           "Each modality subset on complete test data, trained at 0.5/0.7/0.3, with and without FCM.",
           tables.fcm_cells, tables.subset_table, 2),
    _table("table13", "Table 13", "The two halves of the gradient rebalancing module apart.", *_T13, 2),
    _table("table14", "Table 14", f"{_MSE} IEMOCAP.", *_T14, 3),
    _table("table15", "Table 15", f"{_MSE} CMU-MOSEI.", *_T15, 3),
    _table("what-the-protocol-buys", "What the protocol buys",
           "The same runs read at the epoch that validation picks, that test picks, and at the last.",
           ours.protocol_cells, ours.protocol, None, "ours"),
    _table("paper-or-released", "Paper or released",
           "Masks, spatial loss and gradient noise: as printed or as released, 2 x 2 x 2.",
           lambda context: factor_cells(context, context.main), ours.factors, None, "ours"),
    _table("of-the-best-possible", "Of the best possible",
           "Accuracy over the Bayes accuracy, per modality subset.", ours.best_cells, ours.of_the_best, None, "ours"),
    _table("controls", "Controls", "Readings and controls that the paper does not have, at 0.5/0.7/0.3.",
           lambda context: control_cells(context, context.main), ours.controls, None, "ours"),
    _artifact("theory", "table", "Supplement B, measured", "Each claim of the supplement beside what was measured.",
              _none, supplement.theory, None, "ours, on BALM supplement B"),
    _artifact("cost", "table", "What BALM costs", "Parameters and time of a training step over the bare backbone.",
              _none, supplement.cost, None, "ours"),
)

NEEDS: dict[str, str] = {"table1": "iemocap", "table2": "mosei", "table14": "iemocap", "table15": "mosei",
                         "of-the-best-possible": "twins"}

