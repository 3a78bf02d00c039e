"""Claims: a paper's sentences, each with the test that would show it, and what was measured.

Every test has one value per seed; its sign is chosen so that above 0 supports the sentence. The intervals hold
together for the whole table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import with_parents
from mmlib.report import figures as draw
from mmlib.report import stats
from mmlib.report.artifact import Output

VERDICTS = {
    "better": "supported",
    "worse": "contradicted",
    "equivalent": "no difference that matters",
    "undecided": "undecided",
}
NO_MARGIN = 0.0
DRAWN = 30  # claims in a figure


@dataclass(frozen=True)
class Claim:
    """A sentence, where it stands, on which data and network, its test, and one value per seed (above 0 supports)."""

    text: str
    where: str
    data: str
    backbone: str
    test: str
    unit: str
    values: np.ndarray
    detail: str = ""


Values = Mapping[tuple[str, str], pd.Series]


def values(frame: pd.DataFrame) -> Values:
    """(row, setting) to the values by seed, of results with one value for each."""
    return {
        (str(r), str(s)): group.set_index("seed")["value"]
        for (r, s), group in frame.groupby(["row", "setting"])
    }


def minus(found: Values, first: str, second: str, setting: str) -> pd.Series:
    """First minus second by seed, of the seeds that both have."""
    a, b = found.get((first, setting)), found.get((second, setting))
    return pd.Series(dtype=float) if a is None or b is None else (a - b).dropna()


def table(
    context: Context,
    claims: Sequence[Claim],
    points: str,
    notes: Sequence[str],
    cells: Sequence[Cell],
) -> Output:
    """claims.csv: the sentence, where it stands, the test, the measured value with its interval, the verdict.

    points: the unit whose differences are judged by the margin of metrics, and drawn. cells: all that a claim reads.
    """
    needed = with_parents(cell.spec for cell in cells)
    run_ids = tuple(spec.run_id(context.bundle_fingerprint(spec.data)) for spec in needed)
    family = max(1, sum(len(c.values) > 1 for c in claims))
    lines, drawn = [], {}
    for number, claim in enumerate(claims, start=1):
        line = {
            "no": number,
            "claim": claim.text,
            "where": claim.where,
            "data": claim.data,
            "backbone": claim.backbone,
            "test (above 0 supports)": claim.test,
            "unit": claim.unit,
            "seeds": len(claim.values),
        }
        if len(claim.values) < 2:
            lacking = "one seed only" if len(claim.values) else "not built yet"
            lines.append(line | {"measured": lacking, "verdict": lacking, "detail": claim.detail})
            continue
        margin = stats.MARGIN if claim.unit == points else NO_MARGIN
        test = stats.paired(claim.values, np.zeros(len(claim.values)), margin, comparisons=family)
        if claim.unit == points:
            drawn[f"{number}. {claim.backbone}, {claim.data}"] = test
        lines.append(
            line
            | {
                "measured": f"{test.difference:+.2f} [{test.low:.2f}, {test.high:.2f}]",
                "verdict": VERDICTS[test.verdict],
                "difference": test.difference,
                "low": test.low,
                "high": test.high,
                "could have shown": test.detectable,
                "detail": claim.detail,
            }
        )
    numbers = pd.DataFrame(lines)
    shown = numbers.drop(
        columns=[c for c in ("difference", "low", "high", "could have shown") if c in numbers]
    )
    counts = numbers["verdict"].value_counts()
    said = (
        ", ".join(f"{counts[v]} {v}" for v in counts.index) + ".",
        f"Each value is one per seed, paired; the {family} intervals hold together (95 %). 'Undecided' is no "
        "evidence against a claim: these seeds cannot tell.",
        *notes,
    )
    if len(drawn) > DRAWN:
        said = (
            *said,
            f"Figure: {DRAWN} of {len(drawn)} claims about results, what is decided first, then what comes "
            "nearest to it.",
        )
    figure, axes = draw.panel_grid(
        1, width=draw.DOUBLE, height=0.9 + 0.26 * min(DRAWN, max(1, len(drawn)))
    )
    draw.forest(
        axes[0],
        most_telling(drawn, DRAWN),
        xlabel=f"measured, {points} (above 0 supports the claim)",
        title="Claims about results, by number",
    )
    return Output(
        table=shown.fillna(""),
        figure=figure if drawn else None,
        numbers=numbers,
        rows_built=sum(len(c.values) > 1 for c in claims),
        notes=said,
        run_ids=run_ids,
    )


def most_telling(found: Mapping[str, stats.Comparison], most: int) -> dict[str, stats.Comparison]:
    """At most so many, in their order: the decided ones first, then those with the largest difference for its error."""

    def told(name: str) -> tuple[bool, float]:
        test = found[name]
        return test.verdict == "undecided", -abs(test.difference) / max(
            test.high - test.low, np.finfo(float).eps
        )

    kept = sorted(found, key=told)[:most]
    return {name: test for name, test in found.items() if name in kept}
