"""Side by side: the methods and the networks under them, on the same data, the same masks and the same budget.

No paper has printed it. ``grounds.py`` says on what they are compared and ``rows.py`` which runs are needed;
``tables.py`` and ``figures.py`` draw them.
"""

from __future__ import annotations

from typing import Any, Literal

from mmlib.experiments.context import Paper
from mmlib.experiments.declare import OURS, Declare
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes
from mmlib.papers.side_by_side import figures, grounds, rows, tables, tuning
from mmlib.papers.side_by_side.choices import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.report.artifact import Artifact

NAME, CALLED = "side_by_side", "Side by side"
NETWORKS = ("mmgcn", "dream", "momke", "crossmodal", "concat", "momke_frames")
_declare = Declare(NAME, CALLED)


def _artifact(
    id_: str, kind: Literal["table", "figure"], title: str, caption: str, draw: Any, **other: Any
) -> Artifact:
    """An artifact of all runs, unless ``cells`` says of which; no paper has it."""
    cells = other.pop("cells", rows.all_cells)
    return _declare.artifact(id_, kind, title, caption, cells, draw, source=OURS, **other)


def _grid(id_: str, title: str, caption: str, choose: figures.Choose, lacking: str) -> Artifact:
    cells, needs = figures.cells_on(choose), figures.lacks(choose, lacking)
    return _artifact(id_, "figure", title, caption, figures.grid, cells=cells, needs=needs)


ARTIFACTS: tuple[Artifact, ...] = (
    _artifact(
        "verdicts",
        "table",
        "Verdicts",
        "Every method against the network under it, intervals that hold together.",
        tables.verdicts,
    ),
    _grid(
        "grid",
        "The grid",
        "Every method and network, by what training sees and under every test.",
        figures.vectors,
        "vectors: their utterances are sequences",
    ),
    _grid(
        "grid-frames",
        "The grid, sequences",
        "The methods that take sequences of frames.",
        figures.sequences,
        "sequences of frames",
    ),
    _grid(
        "grid-pair",
        "The grid, two modalities",
        "All five methods, on two modalities of more.",
        figures.pairs,
        "third modality beside classes",
    ),
    _artifact(
        "curves",
        "figure",
        "Curves",
        "Against the missing rate, by what training sees.",
        figures.curves,
    ),
    _artifact("ranks", "figure", "Ranks", "Mean rank over all trainings and tests.", figures.ranks),
    _artifact(
        "best",
        "table",
        "Of the best possible",
        "What share of the best possible each row reaches (%).",
        tables.best,
        needs="twins",
    ),
    _artifact(
        "cost",
        "figure",
        "Cost",
        "What a model's training costs, against what it reaches.",
        figures.cost,
        varies=True,
    ),
    _artifact("fairness", "table", "Fairness", "What every row was given.", tables.fairness),
    _artifact(
        "tuning",
        "table",
        "Tuning",
        "Every row's trials of its learning rate, on validation.",
        tuning.table,
        cells=tuning.cells,
        on_request=True,
    ),
)

PAPER = Paper(
    NAME,
    CALLED,
    "Side by side: five methods on common ground",
    "06_side_by_side.ipynb",
    grounds.ROLES,
    {"": Takes((VECTORS, SEQUENCES))},
    NETWORKS,
    ARTIFACTS,
    OBSTACLES,
    LEFT_OUT,
    GUESSES,
    offered=(),
    only="none: every method brings its own",
    embedded=grounds.EMBEDDED,
    prepare=rows.prepared,
)
context = PAPER.context
