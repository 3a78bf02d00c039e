"""EBMC's artifacts: what the paper shows, and what it does not.

``ARTIFACTS`` in the paper's order; ``NEEDS`` names what an artifact cannot do without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from mmlib.errors import InputError
from mmlib.papers import stages
from mmlib.papers.context import Context, make_context
from mmlib.papers.ebmc import claims, figures, frames, ours, runs, tables, theory
from mmlib.papers.ebmc.obstacles import GUESSES, LEFT_OUT, OBSTACLES
from mmlib.papers.ebmc.runs import ROLES
from mmlib.papers.takes import SEQUENCES, VECTORS, Takes
from mmlib.report.artifact import Artifact, declare

__all__ = ["ANY_SCORE", "ARTIFACTS", "BACKBONES", "GUESSES", "LEFT_OUT", "NEEDS", "OBSTACLES", "ROLES", "TITLE",
           "context"]
PAPER = "ebmc"
BACKBONES = ("momke",)
TITLE = "EBMC: enhance, then balance"
ACCEPTS = {"": Takes((VECTORS,)), **dict.fromkeys(runs.FRAMES, Takes((SEQUENCES,)))}
_artifact = declare(PAPER)


def context(profile: str = "quick", data: dict[str, str] | None = None, backbone: str = "", label: str = "",
            seeds: int = 0) -> Context:
    """The paper's context: profile, data for the roles, collection label, seeds.

    The roles mosi, mosei and iemocap4 take utterance vectors; mosi-frames and mosei-frames take sequences of frames.

    Raises:
        InputError: another backbone than momke.
        DataRefused: data with fewer than two modalities, or of the other kind.
    """
    if backbone not in ("", *BACKBONES):
        raise InputError("--backbone", backbone, "momke, whose experts the two stages train", "Leave it out.")
    made = make_context(PAPER, ROLES, profile_name=profile, data=data, backbones=BACKBONES, label=label, seeds=seeds,
                        accepts=ACCEPTS)
    made = stages.prepared(made, frames.STAGES, runs.FRAMES)
    said = " ".join(filter(None, (made.profile.reduced, frames.reduced(made))))
    return dataclasses.replace(made, profile=dataclasses.replace(made.profile, reduced=said))


def _table(id_: str, title: str, caption: str, cells: tables.Cells, which: Callable[[Context], Sequence[str]],
           baseline: runs.Row, metrics: Sequence[str], rows: int | None, notes: Sequence[str] = (), *,
           printed: bool = True, averaged: bool = False) -> Artifact:
    draw = tables.comparison(id_ if printed else "", cells, which, baseline.name, metrics, notes, averaged)
    return _artifact(id_, "table", title, caption, tables.specs_of(cells, which), draw, rows,
                     "" if printed else "ours")


def _weights(context: Context) -> list[str]:
    return [figures.weights_dataset(context)]


def _main(context: Context) -> list[str]:
    return [context.main]


ARTIFACTS: tuple[Artifact, ...] = (
    _table("table1", "Table 1", "All modalities.", tables.whole(runs.main_rows()), runs.scores, runs.PLAIN,
           runs.SCORES, 11, (tables.EQUAL,)),
    _artifact("table2", "table", "Table 2", "F1 of each emotion (%).",
              tables.specs_of(tables.whole(runs.main_rows()), lambda _: ["iemocap"]), tables.emotions, 9),
    _table("table3", "Table 3", "Every combination of modalities at test, one model for all: weighted F1 (%).",
           tables.missing(runs.main_rows()), _weights, runs.PLAIN, ("weighted_f1",), 9, (tables.ONE, tables.EQUAL),
           averaged=True),
    _table("table4", "Table 4", "Without each of the four parts.", tables.whole(runs.ablation_rows()), runs.scores,
           runs.OURS, runs.SCORES[:4], 5, ("Without MSD the predictors read z_m itself and train on, since EMC and "
                                           "IMTD need them.",)),
    _artifact("table5", "table", "Table 5", "Frames dropped at test: mean over ten rates.",
              frames.specs_of(), frames.table, 9),
    _artifact("table6", "table", "Table 6", "What it costs: parameters and time.", ours.cost_specs, ours.cost, 5),
    _table("table7", "Table 7", "Without each term of the energy.", tables.whole(runs.energy_rows()), _weights,
           runs.OURS, ("weighted_f1_with_zero", "weighted_f1", "acc7", "mae"), 4),
    _artifact("fig3", "figure", "Fig 3", "What the prediction reads, with and without MSD and CCE (t-SNE).",
              figures.tsne_specs, figures.tsne, 3),
    _artifact("fig4", "figure", "Fig 4", "What each modality contributes, with and without EMC.",
              figures.contribution_specs, figures.contribution, 3),
    _artifact("fig5", "figure", "Fig 5", "Test utterances that the method corrects most.", figures.case_specs,
              figures.cases, None),
    _artifact("fig6", "figure", "Fig 6", "The four weights of the total loss.", figures.weight_specs,
              figures.weights, 4),
    *(_artifact(f"fig{number}", "figure", f"Fig {number}", "Results by the share of frames dropped at test.",
                frames.specs_of(name), frames.curves(name), 9)
      for number, name in zip((7, 8), runs.FRAMES, strict=True)),
    _artifact("claims", "table", "Claims", "The paper's sentences, each with its test and what was measured.",
              claims.claim_specs, claims.claims, None, "ours, on the paper's text"),
    _table("missing-parts", "The parts where modalities are missing", "Table 4's rows, one model for all: "
           "weighted F1 (%).", tables.missing(runs.ablation_rows()), _main, runs.OURS, ("weighted_f1",), None,
           (tables.ONE,), printed=False, averaged=True),
    _artifact("balance", "table", "Does EMC balance anything", "Energies and own accuracy along training.",
              ours.balance_specs, ours.balance, None, "ours"),
    _artifact("theory", "table", "The appendix, measured", "Appendix B on a small energy landscape.",
              theory.theory_specs, theory.theory, None, "ours"),
    _artifact("protocol", "table", "What a model per condition buys", "The two protocols of Table 3 (E2).",
              lambda c: stages.specs_of([*runs.missing(c, c.main, [runs.OURS], True),
                                       *runs.missing(c, c.main, runs.alone_rows(c), True)]),
              tables.protocol, None, "ours"),
    _artifact("selection", "table", "What test selection buys", "The epoch chosen on validation, on test, or the last "
              "(E1).", lambda c: stages.specs_of(x for d in runs.scores(c) for x in runs.whole(c, d, runs.main_rows())),
              tables.selection, None, "ours"),
    _table("departures", "Departures", "Readings and released components (all modalities).",
           tables.whole(runs.departure_rows(), True), _main, runs.OURS, ("accuracy", "weighted_f1"), None,
           printed=False),
)

NEEDS: dict[str, str | Callable[[Context], str]] = {
    **{artifact.id: runs.lacks_vectors for artifact in ARTIFACTS},
    "claims": "", "table2": "iemocap", "table5": runs.lacks_frames, "fig7": "mosi_frames", "fig8": "mosei_frames"}

# Show whatever metrics there are, or none: scores without a sign have MAE and correlation alone.
ANY_SCORE = frozenset(("table1", "table3", "table4", "table5", "table6", "table7", "missing-parts",
                       "theory", "departures"))
