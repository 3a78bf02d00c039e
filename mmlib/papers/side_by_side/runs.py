"""Which runs make the comparison: every method and the network under it, by what training sees, under every test mask.

No paper has this; each choice is ours. One model per method and training protocol is tested under every condition. All
rows of a ground see the same masks, as many passes over the training data (the stages of a method together have as
many as a method of one stage), the same optimizer, batches and width, and as many trials of their learning rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mmlib import masks
from mmlib.data.bundle import Bundle
from mmlib.experiments import stages
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.stages import ALL, few, framed, law
from mmlib.masks import Law, complete, patterns
from mmlib.papers.balm.runs import SETTINGS, TAU_RHO
from mmlib.papers.gmm_loss import runs as gmm
from mmlib.papers.mculora.runs import bounds
from mmlib.papers.side_by_side import rates
from mmlib.runs.spec import Options, RunSpec

ROLES = {"mosei": "mosei", "iemocap": "iemocap6", "crema-d": "crema-d", "mosei_frames": "mosei-frames"}
EMBEDDED = ("iemocap6", "mosei-frames")  # the roles that twins fill: classes in dialogues, and sequences
TRIMODAL = ("audio", "text", "vision", "audio+text", "audio+vision", "text+vision")
COMPLETE, MIXED = "complete", "mixed combinations"
IMBALANCED = ((0.5, 0.7, 0.3), (0.5, 0.3, 0.7))  # of training: BALM's main setting, and text the best observed
SHARED, FRAMES = (0.2, 0.4, 0.6), (0.3, 0.6, 0.9)
METRIC = "weighted_f1"
WEIGHT_DECAY = 1e-5
GMM_ROUNDS = 3


@dataclass(frozen=True)
class Budget:
    """What every row gets: passes over the training data in all stages, utterances a step, size of the network.

    parts: a step sees at most one in so many of the utterances, or small data would leave but a few dozen steps, in
    which a method of two stages cannot be trained.
    """

    epochs: int
    utterances: int
    lr: float
    hidden: int
    depth: int
    dropout: float = 0.3
    parts: int = 1

    def step(self, bundle: Bundle) -> int:
        """Utterances a step, or so."""
        return min(self.utterances, len(bundle) // self.parts)


BUDGETS = {"smoke": Budget(4, 32, 3e-3, 16, 1), "quick": Budget(12, 64, 3e-3, 32, 1),
           "laptop": Budget(24, 128, 1e-3, 64, 2, parts=16),
           "paper": Budget(200, 512, 1e-4, 256, 4, 0.5, parts=16)}


@dataclass(frozen=True)
class Row:
    """A method over a network. kind: how its stages are made; one of ``STAGES``. own: the row without the method."""

    name: str
    kind: str
    backbone: str
    own: str = ""


VECTORS = (Row("MMGCN", "plain", "mmgcn"), Row("BALM on MMGCN", "balm", "mmgcn", "MMGCN"),
           Row("DREAM's network", "task", "dream"), Row("DREAM", "dream", "dream", "DREAM's network"),
           Row("EBMC's network", "experts", "momke"), Row("EBMC", "ebmc", "momke", "EBMC's network"),
           Row("MCULoRA's network", "joint", "crossmodal"),
           Row("MCULoRA", "mculora", "crossmodal", "MCULoRA's network"))
TWO = (Row("concatenation", "plain", "concat"), Row("GMM-loss", "gmm_loss", "concat", "concatenation"))
SEQUENCES = (*VECTORS[2:4], *(dataclasses.replace(row, backbone="momke_frames") for row in VECTORS[4:6]))


@dataclass(frozen=True)
class Ground:
    """A data set on which rows are compared. modalities: the two that are used, of more; all where empty."""

    dataset: str
    modalities: tuple[str, ...] = ()


def grounds(context: Context) -> list[Ground]:
    """Every data set; and two modalities alone of classes with more, so that GMM-loss can be compared as well."""
    found = []
    for dataset in context.datasets:
        bundle = context.bundle(dataset)
        found.append(Ground(dataset))
        if len(bundle.modalities) > 2 and bundle.task.kind == "classes" and not framed(context, dataset):
            found.append(Ground(dataset, tuple(bundle.modalities[:2])))
    return found


def modalities(context: Context, ground: Ground) -> tuple[str, ...]:
    """Those that are used."""
    return ground.modalities or context.bundle(ground.dataset).modalities


def rows(context: Context, ground: Ground) -> tuple[Row, ...]:
    """The methods that these data allow, each after the network that it plugs into."""
    if framed(context, ground.dataset):
        return SEQUENCES
    two = len(modalities(context, ground)) == 2 and context.bundle(ground.dataset).task.kind == "classes"
    return (*VECTORS, *TWO) if two else VECTORS


def trainings(context: Context, ground: Ground) -> dict[str, Law]:
    """What training sees; of two modalities chosen among more, everything."""
    if ground.modalities:
        return {COMPLETE: complete()}
    return {COMPLETE: complete(), MIXED: patterns(),
            **{f"imbalanced {_text(r)}": context.rates(ground.dataset, r) for r in IMBALANCED}}


def groups(context: Context, ground: Ground) -> dict[str, dict[str, Law]]:
    """The test conditions by kind, each a name and its law."""
    names = stages.conditions(modalities(context, ground), TRIMODAL)
    used = modalities(context, ground)
    found = {COMPLETE: {ALL: masks.subset(used) if ground.modalities else complete()},
             "fixed missing": {name: law(name) for name in names[:-1]}}
    if ground.modalities:
        return found
    found["shared rates"] = {f"shared {100 * r:g} %": masks.shared(r) for r in SHARED}
    found["imbalanced rates"] = {f"imbalanced {_text(r)}": context.rates(ground.dataset, r) for r in SETTINGS}
    if framed(context, ground.dataset):
        found["frames dropped"] = {f"frames {100 * r:g} %": masks.frames(r) for r in FRAMES}
    return found


def tests(context: Context, ground: Ground) -> tuple[tuple[str, Law], ...]:
    """Every test condition, the complete one first."""
    return tuple(pair for group in groups(context, ground).values() for pair in group.items())


def specs(context: Context, ground: Ground, row: Row, training: Law, factor: float = 0.0) -> list[RunSpec]:
    """One run per seed and fold. factor: of the learning rate; the chosen one where 0."""
    spent = BUDGETS[context.profile.name]
    bundle = context.bundle(ground.dataset)
    schedule: dict[str, Any] = {"epochs": spent.epochs, "batch": stages.whole_dialogues(spent.step(bundle), bundle),
                                "weight_decay": WEIGHT_DECAY, "optimizer": "adam"}
    options: Options = ()
    if row.kind == "balm":
        options = TAU_RHO if context.has_dialogues(ground.dataset) else (*TAU_RHO, ("descriptor", "batch"))
    whole = context.specs(ground.dataset, "plain", "paper", training, tests(context, ground), backbone=row.backbone,
                          network=network(row, spent), modalities=ground.modalities, options=options, grid=few(context),
                          keep=("picked",), **schedule)
    found = rates.chosen(bundle)
    return [STAGES[row.kind](context, ground, at_rate(spec, spent.lr * (factor or found.factor(row.name, spec.fold))))
            for spec in whole]


def at_rate(spec: RunSpec, lr: float) -> RunSpec:
    """A run at another learning rate."""
    return dataclasses.replace(spec, training=dataclasses.replace(spec.training, lr=lr))


def network(row: Row, spent: Budget) -> Options:
    """A network's size as options: one width, and as many blocks where there are blocks."""
    blocks: Options = (("depth", spent.depth), ("dropout", spent.dropout), ("hidden", spent.hidden))
    return {"mmgcn": (("graph", spent.hidden // 2), ("hidden", spent.hidden)),
            "dream": (("hidden", spent.hidden), ("repeats", spent.depth)),
            "momke": (*blocks, ("routing", "unnormalised")), "momke_frames": (*blocks, ("routing", "unnormalised")),
            "crossmodal": blocks, "concat": (("encoder", "mlp"), ("hidden", spent.hidden))}[row.backbone]


def halves(spec: RunSpec, first: dict[str, Any], second: dict[str, Any]) -> RunSpec:
    """Two stages of half the epochs each; the first is tested on complete data alone, since nobody reads its tests."""
    epochs = spec.training.epochs // 2
    half = dataclasses.replace(spec, training=dataclasses.replace(spec.training, epochs=epochs))
    parent = dataclasses.replace(half, eval_masks=spec.eval_masks[:1], **first)
    return dataclasses.replace(half, parent=parent, **second)


def _one(method: str) -> Callable[[Context, Ground, RunSpec], RunSpec]:
    return lambda context, ground, spec: dataclasses.replace(spec, method=method)


def _dream(context: Context, ground: Ground, spec: RunSpec) -> RunSpec:
    """P under the masks of training, then the network that it guides (ledger B15)."""
    return halves(spec, {"method": "reference", "backbone": "corrkd", "backbone_options": (), "keep": ("weights",)},
                  {"method": "dream"})


def _expert_stage(spec: RunSpec, method: str, variant: str) -> dict[str, Any]:
    routed = tuple(sorted({**dict(spec.backbone_options), "routing": "own"}.items()))
    return {"method": method, "variant": variant, "backbone_options": routed, "train_mask": complete(),
            "keep": ("last",)}


def _experts(context: Context, ground: Ground, spec: RunSpec) -> RunSpec:
    """Each expert by itself on complete data, then all under the task loss."""
    return halves(spec, _expert_stage(spec, "unimodal", "paper"), {"method": "plain"})


def _ebmc(context: Context, ground: Ground, spec: RunSpec) -> RunSpec:
    return halves(spec, _expert_stage(spec, "enhance", "paper"), {"method": "ebmc"})


def _adapted(variant: str) -> Callable[[Context, Ground, RunSpec], RunSpec]:
    def make(context: Context, ground: Ground, spec: RunSpec) -> RunSpec:
        return halves(spec, {"keep": ("weights",)},
                      {"method": "mculora", "variant": variant, "options": tuple(sorted(bounds(ground.dataset)))})
    return make


def _gmm_loss(context: Context, ground: Ground, spec: RunSpec) -> RunSpec:
    """The warm-up, which is tested on complete data alone, then the rounds."""
    chosen = gmm.row("gmm_loss")
    budget = dataclasses.replace(gmm.BUDGETS["quick"], epochs=spec.training.epochs, rounds=GMM_ROUNDS)
    whole = dataclasses.replace(spec, method="gmm_loss", options=chosen.options, eval_masks=spec.eval_masks[:1])
    return dataclasses.replace(gmm.adaptive(whole, budget, chosen.warmup), eval_masks=spec.eval_masks, keep=spec.keep)


STAGES: dict[str, Callable[[Context, Ground, RunSpec], RunSpec]] = {
    "plain": _one("plain"), "balm": _one("balm"), "task": _one("reference"), "dream": _dream, "experts": _experts,
    "ebmc": _ebmc, "joint": _adapted("neither"), "mculora": _adapted("paper"), "gmm_loss": _gmm_loss}


def cells(context: Context, ground: Ground) -> dict[str, list[Cell]]:
    """Training to cells: every row under every test condition."""
    return {name: [Cell(row.name, test, spec, test) for row in rows(context, ground)
                   for spec in specs(context, ground, row, drawn) for test, _ in spec.eval_masks]
            for name, drawn in trainings(context, ground).items()}


def specs_of(context: Context, ground: Ground) -> list[RunSpec]:
    """The runs behind a ground."""
    return stages.specs_of(cell for found in cells(context, ground).values() for cell in found)


def prepared(made: Context) -> Context:
    """The context with what captions say of the profile."""
    p = made.profile
    fewer = dataclasses.replace(p, fold_seeds=min(p.fold_seeds, stages.FOLD_SEEDS), other_seeds=p.seeds)
    made = dataclasses.replace(made, profile=fewer)
    return dataclasses.replace(made, profile=dataclasses.replace(fewer, reduced=reduced(made)))


def reduced(context: Context) -> str:
    """What captions say of a profile's budget; nothing at the paper's."""
    p, spent = context.profile, BUDGETS[context.profile.name]
    if p.name == "paper":
        return ""
    seeds = _either(len(context.seeds(d, grid=few(context))) for d in context.datasets)
    utterances = _either(spent.step(context.bundle(d)) for d in context.datasets)
    return (f"Reduced ({p.name}): width {spent.hidden}, {spent.depth} block{'s' * (spent.depth > 1)}, {spent.epochs} "
            f"epochs in all stages together, batches of {utterances} utterances or so, learning rate {spent.lr:g} "
            f"times what each row's trials chose, {seeds} seeds.")


def _either(numbers: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(set(numbers))))


def _text(rates: Sequence[float]) -> str:
    return "/".join(f"{r:g}" for r in rates)
