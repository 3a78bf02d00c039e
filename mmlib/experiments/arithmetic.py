"""The papers' own arithmetic: printed averages, differences, percentages and gains against their printed cells.

Every check holds one printed number against what the paper's other numbers give for it. Kinds: ``average``,
``difference`` (an arrow or delta in a table), ``gain`` (a difference that the text states), ``repeat`` (a cell that
two tables print), ``sum``, ``F1 beside accuracy`` (the printed accuracy bounds the F1), ``parameters`` (a system's, by
its layers) and ``percentage`` (whether some number of right answers among the test utterances of one run prints as this
accuracy). A percentage that is no such count, or a repeat that differs, is no slip in itself: it may be a mean of runs,
or another run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from mmlib import files
from mmlib.experiments import sizes
from mmlib.experiments.published import papers, published, stated, tables
from mmlib.report.artifact import csv_bytes

COLUMNS = (
    "paper",
    "table",
    "dataset",
    "setting",
    "row",
    "condition",
    "metric",
    "kind",
    "rule",
    "printed",
    "recomputed",
    "off",
    "allowed",
    "verdict",
)
KEYS = ("dataset", "setting", "row", "condition", "metric")
RIGHT, WRONG = "adds up", "does not add up"
WORDS = {
    "percentage": ("a count of one run", "no count of one run"),
    "repeat": ("the same", "printed differently"),
}
SPREAD = ", printed with a spread"
UNIT = 0.01
HALF = UNIT / 2
SLACK = 1e-9
FULL = "audio+text+vision"
BEST_OTHER = "best other row"
OVER = "over "
# Test utterances; of two-class accuracies on scores those without zero. Then, by sign, MOSI's and MOSEI's.
TEST_UTTERANCES = {
    "balm": {"iemocap": 1623, "mosei": 3634},
    "gmm_loss": {"crema-d": 744, "ave": 402},
}
SIGNS = {"mosi": (379, 30, 277), "mosei": (1350, 1025, 2284)}
BOUNDED = {
    "balm": ("mosei",),
    "ebmc": ("mosi", "mosei"),
}  # papers whose clips are known, and of which sets
Check = dict[str, Any]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Average:
    """A printed average."""

    paper: str
    """The paper that prints it."""

    table: str
    """Of the paper."""

    over: str
    """The column whose values it averages."""

    name: str = "average"
    """What it is called in that column."""

    optional: str = ""
    """The term that some of its lines may leave out; none where empty."""

    coarse: bool = False
    """Whether lines whose numbers all end in 0 were rounded to one decimal."""


AVERAGES = (
    Average("balm", "table8", "setting"),
    Average("balm", "table9", "setting"),
    Average("balm", "table10", "condition"),
    Average("dream", "table1", "setting", optional=FULL),
    Average("ebmc", "table2", "metric", "f1_mean"),
    Average("ebmc", "table3", "setting"),
    Average("mculora", "table1", "setting", "average", FULL, True),
    Average("mculora", "table2", "setting", "average", FULL, True),
)
SUMS = (
    ("dream", "table3", "row", "total"),
    ("gmm_loss", "fig2", "condition", ""),
)  # all else adds up to it, or to 1
MOVED = {
    ("balm", "table8"): {"ALV": ""},
    ("balm", "table9"): {"ALV": ""},
}  # a condition that other tables leave empty
APART = {("ebmc", "table5")}  # whose averages are over rates, those of others over modalities


def write(figures: Path) -> pd.DataFrame:
    """Write ``arithmetic.csv``: every check of every paper; returns the frame."""
    frame = pd.concat([checks(paper) for paper in papers()], ignore_index=True)
    numbers = {
        c: frame[c].map(lambda v: "" if pd.isna(v) else f"{v:.4f}")
        for c in ("printed", "recomputed", "off")
    }
    files.write(figures / "arithmetic.csv", csv_bytes(frame.assign(**numbers)))
    return frame


def checks(paper: str) -> pd.DataFrame:
    """Every check of a paper's numbers, columns ``COLUMNS``, by kind and in the order of its tables."""
    return _checks(paper).copy()


@cache
def _checks(paper: str) -> pd.DataFrame:
    of_tables = [
        check
        for table in _in_order(paper)
        for check in (
            *averages(paper, table),
            *differences(paper, table),
            *sums(paper, table),
            *bounded_f1(paper, table),
            *percentages(paper, table),
            *parameters(paper, table),
        )
    ]
    frame = pd.DataFrame([*of_tables, *repeats(paper), *gains(paper)], columns=list(COLUMNS))
    return frame.sort_values("kind", kind="stable", ignore_index=True)


def _in_order(paper: str) -> list[str]:
    return sorted(tables(paper), key=lambda name: int("".join(filter(str.isdigit, name))))


def _check(
    paper: str,
    table: str,
    key: Sequence[str],
    kind: str,
    rule: str,
    printed: float,
    recomputed: float,
    allowed: float,
    above: bool = False,
) -> Check:
    """One check; above: the printed number may lie anywhere below what is recomputed."""
    off = printed - recomputed
    right = off <= allowed if above else abs(off) <= allowed
    words = WORDS.get(kind, (RIGHT, WRONG))
    return {
        "paper": paper,
        "table": table,
        **dict(zip(KEYS, key, strict=True)),
        "kind": kind,
        "rule": rule,
        "printed": printed,
        "recomputed": recomputed,
        "off": off,
        "allowed": allowed,
        "verdict": words[0] if right else words[1],
    }


@cache
def cells(paper: str, table: str) -> Mapping[Key, float]:
    """A table's printed values by data set, setting, row, condition and metric."""
    frame = published(paper, table).dropna(subset="value")
    return {_key(line): float(line["value"]) for line in frame.to_dict("records")}


def _key(line: Mapping[Any, Any], **other: str) -> Key:
    return tuple(str(other.get(name, line[name])) for name in KEYS)


def averages(paper: str, table: str) -> Iterator[Check]:
    """Printed averages against the means of their terms, with all of them or without the optional one.

    Terms and average are each rounded by half a unit of the last place at most, so the two differ by one at most.
    """
    for spec in (a for a in AVERAGES if (a.paper, a.table) == (paper, table)):
        place, groups = KEYS.index(spec.over), dict[Key, dict[str, float]]()
        for key, value in cells(paper, table).items():
            if not key[4].startswith("delta"):
                groups.setdefault(key[:place] + key[place + 1 :], {})[key[place]] = value
        for rest, terms in groups.items():
            printed = terms.pop(spec.name)
            coarse = spec.coarse and all(round(v, 1) == v for v in (printed, *terms.values()))
            fewer = [v for name, v in terms.items() if name != spec.optional]
            means = {len(v): fmean(v) for v in (fewer, list(terms.values()))}
            count = min(means, key=lambda n: abs(means[n] - printed))
            allowed = (10 * UNIT if coarse else UNIT) + SLACK
            near = "mean" if abs(means[count] - printed) <= allowed else "no mean, the nearest is"
            yield _check(
                paper,
                table,
                (*rest[:place], spec.name, *rest[place:]),
                "average",
                f"{near} of {count}",
                printed,
                means[count],
                allowed,
            )


def differences(paper: str, table: str) -> Iterator[Check]:
    """Printed differences against the printed values, by the rule that their table states."""
    for line in published(paper, table).to_dict("records"):
        if line["metric"].startswith("delta"):
            kind, metric = line["metric"].split("_", 1)
            other, elsewhere = _compared_with(paper, table, line["row"], kind)
            base = _base(paper, elsewhere, _key(line, metric=metric), other)
            own = cells(paper, table)[_key(line, metric=metric)]
            yield _check(
                paper,
                table,
                _key(line),
                "difference",
                f"{line['row']} minus {other.replace('|', ', ')}",
                float(line["value"]),
                own - base,
                HALF + SLACK,
            )


def _compared_with(paper: str, table: str, row: str, kind: str) -> tuple[str, str]:
    """What BALM's and MCULoRA's tables compare a row with, and in which table that stands."""
    if paper == "mculora":
        return BEST_OTHER, table
    if table == "table4":
        return "GCNet|MMGCN", table
    if table in ("table14", "table15"):
        return row.removesuffix("-M"), {"table14": "table1", "table15": "table2"}[table]
    return ("group 1" if kind == "delta1" else row.split("+")[0]), table


def _base(paper: str, table: str, key: Key, other: str) -> float:
    """The value that another is compared with: of a row, the mean of several or of group 1, or the best other row's."""
    if other == BEST_OTHER:
        return max(v for k, v in cells(paper, table).items() if _others(k, key))
    names = other.split("|")
    if other == "group 1":
        frame = published(paper, table)
        names = list(dict.fromkeys(frame[frame["note"] == other]["row"]))
    values = (cells(paper, table).get((*key[:2], name, *key[3:])) for name in names)
    return fmean(v for v in values if v is not None)


def _others(key: Key, own: Key) -> bool:
    """Whether a cell differs from another in its row alone."""
    return key != own and (*key[:2], *key[3:]) == (*own[:2], *own[3:])


def gains(paper: str) -> Iterator[Check]:
    """Gains that the text states against the difference of their cells, to the decimals that are stated.

    A gain of "over" a number holds where the cells give that much or more.
    """
    for line in stated(paper).to_dict("records"):
        own = cells(paper, line["table"])[_key(line)]
        there = _key(line, setting=line["other_setting"] or line["setting"])
        base = _base(paper, line["other_table"] or line["table"], there, line["other"])
        over = line["stated"].startswith(OVER)
        number = line["stated"].removeprefix(OVER)
        decimals = len(number.partition(".")[2])
        rule = f"section {line['where']}: minus {line['other'].replace('|', ', ')}"
        rule += f" at {line['other_setting']}" if line["other_setting"] else ""
        rule += ", at the least" if over else ""
        yield _check(
            paper,
            line["table"],
            _key(line),
            "gain",
            rule,
            float(number),
            own - base,
            SLACK if over else 0.5 * 10.0**-decimals + SLACK,
            above=over,
        )


def repeats(paper: str) -> Iterator[Check]:
    """Cells that a later table prints again against their first printing; not differences, which lack a first."""
    first: dict[Key, tuple[str, float]] = {}
    for table in (t for t in _in_order(paper) if (paper, t) not in APART):
        moved = MOVED.get((paper, table), {})
        for key, value in cells(paper, table).items():
            at = (*key[:3], moved.get(key[3], key[3]), key[4])
            if key[4].startswith("delta"):
                continue
            if at in first:
                yield _check(
                    paper, table, key, "repeat", f"as in {first[at][0]}", value, first[at][1], SLACK
                )
            else:
                first[at] = (table, value)


def sums(paper: str, table: str) -> Iterator[Check]:
    """Printed totals against the sum of their parts; shares against one."""
    for _, _, axis, name in (s for s in SUMS if s[:2] == (paper, table)):
        place, parts = KEYS.index(axis), dict[Key, dict[str, float]]()
        for key, value in cells(paper, table).items():
            if key[4] in ("parameters", "weight"):
                parts.setdefault(key[:place] + key[place + 1 :], {})[key[place]] = value
        for rest, terms in parts.items():
            whole = terms.pop(name) if name else 1.0
            yield _check(
                paper,
                table,
                (*rest[:place], name, *rest[place:]),
                "sum",
                " + ".join(terms),
                whole,
                sum(terms.values()),
                SLACK,
            )


def parameters(paper: str, table: str) -> Iterator[Check]:
    """Printed numbers of parameters against those of the layers, where these are known."""
    for row, parts_of in sizes.PRINTED.get((paper, table), {}).items():
        parts = parts_of()
        for key, printed in cells(paper, table).items():
            if (key[2], key[4]) == (row, "parameters"):
                yield _check(
                    paper,
                    table,
                    key,
                    "parameters",
                    " + ".join(f"{name} {count:,}" for name, count in parts.items()),
                    printed,
                    sum(parts.values()),
                    SLACK,
                )


def percentages(paper: str, table: str) -> Iterator[Check]:
    """Accuracies against the nearest share of right answers among one run's test utterances, where n is known."""
    for line in published(paper, table).dropna(subset="value").to_dict("records"):
        n = _utterances(paper, table, line["dataset"], line["metric"])
        if n and "average" not in (line["setting"], line["condition"]):
            spread = "" if pd.isna(line["sd"]) else SPREAD
            yield _check(
                paper,
                table,
                _key(line),
                "percentage",
                f"k of {n}{spread}",
                line["value"],
                nearest_count(line["value"], n),
                HALF + SLACK,
            )


def _utterances(paper: str, table: str, dataset: str, metric: str) -> int:
    if (paper, table, dataset) == ("ebmc", "table4", "mosi"):
        negative, zero, positive = SIGNS[dataset]
        return {
            "accuracy": negative + positive,
            "accuracy_with_zero": negative + zero + positive,
        }.get(metric, 0)
    return TEST_UTTERANCES.get(paper, {}).get(dataset, 0) if metric == "accuracy" else 0


def bounded_f1(paper: str, table: str) -> Iterator[Check]:
    """F1 scores of two classes against the largest that their printed accuracy allows.

    The mean of several runs, each perhaps rounded before it, adds what four roundings can.
    """
    for key, f1 in cells(paper, table).items():
        accuracy = cells(paper, table).get((*key[:4], key[4].replace("weighted_f1", "accuracy")))
        if (
            key[0] in BOUNDED.get(paper, ())
            and key[4].startswith("weighted_f1")
            and accuracy is not None
            and not (paper == "balm" and "average" in key)
        ):
            most = float(most_weighted_f1(np.array([accuracy]), *classes(key[0], key[4]))[0])
            yield _check(
                paper,
                table,
                key,
                "F1 beside accuracy",
                f"at most, at accuracy {accuracy:.2f}",
                f1,
                most,
                4 * HALF + SLACK,
                above=True,
            )


def classes(dataset: str, metric: str) -> tuple[int, int]:
    """Test clips of the two classes: without zero, or with zero as not negative."""
    negative, zero, positive = SIGNS[dataset]
    return negative, positive + zero * metric.endswith("_with_zero")


def most_weighted_f1(accuracy: np.ndarray, negative: int, positive: int) -> np.ndarray:
    """The largest weighted F1 of two classes at each accuracy (%), over the ways to share the errors between them."""
    n = negative + positive
    errors = n * (1 - accuracy / 100)
    missed = np.linspace(np.maximum(0, errors - negative), np.minimum(errors, positive), 4001)
    raised = errors - missed
    of_positive = 2 * positive * (positive - missed) / (2 * positive - missed + raised)
    of_negative = 2 * negative * (negative - raised) / (2 * negative - raised + missed)
    return np.asarray(100 * (of_positive + of_negative).max(axis=0) / n)


def nearest_count(value: float, n: int) -> float:
    """The share of right answers among n (%) that is nearest to an accuracy."""
    return 100 * round(value * n / 100) / n
