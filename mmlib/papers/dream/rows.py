"""DREAM's rows and protocols (ledger 2.1): P first, then the network that it guides."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

from mmlib import masks
from mmlib.experiments import budgets, conditions, systems
from mmlib.experiments.baselines import LINEAR, gcnet
from mmlib.experiments.budgets import few
from mmlib.experiments.conditions import ALL, framed
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.recipes import whole_dialogues
from mmlib.experiments.rows import Budget, Protocol, Row, Stage
from mmlib.experiments.rows import cells as cells_of
from mmlib.masks import Law, complete
from mmlib.runs.spec import Options, Training

ROLES = {"mosi": "mosi-frames", "mosei": "mosei-frames", "iemocap": "iemocap4-frames"}
AVERAGE = "average"
# Each modality's rate in training, where they are dropped anew each epoch as CorrKD's are (B14).
DROPPING = masks.shared(0.5, resampled=True)
LEVELS = {
    "smoke": (0.0, 0.6),
    "quick": (0.0, 0.3, 0.6, 0.9),
    "laptop": (0.0, 0.2, 0.4, 0.6, 0.8),
}
ALL_LEVELS = tuple(k / 10 for k in range(10))  # of Figs 3 to 5, whose ratios the text does not give
DEPARTING = 0.6  # the share of Figs 4 and 5 under which readings are compared
PAIRS = ("text", "audio", "vision", "audio+text", "text+vision", "audio+vision")  # Table 1's order

# Names of rows.
OURS, PLAIN, P = "DREAM", "same network, task loss alone", "P by itself"
RIVALS = (PLAIN, P)
CORRKD, POOR, SELFMM, MLP = "CorrKD", "under-trained CorrKD", "Self-MM", "MLP"  # Fig 5, by P
CORRKD_AS_P, SELFMM_AS_P = f"{CORRKD} (as P)", f"{SELFMM} (as P)"  # of Table 1, by themselves
KNOWING = "P on complete data (B15)"
ABLATED = {"w/o dynamic enhancement": "enhance_all", "w/o MMFM": "no_masked_fusion"}  # by variant


PRINTED_EPOCHS, PRINTED_BATCH, PRINTED_LR = 30, 32, 1e-4  # of P as of what follows; utterances
IEMOCAP_LR = 2e-4  # A.2


def budget(context: Context, dataset: str) -> Budget:
    """Of both stages; P has its full size everywhere. Steps take whole dialogues."""
    if context.profile.name != "paper":
        return budgets.searched(context, dataset)
    lr = IEMOCAP_LR if dataset == "iemocap" else PRINTED_LR
    batch = whole_dialogues(PRINTED_BATCH, context.bundle(dataset))
    size: Options = (("hidden", 200), ("repeats", 2))
    return Budget(Training(PRINTED_EPOCHS, batch, lr, weight_decay=0.0), {"dream": size})


def reference(
    context: Context, dataset: str, backbone: str = "corrkd", share: float = 1.0
) -> Stage:
    """P, trained under the law of the row's table; Self-MM's own training is of scores.

    share: of its epochs.
    """
    own = backbone == "selfmm" and dataset in scores(context)
    method = "selfmm" if own else "reference"
    training: Options = ()
    if share < 1:
        epochs = budget(context, dataset).of(backbone).epochs
        training = (("epochs", max(1, round(share * epochs))),)
    return Stage(method, backbone, training=training, keep=("weights",))


def guided(p: Stage, name: str = OURS, variant: str = "paper", network: Options = ()) -> Row:
    """The method, guided by a P."""
    options: Options = () if p.backbone == "corrkd" else (("reference", p.backbone),)
    return Row(name, (p, Stage("dream", "dream", variant, options, network)))


def plain() -> Row:
    """The method's network with the task loss alone: nothing enhanced, no P."""
    return Row(PLAIN, (Stage("reference", "dream"),))


def main_rows(context: Context, dataset: str) -> list[Row]:
    """Fig 3 and all that compares; the two beside the method are ours."""
    p = reference(context, dataset)
    return [guided(p), plain(), Row(P, (p,))]


def compared_rows(context: Context, dataset: str) -> list[Row]:
    """The main comparison: the method, its network with the task loss alone, and the linear model."""
    return [guided(reference(context, dataset)), plain(), LINEAR]


def table_rows(context: Context, dataset: str) -> list[Row]:
    """Table 1: the method, its network, two of its Ps by themselves (B16), GCNet and the linear model."""
    p = reference(context, dataset)
    return [
        guided(p),
        plain(),
        Row(CORRKD_AS_P, (p,)),
        Row(SELFMM_AS_P, (reference(context, dataset, "selfmm"),), against=None),
        gcnet(context, budget(context, dataset), 1, "reference", framed(context, dataset)),
        *systems_of(context),
        LINEAR,
    ]


def systems_of(context: Context) -> list[Row]:
    """The other systems of Table 1 and Fig 3; none on a reader's own data."""
    if context.own:
        return []
    return systems.rows("CubeMLP", "TransModality", "SMIL", "MPLMM", "MSPs-style", CORRKD)


def ablation_rows(context: Context, dataset: str) -> list[Row]:
    """Fig 4: the method, and without each of two parts."""
    row = partial(guided, reference(context, dataset))
    return [row(), *(row(name, variant) for name, variant in ABLATED.items())]


def references(context: Context, dataset: str) -> dict[str, Stage]:
    """The Ps of Fig 5; one has a tenth of the epochs."""
    p = partial(reference, context, dataset)
    return {CORRKD: p(), POOR: p(share=0.1), SELFMM: p("selfmm"), MLP: p("mlp")}


def reference_rows(context: Context, dataset: str) -> list[Row]:
    """Fig 5: the method with each P, by P's name."""
    return [guided(p, name) for name, p in references(context, dataset).items()]


def knowing(context: Context, dataset: str) -> Row:
    """The method with a P that learned from complete data, whatever the second stage sees (B15)."""
    return guided(dataclasses.replace(reference(context, dataset), train=complete()), KNOWING)


def readings(context: Context, dataset: str) -> list[Row]:
    """Those of ledger 2.2, each against the recommended one, but those of tasks that the data do not have."""
    row = partial(guided, reference(context, dataset))
    kind = context.bundle(dataset).task.kind
    of_task = {
        "score": [
            row("PSS of seven classes (B2)", "seven_classes"),
            row("squared error", "squared"),
        ],
        "binaries": [row("PSS of any emotion (B3)", "any_emotion")],
    }
    repeated = [row("one weight for all repeats", network=(("shared_repeats", True),))]
    full, *without = ablation_rows(context, dataset)
    return [
        full,
        row("empty set undecided (B1)", "undecided_empty"),
        *of_task.get(kind, ()),
        row("PAS clipped (B5)", "clipped_pas"),
        row("literal fusion (B6)", "literal_fusion"),
        row("enhance up to 1/6 (B7)", "low_contribution"),
        row("enhance in turn (B8)", network=(("sequential", True),)),
        *(repeated if repeats(context) > 1 else ()),
        knowing(context, dataset),
        row("no distillation", "no_distillation"),
        row("no enhancement", "no_enhancement"),
        *without,
    ]


def departure_rows(context: Context, dataset: str) -> list[Row]:
    """All readings of Fig 4's data; of other data those alone that Fig 4's do not have."""
    rows, first = readings(context, dataset), ablated(context)
    if dataset == first:
        return rows
    known = {row.name for row in readings(context, first)} - {OURS}
    return [row for row in rows if row.name not in known]


def names_of(context: Context, dataset: str) -> list[str]:
    """The test conditions in the paper's order: single modalities, pairs, all of them."""
    return conditions.conditions(context.bundle(dataset).modalities, PAIRS)


def averages(context: Context, dataset: str) -> dict[str, list[str]]:
    """Table 1's average, over the conditions in which something is missing."""
    return {AVERAGE: names_of(context, dataset)[:-1]}


def weak(context: Context, dataset: str) -> list[str]:
    """The conditions without text, which the paper calls the low-contribution modalities."""
    return [name for name in names_of(context, dataset)[:-1] if "text" not in name.split("+")]


def levels(context: Context) -> tuple[float, ...]:
    """Ratios of Fig 3; those above 0 of Figs 4 and 5."""
    return LEVELS.get(context.profile.name, ALL_LEVELS)


def percent(level: float) -> str:
    """A level's name as a setting."""
    return f"{100 * level:g} %"


def frames(context: Context, dataset: str, level: float) -> Law:
    """Fig 3's law; vectors have no frames to lose, so that whole modalities are dropped."""
    framed = conditions.framed(context, dataset)
    return masks.frames(level) if framed else masks.shared(level)


def mixed(context: Context, dataset: str, level: float) -> Law:
    """The law of Figs 4 and 5 (A.4); of vectors as ``frames``."""
    framed = conditions.framed(context, dataset)
    return masks.mix(level) if framed else masks.shared(level)


def whole(context: Context, dataset: str) -> Protocol:
    """Complete training, Table 1's conditions at test: the other reading of its protocol (B14)."""
    tests = conditions.tests(names_of(context, dataset))
    return Protocol(complete(), tests, budget(context, dataset), few(context))


def dropped(context: Context, dataset: str) -> Protocol:
    """Modalities dropped in training, Table 1's conditions at test."""
    return dataclasses.replace(whole(context, dataset), train=DROPPING, grid=False)


def dropped_main(context: Context, dataset: str) -> Protocol:
    """``dropped`` with the seeds of the main comparison."""
    return dataclasses.replace(dropped(context, dataset), main=True)


def under(context: Context, dataset: str, law: Law, grid: bool) -> Protocol:
    """The same law in training and at test; its rate names the setting."""
    return Protocol(law, ((percent(law.rate), law),), budget(context, dataset), grid)


def departing(context: Context, dataset: str) -> Protocol:
    """The law of Figs 4 and 5 at one share."""
    return under(context, dataset, mixed(context, dataset, DEPARTING), grid=True)


def own_vectors(context: Context) -> bool:
    """Whether these are own data without frames to lose, so that whole modalities are dropped."""
    return context.own and not conditions.framed(context, context.main)


def lossy(context: Context, dataset: str, rows: Sequence[Row] = ()) -> list[Cell]:
    """Fig 3: frames lost at one ratio in training and test; at 0 the runs are those of ``whole``.

    rows: those of ours by default.
    """
    rows = rows or main_rows(context, dataset)
    none_lost = cells_of(context, dataset, rows, whole(context, dataset), (ALL,))
    named = [dataclasses.replace(cell, setting=percent(0)) for cell in none_lost]
    return named + _at_levels(context, dataset, rows, frames)


def lossy_rows(context: Context, dataset: str) -> list[Row]:
    """Fig 3: the method, its network, P, and the other systems."""
    return [*main_rows(context, dataset), *systems_of(context)]


def lossy_places(context: Context, dataset: str, row: Row) -> list[Cell]:
    """Fig 3's cells of a row."""
    return lossy(context, dataset, [row])


def mixtures(context: Context, dataset: str, rows: Sequence[Row]) -> list[Cell]:
    """Figs 4 and 5: a share of training and of test is affected (A.4)."""
    return _at_levels(context, dataset, rows, mixed)


def _at_levels(
    context: Context, dataset: str, rows: Sequence[Row], law: Callable[[Context, str, float], Law]
) -> list[Cell]:
    """Rows trained and tested under one law, at each level above 0."""
    laws = [law(context, dataset, level) for level in levels(context)[1:]]
    grid = few(context)
    return [
        cell
        for of_level in laws
        for cell in cells_of(context, dataset, rows, under(context, dataset, of_level, grid))
    ]


def scores(context: Context) -> list[str]:
    """The data sets whose task is a score."""
    return conditions.of_kind("score")(context)


def ablated(context: Context) -> str:
    """The data set of Fig 4, and (a guess) of Fig 5: IEMOCAP; the main one stands in where there is none."""
    return "iemocap" if "iemocap" in context.datasets else context.main


def compared(context: Context) -> list[str]:
    """The data sets of Fig 5: that of Fig 4, and one of scores, which Self-MM's own training needs."""
    return list(dict.fromkeys([ablated(context), *scores(context)[:1]]))


def of_readings(context: Context) -> list[str]:
    """The data set of Fig 4, and one of scores, whose readings it may not have."""
    first = ablated(context)
    return [first] if first in scores(context) else compared(context)


def width(context: Context) -> int:
    """d, the network's width."""
    return int(dict(budget(context, context.main).sizes["dream"])["hidden"])


def repeats(context: Context) -> int:
    """D, the network's blocks of enhancement."""
    return int(dict(budget(context, context.main).sizes["dream"])["repeats"])


def prepared(context: Context) -> Context:
    """The context with the seeds of every network, and with what captions say of the profile."""
    fewer = dataclasses.replace(context.profile, other_seeds=context.profile.seeds)
    caption = reduced(dataclasses.replace(context, profile=fewer))
    return dataclasses.replace(context, profile=dataclasses.replace(fewer, reduced=caption))


def reduced(context: Context) -> str:
    """What captions say of a profile's budget; nothing at the paper's."""
    profile = context.profile
    if profile.name == "paper":
        return ""
    folded = {context.bundle(dataset).fold is not None for dataset in context.datasets}
    seeds = {profile.fold_seeds if fold else profile.seeds for fold in folded}
    size = dict(profile.network["dream"])
    return (
        f"Reduced ({profile.name}): width {size['hidden']}, enhancement {'twice' if size['repeats'] == 2 else 'once'}, "
        f"{budgets.spent(context)}, {budgets.seeds_in_words(seeds)} "
        f"({profile.grid_seeds} of {'curves and ' * few(context)}departures)."
    )
