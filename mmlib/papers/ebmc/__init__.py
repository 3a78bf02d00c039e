"""EBMC's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

import dataclasses

from mmlib.experiments import budgets, own
from mmlib.experiments.context import Context, Paper
from mmlib.experiments.declare import OURS, Declare, Later, no_runs
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes
from mmlib.papers.ebmc import analyses, claims, figures, frames, rows, tables
from mmlib.papers.ebmc.choices import GUESSES, OBSTACLES
from mmlib.report.artifact import Artifact

_declare = Declare("ebmc", "EBMC")
_F1 = "weighted F1 (%)"


def prepared(context: Context) -> Context:
    """The context with the seeds that data with folds get, and with what captions say of the profile."""
    context = budgets.prepared(context, frames.STAGES, rows.FRAMES)
    caption = " ".join(filter(None, (context.profile.reduced, frames.reduced(context))))
    profile = dataclasses.replace(context.profile, reduced=caption)
    return dataclasses.replace(context, profile=profile)


ARTIFACTS: tuple[Artifact, ...] = (
    _declare.table(
        "table1",
        "Table 1",
        "Results with all modalities.",
        tables.TABLE1,
        11,
        needs=rows.lacks_vectors,
    ),
    _declare.table(
        "table2",
        "Table 2",
        lambda context: f"F1 of each {'class' if context.own else 'emotion'} (%).",
        tables.TABLE2,
        9,
        needs="iemocap",
        any_score=False,
    ),
    _declare.table(
        "table3",
        "Table 3",
        own.measured("{combinations} at test, one model for all: {}.", _F1),
        tables.TABLE3,
        9,
        needs=rows.lacks_vectors,
    ),
    _declare.table(
        "table4",
        "Table 4",
        "Ablation of the four parts.",
        tables.TABLE4,
        5,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "table5",
        "table",
        "Table 5",
        "Results with frames dropped at test: mean over ten rates.",
        frames.TABLE5.cells,
        frames.table,
        9,
        left_out=frames.TABLE5.left_out,
        needs=rows.lacks_frames,
        any_score=True,
    ),
    _declare.artifact(
        "table6",
        "table",
        "Table 6",
        "Cost: parameters and time.",
        analyses.cost_cells,
        analyses.cost,
        5,
        left_out=analyses.cost_left_out,
        any_score=True,
        needs=own.about_the_paper(
            "it counts the parameters of networks for the paper's features", rows.lacks_vectors
        ),
    ),
    _declare.table(
        "table7",
        "Table 7",
        "Ablation of the terms of the energy.",
        tables.TABLE7,
        4,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "fig3",
        "figure",
        "Fig 3",
        "t-SNE of the features used for prediction, with and without MSD and CCE.",
        figures.tsne_cells,
        figures.tsne,
        3,
        needs=rows.lacks_vectors,
        varies=True,
    ),
    _declare.artifact(
        "fig4",
        "figure",
        "Fig 4",
        "Contribution of each modality, with and without EMC.",
        figures.contributions_cells,
        figures.contribution,
        3,
        needs=rows.lacks_combinations,
    ),
    _declare.artifact(
        "fig5",
        "figure",
        "Fig 5",
        "Test utterances that the method classifies correctly and the baseline does not.",
        figures.case_cells,
        figures.cases,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "fig6",
        "figure",
        "Fig 6",
        "Sensitivity to the four weights of the total loss.",
        figures.weight_cells,
        figures.weights,
        4,
        needs=rows.lacks_vectors,
    ),
    *(
        _declare.artifact(
            f"fig{number}",
            "figure",
            f"Fig {number}",
            "Results against the share of frames dropped at test.",
            frames.cells_on(dataset),
            frames.curves,
            9,
            needs=dataset,
        )
        for number, dataset in zip((7, 8), rows.FRAMES, strict=True)
    ),
    _declare.table(
        "rates",
        "Figs 7 and 8 as a table",
        "Figs 7 and 8 row by row: weighted F1 against the share of frames dropped at test.",
        frames.BY_RATE,
        source="EBMC Figs 7 and 8",
        needs=rows.lacks_frames,
    ),
    _declare.main(tables.MAIN, needs=rows.lacks_vectors),
    _declare.claims(claims.CLAIMS),
    _declare.table(
        "missing-parts",
        "Ablation with missing modalities",
        own.measured(
            "The rows of Table 4 with missing modalities, one model for all conditions: {}.", _F1
        ),
        tables.MISSING_PARTS,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "balance",
        "table",
        "Effect of EMC on the balance",
        "Energy and unimodal accuracy of each modality during training.",
        analyses.balance_cells,
        analyses.balance,
        source=OURS,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "theory",
        "table",
        "The appendix, measured",
        "Statements of appendix B, tested on a small energy landscape.",
        no_runs,
        Later("mmlib.papers.ebmc.appendix", "theory"),
        source=OURS,
        any_score=True,
        needs=own.about_the_paper(
            "the appendix is measured on an energy landscape of its own", rows.lacks_vectors
        ),
    ),
    _declare.artifact(
        "protocol",
        "table",
        "Effect of one model per condition",
        "One model for all test conditions against one model per condition, the "
        "released protocol of Table 3 (E2).",
        tables.protocol_cells,
        tables.protocol,
        source=OURS,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "selection",
        "table",
        "Effect of selecting on test",
        "Results at the epoch chosen on validation, at the epoch chosen on test (E1), "
        "and at the last epoch.",
        tables.selection_cells,
        tables.selection,
        source=OURS,
        needs=rows.lacks_vectors,
    ),
    _declare.table(
        "departures",
        "Other readings and released components",
        "Other readings of the paper, and the components of the released code, with "
        "all modalities.",
        tables.DEPARTURES,
        needs=rows.lacks_vectors,
    ),
)

PAPER = Paper(
    "ebmc",
    "EBMC",
    "EBMC: enhance, then balance",
    "03_ebmc.ipynb",
    rows.ROLES,
    {"": Takes((VECTORS,)), **dict.fromkeys(rows.FRAMES, Takes((SEQUENCES,)))},
    ("momke",),
    ARTIFACTS,
    OBSTACLES,
    guesses=GUESSES,
    only="momke, whose experts the two stages train",
    prepare=prepared,
)
context = PAPER.context
