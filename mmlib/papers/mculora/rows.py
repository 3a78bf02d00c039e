"""MCULoRA's rows and what they share: which runs make its tables and figures (ledger 4.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from mmlib.experiments import budgets, systems
from mmlib.experiments import rows as shared
from mmlib.experiments.baselines import LINEAR, gcnet
from mmlib.experiments.budgets import TransformerBudget
from mmlib.experiments.conditions import combinations
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Protocol, Row, Stage, Tests
from mmlib.masks import Law, complete, patterns, random_missing, subset
from mmlib.runs.spec import Options

ROLES = {"mosei": "mosei", "iemocap": "iemocap4", "crema-d": "crema-d"}
PAIR = "crema-d"  # not in the paper: real data with two modalities
RANDOM = "random"
MEAN_MISSING, MEAN_ALL = "average of the missing conditions", "average of all conditions"
WHOLE = "all modalities"
METRICS = {
    "mosei": ("accuracy", "weighted_f1"),
    "iemocap": ("accuracy", "macro_recall"),
    PAIR: ("accuracy", "macro_recall"),
}

SYSTEMS_OF = {  # of Table 1
    "mosei": ("MCTN", "MMIN", "DiCMoR", "IMDer", "EUAR"),
    "iemocap": ("MCTN", "MMIN", "IF-MMIN", "MRAN-style"),
}

PRINTED = {
    "mosei": TransformerBudget(200, 32, 1e-4, 256, 4, 0.5),
    "iemocap": TransformerBudget(300, 16, 1e-4, 256, 4, 0.5),
    PAIR: TransformerBudget(300, 128, 1e-4, 256, 4, 0.5),
}
PRINTED_RANK = 4
# The ranks of Fig 3.
RANKS = {
    "smoke": (1, 4),
    "quick": (1, 2, 4, 8),
    "laptop": (1, 2, 4, 8),
    "paper": (1, 2, 3, 4, 5, 6, 7, 8),
}

# One pre-training for all rows of a seed and fold but MoMKE, whose experts come from their own modality alone.
PRETRAINING = Stage("plain", "crossmodal", keep=("weights", "curves"))
EXPERTS = Stage(
    "unimodal", "momke", network=(("routing", "own"),), train=complete(), keep=("last",)
)

# Variants that train the network's own weights: without adapters, or with nothing frozen.
WHOLE_NETWORK = ("no_mcla", "neither", "unfrozen", "leaking_released")


def adapted(name: str, variant: str = "paper", options: Options = ()) -> Row:
    """The method or what is left of it without some part, from pre-training.

    Where a variant trains the network's own weights, it does so by the network's recipe, not at the rate that
    validation chose for adapters, which start at zero.
    """
    recipe = "plain" if variant in WHOLE_NETWORK else ""
    last = Stage("mculora", "crossmodal", variant, options, keep=("curves",), recipe=recipe)
    return Row(name, (PRETRAINING, last))


OURS = adapted("MCULoRA")
MOMKE = Row("MoMKE", (EXPERTS, Stage("plain", "momke", keep=("curves",))))
PRETRAINED = Row("pre-training alone", (PRETRAINING,))
WITHOUT_DPFT = adapted("w/o DPFT", "fixed")
WITHOUT_MCLA = adapted("w/o MCLA", "no_mcla")
# The same ablation as it is easily made: with every setting of the method, the adapters' learning rate among them.
AT_ADAPTERS_RATE = WITHOUT_MCLA.but(name="w/o MCLA at the adapters' learning rate", recipe="")
NEITHER = adapted("w/o MCLA, w/o DPFT", "neither")
JOINT = NEITHER.but(name="joint training")
WITHOUT_ORT = adapted("w/o L_ort", "no_ort")
SQUARED_ORT = adapted("L_ort with a square (F3)", "orthogonal")
FIRST_RELEASE = adapted("first release's rule (G5), on train", "first_release")
LEAKS_INPUTS = adapted("LEAKS test inputs (Eq. 9 as printed)", "leaking_test_inputs")
LEAKS_LABELS = adapted("LEAKS test labels (released rule, G1)", "leaking_test_accuracy")

# Of Table 1. Of ours is the same network trained on: jointly for as long, or not at all.
MAIN = (MOMKE, JOINT, PRETRAINED, OURS)
ABLATION = (NEITHER, WITHOUT_DPFT, WITHOUT_MCLA, OURS)  # Table 2
# The rules by what they look at.
LEAK = (WITHOUT_DPFT, OURS, adapted("DPFT on validation", "valid"), LEAKS_INPUTS, LEAKS_LABELS)
DEPARTURES = (  # readings and departures, each against the method as recommended
    OURS,
    SQUARED_ORT,
    WITHOUT_ORT,
    adapted("ranked by signed change (F11)", "signed"),
    FIRST_RELEASE,
    adapted("LEAKS: first release's rule (G5), on test", "leaking_first_release"),
    adapted("nothing frozen (G4)", "unfrozen"),
    adapted("LEAKS: as released (G1, G4, G9, G10)", "leaking_released"),
)
# The method with and without its parts, its gradients and cosines recorded.
PROBED = tuple(
    row.but(options=(("probe", True),)) for row in (OURS, NEITHER, WITHOUT_ORT, SQUARED_ORT)
)


def rank_rows(context: Context) -> dict[int, Row]:
    """Fig 3: by rank of the adapters."""
    ranks = RANKS[context.profile.name]
    options: dict[int, Options] = {r: () if r == PRINTED_RANK else (("rank", r),) for r in ranks}
    return {rank: adapted(f"rank {rank}", options=of) for rank, of in options.items()}


def alone_rows(context: Context, variant: str) -> list[Row]:
    """A model for each combination, from the same pre-training: adapters (``fixed``) or the network (``neither``)."""
    row = adapted(f"a model for each combination, {variant}", variant)
    names = conditions(context, context.main)
    return [row.but(train=law(name), tests=_tests([name])) for name in names]


def conditions(context: Context, dataset: str) -> list[str]:
    """The test conditions in the paper's order: single modalities, pairs, all of them."""
    modalities = context.bundle(dataset).modalities
    names = ["+".join(names) for names in combinations(modalities)]
    if len(modalities) == 3:
        # The paper has the first and the last modality before the first two.
        names[3], names[4] = names[4], names[3]
    return names


def law(condition: str) -> Law:
    """The mask of a test condition."""
    return random_missing() if condition == RANDOM else subset(condition.split("+"))


def averages(context: Context, dataset: str) -> dict[str, list[str]]:
    """The two averages of Table 1 (F16)."""
    every = conditions(context, dataset)
    return {MEAN_MISSING: every[:-1], MEAN_ALL: every}


def compared_averages(context: Context, dataset: str) -> dict[str, list[str]]:
    """Those of the main comparison: what is missing in some way, and what is complete."""
    every = conditions(context, dataset)
    return {MEAN_MISSING: every[:-1], WHOLE: every[-1:]}


def own_data_sets(context: Context) -> list[str]:
    """The data sets that the paper's tables and figures are made of: all but the pair, unless there is no other."""
    return [d for d in context.datasets if d != PAIR] or context.datasets


def bounds(dataset: str) -> Options:
    """The shares' range by data set, as printed for masking probabilities: 0.45 to 0.55 and 0.4 to 0.6 (F13)."""
    return () if dataset == "iemocap" else (("high", 1.2), ("low", 0.8))


def protocol(context: Context, dataset: str, grid: bool = False) -> Protocol:
    """Training under mixed combinations, tests under each of them and with modalities missing at random."""
    tests = _tests([*conditions(context, dataset), RANDOM])
    spent = budgets.budget(context, dataset, PRINTED, "crossmodal", "momke")
    return Protocol(patterns(), tests, spent, grid)


def protocol_main(context: Context, dataset: str) -> Protocol:
    """``protocol`` with the seeds of the main comparison."""
    return dataclasses.replace(protocol(context, dataset), main=True)


def protocol_grid(context: Context, dataset: str) -> Protocol:
    """``protocol`` with a grid's seeds."""
    return protocol(context, dataset, grid=True)


def fitted(context: Context, dataset: str, chosen: Iterable[Row]) -> list[Row]:
    """Rows with what the data decide: the range of the shares, and the condition under which experts are tested."""
    whole = _tests(conditions(context, dataset)[-1:])

    def of_data(stage: Stage) -> Stage:
        if stage.method == "mculora":
            return dataclasses.replace(stage, options=(*stage.options, *bounds(dataset)))
        return dataclasses.replace(stage, tests=whole) if stage.method == "unimodal" else stage

    return [dataclasses.replace(row, stages=tuple(map(of_data, row.stages))) for row in chosen]


def table_rows(context: Context, dataset: str) -> list[Row]:
    """Table 1, with the linear model; other systems stand where the paper prints them."""
    chosen = fitted(context, dataset, MAIN)
    if dataset == "mosei":
        chosen.append(gcnet(context, protocol(context, dataset).budget, stages=2))
    others = () if context.own else SYSTEMS_OF.get(dataset, ())
    return [*chosen, *systems.rows(*others), LINEAR]


def cells(
    context: Context,
    dataset: str,
    chosen: Iterable[Row],
    grid: bool = False,
    settings: Sequence[str] = (),
) -> list[Cell]:
    """Rows under the test conditions, or under the test masks named."""
    names = settings or conditions(context, dataset)
    made = fitted(context, dataset, chosen)
    return shared.cells(context, dataset, made, protocol(context, dataset, grid), names)


def _tests(names: Sequence[str]) -> Tests:
    return tuple((name, law(name)) for name in names)
