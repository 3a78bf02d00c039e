"""The testable claims of the paper, each with its test and the measured value.

Every test is a paired difference, or a correlation, with one value per seed; its sign is chosen so that above 0
supports the sentence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import scipy  # its parts are imported when they are used: scipy.stats takes a second

from mmlib.data.catalog import is_twin
from mmlib.experiments.claims import Claim, Claims, Lead, Mean, Source, Values, at, of_metric
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Row, by_seed, runs_of
from mmlib.papers.balm import figures, rows
from mmlib.papers.balm.tables import notes_on_data
from mmlib.report import stats

HALVES = {"d": "distribution", "s": "spatial"}  # of the gradient rebalancing, as variants
Along = Callable[..., dict[int, np.ndarray]]
"""From a row, a quantity and the rates to its series by seed, (epochs, M), folds averaged."""


def declared(context: Context) -> list[Claim]:
    """Claims about weighted F1 by where they stand, then those about what happens along training."""
    results = sorted(_results(context), key=lambda claim: (claim.where, claim.text))
    return [*results, *_along_training(context)]


CLAIMS = Claims(declared, "points of weighted F1", "", data_notes=notes_on_data)


def settings(context: Context, dataset: str) -> Sequence[rows.Rates]:
    """Where a claim's own runs are made: in all settings on twins, at the focus setting on other data."""
    if not is_twin(context.reference(dataset)):
        return [rows.FOCUS]
    return rows.kept(context, rows.SETTINGS)


def _results(context: Context) -> list[Claim]:
    """Claims about weighted F1."""
    made = []
    for dataset in context.datasets:
        backbones = rows.backbones(context, dataset)
        made += [_improves(context, dataset, backbone) for backbone in backbones]
        made += [
            _against(
                context,
                dataset,
                backbone,
                "m",
                "KL yields better performance than MSE",
                "F.5, Tables 14, 15",
            )
            for backbone in backbones
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
        made += [
            *_shared(context, dataset),
            *_severe(context, dataset),
            *_fcm(context, dataset),
        ]
    return [*made, *_on_main(context)]


def _on_main(context: Context) -> list[Claim]:
    """Claims about the main data set: all backbones, the parts, single modalities, combinations, tau and rho."""
    return [
        *_whole_method(context),
        *_text_hurts_most(context),
        *_combinations(context),
        *_flat(context),
    ]


def _whole_method(context: Context) -> list[Claim]:
    """The method over all backbones, and what its gradients' part adds to its features' part."""
    dataset, every = context.main, rows.kept(context, rows.SETTINGS)
    backbones = rows.backbones(context, dataset)
    parts = [_ahead(context, dataset, b, rows.plain(b), every) for b in backbones]
    source = of_metric(dataset, [cell for of, _ in parts for cell in of.cells], "weighted_f1")
    wanted, fcm = settings(context, dataset), rows.fcm(context.backbone)
    both, lead = _ahead(context, dataset, context.backbone, fcm, wanted)
    over = Claim(
        "BALM improves the backbones under imbalanced missing rates",
        "4.2, Tables 1, 2",
        f"+BALM minus plain, mean of {len(backbones)} backbones, {rows.mean_of_settings(context)}",
        source,
        Mean([each for _, mean in parts for each in mean.leads]),
        network=", ".join(rows.NAMES[b] for b in backbones),
        primary=True,
    )
    needed = Claim(
        "rebalancing the gradients adds to calibrating the features",
        "4.3, F.4",
        f"+BALM minus +FCM, {_where(context, wanted)}",
        both,
        lead,
        network=rows.NAMES[context.backbone],
        primary=True,
    )
    return [over, needed] if len(backbones) > 1 else [needed]


def _shared(context: Context, dataset: str) -> list[Claim]:
    """Tables 11 and 12, Fig 4: one rate for all modalities, and what each tenth more of it costs."""
    rates = [f"{rate:.1f}" for rate in context.profile.shared_rates]
    network, made = rows.NAMES[context.backbone], []
    pair = [rows.balm(context.backbone), rows.plain(context.backbone)]
    source = of_metric(dataset, rows.of_rows(context, dataset, pair, rows.at_shared), "weighted_f1")
    ours, bare = (row.name for row in pair)
    made.append(
        Claim(
            "BALM improves its backbone under shared missing rates",
            "4.2, Fig 4, Tables 11, 12",
            f"+BALM minus plain, mean of the shared rates {', '.join(rates)}",
            source,
            Mean([Lead(ours, bare, rate) for rate in rates]),
            network=network,
        )
    )
    if len(rates) < 2:
        return made
    steps = 10 * (context.profile.shared_rates[-1] - context.profile.shared_rates[0])

    def cost(f1: Values) -> pd.Series:
        """Points lost for each tenth."""
        return (at(f1, ours, rates[0]) - at(f1, ours, rates[-1])).dropna() / steps

    made.append(
        Claim(
            "with BALM no more than 2 points are lost for each tenth that is missing",
            "F.3",
            f"2 minus the loss of +BALM for each tenth, from {rates[0]} to {rates[-1]}",
            source,
            lambda f1: 2 - cost(f1),
            network=network,
        )
    )
    return made


def _severe(context: Context, dataset: str) -> list[Claim]:
    """Table 4."""
    wanted = rows.kept(context, rows.SEVERE)
    if not wanted:
        return []
    backbone = context.backbone
    source, lead = _ahead(context, dataset, backbone, rows.plain(backbone), wanted)
    return [
        Claim(
            "BALM improves its backbone under severe missing rates",
            "4.2, Table 4",
            f"+BALM minus plain, {_where(context, wanted)}",
            source,
            lead,
            network=rows.NAMES[backbone],
        )
    ]


def _fcm(context: Context, dataset: str) -> list[Claim]:
    """Tables 3 and 10: FCM by itself, on subsets of complete data."""
    pair = [rows.fcm(context.backbone), rows.plain(context.backbone)]
    cells = rows.of_rows(context, dataset, pair, rows.at_subsets)
    leads = [Lead(pair[0].name, pair[1].name, name) for name, _ in rows.groups(context, dataset)]
    return [
        Claim(
            "FCM by itself improves its backbone",
            "4.2, Tables 3, 10",
            f"+FCM minus plain, mean of {len(leads)} subsets of complete data",
            of_metric(dataset, cells, "weighted_f1"),
            Mean(leads),
            network=rows.NAMES[context.backbone],
        )
    ]


def _text_hurts_most(context: Context) -> list[Claim]:
    """Section 4.2: the settings in which text is missing most against those in which another modality is."""
    dataset, every = context.main, rows.kept(context, rows.SETTINGS)
    if context.given_rates or "text" not in context.bundle(dataset).modalities:
        return []
    most = {rates: _missing_most(context, rates) for rates in every}
    of_text = [rates for rates in every if most[rates] == "text"]
    others = [rates for rates in every if most[rates] != "text"]
    if not of_text or not others:
        return []
    pair = [rows.balm(context.backbone), rows.plain(context.backbone)]
    source = of_metric(
        dataset, rows.of_rows(context, dataset, pair, rows.in_settings(every)), "weighted_f1"
    )

    def worse(f1: Values, row: str) -> pd.Series:
        return _mean_at(context, f1, row, others) - _mean_at(context, f1, row, of_text)

    return [
        Claim(
            "missing text costs most",
            "4.2, Tables 1, 2",
            f"{row.name}: mean of the settings in which another modality is missing most minus that of text",
            source,
            partial(worse, row=row.name),
            network=rows.NAMES[context.backbone],
        )
        for row in pair
    ]


def _missing_most(context: Context, rates: rows.Rates) -> str:
    given = dict(context.rates(context.main, rates).rates)
    return max(given, key=lambda modality: given[modality])


def _mean_at(context: Context, f1: Values, row: str, wanted: Sequence[rows.Rates]) -> pd.Series:
    """Of the seeds that all settings have."""
    each = [at(f1, row, rows.setting_of(context, rates)) for rates in wanted]
    return pd.concat(each, axis=1).mean(axis=1, skipna=False)


def _combinations(context: Context) -> list[Claim]:
    """Table 9, Fig 6: trained and tested with two modalities or more of the classes' data set."""
    if "iemocap" not in context.datasets:
        return []
    pair = [rows.balm(context.backbone), rows.plain(context.backbone)]
    cells = rows.of_rows(context, "iemocap", pair, rows.at_combinations)
    several = [name for name, group in rows.groups(context, "iemocap") if len(group) > 1]
    leads = [
        Lead(pair[0].name, pair[1].name, f"{rows.setting_of(context, rates)} {name}")
        for rates in rows.combined(context)
        for name in several
    ]
    return [
        Claim(
            "BALM improves its backbone on combinations of modalities",
            "4.2, Fig 6, Tables 8, 9",
            f"+BALM minus plain, mean of {len(several)} combinations of two or more and of the settings of Table 9",
            of_metric("iemocap", cells, "weighted_f1"),
            Mean(leads),
            network=rows.NAMES[context.backbone],
        )
    ]


def _flat(context: Context) -> list[Claim]:
    """Table 7, Fig 7: where vision is missing most, tau and rho change little."""
    rates = next(iter(rows.configurations(context).values()))
    cells = rows.tuned(context, rates)
    name = rows.balm(context.backbone).name
    printed = "tau={1:g} rho={0:g}".format(*(value for _, value in sorted(rows.TAU_RHO)))
    others = [s for s in dict.fromkeys(cell.setting for cell in cells) if s != printed]
    if len(others) == len({cell.setting for cell in cells}):
        return []

    def ahead(f1: Values) -> pd.Series:
        each = pd.concat([at(f1, name, other) for other in others], axis=1)
        return (at(f1, name, printed) - each.mean(axis=1, skipna=False)).dropna()

    return [
        Claim(
            "tau and rho matter little (no difference that matters supports it too)",
            "4.2, Fig 7, Table 7",
            f"{printed} minus the mean of the grid's other values, at {rows.setting_of(context, rates)}",
            of_metric(context.main, cells, "weighted_f1"),
            ahead,
            network=rows.NAMES[context.backbone],
        )
    ]


def _where(context: Context, wanted: Sequence[rows.Rates]) -> str:
    """In which settings something is measured."""
    if len(wanted) > 1:
        return f"mean of {len(wanted)} settings"
    return f"at {rows.setting_of(context, wanted[0])}"


def _improves(context: Context, dataset: str, backbone: str) -> Claim:
    every = rows.kept(context, rows.SETTINGS)
    source, lead = _ahead(context, dataset, backbone, rows.plain(backbone), every)
    return Claim(
        "BALM improves each backbone under imbalanced missing rates",
        "4.2, Tables 1, 2",
        f"+BALM minus plain, {rows.mean_of_settings(context)}",
        source,
        lead,
        network=rows.NAMES[backbone],
        detail=partial(_single_settings, lead),
        primary=(dataset, backbone) == (context.main, context.backbone),
    )


def _single_settings(mean: Mean, f1: Values) -> str:
    """How many settings have which verdict, each by itself."""
    gains = [lead(f1).to_numpy() for lead in mean.leads]
    verdicts = [
        stats.paired(gain, np.zeros(len(gain)), comparisons=len(gains)).verdict
        for gain in gains
        if len(gain) > 1
    ]
    detail = ", ".join(f"{v} in {verdicts.count(v)}" for v in dict.fromkeys(verdicts))
    return f"single settings: {detail}" if detail else ""


def _against(
    context: Context, dataset: str, backbone: str, variant: str, text: str, where: str
) -> Claim:
    """BALM against a variant of it."""
    wanted = settings(context, dataset)
    every = _where(context, wanted)
    suffix = f"BALM-{variant.upper()}"
    other = rows.balm(backbone, variant, suffix)
    source, lead = _ahead(context, dataset, backbone, other, wanted)
    test = f"+BALM minus +{suffix}, {every}"
    return Claim(text, where, test, source, lead, network=rows.NAMES[backbone])


def _ahead(
    context: Context, dataset: str, backbone: str, other: Row, wanted: Sequence[rows.Rates]
) -> tuple[Source, Mean]:
    """BALM over a backbone and another row in some settings, and the mean of the leads."""
    row = rows.balm(backbone)
    cells = rows.of_rows(context, dataset, [row, other], rows.in_settings(wanted))
    leads = [Lead(row.name, other.name, rows.setting_of(context, rates)) for rates in wanted]
    return of_metric(dataset, cells, "weighted_f1"), Mean(leads)


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


def _along_training(context: Context) -> list[Claim]:
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
        _equilibrium(where, at_focus, fcm, both),
        *_inverse(context, in_settings, both),
    ]
    network = rows.NAMES[context.backbone]
    return [dataclasses.replace(claim, network=network) for claim in made]


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


def _equilibrium(where: str, at_focus: Source, fcm: Row, both: Row) -> Claim:
    return Claim(
        "modulation brings the encoders' gradient norms to equilibrium",
        "Eq. 35",
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
