"""DREAM's sentences, each with its test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.experiments.claims import Claim, Values, minus, table, values
from mmlib.experiments.comparison import data_notes, shown, with_averages
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import cells as cells_of
from mmlib.papers.dream import analyses, figures, rows, tables
from mmlib.papers.dream.rows import OURS
from mmlib.report.artifact import Output

POINTS = "points of F1"
NETWORK = "dream"
SEVERE = 0.5  # "when the missing ratio exceeds 0.5"
COMPARED = (
    "Where the paper compares with other networks, this compares with the same network trained with the task loss "
    "alone, and with P by itself. F1 as in Table 1."
)
TARGETS = {
    "missing or useless": "missing, or useless to the best decision",
    "useless if there": "useless, of those that are there",
}


def claim_cells(context: Context) -> list[Cell]:
    """Every run that a claim reads."""
    referred = [cell for d in rows.compared(context) for cell in _referred(context, d)]
    return [
        *tables.OWN.cells(context),
        *figures.frame_cells(context),
        *figures.ablation_cells(context),
        *referred,
        *_knowing(context),
        *(analyses.looked_cells(context) if _twins(context) else ()),
    ]


def claims(context: Context, cells: Sequence[Cell]) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
    made = []
    for dataset in context.datasets:
        made += _inter(context, dataset) + _intra(context, dataset)
    made += _parts(context)
    for dataset in rows.compared(context):
        made += _references(context, dataset)
    made += _needs(context) + (_signal(context) if _twins(context) else [])
    return table(context, made, POINTS, (COMPARED, *data_notes(context, context.datasets)), cells)


def _twins(context: Context) -> bool:
    return all(is_twin(context.reference(dataset)) for dataset in context.datasets)


def _referred(context: Context, dataset: str) -> list[Cell]:
    """The method with each P of Fig 5, and the network without any P."""
    every = [*rows.reference_rows(context, dataset), rows.plain()]
    return rows.mixtures(context, dataset, every)


def _knowing(context: Context) -> list[Cell]:
    """The method, and the method whose P knows complete data."""
    dataset = rows.ablated(context)
    both = [rows.main_rows(context, dataset)[0], rows.knowing(context, dataset)]
    return cells_of(context, dataset, both, rows.departing(context, dataset))


def _values(
    context: Context, cells: Sequence[Cell], averages: Mapping[str, Sequence[str]]
) -> Values:
    """Of each row and setting, by seed; and of means of some settings, under their names."""
    frame = tables.measured(context, cells)
    return values(with_averages(frame, averages, ("row", "seed", "metric")))


def _claim(
    data: str, text: str, where: str, test: str, measured: pd.Series, unit: str = POINTS
) -> Claim:
    return Claim(text, where, data, NETWORK, test, unit, measured.dropna().to_numpy())


def _inter(context: Context, dataset: str) -> list[Claim]:
    """Table 1: which modalities are missing."""
    claim = partial(_claim, shown(context, dataset))
    missing, weak = rows.names_of(context, dataset)[:-1], rows.weak(context, dataset)
    averages = {rows.AVERAGE: missing, "weak": weak}
    by_place = _values(context, tables.OWN.cells_of(context, dataset), averages)
    words = {
        rows.AVERAGE: "better with modalities missing, on average",
        rows.ALL: f"better with {rows.ALL}",
        **{name: f"consistently better under inter-modal missingness: {name}" for name in missing},
    }
    made = [
        claim(text, "4.2, Table 1", f"DREAM minus {other}", minus(by_place, OURS, other, setting))
        for other in rows.RIVALS
        for setting, text in words.items()
    ]
    if weak != missing:
        made += [
            claim(
                "strong where only low-contribution modalities are there",
                "4.2 Q2, Table 1",
                f"DREAM minus {other}, mean of {', '.join(weak)}",
                minus(by_place, OURS, other, "weak"),
            )
            for other in rows.RIVALS
        ]
    return made + (_language(claim, by_place, weak) if "text" in missing else [])


def _language(claim: Callable[..., Claim], by_place: Values, weak: Sequence[str]) -> list[Claim]:
    """Text by itself against each other modality by itself, of every row."""
    return [
        claim(
            "all models are substantially better on language than on another modality alone",
            "4.2 Q2",
            f"{row}: text minus {other}",
            _at(by_place, row, "text") - _at(by_place, row, other),
        )
        for row in (OURS, *rows.RIVALS)
        for other in weak
        if "+" not in other
    ]


def _at(by_place: Values, row: str, setting: str) -> pd.Series:
    """By seed; empty where nothing is known."""
    return by_place.get((row, setting), pd.Series(dtype=float))


def slopes(context: Context, row: str, by_place: Values) -> pd.Series:
    """By seed: the least-squares slope of F1 over the ratio of what is lost, points for each tenth."""
    levels = np.array(rows.levels(context))
    by_level = [_at(by_place, row, rows.percent(level)) for level in levels]
    frame = pd.concat(by_level, axis=1).dropna()
    centred = levels - levels.mean()
    return pd.Series(frame.to_numpy() @ centred / (centred @ centred) / 10, index=frame.index)


def _intra(context: Context, dataset: str) -> list[Claim]:
    """Fig 3: how much is lost of every modality."""
    claim, lost = partial(_claim, shown(context, dataset)), figures.lost(context, dataset)
    severe = [rows.percent(level) for level in rows.levels(context) if level > SEVERE]
    by_place = _values(context, rows.lossy(context, dataset), {"severe": severe})
    steep = {row: slopes(context, row, by_place) for row in (OURS, *rows.RIVALS)}
    made = [
        claim(
            "the slowest degradation",
            "4.2 Q1, Fig 3",
            f"slope of DREAM minus that of {other}, {lost}",
            steep[OURS] - steep[other],
            f"{POINTS} for each tenth lost",
        )
        for other in rows.RIVALS
    ]
    return made + [
        claim(
            "the best above a missing ratio of 0.5",
            "4.2 Q1, Fig 3",
            f"DREAM minus {other}, mean of {', '.join(severe)}",
            minus(by_place, OURS, other, "severe"),
        )
        for other in rows.RIVALS
    ]


def _shares(context: Context) -> list[str]:
    """The settings of Figs 4 and 5."""
    return [rows.percent(level) for level in rows.levels(context)[1:]]


def _parts(context: Context) -> list[Claim]:
    """Fig 4: both parts are needed, at every share."""
    shares = _shares(context)
    by_place = _values(context, figures.ablation_cells(context), {rows.AVERAGE: shares})
    tests = [(rows.AVERAGE, "better", "mean of all shares")]
    tests += [(share, "consistently better", share) for share in shares]
    return [
        _claim(
            shown(context, rows.ablated(context)),
            f"{sentence} than {row}",
            "4.2 Q3, Fig 4",
            f"DREAM minus {row}, {of}",
            minus(by_place, OURS, row, setting),
        )
        for row in rows.ABLATED
        for setting, sentence, of in tests
    ]


def _references(context: Context, dataset: str) -> list[Claim]:
    """Fig 5: a better P is better, and a poor one does no harm."""
    by_place = _values(context, _referred(context, dataset), {rows.AVERAGE: _shares(context)})
    best, full, poor = rows.SELFMM, rows.CORRKD, (rows.POOR, rows.MLP)
    harmless = "a poor P costs little: {} (no difference that matters supports it too)"
    useful = "even with a poor P better than without any: {}"
    tests = [(f"Self-MM is the best P: better than {p}", best, p) for p in (full, *poor)]
    tests += [(harmless.format(p), p, full) for p in poor]
    tests += [(useful.format(p), p, rows.PLAIN) for p in poor]
    made = []
    for text, first, second in tests:
        other = second if second == rows.PLAIN else f"with {second}"
        mean = minus(by_place, first, second, rows.AVERAGE)
        test = f"DREAM with {first} minus {other}"
        made.append(_claim(shown(context, dataset), text, "4.2 Q4, Fig 5", test, mean))
    return made


def _needs(context: Context) -> list[Claim]:
    """Complete data are not needed: P learns as well from what is there (B15)."""
    share = rows.percent(rows.DEPARTING)
    by_place = _values(context, _knowing(context), {})
    return [
        _claim(
            shown(context, rows.ablated(context)),
            "no complete data are needed (no difference that matters supports it too)",
            "abstract, 1",
            f"DREAM minus {rows.KNOWING}, {share} affected",
            minus(by_place, OURS, rows.KNOWING, share),
        )
    ]


def _signal(context: Context) -> list[Claim]:
    """PSS = 0 tells what to enhance; on twins the truth is known."""
    made = []
    for dataset in context.datasets:
        cells = rows.on(analyses.looked_cells(context), dataset)
        by_seed = analyses.looked(context, cells, rows.DROPPING, rows.DROPPING)
        if not by_seed:
            continue
        frame = analyses.detected(by_seed)
        for target, words in TARGETS.items():
            mine = frame[frame["target"] == target].set_index("seed")
            made.append(
                _claim(
                    shown(context, dataset),
                    f"PSS = 0 is a reliable signal: {words}",
                    "3.4",
                    "share of targets among modalities with PSS = 0 minus that among all",
                    mine["precision"] - mine["base rate"],
                    "points of precision",
                )
            )
    return made
