"""DREAM's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

from mmlib.experiments.context import Paper
from mmlib.experiments.declare import OURS, Declare, no_runs
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes
from mmlib.papers.dream import analyses, claims, cost, figures, rows, sampling, tables
from mmlib.papers.dream.choices import GUESSES, OBSTACLES
from mmlib.report.artifact import Artifact

_declare = Declare("dream", "DREAM")


ARTIFACTS: tuple[Artifact, ...] = (
    _declare.table(
        "table1",
        "Table 1",
        "Modalities missing at test and dropped in training: F1 (%).",
        tables.TABLE1,
        8,
    ),
    _declare.artifact(
        "table2",
        "table",
        "Table 2",
        "Run time, train and test apart, and what P's predictions cost in each.",
        cost.time_cells,
        cost.times,
        5,
        left_out=cost.times_left_out,
        any_score=True,
    ),
    _declare.artifact(
        "table3",
        "table",
        "Table 3",
        "Trained parameters at the paper's size.",
        no_runs,
        cost.parameters,
        3,
        any_score=True,
    ),
    _declare.artifact(
        "fig3",
        "figure",
        "Fig 3",
        "F1 by the ratio of frames dropped in training and test.",
        figures.frame_cells,
        figures.frames,
        8,
    ),
    _declare.artifact(
        "fig4",
        "figure",
        "Fig 4",
        "Without dynamic enhancement and without masked fusion, by the share affected.",
        figures.ablation_cells,
        figures.ablation,
        3,
    ),
    _declare.artifact(
        "fig5",
        "figure",
        "Fig 5",
        "With four pre-trained networks, by the share affected.",
        figures.reference_cells,
        figures.references,
        4,
    ),
    _declare.claims(claims.claim_cells, claims.claims),
    _declare.table(
        "complete-training",
        "Complete training",
        "Table 1's other reading: modalities are missing at test alone (B14), F1 (%).",
        tables.COMPLETE_TRAINING,
        source="ours, on DREAM Table 1",
    ),
    _declare.artifact(
        "enhanced",
        "table",
        "What is enhanced",
        "By how many modalities are enhanced: how often that is in training and in the complete test, "
        "and who is right.",
        tables.OWN.cells,
        analyses.enhanced,
        source=OURS,
        needs=analyses.lacking,
    ),
    _declare.artifact(
        "detector",
        "table",
        "Is PSS = 0 a good detector",
        "Of modalities that are missing, and of useless ones.",
        analyses.looked_cells,
        analyses.detector,
        source=OURS,
        needs="twins",
    ),
    _declare.artifact(
        "values",
        "table",
        "What PSS and PAS measure",
        "Against each modality's true value.",
        analyses.looked_cells,
        analyses.values,
        source=OURS,
        needs="twins",
    ),
    _declare.artifact(
        "monte-carlo",
        "table",
        "Sampled contributions",
        "How fast drawn orders approach PSS, and what all subsets cost.",
        no_runs,
        sampling.monte_carlo,
        source=OURS,
        any_score=True,
    ),
    _declare.artifact(
        "selection",
        "table",
        "What test selection buys",
        "The epoch chosen on validation, on test, or the last.",
        tables.OWN.cells,
        tables.selection,
        source=OURS,
    ),
    _declare.table(
        "departures",
        "Departures",
        "Readings of what the paper leaves open, under the mix of A.4.",
        tables.DEPARTURES,
    ),
)

PAPER = Paper(
    "dream",
    "DREAM",
    "DREAM: recognise what contributes nothing, and enhance it",
    "02_dream.ipynb",
    rows.ROLES,
    {"": Takes((VECTORS | SEQUENCES,))},
    ("dream",),
    ARTIFACTS,
    OBSTACLES,
    guesses=GUESSES,
    only="dream, the paper's own network",
    carried=(analyses.PREDICTIONS,),
    prepare=rows.prepared,
)
context = PAPER.context
