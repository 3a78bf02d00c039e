"""The GMM-loss paper's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

from mmlib.experiments.context import Paper
from mmlib.experiments.declare import OURS, Declare
from mmlib.experiments.takes import PICTURES, VECTORS, Takes
from mmlib.papers.gmm_loss import analyses, claims, figures, rows, tables
from mmlib.papers.gmm_loss.choices import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.report.artifact import Artifact

_declare = Declare("gmm_loss", "GMM-loss")

ARTIFACTS: tuple[Artifact, ...] = (
    _declare.table(
        "table1",
        "Table 1",
        "Accuracy (%) of the baselines and of the adaptive loss.",
        tables.TABLE1,
        10,
    ),
    _declare.artifact(
        "fig2",
        "figure",
        "Fig 2",
        "The mixture fitted to the training set's modality gaps after the warm-up.",
        rows.our_cells,
        figures.after_warmup,
        2,
    ),
    _declare.table(
        "table2",
        "Table 2",
        "Ablation of the loss of Eq. 10: accuracy (%).",
        tables.TABLE2,
        5,
    ),
    _declare.artifact(
        "fig3",
        "figure",
        "Fig 3",
        "Modality gaps and mixture after each round of adaptive training.",
        rows.our_main_cells,
        figures.each_round,
        4,
    ),
    _declare.table(
        "table3",
        "Table 3",
        "Optimizers, and reset or kept optimizer state at the start of the adaptive "
        "phase: accuracy (%).",
        tables.TABLE3,
        4,
    ),
    _declare.artifact(
        "fig4",
        "figure",
        "Fig 4",
        "Unimodal and fused validation accuracy during training.",
        figures.along_cells,
        figures.along_training,
        3,
    ),
    _declare.main(tables.MAIN),
    _declare.claims(claims.CLAIMS),
    _declare.artifact(
        "planted",
        "table",
        "Detection of imbalanced clips",
        "Decisions of the mixture compared with the known truth of each synthetic clip.",
        analyses.planted_cells,
        analyses.planted,
        source=OURS,
        needs=analyses.lacks_planted,
    ),
    _declare.artifact(
        "modes",
        "table",
        "Bimodality of the gap",
        "Fit of one, two and three Gaussians, and the dip test for two modes.",
        rows.our_cells,
        analyses.modes,
        source=OURS,
    ),
    _declare.artifact(
        "human-gap",
        "table",
        "The human modality gap",
        "Modality gap of human raters (on twins: of an ideal observer), compared with the model's.",
        rows.our_main_cells,
        analyses.human_gap,
        source=OURS,
        needs=analyses.lacks_judges,
    ),
    _declare.table(
        "departures",
        "Readings and released code",
        "The recommended reading of each method compared with its released code: accuracy (%).",
        tables.DEPARTURES,
        source=OURS,
    ),
    _declare.table(
        "beyond",
        "Further methods for imbalance",
        "Methods for imbalance that the paper does not compare with, and their controls: "
        "accuracy (%).",
        tables.BEYOND,
        source=OURS,
    ),
    _declare.artifact(
        "tuning",
        "table",
        "Hyperparameter tuning",
        "Trials of every method on validation, and the values that the tables use.",
        rows.trial_cells,
        tables.tuning,
        source=OURS,
        needs=tables.lacks_trials,
        on_request=True,
    ),
)

PAPER = Paper(
    "gmm_loss",
    "GMM-loss",
    "GMM-loss: a Gaussian mixture over the modality gap drives the loss",
    "05_gmm_loss.ipynb",
    rows.ROLES,
    {"": Takes((VECTORS, PICTURES), most=2, tasks=("classes",))},
    ("concat",),
    ARTIFACTS,
    OBSTACLES,
    LEFT_OUT,
    GUESSES,
    only="concat, whose logits split by modality",
    prepare=rows.prepared,
)
context = PAPER.context
