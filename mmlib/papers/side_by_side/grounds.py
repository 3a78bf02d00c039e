"""On what rows are compared: the data, what training sees of them, and the test conditions. Each choice is ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmlib import masks
from mmlib.experiments import conditions
from mmlib.experiments.conditions import ALL, framed
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Tests
from mmlib.masks import Law, complete, patterns
from mmlib.papers.balm.rows import SETTINGS, Rates, chosen, label, setting_of

ROLES = {
    "mosei": "mosei",
    "iemocap": "iemocap6",
    "crema-d": "crema-d",
    "mosei_frames": "mosei-frames",
}
# The roles that embedded data fill: classes in dialogues, real data with two modalities, and sequences.
EMBEDDED = ("iemocap6", "crema-d", "mosei-frames")
ONLY_REAL = ("crema-d",)  # whose twin has pictures
TRIMODAL = ("audio", "text", "vision", "audio+text", "audio+vision", "text+vision")
COMPLETE, MIXED = "complete", "mixed combinations"
IMBALANCED: tuple[Rates, ...] = (
    (0.5, 0.7, 0.3),
    (0.5, 0.3, 0.7),
)  # of training: BALM's main setting, and text the best observed
IMBALANCED_RATES = "imbalanced "  # begins their names
SHARED, FRAMES = (0.2, 0.4, 0.6), (0.3, 0.6, 0.9)


@dataclass(frozen=True)
class Ground:
    """A data set on which rows are compared, or two modalities of it."""

    dataset: str
    """As the roles name it."""

    modalities: tuple[str, ...] = ()
    """The two that are used, of more; all where empty."""


def grounds(context: Context) -> list[Ground]:
    """Every data set; and two modalities alone of classes with more, so that GMM-loss can be compared as well."""
    made = []
    for dataset in context.datasets:
        bundle = context.bundle(dataset)
        made.append(Ground(dataset))
        more = len(bundle.modalities) > 2
        if more and bundle.task.kind == "classes" and not framed(context, dataset):
            made.append(Ground(dataset, tuple(bundle.modalities[:2])))
    return made


def ground_of(cell: Cell) -> Ground:
    """Where a cell stands."""
    return Ground(cell.dataset, cell.spec.modalities)


def by_ground(cells: Iterable[Cell]) -> dict[Ground, list[Cell]]:
    """Cells by the ground that they stand on."""
    groups: dict[Ground, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(ground_of(cell), []).append(cell)
    return groups


def modalities(context: Context, ground: Ground) -> tuple[str, ...]:
    """Those that are used."""
    return ground.modalities or context.bundle(ground.dataset).modalities


def trainings(context: Context, ground: Ground) -> dict[str, Law]:
    """What training sees; of two modalities chosen among more, everything."""
    if ground.modalities:
        return {COMPLETE: complete()}
    return {
        COMPLETE: complete(),
        MIXED: patterns(),
        **_imbalanced(context, ground, IMBALANCED),
    }


def groups(context: Context, ground: Ground) -> dict[str, dict[str, Law]]:
    """The test conditions by kind, each a name and its law."""
    used = modalities(context, ground)
    missing = conditions.conditions(used, TRIMODAL)[:-1]
    kinds = {
        COMPLETE: {ALL: masks.subset(used) if ground.modalities else complete()},
        "fixed missing": {name: conditions.law(name) for name in missing},
    }
    if ground.modalities:
        return kinds
    kinds["shared rates"] = {f"shared {100 * r:g} %": masks.shared(r) for r in SHARED}
    kinds["imbalanced rates"] = _imbalanced(context, ground, SETTINGS)
    if framed(context, ground.dataset):
        kinds["frames dropped"] = {f"frames {100 * r:g} %": masks.frames(r) for r in FRAMES}
    return kinds


def tests(context: Context, ground: Ground) -> Tests:
    """Every test condition, the complete one first."""
    return tuple(pair for group in groups(context, ground).values() for pair in group.items())


def _imbalanced(context: Context, ground: Ground, settings: Sequence[Rates]) -> dict[str, Law]:
    # Names are part of a run: data in a role or without one share their runs.
    name = setting_of if context.given_rates else _as_published
    return {
        f"{IMBALANCED_RATES}{name(context, rates)}": context.rates(ground.dataset, rates)
        for rates in chosen(context, settings)
    }


def in_words(context: Context, ground: Ground, condition: str) -> str:
    """A training mask or test condition as tables and pictures name it: with the rates of these modalities.

    Runs and files of numbers have its name as published.
    """
    for rates in () if context.given_rates else SETTINGS:
        if condition == f"{IMBALANCED_RATES}{_as_published(context, rates)}":
            of = dict(context.rates(ground.dataset, rates).rates)
            return IMBALANCED_RATES + "/".join(f"{of[m]:g}" for m in modalities(context, ground))
    return condition


def of_rates(context: Context) -> str:
    """What different missing rates are of, in the order in which the names of test conditions have them."""
    if context.given_rates:
        return f"of {', '.join(name for name, _ in context.given_rates)}"
    every = dict.fromkeys(context.bundle(dataset).modalities for dataset in context.datasets)
    return " or ".join(f"of {', '.join(names[:-1])} and {names[-1]}" for names in every)


def _as_published(context: Context, rates: Rates) -> str:
    return label(rates)
