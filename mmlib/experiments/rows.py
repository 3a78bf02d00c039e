"""Rows of a table: the training stages of a method, and the runs that follow from them.

A row and what all rows of a table share (``Protocol``) decide every run: one for each seed and fold, the later stages
starting from the weights of the one before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmlib.experiments.context import Cell, Context
from mmlib.experiments.takes import Takes
from mmlib.masks import Law
from mmlib.runs.spec import Options, RunSpec, Training
from mmlib.runs.store import Record

Tests = tuple[tuple[str, Law], ...]


@dataclass(frozen=True)
class Budget:
    """The schedule of a training stage, and the size of every network."""

    training: Training
    """A stage's schedule."""

    sizes: dict[str, Options] = field(default_factory=dict)
    """By backbone, the options that set its size; backbones that are not listed keep their own."""

    recipe: Callable[[str, int | None, str], Training] | None = None
    """A stage's schedule by backbone, fold and method, where networks have recipes."""

    def of(self, backbone: str, fold: int | None = None, method: str = "") -> Training:
        """The schedule of a stage that trains a network, by itself or with a method."""
        return self.training if self.recipe is None else self.recipe(backbone, fold, method)


@dataclass(frozen=True)
class Stage:
    """One training stage; fields that are not set come from the table's protocol."""

    method: str
    """The method's name."""

    backbone: str
    """The network that the method trains."""

    variant: str = "paper"
    """Of the method."""

    options: Options = ()
    """Of the method."""

    network: Options = ()
    """Options of the backbone beside those that give its size."""

    train: Law | None = None
    """The law of training, where it is not the protocol's."""

    tests: Tests | None = None
    """The test masks, where they are not the protocol's."""

    valid: Law | None = None
    """The law of validation, where it is not that of training."""

    training: Options = ()
    """What its schedule differs in from the budget's, such as ``(("epochs", 5),)``."""

    keep: tuple[str, ...] = ()
    """What a record keeps beside its results."""

    modalities: tuple[str, ...] = ()
    """Those that are used; all where empty."""

    recipe: str = ""
    """The method whose trials give the learning rate, where that is not its own: a baseline that only watches, or
    that leaves a method's parts out, is trained as its network is."""

    searched_as: str = ""
    """The network whose recipe gives the schedule, where that is not its own: a comparison system is searched whole,
    by the name of its last network."""

    @property
    def schedule(self) -> str:
        """The network whose recipe gives the schedule."""
        return self.searched_as or self.backbone


@dataclass(frozen=True)
class Row:
    """A row of a table: its name and its stages, each starting from the weights of the one before."""

    name: str
    """As the table shows it."""

    stages: tuple[Stage, ...]
    """In the order of training; the results are those of the last."""

    against: str | None = ""
    """The row that it is compared with, where that is not the table's baseline; None where with none."""

    takes: Takes | None = None
    """What data its networks take, where that is less than what the paper takes: it is absent on others."""

    def but(self, **changes: Any) -> Row:
        """The same row with its last stage changed, and its name where ``name`` is given."""
        name = changes.pop("name", self.name)
        last = dataclasses.replace(self.stages[-1], **changes)
        return dataclasses.replace(self, name=name, stages=(*self.stages[:-1], last))


@dataclass(frozen=True)
class Protocol:
    """What all rows of a table share."""

    train: Law
    """The law of the training masks."""

    tests: Tests
    """The test masks, by name."""

    budget: Budget
    """What is spent on a stage."""

    grid: bool = False
    """Whether its cells get the seeds of a grid instead of a table's."""

    main: bool = False
    """Whether its cells get the seeds of the paper's main comparison."""

    followed: bool = True
    """Whether every test mask is evaluated after each epoch, or only the first: the others then have results at the
    epochs that validation picks and the last one, and none at the epoch that test picks."""


def specs(context: Context, dataset: str, row: Row, protocol: Protocol) -> list[RunSpec]:
    """One run of a row's last stage for each seed and fold, the earlier stages as its parents."""
    seeds = context.seeds(dataset, protocol.grid, row.stages[-1].backbone, protocol.main)
    folds = [spec_of(context, dataset, row, protocol, 0, fold) for fold in context.folds(dataset)]
    return [of_seed(spec, seed) for seed in seeds for spec in folds]


def of_seed(spec: RunSpec, seed: int) -> RunSpec:
    """The same run of another seed, which starts from that seed's run of its parent."""
    parent = None if spec.parent is None else of_seed(spec.parent, seed)
    return dataclasses.replace(spec, seed=seed, parent=parent)


def spec_of(
    context: Context, dataset: str, row: Row, protocol: Protocol, seed: int, fold: int | None
) -> RunSpec:
    """A row's run of one seed and fold."""
    spec: RunSpec | None = None
    for stage in row.stages:
        size = dict(protocol.budget.sizes.get(stage.backbone, ()))
        tests = protocol.tests if stage.tests is None else stage.tests
        spec = RunSpec(
            context.reference(dataset),
            seed,
            stage.method,
            stage.variant,
            tuple(sorted(stage.options)),
            stage.backbone,
            tuple(sorted((size | dict(stage.network)).items())),
            modalities=stage.modalities,
            fold=fold,
            train_mask=protocol.train if stage.train is None else stage.train,
            eval_masks=tests,
            valid_mask=stage.valid,
            training=dataclasses.replace(
                protocol.budget.of(stage.schedule, fold, stage.recipe or stage.method),
                **dict(stage.training),
            ),
            keep=stage.keep if protocol.followed else (*stage.keep, "picked"),
            parent=spec,
            draws=context.draws(tests),
        )
    assert spec is not None  # a row has a stage
    return spec


def cells(
    context: Context,
    dataset: str,
    rows: Iterable[Row],
    protocol: Protocol,
    settings: Sequence[str] = (),
) -> list[Cell]:
    """Rows under every test mask of their last stage, or under those named; a setting is the mask's name."""
    return [
        Cell(row.name, name, spec, name, dataset)
        for row in rows
        for spec in specs(context, dataset, row, protocol)
        for name, _ in spec.eval_masks
        if not settings or name in settings
    ]


def on(cells: Iterable[Cell], dataset: str) -> list[Cell]:
    """The cells of a data set."""
    return [cell for cell in cells if cell.dataset == dataset]


def of_row(cells: Iterable[Cell], row: str) -> list[Cell]:
    """The cells of a row."""
    return [cell for cell in cells if cell.row == row]


def fits(context: Context, dataset: str, row: Row) -> bool:
    """Whether a row's networks take a data set."""
    return row.takes is None or row.takes.fits(context.bundle(dataset))


def runs_of(cells: Iterable[Cell], row: str) -> list[RunSpec]:
    """The runs of a row among some cells, each once."""
    return list(dict.fromkeys(cell.spec for cell in of_row(cells, row)))


def with_parents(wanted: Iterable[RunSpec]) -> list[RunSpec]:
    """Runs and those that they start from, which come first, each once."""
    ordered: dict[RunSpec, None] = {}
    # The cells of a run share its spec: a comparison by content takes longer, and is left for what remains.
    for spec in {id(spec): spec for spec in wanted}.values():
        line = [spec]
        while line[0].parent is not None:
            line.insert(0, line[0].parent)
        ordered |= dict.fromkeys(line)
    return list(ordered)


def by_seed(
    context: Context,
    wanted: Iterable[RunSpec],
    read: Callable[[Record], np.ndarray | None],
    dataset: str = "",
) -> dict[int, np.ndarray]:
    """What is read from finished runs of a data set, by seed: folds averaged, only where all are there.

    dataset: the main one where it is not named.
    """
    parts: dict[int, list[np.ndarray]] = {}
    for spec in wanted:
        record = context.record(spec)
        value = read(record) if record else None
        if value is not None:
            parts.setdefault(spec.seed, []).append(value)
    folds = len(context.folds(dataset or context.main))
    return {seed: np.mean(of, axis=0) for seed, of in sorted(parts.items()) if len(of) == folds}
