"""Training budgets of the two-stage papers, by profile, and their description in captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmlib.data.bundle import Bundle
from mmlib.experiments.context import Context
from mmlib.experiments.rows import Budget
from mmlib.runs.spec import Options, Training

WEIGHT_DECAY = 1e-5
FOLD_SEEDS, FOLD_GRID_SEEDS = 5, 3  # at most, on data with folds


@dataclass(frozen=True)
class TransformerBudget:
    """The budget of each training stage of a transformer network."""

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


BUDGETS = {
    "smoke": TransformerBudget(2, 8, 3e-3, 16, 1, 0.3),
    "quick": TransformerBudget(8, 8, 3e-3, 32, 1, 0.3),
    "laptop": TransformerBudget(25, 4, 1e-3, 64, 2, 0.3),
}


def budget(
    context: Context, dataset: str, printed: Mapping[str, TransformerBudget]
) -> TransformerBudget:
    """Of a profile; the paper's own differs by data set."""
    return printed[dataset] if context.profile.name == "paper" else BUDGETS[context.profile.name]


def prepared(context: Context, words: str, frames: Collection[str] = ()) -> Context:
    """A paper's context with the seeds that data with folds get, and with what captions say of the profile.

    words: how the epochs are spent, after their number. frames: the data sets whose utterances are sequences; what is
    reduced of those is not said.
    """
    profile = context.profile
    has_folds = context.bundle(context.main).fold is not None
    fewer = dataclasses.replace(
        profile,
        fold_seeds=min(profile.fold_seeds, FOLD_SEEDS),
        grid_seeds=min(profile.grid_seeds, FOLD_GRID_SEEDS) if has_folds else profile.grid_seeds,
        other_seeds=profile.seeds,  # MoMKE is a row of the tables, not another backbone
    )
    context = dataclasses.replace(context, profile=fewer)
    vectors = [d for d in context.datasets if d not in frames]
    caption = reduced(context, vectors, BUDGETS, words)
    return dataclasses.replace(context, profile=dataclasses.replace(fewer, reduced=caption))


def reduced(
    context: Context,
    datasets: Sequence[str],
    budgets: Mapping[str, TransformerBudget],
    words: str,
    unit: str = "dialogues",
) -> str:
    """What captions say of a profile's budget for some data sets: nothing at the paper's, or without any."""
    profile = context.profile
    if profile.name == "paper" or not datasets:
        return ""
    spent = budgets[profile.name]
    seeds = {
        profile.fold_seeds if context.bundle(d).fold is not None else profile.seeds
        for d in datasets
    }
    return (
        f"Reduced ({profile.name}): width {spent.hidden}, {spent.depth} block{'s' * (spent.depth > 1)}, "
        f"dropout {spent.dropout:g}, {spent.epochs} epochs {words}, batches of {spent.batch} {unit}, "
        f"learning rate {spent.lr:g}, {' or '.join(map(str, sorted(seeds)))} seeds ({profile.grid_seeds} in grids)."
    )


def whole_dialogues(utterances: int, bundle: Bundle) -> int:
    """Dialogues a step that hold about so many utterances, since steps take whole ones."""
    return max(1, round(utterances * len(np.unique(bundle.dialogue)) / len(bundle.dialogue)))


def few(context: Context) -> bool:
    """Whether there is time for a grid's seeds only where a table's would be better."""
    return context.profile.name in ("smoke", "quick")
