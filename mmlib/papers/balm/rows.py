"""BALM's rows and protocols: which runs make its tables and figures (ledger 1.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mmlib.data.catalog import is_twin
from mmlib.experiments import budgets, systems
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.conditions import combinations
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Budget, Protocol, Row, Stage, Tests, specs
from mmlib.experiments.tables import Places
from mmlib.masks import Law, complete, subset
from mmlib.runs.spec import Options, Training

Rates = tuple[float, float, float]
SETTINGS: tuple[Rates, ...] = (
    (0.3, 0.5, 0.7),
    (0.3, 0.7, 0.5),
    (0.5, 0.3, 0.7),
    (0.5, 0.7, 0.3),
    (0.7, 0.3, 0.5),
    (0.7, 0.5, 0.3),
)
SEVERE: tuple[Rates, ...] = (
    (0.1, 0.1, 0.9),
    (0.1, 0.9, 0.1),
    (0.9, 0.1, 0.1),
    (0.6, 0.6, 0.9),
    (0.6, 0.9, 0.6),
    (0.9, 0.6, 0.6),
)
THREE: tuple[Rates, ...] = (  # of these, each modality has each rate once
    (0.3, 0.5, 0.7),
    (0.5, 0.7, 0.3),
    (0.7, 0.3, 0.5),
    *SEVERE[:3],
)
COMBINED: tuple[Rates, ...] = (  # Tables 8 and 9
    (0.5, 0.5, 0.7),
    (0.5, 0.7, 0.5),
    (0.7, 0.5, 0.5),
    (0.3, 0.5, 0.7),
    (0.5, 0.3, 0.7),
    (0.7, 0.5, 0.3),
)
FOCUS: Rates = (0.5, 0.7, 0.3)
CONFIGURATIONS: dict[str, Rates] = {"A": (0.5, 0.3, 0.7), "B": FOCUS}  # of Table 7
COMPLETE: Rates = (0.0, 0.0, 0.0)
SAME = "same"  # the test mask whose law is that of training
ROLES = {"iemocap": "iemocap6", "mosei": "mosei"}
BACKBONES = ("mmgcn", "gcnet", "mmdfn")  # the first is that of the figures drawn for one backbone
NAMES = {"mmgcn": "MMGCN", "gcnet": "GCNet", "mmdfn": "MMDFN"}  # as the paper writes them
TAU_RHO: Options = (("rho", 1.4), ("tau", 0.4))
FOCAL: Options = (("class_weights", "unnormalised"), ("focal", 0.5))  # MM-DFN's own loss (D14)
# SGD is a control of ours; a squared error's gradients are larger than a cross-entropy's and diverge at 0.1.
SGD: Options = (("optimizer", "sgd"),)
SGD_RATES = {"classes": 0.1, "binaries": 0.1, "score": 0.01}
RATE_NAMES = ("r_A", "r_L", "r_V")
LETTERS = {"audio": "A", "vision": "V", "text": "L"}
LEVELS = (("paper", "released"), ("gradients", "weights"), ("no noise", "noise"))  # ledger 7.2
# Form of a backbone, what its network differs in, and what its loss does.
FORMS: dict[str, tuple[tuple[str, Options, Options], ...]] = {
    "mmgcn": (
        ("official", (("layers", 64), ("speaker", "text")), (("class_weights", "normalised"),)),
        ("unpacked", (("packed", False),), ()),
    ),
    "gcnet": (
        ("linear encoders", (("encoder", "linear"),), ()),
        ("reconstruction", (("reconstruct", 1.0),), ()),
        ("unpacked", (("packed", False),), ()),
    ),
    "mmdfn": (("gated", (("gated", True),), ()), ("unpacked", (("packed", False),), ())),
}


def plain(backbone: str) -> Row:
    """The backbone alone."""
    return Row(NAMES[backbone], (Stage("plain", backbone),))


def balm(backbone: str, variant: str = "paper", suffix: str = "BALM") -> Row:
    """A variant of BALM over a backbone, compared with the backbone alone (A22, A24)."""
    own = plain(backbone).name
    return Row(f"{own}+{suffix}", (Stage("balm", backbone, variant),), own)


def fcm(backbone: str) -> Row:
    """BALM's calibration of features alone."""
    return balm(backbone, "fcm", "FCM")


def watched(row: Row) -> Row:
    """The row with what is watched along its training kept."""
    return row.but(keep=("series",))


def watched_plain(backbone: str) -> Row:
    """The backbone as it trains by itself, watched by heads that it does not feel."""
    return balm(backbone, "probe").but(name=NAMES[backbone], recipe="plain")


def backbones(context: Context, dataset: str = "") -> Sequence[str]:
    """The backbones that are trained on a data set, the main one first."""
    everywhere = context.profile.others_everywhere or dataset in ("", context.main)
    return context.backbones if everywhere else context.backbones[:1]


def main_rows(context: Context, dataset: str = "") -> list[Row]:
    """Each backbone plain and with BALM as printed; the main one also with BALM as released."""
    return [*pairs(context, dataset), balm(context.backbone, "released", "BALM (released)")]


def pairs(context: Context, dataset: str = "") -> list[Row]:
    """Each backbone plain (ours in Tables 11 and 12, but for GCNet) and with BALM (ours there for GCNet)."""
    return [make(backbone) for backbone in backbones(context, dataset) for make in (plain, balm)]


def shared_rows(context: Context, dataset: str = "") -> list[Row]:
    """Tables 11 and 12: ``pairs``, the other systems, and the linear model."""
    others = () if context.own else ("SDR-GNN", "Mi-CGA-style")
    return [*pairs(context, dataset), *systems.rows(*others), LINEAR]


def momke(context: Context, dataset: str) -> Row:
    """MoMKE (ledger E22): the experts' own stage, then its routing; both see the masks of the table (F21).

    The stages share the epochs of one.
    """
    half = (("epochs", max(1, _budget(context, dataset).of("momke").epochs // 2)),)
    own = (("routing", "own"),)
    experts = Stage(
        "unimodal",
        "momke",
        network=own,
        tests=((SAME, complete()),),
        training=half,
        keep=("last",),
    )
    return Row("MoMKE", (experts, Stage("plain", "momke", training=half)), against=None)


def table_rows(context: Context, dataset: str = "") -> list[Row]:
    """Tables 1 and 2: our rows, those of Groups 1 and 2, and the linear model."""
    return [
        *main_rows(context, dataset),
        momke(context, dataset),
        *systems_of(context, dataset),
        LINEAR,
    ]


def systems_of(context: Context, dataset: str) -> list[Row]:
    """The other systems of Tables 1 and 2; MCE stands in the first alone, and on a reader's own data none does."""
    if context.own:
        return []
    few = () if dataset == "mosei" else ("MCE",)
    return systems.rows("MMIN", "SDR-GNN", "Mi-CGA-style", "Ada2I", "RedCore", *few)


def severe_rows(context: Context, dataset: str = "") -> list[Row]:
    """Table 4: GCNet, and the main backbone with and without BALM."""
    main = [plain(context.backbone), balm(context.backbone)]
    others = [plain("gcnet")] if "gcnet" in backbones(context, dataset)[1:] else []
    return [*others, *main, LINEAR]


def compared_rows(context: Context, dataset: str = "") -> list[Row]:
    """The main comparison: the main backbone with and without BALM, and the linear model."""
    return [balm(context.backbone), plain(context.backbone), LINEAR]


def fcm_rows(context: Context, dataset: str = "") -> list[Row]:
    """Tables 3 and 10: the main backbone with and without FCM, and the linear model."""
    return [plain(context.backbone), fcm(context.backbone), LINEAR]


def halves(context: Context, dataset: str = "") -> list[Row]:
    """Table 13: the two halves of the gradient rebalancing apart, on the main backbone."""
    b = context.backbone
    return [plain(b), balm(b), balm(b, "d", "BALM-D"), balm(b, "s", "BALM-S")]


def squared(context: Context, dataset: str = "") -> list[Row]:
    """Tables 14 and 15: for each backbone, BALM with a mean squared error in the place of KL."""
    return [
        row
        for b in backbones(context, dataset)
        for row in (plain(b), balm(b), balm(b, "m", "BALM-M"))
    ]


def combination_rows(context: Context, dataset: str = "") -> list[Row]:
    """Tables 8 and 9: GCNet and the main backbone, with and without BALM; plain MMGCN is ours (A24)."""
    backbones = dict.fromkeys(b for b in ("gcnet", context.backbone) if b in context.backbones)
    return [make(backbone) for backbone in backbones for make in (plain, balm)]


def best_rows(context: Context, dataset: str = "") -> list[Row]:
    """The main backbone plain, with FCM, and with BALM as printed and as released."""
    b = context.backbone
    return [plain(b), fcm(b), balm(b), balm(b, "released", "BALM (released)")]


def control_rows(context: Context, dataset: str = "") -> list[Row]:
    """Controls at the focus setting (A8, A9, A10, A12, A13; ledger 7.2)."""
    b = context.backbone
    controls = {
        "guarded coefficients": "guarded",
        "smoothed coefficients": "ema",
        "L_mod as a constant": "constant",
        "aligned sign": "aligned",
    }
    named = [balm(b, variant).but(name=name) for name, variant in controls.items()]
    named.append(balm(b).but(name="whole gradient scaled", options=(("scaled", "whole"),)))
    bare, full = (r.but(name=f"{r.name} (SGD)", training=SGD) for r in (plain(b), balm(b)))
    return [plain(b), balm(b), *named, bare, dataclasses.replace(full, against=bare.name)]


def form_rows(context: Context, dataset: str = "") -> list[Row]:
    """Other forms of each backbone (A17, D13-D17), plain and with BALM, each beside the form of the tables.

    A plain form is compared with that of the tables, a form with BALM with the same form without.
    """
    rows = []
    for backbone in context.backbones:
        own = plain(backbone)
        rows += [own, balm(backbone)]
        for form, network, options in FORMS[backbone]:
            name = f"{own.name} ({form})"
            bare = own.but(name=name, network=network, options=options)
            full = balm(backbone).but(name=f"{name}+BALM", network=network, options=options)
            rows.append(dataclasses.replace(bare, against=own.name))
            rows.append(dataclasses.replace(full, against=name))
    return rows


def cells(
    context: Context,
    dataset: str,
    row: Row,
    rates: Rates,
    *,
    setting: str = "",
    layout: str = "paper",
    grid: bool = False,
    main: bool = False,
) -> list[Cell]:
    """The cells of one row in one setting; the same runs serve every artifact that asks for them."""
    law = complete() if rates == COMPLETE else context.rates(dataset, rates, layout)
    tests: Tests = ((SAME, law),)
    if rates == FOCUS and not row.stages[-1].modalities:
        tests = (*tests, *subsets(context, dataset))
    protocol = Protocol(law, tests, _budget(context, dataset), grid, main)
    made = specs(context, dataset, _fitted(context, dataset, row, rates), protocol)
    name = setting or setting_of(context, rates)
    return [Cell(row.name, name, spec, SAME, dataset) for spec in made]


def _fitted(context: Context, dataset: str, row: Row, rates: Rates) -> Row:
    """A row with what depends on the data and the backbone.

    On twins, series during training are kept in the six settings whether or not they are asked for, so that tables and
    curves share their runs; real runs stay small enough to be committed. Where each utterance is its own dialogue, FCM
    averages over the batch instead (A4).
    """
    stages = tuple(_fitted_stage(context, dataset, stage, rates) for stage in row.stages)
    return dataclasses.replace(row, stages=stages)


def _fitted_stage(context: Context, dataset: str, stage: Stage, rates: Rates) -> Stage:
    """A stage with what depends on the data and the backbone."""
    kind = context.bundle(dataset).task.kind
    keep = stage.keep
    options: dict[str, Any] = {}
    if stage.backbone == "mmdfn" and kind == "classes":
        options |= dict(FOCAL)
    if stage.method == "balm":
        options |= dict(TAU_RHO)
        if not context.has_dialogues(dataset):
            options["descriptor"] = "batch"
        shared = is_twin(context.reference(dataset)) and rates in SETTINGS
        if shared and not stage.modalities and "series" not in keep:
            keep = (*keep, "series")
    options |= dict(stage.options)
    if kind != "classes":
        options.pop("class_weights", None)
    schedule = dict(stage.training)
    if stage.training == SGD:
        schedule["lr"] = SGD_RATES[kind]
    return dataclasses.replace(
        stage, options=tuple(options.items()), training=tuple(schedule.items()), keep=keep
    )


def _budget(context: Context, dataset: str) -> Budget:
    """Each network's recipe; at the paper's profile, its printed schedule."""
    profile = context.profile
    if profile.name != "paper":
        return budgets.searched(context, dataset)

    def printed(backbone: str, fold: int | None, method: str) -> Training:
        return profile.training_for(dataset, backbone)

    return Budget(profile.training_for(dataset), profile.network, printed)


def in_settings(settings: Iterable[Rates]) -> Places:
    """The cells of a row in some settings, of those that the profile has."""

    def places(context: Context, dataset: str, row: Row) -> list[Cell]:
        return [
            cell
            for rates in kept(context, settings)
            for cell in cells(context, dataset, row, rates)
        ]

    return places


def kept(context: Context, settings: Iterable[Rates]) -> list[Rates]:
    """Those of some settings that the profile has; complete data and shared rates always."""
    few = context.profile.settings < len(SETTINGS)
    return [
        rates
        for rates in chosen(context, settings)
        if not few or rates in THREE or rates not in (*SETTINGS, *SEVERE)
    ]


def chosen(context: Context, settings: Iterable[Rates]) -> list[Rates]:
    """Some settings, each once; rates that were given take the place of those in which all three differ."""
    if not by_name(context):
        return list(settings)
    replaced = [
        FOCUS if context.given_rates and len(set(rates)) == len(rates) else rates
        for rates in settings
    ]
    return list({setting_of(context, rates): rates for rates in replaced}.values())


def mean_of_settings(context: Context) -> str:
    """What a mean over the settings of the main tables is called."""
    if len(kept(context, SETTINGS)) == 1:
        return f"at {setting_of(context, FOCUS)}"
    return f"mean of the {'six' if len(kept(context, SETTINGS)) == len(SETTINGS) else 'three'} settings"


def compared(context: Context, dataset: str, row: Row) -> list[Cell]:
    """The cells of the main comparison: complete data and the focus setting, with its seeds."""
    return [
        cell
        for rates in (COMPLETE, FOCUS)
        for cell in cells(context, dataset, row, rates, main=True)
    ]


SIX = in_settings(SETTINGS)
SIX_AND_COMPLETE = in_settings((*SETTINGS, COMPLETE))
AT_FOCUS = in_settings([FOCUS])


def of_rows(context: Context, dataset: str, rows: Iterable[Row], places: Places) -> list[Cell]:
    """The cells of some rows."""
    return [cell for row in rows for cell in places(context, dataset, row)]


def at_subsets(context: Context, dataset: str, row: Row) -> list[Cell]:
    """Runs trained at the focus setting, read on complete data cut to each of the seven subsets."""
    names = [name for name, _ in subsets(context, dataset)]
    trained = cells(context, dataset, row, FOCUS)
    return [
        dataclasses.replace(cell, setting=name, mask=name) for cell in trained for name in names
    ]


def at_shared(context: Context, dataset: str, row: Row) -> list[Cell]:
    """Tables 11 and 12: one rate for all modalities, by the same operator as the imbalanced rates."""
    grid = is_twin(context.reference(dataset))
    return [
        cell
        for rate in context.profile.shared_rates
        for cell in cells(
            context, dataset, row, (rate, rate, rate), setting=f"{rate:.1f}", grid=grid
        )
    ]


def at_combinations(context: Context, dataset: str, row: Row) -> list[Cell]:
    """Tables 8 and 9: training and test with the listed modalities alone, in six settings.

    The masks are those of all modalities, so that a modality is missing as often as its rate says; an utterance
    may then have nothing. GRM has nothing to balance in one modality (Eq. 21 would be 0 throughout and freeze its
    encoder), so +BALM is FCM alone there.
    """
    everything = context.bundle(dataset).modalities
    made = []
    for rates in combined(context):
        for name, group in groups(context, dataset):
            used = row if len(group) == len(everything) else row.but(modalities=group)
            if len(group) == 1 and row.stages[-1].method == "balm":
                used = used.but(variant="fcm")
            made += cells(
                context,
                dataset,
                used,
                rates,
                setting=f"{setting_of(context, rates)} {name}",
                grid=True,
            )
    return made


def combined(context: Context) -> list[Rates]:
    """The settings of Tables 8 and 9 that the profile has."""
    return chosen(context, COMBINED[-context.profile.combined :])


def configurations(context: Context) -> dict[str, Rates]:
    """Those of Table 7, or the one whose rates were given."""
    return {"given": FOCUS} if context.given_rates else CONFIGURATIONS


def at_form(context: Context, dataset: str, row: Row) -> list[Cell]:
    """The focus setting; other forms than those of the tables get a grid's seeds."""
    return cells(context, dataset, row, FOCUS, grid=bool(row.stages[-1].network))


def tuned(context: Context, rates: Rates) -> list[Cell]:
    """Table 7: BALM over tau and rho in one configuration."""
    made = []
    for tau in context.profile.taus:
        for rho in context.profile.rhos:
            row = balm(context.backbone).but(options=(("rho", rho), ("tau", tau)))
            setting = f"tau={tau:g} rho={rho:g}"
            made += cells(context, context.main, row, rates, setting=setting, grid=True)
    return made


def factor_cells(context: Context) -> list[Cell]:
    """The 2 x 2 x 2 of ledger 7.2 at the focus setting, and the plain backbone under both mask layouts.

    Where nothing differs from the printed method, the run is that of the tables.
    """
    layouts, spatials, noises = LEVELS
    made = []
    for layout in layouts:
        of_layout = [plain(context.backbone).but(name=f"plain|{layout}")]
        for spatial in spatials:
            for noise in noises:
                changed: Options = (("spatial", spatial),) if spatial != spatials[0] else ()
                changed += (("noise", True),) if noise != noises[0] else ()
                name = f"{layout}|{spatial}|{noise}"
                of_layout.append(balm(context.backbone).but(name=name, options=changed))
        for row in of_layout:
            made += cells(context, context.main, row, FOCUS, layout=layout)
    return made


def label(rates: Rates) -> str:
    """A setting as the published numbers write it: r_A/r_L/r_V."""
    return "complete" if rates == COMPLETE else "/".join(f"{r:g}" for r in rates)


def setting_of(context: Context, rates: Rates) -> str:
    """A setting as tables name it."""
    if rates == COMPLETE or not by_name(context):
        return label(rates)
    of = dict(context.rates(context.main, rates).rates)
    return "/".join(f"{of[m]:g}" for m in context.bundle(context.main).modalities)


def by_name(context: Context) -> bool:
    """Whether settings have the rate of each modality by its name: of own or other modalities, and of given rates."""
    return context.own or bool(context.given_rates) or not of_three(context)


def of_three(context: Context) -> bool:
    """Whether the main data have audio, text and vision, which the paper's sentences on modalities are about."""
    return set(context.bundle(context.main).modalities) == {"audio", "text", "vision"}


def order(context: Context) -> str:
    """What the numbers of a setting's name are the rates of."""
    return "/".join(context.bundle(context.main).modalities) if by_name(context) else "r_A/r_L/r_V"


def assignment(context: Context, dataset: str) -> tuple[str, ...]:
    """A note on which modality has which rate of a setting, where its name does not say it; else nothing."""
    modalities = context.bundle(dataset).modalities
    if context.given_rates:
        each = ", ".join(f"{m} {rate:g}" for m, rate in context.given_rates)
        return (f"Missing rates as given: {each}. No setting has three other rates.",)
    if set(modalities) <= set(LETTERS):
        return ()
    by_rate = [", ".join(modalities[place::3]) for place in range(3)]
    parts = [f"{rate} of {names}" for rate, names in zip(RATE_NAMES, by_rate, strict=True) if names]
    return (
        "The paper's rates are of audio, language and vision; these modalities have them in turn, in the order of "
        f"their names: {'; '.join(parts)}. To give each its own: --rates {modalities[0]}=0.5,...",
    )


def groups(context: Context, dataset: str) -> list[tuple[str, tuple[str, ...]]]:
    """The paper's seven conditions A, V, L, AV, AL, LV, ALV, as (name, modalities)."""
    modalities = context.bundle(dataset).modalities
    letters = {m: LETTERS.get(m, m) for m in modalities}
    order = sorted(modalities, key=lambda m: ("AVL".find(letters[m]), m))
    combined = combinations(order)
    if not set(modalities) <= set(LETTERS):
        return [("+".join(group), tuple(sorted(group))) for group in combined]
    return [
        ("".join(sorted(letters[m] for m in group)), tuple(sorted(group))) for group in combined
    ]


def subsets(context: Context, dataset: str) -> list[tuple[str, Law]]:
    """The seven conditions on complete data, as (name, law)."""
    return [(name, subset(list(group))) for name, group in groups(context, dataset)]


def some(*wanted: str) -> Callable[[Context], list[str]]:
    """Those of some data sets that have data."""
    return lambda context: [d for d in wanted if d in context.datasets]
