"""The comparison in numbers: verdicts across all of it, shares of the best possible, and what every row was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmlib.experiments import stages
from mmlib.experiments.comparison import best_possible, data_notes, shown
from mmlib.experiments.context import Context
from mmlib.papers.side_by_side import rates, runs
from mmlib.papers.side_by_side.runs import Ground
from mmlib.report import stats
from mmlib.report.artifact import Output
from mmlib.report.tables import mean_sd
from mmlib.runs.execute import build, prepare
from mmlib.runs.spec import RunSpec

F1 = "weighted F1 (%)"
FEW = 3  # seeds; fewer give no interval that a table should show
TIMED = ("Seconds: median of a model's training with its stages, the evaluation of every epoch on complete data and "
         "of two epochs under all conditions included, on one thread beside another run.")
OVER = "Intervals are over seeds, tested on the same utterances: what other utterances would change is not in them."
SAME = ("One model per row and training, tested under every condition. All rows see the same masks; in all their "
        "stages together they have as many epochs; the epoch is chosen on validation under the training law.")


def of_data(context: Context, datasets: Sequence[str] = ()) -> tuple[str, ...]:
    """What must be said of some data, of all where none are named, and of what was chosen on others."""
    chosen = datasets or context.datasets
    elsewhere = any(rates.elsewhere(context, d) for d in chosen)
    return (*data_notes(context, chosen), *((rates.TUNED,) if elsewhere else ()))


def title(context: Context, ground: Ground) -> str:
    """A ground's name as readers must see it."""
    return shown(context, ground.dataset) + (f", {' and '.join(ground.modalities)}" if ground.modalities else "")


def all_specs(context: Context) -> list[RunSpec]:
    """The runs of every ground."""
    return [spec for ground in runs.grounds(context) for spec in runs.specs_of(context, ground)]


def values(context: Context, ground: Ground) -> pd.DataFrame:
    """Weighted F1 by row, training, setting and seed, at the epoch that validation picks, folds averaged; run_id."""
    frames = []
    for training, cells in runs.cells(context, ground).items():
        frame = context.results(cells)
        frame = stats.average_folds(frame[(frame["metric"] == runs.METRIC) & (frame["selection"] == "valid")])
        frames.append(frame.assign(training=training))
    return pd.concat(frames, ignore_index=True)


def ids(*frames: pd.DataFrame) -> tuple[str, ...]:
    """The runs behind some values."""
    return tuple(dict.fromkeys(i for frame in frames if "run_id" in frame for i in frame["run_id"]))


def by_group(context: Context, ground: Ground, frame: pd.DataFrame) -> pd.DataFrame:
    """Means over the conditions of a kind, by row, training, kind and seed."""
    kinds = {name: kind for kind, group in runs.groups(context, ground).items() for name in group}
    named = frame.assign(kind=frame["setting"].map(kinds))
    return named.groupby(["row", "training", "kind", "seed"], sort=False)["value"].mean().reset_index()


def verdicts(context: Context) -> Output:
    """Every method against the network under it, by training and kind of test, intervals that hold together."""
    pairs: list[tuple[dict[str, str], pd.Series, pd.Series]] = []
    behind = []
    for ground in runs.grounds(context):
        found = values(context, ground)
        if found.empty:
            continue
        behind.append(found)
        series = {key: group.set_index("seed")["value"] for key, group in
                  by_group(context, ground, found).groupby(["row", "training", "kind"])}
        for row in (r for r in runs.rows(context, ground) if r.own):
            for training in runs.trainings(context, ground):
                for kind in runs.groups(context, ground):
                    ours, own = series.get((row.name, training, kind)), series.get((row.own, training, kind))
                    if ours is not None and own is not None:
                        pairs.append(({"data": title(context, ground), "method": row.name, "training": training,
                                       "test": kind}, ours, own))
    lines = [{**names, **compared(ours, own, len(pairs))} for names, ours, own in pairs]
    if not lines:
        return Output(notes=("Not built yet.",))
    numbers = pd.DataFrame(lines)
    text = numbers.assign(cell=[_text(line) for line in lines])
    table = text.pivot_table(index=["data", "method", "training"], columns="test", values="cell", aggfunc="first",
                             sort=False).fillna("-").reset_index()
    table.columns.name = None
    notes = (f"{F1}: the method minus the network under it, mean difference over seeds, with intervals that hold for "
             f"all {len(lines)} comparisons of this table together (95 %, Bonferroni). {_counted(numbers['verdict'])}",
             OVER,
             *(["With fewer than three seeds nothing is decided about so many comparisons; intervals are in the "
                "files."] if numbers["n"].min() < FEW else []),
             SAME, *of_data(context))
    return Output(table=table, numbers=numbers, rows_built=len(table), notes=notes, run_ids=ids(*behind))


def compared(ours: pd.Series, own: pd.Series, family: int) -> dict[str, Any]:
    """A paired comparison as columns."""
    c = stats.paired(ours, own, comparisons=family)
    return {"difference": c.difference, "low": c.low, "high": c.high, "n": c.n, "verdict": c.verdict,
            "detectable": c.detectable}


def _text(line: Mapping[str, Any]) -> str:
    if line["n"] < FEW:  # an interval of thousands of points only hides the rest
        return f"{line['difference']:+.2f}, {line['n']} seeds, {line['verdict']}"
    return f"{line['difference']:+.2f} [{line['low']:+.1f}, {line['high']:+.1f}] {line['verdict']}"


def _counted(found: Iterable[str]) -> str:
    counts = pd.Series(list(found)).value_counts()
    return "Verdicts: " + ", ".join(f"{counts.get(v, 0)} {v}" for v in stats.VERDICTS) + "."


def best(context: Context) -> Output:
    """What share of the best possible each row reaches, by training and kind of test; of twins alone."""
    lines, numbers = [], []
    for ground in runs.grounds(context):
        found = values(context, ground)
        for training, cells in runs.cells(context, ground).items():
            bound = best_possible(cells, (runs.METRIC,), context=not stages.framed(context, ground.dataset))
            mine = found[found["training"] == training]
            if bound is None or mine.empty:
                continue
            mine = mine.assign(value=100 * mine["value"] / mine["setting"].map(bound.set_index("setting")["value"]))
            numbers.append(mine.assign(data=title(context, ground)))
            shares = by_group(context, ground, mine).groupby(["row", "kind"], sort=False)["value"]
            text = shares.agg(mean_sd).unstack("kind", fill_value="-")
            text = text.reindex(columns=list(runs.groups(context, ground)))
            lines += [{"data": title(context, ground), "training": training, "row": row, **cells_of.to_dict()}
                      for row, cells_of in text.iterrows()]
    if not lines:
        return Output(notes=("Not built yet.",))
    notes = ("In % of the best possible weighted F1, which is known of twins (an approximation: the likeliest class, "
             "not the best decision for F1), mean ± sd over seeds. The best possible of vectors uses the speaker's "
             "other utterances, as the graph network can; that of sequences an utterance by itself.", SAME)
    frame = pd.concat(numbers, ignore_index=True)
    return Output(table=pd.DataFrame(lines).fillna("-"), numbers=frame, rows_built=len(lines), notes=notes,
                  run_ids=ids(frame))


def fairness(context: Context) -> Output:
    """What every row was given: trials, learning rate, epochs by stage, parameters, seconds."""
    lines = []
    for ground in runs.grounds(context):
        for row in runs.rows(context, ground):
            chosen = [s for drawn in runs.trainings(context, ground).values()
                      for s in runs.specs(context, ground, row, drawn)]
            lines.append({"data": title(context, ground), "row": row.name, "method's own network": row.own or "-",
                          **given(context, row, chosen)})
    elsewhere = any(rates.elsewhere(context, d) for d in context.datasets)
    notes = (f"Trials: learning rates that were tried on validation{', of embedded data' * elsewhere} (artifact "
             "`tuning`). Epochs: passes over the training data in every stage, P's included. Chosen: the median epoch "
             "of the last stage that validation picks; where it is near the last, longer training may do better. "
             "Parameters: that train in the last stage, and that are frozen then.", TIMED, SAME)
    return Output(table=pd.DataFrame(lines), numbers=pd.DataFrame(lines), rows_built=len(lines), notes=notes)


def given(context: Context, row: runs.Row, specs: list[RunSpec]) -> dict[str, object]:
    """One line of the fairness table."""
    spec = specs[0]
    epochs = [s.training.epochs for s in (spec.parent, spec) if s]
    bundle = prepare(spec)
    model = build(spec, bundle.only(spec.modalities) if spec.modalities else bundle)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    records = [context.store.find(s, context.bundle_fingerprint(s.data))[0] for s in specs]
    picked = [1 + r["selected"]["valid"]["epoch"][spec.eval_masks[0][0]] for r in records if r]
    timed = [t for t in (seconds(context, s) for s in specs) if t is not None]
    lrs = ", ".join(f"{lr:.2g}" for lr in sorted({s.training.lr for s in specs}))
    return {"trials": len(rates.FACTORS), "learning rate": lrs, "models": len(specs),
            "epochs": " + ".join(map(str, epochs)), "chosen": f"{np.median(picked):g}" if picked else "-",
            "parameters, trained": f"{trained:,}",
            "frozen": f"{frozen:,}", "seconds": f"{np.median(timed):.1f}" if timed else "-"}


def seconds(context: Context, spec: RunSpec) -> float | None:
    """Seconds of a run and of the stage that it starts from; None where a store does not say."""
    total = 0.0
    for part in (s for s in (spec.parent, spec) if s):
        record, _ = context.store.find(part, context.bundle_fingerprint(part.data))
        told = context.store.sidecar(record.id).get("seconds") if record else None
        if told is None:
            return None
        total += float(told)
    return total
