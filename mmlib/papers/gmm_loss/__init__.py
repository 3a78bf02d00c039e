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
        "What each part of the loss of Eq. 10 adds: accuracy (%).",
        tables.TABLE2,
        5,
    ),
    _declare.artifact(
        "fig3",
        "figure",
        "Fig 3",
        "Gaps and mixture after each round of adaptive training.",
        rows.our_main_cells,
        figures.each_round,
        4,
    ),
    _declare.table(
        "table3",
        "Table 3",
        "Optimizer, and its state where the adaptive phase starts: accuracy (%).",
        tables.TABLE3,
        4,
    ),
    _declare.artifact(
        "fig4",
        "figure",
        "Fig 4",
        "Unimodal and fused validation accuracy along training.",
        figures.along_cells,
        figures.along_training,
        3,
    ),
    _declare.claims(claims.CLAIMS),
    _declare.artifact(
        "planted",
        "table",
        "Planted truth",
        "The mixture's verdict against what was planted in each clip.",
        rows.our_cells,
        analyses.planted,
        source=OURS,
        needs="twins",
    ),
    _declare.artifact(
        "modes",
        "table",
        "Is the gap bimodal",
        "One, two and three Gaussians, and the dip test.",
        rows.our_cells,
        analyses.modes,
        source=OURS,
    ),
    _declare.artifact(
        "human-gap",
        "table",
        "The human modality gap",
        "What people (on twins: an observer) make of each modality alone, beside the model.",
        rows.our_main_cells,
        analyses.human_gap,
        source=OURS,
        needs=analyses.lacks_judges,
    ),
    _declare.table(
        "departures",
        "Departures",
        "Recommended readings beside what released codes do: accuracy (%).",
        tables.DEPARTURES,
        source=OURS,
    ),
    _declare.artifact(
        "tuning",
        "table",
        "Tuning",
        "Every method's trials on validation, and which the tables use.",
        rows.trial_cells,
        tables.tuning,
        source=OURS,
        needs="twins",
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
