"""Case studies: which test utterances one method has right and another wrong, and the reverse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmlib.data.bundle import Bundle
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.conditions import in_picture, initials_note, short
from mmlib.experiments.context import Context
from mmlib.masks import draw
from mmlib.report import figures, grouped
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

CASES = 8
Named = tuple[str, Sequence[RunSpec]]


def corrections(
    context: Context, dataset: str, ours: Named, theirs: Named, mask: str, words: str
) -> Output:
    """The utterances that ``ours`` corrects most, and how many each way; one run of each, or one per fold.

    A correction is an utterance that theirs has wrong and ours right, sorted by how much nearer our score, or the
    probability of the true class, is. mask: of the runs' test masks; words: what to call it.
    """
    pairs = list(zip(ours[1], theirs[1], strict=True))
    folds = []
    for mine, other in pairs:
        fold = _one_fold(context, (ours[0], mine), (theirs[0], other), mask)
        if fold is None:
            return Output(notes=("Not built yet: needs the predictions of the first seed's runs.",))
        folds.append(fold)
    everything = pd.concat(folds, ignore_index=True)
    right, wrong = everything[f"{ours[0]} right"], everything[f"{theirs[0]} right"]
    corrected = everything[right & ~wrong].sort_values("gain", ascending=False)
    broken = everything[~right & wrong]
    table = corrected.head(CASES).drop(columns=[f"{ours[0]} right", f"{theirs[0]} right", "gain"])
    modalities = context.bundle(dataset).modalities
    notes = (
        f"{shown(context, dataset)}, {words}, seed 0, at the epoch that the main metric picks on validation: "
        f"of {len(everything)} test utterances {ours[0]} corrects "
        f"{len(corrected)} of {theirs[0]}'s errors and makes {len(broken)} of its own. These "
        "examples are selected in the method's favour; the counts show both directions.",
        *initials_note(modalities),
        *data_notes(context, [dataset]),
    )
    return Output(
        table=table,
        figure=_bars(corrected, broken, ours[0], theirs[0], modalities),
        numbers=everything,
        rows_built=len(table),
        notes=notes,
        run_ids=tuple(s.run_id(context.bundle_fingerprint(s.data)) for pair in pairs for s in pair),
    )


def _bars(
    corrected: pd.DataFrame,
    broken: pd.DataFrame,
    ours: str,
    theirs: str,
    modalities: Sequence[str],
) -> figures.Figure | None:
    """How many utterances are corrected and broken, by what is observed; None where a note says it as well."""
    counts = pd.concat(
        [utterances.groupby("observed").size() for utterances in (corrected, broken)],
        axis=1,
        keys=["corrected", "broken"],
    )
    if len(counts) < 2:
        return None
    figure, axes = figures.panel_grid(1, width=figures.DOUBLE, height=2.2)
    grouped.bars(
        axes[0],
        [short(in_picture(g, modalities)) for g in counts.index],
        {k: [[float(v)] for v in counts[k].fillna(0)] for k in ("corrected", "broken")},
        ylabel="test utterances",
        title=f"{theirs} wrong, {ours} right (corrected), and the reverse "
        "(broken), by what is observed",
    )
    return figure


def _one_fold(
    context: Context, ours: tuple[str, RunSpec], theirs: tuple[str, RunSpec], mask: str
) -> pd.DataFrame | None:
    from mmlib.runs.execute import prepare

    spec = ours[1]
    bundle = prepare(spec)
    rows = bundle.rows("test")
    observed = draw(dict(spec.eval_masks)[mask], bundle, "test", spec.seed).utterance
    frame = pd.DataFrame(
        {
            "utterance": np.asarray(bundle.ids)[rows],
            "observed": ["+".join(np.array(bundle.modalities)[o]) for o in observed],
            "missing": ["+".join(np.array(bundle.modalities)[~o]) for o in observed],
        }
    )
    gains, evaluated = [], np.ones(len(rows), dtype=bool)
    for name, run in (theirs, ours):
        record, _ = context.store.find(run, context.bundle_fingerprint(run.data))
        made = context.store.arrays(record.id).get(f"predictions.valid.{mask}") if record else None
        if made is None:
            return None
        evaluated &= np.isfinite(made).all(axis=1)
        answers, right, near = judged(bundle, made, bundle.labels[rows])
        frame[name], frame[f"{name} right"] = answers, right
        gains.append(near)
    frame.insert(3, "truth", _names(bundle, bundle.labels[rows]))
    frame["gain"] = gains[1] - gains[0]
    signed = (
        bundle.labels[rows] != 0 if bundle.task.kind == "score" else np.ones(len(rows), dtype=bool)
    )
    return frame[evaluated & signed]


def judged(
    bundle: Bundle, outputs: np.ndarray, truth: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The answers, whether each is right, and how near it is: minus the error, or the true class's probability."""
    from scipy.special import softmax

    if bundle.task.kind == "score":
        score = outputs[:, 0]
        return [f"{s:+.2f}" for s in score], (score > 0) == (truth > 0), -np.abs(score - truth)
    guess = outputs.argmax(axis=1)
    return (
        _names(bundle, guess),
        guess == truth,
        softmax(outputs, axis=1)[np.arange(len(truth)), truth],
    )


def _names(bundle: Bundle, values: np.ndarray) -> list[str]:
    if bundle.task.kind == "score":
        return [f"{v:+.2f}" for v in values]
    return [bundle.task.names[int(v)] for v in values]
