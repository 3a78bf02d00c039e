"""Testable claims of the EBMC paper, each with its test."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import itemgetter

import numpy as np
import pandas as pd

from mmlib.experiments import printed
from mmlib.experiments.claims import (
    Claim,
    Claims,
    Source,
    accuracy_of,
    by_metrics,
    of_metric,
    with_validation,
)
from mmlib.experiments.comparison import Averages, has_seven
from mmlib.experiments.conditions import short
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import BestLead, Change, Lead, Mean, Shift, Values
from mmlib.experiments.rows import cells as cells_of
from mmlib.experiments.rows import of_row
from mmlib.papers.ebmc import analyses, figures, frames, rows, tables
from mmlib.papers.ebmc.frames import other_metrics
from mmlib.papers.ebmc.untested import UNTESTED

OURS, PLAIN, MOMKE = (row.name for row in rows.MAIN)
RIVALS = (PLAIN, MOMKE)
AT_NETWORKS_RATE = f"{OURS} at its network's learning rate"
WITHOUT = {part: row.name for part, row in rows.WITHOUT.items()}
STRONG = ("happy", "angry")  # emotions on which the paper says that gains are largest
SINGLE, PAIRS = "one modality", "two modalities"
COMPARED = (
    "Where the paper compares with other networks, we compare with the same network "
    "trained with the task loss alone and with MoMKE, trained for as many epochs. "
    "Weighted F1 unless the test says otherwise."
)


def declared(context: Context) -> list[Claim]:
    """Results data set by data set, those about one data set alone, and those about frames."""
    made = [claim for dataset in rows.vectors(context) for claim in _results(context, dataset)]
    if made:
        made += [*_energy_terms(context), *_weights(context), *_balance(context)]
    if context.main in rows.vectors(context):
        made.append(_at_networks_rate(context))
    return [*made, *frames.claims(context)]


CLAIMS = Claims(declared, rows.POINTS, "momke", (COMPARED,), untested=UNTESTED)


def _results(context: Context, dataset: str) -> list[Claim]:
    conditions = rows.names_of(context, dataset)[:-1]
    scores = dataset in rows.scores(context)
    parts = list(rows.WITHOUT.values())
    averages = {**rows.averages(context, dataset), **_by_count(context, dataset)}
    compared = [*rows.MAIN, *(parts if scores else ())]
    complete = cells_of(context, dataset, compared, rows.whole(context, dataset))
    whole = of_metric(dataset, complete, "weighted_f1", averages, _printed(dataset, "table4"))
    compared = [*rows.MAIN, *(parts if scores else (rows.WITHOUT["emc"],))]
    cells = cells_of(context, dataset, compared, rows.missing(context, dataset))
    missing = of_metric(dataset, cells, "weighted_f1", averages)
    made = _leads(whole, missing, conditions, primary=dataset == context.main)
    if scores:
        made += [*_needed_parts(whole), *_imtd(missing), *_weak_modalities(missing, conditions)]
        made += _other_metrics(context, dataset)
    return [
        *made,
        *_robust(missing, _by_count(context, dataset)),
        *_emotions(context, dataset),
        *_shares(context, dataset),
        Claim(
            "the better balance shows as better accuracy",
            "4.4, Fig 4",
            "EBMC minus w/o EMC, accuracy",
            of_metric(dataset, cells, accuracy_of(context, dataset)),
            Lead(OURS, WITHOUT["emc"], rows.ALL),
        ),
    ]


def _leads(whole: Source, missing: Source, conditions: Sequence[str], primary: bool) -> list[Claim]:
    """The lead over the same network without the method and over MoMKE, with all modalities and with some missing.

    primary: whether those over the same network, with all and on average with some missing, are primary.
    """
    named = {
        **{c: f"under {short(c)}" for c in conditions},
        rows.MEAN_MISSING: "with modalities missing, on average",
    }
    return [
        *(
            Claim(
                "better with all modalities",
                "abstract, 4.1, Tables 1, 2",
                f"EBMC minus {other}",
                whole,
                Lead(OURS, other, rows.ALL),
                primary=primary and other == PLAIN,
            )
            for other in RIVALS
        ),
        *(
            Claim(
                f"better {words}",
                "4.2, Table 3",
                f"EBMC minus {other}",
                missing,
                Lead(OURS, other, setting),
                primary=primary and (other, setting) == (PLAIN, rows.MEAN_MISSING),
            )
            for other in RIVALS
            for setting, words in named.items()
        ),
    ]


def _at_networks_rate(context: Context) -> Claim:
    """The second primary claim where both have one learning rate: how far the choice of the method's own decides."""
    dataset = context.main
    chosen = [rows.OURS.but(name=AT_NETWORKS_RATE, recipe="plain"), rows.PLAIN]
    cells = cells_of(context, dataset, chosen, rows.missing(context, dataset))
    return Claim(
        "(ours) at its network's learning rate: better with modalities missing, on average",
        "4.2, Table 3",
        f"{AT_NETWORKS_RATE} minus {PLAIN}",
        of_metric(dataset, cells, "weighted_f1", rows.averages(context, dataset)),
        Lead(AT_NETWORKS_RATE, PLAIN, rows.MEAN_MISSING),
    )


def _printed(dataset: str, table: str, metric: str = "weighted_f1") -> Values:
    """What a table prints of a metric with all modalities."""
    return printed.values("ebmc", (table,), dataset, metric, with_all)


def with_all(cells: pd.DataFrame) -> pd.Series:
    """Our name of the only setting of a table."""
    return cells["setting"].replace("", rows.ALL)


def _by_count(context: Context, dataset: str) -> dict[str, list[str]]:
    """The test conditions with one modality, and those with two of more."""
    some = rows.names_of(context, dataset)[:-1]
    single = [name for name in some if "+" not in name]
    pairs = [name for name in some if name.count("+") == 1]
    return {SINGLE: single, PAIRS: pairs} if pairs else {}


def _robust(missing: Source, by_count: Averages) -> list[Claim]:
    """Table 3: what is lost where modalities are missing, and where one is left."""
    claim = partial(Claim, where="4.2, Table 3", source=missing)
    made = [
        Claim(
            "less is lost than by other methods where modalities are missing",
            "1, 4.2, Table 3",
            f"lead over {other} with some missing, on average, minus that with all",
            missing,
            Change(Lead(OURS, other, rows.MEAN_MISSING), Lead(OURS, other, rows.ALL)),
        )
        for other in RIVALS
    ]
    if not by_count:
        return made
    return [
        *made,
        *(
            claim(
                "EBMC's gain is largest where one modality is left",
                test=f"lead over {other}, {SINGLE} minus {PAIRS}",
                measure=Change(Lead(OURS, other, SINGLE), Lead(OURS, other, PAIRS)),
            )
            for other in RIVALS
        ),
        *(
            claim(
                "the more modalities there are, the better",
                test=f"EBMC, {more} minus {fewer}",
                measure=Shift(OURS, more, fewer),
            )
            for more, fewer in ((PAIRS, SINGLE), (rows.ALL, PAIRS))
        ),
    ]


def _other_metrics(context: Context, dataset: str) -> list[Claim]:
    """Table 1's other metrics with all modalities."""
    cells = cells_of(context, dataset, rows.MAIN, rows.whole(context, dataset))
    return [
        Claim(
            f"better in {words} with all modalities",
            "4.1, Table 1",
            f"{first} minus {second}, {words}",
            of_metric(dataset, cells, metric),
            Lead(first, second, rows.ALL),
            unit,
        )
        for metric, (words, unit) in other_metrics(context, dataset).items()
        for other in RIVALS
        for first, second in [(other, OURS) if metric == "mae" else (OURS, other)]
    ]


def _emotions(context: Context, dataset: str) -> list[Claim]:
    """Table 2: F1 of each emotion by itself."""
    names = [str(name).lower() for name in context.bundle(dataset).task.names]
    if not set(STRONG) < set(names):
        return []
    metrics = dict(zip(names, tables.of_emotions(context, dataset), strict=True))
    cells = cells_of(context, dataset, rows.MAIN, rows.whole(context, dataset))
    source = by_metrics(dataset, cells, list(metrics.values()))
    claim = partial(Claim, where="4.1, Table 2", source=source)

    def gain(other: str, chosen: Sequence[str]) -> Mean:
        return Mean([Lead(OURS, other, metrics[name]) for name in chosen])

    rest = [name for name in names if name not in STRONG]
    groups = {
        f"better on average over the {len(names)} emotions": names,
        **{f"better on {name} utterances": [name] for name in STRONG},
    }
    gains = [
        claim(text, test=f"EBMC minus {other}, F1", measure=gain(other, chosen))
        for text, chosen in groups.items()
        for other in RIVALS
    ]
    larger = [
        claim(
            "the gains are largest on happy and angry utterances",
            test=f"lead over {other}, mean F1 of happy and angry minus that of {' and '.join(rest)}",
            measure=Change(gain(other, STRONG), gain(other, rest)),
        )
        for other in RIVALS
    ]
    return [*gains, *larger]


def _needed_parts(whole: Source) -> list[Claim]:
    """Table 4: every part is needed, and EMC most."""
    return [
        *(
            Claim(
                f"{part.upper()} is needed",
                "4.3, Table 4",
                f"EBMC minus {row}",
                whole,
                Lead(OURS, row, rows.ALL),
            )
            for part, row in WITHOUT.items()
        ),
        *(
            Claim(
                "removing EMC hurts most",
                "4.3, Table 4",
                f"{WITHOUT[other]} minus {WITHOUT['emc']}",
                whole,
                Lead(WITHOUT[other], WITHOUT["emc"], rows.ALL),
            )
            for other in ("msd", "cce", "imtd")
        ),
    ]


def _imtd(missing: Source) -> list[Claim]:
    """What IMTD adds where modalities are missing, and more than with all of them."""
    gain, whole = (
        Lead(OURS, WITHOUT["imtd"], setting) for setting in (rows.MEAN_MISSING, rows.ALL)
    )
    return [
        Claim(
            "IMTD helps where modalities are missing (though it acts only in training)",
            "3.5, 4.4",
            f"EBMC minus {WITHOUT['imtd']}, missing conditions",
            missing,
            gain,
        ),
        Claim(
            "IMTD helps more where modalities are missing than with all of them",
            "4.3, 4.4",
            "that gain minus the gain with all",
            missing,
            Change(gain, whole),
        ),
    ]


def _weak_modalities(missing: Source, conditions: Sequence[str]) -> list[Claim]:
    """What MSD and CCE add where audio or vision is alone; nothing is claimed of data that have neither."""
    alone = [condition for condition in ("audio", "vision") if condition in conditions]
    return [
        Claim(
            f"{part.upper()} keeps weak single modalities useful",
            "4.2",
            f"EBMC minus {WITHOUT[part]}, {' and '.join(alone)} alone",
            missing,
            Mean([Lead(OURS, WITHOUT[part], condition) for condition in alone]),
        )
        for part in ("msd", "cce")
        if alone
    ]


def _shares(context: Context, dataset: str) -> list[Claim]:
    """What EMC does to text's share of the contributions (Fig 4)."""
    if "text" not in context.bundle(dataset).modalities:
        return []

    def parts(context: Context, cells: Sequence[Cell]) -> dict[str, pd.DataFrame]:
        """Of each row the Shapley values of text and of the other modalities together."""
        of_rows = {}
        for label, row in figures.BALANCED.items():
            of = figures.contributions(context, dataset, of_row(cells, row.name))
            others = of.drop(columns="text").sum(axis=1)
            of_rows[label] = pd.DataFrame({"text": of["text"], "others": others})
        return of_rows

    compared = figures.BALANCED.values()
    cells = [c for row in compared for c in figures.contribution_cells(context, dataset, row)]
    claim = partial(Claim, where="4.4, Fig 4", source=Source(dataset, cells, parts))
    return [
        claim(
            "without EMC text contributes more than half",
            test="text's Shapley value minus half of all, accuracy",
            measure=lambda of: _above_half(of["w/o EMC"]),
        ),
        claim(
            "EMC lowers text's part",
            test="that without EMC minus that with",
            measure=lambda of: _above_half(of["w/o EMC"]) - _above_half(of["with EMC"]),
        ),
        claim(
            "EMC raises the part of the other modalities",
            test="their Shapley values together, accuracy, with EMC minus without",
            measure=lambda of: of["with EMC"]["others"] - of["w/o EMC"]["others"],
        ),
    ]


def _above_half(parts: pd.DataFrame) -> pd.Series:
    """Text's value minus half of all; a share would divide by almost 0."""
    return (parts["text"] - parts["others"]) / 2


def _energy_terms(context: Context) -> list[Claim]:
    (dataset,) = rows.of_weights(context)
    cells = cells_of(context, dataset, rows.ENERGY, rows.whole(context, dataset))
    f1 = of_metric(dataset, cells, "weighted_f1", printed=_printed(dataset, "table7"))
    norm, loss, uncertainty = (row.name for row in rows.ENERGY[:-1])
    return [
        *(
            Claim(
                f"the energy needs its terms: {row}",
                "C.2, Table 7",
                f"EBMC minus {row}",
                f1,
                Lead(OURS, row, rows.ALL),
            )
            for row in (norm, loss, uncertainty)
        ),
        *(
            Claim(
                "of the energy's terms the task loss is needed most",
                "C.2, Table 7",
                f"{other} minus {loss}",
                f1,
                Lead(other, loss, rows.ALL),
            )
            for other in (norm, uncertainty)
        ),
    ]


def _weights(context: Context) -> list[Claim]:
    """The printed weights are the best of the grid, each against the other value that validation picks."""
    (dataset,) = rows.of_weights(context)
    metric = "acc7" if has_seven(context, dataset) else "accuracy"
    measured = with_validation(dataset, figures.weight_cells(context), metric)
    made = []
    for name, tried in rows.weight_rows(context).items():
        named = {value: row.name for value, row in tried}
        own = named.pop(rows.WEIGHTS[name])
        lead = BestLead(own, tuple(named.values()), rows.ALL)
        made.append(
            Claim(
                f"the printed {name} is the best of the grid",
                "C.1, Fig 6",
                f"{metric} at {rows.WEIGHTS[name]:g} minus that at the other value that validation picks",
                measured,
                lead,
                detail=lead.name,
            )
        )
        others = Mean([Lead(own, other, rows.ALL) for other in named.values()])
        made.append(
            Claim(
                f"results change little over the grid of {name} (no difference that matters supports it too)",
                "C.1, Fig 6",
                f"{metric} at {rows.WEIGHTS[name]:g} minus the mean of that at the other values",
                measured,
                others,
            )
        )
    return made


def _balance(context: Context) -> list[Claim]:
    """Weaker modalities have higher energy, and EMC brings energies together."""
    watched = Source(context.main, analyses.balance_cells(context), _energies)
    return [
        Claim(
            "weaker modalities have higher energy",
            "3.4",
            "rank correlation over modalities of energy and own test error, without EMC, at the end",
            watched,
            itemgetter("order"),
            "correlation",
        ),
        Claim(
            "EMC brings the energies together",
            "3.4, B.3",
            "largest minus smallest energy at the end, without EMC minus with",
            watched,
            itemgetter("closer"),
            "units of energy",
        ),
    ]


def _energies(context: Context, cells: Sequence[Cell]) -> dict[str, pd.Series]:
    """By seed: the rank correlation of energies and own errors without EMC, and how much closer EMC has energies."""
    without, order = rows.WITHOUT["emc"], {}
    energy, own = analyses.energies(context, without), analyses.own_accuracy(context, without)
    for seed in energy.keys() & own.keys():
        ranks = [np.argsort(np.argsort(x)) for x in (energy[seed][-1], -own[seed][-1])]
        order[seed] = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    closer = analyses.gaps(context, without) - analyses.gaps(context, rows.OURS)
    return {"order": pd.Series(order, dtype=float), "closer": closer}
