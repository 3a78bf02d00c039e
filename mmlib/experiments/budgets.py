"""Training budgets by profile: recipes where they were searched, a paper's own at its profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mmlib import paths
from mmlib.experiments import recipes
from mmlib.experiments.context import Context
from mmlib.experiments.profiles import BY_RECIPE
from mmlib.experiments.rows import Budget
from mmlib.runs.spec import Options, Training

WEIGHT_DECAY = 1e-5
FOLD_GRID_SEEDS = 3  # at most, on data with folds


@dataclass(frozen=True)
class TransformerBudget:
    """The printed budget of each training stage of a transformer network."""

    epochs: int
    """Passes over the training data."""

    batch: int
    """Dialogues a step."""

    lr: float
    """Learning rate."""

    hidden: int
    """Width."""

    depth: int
    """Blocks of each modality's encoder."""

    dropout: float
    """Of the blocks."""

    def of(self, *backbones: str) -> Budget:
        """As what runs are made from, for some backbones of this size."""
        size: Options = (("depth", self.depth), ("dropout", self.dropout), ("hidden", self.hidden))
        training = Training(self.epochs, self.batch, self.lr, WEIGHT_DECAY)
        return Budget(training, dict.fromkeys(backbones, size))


def searched(context: Context, dataset: str) -> Budget:
    """Of a profile other than the paper's: each network's recipe and size."""
    profile, bundle = context.profile, context.bundle(dataset)
    schedule = partial(recipes.schedule, profile, bundle, runs=paths.runs())
    return Budget(profile.training_for(dataset), profile.network, schedule)


def budget(
    context: Context, dataset: str, printed: Mapping[str, TransformerBudget], *backbones: str
) -> Budget:
    """Of a profile; the paper's own differs by data set."""
    if context.profile.name == "paper":
        return printed[dataset].of(*backbones)
    return searched(context, dataset)


def prepared(context: Context, words: str, frames: Collection[str] = ()) -> Context:
    """A paper's context with the seeds that data with folds get, and with what captions say of the profile.

    words: how the steps are spent. frames: the data sets whose utterances are sequences; what is reduced of those is
    not said.
    """
    profile = context.profile
    has_folds = context.bundle(context.main).fold is not None
    fewer = dataclasses.replace(
        profile,
        grid_seeds=min(profile.grid_seeds, FOLD_GRID_SEEDS) if has_folds else profile.grid_seeds,
        other_seeds=profile.seeds,  # MoMKE is a row of the tables, not another backbone
    )
    context = dataclasses.replace(context, profile=fewer)
    vectors = [d for d in context.datasets if d not in frames]
    caption = reduced(context, vectors, words)
    return dataclasses.replace(context, profile=dataclasses.replace(fewer, reduced=caption))


def reduced(context: Context, datasets: Sequence[str], words: str) -> str:
    """What captions say of a profile's budget for some data sets: nothing at the paper's, or without any."""
    profile = context.profile
    if profile.name == "paper" or not datasets:
        return ""
    blocks = dict(profile.network["momke"])
    seeds = {
        profile.fold_seeds if context.bundle(d).fold is not None else profile.seeds
        for d in datasets
    }
    return (
        f"Reduced ({profile.name}): width {blocks['hidden']}, {blocks['depth']} block{'s' * (blocks['depth'] > 1)}, "
        f"dropout {blocks['dropout']:g}, {spent(context)} {words}, "
        f"{seeds_in_words(seeds)} ({profile.grid_seeds} in grids)."
    )


def seeds_in_words(counts: Iterable[int]) -> str:
    """``1 seed``, ``10 seeds``, ``5 or 10 seeds``."""
    known = sorted(set(counts))
    named = " or ".join(map(str, known))
    return f"{named} seed" if known == [1] else f"{named} seeds"


def spent(context: Context) -> str:
    """How long and how fast networks are trained at a profile other than the paper's, in words."""
    profile = context.profile
    if profile.searched:
        return BY_RECIPE
    training = profile.training["default"]
    return f"{training.epochs} epochs"


def few(context: Context) -> bool:
    """Whether there is time for a grid's seeds only where a table's would be better."""
    return context.profile.name in ("smoke", "quick")
