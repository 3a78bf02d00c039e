"""What the paper says of training: discrepancies of the modalities, their gradients, and what the parts do to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import scipy  # its parts are imported when they are used: scipy.stats takes a second

from mmlib.data.catalog import is_twin
from mmlib.experiments.claims import Claim, Source
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Row, by_seed, runs_of
from mmlib.papers.balm import figures, rows

Along = Callable[..., dict[int, np.ndarray]]
"""From a row, a quantity and the rates to its series by seed, (epochs, M), folds averaged."""


def claims(context: Context) -> list[Claim]:
    """What happens along training, on the main data set and backbone."""
    compared = [
        *figures.main_variants(context.backbone),
        rows.balm(context.backbone, "s", "BALM-S"),
    ]
    bare, fcm, both, _ = compared
    at_focus = _watched(context, compared, [rows.FOCUS])
    where = f"at {rows.setting_of(context, rows.FOCUS)}"
    in_settings = _watched(context, (bare, both), settings(context, context.main))
    made = [
        *_of_discrepancies(where, at_focus, *compared),
        *_slowness(context, in_settings, bare),
        *_dominance(context, where, at_focus, fcm),
        _equilibrium(where, at_focus, fcm, both),
        *_inverse(context, in_settings, both),
    ]
    network = rows.NAMES[context.backbone]
    return [dataclasses.replace(claim, network=network) for claim in made]


def settings(context: Context, dataset: str) -> Sequence[rows.Rates]:
    """Where a claim's own runs are made: in all settings on twins, at the focus setting on other data."""
    if not is_twin(context.reference(dataset)):
        return [rows.FOCUS]
    return rows.kept(context, rows.SETTINGS)


def _watched(context: Context, wanted: Sequence[Row], of: Sequence[rows.Rates]) -> Source:
    """Watched rows on the main data set; on twins at the focus setting their runs are those of the tables."""
    twin = is_twin(context.reference(context.main))
    cells = [
        cell
        for rates in of
        for row in wanted
        for cell in rows.cells(
            context,
            context.main,
            rows.watched(row),
            rates,
            grid=not (twin and rates == rows.FOCUS),
        )
    ]
    return Source(context.main, cells, _along)


def _along(context: Context, cells: Sequence[Cell]) -> Along:
    def along(row: Row, key: str, rates: rows.Rates = rows.FOCUS) -> dict[int, np.ndarray]:
        there = [cell for cell in cells if cell.setting == rows.setting_of(context, rates)]
        return by_seed(
            context, runs_of(there, row.name), lambda record: figures.recorded(record, key)
        )

    return along


def _of_discrepancies(
    where: str, at_focus: Source, bare: Row, fcm: Row, both: Row, alone: Row
) -> list[Claim]:
    """What each part of the method does to the discrepancies (Fig 5, Fig 8)."""
    claim = partial(Claim, source=at_focus)
    late = f"mean over modalities and the last quarter of epochs, {where}"
    return [
        claim(
            "FCM reduces the discrepancies among modalities",
            "4.3, Fig 5",
            f"KL without FCM minus with it, {late}",
            measure=lambda along: _late(along(bare, "kl")) - _late(along(fcm, "kl")),
            unit="nats",
        ),
        claim(
            "GRM raises the cosine similarity",
            "4.3, Fig 5",
            f"cosine, +BALM minus +FCM, {late}",
            measure=lambda along: _late(along(both, "cosine")) - _late(along(fcm, "cosine")),
            unit="cosine",
        ),
        claim(
            "GRM stabilises the KL divergence",
            "4.3, Fig 5",
            f"log ratio of the KL's spread over the last half of epochs, +FCM over +BALM, {where}",
            measure=lambda along: _unrest(along(fcm, "kl")) - _unrest(along(both, "kl")),
            unit="log ratio",
        ),
        claim(
            "the distribution part keeps the spatial part from being over-balanced",
            "F.4, Fig 8",
            f"|cosine|, +BALM minus +BALM-S, {late}",
            measure=lambda along: (
                abs(_late(along(both, "cosine"))) - abs(_late(along(alone, "cosine")))
            ),
            unit="cosine",
        ),
    ]


def _slowness(context: Context, in_settings: Source, bare: Row) -> list[Claim]:
    """Nothing can be measured of one setting, in which a rate and its modality are the same."""
    if len(settings(context, context.main)) == 1:
        return []
    claim = Claim(
        "modalities with a higher missing rate converge more slowly",
        "3.1, B.1",
        "rank correlation of r_m with the epochs until half of the head's drop in KL, plain backbone, "
        "over settings within each modality",
        in_settings,
        lambda along: _correlated(
            context, partial(along, bare, "kl"), lambda rate: rate, half_time
        ),
        "correlation",
    )
    return [claim]


def _dominance(context: Context, where: str, at_focus: Source, fcm: Row) -> list[Claim]:
    """What is left for the gradients' part; nothing is claimed of data without text."""
    modalities = context.bundle(context.main).modalities
    if "text" not in modalities:
        return []
    place = modalities.index("text")

    def ahead(along: Along) -> pd.Series:
        norms = along(fcm, "gradient_norm")
        return _each(norms, lambda of: _of_one(of[len(of) // 2 :], place))

    claim = Claim(
        "with calibrated features the text branch still dominates the optimisation",
        "4.3, Fig 5",
        "log(gradient norm of text's encoder / largest of the others), +FCM, last half of epochs, "
        f"{where}",
        at_focus,
        ahead,
        "log ratio",
    )
    return [claim]


def _of_one(norms: np.ndarray, place: int) -> float:
    """How far one modality's norm is above the largest other one: mean log ratio over epochs, of (epochs, M)."""
    others = np.delete(norms, place, axis=1).max(axis=1)
    return float(np.log(norms[:, place] / others).mean())


def _equilibrium(where: str, at_focus: Source, fcm: Row, both: Row) -> Claim:
    return Claim(
        "modulation brings the encoders' gradient norms to equilibrium",
        "B.2, Eq. 35",
        "log(largest / smallest encoder gradient norm): +FCM's minus +BALM's after modulation, "
        f"{where}",
        at_focus,
        lambda along: _imbalance(along, fcm) - _imbalance(along, both, modulated=True),
        "log ratio",
    )


def _inverse(context: Context, in_settings: Source, both: Row) -> list[Claim]:
    """As ``_slowness``, of one setting nothing."""
    if len(settings(context, context.main)) == 1:
        return []
    claim = Claim(
        "mu corrects inversely to availability",
        "B.2, Eq. 21",
        "rank correlation of the median mu_m with 1/(1 - r_m), over settings within each modality",
        in_settings,
        lambda along: _correlated(
            context, partial(along, both, "mu"), lambda rate: 1 / (1 - rate), np.median
        ),
        "correlation",
    )
    return [claim]


def _each(curves: dict[int, np.ndarray], of: Callable[[np.ndarray], float]) -> pd.Series:
    """By seed: what follows from a curve (epochs, M)."""
    return pd.Series({seed: float(of(curve)) for seed, curve in curves.items()}, dtype=float)


def _late(curves: dict[int, np.ndarray]) -> pd.Series:
    """Mean over modalities and the last quarter of epochs."""
    return _each(curves, lambda curve: curve[-max(1, len(curve) // 4) :].mean())


def _unrest(curves: dict[int, np.ndarray]) -> pd.Series:
    """Log of the spread of a KL curve over the last half of epochs, mean over modalities."""
    return _each(
        curves,
        lambda curve: np.log(curve[-max(2, len(curve) // 2) :].std(axis=0, ddof=1).mean()),
    )


def _imbalance(along: Along, row: Row, modulated: bool = False) -> pd.Series:
    """How far apart the encoders' gradient norms are: log(largest / smallest), last half of epochs."""
    norms = along(row, "gradient_norm")
    if modulated:
        mu = along(row, "mu")
        norms = {seed: of * np.abs(mu[seed]) for seed, of in norms.items()}
    ratios = {seed: np.log(of.max(axis=1) / of.min(axis=1)) for seed, of in norms.items()}
    return _each(ratios, lambda ratio: ratio[len(ratio) // 2 :].mean())


def _correlated(
    context: Context,
    curves: Callable[..., dict[int, np.ndarray]],
    of_rate: Callable[[float], float],
    of_curve: Callable[[np.ndarray], float],
) -> list[float]:
    """Per seed: rank correlation of what follows from a modality's rate and from its curve, over modalities and
    settings.

    curves: by seed, from rates.
    """
    per_seed: dict[int, list[tuple[float, float, int]]] = {}
    for rates in settings(context, context.main):
        given = dict(context.rates(context.main, rates).rates)
        in_order = [given[m] for m in context.bundle(context.main).modalities]
        for seed, curve in curves(rates=rates).items():
            per_seed.setdefault(seed, []).extend(
                (of_rate(rate), float(of_curve(curve[:, place])), place)
                for place, rate in enumerate(in_order)
            )
    return correlations(per_seed)


def half_time(curve: np.ndarray) -> float:
    """Epochs until a curve has gone half of the way from its first value to its last quarter's mean."""
    goal = (curve[0] + curve[-max(1, len(curve) // 4) :].mean()) / 2
    passed = np.flatnonzero(curve <= goal) if goal < curve[0] else np.flatnonzero(curve >= goal)
    return float(passed[0]) if len(passed) else float(len(curve))


def correlations(per_seed: dict[int, list[tuple[float, float, int]]]) -> list[float]:
    """Spearman's correlation per seed of (x, y, modality) triples.

    Where there are several settings, y is ranked within its modality first, so that what is correlated is the rate and
    not which modality it is.
    """
    each = []
    for lines in per_seed.values():
        x, y, place = (np.array(column, dtype=float) for column in zip(*lines, strict=True))
        if len(lines) > len(set(place)):
            for p in set(place):
                y[place == p] = scipy.stats.rankdata(y[place == p])
        each.append(0.0 if len(set(y)) == 1 else float(scipy.stats.spearmanr(x, y).statistic))
    return each
