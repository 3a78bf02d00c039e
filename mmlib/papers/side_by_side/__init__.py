"""Side by side: the methods and the networks under them, on the same data, the same masks and the same budget.

No paper has printed it. ``runs.py`` says which runs are needed; ``tables.py`` and ``figures.py`` draw them.
"""

from __future__ import annotations

from collections.abc import Callable

from mmlib.errors import InputError
from mmlib.experiments.context import Context, make_context
from mmlib.experiments.profiles import profile as profile_of
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes
from mmlib.papers.side_by_side import figures, runs, tables, tuning
from mmlib.papers.side_by_side.obstacles import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.papers.side_by_side.runs import ROLES
from mmlib.report.artifact import Artifact, declare

__all__ = ["ARTIFACTS", "BACKBONES", "GUESSES", "LEFT_OUT", "NEEDS", "OBSTACLES", "ROLES", "TITLE", "context"]
PAPER = "side_by_side"
BACKBONES = ()  # none to choose
NETWORKS = ("mmgcn", "dream", "momke", "crossmodal", "concat", "momke_frames")
TITLE = "Side by side: five methods on common ground"
OURS = "ours"
ACCEPTS = {"": Takes((VECTORS, SEQUENCES))}
_artifact = declare(PAPER)


def context(profile: str = "quick", data: dict[str, str] | None = None, backbone: str = "", label: str = "",
            seeds: int = 0) -> Context:
    """The comparison's context: profile, data for its roles, collection label, seeds.

    Embedded data fill two of the roles: six classes in dialogues, and sequences of frames.

    Raises:
        InputError: a backbone, since each method brings its own.
        DataRefused: data with fewer than two modalities, with pictures, or with vectors beside frames.
    """
    if backbone not in ("", ",".join(NETWORKS)):
        raise InputError("--backbone", backbone, "none: every method brings its own", "Leave it out.")
    filled = data or {role: f"twin:{role}@{profile_of(profile).size}" for role in runs.EMBEDDED}
    made = make_context(PAPER, ROLES, profile_name=profile, data=filled, backbones=NETWORKS, label=label, seeds=seeds,
                        accepts=ACCEPTS)
    return runs.prepared(made)


ARTIFACTS: tuple[Artifact, ...] = (
    _artifact("verdicts", "table", "Verdicts", "Every method against the network under it, intervals that hold "
              "together.", tables.all_specs, tables.verdicts, None, OURS),
    _artifact("grid", "figure", "The grid", "Every method and network, by what training sees and under every test.",
              figures.specs_of(figures.vectors), figures.grid(figures.vectors), None, OURS),
    _artifact("grid-frames", "figure", "The grid, sequences", "The methods that take sequences of frames.",
              figures.specs_of(figures.sequences), figures.grid(figures.sequences), None, OURS),
    _artifact("grid-pair", "figure", "The grid, two modalities", "All five methods, on two modalities of more.",
              figures.specs_of(figures.pairs), figures.grid(figures.pairs), None, OURS),
    _artifact("curves", "figure", "Curves", "Against the missing rate, by what training sees.", tables.all_specs,
              figures.curves, None, OURS),
    _artifact("ranks", "figure", "Ranks", "Mean rank over all trainings and tests.", tables.all_specs, figures.ranks,
              None, OURS),
    _artifact("best", "table", "Of the best possible", "What share of the best possible each row reaches (%).",
              tables.all_specs, tables.best, None, OURS),
    _artifact("cost", "figure", "Cost", "What a model's training costs, against what it reaches.", tables.all_specs,
              figures.cost, None, OURS),
    _artifact("fairness", "table", "Fairness", "What every row was given.", tables.all_specs, tables.fairness, None,
              OURS),
    _artifact("tuning", "table", "Tuning", "Every row's trials of its learning rate, on validation.",
              tuning.specs, tuning.table, None, OURS, on_request=True),
)

NEEDS: dict[str, str | Callable[[Context], str]] = {
    "best": "twins",
    "grid": figures.lacks(figures.vectors, "vectors: their utterances are sequences"),
    "grid-frames": figures.lacks(figures.sequences, "sequences of frames"),
    "grid-pair": figures.lacks(figures.pairs, "third modality beside classes")}
