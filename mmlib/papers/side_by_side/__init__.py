"""Side by side: the methods and the networks under them, on the same data, the same masks and the same budget.

No paper has printed it. ``grounds.py`` says on what they are compared and ``rows.py`` which runs are needed;
``tables.py`` and ``figures.py`` draw them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from mmlib.experiments.context import Paper
from mmlib.experiments.declare import OURS, Declare
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes
from mmlib.papers.side_by_side import equity, figures, grounds, matrix, rows, tables
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
        "Comparison with the own network",
        "Every method compared with its own network without the method, with "
        "simultaneous confidence intervals.",
        tables.verdicts,
    ),
    _grid(
        "grid",
        "All results",
        "Every method minus its own network, by training mask, under every test mask.",
        figures.vectors,
        "vectors: their utterances are sequences",
    ),
    _grid(
        "grid-frames",
        "All results on sequences",
        "The methods that accept sequences of frames minus their own networks, by training mask, under every "
        "test mask.",
        figures.sequences,
        "sequences of frames",
    ),
    _grid(
        "grid-pair",
        "All results with two modalities",
        "All five methods minus their own networks on two of the modalities, under every test mask.",
        figures.pairs,
        "third modality beside classes",
    ),
    _artifact(
        "curves",
        "figure",
        "Results against the missing rate",
        "Weighted F1 against the missing rate, by training mask: every method and its own network.",
        figures.curves,
    ),
    _artifact(
        "ranks", "figure", "Ranks", "Mean rank over all training and test masks.", figures.ranks
    ),
    _artifact(
        "best",
        "table",
        "Share of the best possible F1",
        "Weighted F1 of each row as a percentage of the best possible.",
        tables.best,
        cells=tables.best_cells,
        needs=tables.lacks_best,
    ),
    _artifact(
        "cost",
        "figure",
        "Cost",
        "Training time of a model against its mean weighted F1.",
        figures.cost,
        varies=True,
    ),
    _artifact(
        "fairness",
        "table",
        "Training budget",
        "Learning rate, epochs and parameters of every row.",
        tables.fairness,
    ),
    _artifact(
        "equity",
        "table",
        "Equity and learning",
        "How evenly modalities contribute and learn, what training knew of the missingness, and "
        "scores over all conditions.",
        equity.table,
        cells=equity.cells,
    ),
    _artifact(
        "matrix",
        "figure",
        "Missing not at random",
        "Training law by test law: what is reached, of the best possible where that is known, if missingness is "
        "at random, or if another modality decides, a modality's own content, its quality, or the label.",
        matrix.draw,
        cells=matrix.cells,
        needs=matrix.lacks,
    ),
)

PAPER = Paper(
    NAME,
    CALLED,
    "Side by side: five methods compared under equal conditions",
    "06_side_by_side.ipynb",
    grounds.ROLES,
    {"": Takes((VECTORS, SEQUENCES), decided=True)},
    NETWORKS,
    ARTIFACTS,
    OBSTACLES,
    LEFT_OUT,
    GUESSES,
    offered=(),
    only="none: every method brings its own",
    embedded=grounds.EMBEDDED,
    only_real=grounds.ONLY_REAL,
    rated=True,
    prepare=rows.prepared,
)
# Its networks learn any score, which `mmlib compare` and the search of recipes hold by its error; its tables do not.
context = dataclasses.replace(PAPER, accepts={"": Takes((VECTORS, SEQUENCES))}).context
