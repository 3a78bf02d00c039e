"""MCULoRA's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

from functools import partial

from mmlib.experiments import budgets, own
from mmlib.experiments.context import Context, Paper
from mmlib.experiments.declare import OURS, Declare
from mmlib.experiments.takes import VECTORS, Takes
from mmlib.papers.mculora import analyses, claims, figures, rows, tables
from mmlib.papers.mculora.choices import GUESSES, OBSTACLES
from mmlib.report.artifact import Artifact

_declare = Declare("mculora", "MCULoRA")


def _random_missing(context: Context) -> str:
    bundle = context.bundle(context.main)
    pair = context.own and len(bundle.modalities) == 2
    missing = "One modality" if pair else "One or two modalities"
    besides = "" if bundle.observed.all() else ", besides what the data lack"
    return f"{missing} missing in each test utterance{besides} ({own.metrics(context, '%')})."


ARTIFACTS: tuple[Artifact, ...] = (
    _declare.table(
        "table1",
        "Table 1",
        own.measured("{combinations} at test, one model for all ({}).", "%"),
        tables.TABLE1,
        10,
    ),
    _declare.table(
        "random",
        "Random missing",
        _random_missing,
        tables.RANDOM_MISSING,
        source="MCULoRA supplement, not available",
    ),
    _declare.table(
        "two-modalities",
        "Two modalities",
        "MCULoRA and its baselines on data with two modalities, not in the paper (%).",
        tables.PAIR,
        needs=rows.PAIR,
    ),
    _declare.table(
        "table2", "Table 2", own.measured("Ablation of MCLA and DPFT ({}).", "%"), tables.TABLE2, 4
    ),
    _declare.artifact(
        "fig3",
        "figure",
        "Fig 3",
        "Accuracy against the rank of the adapters.",
        figures.rank_cells,
        figures.rank,
        2,
    ),
    _declare.artifact(
        "fig4",
        "figure",
        "Fig 4",
        lambda context: f"Test accuracy of {own.combinations(context)} during training.",
        figures.along_cells,
        figures.along_training,
        7,
    ),
    _declare.artifact(
        "fig5",
        "figure",
        "Fig 5",
        "Test utterances that the method classifies correctly and the baseline does not.",
        figures.case_cells,
        figures.cases,
    ),
    _declare.main(tables.MAIN),
    _declare.claims(claims.CLAIMS),
    _declare.artifact(
        "cost",
        "table",
        "Cost",
        "Trained and frozen parameters, and time per epoch.",
        analyses.cost_cells,
        analyses.cost,
        source=OURS,
        any_score=True,
    ),
    _declare.table(
        "leak",
        "Effect of training on test data",
        "Mean accuracy (%) of the rules for the training shares, by the split that they use.",
        tables.LEAK,
        any_score=False,
    ),
    _declare.artifact(
        "premise",
        "table",
        "Conflict between gradients",
        "Cosines between the gradients of the combinations.",
        analyses.probed_cells,
        analyses.premise,
        source=OURS,
        needs=analyses.lacks_room,
        any_score=True,
    ),
    _declare.artifact(
        "cosines",
        "table",
        "Effect of L_ort",
        "The cosines of Eq. 3 during training.",
        analyses.probed_cells,
        analyses.angles,
        source=OURS,
        any_score=True,
    ),
    _declare.artifact(
        "shares",
        "table",
        "Training shares",
        "How often each rule trains each combination.",
        analyses.shares_cells,
        analyses.shares,
        source=OURS,
        needs=analyses.lacks_room,
    ),
    _declare.table(
        "departures",
        "Other readings and released code",
        "Other readings of the paper, and the released code: mean accuracy (%).",
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
    only_real=(rows.PAIR,),  # its twin has pictures
    only="crossmodal, into which adapters can be put",
    prepare=partial(budgets.prepared, words="of pre-training and as many of adaptation"),
)
context = PAPER.context
