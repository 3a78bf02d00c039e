"""DREAM's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

from typing import Any

from mmlib.experiments.context import Context, Paper
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes
from mmlib.papers.dream import analyses, claims, cost, figures, rows, sampling, tables
from mmlib.papers.dream.choices import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.report.artifact import Artifact, declare

_artifact = declare("dream", "DREAM")


def _none(context: Context) -> list[Any]:
    return []


ARTIFACTS: tuple[Artifact, ...] = (
    _artifact(
        "table1",
        "table",
        "Table 1",
        "Modalities missing at test and dropped in training: F1 (%).",
        tables.TABLE1.cells,
        tables.TABLE1.draw,
        8,
        any_score=True,
    ),
    _artifact(
        "table2",
        "table",
        "Table 2",
        "Run time, train and test apart, and what P's predictions cost in each.",
        cost.time_cells,
        cost.times,
        5,
        any_score=True,
    ),
    _artifact(
        "table3",
        "table",
        "Table 3",
        "Trained parameters at the paper's size.",
        _none,
        cost.parameters,
        3,
        any_score=True,
    ),
    _artifact(
        "fig3",
        "figure",
        "Fig 3",
        "F1 by the ratio of frames dropped in training and test.",
        figures.frame_cells,
        figures.frames,
        8,
    ),
    _artifact(
        "fig4",
        "figure",
        "Fig 4",
        "Without dynamic enhancement and without masked fusion, by the share affected.",
        figures.ablation_cells,
        figures.ablation,
        3,
    ),
    _artifact(
        "fig5",
        "figure",
        "Fig 5",
        "With four pre-trained networks, by the share affected.",
        figures.reference_cells,
        figures.references,
        4,
    ),
    _artifact(
        "claims",
        "table",
        "Claims",
        "The paper's sentences, each with its test and what was measured.",
        claims.claim_cells,
        claims.claims,
        source="ours, on the paper's text",
    ),
    _artifact(
        "complete-training",
        "table",
        "Complete training",
        "Table 1's other reading: modalities are missing at test alone (B14), F1 (%).",
        tables.COMPLETE_TRAINING.cells,
        tables.COMPLETE_TRAINING.draw,
        source="ours, on DREAM Table 1",
        any_score=True,
    ),
    _artifact(
        "enhanced",
        "table",
        "What is enhanced",
        "By how many modalities are enhanced: how often that is in training and in the complete test, "
        "and who is right.",
        tables.TABLE1.cells,
        analyses.enhanced,
        source="ours",
        needs=analyses.lacking,
    ),
    _artifact(
        "detector",
        "table",
        "Is PSS = 0 a good detector",
        "Of modalities that are missing, and of useless ones.",
        analyses.looked_cells,
        analyses.detector,
        source="ours",
        needs="twins",
    ),
    _artifact(
        "values",
        "table",
        "What PSS and PAS measure",
        "Against each modality's true value.",
        analyses.looked_cells,
        analyses.values,
        source="ours",
        needs="twins",
    ),
    _artifact(
        "monte-carlo",
        "table",
        "Sampled contributions",
        "How fast drawn orders approach PSS, and what all subsets cost.",
        _none,
        sampling.monte_carlo,
        source="ours",
        any_score=True,
    ),
    _artifact(
        "selection",
        "table",
        "What test selection buys",
        "The epoch chosen on validation, on test, or the last.",
        tables.TABLE1.cells,
        tables.selection,
        source="ours",
    ),
    _artifact(
        "departures",
        "table",
        "Departures",
        "Readings of what the paper leaves open, under the mix of A.4.",
        tables.DEPARTURES.cells,
        tables.DEPARTURES.draw,
        source="ours",
        any_score=True,
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
    LEFT_OUT,
    GUESSES,
    only="dream, the paper's own network",
    carried=(analyses.PREDICTIONS,),
    prepare=rows.prepared,
)
context = PAPER.context
