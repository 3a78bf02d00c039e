"""The GMM-loss paper's artifacts: what it shows, and what it does not.

``ARTIFACTS`` in the paper's order; ``NEEDS`` names what an artifact cannot do without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from mmlib.errors import InputError
from mmlib.experiments.context import Context, make_context
from mmlib.experiments.takes import PICTURES, VECTORS, Takes
from mmlib.papers.gmm_loss import claims, figures, ours, runs, tables
from mmlib.papers.gmm_loss.obstacles import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.papers.gmm_loss.runs import ROLES
from mmlib.report.artifact import Artifact, declare

__all__ = ["ARTIFACTS", "BACKBONES", "GUESSES", "LEFT_OUT", "NEEDS", "OBSTACLES", "ROLES", "TITLE", "context"]
PAPER = "gmm_loss"
BACKBONES = ("concat",)
TITLE = "GMM-loss: a Gaussian mixture over the modality gap drives the loss"
ACCEPTS = {"": Takes((VECTORS, PICTURES), most=2, tasks=("classes",))}
_artifact = declare(PAPER)


def context(profile: str = "quick", data: dict[str, str] | None = None, backbone: str = "", label: str = "",
            seeds: int = 0) -> Context:
    """The paper's context: profile, data for the roles crema-d and ave, collection label, seeds.

    Raises:
        InputError: another backbone than concat.
        DataRefused: data that have not two modalities and classes, vectors both or pictures both.
    """
    if backbone not in ("", *BACKBONES):
        raise InputError("--backbone", backbone, "concat, whose logits split by modality", "Leave it out.")
    made = make_context(PAPER, ROLES, profile_name=profile, data=data, backbones=BACKBONES, label=label, seeds=seeds,
                        accepts=ACCEPTS)
    return dataclasses.replace(made, profile=dataclasses.replace(made.profile, reduced=runs.reduced(made)))


ARTIFACTS: tuple[Artifact, ...] = (
    _artifact("table1", "table", "Table 1", "Accuracy (%) of the baselines and of the adaptive loss.",
              tables.specs_of(tables.main_rows),
              tables.comparison("table1", tables.main_rows, "Concat", tables.NOT_ESTABLISHED), 10),
    _artifact("fig2", "figure", "Fig 2", "The mixture fitted to the training set's modality gaps after the warm-up.",
              ours.every_round, figures.after_warmup, 2),
    _artifact("table2", "table", "Table 2", "What each part of the loss of Eq. 10 adds: accuracy (%).",
              tables.specs_of(tables.ablation_rows), tables.comparison("table2", tables.ablation_rows, runs.OURS, (
                  "All rows of a seed start from one warm-up. With alpha = 0 nothing classifies after it (H10).",)), 5),
    _artifact("fig3", "figure", "Fig 3", "Gaps and mixture after each round of adaptive training.", figures.specs,
              figures.each_round, 4),
    _artifact("table3", "table", "Table 3", "Optimizer, and its state where the adaptive phase starts: accuracy (%).",
              tables.specs_of(tables.optimizer_rows),
              tables.comparison("table3", tables.optimizer_rows, "SGD (Reset State)", (
                  "All rows of a seed and optimizer start from one warm-up; 'Same State' takes its state over.",)), 4),
    _artifact("fig4", "figure", "Fig 4", "Unimodal and fused validation accuracy along training.",
              figures.along_specs, figures.along_training, 3),
    _artifact("claims", "table", "Claims", "The paper's sentences, each with its test and what was measured.",
              claims.claim_specs, claims.claims, None, "ours, on the paper's text"),
    _artifact("planted", "table", "Planted truth", "The mixture's verdict against what was planted in each clip.",
              ours.every_round, ours.planted, None, "ours"),
    _artifact("modes", "table", "Is the gap bimodal", "One, two and three Gaussians, and the dip test.",
              ours.every_round, ours.modes, None, "ours"),
    _artifact("human-gap", "table", "The human modality gap",
              "What people (on twins: an observer) make of each modality alone, beside the model.",
              figures.specs, ours.human_gap, None, "ours"),
    _artifact("departures", "table", "Departures", "Recommended readings beside what released codes do: accuracy (%).",
              tables.departure_specs, tables.departures, None, "ours"),
    _artifact("tuning", "table", "Tuning", "Every method's trials on validation, and which the tables use.",
              tables.trial_specs, tables.tuning, None, "ours", on_request=True),
)

NEEDS: dict[str, str | Callable[[Context], str]] = {
    "planted": "twins", "tuning": "twins", "human-gap": ours.lacks_judges}
