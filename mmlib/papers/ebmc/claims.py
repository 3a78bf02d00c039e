"""Testable claims of the EBMC paper, each with its test."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np
import pandas as pd

from mmlib.experiments.claims import Claim, Claims, Source, accuracy_of, of_metric, with_validation
from mmlib.experiments.comparison import has_seven
from mmlib.experiments.conditions import short
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import BestLead, Lead, Mean
from mmlib.experiments.rows import cells as cells_of
from mmlib.experiments.rows import of_row
from mmlib.papers.ebmc import analyses, figures, frames, rows

OURS, PLAIN, MOMKE = (row.name for row in rows.MAIN)
RIVALS = (PLAIN, MOMKE)
WITHOUT = {part: row.name for part, row in rows.WITHOUT.items()}
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
    return [*made, *frames.claims(context)]


CLAIMS = Claims(declared, rows.POINTS, "momke", (COMPARED,))


def _results(context: Context, dataset: str) -> list[Claim]:
    conditions = rows.names_of(context, dataset)[:-1]
    scores = dataset in rows.scores(context)
    parts = list(rows.WITHOUT.values())
    averages = rows.averages(context, dataset)
    compared = [*rows.MAIN, *(parts if scores else ())]
    complete = cells_of(context, dataset, compared, rows.whole(context, dataset))
    whole = of_metric(dataset, complete, "weighted_f1", averages)
    compared = [*rows.MAIN, *(parts if scores else (rows.WITHOUT["emc"],))]
    cells = cells_of(context, dataset, compared, rows.missing(context, dataset))
    missing = of_metric(dataset, cells, "weighted_f1", averages)
    made = _leads(whole, missing, conditions, primary=dataset == context.main)
    if scores:
        made += [*_needed_parts(whole), *_imtd(missing), *_weak_modalities(missing, conditions)]
    return [
        *made,
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
    named = {**{c: short(c) for c in conditions}, rows.MEAN_MISSING: rows.MEAN_MISSING}
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
                f"better under {words}",
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
            "... and more there than with all of them",
            "4.3, 4.4",
            "that gain minus the gain with all",
            missing,
            lambda f1: gain(f1) - whole(f1),
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

    def above_half(context: Context, cells: Sequence[Cell]) -> dict[str, pd.Series]:
        """Text's value minus half of all; a share would divide by almost 0."""
        above = {}
        for label, row in figures.BALANCED.items():
            mine = of_row(cells, row.name)
            shares = figures.contributions(context, dataset, mine)
            above[label] = shares["text"] - shares.sum(axis=1) / 2
        return above

    compared = figures.BALANCED.values()
    cells = [c for row in compared for c in figures.contribution_cells(context, dataset, row)]
    text = Source(dataset, cells, above_half)
    return [
        Claim(
            "without EMC text contributes more than half",
            "4.4, Fig 4",
            "text's Shapley value minus half of all, accuracy",
            text,
            lambda above: above["w/o EMC"],
        ),
        Claim(
            "EMC lowers text's part",
            "4.4, Fig 4",
            "that without EMC minus that with",
            text,
            lambda above: above["w/o EMC"] - above["with EMC"],
        ),
    ]


def _energy_terms(context: Context) -> list[Claim]:
    (dataset,) = rows.of_weights(context)
    cells = cells_of(context, dataset, rows.ENERGY, rows.whole(context, dataset))
    f1 = of_metric(dataset, cells, "weighted_f1")
    return [
        Claim(
            f"the energy needs its terms: {row.name}",
            "C.2, Table 7",
            f"EBMC minus {row.name}",
            f1,
            Lead(OURS, row.name, rows.ALL),
        )
        for row in rows.ENERGY[:-1]
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
