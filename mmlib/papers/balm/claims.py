"""The testable claims of the paper, each with its test and the measured value.

Every test is a paired difference, or a correlation, with one value per seed; its sign is chosen so that above 0
supports the sentence. The intervals are simultaneous for the whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata, spearmanr

from mmlib.data.catalog import is_twin
from mmlib.experiments.claims import Claim, table
from mmlib.experiments.comparison import selected, shown
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Row, by_seed
from mmlib.papers.balm import figures, rows
from mmlib.papers.balm.tables import notes_on_data
from mmlib.report import stats
from mmlib.report.artifact import Output

POINTS = "points of weighted F1"
HALVES = {"d": "distribution", "s": "spatial"}  # of the gradient rebalancing, as variants
AT_FOCUS = f"at {rows.label(rows.FOCUS)}"
BySeed = dict[int, float]
Test = tuple[str, str, str, str, np.ndarray]
"""Sentence, where it stands, its test, unit, and one value per seed."""


def settings(context: Context, dataset: str) -> Sequence[rows.Rates]:
    """Where a claim's own runs are made: in all six settings on twins, at the focus setting on other data."""
    return rows.SETTINGS if is_twin(context.reference(dataset)) else (rows.FOCUS,)


def watched_rows(backbone: str) -> list[Row]:
    """The rows whose discrepancies are compared during training."""
    return [*figures.main_variants(backbone), rows.balm(backbone, "s", "BALM-S")]


def watched_cells(context: Context, row: Row, rates: rows.Rates = rows.FOCUS) -> list[Cell]:
    """A watched row's runs; on twins at the focus setting those of the tables."""
    shared = rates == rows.FOCUS and is_twin(context.reference(context.main))
    return rows.cells(context, context.main, rows.watched(row), rates, grid=not shared)


def claim_cells(context: Context) -> list[Cell]:
    """Every run that a claim reads."""
    cells: list[Cell] = []
    for dataset in context.datasets:
        own = rows.in_settings(settings(context, dataset))
        compared = [*rows.squared(context), *rows.halves(context)]
        cells += rows.of_rows(context, dataset, rows.pairs(context), rows.SIX)
        cells += rows.of_rows(context, dataset, compared, own)
    for row in watched_rows(context.backbone):
        cells += watched_cells(context, row)
    for rates in settings(context, context.main):
        for row in figures.with_and_without(context.backbone):
            cells += watched_cells(context, row, rates)
    return cells


def claims(context: Context, cells: Sequence[Cell]) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
    made = sorted(_results(context), key=lambda claim: (claim.where, claim.text))
    made += _along_training(context)
    return table(context, made, POINTS, notes_on_data(context, context.datasets), cells)


def _results(context: Context) -> list[Claim]:
    """Claims about weighted F1."""
    made = []
    for dataset in context.datasets:
        made += [_improves(context, dataset, backbone) for backbone in context.backbones]
        made += [
            _against(
                context,
                dataset,
                backbone,
                "m",
                "KL yields better performance than MSE",
                "F.5, Tables 14, 15",
            )
            for backbone in context.backbones
        ]
        made += [
            _against(
                context,
                dataset,
                context.backbone,
                variant,
                f"both modulations together are better than the {what}-driven one alone",
                "F.4, Table 13",
            )
            for variant, what in HALVES.items()
        ]
    return made


def _improves(context: Context, dataset: str, backbone: str) -> Claim:
    gains = _gains(context, dataset, rows.balm(backbone), rows.plain(backbone), rows.SETTINGS)
    count = len(rows.SETTINGS)
    verdicts = [
        stats.paired(gain, np.zeros(len(gain)), comparisons=count).verdict
        for gain in gains.values()
        if len(gain) > 1
    ]
    detail = ", ".join(f"{v} in {verdicts.count(v)}" for v in dict.fromkeys(verdicts))
    return Claim(
        "BALM improves each backbone under imbalanced missing rates",
        "4.2, Tables 1, 2",
        shown(context, dataset),
        rows.NAMES[backbone],
        "+BALM minus plain, mean of the six settings",
        POINTS,
        _mean(gains),
        f"single settings: {detail}" if detail else "",
    )


def _against(
    context: Context, dataset: str, backbone: str, variant: str, text: str, where: str
) -> Claim:
    """BALM against a variant of it."""
    wanted = settings(context, dataset)
    every = f"mean of {len(wanted)} settings" if len(wanted) > 1 else f"at {rows.label(wanted[0])}"
    suffix = f"BALM-{variant.upper()}"
    other = rows.balm(backbone, variant, suffix)
    gains = _gains(context, dataset, rows.balm(backbone), other, wanted)
    name, network = shown(context, dataset), rows.NAMES[backbone]
    test = f"+BALM minus +{suffix}, {every}"
    return Claim(text, where, name, network, test, POINTS, _mean(gains))


def _along_training(context: Context) -> list[Claim]:
    """Claims about what happens during training, on the main data set and backbone."""
    name, network = shown(context, context.main), rows.NAMES[context.backbone]
    tests = [*_of_discrepancies(context), *_of_rates(context)]
    return [
        Claim(text, where, name, network, test, unit, values)
        for text, where, test, unit, values in tests
    ]


def _of_discrepancies(context: Context) -> list[Test]:
    """What each part of the method does to the discrepancies (Fig 5, Fig 8)."""
    bare, fcm, both, alone = watched_rows(context.backbone)
    cosine = {row.name: _late(context, row, "cosine") for row in (fcm, both, alone)}
    late = f"mean over modalities and the last quarter of epochs, {AT_FOCUS}"
    return [
        (
            "FCM reduces the discrepancies among modalities",
            "4.3, Fig 5",
            f"KL without FCM minus with it, {late}",
            "nats",
            _difference(_late(context, bare, "kl"), _late(context, fcm, "kl")),
        ),
        (
            "GRM raises the cosine similarity",
            "4.3, Fig 5",
            f"cosine, +BALM minus +FCM, {late}",
            "cosine",
            _difference(cosine[both.name], cosine[fcm.name]),
        ),
        (
            "GRM stabilises the KL divergence",
            "4.3, Fig 5",
            f"log ratio of the KL's spread over the last half of epochs, +FCM over +BALM, {AT_FOCUS}",
            "log ratio",
            _difference(_unrest(context, fcm), _unrest(context, both)),
        ),
        (
            "the distribution part keeps the spatial part from being over-balanced",
            "F.4, Fig 8",
            f"|cosine|, +BALM minus +BALM-S, {late}",
            "cosine",
            _difference(_sizes(cosine[both.name]), _sizes(cosine[alone.name])),
        ),
    ]


def _of_rates(context: Context) -> list[Test]:
    """How fast modalities converge, and what the coefficients do about it."""
    fcm, both = rows.fcm(context.backbone), rows.balm(context.backbone)
    return [
        (
            "modalities with a higher missing rate converge more slowly",
            "3.1, B.1",
            "rank correlation of r_m with the epochs until half of the head's drop in KL, plain backbone, "
            "all settings",
            "correlation",
            _slowness(context),
        ),
        (
            "modulation brings the encoders' gradient norms to equilibrium",
            "Eq. 35",
            "log(largest / smallest encoder gradient norm): +FCM's minus +BALM's after modulation, "
            f"{AT_FOCUS}",
            "log ratio",
            _difference(_imbalance(context, fcm, False), _imbalance(context, both, True)),
        ),
        (
            "mu corrects inversely to availability",
            "B.2, Eq. 21",
            "rank correlation of the mean mu_m with 1/(1 - r_m), over modalities and settings",
            "correlation",
            _inverse(context),
        ),
    ]


def _gains(
    context: Context, dataset: str, row: Row, other: Row, wanted: Sequence[rows.Rates]
) -> dict[str, np.ndarray]:
    """Differences in weighted F1 by seed, per setting; none where either side is not run."""
    cells = rows.of_rows(context, dataset, [row, other], rows.in_settings(wanted))
    results = selected(context, cells, "weighted_f1")
    if results.empty:
        return {}
    seeds = results.pivot_table(index="seed", columns=["setting", "row"], values="value")
    pairs = {s: seeds[s] for s in seeds.columns.get_level_values(0).unique()}
    return {
        setting: (frame[row.name] - frame[other.name]).dropna().to_numpy()
        for setting, frame in pairs.items()
        if {row.name, other.name} <= set(frame.columns)
    }


def _mean(gains: dict[str, np.ndarray]) -> np.ndarray:
    """The mean over settings within each seed; settings that lack seeds leave those seeds out."""
    if not gains:
        return np.zeros(0)
    count = min(map(len, gains.values()))
    return np.mean([g[:count] for g in gains.values()], axis=0)


def _along(
    context: Context, row: Row, key: str, rates: rows.Rates = rows.FOCUS
) -> dict[int, np.ndarray]:
    """A row's series by seed, (epochs, M), folds averaged."""
    specs = [cell.spec for cell in watched_cells(context, row, rates)]
    return by_seed(context, specs, lambda record: figures.recorded(record, key))


def _late(context: Context, row: Row, key: str) -> BySeed:
    """Mean over modalities and the last quarter of epochs."""
    curves = _along(context, row, key)
    return {seed: float(curve[-max(1, len(curve) // 4) :].mean()) for seed, curve in curves.items()}


def _sizes(values: BySeed) -> BySeed:
    return {seed: abs(value) for seed, value in values.items()}


def _difference(a: BySeed, b: BySeed) -> np.ndarray:
    return np.array([a[seed] - b[seed] for seed in a if seed in b])


def _unrest(context: Context, row: Row) -> BySeed:
    """Log of the spread of a KL curve over the last half of epochs, mean over modalities."""
    unrest = {}
    for seed, curve in _along(context, row, "kl").items():
        half = curve[-max(2, len(curve) // 2) :]
        unrest[seed] = float(np.log(half.std(axis=0, ddof=1).mean()))
    return unrest


def _imbalance(context: Context, row: Row, modulated: bool) -> BySeed:
    """How far apart the encoders' gradient norms are: log(largest / smallest), last half of epochs."""
    mu = _along(context, row, "mu")
    apart = {}
    for seed, norms in _along(context, row, "gradient_norm").items():
        effective = norms * np.abs(mu[seed]) if modulated else norms
        ratio = effective.max(axis=1) / effective.min(axis=1)
        apart[seed] = float(np.log(ratio)[len(ratio) // 2 :].mean())
    return apart


def _slowness(context: Context) -> np.ndarray:
    """Per seed: rank correlation of missing rate and epochs to half of the drop in KL, over modalities and settings."""
    bare = rows.watched_plain(context.backbone)
    return _correlated(context, bare, "kl", lambda rate: rate, half_time)


def _inverse(context: Context) -> np.ndarray:
    """Per seed: rank correlation of the median mu with 1/(1 - r), over modalities and settings."""
    row = rows.balm(context.backbone)
    return _correlated(context, row, "mu", lambda rate: 1 / (1 - rate), np.median)


def _correlated(
    context: Context,
    row: Row,
    key: str,
    of_rate: Callable[[float], float],
    of_curve: Callable[[np.ndarray], float],
) -> np.ndarray:
    """Per seed: rank correlation of what follows from a modality's rate and from its curve."""
    per_seed: dict[int, list[tuple[float, float, int]]] = {}
    for rates in settings(context, context.main):
        in_order = _in_order(context, rates)
        for seed, curve in _along(context, row, key, rates).items():
            per_seed.setdefault(seed, []).extend(
                (of_rate(rate), float(of_curve(curve[:, place])), place)
                for place, rate in enumerate(in_order)
            )
    return correlations(per_seed)


def _in_order(context: Context, rates: rows.Rates) -> list[float]:
    """The rates in the order of the bundle's modalities."""
    given = dict(context.rates(context.main, rates).rates)
    return [given[m] for m in context.bundle(context.main).modalities]


def half_time(curve: np.ndarray) -> float:
    """Epochs until a curve has gone half of the way from its first value to its last quarter's mean."""
    goal = (curve[0] + curve[-max(1, len(curve) // 4) :].mean()) / 2
    passed = np.flatnonzero(curve <= goal) if goal < curve[0] else np.flatnonzero(curve >= goal)
    return float(passed[0]) if len(passed) else float(len(curve))


def correlations(per_seed: dict[int, list[tuple[float, float, int]]]) -> np.ndarray:
    """Spearman's correlation per seed of (x, y, modality) triples.

    Where there are several settings, y is ranked within its modality first, so that what is correlated is the rate and
    not which modality it is.
    """
    each = []
    for lines in per_seed.values():
        x, y, place = (np.array(column, dtype=float) for column in zip(*lines, strict=True))
        if len(lines) > len(set(place)):
            for p in set(place):
                y[place == p] = rankdata(y[place == p])
        each.append(0.0 if len(set(y)) == 1 else float(spearmanr(x, y).statistic))
    return np.array(each)
