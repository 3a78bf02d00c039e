"""DREAM's artifacts: what the paper shows, and what it does not.

``ARTIFACTS`` in the paper's order; ``NEEDS`` names what an artifact cannot do without, ``CARRIED`` the arrays that
committed records carry for one.
"""

from __future__ import annotations

from collections.abc import Callable

from mmlib.errors import InputError
from mmlib.experiments import stages
from mmlib.experiments.context import Context, make_context
from mmlib.experiments.takes import SEQUENCES, VECTORS, Takes
from mmlib.papers.dream import claims, cost, enhanced, figures, ours, runs, sampling, tables
from mmlib.papers.dream.obstacles import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.papers.dream.runs import ROLES
from mmlib.report.artifact import Artifact, declare

__all__ = ["ANY_SCORE", "ARTIFACTS", "BACKBONES", "CARRIED", "GUESSES", "LEFT_OUT", "NEEDS", "OBSTACLES", "ROLES",
           "TITLE", "context"]
PAPER = "dream"
CARRIED = (enhanced.PREDICTIONS,)
BACKBONES = ("dream",)
TITLE = "DREAM: recognise what contributes nothing, and enhance it"
ACCEPTS = {"": Takes((VECTORS | SEQUENCES,))}
_artifact = declare(PAPER)


def context(profile: str = "quick", data: dict[str, str] | None = None, backbone: str = "", label: str = "",
            seeds: int = 0) -> Context:
    """The paper's context: profile, data for the roles, collection label, seeds.

    Every role takes sequences of frames, or utterance vectors, which count as sequences of one frame.

    Raises:
        InputError: another backbone than dream.
        DataRefused: data with fewer than two modalities or with pictures.
    """
    if backbone not in ("", *BACKBONES):
        raise InputError("--backbone", backbone, "dream, the paper's own network", "Leave it out.")
    made = make_context(PAPER, ROLES, profile_name=profile, data=data, backbones=BACKBONES, label=label, seeds=seeds,
                        accepts=ACCEPTS)
    return runs.prepared(made)


_MAIN = runs.main_rows()

ARTIFACTS: tuple[Artifact, ...] = (
    _artifact("table1", "table", "Table 1", "Modalities missing at test and dropped in training: F1 (%).",
              tables.specs_of(tables.dropped(_MAIN)),
              tables.comparison("table1", tables.dropped(_MAIN), (tables.DROPPING,)), 8),
    _artifact("table2", "table", "Table 2", "Run time, train and test apart, and what P's predictions cost in each.",
              cost.time_specs, cost.times, 5),
    _artifact("table3", "table", "Table 3", "Trained parameters at the paper's size.", cost.parameter_specs,
              cost.parameters, 3),
    _artifact("fig3", "figure", "Fig 3", "F1 by the ratio of frames dropped in training and test.",
              figures.frame_specs, figures.frames, 8),
    _artifact("fig4", "figure", "Fig 4", "Without dynamic enhancement and without masked fusion, by the share "
              "affected.", figures.ablation_specs, figures.ablation, 3),
    _artifact("fig5", "figure", "Fig 5", "With four pre-trained networks, by the share affected.",
              figures.reference_specs, figures.references, 4),
    _artifact("claims", "table", "Claims", "The paper's sentences, each with its test and what was measured.",
              claims.claim_specs, claims.claims, None, "ours, on the paper's text"),
    _artifact("complete-training", "table", "Complete training", "Table 1's other reading: modalities are missing at "
              "test alone (B14), F1 (%).", tables.specs_of(tables.whole(_MAIN)),
              tables.comparison("table1", tables.whole(_MAIN), (tables.COMPLETE,)), None, "ours, on DREAM Table 1"),
    _artifact("enhanced", "table", "What is enhanced", "By how many modalities are enhanced: how often that is in "
              "training and in the complete test, and who is right.", enhanced.specs, enhanced.enhanced, None, "ours"),
    _artifact("detector", "table", "Is PSS = 0 a good detector", "Of modalities that are missing, and of useless ones.",
              ours.looked_specs, ours.detector, None, "ours"),
    _artifact("values", "table", "What PSS and PAS measure", "Against each modality's true value.",
              ours.looked_specs, ours.values, None, "ours"),
    _artifact("monte-carlo", "table", "Sampled contributions", "How fast drawn orders approach PSS, and what all "
              "subsets cost.", sampling.no_specs, sampling.monte_carlo, None, "ours"),
    _artifact("selection", "table", "What test selection buys", "The epoch chosen on validation, on test, or the last.",
              tables.specs_of(tables.dropped(_MAIN)), tables.selection, None, "ours"),
    _artifact("departures", "table", "Departures", "Readings of what the paper leaves open, under the mix of A.4.",
              lambda c: stages.specs_of(x for _, cells, _ in tables.departure_parts(c) for x in cells),
              tables.departures, None, "ours"),
)

NEEDS: dict[str, str | Callable[[Context], str]] = {
    "detector": "twins", "values": "twins", "enhanced": enhanced.lacking}

# Show whatever metrics there are, or none: scores without a sign have MAE and correlation alone.
ANY_SCORE = frozenset(("table1", "table2", "table3", "complete-training", "monte-carlo", "departures"))
