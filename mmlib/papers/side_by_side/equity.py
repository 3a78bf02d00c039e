"""How evenly modalities contribute and learn, what training knew of the tests, and scores over all conditions."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from mmlib.data.bundle import Bundle
from mmlib.data.catalog import is_twin, open_twin
from mmlib.experiments.comparison import best_possible
from mmlib.experiments.conditions import ALL, all_tested, framed
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import of_row, runs_of
from mmlib.metrics import all_metrics
from mmlib.papers.side_by_side import figures, grounds, rows
from mmlib.papers.side_by_side.grounds import Ground, by_ground
from mmlib.papers.side_by_side.tables import SAME, by_training, ids, of_data, title, values
from mmlib.report import stats
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.indices import Worth, contributions, equity, learning, scores
from mmlib.runs.prior import most, serves_all
from mmlib.runs.spec import RunSpec

LACKING = "not kept"
WATCHED = "gradients kept"  # the setting of the cells whose runs tell how fast modalities learn
LEARNED = ("MLI", "MLI, corrected", "MLI of updates")
SCORES = ("complete", "mean", "worst", "drop", "area")
READINGS = (
    "MEI and MLI are readings of ours of MissBench's indices, whose formulas are not public: nothing here can be "
    "compared with its numbers. MEI: the entropy of the modalities' shares of what they contribute, over that of "
    "equal shares; contributions are Shapley values of weighted F1 over all combinations of observed modalities, "
    "of which the empty one is worth what the most frequent class of training gives. 1: all contribute alike. The "
    "best possible prediction has an MEI of its own, since modalities do not know alike: more even than that is "
    "no merit."
)
LEARNING = (
    "MLI: the standard deviation over modalities of the gradient norm of each one's own parameters, over their "
    "mean, averaged over steps; 0: all learn alike. Corrected: norms divided by the share of training that has "
    "the modality. Of updates: of the step's norm over that of the parameters. Of a method in stages, of its last; "
    "from runs of their own, with the training of the others, that keep `gradients`."
)
NO_MEI = (
    "MEI is left out: it needs results on every combination of modalities, and of many modalities not all are tested. "
    "MLI is a reading of ours of MissBench's index, whose formula is not public: nothing here can be compared with its "
    "numbers."
)
SOME_MEI = (
    "“-” in place of MEI: of many modalities not every combination is tested, which MEI needs."
)
NOT_KEPT = (
    f"“{LACKING}”: such runs are made under {grounds.MIXED} alone, on data of one vector an utterance, and the linear "
    "model takes no steps."
)
FLAGS = (
    "Prior: what training and validation know of the missingness of the tests (after MissMAC-Bench): none, "
    "complete data alone; generic, something is missing, but by no test's law or rates; matched, a test's law or "
    "rates. One model: whether one run answers all conditions."
)
SCORED = (
    "Scores in weighted F1 (%), at the epoch that validation picks: complete; mean and worst of all conditions in "
    "which something is missing; drop, complete minus mean; area under the curve against the shared missing "
    "rate. In brackets the same of the shares (%) of the best possible under the same masks, where it is known."
)


def cells(context: Context) -> list[Cell]:
    """The cells of all results, and those whose runs tell how fast modalities learn."""
    return [*rows.all_cells(context), *watched(context)]


def watched(context: Context) -> list[Cell]:
    """Of each row that takes steps, one run a seed that keeps gradients: vectors, mixed combinations, a grid's seeds.

    Each is trained as the run that the tables show, from the same first stages, and tested on complete data alone.
    """
    made = []
    for ground in figures.vectors(context):
        law = grounds.trainings(context, ground)[grounds.MIXED]
        first = grounds.tests(context, ground)[:1]
        seeds = context.seeds(ground.dataset, grid=True)
        for row in rows.rows(context, ground):
            if row.stages[-1].method == "linear":
                continue
            for spec in rows.of_seeds(context, ground, row, law, first, seeds):
                kept = dataclasses.replace(spec, keep=("gradients",))
                made.append(Cell(row.name, WATCHED, kept, first[0][0], ground.dataset))
    return made


def table(context: Context, cells: Sequence[Cell]) -> Output:
    """The indices, flags and scores of every row, by data and training mask."""
    noted = [cell for cell in cells if cell.setting == WATCHED]
    shown = [cell for cell in cells if cell.setting != WATCHED]
    frames = values(context, shown)
    lines = []
    for ground, of_ground in by_ground(shown).items():
        frame = frames[ground]
        learned = by_training(context, ground, by_ground(noted).get(ground, []))
        for training, of_training in by_training(context, ground, of_ground).items():
            reached = frame[frame["training"] == training]
            if len(reached):
                of = (ground, training, of_training, reached, learned[training])
                lines += list(_of_training(context, *of))
    if not lines:
        return NOT_BUILT
    numbers = pd.DataFrame(lines)
    text = _text(numbers)
    lacks = numbers["MLI"].isna().any()
    notes = (
        READINGS if numbers["MEI"].notna().any() else NO_MEI,
        *_without_mei(context, numbers),
        LEARNING,
        *([NOT_KEPT] if lacks else []),
        FLAGS,
        SCORED,
        _told(numbers),
        SAME,
        *of_data(context),
    )
    records = [context.record(cell.spec) for cell in noted]
    further = (record.id for record in records if record is not None)
    every = tuple(dict.fromkeys((*ids(*frames.values()), *further)))
    return Output(text, None, numbers, len(text), notes, every)


def _without_mei(context: Context, numbers: pd.DataFrame) -> tuple[str, ...]:
    """A note where a column of MEI has gaps because there are many modalities."""
    many = any(not all_tested(context.bundle(d).modalities) for d in context.datasets)
    gaps = numbers["MEI"].isna().any() and numbers["MEI"].notna().any()
    return (SOME_MEI,) if many and gaps else ()


def _of_training(
    context: Context,
    ground: Ground,
    training: str,
    cells: Sequence[Cell],
    reached: pd.DataFrame,
    noted: Sequence[Cell] = (),
) -> Iterator[dict[str, object]]:
    """One line for each row and seed of one training; noted: the cells whose runs keep gradients."""
    most = _most(context, ground, cells)
    nothing = _nothing(context, ground)
    modalities = grounds.modalities(context, ground)
    best = _equity(most, most.get("", math.nan), modalities)
    for row in dict.fromkeys(reached["row"]):
        of = of_row(cells, row)
        flags = _flags(context, ground, of)
        for seed, group in reached[reached["row"] == row].groupby("seed"):
            found = dict(zip(group["setting"], group["value"], strict=True))
            shares = {
                name: 100 * value / most[name] for name, value in found.items() if name in most
            }
            specs = [s for s in runs_of([*of, *of_row(noted, row)], row) if s.seed == seed]
            yield {
                "data": title(context, ground),
                "training": grounds.in_words(context, ground, training),
                "row": row,
                "seed": seed,
                "MEI": _equity(found, nothing, modalities),
                "MEI, best possible": best,
                **_contributed(found, nothing, modalities),
                **_learned(context, specs),
                **flags,
                **_scored(context, ground, found, ""),
                **_scored(context, ground, shares, ", of the best possible"),
            }


def _worth(found: Mapping[str, float], nothing: float, modalities: Sequence[str]) -> Worth | None:
    """What each combination of modalities is worth; None where one of them was not tested."""
    worth = {frozenset[str](): nothing}
    for size in range(1, len(modalities) + 1):
        for names in itertools.combinations(modalities, size):
            setting = ALL if size == len(modalities) else "+".join(names)
            if setting not in found:
                return None
            worth[frozenset(names)] = found[setting]
    return None if math.isnan(nothing) else worth


def _equity(found: Mapping[str, float], nothing: float, modalities: Sequence[str]) -> float:
    worth = _worth(found, nothing, modalities)
    return math.nan if worth is None else equity(list(contributions(worth).values()))


def _contributed(
    found: Mapping[str, float], nothing: float, modalities: Sequence[str]
) -> dict[str, float]:
    """Each modality's contribution, in points."""
    worth = _worth(found, nothing, modalities)
    gains = dict.fromkeys(modalities, math.nan) if worth is None else contributions(worth)
    return {f"contribution of {name}": gain for name, gain in gains.items()}


def _nothing(context: Context, ground: Ground) -> float:
    """Weighted F1 on test of the answer that training has most often, mean over folds."""
    bundle = context.bundle(ground.dataset)
    parts = [
        bundle if fold is None else bundle.with_fold(fold) for fold in context.folds(ground.dataset)
    ]
    return float(np.mean([constant(part) for part in parts]))


def constant(bundle: Bundle) -> float:
    """Weighted F1 (%) on test of one answer to all: the most frequent class, sign or binary labels of training."""
    labels, truth = (bundle.labels[bundle.rows(split)] for split in ("train", "test"))
    if bundle.task.kind == "score":
        answer = np.array([1.0 if (labels > 0).sum() >= (labels < 0).sum() else -1.0])
    elif bundle.task.kind == "binaries":
        share = labels.mean(axis=0)
        answer = np.stack([1 - share, share], axis=1).ravel()
    else:
        answer = np.bincount(labels, minlength=len(bundle.task.names)).astype(float)
    outputs = np.tile(answer, (len(truth), 1))
    return float(all_metrics(bundle.task, outputs, truth).get(rows.METRIC, math.nan))


def _most(context: Context, ground: Ground, cells: Sequence[Cell]) -> dict[str, float]:
    """By setting the best possible, and as "" that of who sees nothing; empty where it is not known."""
    reference = context.reference(ground.dataset)
    alone = not framed(context, ground.dataset)
    bound = best_possible(cells, (rows.METRIC,), context=alone) if is_twin(reference) else None
    if bound is None or bound.empty:
        return {}
    known = dict(zip(bound["setting"], bound["value"], strict=True))
    twin = open_twin(reference)
    none = np.zeros((len(twin.bundle.rows("test")), len(twin.bundle.modalities)), dtype=bool)
    return known | {"": twin.best("test", none, rows.METRIC, alone)[1]}


def _learned(context: Context, specs: Sequence[RunSpec]) -> dict[str, float]:
    """MLI, corrected and of updates, mean over folds; nan where records lack what they need."""
    found = [one for spec in specs if (one := of_run(context, spec)) is not None]
    means = np.mean(found, axis=0) if found else (math.nan,) * 3
    return dict(zip(LEARNED, map(float, means), strict=True))


def of_run(context: Context, spec: RunSpec) -> tuple[float, float, float] | None:
    """MLI, corrected for what training has of each modality, and of updates; None where a record lacks gradients."""
    from mmlib.runs.execute import mask_of, prepare
    from mmlib.runs.gradients import GRADIENT, UPDATE

    record = context.record(spec)
    kept = f"series.{GRADIENT}"
    if record is None or "gradients" not in spec.keep or kept in record.left_out:
        return None
    arrays = context.store.arrays(record.id)
    rates = 1 - mask_of(spec, spec.train_mask, prepare(spec), "train").utterance.mean(axis=0)
    gradients = arrays[kept]
    return learning(gradients), learning(gradients, rates), learning(arrays[f"series.{UPDATE}"])


def _flags(context: Context, ground: Ground, cells: Sequence[Cell]) -> dict[str, object]:
    """What training knew, the most of all runs, and whether one run of a seed and fold answers all conditions."""
    modalities = context.bundle(ground.dataset).modalities
    specs = [cell.spec for cell in cells]
    return {"prior": most(specs, modalities), "one model": serves_all(specs)}


def _scored(
    context: Context, ground: Ground, found: Mapping[str, float], ending: str
) -> dict[str, float]:
    """The scores of one model; nan where it was not tested on complete data."""
    if ALL not in found:
        return dict.fromkeys((f"{name}{ending}" for name in SCORES), math.nan)
    groups = grounds.groups(context, ground)
    missing = [
        found[name]
        for kind, group in groups.items()
        for name in group
        if kind != grounds.COMPLETE and name in found
    ]
    shared = groups.get("shared rates", {})
    curve = {law.rate: found[name] for name, law in shared.items() if name in found}
    made = dataclasses.asdict(scores(found[ALL], missing, curve))
    return {f"{name}{ending}": value for name, value in made.items()}


def _text(numbers: pd.DataFrame) -> pd.DataFrame:
    """The numbers as a table: one line for each data, training and row."""
    lines = []
    for (data, training, row), of in numbers.groupby(["data", "training", "row"], sort=False):
        best = of["MEI, best possible"].iloc[0]
        line = {"data": data, "training": training, "row": row}
        if numbers["MEI"].notna().any():
            line["MEI"] = _cell(of["MEI"], 2)
        if numbers["MEI, best possible"].notna().any():
            line["MEI, best possible"] = "-" if math.isnan(best) else f"{best:.2f}"
            line["over it"] = "-" if math.isnan(best) else _cell(of["MEI"] / best, 2)
        for name in LEARNED if numbers["MLI"].notna().any() else LEARNED[:1]:
            line[name] = _cell(of[name], 2, LACKING)
        line |= {"prior": of["prior"].iloc[0], "one model": _yes(bool(of["one model"].all()))}
        for name in SCORES:
            share = of[f"{name}, of the best possible"].dropna()
            beside = f" ({share.mean():.1f})" if len(share) else ""
            line[name] = _cell(of[name], 1) + beside
        lines.append(line)
    return pd.DataFrame(lines)


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _cell(found: pd.Series, decimals: int, lacking: str = "-") -> str:
    """Mean over seeds, with its 95 % interval where there are enough."""
    known = found.dropna()
    if known.empty:
        return lacking
    of = stats.summarise(known)
    mean = f"{of.mean:.{decimals}f}"
    if math.isnan(of.low):
        return mean
    return f"{mean} [{of.low:.{decimals}f}, {of.high:.{decimals}f}]"


def _told(numbers: pd.DataFrame) -> str:
    """What the numbers behind means are, in a sentence."""
    seeds = numbers.groupby(["data", "training", "row"])["seed"].nunique()
    if seeds.max() < stats.FEWEST:
        return "Means over seeds, too few for intervals."
    return "Means over seeds with 95 % intervals where there are enough seeds."
