"""The table of claims as they were measured: values, intervals, verdicts.

The few primary claims and the exploratory ones have different rules of decision: ``mmlib.report.looks``. A verdict is
about other seeds on these test data; its scope says whether it would be that of other test data too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import with_parents
from mmlib.report import claim_figure, looks, stats
from mmlib.report.artifact import Output
from mmlib.report.claim_figure import Line
from mmlib.report.crossed import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERDICTS = {
    "better": "supported",
    "worse": "contradicted",
    "equivalent": "no difference that matters",
    "undecided": "undecided",
    stats.TOO_FEW: stats.TOO_FEW,
}
NOT_RUN = "not run"
NOT_SHOWN = "not shown here"  # of what can happen, which one data set cannot contradict
ORDER = (*list(VERDICTS.values())[:3], NOT_SHOWN, VERDICTS["undecided"])  # of a figure's groups
OPEN = (stats.TOO_FEW, NOT_RUN)
PRIMARY, EXPLORATORY = "primary", "exploratory"
NO_MARGIN = 0.0
LIMITS = {"correlation": 1.0}  # that values of a unit cannot leave, nor their intervals
APART = "\N{NO-BREAK SPACE}· "  # a dot that begins no line
DRAWN = 24  # claims in a figure, which then fills a page
# Columns that the table leaves out.
NUMBERS_ONLY = (
    "difference",
    "low",
    "high",
    "could have shown",
    "low elsewhere",
    "high elsewhere",
    "printed",
)
COLUMNS = (
    "no",
    "claim",
    "where",
    "data",
    "backbone",
    "kind",
    "test (above 0 supports)",
    "unit",
    "seeds",
    "measured",
    "verdict",
    "scope",
    "other test data",
    *NUMBERS_ONLY,
    "detail",
)
HERE = "on these test data only"


@dataclass(frozen=True)
class Measured:
    """A claim as its table has it."""

    text: str
    """The sentence."""

    where: str
    """Where it stands in the paper."""

    data: str
    """The data set, as readers see it."""

    backbone: str
    """The network."""

    test: str
    """What is measured, in words."""

    unit: str
    """Of the values."""

    values: np.ndarray
    """One per seed; above 0 supports the sentence."""

    detail: str = ""
    """What is worth knowing beside the test."""

    primary: bool = False
    """Whether it was named in advance as what the paper stands on."""

    exists: bool = False
    """Whether it says that something can happen."""

    elsewhere: Callable[[int], Interval | None] = lambda seeds: None
    """From a number of seeds to the interval for other seeds and other test data; None where it is not known."""

    again: Callable[[int], str] = lambda seeds: ""
    """From a number of seeds to its second derivation, in words; empty where there is none."""

    clusters: str = ""
    """What other test data have others of."""

    printed: float | None = None
    """What the paper's own numbers give for it, where that is shown."""


def table(
    context: Context,
    claims: Sequence[Measured],
    points: str,
    notes: Sequence[str],
    cells: Sequence[Cell],
) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict.

    points: the unit whose differences are judged by the margin of metrics, and drawn. cells: all that a claim reads.
    """
    needed = with_parents(cell.spec for cell in cells)
    run_ids = tuple(spec.run_id(context.bundle_fingerprint(spec.data)) for spec in needed)
    tests = tested(claims, points)
    numbered = list(enumerate(claims, start=1))
    lines = [_line(n, claim, tests.get(n), _margin(claim, points)) for n, claim in numbered]
    numbers = pd.DataFrame(lines).reindex(columns=COLUMNS)
    varied = [what for what in ("data", "backbone") if _varied(claims, what)]
    drawable = {
        number: _drawn(number, claim, tests[number], [getattr(claim, what) for what in varied])
        for number, claim in numbered
        if number in tests and claim.unit == points and tests[number].verdict != stats.TOO_FEW
    }
    drawn = most_telling(drawable, DRAWN)
    return Output(
        table=numbers.drop(columns=list(NUMBERS_ONLY)).astype(object).fillna(""),
        figure=_figure(list(drawn.values()), points) if drawn else None,
        numbers=numbers,
        rows_built=len(tests),
        notes=_notes(numbers, points, notes, drawn, len(drawable)),
        run_ids=run_ids,
    )


def tested(claims: Sequence[Measured], points: str) -> dict[int, stats.Comparison]:
    """The values of each claim that was run against 0, by the claim's number from 1."""
    tests: dict[int, stats.Comparison] = {}
    for rule, primary in ((looks.primary, True), (looks.exploratory, False)):
        chosen = [(n, c) for n, c in enumerate(claims, start=1) if c.primary == primary]
        margins = [_margin(claim, points) for _, claim in chosen]
        made = rule([claim.values for _, claim in chosen], margins)
        tests |= {
            n: _within(test, LIMITS.get(claim.unit, math.inf))
            for (n, claim), test in zip(chosen, made, strict=True)
            if test is not None
        }
    return dict(sorted(tests.items()))


def _margin(claim: Measured, points: str) -> float:
    """The largest difference that does not matter."""
    return stats.MARGIN if claim.unit == points else NO_MARGIN


def _within(test: stats.Comparison, limit: float) -> stats.Comparison:
    """A comparison whose intervals end where values do."""
    ends = {
        name: min(max(getattr(test, name), -limit), limit)
        for name in ("low", "high", "low90", "high90")
    }
    return replace(test, **ends)


def _line(
    number: int, claim: Measured, test: stats.Comparison | None, margin: float
) -> dict[str, object]:
    line: dict[str, object] = {
        "no": number,
        "claim": claim.text,
        "where": claim.where,
        "data": claim.data,
        "backbone": claim.backbone,
        "kind": PRIMARY if claim.primary else EXPLORATORY,
        "test (above 0 supports)": claim.test,
        "unit": claim.unit,
        "seeds": test.n if test else 0,
        "printed": claim.printed,
    }
    if test is None:
        return line | {"measured": NOT_RUN, "verdict": NOT_RUN, "detail": claim.detail}
    return line | {
        "measured": f"{test} ({test.n})" if test.verdict == stats.TOO_FEW else str(test),
        "verdict": _verdict(claim, test),
        **_scope(claim, test, margin),
        "difference": test.difference,
        "low": test.low,
        "high": test.high,
        "could have shown": test.detectable,
        "detail": _detail(claim, test),
    }


def _detail(claim: Measured, test: stats.Comparison) -> str:
    """What is worth knowing beside the test; of a contradicted primary claim its second derivation too."""
    checked = claim.again(test.n) if claim.primary and test.verdict == "worse" else ""
    return ". ".join(filter(None, (claim.detail, checked)))


def _scope(claim: Measured, test: stats.Comparison, margin: float) -> dict[str, object]:
    """Whether the verdict would be that of other test data too, and the interval that says so."""
    other = claim.elsewhere(test.n)
    if other is None:
        return {}
    holds = {
        "better": other.low > 0,
        "worse": other.high < 0,
        "equivalent": -margin <= other.low90 and other.high90 <= margin,
    }
    known = test.verdict in holds
    return {
        "scope": (f"other {claim.clusters} too" if holds[test.verdict] else HERE) if known else "",
        "other test data": f"[{other.low:.2f}, {other.high:.2f}], {other.clusters} {claim.clusters}",
        "low elsewhere": other.low,
        "high elsewhere": other.high,
    }


def _verdict(claim: Measured, test: stats.Comparison) -> str:
    """In words; of what can happen, that it was not shown, unless it was."""
    shown = test.verdict in ("better", stats.TOO_FEW)
    return NOT_SHOWN if claim.exists and not shown else VERDICTS[test.verdict]


def _notes(
    numbers: pd.DataFrame,
    points: str,
    notes: Sequence[str],
    drawn: Mapping[int, Line],
    drawable: int,
) -> tuple[str, ...]:
    """How many claims have each verdict, and how to read them.

    drawn: the claims that the figure shows. drawable: of how many it could.
    """
    remarks = [
        *(_counted(str(kind), of["verdict"]) for kind, of in numbers.groupby("kind", sort=False)),
        f"One value per seed, paired. Under {stats.FEWEST} seeds there is no interval and no verdict.",
    ]
    kinds = set(numbers["kind"])
    if PRIMARY in kinds:
        remarks.append(
            "Primary claims were named in advance and are looked at after "
            f"{', '.join(map(str, looks.LOOKS[:-1]))} and {looks.LOOKS[-1]} seeds. The chance that any of them is "
            f"called supported or contradicted by accident is {100 * looks.LEVEL:g} % (Pocock for the looks, Holm for "
            "their number); an interval has the level that these rules give to its claim."
        )
    if EXPLORATORY in kinds:
        remarks.append(
            "Exploratory claims have 95 % intervals each; at most 5 % of those that are called supported or "
            "contradicted are expected to be false (Benjamini-Hochberg)."
        )
    if numbers["other test data"].notna().any():
        remarks.append(
            "Other test data: the 95 % interval for other seeds and for other dialogues or speakers like these "
            f"(crossed bootstrap). A verdict that it does not bear out is marked: {HERE}."
        )
    if set(numbers["unit"]) - {points}:
        remarks.append(
            f"Differences of up to {stats.MARGIN:g} {points} do not matter. Other units have no such margin."
        )
    if drawn:
        remarks.append(_of_figure(list(drawn.values()), drawable, len(numbers), points))
    return (*remarks, *notes)


def _of_figure(drawn: Sequence[Line], drawable: int, claims: int, points: str) -> str:
    """Which claims the figure shows, and what its ticks are."""
    said = [f"Figure: {len(drawn)} of {claims} claims."]
    if len(drawn) < drawable:
        said.append(
            f"Of the {drawable} in {points} with a verdict it shows the primary ones, then those that are decided "
            f"most clearly, {DRAWN} at most."
        )
    if drawable < claims:
        other = claims - drawable
        said.append(f"{other} {'has' if other == 1 else 'have'} another unit or too few seeds.")
    if any(line.printed is not None for line in drawn):
        said.append("Ticks are the gains that the paper prints for its own data, which are others.")
    return " ".join(said)


def _counted(kind: str, verdicts: pd.Series) -> str:
    counts = verdicts.value_counts()
    return f"{kind.capitalize()}: " + ", ".join(f"{counts[v]} {v}" for v in counts.index) + "."


def _varied(claims: Sequence[Measured], what: str) -> bool:
    """Whether claims differ in their data, or in their network."""
    return len({getattr(claim, what) for claim in claims}) > 1


def _drawn(number: int, claim: Measured, test: stats.Comparison, named: Sequence[str]) -> Line:
    """A claim as the figure has it; named: its data and network, where they differ from others'."""
    text = claim.text[:1].upper() + claim.text[1:]
    verdict = _verdict(claim, test)
    if verdict == NOT_SHOWN:
        test = replace(test, verdict="undecided")
    return Line(
        f"{number}. {text}",
        APART.join(filter(None, [claim.test, claim.where, *named])),
        test,
        verdict,
        claim.primary,
        claim.printed,
    )


def _figure(drawn: Sequence[Line], points: str) -> Figure:
    return claim_figure.draw(
        drawn,
        ORDER,
        f"{points}\n(above 0 supports the claim)",
        "Claims about results, by verdict"
        + (" (primary ones in bold)" if any(line.primary for line in drawn) else ""),
    )


def most_telling(lines: Mapping[int, Line], most: int) -> dict[int, Line]:
    """All where they are at most so many; else, in their order, the primary ones and those decided most clearly.

    How clearly is the difference for the width of its interval.
    """
    if len(lines) <= most:
        return dict(lines)

    def rank(number: int) -> tuple[bool, float]:
        line = lines[number]
        width = max(line.test.high - line.test.low, np.finfo(float).eps)
        return not line.primary, -abs(line.test.difference) / width

    known = [n for n, line in lines.items() if line.primary or line.test.verdict != "undecided"]
    kept = sorted(known or lines, key=rank)[:most]
    return {number: line for number, line in lines.items() if number in kept}
