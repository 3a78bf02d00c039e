"""Which runs make which of MCULoRA's tables and figures (ledger 4.1)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mmlib.experiments.context import Cell, Context
from mmlib.experiments.stages import Budget, budget
from mmlib.masks import Law, complete, patterns, random_missing, subset
from mmlib.runs.spec import Options, RunSpec

ROLES = {"mosei": "mosei", "iemocap": "iemocap4"}
RANDOM = "random"
MEAN_MISSING, MEAN_ALL = "average of the missing conditions", "average of all conditions"
METRICS = {"mosei": ("accuracy", "weighted_f1"), "iemocap": ("accuracy", "macro_recall")}


PAPER = {"mosei": Budget(200, 32, 1e-4, 256, 4, 0.5), "iemocap": Budget(300, 16, 1e-4, 256, 4, 0.5)}
RANKS = {"smoke": (1, 4), "quick": (1, 2, 4, 8), "laptop": (1, 2, 4, 8), "paper": (1, 2, 3, 4, 5, 6, 7, 8)}  # of Fig 3


@dataclass(frozen=True)
class Row:
    """One row of a table.

    kind: ``adapted`` (the method, from pre-training), ``momke`` or ``pretrained`` (the first stage as it is).
    condition: the combination that it is trained for alone; all of them where empty.
    """

    name: str
    kind: str = "adapted"
    variant: str = "paper"
    options: Options = ()
    condition: str = ""


OURS = Row("MCULoRA")
MOMKE = Row("MoMKE", "momke")
WITHOUT_DPFT, WITHOUT_MCLA = Row("w/o DPFT", variant="fixed"), Row("w/o MCLA", variant="no_mcla")
NEITHER = Row("w/o MCLA, w/o DPFT", variant="neither")
PRETRAINED = Row("pre-training alone", "pretrained")


JOINT = dataclasses.replace(NEITHER, name="joint training")


def main_rows() -> list[Row]:
    """Table 1: the method, MoMKE and, of ours, the same network trained on: jointly for as long, or not at all."""
    return [MOMKE, JOINT, PRETRAINED, OURS]


def ablation_rows() -> list[Row]:
    """Table 2."""
    return [NEITHER, WITHOUT_DPFT, WITHOUT_MCLA, OURS]


def rank_rows(context: Context) -> list[Row]:
    """Fig 3."""
    return [dataclasses.replace(OURS, name=f"rank {r}", options=() if r == 4 else (("rank", r),))
            for r in RANKS[context.profile.name]]


def leak_rows() -> list[Row]:
    """What measuring on test buys: the rules by what they look at."""
    return [WITHOUT_DPFT, OURS, Row("DPFT on validation", variant="valid"),
            Row("LEAKS test inputs (Eq. 9 as printed)", variant="leaking_test_inputs"),
            Row("LEAKS test labels (released rule, G1)", variant="leaking_test_accuracy")]


def departure_rows() -> list[Row]:
    """Readings and departures, each against the method as recommended."""
    return [OURS, Row("L_ort with a square (F3)", variant="orthogonal"), Row("w/o L_ort", variant="no_ort"),
            Row("ranked by signed change (F11)", variant="signed"),
            Row("first release's rule (G5), on train", variant="first_release"),
            Row("LEAKS: first release's rule (G5), on test", variant="leaking_first_release"),
            Row("nothing frozen (G4)", variant="unfrozen"),
            Row("LEAKS: as released (G1, G4, G9, G10)", variant="leaking_released")]


def probed_rows() -> list[Row]:
    """The method with and without its parts, its gradients and cosines recorded."""
    probe = (("probe", True),)
    return [dataclasses.replace(r, options=probe) for r in (OURS, NEITHER, Row("w/o L_ort", variant="no_ort"),
                                                           Row("L_ort with a square (F3)", variant="orthogonal"))]


def alone_rows(context: Context, variant: str) -> list[Row]:
    """A model for each combination, from the same pre-training: adapters (``fixed``) or the network (``neither``)."""
    return [Row(f"a model for each combination, {variant}", variant=variant, condition=c)
            for c in conditions(context, context.main)]


def conditions(context: Context, dataset: str) -> list[str]:
    """The test conditions in the paper's order: single modalities, pairs, all of them."""
    names = context.bundle(dataset).modalities
    found = [c for size in range(1, len(names) + 1) for c in itertools.combinations(names, size)]
    if len(names) == 3:
        found[3], found[4] = found[4], found[3]  # the paper has the first and the last modality before the first two
    return ["+".join(c) for c in found]


def law(condition: str) -> Law:
    """The mask of a test condition."""
    return random_missing() if condition == RANDOM else subset(condition.split("+"))


def averages(context: Context, dataset: str) -> dict[str, list[str]]:
    """The two averages of Table 1 (F16)."""
    every = conditions(context, dataset)
    return {MEAN_MISSING: every[:-1], MEAN_ALL: every}


def specs(context: Context, dataset: str, row: Row, grid: bool = False) -> list[RunSpec]:
    """One run per seed and fold. All rows of a seed and fold start from one pre-training; MoMKE from its own."""
    if row.kind == "momke":
        changes: dict[str, Any] = {"method": "plain", "variant": "paper", "train_mask": patterns(),
                                   "backbone_options": budget(context, dataset, PAPER).network,
                                   "eval_masks": _tests(context, dataset)}
        return [dataclasses.replace(parent, **changes, parent=parent, keep=("curves",))
                for parent in _experts(context, dataset, grid)]
    found = _pretrained(context, dataset, grid)
    if row.kind == "pretrained":
        return found
    changes = {"train_mask": law(row.condition), "eval_masks": ((row.condition, law(row.condition)),)}
    return [dataclasses.replace(
        parent, method="mculora", variant=row.variant, options=tuple(sorted((*row.options, *bounds(dataset)))),
        **(changes if row.condition else {}), parent=parent, keep=("curves",)) for parent in found]


def _pretrained(context: Context, dataset: str, grid: bool) -> list[RunSpec]:
    """The first stage of the method: the network under mixed combinations."""
    return context.specs(dataset, "plain", "paper", patterns(), _tests(context, dataset), backbone="crossmodal",
                         network=budget(context, dataset, PAPER).network, keep=("weights", "curves"), grid=grid,
                         **budget(context, dataset, PAPER).training)


def _experts(context: Context, dataset: str, grid: bool) -> list[RunSpec]:
    """The first stage of MoMKE: each expert from its own modality, on complete data."""
    spent = budget(context, dataset, PAPER)
    return context.specs(dataset, "unimodal", "paper", complete(), _tests(context, dataset)[-2:-1], backbone="momke",
                         network=(*spent.network, ("routing", "own")), keep=("last",), grid=grid, **spent.training)


def _tests(context: Context, dataset: str) -> tuple[tuple[str, Law], ...]:
    return tuple((name, law(name)) for name in [*conditions(context, dataset), RANDOM])


def bounds(dataset: str) -> Options:
    """The shares' range by data set, as printed for masking probabilities: 0.45 to 0.55 and 0.4 to 0.6 (F13)."""
    return () if dataset == "iemocap" else (("high", 1.2), ("low", 0.8))


def cells(context: Context, dataset: str, rows: Iterable[Row], grid: bool = False,
          settings: Sequence[str] | None = None) -> list[Cell]:
    """Rows under the test conditions, or under those named."""
    return [Cell(r.name, name, spec, name) for r in rows for spec in specs(context, dataset, r, grid)
            for name in settings or conditions(context, dataset) if name in dict(spec.eval_masks)]
