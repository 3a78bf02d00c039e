"""The GMM-loss paper's rows and what they share: which runs make its tables and figures (ledger 5.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.budgets import few, seeds_in_words
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Budget, Protocol, Row, Stage, spec_of
from mmlib.masks import complete
from mmlib.runs.spec import Options, Training

ROLES = {"crema-d": "crema-d", "ave": "ave"}
MASK = "same"
WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class ClipBudget:
    """What a profile spends on a run."""

    epochs: int
    """Of every method, in all."""

    rounds: int
    """S_adaptive."""

    batch: int
    """Clips a step."""

    width: int
    """Of ResNet-18's first group."""

    hidden: int
    """Of the perceptron that encodes vectors."""

    augment: bool = False
    """Cut and flip frames in training."""


BUDGETS = {
    "smoke": ClipBudget(3, 2, 32, 4, 8),
    "quick": ClipBudget(9, 3, 64, 4, 32),
    "laptop": ClipBudget(40, 5, 128, 8, 64),
    "paper": ClipBudget(100, 7, 64, 64, 64, augment=True),
}

# Learning rates of SGD with momentum 0.9 and, for Table 3, of Adam, by encoder. The printed 0.002 is for 100 epochs.
RATES = {"resnet": {"momentum": 0.03, "adam": 0.003}, "mlp": {"momentum": 0.05, "adam": 0.003}}
PRINTED_RATE = {"momentum": 0.002, "adam": 0.002}
# What each method's trials chose on the twin's validation (artifact ``tuning``, which is tested to agree).
CHOSEN: dict[str, Options] = {
    "plain": (("lr", 2.0),),
    "gmm_loss": (("beta", 0.1), ("gamma", 0.1), ("warmup", 0.75)),
    "ogm_ge": (("alpha", 0.8),),
    "opm_ogm": (("alpha", 0.8), ("q_b", 0.5)),
    "agm": (("alpha", 0.25),),
    "mla": (("lr", 4.0),),
    "pmr": (("alpha", 1.0),),
    "relearn": (("strength", 0.3),),
    "gblending": (("lr", 2.0), ("super_epoch", 0.1)),
    "greedy": (("epsilon", 0.03),),
    "mmpareto": (("lr", 2.0),),
    "lfm": (("lr", 4.0),),
    "mmcosine": (("lr", 4.0), ("scale", 10.0)),
    "reconboost": (("lr", 2.0),),
}
# What each variant sets: a test holds it to the methods themselves, whose import takes seconds.
DEFINED_BY: dict[tuple[str, str], tuple[str, ...]] = {
    ("gmm_loss", "alpha0"): ("alpha",),
    ("gmm_loss", "beta0"): ("beta",),
    ("gmm_loss", "gamma0"): ("gamma",),
    ("gmm_loss", "unweighted"): ("weighted",),
    ("gmm_loss", "absolute"): ("gap",),
    ("gmm_loss", "same_state"): ("reset",),
    ("ogm_ge", "no_noise"): ("noise",),
    ("opm_ogm", "opm"): ("alpha", "noise"),
    ("opm_ogm", "ogm"): ("p_exe",),
    ("agm", "inverted"): ("inverted",),
    ("mla", "released"): ("fusion", "projection"),
    ("pmr", "no_per"): ("per_until",),
    ("pmr", "switch"): ("alpha", "per_until", "switch"),
    ("gblending", "offline"): ("online",),
    ("gblending", "absolute"): ("absolute",),
    ("greedy", "never"): ("epsilon",),
    ("mmpareto", "sum"): ("weighed",),
    ("lfm", "late_fusion"): ("scheduled",),
    ("lfm", "no_divergence"): ("divergence",),
    ("reconboost", "released"): ("detached",),
    ("reconboost", "alternating"): ("agreement", "w2"),
}
TRIALS: dict[str, tuple[Options, ...]] = {
    "plain": tuple((("lr", factor),) for factor in (1.0, 0.25, 0.5, 2.0, 4.0)),
    "gmm_loss": tuple(
        (("beta", weight), ("gamma", weight), ("warmup", share))
        for weight, share in ((1.0, 0.5), (0.3, 0.5), (0.1, 0.5), (0.1, 0.25), (0.1, 0.75))
    ),
    "ogm_ge": tuple((("alpha", alpha),) for alpha in (0.8, 0.5, 0.3, 0.2, 0.1)),
    "opm_ogm": tuple(
        (("alpha", a), ("q_b", q))
        for a, q in ((0.8, 0.5), (0.8, 0.25), (0.3, 0.5), (0.3, 0.25), (0.1, 0.25))
    ),
    "agm": tuple((("alpha", alpha),) for alpha in (1.0, 0.25, 0.5, 0.75, 1.5)),
    "mla": tuple((("lr", factor),) for factor in (1.0, 0.25, 0.5, 2.0, 4.0)),
    "pmr": (
        *((("alpha", alpha),) for alpha in (1.0, 0.5, 2.0)),
        (("alpha", 0.5), ("eps", 0.5)),
        (("alpha", 0.5), ("per_until", 0.6)),
    ),
    "relearn": tuple((("strength", strength),) for strength in (3.0, 0.3, 1.0, 10.0, 30.0)),
    "gblending": (
        *((("super_epoch", share),) for share in (0.1, 0.25, 0.5, 1.0)),
        (("lr", 2.0), ("super_epoch", 0.1)),
    ),
    "greedy": tuple((("epsilon", epsilon),) for epsilon in (0.01, 0.03, 0.1, 0.3, 1.0)),
    "mmpareto": tuple((("lr", factor),) for factor in (1.0, 0.25, 0.5, 2.0, 4.0)),
    "lfm": tuple((("lr", factor),) for factor in (1.0, 0.25, 0.5, 2.0, 4.0)),
    "mmcosine": (
        *((("scale", scale),) for scale in (10.0, 5.0, 15.0)),
        *((("lr", factor), ("scale", 10.0)) for factor in (2.0, 4.0)),
    ),
    "reconboost": tuple((("lr", factor),) for factor in (1.0, 0.25, 0.5, 2.0, 4.0)),
}
TRIAL_SEEDS = 5
NAMES = {
    "plain": "Concat",
    "gblending": "G-Blending",
    "ogm_ge": "OGM-GE",
    "greedy": "Greedy",
    "pmr": "PMR",
    "agm": "AGM",
    "mla": "MLA",
    "relearn": "D&R",
    "opm_ogm": "OPM&OGM",
    "gmm_loss": "Ours (Adaptive Loss)",
}
# Methods for the same problem that the paper does not compare with.
FURTHER = {
    "mmpareto": "MMPareto",
    "lfm": "LFM",
    "mmcosine": "MMCosine",
    "reconboost": "ReconBoost",
}
ALL_NAMES = NAMES | FURTHER
OURS = NAMES["gmm_loss"]
ABLATIONS = {
    "alpha0": "w/o CE (alpha = 0)",
    "beta0": "w/o gap (beta = 0)",
    "gamma0": "w/o balance (gamma = 0)",
    "unweighted": "w/o w",
}


# Recommended readings beside what released codes do, and the readings of our own (H2): method, variant, words.
DEPARTURES = (
    ("gmm_loss", "absolute", "gap in absolute value, H2"),
    ("ogm_ge", "no_noise", "without noise"),
    ("pmr", "switch", "released: switch"),
    ("agm", "inverted", "re-implementation: sign"),
    ("mla", "released", "released: no projection, batch entropy"),
    ("gblending", "absolute", "re-implementation: |G|"),
)
# What is left of a further method without its idea, or with a part of it: method, variant, words.
CONTROLS = (
    ("mmpareto", "sum", "sum of the losses, larger rate"),
    ("lfm", "late_fusion", "late fusion"),
    ("lfm", "no_divergence", "schedule alone"),
    ("reconboost", "alternating", "alternation alone"),
    ("reconboost", "released", "released: agreement without gradient"),
)


def phases(epochs: int, rounds: int, share: float = 0.0) -> tuple[int, int]:
    """E_warmup and E_adaptive of so many epochs in all and rounds of the adaptive phase.

    share: about which part of the epochs the warm-up takes; the chosen one where 0.
    """
    share = share or float(dict(CHOSEN["gmm_loss"])["warmup"])
    each = max(1, round((1 - share) * epochs / rounds))
    return epochs - rounds * each, each


def in_phases(stage: Stage, epochs: int, rounds: int, share: float = 0.0) -> tuple[Stage, Stage]:
    """The warm-up, which is the same whatever the variant and its options, and the adaptive phase.

    stage: what both have in common, and the adaptive phase's variant, options and ``keep``. epochs, rounds, share: as
    ``phases`` has them. Where there are fewer epochs than the phases need, they have fewer rounds, and one epoch each.
    """
    epochs = max(2, epochs)
    rounds = min(rounds, epochs - 1)
    warmup, each = phases(epochs, rounds, share)
    first = dataclasses.replace(
        stage,
        variant="paper",
        options=(("warmup", warmup),),
        training=(*stage.training, ("epochs", warmup)),
        keep=("last",),
    )
    second = dataclasses.replace(
        stage,
        options=(*stage.options, ("round_epochs", each)),
        training=(*stage.training, ("epochs", rounds * each)),
    )
    return first, second


def tuned(method: str, variant: str = "paper", options: Options | None = None) -> Options:
    """The options that a method's trials chose, or others, without ``lr`` and ``warmup``, which are no options of it.

    What defines a variant stays as it is.
    """
    chosen = dict(CHOSEN[method] if options is None else options)
    fixed = () if variant == "paper" else DEFINED_BY[method, variant]
    return tuple(pair for pair in chosen.items() if pair[0] not in {"lr", "warmup", *fixed})


def row(
    context: Context,
    dataset: str,
    method: str,
    name: str = "",
    variant: str = "paper",
    options: Options | None = None,
    optimizer: str = "momentum",
) -> Row:
    """A method with the options that its trials chose, or with others."""
    chosen = dict(CHOSEN[method] if options is None else options)
    rate = common_rate(context, dataset, optimizer) * float(chosen.get("lr", 1.0))
    stage = Stage(
        method,
        "mmtm" if method == "greedy" else "concat",
        variant,
        tuned(method, variant, options),
        training=(("lr", rate), ("optimizer", optimizer)),
    )
    if method != "gmm_loss":
        return Row(name or ALL_NAMES[method], (stage,))
    if variant == "paper" and optimizer == "momentum":
        stage = dataclasses.replace(stage, keep=("found",))
    spent = BUDGETS[context.profile.name]
    share = float(chosen.get("warmup", 0.0))
    return Row(name or OURS, in_phases(stage, spent.epochs, spent.rounds, share))


def common_rate(context: Context, dataset: str, optimizer: str = "momentum") -> float:
    """The learning rate of which a row's is a multiple."""
    rates = PRINTED_RATE if context.profile.name == "paper" else RATES[encoder(context, dataset)]
    return rates[optimizer]


def encoder(context: Context, dataset: str) -> str:
    """ResNet-18 for pictures, a perceptron for vectors."""
    vectors = all(x.ndim == 2 for x in context.bundle(dataset).features.values())
    return "mlp" if vectors else "resnet"


def main_rows(context: Context, dataset: str) -> list[Row]:
    """Table 1, and the linear model."""
    return [*(row(context, dataset, method) for method in NAMES), LINEAR]


def compared_rows(context: Context, dataset: str) -> list[Row]:
    """The main comparison: the method, plain concatenation and the linear model."""
    return [row(context, dataset, "gmm_loss"), row(context, dataset, "plain"), LINEAR]


def single_rows(context: Context, dataset: str) -> list[Row]:
    """Each modality trained by itself."""
    plain = row(context, dataset, "plain")
    names = context.bundle(dataset).modalities
    return [plain.but(name=f"{name} alone", modalities=(name,)) for name in names]


def ablation_rows(context: Context, dataset: str) -> list[Row]:
    """Table 2: the full model, then each term or the weights left out."""
    parts = [
        row(context, dataset, "gmm_loss", f"{OURS} {name}", variant)
        for variant, name in ABLATIONS.items()
    ]
    return [row(context, dataset, "gmm_loss"), *parts]


def optimizer_rows(context: Context, dataset: str) -> list[Row]:
    """Table 3."""
    return [
        row(context, dataset, "gmm_loss", f"{name} ({state})", variant, optimizer=optimizer)
        for variant, state in (("paper", "Reset State"), ("same_state", "Same State"))
        for optimizer, name in (("momentum", "SGD"), ("adam", "Adam"))
    ]


def departure_rows(context: Context, dataset: str) -> list[Row]:
    """Every method of ``DEPARTURES`` with its departure; on pictures, frames augmented or not as well."""
    made = []
    for method, variant, words in DEPARTURES:
        departed = row(context, dataset, method, f"{NAMES[method]} ({words})", variant)
        made += [row(context, dataset, method), _against(departed, method)]
    if encoder(context, dataset) == "resnet":
        other = not BUDGETS[context.profile.name].augment
        words = "augmented" if other else "not augmented"
        for method in ("plain", "relearn"):
            own = row(context, dataset, method)
            changed = own.but(name=f"{own.name} ({words})", network=(("augment", other),))
            made += [own, _against(changed, method)]
    return made


def further_rows(context: Context, dataset: str) -> list[Row]:
    """Every method of ``FURTHER``, its controls compared with it, and the paper's method beside plain concatenation."""
    made = [row(context, dataset, method) for method in ("plain", "gmm_loss")]
    for method, name in FURTHER.items():
        made.append(row(context, dataset, method))
        made += [
            _against(row(context, dataset, method, f"{name} ({words})", variant), method)
            for of, variant, words in CONTROLS
            if of == method
        ]
    return made


def _against(departed: Row, method: str) -> Row:
    return dataclasses.replace(departed, against=ALL_NAMES[method])


def protocol(context: Context, dataset: str, grid: bool = False) -> Protocol:
    """What all rows share; where time is short, all data sets but the main one have a grid's seeds everywhere."""
    spent = BUDGETS[context.profile.name]
    kind = encoder(context, dataset)
    sizes = {
        "mlp": (("hidden", spent.hidden),),
        "resnet": (("augment", spent.augment), ("width", spent.width)),
    }
    size: Options = (("encoder", kind), *sizes[kind])
    rate = common_rate(context, dataset)
    training = Training(spent.epochs, spent.batch, rate, WEIGHT_DECAY, "momentum", clip=0.0)
    budget = Budget(training, {"concat": size, "mmtm": size})
    short = few(context) and dataset != context.main
    return Protocol(complete(), ((MASK, complete()),), budget, grid or short)


def cells(
    context: Context,
    dataset: str,
    rows: Iterable[Row],
    grid: bool = False,
    setting: str = "",
    main: bool = False,
) -> list[Cell]:
    """Rows as cells of one table: one run per seed, on the data's own split, since the paper has no folds."""
    shared = protocol(context, dataset, grid)
    seeds = context.seeds(dataset, shared.grid, main=main)
    return [
        Cell(row.name, setting, spec_of(context, dataset, row, shared, seed, None), MASK, dataset)
        for row in rows
        for seed in seeds
    ]


def our_cells(context: Context) -> list[Cell]:
    """The full method on every data set."""
    return [
        cell
        for dataset in context.datasets
        for cell in cells(context, dataset, [row(context, dataset, "gmm_loss")])
    ]


def our_main_cells(context: Context) -> list[Cell]:
    """The full method on the first data set."""
    return cells(context, context.main, [row(context, context.main, "gmm_loss")])


def trial_cells(context: Context) -> list[Cell]:
    """Every method's trials on the main data set; the first of each is the default."""
    trying = dataclasses.replace(context, seed_count=context.seed_count or TRIAL_SEEDS)
    tried = [
        row(trying, context.main, method, trial_row(method, options), options=options)
        for method, trials in TRIALS.items()
        for options in trials
    ]
    return cells(trying, context.main, tried)


def trial_row(method: str, options: Options) -> str:
    """The row of a trial."""
    return f"{ALL_NAMES[method]}|{trial_name(options)}"


def trial_name(options: Options) -> str:
    """A trial's options as text."""
    return ", ".join(f"{name} {'x ' if name == 'lr' else ''}{value:g}" for name, value in options)


def prepared(context: Context) -> Context:
    """The context with what captions say of the profile."""
    profile = dataclasses.replace(context.profile, reduced=reduced(context))
    return dataclasses.replace(context, profile=profile)


def reduced(context: Context) -> str:
    """What captions say of the profile."""
    profile = context.profile
    if profile.name == "paper":
        return ""
    spent = BUDGETS[profile.name]
    several = few(context) and len(context.datasets) > 1
    fewer = " and of all data but the first" if several else ""
    sizes = {
        "resnet": f"ResNet-18 of width {spent.width}",
        "mlp": f"perceptrons of width {spent.hidden}",
    }
    kinds = list(dict.fromkeys(encoder(context, dataset) for dataset in context.datasets))
    rates = ", ".join(f"{RATES[kind]['momentum']:g}" for kind in kinds)
    warmup, each = phases(spent.epochs, spent.rounds)
    return (
        f"Reduced ({profile.name}): {' and '.join(sizes[kind] for kind in kinds)}, {spent.epochs} epochs "
        f"({warmup} of warm-up, {spent.rounds} rounds of {each}), batches of {spent.batch}, "
        f"common learning rate {rates}, {seeds_in_words([profile.seeds])} "
        f"({profile.grid_seeds} among departures{fewer})."
    )
