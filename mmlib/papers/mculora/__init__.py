"""MCULoRA's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

from functools import partial

from mmlib.experiments import budgets
from mmlib.experiments.context import Paper
from mmlib.experiments.declare import OURS, Declare
from mmlib.experiments.takes import VECTORS, Takes
from mmlib.papers.mculora import analyses, claims, figures, rows, tables
from mmlib.papers.mculora.choices import GUESSES, OBSTACLES
from mmlib.report.artifact import Artifact

_declare = Declare("mculora", "MCULoRA")


ARTIFACTS: tuple[Artifact, ...] = (
    _declare.table(
        "table1",
        "Table 1",
        "Every combination of modalities at test, one model for all (%).",
        tables.TABLE1,
        10,
    ),
    _declare.table(
        "random",
        "Random missing",
        "One or two modalities missing in each test utterance (%).",
        tables.RANDOM_MISSING,
        source="MCULoRA supplement, not to be had",
    ),
    _declare.table("table2", "Table 2", "With and without MCLA and DPFT (%).", tables.TABLE2, 4),
    _declare.artifact(
        "fig3",
        "figure",
        "Fig 3",
        "Accuracy by the adapters' rank.",
        figures.rank_cells,
        figures.rank,
        2,
    ),
    _declare.artifact(
        "fig4",
        "figure",
        "Fig 4",
        "Test accuracy of every combination along training.",
        figures.along_cells,
        figures.along_training,
        7,
    ),
    _declare.artifact(
        "fig5",
        "figure",
        "Fig 5",
        "Test utterances that the method corrects most.",
        figures.case_cells,
        figures.cases,
    ),
    _declare.claims(claims.claim_cells, claims.claims),
    _declare.artifact(
        "cost",
        "table",
        "Cost",
        "What trains, what is frozen, and how long an epoch takes.",
        analyses.cost_cells,
        analyses.cost,
        source=OURS,
        any_score=True,
    ),
    _declare.table(
        "leak",
        "What the leak buys",
        "Rules for the shares by what they look at: mean accuracy (%).",
        tables.LEAK,
        any_score=False,
    ),
    _declare.artifact(
        "premise",
        "table",
        "Do gradients conflict",
        "Cosines between the combinations' gradients.",
        analyses.probed_cells,
        analyses.premise,
        source=OURS,
        any_score=True,
    ),
    _declare.artifact(
        "cosines",
        "table",
        "What L_ort moves",
        "The cosines that Eq. 3 names, along training.",
        analyses.probed_cells,
        analyses.angles,
        source=OURS,
        any_score=True,
    ),
    _declare.artifact(
        "shares",
        "table",
        "Shares",
        "How often each combination is trained, by rule.",
        analyses.shares_cells,
        analyses.shares,
        source=OURS,
    ),
    _declare.table(
        "departures",
        "Departures",
        "Readings and the released code: mean accuracy (%).",
        tables.DEPARTURES,
        any_score=False,
    ),
)

PAPER = Paper(
    "mculora",
    "MCULoRA",
    "MCULoRA: low-rank adaptation per modality combination",
    "04_mculora.ipynb",
    rows.ROLES,
    {"": Takes((VECTORS,))},
    ("crossmodal",),
    ARTIFACTS,
    OBSTACLES,
    guesses=GUESSES,
    only="crossmodal, into which adapters can be put",
    prepare=partial(budgets.prepared, words="of pre-training and as many of adaptation"),
)
context = PAPER.context
