"""Testable claims of the EBMC paper, each with its test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from mmlib.experiments.claims import Claim, Values, minus, table, values
from mmlib.experiments.comparison import data_notes, selected, shown, with_averages
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import Row
from mmlib.experiments.rows import cells as cells_of
from mmlib.papers.ebmc import analyses, figures, frames, rows
from mmlib.report.artifact import Output

NETWORK = "momke"
# From the sentence, where it stands, the test and its values by seed.
MakeClaim = Callable[[str, str, str, pd.Series], Claim]
COMPARED = (
    "Where the paper compares with other networks, we compare with the same network "
    "trained with the task loss alone and with MoMKE, trained for as many epochs. "
    "Weighted F1 unless the test says otherwise."
)


def claim_cells(context: Context) -> list[Cell]:
    """Every run that a claim reads."""
    of_frames = frames.TABLE5.cells(context)
    if not rows.vectors(context):
        return of_frames
    cells = [
        cell
        for dataset in rows.vectors(context)
        for cell in (*_whole(context, dataset), *_missing(context, dataset))
    ]
    return [
        *cells,
        *figures.weight_cells(context),
        *_energies(context),
        *analyses.balance_cells(context),
        *of_frames,
    ]


def claims(context: Context, cells: Sequence[Cell]) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict."""
    made = [claim for dataset in rows.vectors(context) for claim in _results(context, dataset)]
    if rows.vectors(context):
        made += _energy_terms(context) + _weights(context) + _balance(context)
    made += frames.claims(context)
    return table(
        context, made, rows.POINTS, (COMPARED, *data_notes(context, context.datasets)), cells
    )


def _whole(context: Context, dataset: str) -> list[Cell]:
    parts = tuple(rows.WITHOUT.values()) if dataset in rows.scores(context) else ()
    return cells_of(context, dataset, [*rows.MAIN, *parts], rows.whole(context, dataset))


def _missing(context: Context, dataset: str) -> list[Cell]:
    parts = (
        tuple(rows.WITHOUT.values()) if dataset in rows.scores(context) else (rows.WITHOUT["emc"],)
    )
    return cells_of(context, dataset, [*rows.MAIN, *parts], rows.missing(context, dataset))


def _energies(context: Context) -> list[Cell]:
    (dataset,) = rows.of_weights(context)
    return cells_of(context, dataset, rows.ENERGY, rows.whole(context, dataset))


def _values(
    context: Context,
    cells: Sequence[Cell],
    metric: str,
    averages: Mapping[str, Sequence[str]] | None = None,
) -> Values:
    """At the epoch that validation picks; folds averaged."""
    frame = with_averages(
        selected(context, cells, metric), averages or {}, ("row", "seed", "selection", "metric")
    )
    return values(frame)


def _results(context: Context, dataset: str) -> list[Claim]:
    names = rows.names_of(context, dataset)
    whole = _values(context, _whole(context, dataset), "weighted_f1")
    missing = _values(
        context, _missing(context, dataset), "weighted_f1", {rows.MEAN_MISSING: names[:-1]}
    )
    accuracy = _values(context, _missing(context, dataset), "accuracy")

    claim = partial(_claim, shown(context, dataset))
    made = _leads(claim, whole, missing, (*names[:-1], rows.MEAN_MISSING))
    if dataset in rows.scores(context):
        made += [
            *_needed_parts(claim, whole),
            *_imtd(claim, whole, missing),
            *_weak_modalities(claim, missing),
        ]
    made += _shares(context, dataset)
    made.append(
        claim(
            "the better balance shows as better accuracy",
            "4.4, Fig 4",
            "EBMC minus w/o EMC, accuracy",
            minus(accuracy, rows.OURS.name, rows.WITHOUT["emc"].name, rows.ALL),
        )
    )
    return made


def _leads(
    claim: MakeClaim, whole: Values, missing: Values, conditions: Sequence[str]
) -> list[Claim]:
    """The lead over the same network without the method and over MoMKE, with all modalities and with some missing."""
    full = rows.OURS.name
    made = [
        claim(
            "better with all modalities",
            "abstract, 4.1, Tables 1, 2",
            f"EBMC minus {other.name}",
            minus(whole, full, other.name, rows.ALL),
        )
        for other in (rows.PLAIN, rows.MOMKE)
    ]
    made += [
        claim(
            f"better under {_words(setting)}",
            "4.2, Table 3",
            f"EBMC minus {other.name}",
            minus(missing, full, other.name, setting),
        )
        for other in (rows.PLAIN, rows.MOMKE)
        for setting in conditions
    ]
    return made


def _claim(data: str, text: str, where: str, test: str, lead: pd.Series) -> Claim:
    return Claim(text, where, data, NETWORK, test, rows.POINTS, lead.dropna().to_numpy())


def _needed_parts(claim: MakeClaim, whole: Values) -> list[Claim]:
    """Table 4: every part is needed, and EMC most."""
    full, without = rows.OURS.name, {name: row.name for name, row in rows.WITHOUT.items()}
    made = [
        claim(
            f"{name.upper()} is needed",
            "4.3, Table 4",
            f"EBMC minus {row}",
            minus(whole, full, row, rows.ALL),
        )
        for name, row in without.items()
    ]
    made += [
        claim(
            "removing EMC hurts most",
            "4.3, Table 4",
            f"{without[other]} minus {without['emc']}",
            minus(whole, without[other], without["emc"], rows.ALL),
        )
        for other in ("msd", "cce", "imtd")
    ]
    return made


def _imtd(claim: MakeClaim, whole: Values, missing: Values) -> list[Claim]:
    """What IMTD adds where modalities are missing, and more than with all of them."""
    full, without = rows.OURS.name, rows.WITHOUT["imtd"].name
    gain = minus(missing, full, without, rows.MEAN_MISSING)
    return [
        claim(
            "IMTD helps where modalities are missing (though it acts only in training)",
            "3.5, 4.4",
            f"EBMC minus {without}, missing conditions",
            gain,
        ),
        claim(
            "... and more there than with all of them",
            "4.3, 4.4",
            "that gain minus the gain with all",
            gain - minus(missing, full, without, rows.ALL),
        ),
    ]


def _weak_modalities(claim: MakeClaim, missing: Values) -> list[Claim]:
    """What MSD and CCE add where audio or vision is alone."""
    full = rows.OURS.name
    made = []
    for part in ("msd", "cce"):
        without = rows.WITHOUT[part].name
        alone = [setting for setting in ("audio", "vision") if (full, setting) in missing]
        gains = [minus(missing, full, without, setting) for setting in alone]
        lead = pd.Series(dtype=float)
        if gains:
            lead = pd.concat(gains, axis=1).mean(axis=1, skipna=False)
        made.append(
            claim(
                f"{part.upper()} keeps weak single modalities useful",
                "4.2",
                f"EBMC minus {without}, audio and vision alone",
                lead,
            )
        )
    return made


def _shares(context: Context, dataset: str) -> list[Claim]:
    """What EMC does to text's share of the contributions (Fig 4)."""
    name = shown(context, dataset)
    if "text" not in context.bundle(dataset).modalities:
        return []
    above = {}  # text's value minus half of all; a share would divide by almost 0
    for label, row in figures.BALANCED.items():
        shares = _contributions(context, dataset, row)
        above[label] = shares["text"] - shares.sum(axis=1) / 2
    without, balanced = above["w/o EMC"], above["with EMC"]
    return [
        Claim(
            "without EMC text contributes more than half",
            "4.4, Fig 4",
            name,
            NETWORK,
            "text's Shapley value minus half of all, accuracy",
            rows.POINTS,
            without.dropna().to_numpy(),
        ),
        Claim(
            "EMC lowers text's part",
            "4.4, Fig 4",
            name,
            NETWORK,
            "that without EMC minus that with",
            rows.POINTS,
            (without - balanced).dropna().to_numpy(),
        ),
    ]


def _contributions(context: Context, dataset: str, row: Row) -> pd.DataFrame:
    return figures.contributions(
        context, dataset, figures.contribution_cells(context, dataset, row)
    )


def _energy_terms(context: Context) -> list[Claim]:
    (dataset,) = rows.of_weights(context)
    by_place = _values(context, _energies(context), "weighted_f1")
    return [
        Claim(
            f"the energy needs its terms: {row.name}",
            "C.2, Table 7",
            shown(context, dataset),
            NETWORK,
            f"EBMC minus {row.name}",
            rows.POINTS,
            minus(by_place, rows.OURS.name, row.name, rows.ALL).to_numpy(),
        )
        for row in rows.ENERGY[:-1]
    ]


def _weights(context: Context) -> list[Claim]:
    """The printed weights are the best of the grid, each against the mean of its others."""
    (dataset,) = rows.of_weights(context)
    metric = "acc7" if context.bundle(dataset).task.kind == "score" else "accuracy"
    by_place = _values(context, figures.weight_cells(context), metric)
    made = []
    for name, tried in rows.weight_rows(context).items():
        own = next(row.name for value, row in tried if value == rows.WEIGHTS[name])
        others = [minus(by_place, own, row.name, rows.ALL) for _, row in tried if row.name != own]
        lead = pd.concat(others, axis=1).mean(axis=1, skipna=False).dropna()
        made.append(
            Claim(
                f"the printed {name} is the best of the grid",
                "C.1, Fig 6",
                shown(context, dataset),
                NETWORK,
                f"{metric} at {rows.WEIGHTS[name]:g} minus the mean of the other values",
                rows.POINTS,
                lead.to_numpy(),
            )
        )
    return made


def _balance(context: Context) -> list[Claim]:
    """Weaker modalities have higher energy, and EMC brings energies together."""
    name, unit = shown(context, context.main), "units of energy"
    order = []
    energy, own = (
        f(context, rows.WITHOUT["emc"]) for f in (analyses.energies, analyses.own_accuracy)
    )
    for seed in energy.keys() & own.keys():
        ranks = [np.argsort(np.argsort(x)) for x in (energy[seed][-1], -own[seed][-1])]
        order.append(float(np.corrcoef(ranks[0], ranks[1])[0, 1]))
    apart = analyses.gaps(context, rows.WITHOUT["emc"]) - analyses.gaps(context, rows.OURS)
    return [
        Claim(
            "weaker modalities have higher energy",
            "3.4",
            name,
            NETWORK,
            "rank correlation over modalities of energy and own test error, without EMC, at the end",
            "correlation",
            np.array(order),
        ),
        Claim(
            "EMC brings the energies together",
            "3.4, B.3",
            name,
            NETWORK,
            "largest minus smallest energy at the end, without EMC minus with",
            unit,
            apart.dropna().to_numpy(),
        ),
    ]


def _words(setting: str) -> str:
    letters = {"audio": "a", "text": "t", "vision": "v"}
    return (
        setting
        if setting == rows.MEAN_MISSING
        else "{" + ", ".join(letters.get(m, m) for m in setting.split("+")) + "}"
    )
