"""BALM's artifacts: what the paper shows, and what it does not.

``ARTIFACTS`` in the paper's order; ``NEEDS`` names what an artifact cannot do without.
"""

from __future__ import annotations

from collections.abc import Callable

from mmlib.errors import unknown_name
from mmlib.experiments.context import Cell, Context, make_context
from mmlib.experiments.takes import VECTORS, Takes
from mmlib.papers.balm import claims, figures, ours, pictures, supplement, tables
from mmlib.papers.balm.obstacles import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.papers.balm.runs import BACKBONES, NAMES, ROLES, SETTINGS, combination_cells, factor_cells
from mmlib.papers.balm.runs import label as setting_label
from mmlib.report.artifact import Artifact, declare
from mmlib.runs.spec import RunSpec

__all__ = ["ANY_SCORE", "ARTIFACTS", "GUESSES", "LEFT_OUT", "NEEDS", "OBSTACLES", "ROLES", "TITLE", "context"]
PAPER = "balm"
TITLE = "BALM: balanced multimodal learning under imbalanced missing rates"
ACCEPTS = {"": Takes((VECTORS,))}
_artifact = declare(PAPER)


def context(profile: str = "quick", data: dict[str, str] | None = None, backbone: str = "", label: str = "",
            seeds: int = 0) -> Context:
    """BALM's context: profile, data for the roles iemocap6 and mosei, backbones, collection label, seeds.

    backbone: names with commas between, the main one first; all three where empty.

    Raises:
        InputError: a backbone that is none of the three.
        DataRefused: other data than two or more modalities, a vector for each utterance.
    """
    chosen = tuple(backbone.split(",")) if backbone else BACKBONES
    for name in chosen:
        if name not in BACKBONES:
            raise unknown_name("--backbone of balm", name, BACKBONES)
    return make_context(PAPER, ROLES, profile_name=profile, data=data, backbones=chosen, label=label, seeds=seeds,
                        accepts=ACCEPTS)


def _table(id_: str, title: str, caption: str, cells: tables.Cells, draw: tables.Draw, rows: int | None,
           source: str = "") -> Artifact:
    return _artifact(id_, "table", title, caption, tables.specs_of(cells), draw, rows, source)


def _figure(id_: str, title: str, caption: str, cells: tables.Cells, draw: tables.Draw, rows: int) -> Artifact:
    return _artifact(id_, "figure", title, caption, tables.specs_of(cells), draw, rows)


def _everywhere(cells: Callable[[Context, str], list[Cell]]) -> tables.Cells:
    """The cells of every data set."""
    return lambda context: [cell for dataset in context.datasets for cell in cells(context, dataset)]


def _none(_: Context) -> list[RunSpec]:
    return []


def _along_training() -> list[Artifact]:
    """Figs 11 to 22: six settings, two backbones."""
    found = []
    for number, (backbone, rates) in enumerate(((b, r) for b in ("mmgcn", "mmdfn") for r in SETTINGS), start=11):
        specs, draw = figures.discrepancies(figures.with_and_without, rates, backbone,
                                            (figures.COSINE, figures.KL, figures.NORM), grid=True)
        caption = (f"Discrepancy of each modality along training at {setting_label(rates)}: {NAMES[backbone]} with and "
                   "without BALM; gradient norms are ours.")
        found.append(_artifact(f"fig{number}", "figure", f"Fig {number}", caption, specs, draw, 4))
    return found


_T1, _T2 = tables.main_table("table1", "iemocap"), tables.main_table("table2", "mosei")
_SIX = "Six imbalanced missing rates (r_A/r_L/r_V): accuracy and weighted F1 (%), data in the role of"
_ONE = "One missing rate for all modalities: accuracy and weighted F1 (%), data in the role of"
_MSE = "KL replaced by a mean squared error (BALM-M), data in the role of"
_SOME = "Training and test with some modalities alone, at six missing rates:"
_TSNE = "t-SNE with and without BALM at 0.5/0.7/0.3:"
_BOTH = ("iemocap", "mosei")
_T13 = tables.variants("table13", _BOTH, [("BALM-D", "d"), ("BALM-S", "s")], every_backbone=False)
_T14 = tables.variants("table14", ("iemocap",), [("BALM-M", "m")], every_backbone=True)
_T15 = tables.variants("table15", ("mosei",), [("BALM-M", "m")], every_backbone=True)
_FIG5 = figures.discrepancies(figures.main_variants)
_FIG8 = figures.discrepancies(figures.other_variants)
_IN, _Z, _H = (pictures.embeddings(part) for part in ("input", "z", "hidden"))

ARTIFACTS: tuple[Artifact, ...] = (
    _artifact("fig1", "figure", "Fig 1", "Realised missing rates of each modality under a shared rate of 0.5.",
              _none, figures.missing_rates, 3),
    _figure("fig2", "Fig 2", "Accuracy under a shared rate of 0.5 and under imbalanced rates of the same mean.",
            pictures.fig2_cells, pictures.shared_against_imbalanced, 6),
    _table("table1", "Table 1", f"{_SIX} IEMOCAP.", *_T1, 13),
    _table("table2", "Table 2", f"{_SIX} CMU-MOSEI.", *_T2, 12),
    _table("table3", "Table 3", "Mean over the seven modality subsets, trained at 0.5/0.7/0.3, with and without FCM.",
           _everywhere(tables.fcm_cells), tables.subset_average, 2),
    _table("table4", "Table 4", "Severe missing rates: one modality at 0.9.", _everywhere(tables.severe_cells),
           tables.severe, 3),
    _figure("fig4", "Fig 4", "Weighted F1 against the shared missing rate.", pictures.fig4_cells,
            pictures.shared_rates, 5),
    _artifact("fig5", "figure", "Fig 5", "Discrepancy of each modality along training: backbone, +FCM, +BALM.",
              *_FIG5, 6),
    _figure("fig6", "Fig 6", "What BALM adds for each combination of modalities.",
            lambda context: combination_cells(context, "iemocap"), pictures.combination_gains, 2),
    _table("table7", "Table 7", "Weighted F1 over tau and rho under two configurations.",
           tables.grid_cells, tables.grid_table, 10),
    _figure("fig7", "Fig 7", "Sensitivity to tau and rho under two configurations.", tables.grid_cells,
            figures.sensitivity, 2),
    _artifact("fig8-variants", "figure", "Fig 8 (variants)",
              "Discrepancy of each modality along training: distribution part alone, spatial part alone, both.",
              *_FIG8, 6, "BALM Fig 8 (first)"),
    _table("table8", "Table 8", f"{_SOME} accuracy (%).", *tables.combinations("table8", "accuracy"), 3),
    _table("table9", "Table 9", f"{_SOME} weighted F1 (%).", *tables.combinations("table9", "weighted_f1"), 3),
    _artifact("fig8-tsne", "figure", "Fig 8 (t-SNE)", f"{_TSNE} what the backbone is given.", *_IN, 6,
              "BALM Fig 8 (second)"),
    _artifact("fig9", "figure", "Fig 9", f"{_TSNE} the embeddings z.", *_Z, 6),
    _artifact("fig10", "figure", "Fig 10", f"{_TSNE} the fused representation h.", *_H, 2),
    _table("table10", "Table 10",
           "Each modality subset on complete test data, trained at 0.5/0.7/0.3, with and without FCM.",
           _everywhere(tables.fcm_cells), tables.subset_table, 2),
    _table("table11", "Table 11", f"{_ONE} IEMOCAP.", *tables.shared_table("table11", "iemocap"), 5),
    _table("table12", "Table 12", f"{_ONE} CMU-MOSEI.", *tables.shared_table("table12", "mosei"), 5),
    _table("table13", "Table 13", "The two halves of the gradient rebalancing module apart.", *_T13, 2),
    _table("table14", "Table 14", f"{_MSE} IEMOCAP.", *_T14, 3),
    _table("table15", "Table 15", f"{_MSE} CMU-MOSEI.", *_T15, 3),
    *_along_training(),
    _artifact("claims", "table", "Claims", "The paper's sentences, each with its test and what was measured.",
              claims.claim_specs, claims.claims, None, "ours, on BALM's text"),
    _table("what-the-protocol-buys", "What the protocol buys",
           "The same runs read at the epoch that validation picks, that test picks, and at the last.",
           ours.protocol_cells, ours.protocol, None, "ours"),
    _table("paper-or-released", "Paper or released",
           "Masks, spatial loss and gradient noise: as printed or as released, 2 x 2 x 2.",
           lambda context: factor_cells(context, context.main), ours.factors, None, "ours"),
    _table("of-the-best-possible", "Of the best possible",
           "Accuracy over the Bayes accuracy, per modality subset.", ours.best_cells, ours.of_the_best, None, "ours"),
    _table("controls", "Controls", "Readings and controls that the paper does not have, at 0.5/0.7/0.3.",
           ours.control_cells, ours.controls, None, "ours"),
    _table("forms", "Forms of the backbones", "Official, released and other forms of each backbone, at 0.5/0.7/0.3.",
           ours.form_cells, ours.forms, None, "ours"),
    _artifact("theory", "table", "Supplement B, measured", "Each claim of the supplement beside what was measured.",
              _none, supplement.theory, None, "ours, on BALM supplement B"),
    _artifact("cost", "table", "What BALM costs", "Parameters and time of a training step over the bare backbone.",
              _none, supplement.cost, None, "ours"),
)

NEEDS: dict[str, str] = {**dict.fromkeys(("table1", "table8", "table9", "fig6", "table11", "table14"), "iemocap"),
                         **dict.fromkeys(("table2", "table12", "table15"), "mosei"), "of-the-best-possible": "twins"}

# Show whatever metrics there are, or none: scores without a sign have MAE and correlation alone.
ANY_SCORE = frozenset((
    *(f"table{n}" for n in (1, 2, 3, 4, 10, 11, 12, 13, 14, 15)), "fig5", "fig8-variants",
    *(f"fig{n}" for n in range(11, 23)), "controls", "forms", "cost", "theory"))
