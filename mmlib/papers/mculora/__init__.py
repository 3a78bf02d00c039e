"""MCULoRA's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

from functools import partial
from typing import Any

from mmlib.experiments import budgets
from mmlib.experiments.context import Paper
from mmlib.experiments.tables import Table
from mmlib.experiments.takes import VECTORS, Takes
from mmlib.papers.mculora import analyses, claims, figures, rows, tables
from mmlib.papers.mculora.choices import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.report.artifact import Artifact, declare

_artifact = declare("mculora", "MCULoRA")
_OURS = "ours"


def _table(id_: str, title: str, caption: str, table: Table, *other: Any, **more: Any) -> Artifact:
    return _artifact(id_, "table", title, caption, table.cells, table.draw, *other, **more)


ARTIFACTS: tuple[Artifact, ...] = (
    _table(
        "table1",
        "Table 1",
        "Every combination of modalities at test, one model for all (%).",
        tables.TABLE1,
        10,
        any_score=True,
    ),
    _table(
        "random",
        "Random missing",
        "One or two modalities missing in each test utterance (%).",
        tables.RANDOM_MISSING,
        source="MCULoRA supplement, not to be had",
        any_score=True,
    ),
    _table(
        "table2", "Table 2", "With and without MCLA and DPFT (%).", tables.TABLE2, 4, any_score=True
    ),
    _artifact(
        "fig3",
        "figure",
        "Fig 3",
        "Accuracy by the adapters' rank.",
        figures.rank_cells,
        figures.rank,
        2,
    ),
    _artifact(
        "fig4",
        "figure",
        "Fig 4",
        "Test accuracy of every combination along training.",
        figures.along_cells,
        figures.along_training,
        7,
    ),
    _artifact(
        "fig5",
        "figure",
        "Fig 5",
        "Test utterances that the method corrects most.",
        figures.case_cells,
        figures.cases,
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
        "cost",
        "table",
        "Cost",
        "What trains, what is frozen, and how long an epoch takes.",
        analyses.cost_cells,
        analyses.cost,
        source=_OURS,
        any_score=True,
    ),
    _table(
        "leak",
        "What the leak buys",
        "Rules for the shares by what they look at: mean accuracy (%).",
        tables.LEAK,
        source=_OURS,
    ),
    _artifact(
        "premise",
        "table",
        "Do gradients conflict",
        "Cosines between the combinations' gradients.",
        analyses.probed_cells,
        analyses.premise,
        source=_OURS,
        any_score=True,
    ),
    _artifact(
        "cosines",
        "table",
        "What L_ort moves",
        "The cosines that Eq. 3 names, along training.",
        analyses.probed_cells,
        analyses.angles,
        source=_OURS,
        any_score=True,
    ),
    _artifact(
        "shares",
        "table",
        "Shares",
        "How often each combination is trained, by rule.",
        analyses.shares_cells,
        analyses.shares,
        source=_OURS,
    ),
    _table(
        "departures",
        "Departures",
        "Readings and the released code: mean accuracy (%).",
        tables.DEPARTURES,
        source=_OURS,
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
    LEFT_OUT,
    GUESSES,
    only="crossmodal, into which adapters can be put",
    prepare=partial(budgets.prepared, words="of pre-training and as many of adaptation"),
)
context = PAPER.context
