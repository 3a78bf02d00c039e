"""Which runs make which of the GMM-loss paper's tables and figures (ledger 5.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from mmlib.experiments import stages
from mmlib.experiments.context import Cell, Context
from mmlib.masks import complete
from mmlib.methods import METHODS
from mmlib.runs.spec import Options, RunSpec, Training

ROLES = {"crema-d": "crema-d", "ave": "ave"}
MASK = "same"


@dataclass(frozen=True)
class Budget:
    """What a profile spends on a run.

    epochs: of every method, in all. rounds: S_adaptive. batch: clips per step. width: of ResNet-18's first group.
    hidden: of the perceptron that encodes vectors. augment: cut and flip frames in training.
    """

    epochs: int
    rounds: int
    batch: int
    width: int
    hidden: int
    augment: bool = False

    def phases(self, share: float = 0.0) -> tuple[int, int]:
        """E_warmup and E_adaptive where the warm-up takes about a share of all epochs, the chosen one for 0."""
        share = share or float(dict(CHOSEN["gmm_loss"])["warmup"])
        each = max(1, round((1 - share) * self.epochs / self.rounds))
        return self.epochs - self.rounds * each, each


BUDGETS = {
    "smoke": Budget(3, 2, 32, 4, 8),
    "quick": Budget(9, 3, 64, 4, 32),
    "laptop": Budget(40, 5, 128, 8, 64),
    "paper": Budget(100, 7, 64, 64, 64, augment=True),
}


@dataclass(frozen=True)
class Row:
    """One row of a table: a method, its variant and options, its network, its modalities and its optimizer.

    lr: a factor of the common learning rate. warmup: share of the epochs, of the GMM-loss. 0 is the default of both.
    """

    name: str
    method: str = "plain"
    variant: str = "paper"
    options: Options = ()
    backbone: str = "concat"
    network: Options = ()
    modalities: tuple[str, ...] = ()
    optimizer: str = "momentum"
    lr: float = 0.0
    warmup: float = 0.0


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
}
TRIALS: dict[str, tuple[Options, ...]] = {
    "plain": tuple((("lr", factor),) for factor in (1.0, 0.25, 0.5, 2.0, 4.0)),
    "gmm_loss": tuple((("beta", weight), ("gamma", weight), ("warmup", share))
                      for weight, share in ((1.0, 0.5), (0.3, 0.5), (0.1, 0.5), (0.1, 0.25), (0.1, 0.75))),
    "ogm_ge": tuple((("alpha", alpha),) for alpha in (0.8, 0.5, 0.3, 0.2, 0.1)),
    "opm_ogm": tuple((("alpha", a), ("q_b", q)) for a, q in ((0.8, 0.5), (0.8, 0.25), (0.3, 0.5), (0.3, 0.25),
                                                             (0.1, 0.25))),
    "agm": tuple((("alpha", alpha),) for alpha in (1.0, 0.25, 0.5, 0.75, 1.5)),
    "mla": tuple((("lr", factor),) for factor in (1.0, 0.25, 0.5, 2.0, 4.0)),
    "pmr": (*((("alpha", alpha),) for alpha in (1.0, 0.5, 2.0)),
            (("alpha", 0.5), ("eps", 0.5)), (("alpha", 0.5), ("per_until", 0.6))),
    "relearn": tuple((("strength", strength),) for strength in (3.0, 0.3, 1.0, 10.0, 30.0)),
    "gblending": (*((("super_epoch", share),) for share in (0.1, 0.25, 0.5, 1.0)), (("lr", 2.0), ("super_epoch", 0.1))),
    "greedy": tuple((("epsilon", epsilon),) for epsilon in (0.01, 0.03, 0.1, 0.3, 1.0)),
}
TRIAL_SEEDS = 5
NAMES = {"plain": "Concat", "gblending": "G-Blending", "ogm_ge": "OGM-GE", "greedy": "Greedy", "pmr": "PMR",
         "agm": "AGM", "mla": "MLA", "relearn": "D&R", "opm_ogm": "OPM&OGM", "gmm_loss": "Ours (Adaptive Loss)"}
OURS = NAMES["gmm_loss"]
ABLATIONS = {"alpha0": "w/o CE (alpha = 0)", "beta0": "w/o gap (beta = 0)", "gamma0": "w/o balance (gamma = 0)",
             "unweighted": "w/o w"}


def row(method: str, name: str = "", variant: str = "paper", options: Options | None = None) -> Row:
    """A method with the options that its trials chose, or with others; what defines a variant stays as it is."""
    chosen = dict(CHOSEN[method] if options is None else options)
    rate, warmup = float(chosen.pop("lr", 0.0)), float(chosen.pop("warmup", 0.0))
    variants = METHODS[method][1]
    own = {f.name for f in dataclasses.fields(variants[variant])
           if getattr(variants[variant], f.name) != getattr(variants["paper"], f.name)}
    chosen = {name: value for name, value in chosen.items() if name not in own}
    network = "mmtm" if method == "greedy" else "concat"
    return Row(name or NAMES[method], method, variant, tuple(sorted(chosen.items())), network, lr=rate,
               warmup=warmup)


def main_rows() -> list[Row]:
    """Table 1."""
    return [row(method) for method in NAMES]


def single_rows(context: Context, dataset: str) -> list[Row]:
    """Each modality trained by itself."""
    names = context.bundle(dataset).modalities
    return [dataclasses.replace(row("plain", f"{m} alone"), modalities=(m,)) for m in names]


def ablation_rows() -> list[Row]:
    """Table 2: the full model, then each term or the weights left out."""
    return [row("gmm_loss"), *(row("gmm_loss", f"{OURS} {name}", variant) for variant, name in ABLATIONS.items())]


def optimizer_rows() -> list[Row]:
    """Table 3."""
    found = []
    for variant, state in (("paper", "Reset State"), ("same_state", "Same State")):
        for optimizer, name in (("momentum", "SGD"), ("adam", "Adam")):
            found.append(dataclasses.replace(row("gmm_loss", f"{name} ({state})", variant), optimizer=optimizer))
    return found


def departure_rows(context: Context, dataset: str) -> list[Row]:
    """Recommended readings beside what released codes do, and the readings of our own (H2)."""
    named = [("gmm_loss", "absolute", "gap in absolute value, H2"), ("ogm_ge", "no_noise", "without noise"),
             ("pmr", "switch", "released: switch"), ("agm", "inverted", "re-implementation: sign"),
             ("mla", "released", "released: no projection, batch entropy"),
             ("gblending", "absolute", "re-implementation: |G|")]
    found = []
    for method in dict.fromkeys(m for m, *_ in named):
        found += [row(method), *(row(m, f"{NAMES[m]} ({name})", variant) for m, variant, name in named if m == method)]
    if encoder(context, dataset) == "resnet":
        other = not BUDGETS[context.profile.name].augment
        what = "augmented" if other else "not augmented"
        for method in ("plain", "relearn"):
            found += [row(method), dataclasses.replace(row(method, f"{NAMES[method]} ({what})"),
                                                       network=(("augment", other),))]
    return list(dict.fromkeys(found))


def reduced(context: Context) -> str:
    """What captions say of the profile."""
    b = BUDGETS[context.profile.name]
    few = " and of all data but the first" if stages.few(context) and len(context.datasets) > 1 else ""
    if context.profile.name == "paper":
        return ""
    sizes = {"resnet": f"ResNet-18 of width {b.width}", "mlp": f"perceptrons of width {b.hidden}"}
    kinds = list(dict.fromkeys(encoder(context, d) for d in context.datasets))
    rates = ", ".join(f"{RATES[kind]['momentum']:g}" for kind in kinds)
    warmup, each = b.phases()
    return (f"Reduced ({context.profile.name}): {' and '.join(sizes[kind] for kind in kinds)}, {b.epochs} epochs "
            f"({warmup} of warm-up, {b.rounds} rounds of {each}), batches of {b.batch}, common learning rate {rates}, "
            f"{context.profile.seeds} seeds ({context.profile.grid_seeds} among departures{few}).")


def encoder(context: Context, dataset: str) -> str:
    """ResNet-18 for pictures, a perceptron for vectors."""
    return "mlp" if all(x.ndim == 2 for x in context.bundle(dataset).features.values()) else "resnet"


def specs(context: Context, dataset: str, chosen: Row, seeds: Iterable[int]) -> list[RunSpec]:
    """One run per seed. The adaptive phase starts from a warm-up that all rows of one optimizer share."""
    budget, kind = BUDGETS[context.profile.name], encoder(context, dataset)
    size: Options = (("hidden", budget.hidden),) if kind == "mlp" else (("augment", budget.augment),
                                                                      ("width", budget.width))
    network = tuple(sorted({"encoder": kind, **dict(size), **dict(chosen.network)}.items()))
    rates = PRINTED_RATE if context.profile.name == "paper" else RATES[kind]
    training = Training(budget.epochs, budget.batch, rates[chosen.optimizer] * (chosen.lr or 1.0), 1e-4,
                        chosen.optimizer, clip=0.0)
    found = []
    for seed in seeds:
        spec = RunSpec(context.reference(dataset), seed, chosen.method, chosen.variant, chosen.options,
                       chosen.backbone, network, chosen.modalities, train_mask=complete(),
                       eval_masks=((MASK, complete()),), training=training)
        found.append(adaptive(spec, budget, chosen.warmup) if chosen.method == "gmm_loss" else spec)
    return found


def adaptive(spec: RunSpec, budget: Budget, share: float) -> RunSpec:
    """The adaptive phase of a run, with the warm-up as its parent."""
    warmup, each = budget.phases(share)
    warm = dataclasses.replace(
        spec, variant="paper", options=(("warmup", warmup),), keep=("last",),
        training=dataclasses.replace(spec.training, epochs=warmup))
    options = tuple(sorted({**dict(spec.options), "round_epochs": each}.items()))
    keep = ("found",) if spec.variant == "paper" and spec.training.optimizer == "momentum" else ()
    return dataclasses.replace(spec, options=options, parent=warm, keep=keep, training=dataclasses.replace(
        spec.training, epochs=budget.rounds * each))


def seeds(context: Context, dataset: str, grid: bool = False) -> range:
    """Of a table, or of a grid; where time is short all but the main data set have a grid's everywhere."""
    return context.seeds(dataset, grid or (stages.few(context) and dataset != context.main))


def cells(context: Context, dataset: str, rows: Iterable[Row], grid: bool = False) -> list[Cell]:
    """Rows as cells of one table."""
    return [Cell(r.name, "", spec, MASK) for r in rows
            for spec in specs(context, dataset, r, seeds(context, dataset, grid))]


def trials(context: Context, method: str) -> list[Cell]:
    """A method's trials on the main data set, each named by its options; the first is the default."""
    seeds = range(context.seed_count or TRIAL_SEEDS)
    return [Cell(trial_name(options), "", spec, MASK) for options in TRIALS[method]
            for spec in specs(context, context.main, row(method, options=options), seeds)]


def trial_name(options: Options) -> str:
    """A trial's options as text."""
    return ", ".join(f"{name} {'x ' if name == 'lr' else ''}{value:g}" for name, value in options)
