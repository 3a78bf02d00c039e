"""EBMC's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

import dataclasses

from mmlib.experiments import budgets
from mmlib.experiments.context import Context, Paper
from mmlib.experiments.declare import OURS, Declare, no_runs
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes
from mmlib.papers.ebmc import analyses, appendix, claims, figures, frames, rows, tables
from mmlib.papers.ebmc.choices import GUESSES, OBSTACLES
from mmlib.report.artifact import Artifact

_declare = Declare("ebmc", "EBMC")


def prepared(context: Context) -> Context:
    """The context with the seeds that data with folds get, and with what captions say of the profile."""
    context = budgets.prepared(context, frames.STAGES, rows.FRAMES)
    caption = " ".join(filter(None, (context.profile.reduced, frames.reduced(context))))
    profile = dataclasses.replace(context.profile, reduced=caption)
    return dataclasses.replace(context, profile=profile)


ARTIFACTS: tuple[Artifact, ...] = (
    _declare.table(
        "table1", "Table 1", "All modalities.", tables.TABLE1, 11, needs=rows.lacks_vectors
    ),
    _declare.table(
        "table2",
        "Table 2",
        "F1 of each emotion (%).",
        tables.TABLE2,
        9,
        needs="iemocap",
        any_score=False,
    ),
    _declare.table(
        "table3",
        "Table 3",
        "Every combination of modalities at test, one model for all: weighted F1 (%).",
        tables.TABLE3,
        9,
        needs=rows.lacks_vectors,
    ),
    _declare.table(
        "table4",
        "Table 4",
        "Without each of the four parts.",
        tables.TABLE4,
        5,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "table5",
        "table",
        "Table 5",
        "Frames dropped at test: mean over ten rates.",
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
        "What it costs: parameters and time.",
        analyses.cost_cells,
        analyses.cost,
        5,
        left_out=analyses.cost_left_out,
        any_score=True,
        needs=rows.lacks_vectors,
    ),
    _declare.table(
        "table7",
        "Table 7",
        "Without each term of the energy.",
        tables.TABLE7,
        4,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "fig3",
        "figure",
        "Fig 3",
        "What the prediction reads, with and without MSD and CCE (t-SNE).",
        figures.tsne_cells,
        figures.tsne,
        3,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "fig4",
        "figure",
        "Fig 4",
        "What each modality contributes, with and without EMC.",
        figures.contributions_cells,
        figures.contribution,
        3,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "fig5",
        "figure",
        "Fig 5",
        "Test utterances that the method corrects most.",
        figures.case_cells,
        figures.cases,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "fig6",
        "figure",
        "Fig 6",
        "The four weights of the total loss.",
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
            "Results by the share of frames dropped at test.",
            frames.cells_on(dataset),
            frames.curves,
            9,
            needs=dataset,
        )
        for number, dataset in zip((7, 8), rows.FRAMES, strict=True)
    ),
    _declare.claims(claims.claim_cells, claims.claims),
    _declare.table(
        "missing-parts",
        "The parts where modalities are missing",
        "Table 4's rows, one model for all: weighted F1 (%).",
        tables.MISSING_PARTS,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "balance",
        "table",
        "Does EMC balance anything",
        "Energies and own accuracy along training.",
        analyses.balance_cells,
        analyses.balance,
        source=OURS,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "theory",
        "table",
        "The appendix, measured",
        "Appendix B on a small energy landscape.",
        no_runs,
        appendix.theory,
        source=OURS,
        any_score=True,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "protocol",
        "table",
        "What a model per condition buys",
        "The two protocols of Table 3 (E2).",
        tables.protocol_cells,
        tables.protocol,
        source=OURS,
        needs=rows.lacks_vectors,
    ),
    _declare.artifact(
        "selection",
        "table",
        "What test selection buys",
        "The epoch chosen on validation, on test, or the last (E1).",
        tables.selection_cells,
        tables.selection,
        source=OURS,
        needs=rows.lacks_vectors,
    ),
    _declare.table(
        "departures",
        "Departures",
        "Readings and released components (all modalities).",
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
