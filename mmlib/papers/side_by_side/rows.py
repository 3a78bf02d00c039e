"""Which runs make the comparison: every method and the network under it, by what training sees, under every test mask.

No paper has this; each choice is ours. One model per method and training protocol is tested under every condition. All
rows of a ground see the same masks (but for the first stage of EBMC and its network, which is on complete data, as in
the paper), the same optimizer, batches and width. A method has as many trials of its learning rate as its network; its
stages together have as many passes over the training data as its network has in one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mmlib.experiments import budgets
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.budgets import WEIGHT_DECAY, few
from mmlib.experiments.conditions import framed
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.recipes import whole_dialogues
from mmlib.experiments.rows import Budget, Protocol, Row, Stage, Tests, spec_of
from mmlib.masks import Law, complete
from mmlib.papers.balm.rows import TAU_RHO
from mmlib.papers.gmm_loss import rows as gmm
from mmlib.papers.mculora.rows import bounds
from mmlib.papers.side_by_side import grounds
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.runs.spec import Options, RunSpec, Training

METRIC = "weighted_f1"
GMM_ROUNDS = 3
_BLOCKS: Options = (("depth", 4), ("dropout", 0.5), ("hidden", 256))
FULL: dict[str, Options] = {  # every network's size at the paper's profile
    "mmgcn": (("graph", 128), ("hidden", 256)),
    "dream": (("hidden", 256), ("repeats", 4)),
    **dict.fromkeys(("momke", "momke_frames", "crossmodal"), _BLOCKS),
    "concat": (("encoder", "mlp"), ("hidden", 256)),
}
OF_VECTORS, OF_SEQUENCES = (
    ("mmgcn", "dream", "momke", "crossmodal"),
    ("dream", "momke_frames"),
)  # networks


def budget(context: Context, dataset: str) -> Budget:
    """Each network's recipe and size; one common schedule at the paper's profile."""
    if context.profile.name != "paper":
        return budgets.searched(context, dataset)
    bundle = context.bundle(dataset)
    batch = whole_dialogues(min(512, len(bundle) // 16), bundle)
    return Budget(Training(200, batch, 1e-4, WEIGHT_DECAY), FULL)


def rows(context: Context, ground: Ground) -> list[Row]:
    """The methods that these data allow, each after the network that it plugs into."""
    dataset = ground.dataset
    pair = len(grounds.modalities(context, ground)) == 2
    allowed: tuple[str, ...] = OF_VECTORS
    if framed(context, dataset):
        allowed = OF_SEQUENCES
    elif pair and context.bundle(dataset).task.kind == "classes":
        allowed = (*OF_VECTORS, "concat")
    return [row for row in every_row(context, dataset) if row.stages[-1].backbone in allowed] + [
        LINEAR
    ]


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
    unadapted = dataclasses.replace(adapted, variant="neither", recipe="plain")
    fused = Stage("gmm_loss", "concat", options=gmm.tuned("gmm_loss"))
    epochs = max(2, budget(context, dataset).of("concat").epochs)
    rounds = gmm.in_phases(fused, epochs, min(GMM_ROUNDS, epochs // 2))
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


def specs(context: Context, ground: Ground, row: Row, training: Law) -> list[RunSpec]:
    """One run per seed and fold, under every test condition of a ground."""
    seeds = context.seeds(ground.dataset, few(context))
    return of_seeds(context, ground, row, training, grounds.tests(context, ground), seeds)


def as_in_papers(context: Context, ground: Ground, row: Row, training: Law) -> list[RunSpec]:
    """One run per fold, of the first seed, each stage as long as its network is trained: so papers' tables have it."""
    tests = grounds.tests(context, ground)
    return of_seeds(context, ground, row, training, tests, [0], together=False)


def of_seeds(
    context: Context,
    ground: Ground,
    row: Row,
    training: Law,
    tests: Tests,
    seeds: Sequence[int],
    together: bool = True,
) -> list[RunSpec]:
    """A row's runs of some seeds, one per fold of each; the first of the tests is the one that runs follow.

    together: whether its stages together have as many epochs as its network, or each of them.
    """
    dataset = ground.dataset
    shared = budget(context, dataset)
    own = [dataclasses.replace(stage, modalities=ground.modalities) for stage in row.stages]
    stages = _shared_out(own, shared) if together else own
    # The first stage is tested on complete data alone, since nobody reads its tests.
    early = [dataclasses.replace(stage, tests=tests[:1]) for stage in stages[:-1]]
    last = dataclasses.replace(stages[-1], keep=("picked",))
    row = dataclasses.replace(row, stages=(*early, last))
    protocol = Protocol(training, tests, shared)
    return [
        spec_of(context, dataset, row, protocol, seed, fold)
        for seed in seeds
        for fold in context.folds(dataset)
    ]


def _shared_out(stages: Sequence[Stage], shared: Budget) -> list[Stage]:
    """Stages that have together as many epochs as the last one's network has, where they do not say how many.

    An earlier stage has its part of its own network's, and the last one the rest: DREAM's P, which only guides, needs
    fewer than the network that it guides.
    """
    if any("epochs" in dict(stage.training) for stage in stages):
        return list(stages)
    total = shared.of(stages[-1].schedule).epochs
    early = [max(1, shared.of(stage.schedule).epochs // len(stages)) for stage in stages[:-1]]
    spent = [*early, max(1, total - sum(early))]
    return [
        dataclasses.replace(stage, training=(*stage.training, ("epochs", epochs)))
        for stage, epochs in zip(stages, spent, strict=True)
    ]


def cells(context: Context, ground: Ground) -> list[Cell]:
    """Every training, row and test condition."""
    every, tests = rows(context, ground), grounds.tests(context, ground)
    seeds = context.seeds(ground.dataset, few(context))
    return [
        Cell(row.name, test, spec, test, ground.dataset)
        for training in grounds.trainings(context, ground).values()
        for row in every
        for spec in of_seeds(context, ground, row, training, tests, seeds)
        for test, _ in spec.eval_masks
    ]


def all_cells(context: Context) -> list[Cell]:
    """The cells of every ground."""
    return [cell for ground in grounds.grounds(context) for cell in cells(context, ground)]


def prepared(context: Context) -> Context:
    """The context with what captions say of the profile."""
    profile = dataclasses.replace(context.profile, reduced=reduced(context))
    return dataclasses.replace(context, profile=profile)


def reduced(context: Context) -> str:
    """What captions say of a profile's budget; nothing at the paper's."""
    profile = context.profile
    if profile.name == "paper":
        return ""
    seeds = {len(context.seeds(d, few(context))) for d in context.datasets}
    blocks = dict(profile.network["momke"])
    return (
        f"Reduced ({profile.name}): width {blocks['hidden']}, {blocks['depth']} block{'s' * (blocks['depth'] > 1)}, "
        f"{budgets.spent(context)}, in all stages together, "
        f"{budgets.seeds_in_words(seeds)}."
    )
