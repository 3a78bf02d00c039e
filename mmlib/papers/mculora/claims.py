"""Testable claims of the MCULoRA paper, each with its test."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from mmlib.experiments import printed
from mmlib.experiments.claims import Claim, Claims, Source, accuracy_of, of_metric
from mmlib.experiments.comparison import data_notes
from mmlib.experiments.conditions import short
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import Change, Lead, Mean
from mmlib.experiments.rows import Row, by_seed, runs_of
from mmlib.papers.mculora import analyses, rows
from mmlib.papers.mculora.figures import curves
from mmlib.papers.mculora.untested import UNTESTED
from mmlib.runs.store import Record

POINTS = "points of accuracy"
FULL, MOMKE, JOINT = rows.OURS.name, rows.MOMKE.name, rows.JOINT.name
AT_NETWORKS_RATE = f"{FULL} at its network's learning rate"
WEAK = ("audio", "vision")  # modalities that the paper calls weak
PRINTED = ("table1", "table2")  # with accuracies by condition
MATTERS = 10.0  # percent of pairs: fewer in conflict are not worth a method; ours, the paper gives no number
WITHOUT = {"MCLA": rows.WITHOUT_MCLA.name, "DPFT": rows.WITHOUT_DPFT.name}
PARTS = {"MCLA": "adapters of each combination", "DPFT": "shares of training that adapt"}
COMPARED = tuple(dict.fromkeys((*rows.MAIN, *rows.ABLATION)))
OTHERS = (
    "Where the paper compares with other networks, we compare with MoMKE and with "
    "joint training of the same network, each trained by its own recipe (docs/recipes.md)."
)


def declared(context: Context) -> list[Claim]:
    """Data set by data set, then those about the main one alone."""
    own = rows.own_data_sets(context)
    results = [claim for dataset in own for claim in _results(context, dataset)]
    return [
        *results,
        *_rank(context),
        *_alone(context),
        _at_networks_rate(context),
        _of_rate(context),
        *_leak(context),
        *_conflict(context),
        _redundancy(context),
    ]


def _notes(context: Context, datasets: Sequence[str]) -> tuple[str, ...]:
    """What is said of the data of the claims."""
    return data_notes(context, rows.own_data_sets(context))


CLAIMS = Claims(declared, POINTS, "crossmodal", (OTHERS,), _notes, UNTESTED)


def _accuracies(
    context: Context, dataset: str, chosen: Sequence[Row], grid: bool = False
) -> Source:
    """Accuracy of some rows by condition, both averages too."""
    cells = rows.cells(context, dataset, chosen, grid)
    metric, averages = accuracy_of(context, dataset), rows.averages(context, dataset)
    known = printed.values("mculora", PRINTED, dataset, "accuracy", of_conditions)
    return of_metric(dataset, cells, metric, averages, known)


def of_conditions(cells: pd.DataFrame) -> pd.Series:
    """Our names of the conditions of Tables 1 and 2, without the average, which is of six or of seven (F16)."""
    return cells["setting"].mask(cells["setting"] == "average")


def _results(context: Context, dataset: str) -> list[Claim]:
    accuracy = _accuracies(context, dataset, COMPARED)
    conditions = rows.conditions(context, dataset)
    main = dataset == context.main
    return [
        *(
            Claim(
                f"better under {short(condition)}",
                "4.3, Table 1",
                f"MCULoRA minus {MOMKE}",
                accuracy,
                Lead(FULL, MOMKE, condition),
            )
            for condition in conditions
        ),
        *(
            Claim(
                "better on average",
                "4.3, Table 1",
                f"MCULoRA minus {other}",
                accuracy,
                Lead(FULL, other, rows.MEAN_ALL),
                primary=main and other == JOINT,
            )
            for other in (MOMKE, JOINT)
        ),
        *_random(context, dataset),
        *_second_metric(context, dataset),
        *_weak(accuracy, conditions),
        *_needed(accuracy, primary=main),
        *_progress(accuracy, conditions),
    ]


def _random(context: Context, dataset: str) -> list[Claim]:
    """Section 4.3's other protocol: one modality or two missing at random."""
    cells = rows.cells(context, dataset, COMPARED, settings=[rows.RANDOM])
    accuracy = of_metric(dataset, cells, accuracy_of(context, dataset))
    return [
        Claim(
            "better where modalities are missing at random",
            "4.3",
            f"MCULoRA minus {other}, random missing",
            accuracy,
            Lead(FULL, other, rows.RANDOM),
        )
        for other in (MOMKE, JOINT)
    ]


def _second_metric(context: Context, dataset: str) -> list[Claim]:
    """Tables 1 and 2's other metric."""
    metric = rows.METRICS[dataset][-1]
    cells = rows.cells(context, dataset, COMPARED)
    source = of_metric(
        dataset,
        cells,
        metric,
        rows.averages(context, dataset),
        printed.values("mculora", PRINTED, dataset, metric, of_conditions),
    )
    words = {"weighted_f1": "weighted F1", "macro_recall": "unweighted accuracy"}[metric]
    return [
        Claim(
            f"better on average in {words} too",
            "4.3, Table 1",
            f"MCULoRA minus {other}, {words}",
            source,
            Lead(FULL, other, rows.MEAN_ALL),
            "" if metric == "macro_recall" else f"points of {words}",
        )
        for other in (MOMKE, JOINT)
    ]


def _needed(accuracy: Source, primary: bool) -> list[Claim]:
    """Table 2: both parts are needed; primary: whether these are primary claims."""
    return [
        *(
            Claim(
                f"{part} ({PARTS[part]}) is needed",
                "4.4, Table 2",
                f"MCULoRA minus {row}",
                accuracy,
                Lead(FULL, row, rows.MEAN_ALL),
                primary=primary,
            )
            for part, row in WITHOUT.items()
        ),
        Claim(
            "without DPFT the decline is more pronounced than without MCLA (Table 2 says the reverse, F17)",
            "4.4",
            "w/o MCLA minus w/o DPFT",
            accuracy,
            Lead(WITHOUT["MCLA"], WITHOUT["DPFT"], rows.MEAN_ALL),
        ),
    ]


def _progress(accuracy: Source, conditions: Sequence[str]) -> list[Claim]:
    """How test accuracy moves along training, beside the two others of Fig 4.

    Adapters take smaller steps than whole networks, which makes any curve of theirs smoother; how often a curve falls
    does not depend on the size of its steps.
    """

    def along(context: Context, cells: Sequence[Cell]) -> dict[str, dict[int, np.ndarray]]:
        compared = (FULL, MOMKE, JOINT)
        return {row: curves(context, accuracy.dataset, cells, row) for row in compared}

    def smoother(of_row: dict[str, dict[int, np.ndarray]], other: str) -> pd.Series:
        return falls(of_row[other]) - falls(of_row[FULL])

    def stalls(of_row: dict[str, dict[int, np.ndarray]]) -> pd.Series:
        gained = [_gained(of_row[row]).reindex(columns=alone).mean(axis=1) for row in (FULL, MOMKE)]
        return gained[0] - gained[1]

    source = dataclasses.replace(accuracy, read=along, printed=None)
    alone = [place for place, name in enumerate(conditions) if name in WEAK]
    smooth = [
        Claim(
            "training progresses more smoothly upward",
            "4.4, Fig 4",
            f"share of epochs after which accuracy has fallen, {other} minus MCULoRA",
            source,
            partial(smoother, other=other),
            "points of epochs",
        )
        for other in (MOMKE, JOINT)
    ]
    stalling = Claim(
        "MoMKE's training of weak modalities stalls, ours goes on",
        "4.4, Fig 4",
        f"accuracy gained along the second stage, {' and '.join(WEAK)} alone, MCULoRA minus MoMKE",
        source,
        stalls,
    )
    steady = Claim(
        "every combination gains during training",
        "4.4, Fig 4",
        "accuracy gained during the second stage by the combination that gains least, MCULoRA",
        source,
        lambda of_row: _gained(of_row[FULL]).min(axis=1),
    )
    made = [*smooth, steady]
    return [*made, stalling] if len(alone) == len(WEAK) else made


def falls(accuracy: dict[int, np.ndarray]) -> pd.Series:
    """By seed: the share of steps from epoch to epoch at which accuracy falls, over the combinations, in percent."""
    shares = {seed: 100 * (np.diff(a, axis=0) < 0).mean() for seed, a in accuracy.items()}
    return pd.Series(shares, dtype=float)


def _gained(accuracy: dict[int, np.ndarray]) -> pd.DataFrame:
    """Seeds by conditions: accuracy after the last epoch minus that after the first."""
    return pd.DataFrame({seed: a[-1] - a[0] for seed, a in accuracy.items()}).T


def _weak(accuracy: Source, conditions: Sequence[str]) -> list[Claim]:
    """What is gained without text, the strongest modality, and with it; nothing where only one of them is."""
    weak = [c for c in conditions if "text" not in c.split("+")]
    strong = [c for c in conditions[:-1] if c not in weak]

    if not weak or not strong:
        return []
    return [
        Claim(
            "weak combinations gain most",
            "4.3",
            "gain over MoMKE without text minus gain with text",
            accuracy,
            Change(
                Mean([Lead(FULL, MOMKE, condition) for condition in weak]),
                Mean([Lead(FULL, MOMKE, condition) for condition in strong]),
            ),
        )
    ]


def _rank(context: Context) -> list[Claim]:
    """The lowest and the highest rank of Fig 3."""
    tried = list(rows.rank_rows(context).values())
    low, high = tried[0], tried[-1]
    accuracy = _accuracies(context, context.main, (low, high), grid=True)
    missing = Lead(high.name, low.name, rows.MEAN_MISSING)
    whole = Lead(high.name, low.name, rows.conditions(context, context.main)[-1])
    return [
        Claim(
            "a higher rank helps where modalities are missing",
            "4.4, Fig 3",
            f"{high.name} minus {low.name}, missing conditions",
            accuracy,
            missing,
        ),
        Claim(
            "a higher rank helps more where modalities are missing than where all are present",
            "4.4, Fig 3",
            f"{high.name} minus {low.name}: gain with missing minus gain with all",
            accuracy,
            Change(missing, whole),
        ),
    ]


def _alone(context: Context) -> list[Claim]:
    """What a model of its own for each combination is worth, by the same network without the method."""
    alone = rows.alone_rows(context, "neither")
    accuracy = _accuracies(context, context.main, (*alone, rows.JOINT), grid=True)
    return [
        Claim(
            "without the method, a model of its own for each combination is best",
            "1",
            f"{alone[0].name}, minus {JOINT}",
            accuracy,
            Lead(alone[0].name, JOINT, rows.MEAN_ALL),
        )
    ]


def _at_networks_rate(context: Context) -> Claim:
    """The first primary claim where both have one learning rate: how far the choice of the method's own decides."""
    ours = rows.OURS.but(name=AT_NETWORKS_RATE, recipe="plain")
    return Claim(
        "(ours) at its network's learning rate: better on average",
        "4.3, Table 1",
        f"{AT_NETWORKS_RATE} minus {JOINT}",
        _accuracies(context, context.main, (ours, rows.JOINT)),
        Lead(AT_NETWORKS_RATE, JOINT, rows.MEAN_ALL),
    )


def _of_rate(context: Context) -> Claim:
    """How much of what MCLA seems worth is the learning rate of the row without it."""
    own, adapters = rows.WITHOUT_MCLA, rows.AT_ADAPTERS_RATE
    return Claim(
        "(ours) an ablation that keeps the adapters' learning rate makes MCLA look needed",
        "Table 2",
        f"{own.name} at its network's learning rate minus at the adapters'",
        _accuracies(context, context.main, (own, adapters)),
        Lead(own.name, adapters.name, rows.MEAN_ALL),
    )


def _leak(context: Context) -> list[Claim]:
    accuracy = _accuracies(context, context.main, rows.LEAK)
    return [
        Claim(
            f"(ours) {row.name}: using test data pays",
            "ledger F9, G1",
            f"against {FULL}, whose rule sees train alone",
            accuracy,
            Lead(row.name, FULL, rows.MEAN_ALL),
        )
        for row in (rows.LEAKS_INPUTS, rows.LEAKS_LABELS)
    ]


def _conflict(context: Context) -> list[Claim]:
    shares = Source(context.main, analyses.probed_cells(context), _shares_in_conflict)
    return [
        Claim(
            "gradients of different combinations conflict",
            "abstract, 1",
            f"share of pairs and epochs with a negative cosine on shared weights, joint training, minus {MATTERS:g}",
            shares,
            lambda share: share[analyses.WITHOUT] - MATTERS,
            "points of pairs",
        ),
        Claim(
            "MCLA removes conflict",
            "abstract, 1",
            "share of pairs and epochs with a negative cosine on shared weights, joint training minus with MCLA",
            shares,
            lambda share: share[analyses.WITHOUT] - share[analyses.WITH],
            "points of pairs",
        ),
    ]


def _redundancy(context: Context) -> Claim:
    """Eq. 3: what the orthogonality loss does to the two kinds of features."""

    def read(context: Context, cells: Sequence[Cell]) -> dict[str, dict[int, np.ndarray]]:
        compared = (rows.WITHOUT_ORT.name, FULL)
        return {row: by_seed(context, runs_of(cells, row), _angles) for row in compared}

    def closer(of_row: dict[str, dict[int, np.ndarray]]) -> pd.Series:
        with_, without = (
            pd.Series({seed: abs(of[-1, 0]) for seed, of in of_row[row].items()}, dtype=float)
            for row in (FULL, rows.WITHOUT_ORT.name)
        )
        return without - with_

    return Claim(
        "the soft orthogonality makes common and private features less redundant",
        "3.3, Eq. 3",
        "|cosine of common and private features| at the end of training, w/o L_ort minus with it",
        Source(context.main, analyses.probed_cells(context), read),
        closer,
        "cosine",
    )


def _angles(record: Record) -> np.ndarray | None:
    """(epochs, 2): the cosines of common features with private and with pre-trained ones."""
    angles = record["curves"].get("found", {}).get("angles")
    return None if angles is None else np.array(angles, dtype=float)


def _shares_in_conflict(context: Context, cells: Sequence[Cell]) -> dict[str, pd.Series]:
    """By row and seed: the share of known cosines of pairs of combinations, over epochs, below 0, in percent."""
    shares = {}
    for row in (analyses.WITHOUT, analyses.WITH):
        pairs = {
            seed: analyses.off_diagonal(of)
            for seed, of in analyses.conflicts(context, cells, row).items()
        }
        shares[row] = pd.Series(
            {seed: 100 * np.mean(of[np.isfinite(of)] < 0) for seed, of in pairs.items()},
            dtype=float,
        )
    return shares
