"""What the paper does not show: how many modalities P has enhanced, and who is right where none of them is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from mmlib.experiments import stages
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Context
from mmlib.masks import Law, complete
from mmlib.methods.dream import Dream
from mmlib.nn import shapley
from mmlib.papers.dream import runs
from mmlib.papers.dream.contributions import decided, guided
from mmlib.report import figures
from mmlib.report.artifact import Output
from mmlib.report.tables import mean_sd
from mmlib.runs.execute import prepare
from mmlib.runs.spec import RunSpec

ROWS = runs.main_rows()
PREDICTIONS = f"predictions.valid.{runs.ALL}"
NOTES = ("A modality is enhanced where P's PSS of it is 0, and only what is enhanced passes the LayerNorm of Eqs 5-9. "
         "Training: one epoch's masks, each modality dropped with probability 0.5; test: with all modalities. Of right "
         "decisions: at the epoch that validation picks, of four questions their mean.",
         "What is missing has no say, and counts as enhanced. A clip with nothing enhanced enters the fusion in a form "
         "of its own; the share of training says how many such clips were seen.")


def specs(context: Context) -> list[RunSpec]:
    """Table 1's runs."""
    return stages.specs_of(c for d in context.datasets for c in runs.dropped(context, d, ROWS))


def lacking(context: Context) -> str:
    """Why it cannot be told: records that came with the repository do not carry what each clip was answered."""
    found = [context.store.find(s, context.bundle_fingerprint(s.data))[0] for s in specs(context)]
    if any(record and PREDICTIONS in record.left_out for record in found):
        return "Records that came with the repository lack these predictions: give a --label and an empty MMLIB_RUNS."
    return ""


def counts(method: Dream, spec: RunSpec, law: Law, split: str) -> np.ndarray:
    """(n,) how many modalities of each utterance are enhanced under a law (Eqs 1-2)."""
    found, _ = decided(method, spec, law, split)
    return np.asarray((shapley.pss(method.plan, found) == 0).sum(dim=1))


def right(context: Context, spec: RunSpec) -> np.ndarray | None:
    """(n,) the share of right decisions of each test utterance with all modalities; None where it has not run."""
    record, _ = context.store.find(spec, context.bundle_fingerprint(spec.data))
    outputs = context.store.arrays(record.id).get(PREDICTIONS) if record else None
    if outputs is None:
        return None
    bundle = prepare(spec)
    truth = shapley.truths(bundle.task, torch.from_numpy(bundle.labels[bundle.rows("test")]))
    return np.asarray((shapley.decisions(bundle.task, torch.from_numpy(outputs)) == truth).double().mean(dim=1))


def looked(context: Context, dataset: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training utterances with seed and count; those of test with what is right of each row too. Empty if not run."""
    by_place: dict[tuple[int, int | None], dict[str, RunSpec]] = {}
    for cell in runs.dropped(context, dataset, ROWS):
        by_place.setdefault((cell.spec.seed, cell.spec.fold), {})[cell.row] = cell.spec
    seen, tested = [pd.DataFrame()], [pd.DataFrame()]
    for (seed, _), mine in by_place.items():
        own = mine[runs.OURS.name]
        method, hits = guided(context, own), {row: right(context, spec) for row, spec in mine.items()}
        if method is None or any(h is None for h in hits.values()):
            continue
        seen.append(pd.DataFrame({"seed": seed, "enhanced": counts(method, own, runs.dropping(), "train")}))
        tested.append(pd.DataFrame({"seed": seed, "enhanced": counts(method, own, complete(), "test"), **hits}))
    return pd.concat(seen, ignore_index=True), pd.concat(tested, ignore_index=True)


def enhanced(context: Context) -> Output:
    """By the number of enhanced modalities: the shares of training and of the complete test, and who is right."""
    figure, axes = figures.panel_grid(2 * len(context.datasets), columns=len(context.datasets), width=figures.DOUBLE,
                                      height=2.3)
    lines, numbers = [], []
    for place, dataset in enumerate(context.datasets):
        train, test = looked(context, dataset)
        if test.empty:
            return Output(notes=("Not built yet.",))
        groups = range(1 + len(context.bundle(dataset).modalities))
        shares = {name: [_shares(f, g) for g in groups] for name, f in {"training": train, "test": test}.items()}
        hits = {row.name: [_hits(test, row.name, g) for g in groups] for row in ROWS}
        for g in groups:
            lines.append({"data": shown(context, dataset), "enhanced": g, **{
                f"{name} (%)": mean_sd(values[g], 1) for name, values in shares.items()}, **{
                f"{name}, right (%)": mean_sd(values[g], 1) if len(values[g]) else "-"
                for name, values in hits.items()}})
            numbers += [{"data": shown(context, dataset), "enhanced": g, "quantity": name, "seed": seed, "value": value}
                        for name, values in {**shares, **hits}.items() for seed, value in values[g].items()]
        names, below = [str(g) for g in groups], axes[len(context.datasets) + place]
        figures.grouped_bars(axes[place], names, _bars(shares), ylabel="share of clips (%)" if not place else "",
                             title=shown(context, dataset), legend=not place)
        figures.grouped_bars(below, names, _bars(hits), ylabel="right, all modalities (%)" if not place else "",
                             legend=not place)
        axes[place].set_ylim(0, 100)
        below.set(xlabel="enhanced modalities", ylim=(0, 100))
    return Output(table=pd.DataFrame(lines), figure=figure, numbers=pd.DataFrame(numbers), rows_built=len(lines),
                  notes=(*NOTES, *data_notes(context, context.datasets)))


def _shares(frame: pd.DataFrame, group: int) -> pd.Series:
    """By seed, the share (%) of the utterances with so many enhanced modalities."""
    return 100 * (frame["enhanced"] == group).groupby(frame["seed"]).mean()


def _hits(frame: pd.DataFrame, row: str, group: int) -> pd.Series:
    """By seed, what a row has right (%) of those utterances; nothing of a seed without any."""
    return 100 * frame[frame["enhanced"] == group].groupby("seed")[row].mean()


def _bars(found: dict[str, list[pd.Series]]) -> dict[str, list[list[float]]]:
    return {name: [list(values) for values in groups] for name, groups in found.items()}
