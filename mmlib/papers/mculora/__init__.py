"""MCULoRA's artifacts: what the paper shows, and what it does not.

``ARTIFACTS`` in the paper's order; ``NEEDS`` names what an artifact cannot do without.
"""

from __future__ import annotations

from mmlib.errors import InputError
from mmlib.experiments import stages
from mmlib.experiments.context import Context, make_context
from mmlib.experiments.takes import VECTORS, Takes
from mmlib.papers.mculora import claims, figures, ours, runs, tables
from mmlib.papers.mculora.obstacles import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.papers.mculora.runs import ROLES
from mmlib.report.artifact import Artifact, declare

__all__ = ["ANY_SCORE", "ARTIFACTS", "BACKBONES", "GUESSES", "LEFT_OUT", "NEEDS", "OBSTACLES", "ROLES", "TITLE",
           "context"]
PAPER = "mculora"
BACKBONES = ("crossmodal",)
TITLE = "MCULoRA: low-rank adaptation per modality combination"
ACCEPTS = {"": Takes((VECTORS,))}
_artifact = declare(PAPER)


def context(profile: str = "quick", data: dict[str, str] | None = None, backbone: str = "", label: str = "",
            seeds: int = 0) -> Context:
    """The paper's context: profile, data for the roles mosei and iemocap4, collection label, seeds.

    Raises:
        InputError: another backbone than crossmodal.
        DataRefused: data with fewer than two modalities, or without a vector for each utterance.
    """
    if backbone not in ("", *BACKBONES):
        raise InputError("--backbone", backbone, "crossmodal, into which adapters can be put", "Leave it out.")
    made = make_context(PAPER, ROLES, profile_name=profile, data=data, backbones=BACKBONES, label=label, seeds=seeds,
                        accepts=ACCEPTS)
    return stages.prepared(made, "of pre-training and as many of adaptation")


ARTIFACTS: tuple[Artifact, ...] = (
    _artifact("table1", "table", "Table 1", "Every combination of modalities at test, one model for all (%).",
              tables.specs_of(runs.main_rows()),
              tables.comparison("table1", runs.main_rows(), runs.JOINT.name, (
                  "Averages over six and over seven conditions; the printed column mixes them (F16).",)), 10),
    _artifact("random", "table", "Random missing", "One or two modalities missing in each test utterance (%).",
              tables.specs_of(runs.main_rows()), tables.random_missing, None, "MCULoRA supplement, not to be had"),
    _artifact("table2", "table", "Table 2", "With and without MCLA and DPFT (%).",
              tables.specs_of(runs.ablation_rows()),
              tables.comparison("table2", runs.ablation_rows(), runs.OURS.name, (
                  "Without MCLA the whole network goes on training. DPFT then has no private and common features to "
                  "compare; it compares what the prediction reads under a combination with what it reads under all "
                  "(our own reading).",)), 4),
    _artifact("fig3", "figure", "Fig 3", "Accuracy by the adapters' rank.",
              lambda c: stages.specs_of(runs.cells(c, c.main, runs.rank_rows(c), grid=True)), figures.rank, 2),
    _artifact("fig4", "figure", "Fig 4", "Test accuracy of every combination along training.",
              figures.along_specs, figures.along_training, 7),
    _artifact("fig5", "figure", "Fig 5", "Test utterances that the method corrects most.", figures.case_specs,
              figures.cases, None),
    _artifact("claims", "table", "Claims", "The paper's sentences, each with its test and what was measured.",
              claims.claim_specs, claims.claims, None, "ours, on the paper's text"),
    _artifact("cost", "table", "Cost", "What trains, what is frozen, and how long an epoch takes.",
              ours.cost_specs, ours.cost, None, "ours"),
    _artifact("leak", "table", "What the leak buys", "Rules for the shares by what they look at: mean accuracy (%).",
              tables.specs_of(runs.leak_rows(), main=True), tables.leak, None, "ours"),
    _artifact("premise", "table", "Do gradients conflict", "Cosines between the combinations' gradients.",
              ours.probed_specs, ours.premise, None, "ours"),
    _artifact("cosines", "table", "What L_ort moves", "The cosines that Eq. 3 names, along training.",
              ours.probed_specs, ours.angles, None, "ours"),
    _artifact("shares", "table", "Shares", "How often each combination is trained, by rule.",
              lambda c: stages.specs_of([*runs.cells(c, c.main, [runs.OURS, runs.leak_rows()[4]]),
                                       *runs.cells(c, c.main, [runs.departure_rows()[4]], grid=True)]),
              ours.shares, None, "ours"),
    _artifact("departures", "table", "Departures", "Readings and the released code: mean accuracy (%).",
              tables.specs_of(runs.departure_rows(), grid=True, main=True), tables.departures, None, "ours"),
)

NEEDS: dict[str, str] = {}

# Show whatever metrics there are, or none: scores without a sign have MAE and correlation alone.
ANY_SCORE = frozenset(("table1", "table2", "random", "cost", "premise", "cosines"))
