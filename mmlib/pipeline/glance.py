"""The primary claims at a glance: what each paper stands on, and what our runs say of it.

One line for each claim and data set, of the collection with the most seeds. What has too few seeds for a verdict is
counted below the table instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mmlib.experiments.verdicts import EXPLORATORY, OPEN, PRIMARY
from mmlib.report.markup import escape_markdown, markdown_table

FILE, PICTURE = "glance.md", "glance.png"
SAME = ["paper", "claim", "test (above 0 supports)", "data", "backbone"]  # as one another
NEEDED = (
    *SAME,
    "collection",
    "kind",
    "made of",
    "no",
    "unit",
    "measured",
    "seeds",
    "verdict",
    "scope",
    "other test data",
)
EMPTY = "No primary claim has enough seeds for a verdict yet: `mmlib decide` trains them.\n"
HEAD = {
    "paper": "paper",
    "claim": "claim",
    "data": "data",
    "test (above 0 supports)": "measured",
    "measured": "difference [interval over seeds]",
    "other test data": "interval for other test data",
    "seeds": "seeds",
    "verdict": "verdict",
}


def lines(claims: pd.DataFrame, called: Mapping[str, str], paper: str = "") -> pd.DataFrame:
    """The table, one line per claim and data set, as text.

    claims: ``figures/claims.csv`` as text. called: the papers by name, in their order. paper: that one alone.
    """
    kept = tested(claims, called, paper)
    if kept.empty:
        return pd.DataFrame(columns=[*HEAD.values()])
    shown = kept.assign(
        paper=kept["paper"].map(called),
        verdict=[_verdict(line) for line in kept.to_dict("records")],
        measured=kept["measured"] + " " + kept["unit"],
    )
    return shown[list(HEAD)].rename(columns=HEAD).reset_index(drop=True)


def tested(claims: pd.DataFrame, called: Mapping[str, str], paper: str = "") -> pd.DataFrame:
    """The lines of ``claims.csv`` that the table is made of: real data first, each claim and data set once."""
    known = _tested(claims, PRIMARY)
    known = known[known["paper"] == paper] if paper else known
    order = {name: place for place, name in enumerate(called)}
    most = known.assign(
        seeds_made=known["seeds"].astype(int),
        place=known["paper"].map(order),
        twins=known["made of"] == "twins",
        number=known["no"].astype(int),
    ).sort_values("seeds_made", ascending=False, kind="stable")
    kept = most.drop_duplicates(SAME).sort_values(["place", "twins", "number"], kind="stable")
    return kept.drop(columns=["seeds_made", "place", "twins", "number"])


def read(figures: Path) -> pd.DataFrame:
    """``claims.csv`` as text; without lines where there is none."""
    path = figures / "claims.csv"
    known = pd.read_csv(path, dtype=str, keep_default_na=False) if path.exists() else pd.DataFrame()
    return known.reindex(columns=[*dict.fromkeys([*known.columns, *NEEDED])], fill_value="")


def _tested(claims: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The claims of a kind that have a verdict."""
    return claims[(claims["kind"] == kind) & ~claims["verdict"].isin(OPEN)]


def _verdict(line: Mapping[Any, Any]) -> str:
    """The verdict with its scope and a link to the claims that it stands among."""
    where = f"{line['collection']}/{line['paper']}/claims.md"
    scope = f" ({line['scope']})" if line["scope"] else ""
    on_twins = ", on twins" if line["made of"] == "twins" else ""
    return f"[{line['verdict']}]({where}){scope}{on_twins}"


def markdown(claims: pd.DataFrame, called: Mapping[str, str], folder: str = "") -> str:
    """The table as Markdown, with what it leaves out below; folder: where links start, such as ``figures/``."""
    made = lines(claims, called)
    if made.empty:
        return EMPTY
    told = made.map(lambda text: escape_markdown(str(text)))
    told["verdict"] = made["verdict"].str.replace("](", f"]({folder}", regex=False)
    waiting = claims[(claims["kind"] == PRIMARY) & claims["verdict"].isin(OPEN)]
    every = waiting.drop_duplicates(SAME).set_index(SAME).index
    left = int((~every.isin(_tested(claims, PRIMARY).set_index(SAME).index)).sum())
    has = "claim has" if left == 1 else "claims have"
    counts = _tested(claims, EXPLORATORY)["verdict"].value_counts()
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    notes = [
        f"{left} primary {has} too few seeds for a verdict; `mmlib decide` trains them."
        if left
        else "",
        f"Exploratory claims with a verdict: {listed}." if listed else "",
    ]
    return "\n\n".join([markdown_table(told, escaped=True), *filter(None, notes)]) + "\n"
