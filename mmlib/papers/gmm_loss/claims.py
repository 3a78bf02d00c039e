"""Testable claims of the GMM-loss paper, each with its test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import diptest
import numpy as np
import pandas as pd

from mmlib.experiments.claims import Claim, Values, minus, table, values
from mmlib.experiments.comparison import data_notes, selected, shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Row
from mmlib.papers.gmm_loss import figures, rows
from mmlib.papers.gmm_loss.figures import Round
from mmlib.report.artifact import Output

POINTS = "points of accuracy"
NETWORK = "concat"
Make = Callable[[str, str, str, str, Sequence[float] | np.ndarray], Claim]


def claim_cells(context: Context) -> list[Cell]:
    """Every run that a claim reads."""
    return [
        cell
        for dataset in context.datasets
        for cell in rows.cells(
            context,
            dataset,
            [
                rows.row(context, dataset, "plain"),
                *rows.ablation_rows(context, dataset),
                *rows.optimizer_rows(context, dataset),
                *rows.single_rows(context, dataset),
            ],
        )
    ]


def claims(context: Context, cells: Sequence[Cell]) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
    made = []
    for dataset in context.datasets:
        mine = [cell for cell in cells if cell.dataset == dataset]
        claim = partial(_claim, shown(context, dataset))
        made += _results(context, dataset, mine, claim)
        made += _rounds(context, dataset, mine, claim)
        made += _unimodal(context, dataset, mine, claim)
    return table(context, made, POINTS, data_notes(context, context.datasets), cells)


def _claim(
    data: str, text: str, where: str, test: str, unit: str, measured: Sequence[float] | np.ndarray
) -> Claim:
    return Claim(text, where, data, NETWORK, test, unit, np.asarray(measured))


def _results(context: Context, dataset: str, cells: Sequence[Cell], claim: Make) -> list[Claim]:
    accuracies = values(selected(context, cells, "accuracy"))
    full, plain = rows.OURS, rows.NAMES["plain"]
    compared = [
        (
            "the adaptive loss improves on concatenation",
            "Table 1",
            "Ours minus Concat",
            minus(accuracies, full, plain, ""),
        )
    ]
    for part in rows.ABLATIONS.values():
        compared.append(
            (
                f"each part of the loss is needed: {part}",
                "4.4, Table 2",
                "full model minus the ablation",
                minus(accuracies, full, f"{full} {part}", ""),
            )
        )
    for name in ("SGD", "Adam"):
        compared.append(
            (
                "resetting the optimizer's state is crucial",
                "4.5, Table 3",
                f"{name}: reset minus same state",
                minus(accuracies, f"{name} (Reset State)", f"{name} (Same State)", ""),
            )
        )
    compared.append(
        (
            "joint training can be worse than its unimodal counterparts",
            "1",
            "the better network of one modality minus Concat",
            _better_alone(accuracies, rows.single_rows(context, dataset)),
        )
    )
    return [
        claim(text, where, test, POINTS, lead.to_numpy()) for text, where, test, lead in compared
    ]


def _better_alone(accuracies: Values, singles: Sequence[Row]) -> pd.Series:
    """By seed: the better network of one modality minus the plain one."""
    leads = [minus(accuracies, row.name, rows.NAMES["plain"], "") for row in singles]
    return pd.concat(leads, axis=1).max(axis=1, skipna=False).dropna()


def _rounds(context: Context, dataset: str, cells: Sequence[Cell], claim: Make) -> list[Claim]:
    paths = figures.paths(context, cells, dataset)

    def each(of: Callable[[Round, Round], float]) -> list[float]:
        return [of(path[0], path[-1]) for path in paths]

    dips = [_dip(path[0].gaps) for path in paths if path[0].gaps is not None]
    return [
        claim(
            "the gap is distinctly bimodal",
            "2.2, 3.2",
            "log10(0.05 / p) of the dip test after the warm-up",
            "log10",
            dips,
        ),
        claim(
            "the balanced component is centred near zero, the other is not",
            "3.2, Fig 2",
            "|mean| of the imbalanced minus that of the balanced component, after the warm-up",
            "probability",
            each(lambda first, _: abs(first.means[1]) - abs(first.means[0])),
        ),
        claim(
            "the share of imbalanced samples decreases",
            "4.5, Fig 3",
            "share after the warm-up minus after the last round",
            "share",
            each(lambda first, last: first.shares[1] - last.shares[1]),
        ),
        claim(
            "the imbalanced component's mean shifts to zero",
            "4.5, Fig 3",
            "|mean| after the warm-up minus after the last round",
            "probability",
            each(lambda first, last: abs(first.means[1]) - abs(last.means[1])),
        ),
        _origin(paths, claim),
    ]


def _origin(paths: Sequence[Sequence[Round]], claim: Make) -> Claim:
    return claim(
        "the density at the origin rises",
        "4.5, Fig 3",
        "log ratio of the mixture's density at 0, last round over warm-up",
        "log ratio",
        [float(np.log(_at_zero(path[-1]) / _at_zero(path[0]))) for path in paths],
    )


def _dip(gaps: np.ndarray) -> float:
    return float(np.log10(0.05 / max(1e-4, diptest.diptest(gaps.astype(np.float64))[1])))


def _at_zero(mixture: Round) -> float:
    return float(mixture.density(np.zeros(1)).sum())


def _unimodal(context: Context, dataset: str, cells: Sequence[Cell], claim: Make) -> list[Claim]:
    spent = rows.BUDGETS[context.profile.name]
    end = rows.phases(spent.epochs, spent.rounds)[0] - 1  # the warm-up's last epoch
    ours = [cell.spec for cell in cells if cell.row == rows.OURS]
    curves = [by_view for spec in ours if (by_view := figures.views(context, spec)) is not None]
    first, second = context.bundle(dataset).modalities
    apart = [abs(by_view[first] - by_view[second]) for by_view in curves]
    converge = claim(
        "the accuracies of the modalities converge",
        "4.5, Fig 4",
        "distance between them on validation, end of the warm-up minus end of training",
        POINTS,
        [between[end] - between[-1] for between in apart],
    )
    improve = [
        claim(
            "both modalities' accuracies improve in the adaptive phase",
            "4.5, Fig 4",
            f"{modality} on validation, end of training minus end of the warm-up",
            POINTS,
            [by_view[modality][-1] - by_view[modality][end] for by_view in curves],
        )
        for modality in (first, second)
    ]
    return [converge, *improve]
