"""EBMC's sentences, each with its test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from mmlib.papers import stages
from mmlib.papers.claims import Claim, Values, minus, table, values
from mmlib.papers.compare import data_notes, selected, shown, with_averages
from mmlib.papers.context import Cell, Context
from mmlib.papers.ebmc import figures, frames, ours, runs
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

NETWORK = "momke"


def claim_specs(context: Context) -> list[RunSpec]:
    """Every run that a claim reads."""
    found = frames.specs_of()(context)
    if not runs.vectors(context):
        return found
    weights = figures.weights_dataset(context)
    rows = [row for rows in runs.weight_rows(context).values() for _, row in rows]
    cells = [c for d in runs.vectors(context) for c in (*_whole(context, d), *_missing(context, d))]
    cells += [*runs.whole(context, weights, rows, True), *runs.whole(context, weights, runs.energy_rows())]
    return list(dict.fromkeys([*stages.specs_of(cells), *ours.balance_specs(context), *found]))


def claims(context: Context) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
    found = [c for d in runs.vectors(context) for c in _results(context, d)]
    if runs.vectors(context):
        found += _energy_terms(context) + _weights(context) + _balance(context)
    found += frames.claims(context)
    ids = tuple(s.run_id(context.bundle_fingerprint(s.data)) for s in claim_specs(context))
    return table(found, runs.POINTS, (
        "Where the paper compares with other networks, this compares with the same network trained with the task loss "
        "alone, and with MoMKE, for as long. Weighted F1 unless the test says otherwise.",
        *data_notes(context, context.datasets)), ids)


def _whole(context: Context, dataset: str) -> list[Cell]:
    rows = [*runs.main_rows(), *(runs.WITHOUT.values() if dataset in runs.scores(context) else ())]
    return runs.whole(context, dataset, rows)


def _missing(context: Context, dataset: str) -> list[Cell]:
    rows = [*runs.main_rows(), *(runs.WITHOUT.values() if dataset in runs.scores(context) else [runs.WITHOUT["emc"]])]
    return runs.missing(context, dataset, rows)


def _values(context: Context, cells: Sequence[Cell], metric: str,
            averages: Mapping[str, Sequence[str]] | None = None) -> Values:
    """At the epoch that validation picks; folds averaged."""
    frame = with_averages(selected(context, cells, metric), averages or {}, ("row", "seed", "selection", "metric"))
    return values(frame)


def _results(context: Context, dataset: str) -> list[Claim]:
    name, full = shown(context, dataset), runs.OURS.name
    names = runs.conditions(context, dataset)
    whole = _values(context, _whole(context, dataset), "weighted_f1")
    missing = _values(context, _missing(context, dataset), "weighted_f1", {runs.MEAN_MISSING: names[:-1]})

    claim = partial(_claim, name)
    made = [claim("better with all modalities", "abstract, 4.1, Tables 1, 2", f"EBMC minus {other.name}",
                  minus(whole, full, other.name, runs.ALL)) for other in (runs.PLAIN, runs.MOMKE)]
    made += [claim(f"better under {_words(setting)}", "4.2, Table 3", f"EBMC minus {other.name}",
                   minus(missing, full, other.name, setting))
             for other in (runs.PLAIN, runs.MOMKE) for setting in (*names[:-1], runs.MEAN_MISSING)]
    if dataset in runs.scores(context):
        made += _parts(claim, whole, missing)
    made += _shares(context, dataset)
    accuracy = _values(context, _missing(context, dataset), "accuracy")
    made.append(claim("the better balance shows as better accuracy", "4.4, Fig 4", "EBMC minus w/o EMC, accuracy",
                      minus(accuracy, full, runs.WITHOUT["emc"].name, runs.ALL)))
    return made


def _claim(data: str, text: str, where: str, test: str, found: pd.Series) -> Claim:
    return Claim(text, where, data, NETWORK, test, runs.POINTS, found.dropna().to_numpy())


def _parts(claim: Callable[[str, str, str, pd.Series], Claim], whole: Values, missing: Values) -> list[Claim]:
    full, without = runs.OURS.name, {name: row.name for name, row in runs.WITHOUT.items()}
    made = [claim(f"{name.upper()} is needed", "4.3, Table 4", f"EBMC minus {row}", minus(whole, full, row, runs.ALL))
            for name, row in without.items()]
    made += [claim("removing EMC hurts most", "4.3, Table 4", f"{without[other]} minus {without['emc']}",
                   minus(whole, without[other], without["emc"], runs.ALL)) for other in ("msd", "cce", "imtd")]
    gain = minus(missing, full, without["imtd"], runs.MEAN_MISSING)
    made.append(claim("IMTD helps where modalities are missing (though it acts only in training)", "3.5, 4.4",
                      f"EBMC minus {without['imtd']}, missing conditions", gain))
    made.append(claim("... and more there than with all of them", "4.3, 4.4", "that gain minus the gain with all",
                      gain - minus(missing, full, without["imtd"], runs.ALL)))
    for part in ("msd", "cce"):
        weak = [minus(missing, full, without[part], s) for s in ("audio", "vision") if (full, s) in missing]
        made.append(claim(f"{part.upper()} keeps weak single modalities useful", "4.2",
                          f"EBMC minus {without[part]}, audio and vision alone",
                          pd.concat(weak, axis=1).mean(axis=1, skipna=False) if weak else pd.Series(dtype=float)))
    return made


def _shares(context: Context, dataset: str) -> list[Claim]:
    """What EMC does to text's share of the contributions (Fig 4)."""
    name = shown(context, dataset)
    if "text" not in context.bundle(dataset).modalities:
        return []
    found = {label: figures.contributions(context, dataset, row) for label, row in figures.BALANCED.items()}
    above = {label: f["text"] - f.sum(axis=1) / 2 for label, f in found.items()}  # a share would divide by almost 0
    without, balanced = above["w/o EMC"], above["with EMC"]
    return [Claim("without EMC text contributes more than half", "4.4, Fig 4", name, NETWORK,
                  "text's Shapley value minus half of all, accuracy", runs.POINTS, without.dropna().to_numpy()),
            Claim("EMC lowers text's part", "4.4, Fig 4", name, NETWORK, "that without EMC minus that with",
                  runs.POINTS, (without - balanced).dropna().to_numpy())]


def _energy_terms(context: Context) -> list[Claim]:
    dataset = figures.weights_dataset(context)
    found = _values(context, runs.whole(context, dataset, runs.energy_rows()), "weighted_f1")
    return [Claim(f"the energy needs its terms: {row.name}", "C.2, Table 7", shown(context, dataset), NETWORK,
                  f"EBMC minus {row.name}", runs.POINTS, minus(found, runs.OURS.name, row.name, runs.ALL).to_numpy())
            for row in runs.energy_rows()[:-1]]


def _weights(context: Context) -> list[Claim]:
    """The printed weights are the best of the grid, each against the mean of its others."""
    dataset, made = figures.weights_dataset(context), []
    metric = "acc7" if context.bundle(dataset).task.kind == "score" else "accuracy"
    for name, rows in runs.weight_rows(context).items():
        found = _values(context, runs.whole(context, dataset, [row for _, row in rows], True), metric)
        own = next(row.name for v, row in rows if v == runs.WEIGHTS[name])
        others = [minus(found, own, row.name, runs.ALL) for _, row in rows if row.name != own]
        made.append(Claim(f"the printed {name} is the best of the grid", "C.1, Fig 6", shown(context, dataset), NETWORK,
                          f"{metric} at {runs.WEIGHTS[name]:g} minus the mean of the other values", runs.POINTS,
                          pd.concat(others, axis=1).mean(axis=1, skipna=False).dropna().to_numpy()))
    return made


def _balance(context: Context) -> list[Claim]:
    """Weaker modalities have higher energy, and EMC brings energies together."""
    name, unit = shown(context, context.main), "units of energy"
    order = []
    energy, own = (f(context, runs.WITHOUT["emc"]) for f in (ours.energies, ours.own_accuracy))
    for seed in energy.keys() & own.keys():
        ranks = [np.argsort(np.argsort(x)) for x in (energy[seed][-1], -own[seed][-1])]
        order.append(float(np.corrcoef(ranks[0], ranks[1])[0, 1]))
    apart = ours.gaps(context, runs.WITHOUT["emc"]) - ours.gaps(context, runs.OURS)
    return [Claim("weaker modalities have higher energy", "3.4", name, NETWORK,
                  "rank correlation over modalities of energy and own test error, without EMC, at the end",
                  "correlation", np.array(order)),
            Claim("EMC brings the energies together", "3.4, B.3", name, NETWORK,
                  "largest minus smallest energy at the end, without EMC minus with", unit, apart.dropna().to_numpy())]


def _words(setting: str) -> str:
    letters = {"audio": "a", "text": "t", "vision": "v"}
    return setting if setting == runs.MEAN_MISSING else "{" + ", ".join(
        letters.get(m, m) for m in setting.split("+")) + "}"
