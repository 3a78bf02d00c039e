"""DREAM's sentences, each with its test."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.experiments import stages
from mmlib.experiments.claims import Claim, Values, minus, table, values
from mmlib.experiments.comparison import data_notes, shown, with_averages
from mmlib.experiments.context import Cell, Context
from mmlib.papers.dream import figures, ours, runs, tables
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

POINTS = "points of F1"
NETWORK = "dream"
SEVERE = 0.5  # "when the missing ratio exceeds 0.5"
RIVALS = (runs.PLAIN, runs.P)


def claim_specs(context: Context) -> list[RunSpec]:
    """Every run that a claim reads."""
    found = [c for d in context.datasets for c in (*_missing(context, d), *figures.frame_cells(context, d))]
    found += figures.ablation_cells(context)
    found += [c for d in runs.compared(context) for c in _referred(context, d)]
    found += runs.departures(context, runs.ablated(context), [runs.OURS, runs.KNOWING])
    return list(dict.fromkeys([*stages.specs_of(found), *(ours.looked_specs(context) if _twins(context) else [])]))


def claims(context: Context) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
    found = [c for d in context.datasets for c in (*_inter(context, d), *_intra(context, d))]
    found += _parts(context) + [c for d in runs.compared(context) for c in _references(context, d)]
    found += _needs(context) + (_signal(context) if _twins(context) else [])
    ids = tuple(s.run_id(context.bundle_fingerprint(s.data)) for s in claim_specs(context))
    return table(found, POINTS, (
        "Where the paper compares with other networks, this compares with the same network trained with the task loss "
        "alone, and with P by itself. F1 as in Table 1.", *data_notes(context, context.datasets)), ids)


def _twins(context: Context) -> bool:
    return all(is_twin(context.reference(d)) for d in context.datasets)


def _missing(context: Context, dataset: str) -> list[Cell]:
    return runs.dropped(context, dataset, runs.main_rows())


def _referred(context: Context, dataset: str) -> list[Cell]:
    """The method with each P of Fig 5, and the network without any P."""
    return runs.mixtures(context, dataset, [*runs.reference_rows(), runs.PLAIN])


def _values(context: Context, dataset: str, cells: Sequence[Cell], name: str = "",
            settings: Sequence[str] = ()) -> Values:
    """Of each row and setting, by seed; and of the mean of some settings, under a name."""
    frame = tables.measured(context, dataset, cells)
    return values(with_averages(frame, {name: settings} if name else {}, ("row", "seed", "metric")))


def _claim(data: str, text: str, where: str, test: str, found: pd.Series, unit: str = POINTS) -> Claim:
    return Claim(text, where, data, NETWORK, test, unit, found.dropna().to_numpy())


def _inter(context: Context, dataset: str) -> list[Claim]:
    """Table 1: which modalities are missing."""
    claim, names = partial(_claim, shown(context, dataset)), runs.conditions(context, dataset)
    found = _values(context, dataset, _missing(context, dataset), runs.AVERAGE, names[:-1])
    words = {runs.AVERAGE: "better with modalities missing, on average", runs.ALL: f"better with {runs.ALL}"}
    words |= {setting: f"consistently better under inter-modal missingness: {setting}" for setting in names[:-1]}
    made = [claim(said, "4.2, Table 1", f"DREAM minus {other.name}",
                  minus(found, runs.OURS.name, other.name, setting))
            for other in RIVALS for setting, said in words.items()]
    weak = runs.weak(context, dataset)
    mean = _values(context, dataset, _missing(context, dataset), "weak", weak)
    made += [claim("strong where only low-contribution modalities are there", "4.2 Q2, Table 1",
                   f"DREAM minus {other.name}, mean of {', '.join(weak)}",
                   minus(mean, runs.OURS.name, other.name, "weak")) for other in RIVALS if weak != names[:-1]]
    if "text" in names:
        made += [claim("all models are substantially better on language than on another modality alone", "4.2 Q2",
                       f"{row.name}: text minus {other}", _apart(found, row.name, "text", other))
                 for row in runs.main_rows() for other in weak if "+" not in other]
    return made


def _apart(found: Values, row: str, first: str, second: str) -> pd.Series:
    """One setting minus another of a row, by seed."""
    a, b = found.get((row, first)), found.get((row, second))
    return pd.Series(dtype=float) if a is None or b is None else (a - b).dropna()


def slopes(context: Context, dataset: str, row: str, found: Values) -> pd.Series:
    """By seed: the least-squares slope of F1 over the ratio of what is lost, points for each tenth."""
    levels = np.array(runs.levels(context))
    series = [found.get((row, runs.percent(level))) for level in levels]
    if any(s is None for s in series):
        return pd.Series(dtype=float)
    frame = pd.concat([s for s in series if s is not None], axis=1).dropna()
    centred = levels - levels.mean()
    return pd.Series(frame.to_numpy() @ centred / (centred @ centred) / 10, index=frame.index)


def _intra(context: Context, dataset: str) -> list[Claim]:
    """Fig 3: how much is lost of every modality."""
    claim, cells = partial(_claim, shown(context, dataset)), figures.frame_cells(context, dataset)
    severe = [runs.percent(level) for level in runs.levels(context) if level > SEVERE]
    found = _values(context, dataset, cells, "severe", severe)
    steep = {row.name: slopes(context, dataset, row.name, found) for row in runs.main_rows()}
    lost = figures.lost(context, dataset)
    made = [claim("the slowest degradation", "4.2 Q1, Fig 3", f"slope of DREAM minus that of {other.name}, {lost}",
                  (steep[runs.OURS.name] - steep[other.name]).dropna(), f"{POINTS} for each tenth lost")
            for other in RIVALS]
    return made + [claim("the best above a missing ratio of 0.5", "4.2 Q1, Fig 3",
                         f"DREAM minus {other.name}, mean of {', '.join(severe)}",
                         minus(found, runs.OURS.name, other.name, "severe")) for other in RIVALS]


def _parts(context: Context) -> list[Claim]:
    """Fig 4: both parts are needed, at every share."""
    dataset = runs.ablated(context)
    claim, settings = partial(_claim, shown(context, dataset)), [runs.percent(p) for p in runs.levels(context)[1:]]
    found = _values(context, dataset, figures.ablation_cells(context), runs.AVERAGE, settings)
    words = {runs.AVERAGE: ("better", "mean of all shares"), **{s: ("consistently better", s) for s in settings}}
    return [claim(f"{said} than {row.name}", "4.2 Q3, Fig 4", f"DREAM minus {row.name}, {of}",
                  minus(found, runs.OURS.name, row.name, setting))
            for row in runs.ABLATED for setting, (said, of) in words.items()]


def _references(context: Context, dataset: str) -> list[Claim]:
    """Fig 5: a better P is better, and a poor one does no harm."""
    claim, settings = partial(_claim, shown(context, dataset)), [runs.percent(p) for p in runs.levels(context)[1:]]
    mean = _values(context, dataset, _referred(context, dataset), runs.AVERAGE, settings)
    full, *others = (row.name for row in runs.reference_rows())
    made = [claim(f"Self-MM is the best P: better than {other}", "4.2 Q4, Fig 5",
                  f"DREAM with {runs.SELFMM.name} minus with {other}", minus(mean, runs.SELFMM.name, other,
                                                                             runs.AVERAGE))
            for other in (full, runs.POOR.name, runs.MLP.name)]
    made += [claim(f"a poor P costs little: {other} (no difference that matters supports it too)", "4.2 Q4, Fig 5",
                   f"DREAM with {other} minus with {full}", minus(mean, other, full, runs.AVERAGE))
             for other in others if other != runs.SELFMM.name]
    return made + [claim(f"even with a poor P better than without any: {other}", "4.2 Q4, Fig 5",
                         f"DREAM with {other} minus {runs.PLAIN.name}", minus(mean, other, runs.PLAIN.name,
                                                                              runs.AVERAGE))
                   for other in others if other != runs.SELFMM.name]


def _needs(context: Context) -> list[Claim]:
    """Complete data are not needed: P learns as well from what is there (B15)."""
    dataset = runs.ablated(context)
    found = _values(context, dataset, runs.departures(context, dataset, [runs.OURS, runs.KNOWING]))
    return [_claim(shown(context, dataset), "no complete data are needed (no difference that matters supports it too)",
                   "abstract, 1", f"DREAM minus {runs.KNOWING.name}, {runs.percent(runs.DEPARTING)} affected",
                   minus(found, runs.OURS.name, runs.KNOWING.name, runs.percent(runs.DEPARTING)))]


def _signal(context: Context) -> list[Claim]:
    """PSS = 0 tells what to enhance; on twins the truth is known."""
    made = []
    for dataset in context.datasets:
        frame = ours.detected(context, dataset, "incomplete data")
        if frame.empty:
            continue
        for target, words in (("missing or useless", "missing, or useless to the best decision"),
                              ("useless if there", "useless, of those that are there")):
            mine = frame[frame["target"] == target].set_index("seed")
            made.append(_claim(shown(context, dataset), f"PSS = 0 is a reliable signal: {words}", "3.4",
                               "share of targets among modalities with PSS = 0 minus that among all",
                               mine["precision"] - mine["base rate"], "points of precision"))
    return made
