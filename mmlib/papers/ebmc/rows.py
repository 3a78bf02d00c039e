"""EBMC's rows and protocols: which runs make its tables and figures (ledger 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mmlib.experiments import budgets, conditions, systems
from mmlib.experiments.baselines import LINEAR, gcnet
from mmlib.experiments.budgets import TransformerBudget
from mmlib.experiments.conditions import ALL
from mmlib.experiments.context import Context
from mmlib.experiments.profiles import FEW
from mmlib.experiments.rows import Protocol, Row, Stage
from mmlib.masks import complete, patterns
from mmlib.runs.spec import Options

# Frames last: a context's main data are vectors where there are any.
ROLES = {
    "mosi": "mosi",
    "mosei": "mosei",
    "iemocap": "iemocap4",
    "mosi_frames": "mosi-frames",
    "mosei_frames": "mosei-frames",
}
FRAMES = {
    "mosi_frames": "mosi",
    "mosei_frames": "mosei",
}  # sequences (C22), and their names in Table 5
MEAN_MISSING = "average"
POINTS = "points of weighted F1 or accuracy"
SCORES = (
    "accuracy_with_zero",
    "accuracy",
    "weighted_f1_with_zero",
    "weighted_f1",
    "acc7",
    "pearson",
    "mae",
)
WEIGHTS = {"zeta": 0.5, "beta": 0.1, "gamma": 0.1, "eta": 0.1}  # Eq. 17
OF_THE_FIRST = ("zeta", "beta")  # weights that act in the first stage
# The variants that the first stage knows too: a test holds them to its method, whose import takes seconds.
OF_STAGE_ONE = ("paper", "no_msd", "no_cce", "signed", "released_msd", "released_cce", "released")

PRINTED = {
    "mosi": TransformerBudget(150, 64, 1e-4, 256, 4, 0.5),
    "mosei": TransformerBudget(100, 32, 1e-4, 256, 4, 0.5),
    "iemocap": TransformerBudget(150, 16, 1e-4, 256, 4, 0.5),
}
# The values of Fig 6; the printed ones join them.
VALUES = {"smoke": (0.1, 1.0), "quick": (0.05, 0.1, 0.5, 1.0), "laptop": (0.01, 0.1, 1.0)}
ALL_VALUES = (0.01, 0.05, 0.1, 0.5, 1.0)

WHOLE = ((ALL, complete()),)


def _row(name: str, first: Stage, second: Stage, routing: str) -> Row:
    """Experts by themselves on complete data, then the fusion."""
    experts = dataclasses.replace(
        first, network=(("routing", "own"),), train=complete(), tests=WHOLE, keep=("last",)
    )
    return Row(name, (experts, dataclasses.replace(second, network=(("routing", routing),))))


def ours(
    name: str = "EBMC", variant: str = "paper", options: Options = (), backbone: str = "momke"
) -> Row:
    """The method: its first stage shares what the variant does not change there."""
    early = variant if variant in OF_STAGE_ONE else "paper"
    kept = tuple((weight, value) for weight, value in options if weight in OF_THE_FIRST)
    first = Stage("enhance", backbone, early, kept)
    return _row(name, first, Stage("ebmc", backbone, variant, options), "unnormalised")


def plain(backbone: str = "momke") -> Row:
    """The same network after the experts' own stage, with the task loss alone."""
    first = Stage("unimodal", backbone)
    return _row("same network, task loss alone", first, Stage("plain", backbone), "unnormalised")


def momke(backbone: str = "momke") -> Row:
    """MoMKE: the experts' own stage, then its routing."""
    return _row("MoMKE", Stage("unimodal", backbone), Stage("plain", backbone), "softmax")


OURS, PLAIN, MOMKE = ours(), plain(), momke()
WITHOUT = {
    name: ours(f"w/o {name.upper()}", f"no_{name}") for name in ("msd", "cce", "emc", "imtd")
}
MAIN = (OURS, PLAIN, MOMKE)  # Table 1; the two beside the method are ours
ABLATION = (*WITHOUT.values(), PLAIN, OURS)  # Table 4, and what is left with none of the four
ENERGY = (  # Table 7
    ours("w/o ||z_m||_2^2", "no_norm"),
    ours("w/o l_m", "no_loss"),
    ours("w/o u_m", "no_uncertainty"),
    OURS,
)
RELEASED = ours("all as released", "released")
DEPARTURES = (  # readings and released components, each against the method as recommended
    OURS,
    ours("L_dis signed (C2)", "signed"),
    ours("KL as printed (C11)", "printed_kl"),
    ours("sigma squared (C10)", "squared"),
    ours("sigma is the entropy (C9)", "entropy"),
    ours("no gradient penalty", "no_penalty"),
    ours("teacher drops out (E8)", "teacher_drops"),
    ours("MSD as released (E11-E15)", "released_msd"),
    ours("CCE as released (E16)", "released_cce"),
    ours("EMC as released (E17-E19)", "released_emc"),
    ours("IMTD as released (E20)", "released_imtd"),
    RELEASED,
)
ALONE = "EBMC, a model per condition (E2)"

SELF_MM = "Self-MM"
SYSTEMS_OF = {  # the other systems by table, in the printed order
    "table1": (
        "MulT",
        SELF_MM,
        "ConKI-style",
        "ConFEDE",
        "CLGSI",
        "MFON",
        "EUAR",
        "GLoMo",
        "DEVA-style",
        "Semi-IIN",
    ),
    "table2": (SELF_MM, "MCTN", "TransModality", "SMIL", "UMDF-style", "CorrKD", "DMD"),
    "table3": (SELF_MM, "CubeMLP", "MCTN", "TransModality", "DMD", "CorrKD", "EUAR"),
    "table6": (SELF_MM, "GLoMo", "EUAR"),
}
SYSTEMS_ON_FRAMES = (SELF_MM, "MISA", "MMIM", "CENET", "TETFN", "TFR-Net", "ALMT", "LNLN")


def systems_of(context: Context, table: str) -> list[Row]:
    """The other systems of a table; none on a reader's own data."""
    return [] if context.own else systems.rows(*SYSTEMS_OF[table])


def systems_on_frames(context: Context) -> list[Row]:
    """The other systems of Table 5 and Figs 7 and 8; none on a reader's own data."""
    return [] if context.own else systems.on_frames(*SYSTEMS_ON_FRAMES)


def complete_rows(context: Context, dataset: str) -> list[Row]:
    """Table 1, with the linear model."""
    return [*MAIN, *systems_of(context, "table1"), LINEAR]


def emotion_rows(context: Context, dataset: str) -> list[Row]:
    """Table 2, with the linear model."""
    return _with_gcnet(context, dataset, "table2")


def missing_rows(context: Context, dataset: str) -> list[Row]:
    """Table 3, with the linear model."""
    return _with_gcnet(context, dataset, "table3")


def _with_gcnet(context: Context, dataset: str, table: str) -> list[Row]:
    """GCNet has the epochs of both stages of the others."""
    known = gcnet(context, _budget(context, dataset), stages=2)
    return [*MAIN, known, *systems_of(context, table), LINEAR]


def weight_rows(context: Context) -> dict[str, list[tuple[float, Row]]]:
    """Fig 6: by weight of Eq. 17, its values and their rows."""
    tried = VALUES.get(context.profile.name, ALL_VALUES)
    return {
        name: [
            (
                value,
                ours(f"{name} = {value:g}", options=() if value == printed else ((name, value),)),
            )
            for value in sorted({*tried, printed})
        ]
        for name, printed in WEIGHTS.items()
    }


def alone_rows(context: Context, dataset: str) -> list[Row]:
    """The released protocol: a second stage for each test condition (E2)."""
    return [
        OURS.but(name=ALONE, train=conditions.law(name), tests=conditions.tests([name]))
        for name in names_of(context, dataset)
    ]


def names_of(context: Context, dataset: str) -> list[str]:
    """The test conditions in the paper's order: single modalities, pairs, all of them."""
    pairs = ("audio", "text", "vision", "audio+vision", "audio+text", "text+vision")
    return conditions.conditions(context.bundle(dataset).modalities, pairs)


def averages(context: Context, dataset: str) -> dict[str, list[str]]:
    """Table 3's average, over the conditions in which something is missing."""
    return {MEAN_MISSING: names_of(context, dataset)[:-1]}


def whole(context: Context, dataset: str, grid: bool = False) -> Protocol:
    """Training and test with all modalities."""
    return Protocol(complete(), WHOLE, _budget(context, dataset), grid)


def missing(context: Context, dataset: str, grid: bool = False) -> Protocol:
    """Training under combinations drawn anew, tests under each condition."""
    tests = conditions.tests(names_of(context, dataset))
    return Protocol(patterns(), tests, _budget(context, dataset), grid)


def missing_main(context: Context, dataset: str) -> Protocol:
    """``missing`` with the seeds of the main comparison."""
    return dataclasses.replace(missing(context, dataset), main=True)


def whole_grid(context: Context, dataset: str) -> Protocol:
    """``whole`` with a grid's seeds."""
    return whole(context, dataset, grid=True)


def missing_grid(context: Context, dataset: str) -> Protocol:
    """``missing`` with a grid's seeds."""
    return missing(context, dataset, grid=True)


def _budget(context: Context, dataset: str) -> budgets.Budget:
    return budgets.budget(context, dataset, PRINTED, "momke")


def scores(context: Context) -> Sequence[str]:
    """The data sets of the paper's main tables: those whose task is a score."""
    of_scores = [d for d in vectors(context) if context.bundle(d).task.kind == "score"]
    return of_scores or vectors(context)[:1]


def vectors(context: Context) -> list[str]:
    """The data sets with one vector for each utterance: those of everything but Table 5 and Figs 7 and 8 (C22)."""
    return [d for d in context.datasets if d not in FRAMES]


def frames(context: Context) -> list[str]:
    """The data sets whose utterances are sequences of frames."""
    return [d for d in context.datasets if d in FRAMES]


def of_weights(context: Context) -> list[str]:
    """The paper draws Fig 6, and has Tables 3 and 7, for MOSEI; the main data set stands in where there is none."""
    return ["mosei" if "mosei" in context.datasets else context.main]


def of_cases(context: Context) -> str:
    """The paper shows cases of IEMOCAP; the main data set stands in where there is none."""
    return "iemocap" if "iemocap" in context.datasets else context.main


def lacks_vectors(context: Context) -> str:
    """Why an artifact of utterance vectors cannot be made; empty where it can."""
    return "" if vectors(context) else _lacking([d for d in ROLES if d not in FRAMES])


def lacks_combinations(context: Context) -> str:
    """Why no modality's Shapley value can be had; empty where every combination is tested."""
    if all(conditions.all_tested(context.bundle(d).modalities) for d in vectors(context)):
        return lacks_vectors(context)
    return f"Needs results on every combination of modalities, which only up to {FEW} have."


def lacks_frames(context: Context) -> str:
    """Why an artifact of frames cannot be made; empty where it can."""
    return "" if frames(context) else _lacking(list(FRAMES))


def _lacking(datasets: Sequence[str]) -> str:
    roles = [ROLES[d] for d in datasets]
    return f"No data for the roles {', '.join(roles)}: give --data {roles[0]}=BUNDLE."
