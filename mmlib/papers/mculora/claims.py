"""Testable claims of the MCULoRA paper, each with its test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from mmlib.experiments.claims import Claim, Values, minus, table, values
from mmlib.experiments.comparison import data_notes, shown
from mmlib.experiments.context import Cell, Context
from mmlib.papers.mculora import analyses, rows
from mmlib.papers.mculora.figures import averaged, curves, short
from mmlib.report.artifact import Output

POINTS = "points of accuracy"
COSINE = "cosine"
NETWORK = "crossmodal"
FULL, MOMKE, JOINT = rows.OURS.name, rows.MOMKE.name, rows.JOINT.name
COMPARED = tuple(dict.fromkeys((*rows.MAIN, *rows.ABLATION)))
OTHERS = (
    "Where the paper compares with other networks, we compare with MoMKE and with "
    "joint training of the same network, both trained for as many epochs."
)
Make = Callable[[str, str, str, pd.Series], Claim]


def claim_cells(context: Context) -> list[Cell]:
    """Every run that a claim reads."""
    return [
        *(cell for dataset in context.datasets for cell in _compared(context, dataset)),
        *_ranks(context),
        *_leaks(context),
        *analyses.probed_cells(context),
    ]


def claims(context: Context, cells: Sequence[Cell]) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
    made = [claim for dataset in context.datasets for claim in _results(context, dataset)]
    made += [*_rank(context), *_leak(context), *_conflict(context)]
    return table(context, made, POINTS, (OTHERS, *data_notes(context, context.datasets)), cells)


def _compared(context: Context, dataset: str) -> list[Cell]:
    return rows.cells(context, dataset, COMPARED)


def _ranks(context: Context) -> list[Cell]:
    """The lowest and the highest rank of Fig 3."""
    tried = list(rows.rank_rows(context).values())
    return rows.cells(context, context.main, [tried[0], tried[-1]], grid=True)


def _leaks(context: Context) -> list[Cell]:
    return rows.cells(context, context.main, rows.LEAK)


def _claim(
    context: Context, dataset: str, unit: str, text: str, where: str, test: str, measured: pd.Series
) -> Claim:
    return Claim(
        text, where, shown(context, dataset), NETWORK, test, unit, measured.dropna().to_numpy()
    )


def _results(context: Context, dataset: str) -> list[Claim]:
    claim = partial(_claim, context, dataset, POINTS)
    cells = _compared(context, dataset)
    measured = values(averaged(context, dataset, cells))
    conditions = rows.conditions(context, dataset)
    places = [(MOMKE, condition) for condition in conditions]
    made = [
        claim(
            "better on average" if setting == rows.MEAN_ALL else f"better under {short(setting)}",
            "4.3, Table 1",
            f"MCULoRA minus {other}",
            minus(measured, FULL, other, setting),
        )
        for other, setting in (*places, (MOMKE, rows.MEAN_ALL), (JOINT, rows.MEAN_ALL))
    ]
    made += _weak(claim, measured, conditions)
    without = {"MCLA": rows.WITHOUT_MCLA.name, "DPFT": rows.WITHOUT_DPFT.name}
    made += [
        claim(
            f"{part} is needed",
            "4.4, Table 2",
            f"MCULoRA minus {row}",
            _mean_lead(measured, FULL, row),
        )
        for part, row in without.items()
    ]
    made.append(
        claim(
            "without DPFT the decline is more pronounced than without MCLA (Table 2 says the reverse, F17)",
            "4.4",
            "w/o MCLA minus w/o DPFT",
            _mean_lead(measured, without["MCLA"], without["DPFT"]),
        )
    )
    return made + _smoothness(claim, context, dataset, cells)


def _smoothness(claim: Make, context: Context, dataset: str, cells: Sequence[Cell]) -> list[Claim]:
    """Whether test accuracy moves less from epoch to epoch than with the two others of Fig 4."""
    of_rows = {row: curves(context, dataset, cells, row) for row in (FULL, MOMKE, JOINT)}
    rough = {row: _roughness(accuracy) for row, accuracy in of_rows.items()}
    return [
        claim(
            "training progresses more smoothly",
            "4.4, Fig 4",
            f"mean absolute step between epochs, {other} minus MCULoRA",
            rough[other] - rough[FULL],
        )
        for other in (MOMKE, JOINT)
    ]


def _mean_lead(measured: Values, first: str, second: str) -> pd.Series:
    """First minus second by seed, in the mean over all conditions."""
    return minus(measured, first, second, rows.MEAN_ALL)


def _weak(claim: Make, measured: Values, conditions: Sequence[str]) -> list[Claim]:
    """What is gained without text, the strongest modality, and with it; nothing where only one of them is."""
    missing = conditions[:-1]
    weak = [c for c in conditions if "text" not in c.split("+")]
    strong = [c for c in missing if c not in weak]
    if not weak or not strong:
        return []
    gains = pd.DataFrame({c: minus(measured, FULL, MOMKE, c) for c in (*weak, *strong)}).dropna()
    return [
        claim(
            "weak combinations gain most",
            "4.3",
            "gain over MoMKE without text minus gain with text",
            gains[weak].mean(axis=1) - gains[strong].mean(axis=1),
        )
    ]


def _roughness(accuracy: dict[int, np.ndarray]) -> pd.Series:
    """By seed: the mean absolute change of test accuracy from epoch to epoch, over the seven combinations."""
    steps = {seed: np.abs(np.diff(a, axis=0)).mean(axis=0) for seed, a in accuracy.items()}
    return pd.Series({seed: of.mean() for seed, of in steps.items()}, dtype=float)


def _rank(context: Context) -> list[Claim]:
    cells = _ranks(context)
    low, high = cells[0].row, cells[-1].row
    measured = values(averaged(context, context.main, cells))
    full = rows.conditions(context, context.main)[-1]
    gain, whole = (minus(measured, high, low, setting) for setting in (rows.MEAN_MISSING, full))
    claim = partial(_claim, context, context.main, POINTS)
    return [
        claim(
            "a higher rank helps where modalities are missing",
            "4.4, Fig 3",
            f"{high} minus {low}, missing conditions",
            gain,
        ),
        claim(
            "... and little where all are present",
            "4.4, Fig 3",
            f"{high} minus {low}: gain with missing minus gain with all",
            gain - whole,
        ),
    ]


def _leak(context: Context) -> list[Claim]:
    measured = values(averaged(context, context.main, _leaks(context)))
    claim = partial(_claim, context, context.main, POINTS)
    return [
        claim(
            f"(ours) {row.name}: looking at test pays",
            "ledger F9, G1",
            f"against {FULL}, whose rule sees train alone",
            _mean_lead(measured, row.name, FULL),
        )
        for row in (rows.LEAKS_INPUTS, rows.LEAKS_LABELS)
    ]


def _conflict(context: Context) -> list[Claim]:
    cells = analyses.probed_cells(context)
    joint, adapted = (_mean_cosine(context, cells, r) for r in (analyses.WITHOUT, analyses.WITH))
    claim = partial(_claim, context, context.main, COSINE)
    return [
        claim(
            "gradients of different combinations conflict",
            "abstract, 1",
            "minus the mean cosine on shared weights, joint training",
            -joint,
        ),
        claim(
            "MCLA removes conflict",
            "abstract, 1",
            "mean cosine on shared weights, with MCLA minus joint training",
            adapted - joint,
        ),
    ]


def _mean_cosine(context: Context, cells: Sequence[Cell], row: str) -> pd.Series:
    """By seed: the mean cosine of pairs of combinations, over epochs too."""
    cosines = analyses.conflicts(context, cells, row)
    means = {seed: np.nanmean(analyses.off_diagonal(of)) for seed, of in cosines.items()}
    return pd.Series(means, dtype=float)
