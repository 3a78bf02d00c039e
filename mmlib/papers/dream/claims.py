"""Testable claims of the DREAM paper, each with its test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from mmlib.data.catalog import is_twin
from mmlib.experiments import printed
from mmlib.experiments.claims import Claim, Claims, Source, values
from mmlib.experiments.comparison import Averages, with_averages
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import Change, Lead, Shift, Values, Weighted
from mmlib.experiments.rows import cells as cells_of
from mmlib.experiments.rows import on
from mmlib.papers.dream import figures, rows, tables
from mmlib.papers.dream.rows import OURS
from mmlib.papers.dream.untested import UNTESTED
from mmlib.runs.clusters import MEAN_F1

POINTS = "points of F1"
AT_NETWORKS_RATE = f"{OURS} at its network's learning rate"
SEVERE = 0.5  # "when the missing ratio exceeds 0.5"
COMPARED = (
    "Where the paper compares with other networks, we compare with the same network "
    "trained with the task loss alone and with P by itself. F1 as in Table 1."
)
TARGETS = {
    "missing or useless": "missing, or useless to the best decision",
    "useless if there": "useless, of those that are there",
}


def declared(context: Context) -> list[Claim]:
    """Table 1 and Fig 3 data set by data set, then Figs 4 and 5 and what the text says of P and of PSS."""
    made = []
    for dataset in context.datasets:
        made += [*_inter(context, dataset), *_intra(context, dataset)]
    made += _parts(context)
    for dataset in rows.compared(context):
        made += _references(context, dataset)
    made += [*_left_out(context), *_needs(context), *_signal(context)]
    return [*made, _at_networks_rate(context)]


CLAIMS = Claims(declared, POINTS, "dream", (COMPARED,), untested=UNTESTED)


def _f1(
    context: Context, dataset: str, cells: Sequence[Cell], averages: Averages | None = None
) -> Source:
    """F1 of each row and setting, and of means of some settings, under their names."""

    def read(context: Context, cells: Sequence[Cell]) -> Values:
        frame = tables.measured(context, cells)
        return values(with_averages(frame, averages or {}, ("row", "seed", "metric")))

    binaries = context.bundle(dataset).task.kind == "binaries"
    metric = MEAN_F1 if binaries else tables.main_metric(context, dataset)
    known = printed.values("dream", ("table1",), dataset, tables.main_metric(context, dataset))
    return Source(dataset, cells, read, metric, averages or {}, known)


def _inter(context: Context, dataset: str) -> list[Claim]:
    """Table 1: which modalities are missing."""
    missing, weak = rows.names_of(context, dataset)[:-1], rows.weak(context, dataset)
    cells = tables.OWN.cells_of(context, dataset)
    f1 = _f1(context, dataset, cells, {rows.AVERAGE: missing, "weak": weak})
    words = {
        rows.AVERAGE: "better with modalities missing, on average",
        rows.ALL: f"better with {rows.ALL}",
        **{name: f"consistently better under inter-modal missingness: {name}" for name in missing},
    }
    primary = rows.PLAIN, rows.AVERAGE
    leads = [
        Claim(
            text,
            "4.2, Table 1",
            f"DREAM minus {other}",
            f1,
            Lead(OURS, other, setting),
            primary=dataset == context.main and (other, setting) == primary,
        )
        for other in rows.RIVALS
        for setting, text in words.items()
    ]
    where_weak = [
        Claim(
            "strong where only low-contribution modalities are there",
            "4.2 Q2, Table 1",
            f"DREAM minus {other}, mean of {', '.join(weak)}",
            f1,
            Lead(OURS, other, "weak"),
        )
        for other in rows.RIVALS
        if weak != missing
    ]
    return [*leads, *where_weak, *(_language(f1, weak) if "text" in missing else ())]


def _at_networks_rate(context: Context) -> Claim:
    """The first primary claim where both have one learning rate: how far the choice of the method's own decides."""
    dataset = context.main
    missing = rows.names_of(context, dataset)[:-1]
    ours = rows.main_rows(context, dataset)[0].but(name=AT_NETWORKS_RATE, recipe="reference")
    cells = cells_of(context, dataset, [ours, rows.plain()], rows.dropped(context, dataset))
    f1 = _f1(context, dataset, cells, {rows.AVERAGE: missing})
    return Claim(
        "(ours) at its network's learning rate: better with modalities missing, on average",
        "4.2, Table 1",
        f"{AT_NETWORKS_RATE} minus {rows.PLAIN}",
        f1,
        Lead(AT_NETWORKS_RATE, rows.PLAIN, rows.AVERAGE),
    )


def _language(f1: Source, weak: Sequence[str]) -> list[Claim]:
    """Text by itself against each other modality by itself, of every row."""
    return [
        Claim(
            "all models are substantially better on language than on another modality alone",
            "4.2 Q2",
            f"{row}: text minus {other}",
            f1,
            Shift(row, "text", other),
        )
        for row in (OURS, *rows.RIVALS)
        for other in weak
        if "+" not in other
    ]


def slope(context: Context) -> dict[str, float]:
    """By level the weight of F1 in its least-squares slope over the ratio of what is lost, points for each tenth."""
    levels = np.array(rows.levels(context))
    centred = levels - levels.mean()
    weights = centred / (centred @ centred) / 10
    return {rows.percent(level): float(w) for level, w in zip(levels, weights, strict=True)}


def _intra(context: Context, dataset: str) -> list[Claim]:
    """Fig 3: how much is lost of every modality."""
    severe = [rows.percent(level) for level in rows.levels(context) if level > SEVERE]
    f1 = _f1(context, dataset, rows.lossy(context, dataset), {"severe": severe})
    best = [
        Claim(
            "the best above a missing ratio of 0.5",
            "4.2 Q1, Fig 3",
            f"DREAM minus {other}, mean of {', '.join(severe)}",
            f1,
            Lead(OURS, other, "severe"),
        )
        for other in rows.RIVALS
    ]
    return [_kept(context, dataset, f1), *_declines(context, dataset, f1), *best]


def _kept(context: Context, dataset: str, f1: Source) -> Claim:
    """What is lost from nothing missing to the most."""
    levels = rows.levels(context)
    none, most = rows.percent(levels[0]), rows.percent(levels[-1])
    return Claim(
        "the smallest loss where most is missing",
        "4.2 Q1, Fig 3",
        f"DREAM's loss from {none} to {most} minus that of {rows.PLAIN}, as a gain",
        f1,
        Change(Lead(OURS, rows.PLAIN, most), Lead(OURS, rows.PLAIN, none)),
        primary=dataset == context.main,
    )


def _declines(context: Context, dataset: str, f1: Source) -> list[Claim]:
    """Slopes over what is lost: all fall, DREAM's the least."""
    weights = slope(context)
    none = rows.percent(rows.levels(context)[0])

    def flatter(other: str) -> Weighted:
        """DREAM's slope minus that of another row."""
        return Weighted([(w, Lead(OURS, other, level)) for level, w in weights.items()])

    def decline(row: str) -> Weighted:
        """Minus the slope of a row; the weights sum to 0."""
        return Weighted([(-w, Shift(row, level, none)) for level, w in weights.items()])

    what, unit = figures.lost(context, dataset), f"{POINTS} for each tenth lost"
    claim = partial(Claim, where="4.2 Q1, Fig 3", source=f1, unit=unit)
    steep = [
        claim(
            "the slowest degradation",
            test=f"slope of DREAM minus that of {other}, {what}",
            measure=flatter(other),
        )
        for other in rows.RIVALS
    ]
    every = [
        claim(
            "every model declines as more is missing",
            test=f"minus the slope of {row}, {what}",
            measure=decline(row),
        )
        for row in (OURS, *rows.RIVALS)
    ]
    return [*steep, *every]


def _shares(context: Context) -> list[str]:
    """The settings of Figs 4 and 5."""
    return [rows.percent(level) for level in rows.levels(context)[1:]]


def _parts(context: Context) -> list[Claim]:
    """Fig 4: both parts are needed, at every share."""
    shares = _shares(context)
    f1 = _f1(
        context, rows.ablated(context), figures.ablation_cells(context), {rows.AVERAGE: shares}
    )
    tests = [(rows.AVERAGE, "better", "mean of all shares")]
    tests += [(share, "consistently better", share) for share in shares]
    return [
        Claim(
            f"{sentence} than {row}",
            "4.2 Q3, Fig 4",
            f"DREAM minus {row}, {of}",
            f1,
            Lead(OURS, row, setting),
        )
        for row in rows.ABLATED
        for setting, sentence, of in tests
    ]


def _references(context: Context, dataset: str) -> list[Claim]:
    """Fig 5: a better P is better, and a poor one does no harm."""
    every = [*rows.reference_rows(context, dataset), rows.plain()]
    cells = rows.mixtures(context, dataset, every)
    f1 = _f1(context, dataset, cells, {rows.AVERAGE: _shares(context)})
    best, full, poor = rows.SELFMM, rows.CORRKD, (rows.POOR, rows.MLP)
    harmless = "a poor P costs little: {} (no difference that matters supports it too)"
    useful = "even with a poor P better than without any: {}"
    tests = [(f"Self-MM is the best P: better than {p}", best, p) for p in (full, *poor)]
    tests += [(harmless.format(p), p, full) for p in poor]
    tests += [(useful.format(p), p, rows.PLAIN) for p in poor]
    return [
        Claim(
            text,
            "4.2 Q4, Fig 5",
            f"DREAM with {first} minus {'' if second == rows.PLAIN else 'with '}{second}",
            f1,
            Lead(first, second, rows.AVERAGE),
        )
        for text, first, second in tests
    ]


def _left_out(context: Context) -> list[Claim]:
    """What enhancing and distilling add, at the share of samples at which readings are compared."""
    dataset, share = rows.ablated(context), rows.percent(rows.DEPARTING)
    of_name = {row.name: row for row in rows.readings(context, dataset)}
    texts = {
        "no enhancement": ("enhancing missing or weak modalities helps", "abstract, 3.4"),
        "no distillation": (
            "distilling the modalities' contributions into the weights helps",
            "abstract, 3.5",
        ),
    }
    chosen = [of_name[name] for name in (OURS, *texts)]
    f1 = _f1(context, dataset, cells_of(context, dataset, chosen, rows.departing(context, dataset)))
    return [
        Claim(text, where, f"DREAM minus {name}, {share} affected", f1, Lead(OURS, name, share))
        for name, (text, where) in texts.items()
    ]


def _needs(context: Context) -> list[Claim]:
    """Complete data are not needed: P learns as well from what is there (B15)."""
    dataset, share = rows.ablated(context), rows.percent(rows.DEPARTING)
    both = [rows.main_rows(context, dataset)[0], rows.knowing(context, dataset)]
    return [
        Claim(
            "no complete data are needed (no difference that matters supports it too)",
            "abstract, 1",
            f"DREAM minus {rows.KNOWING}, {share} affected",
            _f1(
                context, dataset, cells_of(context, dataset, both, rows.departing(context, dataset))
            ),
            Lead(OURS, rows.KNOWING, share),
        )
    ]


def _signal(context: Context) -> list[Claim]:
    """PSS = 0 tells what to enhance; on twins the truth is known."""
    if not all(is_twin(context.reference(dataset)) for dataset in context.datasets):
        return []
    cells = tables.looked_cells(context)
    sources = [Source(d, on(cells, d), _detected) for d in context.datasets]
    return [
        Claim(
            f"PSS = 0 is a reliable signal: {words}",
            "3.4",
            "share of targets among modalities with PSS = 0 minus that among all",
            source,
            _precision(target),
            "points of precision",
        )
        for source in sources
        for target, words in TARGETS.items()
    ]


def _detected(context: Context, cells: Sequence[Cell]) -> pd.DataFrame:
    from mmlib.papers.dream import analyses

    return analyses.detected(analyses.looked(context, cells, rows.DROPPING, rows.DROPPING))


def _precision(target: str) -> Callable[[pd.DataFrame], pd.Series]:
    """By seed: above how many of all are targets."""

    def above_base(detected: pd.DataFrame) -> pd.Series:
        mine = detected[detected["target"] == target].set_index("seed")
        return mine["precision"] - mine["base rate"]

    return above_base
