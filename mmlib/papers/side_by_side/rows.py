"""Which runs make the comparison: every method and the network under it, by what training sees, under every test mask.

No paper has this; each choice is ours. One model per method and training protocol is tested under every condition. All
rows of a ground see the same masks, as many passes over the training data (the stages of a method together have as
many as a method of one stage), the same optimizer, batches and width, and as many trials of their learning rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from mmlib.data.bundle import Bundle
from mmlib.experiments.budgets import FOLD_SEEDS, WEIGHT_DECAY, few, whole_dialogues
from mmlib.experiments.conditions import framed
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Budget, Protocol, Row, Stage, spec_of
from mmlib.masks import Law, complete
from mmlib.papers.balm.rows import TAU_RHO
from mmlib.papers.gmm_loss import rows as gmm
from mmlib.papers.mculora.rows import bounds
from mmlib.papers.side_by_side import grounds, rates
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.runs.spec import Options, RunSpec, Training

METRIC = "weighted_f1"
GMM_ROUNDS = 3
OF_VECTORS, OF_SEQUENCES = (
    ("mmgcn", "dream", "momke", "crossmodal"),
    ("dream", "momke_frames"),
)  # networks


@dataclass(frozen=True)
class CommonBudget:
    """What every row gets."""

    epochs: int
    """Passes over the training data, in all stages together."""

    utterances: int
    """Utterances a step, at most."""

    lr: float
    """What a row's own factor multiplies."""

    hidden: int
    """Every network's width."""

    depth: int
    """Blocks or repeats, where a network has them."""

    dropout: float = 0.3
    """Of the blocks."""

    parts: int = 1
    """A step sees at most one in so many of the utterances.

    Small data would leave but a few dozen steps else, in which a method of two stages cannot be trained.
    """

    most_steps: int = 0
    """Of an epoch, at most, whose steps are then larger, so that large data take no longer; any number where 0."""

    def step(self, bundle: Bundle) -> int:
        """Utterances a step, or so."""
        least = len(bundle.rows("train")) // self.most_steps if self.most_steps else 0
        return max(least, min(self.utterances, len(bundle) // self.parts))

    def of(self, row: Row, factor: float, bundle: Bundle) -> Budget:
        """A row's, whose stages share the epochs; factor: of its learning rate."""
        batch = whole_dialogues(self.step(bundle), bundle)
        epochs = self.epochs // len(row.stages)
        return Budget(Training(epochs, batch, self.lr * factor, WEIGHT_DECAY), self.sizes)

    @property
    def sizes(self) -> dict[str, Options]:
        """Every network's size: one width, and as many blocks where there are blocks."""
        blocks = (("depth", self.depth), ("dropout", self.dropout), ("hidden", self.hidden))
        return {
            "mmgcn": (("graph", self.hidden // 2), ("hidden", self.hidden)),
            "dream": (("hidden", self.hidden), ("repeats", self.depth)),
            **dict.fromkeys(("momke", "momke_frames", "crossmodal"), blocks),
            "concat": (("encoder", "mlp"), ("hidden", self.hidden)),
        }


BUDGETS = {
    "smoke": CommonBudget(4, 32, 3e-3, 16, 1),
    "quick": CommonBudget(12, 64, 3e-3, 32, 1, most_steps=24),
    "laptop": CommonBudget(24, 128, 1e-3, 64, 2, parts=16),
    "paper": CommonBudget(200, 512, 1e-4, 256, 4, 0.5, parts=16),
}


def rows(context: Context, ground: Ground) -> list[Row]:
    """The methods that these data allow, each after the network that it plugs into."""
    dataset = ground.dataset
    pair = len(grounds.modalities(context, ground)) == 2
    allowed: tuple[str, ...] = OF_VECTORS
    if framed(context, dataset):
        allowed = OF_SEQUENCES
    elif pair and context.bundle(dataset).task.kind == "classes":
        allowed = (*OF_VECTORS, "concat")
    return [row for row in every_row(context, dataset) if row.stages[-1].backbone in allowed]


def every_row(context: Context, dataset: str) -> list[Row]:
    """All methods, each against the network under it, as they would be on a data set."""
    descriptor: Options = () if context.has_dialogues(dataset) else (("descriptor", "batch"),)
    # P under the masks of training comes before the network that it guides (ledger B15).
    guide = Stage("reference", "corrkd", keep=("weights",))
    experts = "momke_frames" if framed(context, dataset) else "momke"
    alone = Stage(
        "unimodal", experts, network=(("routing", "own"),), train=complete(), keep=("last",)
    )
    enhanced = dataclasses.replace(alone, method="enhance")
    together = Stage("plain", experts, network=(("routing", "unnormalised"),))
    balanced = dataclasses.replace(together, method="ebmc")
    joint = Stage("plain", "crossmodal", keep=("weights",))
    adapted = Stage("mculora", "crossmodal", options=bounds(dataset))
    unadapted = dataclasses.replace(adapted, variant="neither")
    fused = Stage("gmm_loss", "concat", options=gmm.tuned("gmm_loss"))
    rounds = gmm.in_phases(fused, BUDGETS[context.profile.name].epochs, GMM_ROUNDS)
    return [
        Row("MMGCN", (Stage("plain", "mmgcn"),)),
        Row("BALM on MMGCN", (Stage("balm", "mmgcn", options=TAU_RHO + descriptor),), "MMGCN"),
        Row("DREAM's network", (Stage("reference", "dream"),)),
        Row("DREAM", (guide, Stage("dream", "dream")), "DREAM's network"),
        Row("EBMC's network", (alone, together)),
        Row("EBMC", (enhanced, balanced), "EBMC's network"),
        Row("MCULoRA's network", (joint, unadapted)),
        Row("MCULoRA", (joint, adapted), "MCULoRA's network"),
        Row("concatenation", (Stage("plain", "concat"),)),
        Row("GMM-loss", rounds, "concatenation"),
    ]


def specs(
    context: Context, ground: Ground, row: Row, training: Law, factor: float = 0.0
) -> list[RunSpec]:
    """One run per seed and fold. factor: of the learning rate; the chosen one where 0."""
    dataset, bundle = ground.dataset, context.bundle(ground.dataset)
    tests, spent = grounds.tests(context, ground), BUDGETS[context.profile.name]
    *early, last = (dataclasses.replace(s, modalities=ground.modalities) for s in row.stages)
    # The first stage is tested on complete data alone, since nobody reads its tests.
    early = [dataclasses.replace(stage, tests=tests[:1]) for stage in early]
    row = dataclasses.replace(row, stages=(*early, dataclasses.replace(last, keep=("picked",))))
    made = []
    for seed in context.seeds(dataset, few(context)):
        for fold in context.folds(dataset):
            used = factor or rates.chosen(bundle).factor(row.name, fold)
            protocol = Protocol(training, tests, spent.of(row, used, bundle))
            made.append(spec_of(context, dataset, row, protocol, seed, fold))
    return made


def cells(context: Context, ground: Ground) -> list[Cell]:
    """Every training, row and test condition."""
    return [
        Cell(row.name, test, spec, test, ground.dataset)
        for training in grounds.trainings(context, ground).values()
        for row in rows(context, ground)
        for spec in specs(context, ground, row, training)
        for test, _ in spec.eval_masks
    ]


def all_cells(context: Context) -> list[Cell]:
    """The cells of every ground."""
    return [cell for ground in grounds.grounds(context) for cell in cells(context, ground)]


def prepared(context: Context) -> Context:
    """The context with the seeds that data with folds get, and with what captions say of the profile."""
    profile = context.profile
    fewer = dataclasses.replace(profile, fold_seeds=min(profile.fold_seeds, FOLD_SEEDS))
    caption = reduced(dataclasses.replace(context, profile=fewer))
    return dataclasses.replace(context, profile=dataclasses.replace(fewer, reduced=caption))


def reduced(context: Context) -> str:
    """What captions say of a profile's budget; nothing at the paper's."""
    name, spent = context.profile.name, BUDGETS[context.profile.name]
    if name == "paper":
        return ""
    seeds = _either(len(context.seeds(d, few(context))) for d in context.datasets)
    utterances = _either(spent.step(context.bundle(d)) for d in context.datasets)
    return (
        f"Reduced ({name}): width {spent.hidden}, {spent.depth} block{'s' * (spent.depth > 1)}, "
        f"{spent.epochs} epochs in all stages together, batches of {utterances} utterances or so, "
        f"learning rate {spent.lr:g} times what each row's trials chose, {seeds} seeds."
    )


def _either(numbers: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(set(numbers))))
