"""Who takes part in a comparison, and under which conditions they are trained and tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmlib import masks
from mmlib.compare.race import LOOKS
from mmlib.data.bundle import Bundle
from mmlib.experiments import baselines
from mmlib.experiments.conditions import ALL
from mmlib.experiments.context import Context
from mmlib.experiments.rows import Row, Stage, Tests
from mmlib.experiments.search import NETWORKS, Key
from mmlib.experiments.systems import SYSTEMS
from mmlib.masks import Law, complete, patterns
from mmlib.papers.side_by_side import rows
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.runs.spec import RunSpec

SHARED = (0.3, 0.6)
COMPLETE, MIXED, OWN = "complete", "mixed combinations", "own rates"
MAJORITY = "majority"
# Networks that no method of the comparison plugs into.
ALONE = {"mmdfn": "MM-DFN", "corrkd": "CorrKD's network", "selfmm": "Self-MM", "mlp": "MLP"}
# What names on the page stand for that a reader may not know.
ABOUT = {
    MAJORITY: "always the answer that is most frequent in training, or the median score",
    "linear model": "logistic or ridge regression on all features side by side",
    "concatenation": "an encoder for each modality, their outputs side by side, one classifier",
    "CorrKD's network": "the network of CorrKD without its distillation",
}


@dataclass(frozen=True)
class Question:
    """Under what one asks for the best contender."""

    name: str
    """As the report calls it."""

    tests: Tests
    """The test conditions that its answer averages over."""


@dataclass(frozen=True)
class Contender:
    """A row that is trained under one law."""

    row: Row
    """The method or network."""

    training: str
    """What training sees, in words."""

    law: Law
    """What training sees."""

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{self.row.name}, {self.training}"

    @property
    def key(self) -> Key:
        """Under which its trials stand: a network, and the method over it."""
        last = self.row.stages[-1]
        return last.backbone, last.method if self.row.against else ""


@dataclass(frozen=True)
class Plan:
    """A comparison on one data set."""

    context: Context
    """Profile, data and store."""

    ground: Ground
    """The data set, as the side-by-side comparison names it."""

    contenders: tuple[Contender, ...]
    """All that take the data."""

    questions: tuple[Question, ...]
    """Of which each has its own answer."""

    looks: tuple[int, ...] = LOOKS
    """The numbers of seeds after which contenders may leave."""

    @property
    def bundle(self) -> Bundle:
        """The data."""
        return self.context.bundle(self.ground.dataset)

    @property
    def tests(self) -> Tests:
        """All test conditions, complete data first."""
        return tuple(test for question in self.questions for test in question.tests)

    def specs(self, contender: Contender, seeds: Sequence[int]) -> list[RunSpec]:
        """A contender's runs, one for each seed and fold."""
        return rows.of_seeds(
            self.context, self.ground, contender.row, contender.law, self.tests, seeds
        )


def planned(context: Context, ground: Ground, systems: bool = False) -> Plan:
    """The comparison of all that take a context's data; its own rates are a further training and question.

    systems: whether the comparison systems of the papers' tables take part.
    """
    bundle, rates = context.bundle(ground.dataset), dict(context.given_rates)
    trainings = {COMPLETE: complete(), MIXED: patterns()}
    if rates:
        trainings[OWN] = masks.imbalanced(rates)
    contenders = tuple(
        Contender(row, name, law)
        for row in every_row(context, ground, systems)
        for name, law in trainings.items()
    )
    return Plan(context, ground, contenders, questions(bundle, rates))


def questions(bundle: Bundle, rates: Mapping[str, float]) -> tuple[Question, ...]:
    """Complete data, each modality missing, each alone, rates that all modalities share, and the user's own."""
    modalities = bundle.modalities
    alone = tuple((f"{m} alone", masks.subset([m])) for m in modalities)
    asked = [Question("complete data", ((ALL, complete()),))]
    if len(modalities) > 2:  # of two, one missing is the other alone
        missing = tuple(
            (f"without {m}", masks.subset([other for other in modalities if other != m]))
            for m in modalities
        )
        asked.append(Question("one modality missing", missing))
    asked.append(Question("one modality alone", alone))
    shared = tuple((f"shared rate {100 * rate:g} %", masks.shared(rate)) for rate in SHARED)
    asked.append(Question("missing at random", shared))
    if rates:
        named = ", ".join(f"{m} {100 * rate:g} %" for m, rate in rates.items())
        asked.append(Question("own rates", ((f"missing: {named}", masks.imbalanced(dict(rates))),)))
    return tuple(asked)


def every_row(context: Context, ground: Ground, systems: bool = False) -> list[Row]:
    """The side-by-side comparison's methods, networks and linear model, and the further networks that take the data.

    systems: with those of the comparison systems that take them.
    """
    bundle = context.bundle(ground.dataset)
    chosen = rows.rows(context, ground)
    known = {row.stages[-1].backbone for row in chosen}
    budget = rows.budget(context, ground.dataset)
    for network in NETWORKS:
        if network.backbone in known or not network.takes.fits(bundle):
            continue
        if network.backbone in ("gcnet", "gcnet_frames"):
            frames = network.backbone == "gcnet_frames"
            chosen.append(baselines.gcnet(context, budget, 1, frames=frames))
        elif network.backbone in ALONE:
            stage = Stage(network.method_on(bundle), network.backbone)
            chosen.append(Row(ALONE[network.backbone], (stage,), against=None))
        elif network.backbone == "concat":
            chosen.append(Row("concatenation", (Stage(network.method, "concat"),), against=None))
    if systems:
        chosen += [system.row for system in SYSTEMS if system.takes.fits(bundle)]
    # The linear model is made first: it says within seconds what is to be beaten.
    return sorted(chosen, key=lambda row: row.stages[-1].method != "linear")
