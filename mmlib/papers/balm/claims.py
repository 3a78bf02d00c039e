"""The paper's sentences, each with the test that would show it, and what was measured.

Every test is a paired difference, or a correlation, with one value per seed; its sign is chosen so that above 0
supports the sentence. The intervals hold together for the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata, spearmanr

from mmlib.data.catalog import is_twin
from mmlib.experiments.claims import Claim, table
from mmlib.experiments.context import Cell, Context
from mmlib.papers.balm import figures, runs, tables
from mmlib.report import stats
from mmlib.report.artifact import Output
from mmlib.runs.spec import RunSpec

POINTS, NATS = "points of weighted F1", "nats"


def settings(context: Context, dataset: str) -> Sequence[runs.Rates]:
    """Where a claim's own runs are made: in all six settings on twins, at the focus setting on other data."""
    return runs.SETTINGS if is_twin(context.reference(dataset)) else (runs.FOCUS,)


def watched(context: Context, backbone: str) -> list[runs.Row]:
    """The rows whose discrepancies are compared along training."""
    return [*figures.main_variants(backbone), runs.balm(backbone, "s", "BALM-S")]


def watched_cells(context: Context, row: runs.Row, rates: runs.Rates = runs.FOCUS) -> list[Cell]:
    """Their runs; on twins at the focus setting those of the tables."""
    shared = rates == runs.FOCUS and is_twin(context.reference(context.main))
    return runs.cells(context, context.main, row, rates, series=True, grid=not shared)


def claim_specs(context: Context) -> list[RunSpec]:
    """Every run that a claim reads."""
    found = []
    for dataset in context.datasets:
        found += runs.grid_of(context, dataset, [r for b in context.backbones for r in (runs.plain(b), runs.balm(b))],
                              runs.SETTINGS)
        rows = runs.variant_rows(context, [("BALM-M", "m")], context.backbones)
        rows += runs.variant_rows(context, [("BALM-D", "d"), ("BALM-S", "s")], context.backbones[:1])
        found += runs.grid_of(context, dataset, rows, settings(context, dataset))
    for row in watched(context, context.backbone):
        found += watched_cells(context, row)
    for rates in settings(context, context.main):
        for row in figures.with_and_without(context.backbone):
            found += watched_cells(context, row, rates)
    return list(dict.fromkeys(runs.specs_of(found)))


def claims(context: Context) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
    found = sorted(_results(context), key=lambda claim: (claim.where, claim.text)) + _along_training(context)
    ids = tuple(s.run_id(context.bundle_fingerprint(s.data)) for s in claim_specs(context))
    return table(found, POINTS, tables.foreign_data_note(context, context.datasets), ids)


def _results(context: Context) -> list[Claim]:
    """Claims about weighted F1."""
    found = []
    for dataset in context.datasets:
        name, wanted = tables.shown(context, dataset), settings(context, dataset)
        every = f"mean of {len(wanted)} settings" if len(wanted) > 1 else f"at {runs.label(wanted[0])}"
        for b in context.backbones:
            gains = _gains(context, dataset, runs.balm(b), runs.plain(b), runs.SETTINGS)
            signs = {s: stats.paired(g, np.zeros(len(g)), comparisons=len(runs.SETTINGS)).verdict
                     for s, g in gains.items() if len(g) > 1}
            detail = ", ".join(f"{v} in {list(signs.values()).count(v)}" for v in dict.fromkeys(signs.values()))
            shown = runs.NAMES.get(b, b)
            found.append(Claim("BALM improves each backbone under imbalanced missing rates", "4.2, Tables 1, 2", name,
                               shown, "+BALM minus plain, mean of the six settings", POINTS,
                               _mean(gains), f"single settings: {detail}" if detail else ""))
            gains = _gains(context, dataset, runs.balm(b), runs.balm(b, "m", "BALM-M"), wanted)
            found.append(Claim("KL yields better performance than MSE", "F.5, Tables 14, 15", name, shown,
                               f"+BALM minus +BALM-M, {every}", POINTS, _mean(gains)))
        for variant, what in (("d", "distribution"), ("s", "spatial")):
            b = context.backbone
            gains = _gains(context, dataset, runs.balm(b), runs.balm(b, variant, f"BALM-{variant.upper()}"), wanted)
            found.append(Claim(f"both modulations together are better than the {what}-driven one alone",
                               "F.4, Table 13", name, runs.backbone_name(context),
                               f"+BALM minus +BALM-{variant.upper()}, {every}", POINTS, _mean(gains)))
    return found


def _along_training(context: Context) -> list[Claim]:
    """Claims about what happens along training, on the main data set and backbone."""
    name, b = tables.shown(context, context.main), context.backbone
    at = f"at {runs.label(runs.FOCUS)}"
    kl, cosine = ({row.name: _late(context, watched_cells(context, row), key) for row in watched(context, b)}
                  for key in ("kl", "cosine"))
    bare, fcm, both, alone = (row.name for row in watched(context, b))
    late = "mean over modalities and the last quarter of epochs"
    rows = [
        ("FCM reduces the discrepancies among modalities", "4.3, Fig 5", f"KL without FCM minus with it, {late}, {at}",
         NATS, _difference(kl[bare], kl[fcm])),
        ("GRM raises the cosine similarity", "4.3, Fig 5", f"cosine, +BALM minus +FCM, {late}, {at}", "cosine",
         _difference(cosine[both], cosine[fcm])),
        ("GRM stabilises the KL divergence", "4.3, Fig 5",
         f"log ratio of the KL's spread over the last half of epochs, +FCM over +BALM, {at}", "log ratio",
         _difference(_unrest(context, runs.balm(b, "fcm", "FCM")), _unrest(context, runs.balm(b)))),
        ("the distribution part keeps the spatial part from being over-balanced", "F.4, Fig 8",
         f"|cosine|, +BALM minus +BALM-S, {late}, {at}", "cosine", _difference(cosine[both], cosine[alone], np.abs)),
        ("modalities with a higher missing rate converge more slowly", "3.1, B.1",
         "rank correlation of r_m with the epochs until half of the head's drop in KL, plain backbone, all settings",
         "correlation", _slowness(context)),
        ("modulation brings the encoders' gradient norms to equilibrium", "Eq. 35",
         f"log(largest / smallest encoder gradient norm): +FCM's minus +BALM's after modulation, {at}", "log ratio",
         _equilibrium(context)),
        ("mu corrects inversely to availability", "B.2, Eq. 21",
         "rank correlation of the mean mu_m with 1/(1 - r_m), over modalities and settings", "correlation",
         _inverse(context)),
    ]
    return [Claim(text, where, name, runs.backbone_name(context), test, unit, values)
            for text, where, test, unit, values in rows]


def _gains(context: Context, dataset: str, row: runs.Row, other: runs.Row,
           wanted: Sequence[runs.Rates]) -> dict[str, np.ndarray]:
    """Differences in weighted F1 by seed, per setting; none where either side is not run."""
    results = context.results(runs.grid_of(context, dataset, [row, other], wanted))
    results = results[(results["metric"] == "weighted_f1") & (results["selection"] == "valid")]
    if results.empty:
        return {}
    table = stats.average_folds(results).pivot_table(index="seed", columns=["setting", "row"], values="value")
    pairs = {s: table[s] for s in table.columns.get_level_values(0).unique()}
    return {s: (frame[row.name] - frame[other.name]).dropna().to_numpy() for s, frame in pairs.items()
            if {row.name, other.name} <= set(frame.columns)}


def _mean(gains: dict[str, np.ndarray]) -> np.ndarray:
    """The mean over settings within each seed; settings that lack seeds leave those seeds out."""
    if not gains:
        return np.zeros(0)
    count = min(map(len, gains.values()))
    return np.mean([g[:count] for g in gains.values()], axis=0)


def _by_seed(context: Context, cells: Sequence[Cell], key: str) -> dict[int, np.ndarray]:
    """Recorded series by seed, (epochs, M), folds averaged."""
    folds: dict[int, list[np.ndarray]] = {}
    for cell in cells:
        curves, ids = figures.series(context, [cell], key)
        if ids:
            folds.setdefault(cell.spec.seed, []).append(curves[0])
    return {seed: np.mean(curves, axis=0) for seed, curves in sorted(folds.items())}


def _late(context: Context, cells: Sequence[Cell], key: str) -> dict[int, float]:
    found = _by_seed(context, cells, key)
    return {seed: float(curve[-max(1, len(curve) // 4):].mean()) for seed, curve in found.items()}


def _difference(a: dict[int, float], b: dict[int, float], of: np.ufunc = np.positive) -> np.ndarray:
    return np.array([of(a[seed]) - of(b[seed]) for seed in a if seed in b])


def _unrest(context: Context, row: runs.Row) -> dict[int, float]:
    """Log of the spread of a KL curve over the last half of epochs, mean over modalities."""
    found = _by_seed(context, watched_cells(context, row), "kl")
    return {seed: float(np.log(curve[-max(2, len(curve) // 2):].std(axis=0, ddof=1).mean()))
            for seed, curve in found.items()}


def _equilibrium(context: Context) -> np.ndarray:
    """How far apart the encoders' gradient norms are: log(largest / smallest), last half of epochs."""
    def imbalance(row: runs.Row, modulated: bool) -> dict[int, float]:
        norms = _by_seed(context, watched_cells(context, row), "gradient_norm")
        mu = _by_seed(context, watched_cells(context, row), "mu")
        effective = {s: n * np.abs(mu[s]) if modulated else n for s, n in norms.items()}
        return {s: float(np.log(e.max(axis=1) / e.min(axis=1))[len(e) // 2:].mean()) for s, e in effective.items()}

    b = context.backbone
    return _difference(imbalance(runs.balm(b, "fcm", "FCM"), False), imbalance(runs.balm(b), True))


def _slowness(context: Context) -> np.ndarray:
    """Per seed: rank correlation of missing rate and epochs to half of the drop in KL, over modalities and settings.

    Ranks are taken within a modality first (over settings) where there are several settings, so that what is
    correlated is the rate and not which modality it is.
    """
    per_seed: dict[int, list[tuple[float, float, int]]] = {}
    for rates in settings(context, context.main):
        cells = watched_cells(context, figures.watched_plain(context.backbone), rates)
        for seed, curve in _by_seed(context, cells, "kl").items():
            per_seed.setdefault(seed, []).extend(
                (rate, half_time(curve[:, place]), place) for place, rate in enumerate(_in_order(context, rates)))
    return correlations(per_seed)


def _inverse(context: Context) -> np.ndarray:
    per_seed: dict[int, list[tuple[float, float, int]]] = {}
    for rates in settings(context, context.main):
        for seed, curve in _by_seed(context, watched_cells(context, runs.balm(context.backbone), rates), "mu").items():
            per_seed.setdefault(seed, []).extend(
                (1 / (1 - rate), float(np.median(curve[:, place])), place)
                for place, rate in enumerate(_in_order(context, rates)))
    return correlations(per_seed)


def _in_order(context: Context, rates: runs.Rates) -> list[float]:
    """The rates in the order of the bundle's modalities."""
    given = dict(context.rates(context.main, rates).rates)
    return [given[m] for m in context.bundle(context.main).modalities]


def half_time(curve: np.ndarray) -> float:
    """Epochs until a curve has gone half of the way from its first value to its last quarter's mean."""
    goal = (curve[0] + curve[-max(1, len(curve) // 4):].mean()) / 2
    passed = np.flatnonzero(curve <= goal) if goal < curve[0] else np.flatnonzero(curve >= goal)
    return float(passed[0]) if len(passed) else float(len(curve))


def correlations(per_seed: dict[int, list[tuple[float, float, int]]]) -> np.ndarray:
    """Spearman's correlation per seed of (x, y, modality) triples; y is ranked within its modality first."""
    found = []
    for lines in per_seed.values():
        x, y, place = (np.array(column, dtype=float) for column in zip(*lines, strict=True))
        if len(lines) > len(set(place)):
            for p in set(place):
                y[place == p] = rankdata(y[place == p])
        found.append(0.0 if len(set(y)) == 1 else float(spearmanr(x, y).statistic))
    return np.array(found)
