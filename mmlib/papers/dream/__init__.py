"""DREAM's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

from collections.abc import Callable

from mmlib.experiments import own
from mmlib.experiments.context import Context, Paper
from mmlib.experiments.declare import OURS, Declare, Later, no_runs
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes
from mmlib.papers.dream import claims, figures, rows, tables
from mmlib.papers.dream.choices import GUESSES, OBSTACLES
from mmlib.report.artifact import Artifact

_declare = Declare("dream", "DREAM")
_AFFECTED = "the share of affected utterances"


def _lost(
    text: str, frames: str, vectors: str = "the rate at which modalities are dropped"
) -> Callable[[Context], str]:
    """A caption with what is lost in the place of ``{}``: frames, or whole modalities of own vectors."""
    return lambda context: text.format(vectors if rows.own_vectors(context) else frames)


ARTIFACTS: tuple[Artifact, ...] = (
    _declare.table(
        "table1",
        "Table 1",
        own.measured("Modalities missing at test and dropped in training: {}.", "F1 (%)"),
        tables.TABLE1,
        8,
    ),
    _declare.artifact(
        "table2",
        "table",
        "Table 2",
        "Run time of training and test, and the part of it that P's predictions take.",
        tables.time_cells,
        Later("mmlib.papers.dream.cost", "times"),
        5,
        left_out=tables.times_left_out,
        any_score=True,
        varies=True,
    ),
    _declare.artifact(
        "table3",
        "table",
        "Table 3",
        "Number of trained parameters at the paper's network size.",
        no_runs,
        Later("mmlib.papers.dream.cost", "parameters"),
        3,
        any_score=True,
        needs=tables.lacks_counts,
    ),
    _declare.artifact(
        "fig3",
        "figure",
        "Fig 3",
        _lost("F1 against {} in training and test.", "the ratio of frames dropped"),
        figures.frame_cells,
        figures.frames,
        8,
    ),
    _declare.table(
        "fig3-rows",
        "Fig 3 as a table",
        _lost(
            "Fig 3 row by row: F1 against {} in training and test.", "the ratio of frames dropped"
        ),
        tables.LOSSY,
        source="DREAM Fig 3",
        any_score=False,
    ),
    _declare.artifact(
        "fig4",
        "figure",
        "Fig 4",
        _lost("Ablation of dynamic enhancement and of masked fusion: F1 against {}.", _AFFECTED),
        figures.ablation_cells,
        figures.ablation,
        3,
    ),
    _declare.artifact(
        "fig5",
        "figure",
        "Fig 5",
        _lost("Four pre-trained networks as P: F1 against {}.", _AFFECTED),
        figures.reference_cells,
        figures.references,
        4,
    ),
    _declare.main(tables.MAIN),
    _declare.claims(claims.CLAIMS),
    _declare.table(
        "complete-training",
        "Training on complete data",
        own.measured(
            "The other reading of Table 1: modalities are missing only at test (B14), {}.", "F1 (%)"
        ),
        tables.COMPLETE_TRAINING,
        source="ours, on DREAM Table 1",
    ),
    _declare.artifact(
        "enhanced",
        "table",
        "Number of enhanced modalities",
        "How often each number of modalities is enhanced, in training and on complete "
        "test data, and the accuracy for each.",
        tables.OWN.cells,
        Later("mmlib.papers.dream.analyses", "enhanced"),
        source=OURS,
        needs=tables.lacking,
    ),
    _declare.artifact(
        "detector",
        "table",
        "PSS = 0 as a detector",
        "How well a PSS of zero detects missing and useless modalities.",
        tables.looked_cells,
        Later("mmlib.papers.dream.analyses", "detector"),
        source=OURS,
        needs="twins",
    ),
    _declare.artifact(
        "values",
        "table",
        "What PSS and PAS measure",
        "Correlation of both scores with the true value of each modality.",
        tables.looked_cells,
        Later("mmlib.papers.dream.analyses", "values"),
        source=OURS,
        needs="twins",
    ),
    _declare.artifact(
        "monte-carlo",
        "table",
        "Sampled contributions",
        "Error of the PSS estimated from random orders, and cost of the exact value.",
        no_runs,
        Later("mmlib.papers.dream.sampling", "monte_carlo"),
        source=OURS,
        any_score=True,
        needs=own.about_the_paper("the sampling is measured with a network and inputs of its own"),
    ),
    _declare.artifact(
        "selection",
        "table",
        "Effect of selecting on test",
        "Results at the epoch chosen on validation, at the epoch chosen on test, and "
        "at the last epoch.",
        tables.OWN.cells,
        tables.selection,
        source=OURS,
    ),
    _declare.table(
        "departures",
        "Other readings",
        _lost(
            "Other readings of what the paper leaves open, with {}.",
            "the mix of missing modalities and frames of appendix A.4",
            f"each modality dropped at a rate of {rows.percent(rows.DEPARTING)}",
        ),
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
    carried=(tables.PREDICTIONS,),
    prepare=rows.prepared,
)
context = PAPER.context
