"""The comparison in numbers: verdicts across all of it, shares of the best possible, and what every row was given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.experiments import recipes
from mmlib.experiments.comparison import best_possible, data_notes, selected, shown
from mmlib.experiments.conditions import framed
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import runs_of
from mmlib.papers.balm.rows import assignment
from mmlib.papers.side_by_side import grounds, rows
from mmlib.papers.side_by_side.grounds import Ground, by_ground
from mmlib.report import stats
from mmlib.report.artifact import NOT_BUILT, Output
from mmlib.report.tables import mean_sd
from mmlib.runs.spec import RunSpec

F1 = "weighted F1 (%)"
Compared = tuple[
    dict[str, str], pd.Series, pd.Series
]  # names, the method's values by seed, its network's
RUN = ["data", "row", "training", "seed", "fold", "selection", "metric", "stale", "run_id"]
"""The columns that tell a run, or mean over folds, from the others."""
TIMED = (
    "Seconds: median training time of a model over all its stages, on one thread "
    "beside another run. It includes the evaluation of every epoch on complete data "
    "and of two epochs under all conditions."
)
OVER = (
    "Intervals are over seeds with the same test utterances; they do not include "
    "the variation over other utterances."
)
FEW_SEEDS = (
    f"Cells with fewer than {stats.FEWEST} seeds show the difference alone: so few decide none of so many comparisons. "
    "Further seeds: `--seeds`."
)
ELSEWHERE = (
    "Learning rates and steps were not searched on these data, but on similar ones "
    "(docs/recipes.md). On these data others may be better, by several points."
)
SAME = (
    "One model per row and training mask, tested under every condition. All rows have "
    "the same masks and the same total number of epochs over their stages; the epoch "
    "is chosen on validation with the training mask. The experts of EBMC and of its "
    "network see complete data in their first stage, as in the paper; no other row does."
)


def of_data(context: Context, datasets: Sequence[str] = ()) -> tuple[str, ...]:
    """What must be said of some data, of all where none are named, and of recipes that were searched on others."""
    chosen = datasets or context.datasets
    profile = context.profile
    elsewhere = profile.searched and not all(
        recipes.is_own(profile.name, context.bundle(d)) for d in chosen
    )
    rates = dict.fromkeys(note for d in chosen for note in assignment(context, d))
    return (*rates, *data_notes(context, chosen), *((ELSEWHERE,) if elsewhere else ()))


def title(context: Context, ground: Ground) -> str:
    """A ground's name as readers must see it."""
    name = shown(context, ground.dataset)
    return f"{name}, {' and '.join(ground.modalities)}" if ground.modalities else name


def by_training(context: Context, ground: Ground, cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """A ground's cells by what training sees."""
    return {
        name: [cell for cell in cells if cell.spec.train_mask == law]
        for name, law in grounds.trainings(context, ground).items()
    }


def values(context: Context, cells: Sequence[Cell]) -> dict[Ground, pd.DataFrame]:
    """By ground: weighted F1 by row, training, setting and seed, at the epoch that validation picks, and run_id.

    Folds are averaged.
    """
    frames = {}
    for ground, of_ground in by_ground(cells).items():
        parts = [
            selected(context, of_training, rows.METRIC).assign(training=name)
            for name, of_training in by_training(context, ground, of_ground).items()
        ]
        frames[ground] = pd.concat(parts, ignore_index=True)
    return frames


def ids(*frames: pd.DataFrame) -> tuple[str, ...]:
    """The runs behind some values."""
    return tuple(pd.concat([frame["run_id"] for frame in frames]).unique())


def by_run(numbers: pd.DataFrame) -> pd.DataFrame:
    """Values with one line per run, or mean over folds, and a column per test condition.

    numbers: ``RUN`` with setting and value, one line each.
    """
    wide = numbers.fillna({"fold": ""}).pivot(index=RUN, columns="setting", values="value")
    return wide[[*dict.fromkeys(numbers["setting"])]].reset_index().rename_axis(columns=None)


def by_condition(wide: pd.DataFrame) -> pd.DataFrame:
    """What ``by_run`` was made of, but for its order: one line per run and test condition."""
    return wide.melt(RUN, var_name="setting").dropna(subset="value").reset_index(drop=True)


def by_group(context: Context, ground: Ground, frame: pd.DataFrame) -> pd.DataFrame:
    """Means over the conditions of a kind, by row, training, kind and seed."""
    groups = grounds.groups(context, ground)
    kinds = {name: kind for kind, group in groups.items() for name in group}
    named = frame.assign(kind=frame["setting"].map(kinds))
    means = named.groupby(["row", "training", "kind", "seed"], sort=False)["value"].mean()
    return means.reset_index()


def comparisons(context: Context, ground: Ground, frame: pd.DataFrame) -> Iterator[Compared]:
    """Every method against the network under it, by training and kind of test."""
    means = by_group(context, ground, frame).groupby(["row", "training", "kind"])
    series = {key: group.set_index("seed")["value"] for key, group in means}
    methods = [row for row in rows.rows(context, ground) if row.against]
    trainings, kinds = grounds.trainings(context, ground), grounds.groups(context, ground)
    for row, training, kind in itertools.product(methods, trainings, kinds):
        ours = series.get((row.name, training, kind))
        own = series.get((row.against, training, kind))
        if ours is not None and own is not None:
            names = {
                "data": title(context, ground),
                "method": row.name,
                "training": training,
                "test": kind,
            }
            yield names, ours, own


def verdicts(context: Context, cells: Sequence[Cell]) -> Output:
    """Every method compared with its own network, by training mask and kind of test, with simultaneous intervals."""
    frames = {g: frame for g, frame in values(context, cells).items() if not frame.empty}
    made = [one for g, frame in frames.items() for one in comparisons(context, g, frame)]
    in_words = {
        (title(context, g), name): grounds.in_words(context, g, name)
        for g in frames
        for name in grounds.trainings(context, g)
    }
    if not made:
        return NOT_BUILT
    lines = [{**names, **compared(ours, own, len(made))} for names, ours, own in made]
    numbers = pd.DataFrame(lines)
    named = [in_words[line["data"], line["training"]] for line in lines]
    text = numbers.assign(cell=[_text(line) for line in lines], training=named)
    by = ["data", "method", "training"]
    table = text.pivot_table(index=by, columns="test", values="cell", aggfunc="first", sort=False)
    table = table.fillna("-").reset_index().rename_axis(columns=None)
    notes = (
        *_what_cells_say(numbers),
        SAME,
        *of_data(context),
    )
    return Output(table, None, numbers, len(table), notes, ids(*frames.values()))


def _what_cells_say(numbers: pd.DataFrame) -> tuple[str, ...]:
    """How the verdicts' cells are to be read, by how many seeds they have."""
    minus = f"{F1}: the method minus its own network"
    if numbers["n"].max() < stats.FEWEST:
        return (f"{minus}. {FEW_SEEDS}",)
    counts = numbers["verdict"].value_counts()
    counted = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in stats.DECIDABLE)
    return (
        f"{minus}, mean difference over seeds, with simultaneous intervals for all {len(numbers)} comparisons of "
        f"this table (95 %, Bonferroni). Verdicts: {counted}.",
        OVER,
        *([FEW_SEEDS] if numbers["n"].min() < stats.FEWEST else []),
    )


def compared(ours: pd.Series, own: pd.Series, family: int) -> dict[str, Any]:
    """A paired comparison as columns."""
    test = stats.paired(ours, own, comparisons=family)
    columns = ("difference", "low", "high", "n", "verdict", "detectable")
    return {name: getattr(test, name) for name in columns}


def _text(line: Mapping[str, Any]) -> str:
    difference = f"{line['difference']:+.2f}"
    if line["n"] < stats.FEWEST:  # an interval of thousands of points only hides the rest
        return difference
    return f"{difference} [{line['low']:+.1f}, {line['high']:+.1f}] {line['verdict']}"


def best_cells(context: Context) -> list[Cell]:
    """The runs on twins, of which the best possible is known."""
    return [cell for cell in rows.all_cells(context) if is_twin(cell.spec.data)]


def lacks_best(context: Context) -> str:
    """Why no share of the best possible is known; empty where it is."""
    return "" if any(map(is_twin, context.data.values())) else "Known of twins only."


def best(context: Context, cells: Sequence[Cell]) -> Output:
    """What share of the best possible each row reaches, by training and kind of test; of twins alone."""
    lines, numbers = [], []
    frames = values(context, cells)
    for ground, of_ground in by_ground(cells).items():
        data, frame = title(context, ground), frames[ground]
        alone = framed(context, ground.dataset)
        for training, of_training in by_training(context, ground, of_ground).items():
            bound = best_possible(of_training, (rows.METRIC,), context=not alone)
            reached = frame[frame["training"] == training]
            if bound is None or reached.empty:
                continue
            most = reached["setting"].map(bound.set_index("setting")["value"])
            share = reached.assign(value=100 * reached["value"] / most)
            numbers.append(share.assign(data=data))
            means = by_group(context, ground, share).groupby(["row", "kind"], sort=False)["value"]
            text = means.agg(mean_sd).unstack("kind", fill_value="-")
            text = text.reindex(columns=list(grounds.groups(context, ground)))
            for row, by_kind in text.iterrows():
                named = grounds.in_words(context, ground, training)
                lines.append({"data": data, "training": named, "row": row, **by_kind.to_dict()})
    if not lines:
        return NOT_BUILT
    notes = (
        "Percentage of the best possible weighted F1, which is known for twins "
        "(approximately: that of the most likely class, not of the best decision for "
        "F1), mean ± sd over seeds. On vectors the best possible decision uses the "
        "other utterances of the speaker, as the graph network can; on sequences it "
        "uses a single utterance.",
        SAME,
    )
    shares = pd.concat(numbers, ignore_index=True)
    return Output(pd.DataFrame(lines).fillna("-"), None, shares, len(lines), notes, ids(shares))


def fairness(context: Context, cells: Sequence[Cell]) -> Output:
    """What every row was given: learning rate, epochs by stage, parameters."""
    lines = []
    for ground, of_ground in by_ground(cells).items():
        for row in rows.rows(context, ground):
            names = {
                "data": title(context, ground),
                "row": row.name,
                "method's own network": row.against or "-",
            }
            lines.append({**names, **given(context, runs_of(of_ground, row.name))})
    notes = (
        "Learning rate: of the last stage, as chosen by trials on validation, as many for a method as for its "
        "network (docs/recipes.md). Epochs: passes over the training data in every stage, P's included. "
        "Chosen: median epoch of the last stage chosen on validation; if it is near the last "
        "epoch, longer training may be better. Parameters: trained in the last stage, "
        "and frozen in it.",
        SAME,
    )
    table = pd.DataFrame(lines)
    return Output(table, numbers=table, rows_built=len(lines), notes=notes)


def given(context: Context, specs: Sequence[RunSpec]) -> dict[str, object]:
    """One line of the fairness table."""
    from mmlib.runs.execute import build, prepare

    spec = specs[0]
    epochs = [part.training.epochs for part in (spec.parent, spec) if part]
    bundle = prepare(spec)
    model = build(spec, bundle.only(spec.modalities) if spec.modalities else bundle)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    main = spec.eval_masks[0][0]
    records = [record for record in map(context.record, specs) if record]
    picked = [1 + record["selected"]["valid"]["epoch"][main] for record in records]
    lrs = sorted({s.training.lr for s in specs})
    return {
        "learning rate": ", ".join(f"{lr:.2g}" for lr in lrs),
        "models": len(specs),
        "epochs": " + ".join(map(str, epochs)),
        "chosen": f"{np.median(picked):g}" if picked else "-",
        "parameters, trained": f"{trained:,}",
        "frozen": f"{frozen:,}",
    }


def seconds(context: Context, specs: Sequence[RunSpec]) -> list[float]:
    """Seconds of each run and of the stage that it starts from, of those for which a store says both."""
    totals: list[float] = []
    for spec in specs:
        stages = [stage for stage in (spec.parent, spec) if stage]
        records = [record for record in map(context.record, stages) if record]
        times = [context.store.sidecar(record.id).get("seconds") for record in records]
        known = [float(time) for time in times if time is not None]
        if len(known) == len(stages):
            totals.append(sum(known, 0.0))
    return totals
