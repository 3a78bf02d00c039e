"""What papers in two stages share: budgets and data of one lineage's networks, conditions, parents, runs by seed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmlib.data.bundle import Bundle
from mmlib.experiments.context import Cell, Context
from mmlib.masks import Law, complete, subset
from mmlib.runs.spec import Options, RunSpec
from mmlib.runs.store import Record

ALL = "all modalities"
WEIGHT_DECAY = 1e-5
FOLD_SEEDS, FOLD_GRID_SEEDS = 5, 3  # at most, on data with folds


@dataclass(frozen=True)
class Budget:
    """What is spent on each of the two stages; batch: dialogues a step. hidden, depth, dropout: of the network."""

    epochs: int
    batch: int
    lr: float
    hidden: int
    depth: int
    dropout: float

    @property
    def network(self) -> Options:
        """The network's size as backbone options."""
        return ("depth", self.depth), ("dropout", self.dropout), ("hidden", self.hidden)

    @property
    def training(self) -> dict[str, Any]:
        """The schedule of a stage."""
        return {"epochs": self.epochs, "batch": self.batch, "lr": self.lr, "weight_decay": WEIGHT_DECAY,
                "optimizer": "adam"}


BUDGETS = {"smoke": Budget(2, 8, 3e-3, 16, 1, 0.3), "quick": Budget(8, 8, 3e-3, 32, 1, 0.3),
           "laptop": Budget(25, 4, 1e-3, 64, 2, 0.3)}


def budget(context: Context, dataset: str, printed: Mapping[str, Budget]) -> Budget:
    """Of a profile; the paper's own differs by data set."""
    return printed[dataset] if context.profile.name == "paper" else BUDGETS[context.profile.name]


def prepared(made: Context, words: str, frames: Collection[str] = ()) -> Context:
    """A paper's context with the seeds that data with folds get, and with what captions say of the profile.

    words: how the epochs are spent, after their number. frames: the data sets whose utterances are sequences; what is
    reduced of those is not said.
    """
    p, folds = made.profile, made.bundle(made.main).fold is not None
    fewer = dataclasses.replace(p, fold_seeds=min(p.fold_seeds, FOLD_SEEDS),
                                grid_seeds=min(p.grid_seeds, FOLD_GRID_SEEDS) if folds else p.grid_seeds,
                                other_seeds=p.seeds)  # MoMKE is a row of the tables, not another backbone
    made = dataclasses.replace(made, profile=fewer)
    said = reduced(made, [d for d in made.datasets if d not in frames], BUDGETS, words)
    return dataclasses.replace(made, profile=dataclasses.replace(fewer, reduced=said))


def reduced(context: Context, datasets: Sequence[str], budgets: Mapping[str, Budget], words: str,
            unit: str = "dialogues") -> str:
    """What captions say of a profile's budget for some data sets: nothing at the paper's, or without any."""
    p = context.profile
    if p.name == "paper" or not datasets:
        return ""
    b = budgets[p.name]
    seeds = {p.fold_seeds if context.bundle(d).fold is not None else p.seeds for d in datasets}
    return (f"Reduced ({p.name}): width {b.hidden}, {b.depth} block{'s' * (b.depth > 1)}, dropout {b.dropout:g}, "
            f"{b.epochs} epochs {words}, batches of {b.batch} {unit}, learning rate {b.lr:g}, "
            f"{' or '.join(map(str, sorted(seeds)))} seeds ({p.grid_seeds} in grids).")


def whole_dialogues(utterances: int, bundle: Bundle) -> int:
    """Dialogues a step that hold about so many utterances, since steps take whole ones."""
    return max(1, round(utterances * len(np.unique(bundle.dialogue)) / len(bundle.dialogue)))


def conditions(modalities: Sequence[str], trimodal: Sequence[str]) -> list[str]:
    """Test conditions: every combination of some modalities, smaller ones first, then all of them.

    trimodal: the paper's order of those of audio, text and vision in which something is missing.
    """
    if tuple(modalities) == ("audio", "text", "vision"):
        return [*trimodal, ALL]
    return ["+".join(c) for n in range(1, len(modalities)) for c in itertools.combinations(modalities, n)] + [ALL]


def law(condition: str) -> Law:
    """The mask of a test condition."""
    return complete() if condition == ALL else subset(condition.split("+"))


def framed(context: Context, dataset: str) -> bool:
    """Whether utterances are sequences of frames, all modalities of them."""
    return all(x.ndim == 3 for x in context.bundle(dataset).features.values())


def few(context: Context) -> bool:
    """Whether there is time for a grid's seeds only where a table's would be better."""
    return context.profile.name in ("smoke", "quick")


def with_parents(found: Iterable[RunSpec]) -> list[RunSpec]:
    """Runs and those that they start from, which come first, each once."""
    own = list(dict.fromkeys(found))
    return list(dict.fromkeys([*(s.parent for s in own if s.parent), *own]))


def specs_of(found: Iterable[Cell]) -> list[RunSpec]:
    """The runs behind some cells, and those that they start from."""
    return with_parents(cell.spec for cell in found)


def by_seed(context: Context, specs: Iterable[RunSpec],
            read: Callable[[Record], np.ndarray | None]) -> dict[int, np.ndarray]:
    """What is read from finished runs of the main data set, by seed: folds averaged, only where all are there."""
    found: dict[int, list[np.ndarray]] = {}
    for spec in specs:
        record, _ = context.store.find(spec, context.bundle_fingerprint(spec.data))
        told = read(record) if record else None
        if told is not None:
            found.setdefault(spec.seed, []).append(told)
    folds = len(context.folds(context.main))
    return {seed: np.mean(parts, axis=0) for seed, parts in sorted(found.items()) if len(parts) == folds}
