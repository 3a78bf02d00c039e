"""Files on all papers and collections together, written after a paper's artifacts are drawn.

``figures/claims.csv`` (every paper's claims with verdicts; those on a reader's own data stand in a ``claims.csv`` of
their collection), ``figures/glance.md`` and ``glance.png`` (primary ones),
``figures/arithmetic.csv`` (the papers' own sums) and a ``replication.md`` beside each paper's figures. All of it
follows from the manifest, the files that it lists and the published tables, so a second call writes the same bytes,
whichever paper was drawn last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmlib import files
from mmlib.experiments import arithmetic, verdicts
from mmlib.experiments.context import Paper
from mmlib.experiments.published import papers
from mmlib.experiments.undeclared import left_out
from mmlib.names import LEAKY
from mmlib.pipeline import findings, glance, replication
from mmlib.report.artifact import Entry, csv_bytes, figure_bytes, natural_order, read_all

CLAIMS = "claims"
TITLE = "# The papers' primary claims at a glance\n\n"
FIRST = ("paper", "collection", "made of")
COLUMNS = (*FIRST, *verdicts.COLUMNS, "profile", "fingerprint")


def write_all(figures: Path, declared: Mapping[str, Paper]) -> None:
    """Write claims.csv, glance.md and .png, arithmetic.csv and every replication report; declared: the papers by name.

    The manifest is held meanwhile, so that of two processes the later one writes what both have drawn.
    """
    with files.locked(figures / "manifest.json"):
        entries = read_all(figures)
        every_claim = claims(entries, figures.parent, list(declared))
        files.write(figures / "claims.csv", csv_bytes(every_claim))
        for own in {str(e["collection"]) for e in entries if e["id"] == CLAIMS} - {*glance.PROJECT}:
            of_own = claims(entries, figures.parent, list(declared), [own])
            files.write(figures / own / "claims.csv", csv_bytes(of_own))
        called = {name: paper.called for name, paper in declared.items()}
        seen = glance.page(every_claim, called)
        files.write(figures / glance.FILE, f"{TITLE}{seen}".encode())
        _write_picture(figures, every_claim, called)
        arithmetic.write(figures)
        pairs = reported(entries, declared)
        told = {paper: left_out(declared[paper]) for paper in dict.fromkeys(p for p, _ in pairs)}
        for paper, collection in pairs:
            mine = [e for e in entries if (e["paper"], e["collection"]) == (paper, collection)]
            text = replication.report(declared[paper], mine, figures.parent, told[paper])
            files.write(figures / collection / paper / "replication.md", text.encode("utf-8"))


def _write_picture(figures: Path, every_claim: pd.DataFrame, called: Mapping[str, str]) -> None:
    """glance.png: the primary claims that have a verdict on honest data; no file where none has."""
    kept = glance.tested(every_claim.astype(str), called)
    kept = kept[~kept["collection"].isin(LEAKY)]
    path = figures / glance.PICTURE
    if kept.empty:
        path.unlink(missing_ok=True)
        return
    files.write(path, figure_bytes(findings.picture(kept, called), "png", "glance"))


def claims(
    entries: Iterable[Entry],
    root: Path,
    papers_in_order: Sequence[str] = (),
    collections: Sequence[str] = glance.PROJECT,
) -> pd.DataFrame:
    """The claims of some collections that the manifest lists with their numbers, in its order, as text.

    Numbers stay as they stand in their files. collections: by default the project's, so that what stands at the top of
    ``figures`` does not change with a reader's own data, or with a label.
    """
    listed = [
        e
        for e in entries
        if e["id"] == CLAIMS and e["status"] == "regenerated" and e["collection"] in collections
    ]
    frames = []
    for entry in sorted(
        listed, key=lambda e: natural_order((e["collection"], e["paper"], e["id"]), papers_in_order)
    ):
        numbers = replication.numbers(entry, root, str)
        synthetic, mixed = replication.is_twins([entry]), replication.is_mixed([entry])
        known = {
            "paper": entry["paper"],
            "collection": entry["collection"],
            "profile": entry["profile"],
            "fingerprint": entry["fingerprint"],
        }
        if numbers is not None:
            twin = numbers["data"].str.endswith(" twin") if mixed else synthetic
            known["made of"] = np.where(twin, "twins", "real data")
            frames.append(numbers.assign(**known).reindex(columns=COLUMNS, fill_value=""))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)


def reported(entries: Iterable[Entry], declared: Mapping[str, Paper]) -> Sequence[tuple[str, str]]:
    """The papers and collections that get a report: those with printed numbers to hold ours against."""
    listed = dict.fromkeys((str(e["paper"]), str(e["collection"])) for e in entries)
    return [
        (paper, collection)
        for paper, collection in listed
        if paper in declared and paper in papers()
    ]
