"""The testable claims of the paper, each with its test and the measured value.

Every test is a paired difference, or a correlation, with one value per seed; its sign is chosen so that above 0
supports the sentence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from mmlib.experiments import printed
from mmlib.experiments.claims import Claim, Claims, Source, of_metric
from mmlib.experiments.comparison import Averages
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import Change, Lead, Mean, Shift, Values, at
from mmlib.experiments.rows import Row, fits
from mmlib.papers.balm import figures, rows, training
from mmlib.papers.balm.tables import notes_on_data
from mmlib.papers.balm.untested import UNTESTED
from mmlib.report import stats

METRIC = "weighted_f1"
WITH_SETTINGS = tuple(
    f"table{n}" for n in (1, 2, 4, 11, 12, 13, 14, 15)
)  # printed, by missing rates
HALVES = {"d": "distribution", "s": "spatial"}  # of the gradient rebalancing, as variants


def declared(context: Context) -> list[Claim]:
    """Claims about weighted F1 by where they stand, then those about what happens along training."""
    results = sorted(_results(context), key=lambda claim: (claim.where, claim.text))
    return [*results, *training.claims(context)]


CLAIMS = Claims(declared, "points of weighted F1", "", data_notes=notes_on_data, untested=UNTESTED)


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
            *_rivals(context, dataset),
        ]
    return [*made, *_on_main(context)]


def _on_main(context: Context) -> list[Claim]:
    """Claims about the main data set: all backbones, the parts, single modalities, combinations, tau and rho."""
    return [
        *_whole_method(context),
        *_stronger_backbones(context),
        *_by_missing_most(context),
        *_audio_beside_text(context),
        *_shared_says_little(context),
        *_combinations(context),
        *(_tau_and_rho(context) if rows.of_three(context) else []),
    ]


def _whole_method(context: Context) -> list[Claim]:
    """The method over all backbones, and what its gradients' part adds to its features' part."""
    dataset, every = context.main, rows.kept(context, rows.SETTINGS)
    backbones = rows.backbones(context, dataset)
    parts = [_ahead(context, dataset, b, rows.plain(b), every) for b in backbones]
    source = _f1(dataset, [cell for of, _ in parts for cell in of.cells])
    wanted, fcm = training.settings(context, dataset), rows.fcm(context.backbone)
    both, lead = _ahead(context, dataset, context.backbone, fcm, wanted)
    over = Claim(
        "BALM improves the backbones under imbalanced missing rates",
        "4.2, Tables 1, 2",
        f"+BALM minus plain, mean of {len(backbones)} backbones, {rows.mean_of_settings(context)}",
        source,
        Mean([each for _, mean in parts for each in mean.leads]),
        network=", ".join(rows.NAMES[b] for b in backbones),
        primary=True,
        costly=True,
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
    network = rows.NAMES[context.backbone]
    pair = [rows.balm(context.backbone), rows.plain(context.backbone)]
    source = _f1(dataset, rows.of_rows(context, dataset, pair, rows.at_shared))
    ours, bare = (row.name for row in pair)
    claim = partial(Claim, source=source, network=network)
    lead = claim(
        "BALM improves its backbone under shared missing rates",
        "4.2, Fig 4, Tables 11, 12",
        f"+BALM minus plain, mean of the shared rates {', '.join(rates)}",
        measure=Mean([Lead(ours, bare, rate) for rate in rates]),
    )
    if len(rates) < 2:
        return [lead]
    steps = 10 * (context.profile.shared_rates[-1] - context.profile.shared_rates[0])

    def cost(f1: Values) -> pd.Series:
        """Points lost for each tenth."""
        return (at(f1, ours, rates[0]) - at(f1, ours, rates[-1])).dropna() / steps

    return [
        lead,
        claim(
            "with BALM no more than 2 points are lost for each tenth that is missing",
            "F.3",
            f"2 minus the loss of +BALM for each tenth, from {rates[0]} to {rates[-1]}",
            measure=lambda f1: 2 - cost(f1),
        ),
        claim(
            "with BALM less is lost as more is missing of all modalities",
            "F.3, Tables 11, 12",
            f"lead of +BALM over plain at the shared rate {rates[-1]} minus that at {rates[0]}",
            measure=Change(Lead(ours, bare, rates[-1]), Lead(ours, bare, rates[0])),
        ),
    ]


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
            "4.3, Table 4",
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
            "4.3, F.2, Tables 3, 10",
            f"+FCM minus plain, mean of {len(leads)} subsets of complete data",
            of_metric(
                dataset, cells, METRIC, printed=_printed(dataset, ("table10",), by_condition)
            ),
            Mean(leads),
            network=rows.NAMES[context.backbone],
        )
    ]


def _rivals(context: Context, dataset: str) -> list[Claim]:
    """Tables 1 and 2: against the one method for missing modalities that is run as published."""
    every, network = rows.kept(context, rows.SETTINGS), rows.NAMES[context.backbone]
    ours, other = rows.balm(context.backbone), rows.momke(context, dataset)
    if not fits(context, dataset, other):
        return []
    source, lead = _ahead(context, dataset, context.backbone, other, every)
    return [
        Claim(
            "a backbone with BALM is ahead of the methods made for missing modalities",
            "4.2, Tables 1, 2",
            f"{ours.name} minus {other.name}, {rows.mean_of_settings(context)}",
            source,
            lead,
            network=network,
        )
    ]


def _stronger_backbones(context: Context) -> list[Claim]:
    """Tables 1 and 2: the two backbones of plain emotion recognition with BALM, against GCNet with it."""
    dataset, every = context.main, rows.kept(context, rows.SETTINGS)
    known = rows.backbones(context, dataset)
    weaker = rows.balm("gcnet")
    return [
        Claim(
            "with BALM the backbones of plain emotion recognition are ahead of GCNet",
            "4.2, Tables 1, 2",
            f"{rows.balm(backbone).name} minus {weaker.name}, {rows.mean_of_settings(context)}",
            *_ahead(context, dataset, backbone, weaker, every),
            network=rows.NAMES[backbone],
        )
        for backbone in known
        if "gcnet" in known and backbone != "gcnet"
    ]


def _by_missing_most(context: Context) -> list[Claim]:
    """Section 4.2: the settings in which a modality is missing most against the others."""
    dataset, every = context.main, rows.kept(context, rows.SETTINGS)
    if context.given_rates or not rows.of_three(context):
        return []
    pair = [rows.balm(context.backbone), rows.plain(context.backbone)]
    cells = rows.of_rows(context, dataset, pair, rows.in_settings(every))
    claim = partial(Claim, where="4.2, Tables 1, 2", network=rows.NAMES[context.backbone])
    made = []
    for modality, text, sign in (
        ("text", "missing text costs most", -1),
        ("vision", "missing vision costs least", 1),
    ):
        groups = _groups(context, every, modality)
        if not all(groups.values()):
            continue
        most, rest = groups
        source = _f1(dataset, cells, groups)
        first, second = (most, rest)[::sign]
        made += [
            claim(
                text,
                test=f"{row.name}: mean of the settings with {first} minus those with {second}",
                source=source,
                measure=Shift(row.name, first, second),
            )
            for row in pair
        ]
        if modality == "text":
            ours, bare = (row.name for row in pair)
            made.append(
                claim(
                    "BALM gains most where text is missing most",
                    test=f"lead of +BALM over plain, settings with {most} minus those with {rest}",
                    source=source,
                    measure=Change(Lead(ours, bare, most), Lead(ours, bare, rest)),
                )
            )
    return made


def _groups(context: Context, every: Sequence[rows.Rates], modality: str) -> dict[str, list[str]]:
    """The settings in which a modality is missing most, and those in which another one is."""
    groups: dict[str, list[str]] = {f"{modality} missing most": [], "another missing most": []}
    most, rest = groups.values()
    for rates in every:
        given = dict(context.rates(context.main, rates).rates)
        group = most if max(given, key=lambda name: given[name]) == modality else rest
        group.append(rows.setting_of(context, rates))
    return groups


def _audio_beside_text(context: Context) -> list[Claim]:
    """Section 4.2: where text is missing most, audio missing rather than vision."""
    pair: tuple[rows.Rates, ...] = ((0.3, 0.7, 0.5), rows.FOCUS)
    if rows.by_name(context) or not set(pair) <= set(rows.kept(context, rows.SETTINGS)):
        return []
    compared = [rows.balm(context.backbone), rows.plain(context.backbone)]
    source = _f1(
        context.main, rows.of_rows(context, context.main, compared, rows.in_settings(pair))
    )
    less, more = (rows.setting_of(context, rates) for rates in pair)
    return [
        Claim(
            "with text missing most, missing audio costs more than missing vision",
            "4.2, Tables 1, 2",
            f"{row.name}: at {less} minus at {more}",
            source,
            Shift(row.name, less, more),
            network=rows.NAMES[context.backbone],
        )
        for row in compared
    ]


def _shared_says_little(context: Context) -> list[Claim]:
    """Fig 2: one shared rate against imbalanced ones of the same mean."""
    every = rows.kept(context, rows.SETTINGS)
    groups = _groups(context, every, "text")
    most = next(iter(groups))
    if rows.by_name(context) or not groups[most]:
        return []
    half = rows.setting_of(context, figures.HALF)
    cells = figures.shared_cells(context)
    source = of_metric(context.main, cells, "accuracy", groups)
    return [
        Claim(
            "a shared rate hides what imbalanced rates of the same mean cost",
            "1, F.7, Fig 2",
            f"plain, accuracy: at the shared rate 0.5 minus the mean of the settings with {most}",
            source,
            Shift(rows.NAMES[backbone], half, most),
            network=rows.NAMES[backbone],
        )
        for backbone in context.backbones
    ]


def _combinations(context: Context) -> list[Claim]:
    """Table 9, Fig 6: trained and tested with some modalities of the classes' data set alone."""
    if "iemocap" not in context.datasets:
        return []
    pair = [rows.balm(context.backbone), rows.plain(context.backbone)]
    cells = rows.of_rows(context, "iemocap", pair, rows.at_combinations)
    source = of_metric("iemocap", cells, METRIC, printed=_printed("iemocap", ("table9",), joined))
    named = rows.groups(context, "iemocap")
    several = [name for name, group in named if len(group) > 1]
    claim = partial(Claim, source=source, network=rows.NAMES[context.backbone])
    ours, bare = (row.name for row in pair)
    made = [
        claim(
            "BALM improves its backbone on combinations of modalities",
            "4.3, F.2, Fig 6, Tables 8, 9",
            f"+BALM minus plain, mean of {len(several)} combinations of two or more and of the settings of Table 9",
            measure=_at_combinations(context, ours, bare, several),
        )
    ]
    alone = [name for name, group in named if len(group) == 1]
    if set(alone) != {"A", "V", "L"}:
        return made
    return [
        *made,
        claim(
            "vision alone is where BALM costs a little",
            "4.3, Fig 6",
            "plain minus +BALM (with one modality FCM alone), vision alone, mean of the settings of Table 9",
            measure=_at_combinations(context, bare, ours, ["V"]),
        ),
        claim(
            "the largest gains are those of audio alone and of text alone",
            "4.3, Fig 6",
            "lead of +BALM (with one modality FCM alone) over plain: audio and text alone minus the other combinations",
            measure=Change(
                _at_combinations(context, ours, bare, ["A", "L"]),
                _at_combinations(context, ours, bare, ["V", *several]),
            ),
        ),
    ]


def _at_combinations(context: Context, first: str, second: str, names: Sequence[str]) -> Mean:
    """A lead on some combinations, over the settings of Table 9."""
    return Mean(
        [
            Lead(first, second, f"{rows.setting_of(context, rates)} {name}")
            for rates in rows.combined(context)
            for name in names
        ]
    )


def _tau_and_rho(context: Context) -> list[Claim]:
    """Table 7, Fig 7: flat where vision is missing most (configuration A), less so where text is (B)."""
    grids = {
        name: [
            dataclasses.replace(cell, setting=f"{name} {cell.setting}")
            for cell in rows.tuned(context, rates)
        ]
        for name, rates in rows.configurations(context).items()
    }
    settings = {name: list(dict.fromkeys(c.setting for c in of)) for name, of in grids.items()}
    cells = [cell for of in grids.values() for cell in of]
    grid = list(settings.items())
    (first, flat), (last, steep) = grid[0], grid[-1]
    own = f"{first} tau={{1:g}} rho={{0:g}}".format(*(v for _, v in sorted(rows.TAU_RHO)))
    highest = f"rho={max(context.profile.rhos):g}"
    groups = {
        "others": [s for s in flat if s != own],
        "highest": [s for s in steep if s.endswith(highest)],
        "lower": [s for s in steep if not s.endswith(highest)],
    }
    source = _f1(context.main, cells, groups, _printed("iemocap", ("table7",), of_grid))
    network, row = rows.NAMES[context.backbone], rows.balm(context.backbone).name
    claim = partial(Claim, where="4.3, F.1, Fig 7, Table 7", source=source, network=network)
    of_first = claim(
        "tau and rho matter little where vision is missing most (no difference that matters supports it too)",
        test=f"configuration {own} minus the mean of its grid's other values",
        measure=Shift(row, own, "others"),
    )
    spread = claim(
        "tau and rho matter more where text is missing most",
        test=f"spread (sd) over the grid of tau and rho, configuration {last} minus configuration {first}",
        measure=lambda f1: _spread(f1, row, steep) - _spread(f1, row, flat),
    )
    of_last = claim(
        "where text is missing most, the highest rho is worse",
        test=f"configuration {last}: mean of the lower rho minus that of {highest}",
        measure=Shift(row, "lower", "highest"),
    )
    known = [of_first] if own in flat and groups["others"] else []
    if first == last:
        return known
    return [*known, spread, of_last] if groups["lower"] else [*known, spread]


def _spread(f1: Values, row: str, settings: Sequence[str]) -> pd.Series:
    """By seed: the standard deviation over some settings, of the seeds that all have."""
    each = pd.concat([at(f1, row, setting) for setting in settings], axis=1)
    return each.std(axis=1, skipna=False)


def _f1(
    dataset: str,
    cells: Sequence[Cell],
    averages: Averages | None = None,
    known: Values | None = None,
) -> Source:
    """Weighted F1 of cells, beside what the paper prints of the same rows and settings."""
    if known is None:
        known = _printed(dataset, WITH_SETTINGS, printed.as_printed)
    return of_metric(dataset, cells, METRIC, averages, known)


def _printed(dataset: str, tables: tuple[str, ...], named: printed.Named) -> Values:
    """What some of the paper's tables print of weighted F1."""
    return printed.values("balm", tables, dataset, METRIC, named)


def by_condition(cells: pd.DataFrame) -> pd.Series:
    """Our names of Table 10's settings: its combinations of modalities."""
    return cells["condition"].mask(cells["condition"] == "average")


def joined(cells: pd.DataFrame) -> pd.Series:
    """Our names of Table 9's settings: rates and combination."""
    return (cells["setting"] + " " + cells["condition"]).mask(cells["setting"] == "average")


def of_grid(cells: pd.DataFrame) -> pd.Series:
    """Our names of Table 7's settings: configuration, tau and rho."""
    configuration = {rows.label(rates): name for name, rates in rows.CONFIGURATIONS.items()}
    numbers = cells["condition"].str.replace(r"\.0\b", "", regex=True)
    return cells["setting"].map(configuration) + " " + numbers


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
    wanted = training.settings(context, dataset)
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
    return _f1(dataset, cells), Mean(leads)
