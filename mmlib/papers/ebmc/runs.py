"""Which runs make which of EBMC's tables and figures (ledger 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmlib.masks import Law, complete, patterns
from mmlib.methods import enhance
from mmlib.papers import stages
from mmlib.papers.context import Cell, Context
from mmlib.papers.stages import ALL, Budget, budget, law
from mmlib.runs.spec import Options, RunSpec

ROLES = {"mosi": "mosi", "mosei": "mosei", "iemocap": "iemocap4", "mosi_frames": "mosi-frames",
         "mosei_frames": "mosei-frames"}  # frames last: a context's main data are vectors where there are any
FRAMES = {"mosi_frames": "mosi", "mosei_frames": "mosei"}  # sequences (C22), and their names in Table 5
MEAN_MISSING = "average"
POINTS = "points of weighted F1 or accuracy"
SCORES = ("accuracy_with_zero", "accuracy", "weighted_f1_with_zero", "weighted_f1", "acc7", "pearson", "mae")
WEIGHTS = {"zeta": 0.5, "beta": 0.1, "gamma": 0.1, "eta": 0.1}  # Eq. 17


PAPER = {"mosi": Budget(150, 64, 1e-4, 256, 4, 0.5), "mosei": Budget(100, 32, 1e-4, 256, 4, 0.5),
         "iemocap": Budget(150, 16, 1e-4, 256, 4, 0.5)}
VALUES = {"smoke": (0.1, 1.0), "quick": (0.05, 0.1, 0.5, 1.0), "laptop": (0.01, 0.1, 1.0)}  # of Fig 6, and the printed
ALL_VALUES = (0.01, 0.05, 0.1, 0.5, 1.0)


@dataclass(frozen=True)
class Row:
    """One row of a table.

    kind: ``ebmc``, ``plain`` (the same network after the experts' own stage, with the task loss alone) or ``momke``.
    condition: the combination that its second stage is trained for alone (E2), or the rate of dropped frames at which
        its epoch is chosen (E23).
    """

    name: str
    kind: str = "ebmc"
    variant: str = "paper"
    options: Options = ()
    condition: str = ""


OURS, PLAIN, MOMKE = Row("EBMC"), Row("same network, task loss alone", "plain"), Row("MoMKE", "momke")
WITHOUT = {name: Row(f"w/o {name.upper()}", variant=f"no_{name}") for name in ("msd", "cce", "emc", "imtd")}


def main_rows() -> list[Row]:
    """Tables 1 and 2; the two beside the method are ours."""
    return [OURS, PLAIN, MOMKE]


def ablation_rows() -> list[Row]:
    """Table 4, and what is left with none of the four."""
    return [*WITHOUT.values(), PLAIN, OURS]


def energy_rows() -> list[Row]:
    """Table 7."""
    return [Row("w/o ||z_m||_2^2", variant="no_norm"), Row("w/o l_m", variant="no_loss"),
            Row("w/o u_m", variant="no_uncertainty"), OURS]


def weight_rows(context: Context) -> dict[str, list[tuple[float, Row]]]:
    """Fig 6: by weight of Eq. 17, its values and their rows."""
    values = VALUES.get(context.profile.name, ALL_VALUES)
    return {name: [(v, Row(f"{name} = {v:g}", options=() if v == own else ((name, v),)))
                   for v in sorted({*values, own})] for name, own in WEIGHTS.items()}


def departure_rows() -> list[Row]:
    """Readings and released components, each against the method as recommended."""
    return [OURS, Row("L_dis signed (C2)", variant="signed"), Row("KL as printed (C11)", variant="printed_kl"),
            Row("sigma squared (C10)", variant="squared"), Row("sigma is the entropy (C9)", variant="entropy"),
            Row("no gradient penalty", variant="no_penalty"), Row("teacher drops out (E8)", variant="teacher_drops"),
            Row("MSD as released (E11-E15)", variant="released_msd"),
            Row("CCE as released (E16)", variant="released_cce"),
            Row("EMC as released (E17-E19)", variant="released_emc"),
            Row("IMTD as released (E20)", variant="released_imtd"), Row("all as released", variant="released")]


def alone_rows(context: Context) -> list[Row]:
    """The released protocol: a second stage for each test condition (E2)."""
    return [Row("EBMC, a model per condition (E2)", condition=c) for c in conditions(context, context.main)]


def conditions(context: Context, dataset: str) -> list[str]:
    """The test conditions in the paper's order: single modalities, pairs, all of them."""
    return stages.conditions(context.bundle(dataset).modalities, (
        "audio", "text", "vision", "audio+vision", "audio+text", "text+vision"))


def averages(context: Context, dataset: str) -> dict[str, list[str]]:
    """Table 3's average, over the conditions in which something is missing."""
    return {MEAN_MISSING: conditions(context, dataset)[:-1]}


def specs(context: Context, dataset: str, row: Row, train: Law, *, grid: bool = False,
          keep: tuple[str, ...] = ()) -> list[RunSpec]:
    """One run per seed and fold: a second stage under a mask, from a first stage on complete data.

    It is tested under the row's condition; else under all of them, or where nothing is missing in training, so.
    Rows whose first stages are equal share them; every row has as many epochs as any other in both stages.
    """
    law_of = law(row.condition) if row.condition else train
    names = [row.condition] if row.condition else [ALL] if train == complete() else conditions(context, dataset)
    tests = tuple((c, law(c)) for c in names)
    first = _first(context, dataset, row, grid)
    method, variant = ("ebmc", row.variant) if row.kind == "ebmc" else ("plain", "paper")
    routing = "softmax" if row.kind == "momke" else "unnormalised"
    network = (*budget(context, dataset, PAPER).network, ("routing", routing))
    return [dataclasses.replace(parent, method=method, variant=variant, options=tuple(sorted(row.options)),
                                backbone_options=network, train_mask=law_of, eval_masks=tests, parent=parent,
                                keep=keep) for parent in first]


def _first(context: Context, dataset: str, row: Row, grid: bool) -> list[RunSpec]:
    """The first stage: EBMC's, or for the other rows each expert's own task loss (MoMKE's)."""
    method, variant = "unimodal", "paper"
    options: Options = ()
    if row.kind == "ebmc":
        method, variant = "enhance", row.variant if row.variant in enhance.VARIANTS else "paper"
        options = tuple((name, value) for name, value in row.options if name in ("zeta", "beta"))
    spent = budget(context, dataset, PAPER)
    return context.specs(dataset, method, variant, complete(), ((ALL, complete()),), options=options, grid=grid,
                         backbone="momke", network=(*spent.network, ("routing", "own")), keep=("last",),
                         **spent.training)


def whole(context: Context, dataset: str, rows: Iterable[Row], grid: bool = False,
          keep: tuple[str, ...] = ()) -> list[Cell]:
    """Rows trained and tested with all modalities."""
    return [Cell(r.name, ALL, spec, ALL) for r in rows
            for spec in specs(context, dataset, r, complete(), grid=grid, keep=keep)]


def missing(context: Context, dataset: str, rows: Iterable[Row], grid: bool = False,
            keep: tuple[str, ...] = ()) -> list[Cell]:
    """Rows trained once under combinations drawn anew, tested under each condition."""
    return [Cell(r.name, name, spec, name) for r in rows
            for spec in specs(context, dataset, r, patterns(), grid=grid, keep=keep) for name, _ in spec.eval_masks]


def scores(context: Context) -> Sequence[str]:
    """The data sets of the paper's main tables: those whose task is a score."""
    return [d for d in vectors(context) if context.bundle(d).task.kind == "score"] or vectors(context)[:1]


def vectors(context: Context) -> list[str]:
    """The data sets with one vector for each utterance: those of everything but Table 5 and Figs 7 and 8 (C22)."""
    return [d for d in context.datasets if d not in FRAMES]


def frames(context: Context) -> list[str]:
    """The data sets whose utterances are sequences of frames."""
    return [d for d in context.datasets if d in FRAMES]


def lacks_vectors(context: Context) -> str:
    """Why an artifact of utterance vectors cannot be made; empty where it can."""
    return "" if vectors(context) else _lacking(d for d in ROLES if d not in FRAMES)


def lacks_frames(context: Context) -> str:
    """Why an artifact of frames cannot be made; empty where it can."""
    return "" if frames(context) else _lacking(FRAMES)


def _lacking(datasets: Iterable[str]) -> str:
    roles = [ROLES[d] for d in datasets]
    return f"No data for the roles {', '.join(roles)}: give --data {roles[0]}=BUNDLE."
