"""The primary claims at a glance: what each paper stands on, and what our runs say of it.

One line for each claim and data set, of the larger twins where they have a verdict, else of the collection with the
most seeds. What has too few seeds for a verdict is counted below the table instead. Below that stands what else is
decided on real data (``also``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mmlib.data import embedded
from mmlib.experiments.verdicts import EXPLORATORY, OPEN, PRIMARY, VERDICTS
from mmlib.names import EMBEDDED, LEAKY, REAL, STUDY, TWINS
from mmlib.report.markup import escape_markdown, markdown_table

FILE, PICTURE = "glance.md", "glance.png"
# Collections that are committed; all others, such as a reader's own data, change nothing that is.
PROJECT = (TWINS, STUDY, EMBEDDED, *embedded.KINDS, *REAL)
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
    "difference",
)
SHOWN = (VERDICTS["better"], VERDICTS["worse"])
ONE = [
    "paper",
    "claim",
    "data",
    "backbone",
    "collection",
]  # sentence on some data, whatever tests it has
ALSO = """## What else is decided on real data

Exploratory sentences with a test that is supported or contradicted; a range is that of the differences of several
tests, each of which is above 0 where the sentence holds."""
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
        larger=known["collection"] == STUDY,
    ).sort_values(["larger", "seeds_made"], ascending=False, kind="stable")
    kept = most.drop_duplicates(SAME).sort_values(["place", "twins", "number"], kind="stable")
    # In the files of their collections both sizes of a twin have one name.
    named = kept["data"].where(~kept["larger"], "larger " + kept["data"])
    named = named.where(~kept["collection"].isin(LEAKY), named + " (leaky training)")
    columns = ["seeds_made", "place", "twins", "number", "larger"]
    return kept.assign(data=named).drop(columns=columns)


def read(figures: Path, collection: str = "") -> pd.DataFrame:
    """The ``claims.csv`` that has a collection's claims, or the project's, as text; without lines where none is."""
    folder = figures if collection in ("", *PROJECT) else figures / collection
    path = folder / "claims.csv"
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


def also(claims: pd.DataFrame, called: Mapping[str, str]) -> pd.DataFrame:
    """What else is decided on real data: exploratory sentences, one line each with all of their tests there.

    Only sentences of which a test is supported or contradicted.

    claims: ``figures/claims.csv`` as text. called: the papers by name, in their order.
    """
    known = _tested(claims, EXPLORATORY)
    known = known[(known["made of"] != "twins") & known["paper"].isin(list(called))]
    lines = [
        {
            "paper": called[str(of["paper"].iloc[0])],
            "claim": of["claim"].iloc[0],
            "data": of["data"].iloc[0],
            "measured": _measured(of),
            "verdict": _verdicts(of),
            "place": list(called).index(str(of["paper"].iloc[0])),
        }
        for _, of in known.groupby(ONE, sort=False)
        if of["verdict"].isin(SHOWN).any()
    ]
    made = pd.DataFrame(lines, columns=["paper", "claim", "data", "measured", "verdict", "place"])
    return made.sort_values("place", kind="stable").drop(columns="place").reset_index(drop=True)


def _measured(tests: pd.DataFrame) -> str:
    """The difference with its interval, or of several tests the smallest and the largest."""
    units = "; ".join(dict.fromkeys(tests["unit"]))
    if len(tests) == 1:
        return f"{tests['measured'].iloc[0]} {units}"
    values = tests["difference"].astype(float)
    return f"{values.min():+.2f} to {values.max():+.2f} {units}"


def _verdicts(tests: pd.DataFrame) -> str:
    """The verdict, or of several tests how many have which, with a link to them."""
    where = f"{tests['collection'].iloc[0]}/{tests['paper'].iloc[0]}/claims.md"
    counts = tests["verdict"].value_counts(sort=False)
    told = ", ".join(f"{verdict} in {count} of {len(tests)}" for verdict, count in counts.items())
    return f"[{tests['verdict'].iloc[0] if len(tests) == 1 else told}]({where})"


def page(claims: pd.DataFrame, called: Mapping[str, str]) -> str:
    """The page ``glance.md`` without its title: the primary claims, then what else is decided."""
    made = also(claims, called)
    if made.empty:
        return markdown(claims, called)
    told = made.map(lambda text: escape_markdown(str(text)))
    told["verdict"] = made["verdict"]
    return f"{markdown(claims, called)}\n{ALSO}\n\n{markdown_table(told, escaped=True)}\n"


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
        f"{left} further primary {has} too few seeds for a verdict; `mmlib decide` trains them."
        if left
        else "",
        f"Exploratory claims with a verdict: {listed}." if listed else "",
    ]
    return "\n\n".join([markdown_table(told, escaped=True), *filter(None, notes)]) + "\n"
