"""A replication report of one paper on one collection, in the form that ReScience asks for.

What was tried, what agreed, what is missing, the paper's own arithmetic, obstacles, deviations. The templates hold no
number: every one comes from the manifest, the files it lists, the published tables or the paper's ``OBSTACLES``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from mmlib.data.manifest import load_manifest
from mmlib.experiments import arithmetic
from mmlib.experiments.comparison import OWN, STANDS_IN, SYNTHETIC
from mmlib.experiments.context import Paper
from mmlib.experiments.undeclared import left_out
from mmlib.experiments.verdicts import NOT_SHOWN, OPEN, VERDICTS
from mmlib.names import STUDY, TWINS
from mmlib.report.artifact import Artifact, Entry
from mmlib.report.citations import FROM_ARTIFACTS, link_markdown, link_rows
from mmlib.report.markup import NOT_BUILT, escape_markdown, to_markdown
from mmlib.report.stats import DECIDABLE

STRONGEST = 3
OF_CLAIMS = (
    " Each claim has its own test, with one value per seed. Undecided means that more seeds are needed. All claims,\n"
    "primary and exploratory, with what their intervals allow for: [claims.md](claims.md)."
)
TEMPLATE = """# Replication of {title}, on {collection}

Generated from `figures/manifest.json`, the files that it lists and the paper's printed tables; not written by hand.

**{extent} replication**{because}.

## What was tried

{data}
- Profile `{profile}`, epochs chosen on `{selection}`, {seeds}.
- {built} of the {has} tables and figures of the paper were made{unmade}.

{artifacts}

{failed}

{beyond}

## What agreed

{verdicts}

{quoted}

## The paper's own arithmetic

{arithmetic} Every check: [arithmetic.csv](../../arithmetic.csv).

{slips}

## Obstacles

What the paper leaves open, the reading taken, and its rows of the [ledger](../../../docs/ledger.md).

{obstacles}
{guesses}
## Deviations

{deviations}
"""


def report(paper: Paper, entries: Sequence[Entry], root: Path, told: str | None = None) -> str:
    """The report's Markdown.

    entries: the manifest's of this paper and collection. told: ``left_out`` of the paper, where it is known.
    """
    own = [a for a in paper.artifacts if not a.is_ours]
    by_id = {e["id"]: e for e in entries}
    regenerated = [a for a in own if by_id.get(a.id, {}).get("status") == "regenerated"]
    main = _main(entries, by_id)
    lines = artifact_lines(regenerated, by_id, root)
    rows = sum(line["rows lacking"] for line in lines)
    reasons = lacking(entries, len(regenerated), len(own), rows)
    claims = numbers(main, root) if main["id"] == "claims" else None
    if _noted(entries, OWN):  # beside which no printed row is shown
        told = paper.left_out
    text = TEMPLATE.format(
        title=paper.title,
        collection=main["collection"],
        extent="Partial" if reasons else "Full",
        because=": " + "; ".join(reasons) if reasons else "",
        data=_bullets(_data(main, entries)),
        profile=main["profile"],
        selection=main["selection"],
        seeds=_count(len(_seeds(entries)), "seed"),
        built=len(regenerated),
        has=len(own),
        unmade=_unmade(own, by_id),
        failed=failed_runs(entries),
        artifacts=_artifact_table(lines),
        beyond=_beyond(paper.artifacts, by_id),
        verdicts=verdicts(claims) + ("" if claims is None else OF_CLAIMS),
        quoted=strongest(claims),
        arithmetic=sums(entries[0]["paper"]),
        slips=slips(entries[0]["paper"]),
        obstacles=_obstacles(paper),
        guesses=f"\nGuesses: {paper.guesses}\n" if paper.guesses else "",
        deviations=_bullets(
            _deviations(paper, main, entries, left_out(paper) if told is None else told)
        ),
    )
    return link_markdown(re.sub(r"\n{3,}", "\n\n", text), FROM_ARTIFACTS)


def _main(entries: Sequence[Entry], by_id: dict[str, Entry]) -> Entry:
    """The entry that speaks for all: the claims, or where they were not made of runs one that says most of the data."""
    claims = [by_id["claims"]] if "claims" in by_id else []
    of_runs = [entry for entry in entries if _caption(entry)[1]]
    telling = [
        e for e in of_runs if any(_noted([e], words) for words in (OWN, STANDS_IN, SYNTHETIC))
    ]
    made = [entry for entry in claims if _caption(entry)[1]]
    return [*made, *telling, *of_runs, *claims, *entries][0]


def _obstacles(paper: Paper) -> str:
    """The choices that a paper leaves, as a table whose last column links to the ledger."""
    frame = pd.DataFrame(paper.obstacles)
    if "ledger" in frame:
        frame["ledger"] = [link_rows(rows, FROM_ARTIFACTS) for rows in frame["ledger"]]
    return to_markdown(frame, "", own=True).strip()


def _unmade(own: Sequence[Artifact], by_id: dict[str, Entry]) -> str:
    """Which of the paper's artifacts were not made, by reason; empty where all were."""
    status = {a.id: by_id.get(a.id, {}).get("status") for a in own}
    lost = [a.title for a in own if status[a.id] == "failed"]
    others = [a.title for a in own if status[a.id] != "regenerated" and a.title not in lost]
    clauses = ""
    if others:
        clauses += f"; not made on these data: {', '.join(others)}"
    if lost:
        clauses += f"; not made since their runs failed: {', '.join(lost)}"
    return clauses


def numbers(entry: Entry, root: Path, kind: type | None = None) -> pd.DataFrame | None:
    """The numbers behind an artifact, of the file that the manifest lists; None where there is none.

    kind: ``str`` for the text as it stands in the file.
    """
    listed = [root / f for f in entry.get("files", []) if f.endswith(f"/{entry['id']}-numbers.csv")]
    if not listed or not listed[0].is_file():
        return None
    return pd.read_csv(listed[0], dtype=kind, keep_default_na=kind is None)


def lacking(entries: Sequence[Entry], built: int, has: int, rows: int) -> list[str]:
    """Why a replication is partial: data, budget, artifacts, rows; empty where it is full."""
    reasons = []
    if is_mixed(entries):
        reasons.append(
            "twins, which are synthetic, and other data stand in for the paper's data sets"
        )
    elif is_twins(entries):
        reasons.append("the data are synthetic twins, not the paper's data sets")
    elif _noted(entries, STANDS_IN):
        reasons.append("other data stand in for the paper's")
    elif _noted(entries, OWN):
        reasons.append("the data are not the paper's")
    if {e["profile"] for e in entries} != {"paper"}:
        reasons.append("the budget is reduced")
    if built < has:
        reasons.append(f"{built} of {has} tables and figures were made")
    if rows:
        reasons.append(f"{rows} of the paper's rows are {NOT_BUILT}")
    failed = {run["run_id"] for e in entries for run in e.get("failed", [])}
    if failed:
        reasons.append(f"{_count(len(failed), 'run')} failed")
    return reasons


def failed_runs(entries: Sequence[Entry]) -> str:
    """The runs that failed, each with the artifacts that lack it and what to do; empty where none did."""
    runs: dict[str, dict[str, Any]] = {}
    lacks: dict[str, list[str]] = {}
    for entry in entries:
        for run in entry.get("failed", []):
            runs[run["run_id"]] = run
            lacks.setdefault(run["run_id"], []).append(entry["title"])
    if not runs:
        return ""
    lines = [
        f"{run['what']}: {', '.join(filter(None, (run['row'], run['setting'])))}, seed {run['seed']}, "
        f"run `{run_id}` ({', '.join(lacks[run_id])}). {run['advice']}"
        for run_id, run in sorted(runs.items())
    ]
    return f"{_count(len(runs), 'run')} failed; all results are over the other runs.\n\n{_bullets(lines)}"


def is_twins(entries: Iterable[Entry]) -> bool:
    """Whether results are of synthetic data, whatever their collection is called."""
    listed = list(entries)
    return any(e["collection"] in (TWINS, STUDY) for e in listed) or _noted(listed, SYNTHETIC)


def is_mixed(entries: Iterable[Entry]) -> bool:
    """Whether some of the data behind results are synthetic and some are real."""
    listed = list(entries)
    return _noted(listed, SYNTHETIC) and _noted(listed, STANDS_IN)


def artifact_lines(
    regenerated: Sequence[Artifact], by_id: dict[str, Entry], root: Path
) -> list[dict[str, Any]]:
    """One line for each artifact that was made: rows, runs, paired verdicts, rows that are lacking."""
    lines = []
    for artifact in regenerated:
        entry = by_id[artifact.id]
        frame = numbers(entry, root)
        built, of = entry["rows_built"] or 0, entry["rows_in_paper"] or 0
        names = _rows_lacking(frame)
        left = max(0, of - built - _rows_lost(frame))
        failed = {} if frame is None or "failed" not in frame else {"failed": _rows_failed(frame)}
        lines.append(
            {
                "artifact": artifact.title,
                "what": _caption(entry)[0],
                "rows": f"{built} of {of}" if of else "",
                "runs": entry["runs"],
                NOT_BUILT: ", ".join(names) or (_count(left, "row") if left else ""),
                "against the plain network": _paired(frame),
                "rows lacking": left,
                **failed,
            }
        )
    return lines


def _artifact_table(lines: Sequence[dict[str, Any]]) -> str:
    if not lines:
        return ""
    frame = pd.DataFrame(lines).drop(columns="rows lacking")
    if "failed" in frame:
        frame["failed"] = frame["failed"].fillna("")
    return to_markdown(frame, "").strip()


def _rows_failed(frame: pd.DataFrame) -> str:
    """Rows with a cell some of whose runs failed, and how."""
    failed = frame[frame["failed"].fillna("") != ""]
    return ", ".join(
        f"{row}: {how}"
        for row, how in dict.fromkeys(zip(failed["row"], failed["failed"], strict=True))
    )


def _rows_lacking(frame: pd.DataFrame | None) -> list[str]:
    """The paper's rows that are not run in some cell that the paper has."""
    if frame is None or not {"in_paper", "n", "row"} <= set(frame):
        return []
    frame = frame[frame["failed"].fillna("") == ""] if "failed" in frame else frame
    least = frame[frame["in_paper"].astype(bool)].groupby("row", sort=False)["n"].min()
    return [str(row) for row in least.index[least == 0]]


def _rows_lost(frame: pd.DataFrame | None) -> int:
    """How many of the paper's rows have a cell all of whose runs failed."""
    if frame is None or not {"failed", "in_paper"} <= set(frame):
        return 0
    lost = frame[
        frame["in_paper"].astype(bool) & (frame["n"] == 0) & (frame["failed"].fillna("") != "")
    ]
    return int(lost["row"].nunique())


def _paired(frame: pd.DataFrame | None) -> str:
    """How many cells of a comparison were better, worse, equivalent and undecided; where known, how the paper fits."""
    if frame is None or not {"verdict", "difference"} <= set(frame):
        return ""
    counts = Counter(frame["verdict"].dropna())
    parts = [f"{verdict} in {counts[verdict]}" for verdict in DECIDABLE if counts[verdict]]
    inside = frame["inside"].dropna().astype(bool) if "inside" in frame else pd.Series(dtype=bool)
    if len(inside):
        parts.append(f"the paper's value inside our prediction in {inside.sum()} of {len(inside)}")
    return ", ".join(parts)


def verdicts(claims: pd.DataFrame | None) -> str:
    """How many claims were tested, and how many had each verdict."""
    if claims is None:
        return f"The paper's claims are {NOT_BUILT} here."
    counts = Counter(claims["verdict"])
    tested = sum(n for verdict, n in counts.items() if verdict not in OPEN)
    always = [VERDICTS[verdict] for verdict in DECIDABLE]
    parts = [f"{counts[v]} {v}" for v in (*always, NOT_SHOWN, *OPEN) if counts[v] or v in always]
    return f"Of {_count(len(claims), 'claim')} {tested} could be tested: {', '.join(parts)}."


def strongest(claims: pd.DataFrame | None) -> str:
    """The strongest claims of each verdict: those farthest from zero in widths of their interval.

    Of claims without a difference, those with the narrowest interval. Seeds that all agree have no width.
    """
    if claims is None or "difference" not in claims:
        return ""
    parts = []
    for verdict in (VERDICTS[verdict] for verdict in DECIDABLE):
        mine = claims[claims["verdict"] == verdict]
        distance = 1 if verdict == VERDICTS["equivalent"] else mine["difference"].abs()
        force = (distance / (mine["high"] - mine["low"])).replace(math.inf, 0.0)
        lines = [
            f'claim {line["no"]}: "{line["claim"]}" ({line["where"]}), {line["data"]}, {line["backbone"]}; '
            f"{line['test (above 0 supports)']}: {line['measured']} {line['unit']}, "
            f"{_count(int(line['seeds']), 'seed')}{_scoped(line.get('scope'))}"
            for line in mine.loc[
                force.sort_values(ascending=False, kind="stable").index[:STRONGEST]
            ].to_dict("records")
        ]
        more = f", the strongest {len(lines)} of {len(mine)}" if len(lines) < len(mine) else ""
        parts += [f"**{verdict.capitalize()}**{more}:\n\n{_bullets(lines)}"] if lines else []
    return "\n\n".join(parts)


def _scoped(scope: object) -> str:
    """Whether a verdict is that of other test data too, where that is known."""
    return f" ({scope})" if isinstance(scope, str) and scope else ""


KINDS = {
    "F1 beside accuracy": "F1 scores that are possible beside their accuracy",
    "average": "averages that add up",
    "difference": "differences that add up",
    "gain": "gains in the text that are those of the tables",
    "parameters": "numbers of parameters that are those of the layers",
    "percentage": "accuracies that are a count of one run",
    "repeat": "cells printed twice that agree",
    "sum": "sums that add up",
}


@cache
def sums(paper: str) -> str:
    """What the paper's printed numbers give when they are computed again, one clause per kind."""
    frame, parts = arithmetic.checks(paper), []
    for kind, group in frame.groupby("kind", sort=False):
        right = arithmetic.WORDS.get(str(kind), (arithmetic.RIGHT,))[0]
        parts.append(f"{KINDS[str(kind)]}: {(group['verdict'] == right).sum()} of {len(group)}")
    return f"Printed {'; '.join(parts)}.{_terms(frame)}{_spreads(frame)}"


def _terms(frame: pd.DataFrame) -> str:
    """Where averages of one column are over different numbers of terms: they cannot be compared."""
    sentences = ""
    right = frame[(frame["kind"] == "average") & (frame["verdict"] == arithmetic.RIGHT)]
    for (table, dataset), group in right.groupby(["table", "dataset"], sort=False):
        counts = Counter(group["rule"])
        if len(counts) > 1:
            text = ", ".join(f"{n} a {rule}" for rule, n in sorted(counts.items()))
            sentences += f" Averages of {table} on {dataset} mix their terms: {text}."
    return sentences


def _spreads(frame: pd.DataFrame) -> str:
    """Accuracies printed with a spread, so of several runs, that are counts of one run; and how many chance would give.

    Of the numbers with two decimals n in ten thousand are such counts.
    """
    sentences = ""
    spread = frame[(frame["kind"] == "percentage") & frame["rule"].str.endswith(arithmetic.SPREAD)]
    for (table, rule), group in spread.groupby(["table", "rule"], sort=False):
        n = int(str(rule).removesuffix(arithmetic.SPREAD).split()[-1])
        ones = int((group["verdict"] == arithmetic.WORDS["percentage"][0]).sum())
        sentences += (
            f" Of {_count(len(group), 'accuracy')} of {table} with a spread {ones} are a count of one run all the "
            f"same; chance would give {len(group) * n / 100 / 100:.0f}."
        )
    return sentences


@cache
def slips(paper: str) -> str:
    """A table of the printed numbers that the others contradict, and of cells that two tables print differently."""
    frame = arithmetic.checks(paper)
    bad = frame[frame["verdict"].isin([arithmetic.WRONG, arithmetic.WORDS["repeat"][1]])]
    if bad.empty:
        return "The checks found no contradictions."
    cell = [", ".join(filter(None, line)) for line in bad[list(arithmetic.KEYS)].to_numpy()]
    shown = pd.DataFrame(
        {
            "table": bad["table"],
            "cell": cell,
            "kind": bad["kind"],
            "rule": bad["rule"],
            "printed": bad["printed"],
            "recomputed": bad["recomputed"],
        }
    )
    return to_markdown(shown, "").strip()


def _data(main: Entry, entries: Sequence[Entry]) -> list[str]:
    """Which data, by name and fingerprint; of recorded bundles source and licence."""
    prints = main["fingerprint"].split("+")
    named = _caption(main)[1] or f"Data: `{main['collection']}`"
    lines = [
        f"{named}; fingerprint{'s' * (len(prints) > 1)} {', '.join(f'`{p}`' for p in prints)}."
    ]
    if is_mixed(entries):
        lines.append(
            "What is called a twin is synthetic: its best possible answer is known. The other data are real. No number "
            "here is a result on the paper's data."
        )
    elif is_twins(entries):
        lines.append(
            "These are synthetic twins of the paper's data sets, whose best possible answer is known. No "
            "number here is a result on the paper's data."
        )
    known = {
        b["fingerprint"]: (name, b)
        for name, b in load_manifest()["bundle"].items()
        if "fingerprint" in b
    }
    return [
        *lines,
        *(
            f"`{name}`: {escape_markdown(b['source'])}. Licence: {escape_markdown(b['licence'])}."
            for name, b in (known[p] for p in prints if p in known)
        ),
    ]


def _caption(entry: Entry) -> tuple[str, str, str]:
    """What an artifact shows, its data, and what the profile reduced, as its caption says them."""
    what, mark, made = str(entry["caption"]).partition(" Data: ")
    data, _, reduced = made.partition(". ")
    return what, (mark + data).strip().removesuffix("."), reduced


def _beyond(artifacts: Iterable[Artifact], by_id: dict[str, Entry]) -> str:
    """What was made beyond the paper."""
    extra = [
        f"{a.title} (`{a.id}`)"
        for a in artifacts
        if a.is_ours and a.id != "claims" and by_id.get(a.id, {}).get("status") == "regenerated"
    ]
    return f"Beyond the paper: {', '.join(extra)}." if extra else ""


def _deviations(paper: Paper, main: Entry, entries: Sequence[Entry], told: str) -> list[str]:
    notes = [n for n in main["notes"] if any(words in n for words in (OWN, STANDS_IN, SYNTHETIC))]
    split = [
        n
        for n in main["notes"]
        if any(n.startswith(f"{x.split(' ')[0]}:") for x in notes) and n not in notes
    ]
    reduced = _caption(main)[2]
    needs = [
        f"{e['title']}: {' '.join(e['notes'])}" for e in entries if e["status"] == "needs data"
    ]
    left = [f"Left out: {told}"] if told else []
    return [*notes, *split, *([reduced] if reduced else []), *left, *needs]


def _noted(entries: Iterable[Entry], words: str) -> bool:
    return any(words in note for e in entries for note in e["notes"])


def _seeds(entries: Iterable[Entry]) -> set[int]:
    return {seed for e in entries for seed in e["seeds"]}


def _count(n: int, noun: str) -> str:
    plural = noun.removesuffix("y") + "ies" if noun.endswith("y") else f"{noun}s"
    return f"{n} {noun if n == 1 else plural}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
