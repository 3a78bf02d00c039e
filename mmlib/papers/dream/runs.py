"""Which runs make which of DREAM's tables and figures (ledger 2.1): P first, then the network that it guides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mmlib import masks
from mmlib.experiments import stages
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.stages import ALL, few, framed, law
from mmlib.masks import Law, complete
from mmlib.runs.spec import Options, RunSpec

ROLES = {"mosi": "mosi-frames", "mosei": "mosei-frames", "iemocap": "iemocap4-frames"}
AVERAGE = "average"
FOLD_SEEDS = 5  # at most, on data with folds
DROPPED = 0.5  # each modality's rate in training, where they are dropped anew each epoch (B14)
LEVELS = {"smoke": (0.0, 0.6), "quick": (0.0, 0.3, 0.6, 0.9), "laptop": (0.0, 0.2, 0.4, 0.6, 0.8)}
DEPARTING = 0.6  # the share of Figs 4 and 5 under which readings are compared
ALL_LEVELS = tuple(k / 10 for k in range(10))  # of Figs 3 to 5, whose ratios the text does not give


@dataclass(frozen=True)
class Budget:
    """What is spent.

    first, epochs: epochs of P and of what follows. batch: utterances a step, or about as many in whole dialogues.
    hidden, repeats: the network's d and D; P has its full size everywhere.
    """

    first: int
    epochs: int
    batch: int
    lr: float
    hidden: int
    repeats: int = 2

    @property
    def schedule(self) -> dict[str, Any]:
        """Of the second stage; the paper has Adam without weight decay."""
        return {"epochs": self.epochs, "batch": self.batch, "lr": self.lr, "weight_decay": 0.0, "optimizer": "adam"}


BUDGETS = {"smoke": Budget(2, 2, 32, 3e-3, 16, 1), "quick": Budget(5, 6, 48, 3e-3, 32, 1),
           "laptop": Budget(20, 20, 32, 1e-3, 64), "paper": Budget(30, 30, 32, 1e-4, 200)}
IEMOCAP_LR = 2e-4  # A.2, at the paper's size


@dataclass(frozen=True)
class Row:
    """One row of a table, or curve of a figure.

    kind: ``dream``; ``plain``, its network with the task loss alone, nothing enhanced, no P; or ``reference``, P.
    network: options of the network. reference: the backbone that P is; share: of P's epochs that it gets.
    complete: P learns from complete data, whatever the second stage sees (B15).
    """

    name: str
    kind: str = "dream"
    variant: str = "paper"
    network: Options = ()
    reference: str = "corrkd"
    share: float = 1.0
    complete: bool = False


OURS, PLAIN, P = Row("DREAM"), Row("same network, task loss alone", "plain"), Row("P by itself", "reference")
ABLATED = (Row("w/o dynamic enhancement", variant="enhance_all"), Row("w/o MMFM", variant="no_masked_fusion"))
POOR, SELFMM, MLP = (Row("under-trained CorrKD", share=0.1), Row("Self-MM", reference="selfmm"),
                     Row("MLP", reference="mlp"))
KNOWING = dataclasses.replace(OURS, name="P on complete data (B15)", complete=True)


def main_rows() -> list[Row]:
    """Table 1 and Fig 3; the two beside the method are ours."""
    return [OURS, PLAIN, P]


def reference_rows() -> list[Row]:
    """Fig 5: the method with each P, by P's name."""
    return [dataclasses.replace(OURS, name="CorrKD"), POOR, SELFMM, MLP]


def departure_rows(context: Context, dataset: str) -> list[Row]:
    """Readings of ledger 2.2, each against the recommended one, but those of tasks that the data do not have."""
    kind, repeats = context.bundle(dataset).task.kind, budget(context, dataset).repeats
    scores = [Row("PSS of seven classes (B2)", variant="seven_classes"), Row("squared error", variant="squared")]
    emotions = [Row("PSS of any emotion (B3)", variant="any_emotion")]
    return [OURS, Row("empty set undecided (B1)", variant="undecided_empty"), *(scores if kind == "score" else []),
            *(emotions if kind == "binaries" else []), Row("PAS clipped (B5)", variant="clipped_pas"),
            Row("literal fusion (B6)", variant="literal_fusion"), Row("enhance up to 1/6 (B7)",
                                                                      variant="low_contribution"),
            Row("enhance in turn (B8)", network=(("sequential", True),)),
            *([Row("one weight for all repeats", network=(("shared_repeats", True),))] if repeats > 1 else []), KNOWING,
            Row("no distillation", variant="no_distillation"), Row("no enhancement", variant="no_enhancement"),
            *ABLATED]


def conditions(context: Context, dataset: str) -> list[str]:
    """The test conditions in the paper's order: single modalities, pairs, all of them."""
    return stages.conditions(context.bundle(dataset).modalities, (
        "text", "audio", "vision", "audio+text", "text+vision", "audio+vision"))


def averages(context: Context, dataset: str) -> dict[str, list[str]]:
    """Table 1's average, over the conditions in which something is missing."""
    return {AVERAGE: conditions(context, dataset)[:-1]}


def weak(context: Context, dataset: str) -> list[str]:
    """The conditions without text, which the paper calls the low-contribution modalities."""
    return [c for c in conditions(context, dataset)[:-1] if "text" not in c.split("+")]


def tests(context: Context, dataset: str) -> tuple[tuple[str, Law], ...]:
    """Table 1's test masks."""
    return tuple((c, law(c)) for c in conditions(context, dataset))


def dropping() -> Law:
    """What training sees of Table 1, as CorrKD's does: each modality of each sample dropped anew each epoch (B14)."""
    return masks.shared(DROPPED, resampled=True)


def frames(context: Context, dataset: str, level: float) -> Law:
    """Fig 3's law of training and test; vectors have no frames to lose, so that whole modalities are dropped."""
    lost = masks.frames(level) if framed(context, dataset) else masks.shared(level)
    return lost if level else complete()


def mixed(context: Context, dataset: str, level: float) -> Law:
    """The law of Figs 4 and 5, in training and test (A.4); of vectors as ``frames``."""
    lost = masks.mix(level) if framed(context, dataset) else masks.shared(level)
    return lost


def levels(context: Context) -> tuple[float, ...]:
    """Ratios of Fig 3; those above 0 of Figs 4 and 5."""
    return LEVELS.get(context.profile.name, ALL_LEVELS)


def percent(level: float) -> str:
    """A level's name as a setting."""
    return f"{100 * level:g} %"


def budget(context: Context, dataset: str) -> Budget:
    """Of a profile; steps take whole dialogues, as many as hold about the batch's utterances."""
    spent = BUDGETS[context.profile.name]
    lr = IEMOCAP_LR if (context.profile.name, dataset) == ("paper", "iemocap") else spent.lr
    return dataclasses.replace(spent, batch=stages.whole_dialogues(spent.batch, context.bundle(dataset)), lr=lr)


def specs(context: Context, dataset: str, row: Row, train: Law, masks_of_test: tuple[tuple[str, Law], ...], *,
          grid: bool = False) -> list[RunSpec]:
    """One run per seed and fold: of P itself, of the network by itself, or of both stages.

    Rows whose Ps are equal share their runs. P sees what the second stage sees, but for rows that say otherwise (B15).
    """
    spent, score = budget(context, dataset), context.bundle(dataset).task.kind == "score"
    own = row.reference == "selfmm" and score  # Self-MM's training is of scores
    first = context.specs(dataset, "selfmm" if own else "reference", "paper", complete() if row.complete else train,
                          masks_of_test, grid=grid, backbone=row.reference, keep=("weights",),
                          **{**spent.schedule, "epochs": max(1, round(row.share * spent.first))})
    if row.kind == "reference":
        return first
    network = tuple(sorted((("hidden", spent.hidden), ("repeats", spent.repeats), *row.network)))
    options: Options = () if row.reference == "corrkd" else (("reference", row.reference),)
    told: dict[str, Any] = {"method": "dream", "variant": row.variant, "options": options}
    if row.kind == "plain":
        told = {"method": "reference"}
    return [dataclasses.replace(
        p, **told, backbone="dream", backbone_options=network, train_mask=train, keep=(),
        training=dataclasses.replace(p.training, epochs=spent.epochs), parent=p if row.kind == "dream" else None)
        for p in first]


def cells(context: Context, dataset: str, rows: Iterable[Row], train: Law, *, grid: bool = False) -> list[Cell]:
    """Rows trained under a law and tested under each of Table 1's conditions."""
    masks_of_test = tests(context, dataset)
    return [Cell(r.name, name, spec, name) for r in rows
            for spec in specs(context, dataset, r, train, masks_of_test, grid=grid) for name, _ in masks_of_test]


def whole(context: Context, dataset: str, rows: Iterable[Row]) -> list[Cell]:
    """Complete training, Table 1's conditions at test: the other reading of its protocol (B14)."""
    return cells(context, dataset, rows, complete(), grid=few(context))


def dropped(context: Context, dataset: str, rows: Iterable[Row], grid: bool = False) -> list[Cell]:
    """Modalities dropped in training, Table 1's conditions at test."""
    return cells(context, dataset, rows, dropping(), grid=grid)


def lossy(context: Context, dataset: str, rows: Iterable[Row]) -> list[Cell]:
    """Fig 3: frames lost at one ratio in training and test; at 0 the runs are those of ``whole``."""
    found = [dataclasses.replace(c, setting=percent(0)) for c in whole(context, dataset, rows) if c.mask == ALL]
    return found + _under(context, dataset, rows, [frames(context, dataset, p) for p in levels(context)[1:]],
                          few(context))


def mixtures(context: Context, dataset: str, rows: Iterable[Row]) -> list[Cell]:
    """Figs 4 and 5: a share of training and of test is affected (A.4)."""
    return _under(context, dataset, rows, [mixed(context, dataset, p) for p in levels(context)[1:]], few(context))


def departures(context: Context, dataset: str, rows: Iterable[Row]) -> list[Cell]:
    """Readings, under the law of Figs 4 and 5 at one share."""
    return _under(context, dataset, rows, [mixed(context, dataset, DEPARTING)], True)


def _under(context: Context, dataset: str, rows: Iterable[Row], laws: Sequence[Law], grid: bool) -> list[Cell]:
    """Rows trained and tested under one law, for each of several."""
    names = {percent(law.rate): law for law in laws}
    return [Cell(r.name, name, spec, name) for name, law in names.items() for r in rows
            for spec in specs(context, dataset, r, law, ((name, law),), grid=grid)]


def scores(context: Context) -> list[str]:
    """The data sets whose task is a score."""
    return [d for d in context.datasets if context.bundle(d).task.kind == "score"]


def ablated(context: Context) -> str:
    """The data set of Fig 4, and (a guess) of Fig 5: IEMOCAP; the main one stands in where there is none."""
    return "iemocap" if "iemocap" in context.datasets else context.main


def compared(context: Context) -> list[str]:
    """The data sets of Fig 5: that of Fig 4, and one of scores, which Self-MM's own training needs."""
    return list(dict.fromkeys([ablated(context), *scores(context)[:1]]))


def prepared(made: Context) -> Context:
    """The context with the seeds that data with folds get, and with what captions say of the profile."""
    p = made.profile
    fewer = dataclasses.replace(p, fold_seeds=min(p.fold_seeds, FOLD_SEEDS), other_seeds=p.seeds)
    return dataclasses.replace(made, profile=dataclasses.replace(fewer, reduced=reduced(made)))


def reduced(context: Context) -> str:
    """What captions say of a profile's budget; nothing at the paper's."""
    p, spent = context.profile, BUDGETS[context.profile.name]
    if p.name == "paper":
        return ""
    seeds = {min(p.fold_seeds, FOLD_SEEDS) if context.bundle(d).fold is not None else p.seeds for d in context.datasets}
    fewer = f" ({p.grid_seeds} of curves and departures)" if few(context) else f" ({p.grid_seeds} of departures)"
    return (f"Reduced ({p.name}): width {spent.hidden}, enhancement {'twice' if spent.repeats == 2 else 'once'}, "
            f"{spent.first} epochs of P and {spent.epochs} of what follows, batches of {spent.batch} utterances or so, "
            f"learning rate {spent.lr:g}, "
            f"{' or '.join(map(str, sorted(seeds)))} seeds{fewer}.")
