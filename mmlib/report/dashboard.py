"""``figures/index.html``: everything that the notebooks regenerated, on one self-contained page.

The page needs no network: its style and script (``page/``) stand in it, pictures are linked relatively. Without a
script it shows everything; with one it filters.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from mmlib.files import write
from mmlib.names import EMBEDDED, STUDY, TWINS
from mmlib.report.artifact import STATUSES, Entry, natural_order, read_manifest
from mmlib.report.citations import LEDGER, link_html
from mmlib.report.markup import NOT_BUILT, NOTHING

FILTERS = ("paper", "collection", "status", "kind", "selection")
LINK = re.compile(r"\[(.*)\]\((.*?)\)(.*)")
GATHERED = {
    "glance.md": "the primary claims",
    "claims.csv": "every paper's claims",
    "arithmetic.csv": "the papers' own sums",
}  # beside the page
COMPARED = (
    "compare/index.html"  # in a collection's folder, where ``mmlib compare`` was run on its data
)
BUDGET = " Data: "  # in a caption, what follows it stands below "How it was made"
PICTURE = "glance.png"  # of the primary claims, beside the page
PREVIEW_ROWS, PREVIEW_COLUMNS = 8, 12
PREVIEWED = ("paper", "ours", "of the best possible")
LOOKS = dict(zip(STATUSES, ("done", "open", "data", "data", "data"), strict=True))


@dataclass(frozen=True)
class Preview:
    """The first rows of a table."""

    groups: list[tuple[str, int]]
    """Words above the heads and how many columns they span; none where columns are not grouped."""

    heads: list[str]
    """The columns' heads."""

    lines: list[list[str]]
    """The cells of each row, one for each head."""

    more: str
    """How many rows and columns are left out, as words."""


def write_dashboard(
    manifest_path: Path,
    out: Path,
    papers: Mapping[str, str] | None = None,
    total: int | None = None,
    glance: pd.DataFrame | None = None,
    figures: Path | None = None,
    notebooks: Path | None = None,
) -> Path:
    """Write the page for a manifest and return its path.

    The manifest's file names are relative to the folder above the figures' own. Only files that are there are
    linked.

    Args:
        papers: name to what readers call it, in their order.
        total: how many artifacts there are in all; by default those that the manifest lists.
        glance: the table that opens the page, as text; ``[words](link)`` is a link.
        figures: the figures' folder, where the manifest does not stand in it.
        notebooks: the folder of the notebooks to link; by default that beside the figures' folder.

    Raises:
        InputError: a manifest that cannot be read.
    """
    from jinja2 import Environment, StrictUndefined

    entries = read_manifest(manifest_path, figures)
    above, here = (figures or manifest_path.parent).resolve(), out.resolve().parent
    folder = resources.files("mmlib.report") / "page"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    ledger = _link(above.parent / LEDGER, here)
    environment.filters["cited"] = lambda text: link_html(text, ledger)
    page = environment.from_string((folder / "dashboard.html").read_text(encoding="utf-8")).render(
        style=(folder / "dashboard.css").read_text(encoding="utf-8"),
        script=(folder / "dashboard.js").read_text(encoding="utf-8"),
        sections=_sections(
            entries, above, here, papers or {}, notebooks or above.parent / "notebooks"
        ),
        filters=_filters(entries, papers or {}),
        **_counts(entries, here, total),
        glance=_glance(glance, here),
    )
    write(out, f"{page}\n".encode())
    return out


def _glance(table: pd.DataFrame | None, here: Path) -> dict[str, Any] | None:
    """The heads and the cells of the table that opens the page, each with its link; None where it has no line."""
    if table is None or table.empty:
        return None
    rows = [[_linked(str(cell)) for cell in row] for row in table.to_numpy()]
    picture = PICTURE if (here / PICTURE).is_file() else ""
    return {"heads": list(table.columns), "rows": rows, "picture": picture}


def _linked(text: str) -> tuple[str, str, str]:
    """The words of a cell, where they lead to, and what stands after them."""
    match = LINK.fullmatch(text)
    return (match[1], match[2], match[3]) if match else (text, "", "")


def _counts(entries: Sequence[Entry], here: Path, total: int | None) -> dict[str, Any]:
    """What the page's head says: how much is made, in all and by collection, and what is gathered of all papers."""
    listed = {(e["paper"], e["id"]) for e in entries}
    collections = []
    for name in _values(entries, "collection"):
        mine = [e for e in entries if e["collection"] == name]
        collections.append((name, sum(_is_made(e) for e in mine), len(mine)))
    beside = GATHERED | {COMPARED: "which method to use"}
    return {
        "done": len({(e["paper"], e["id"]) for e in entries if _is_made(e)}),
        "total": total or len(listed),
        "collections": collections,
        "gathered": [(name, words) for name, words in beside.items() if (here / name).is_file()],
    }


def _is_made(entry: Entry) -> bool:
    return entry.get("status") == "regenerated"


def _filters(
    entries: Sequence[Entry], papers: Mapping[str, str]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """By filter, its values and what they are called."""
    return [
        (key, [(value, papers.get(value, value)) for value in _values(entries, key, list(papers))])
        for key in FILTERS
    ]


def _sections(
    entries: Sequence[Entry],
    figures: Path,
    here: Path,
    papers: Mapping[str, str],
    of_papers: Path,
) -> list[dict[str, Any]]:
    """A section for each paper; of_papers: the folder of their notebooks."""
    root = figures.parent
    sections = []
    for paper in _values(entries, "paper", list(papers)):
        mine = sorted((e for e in entries if e["paper"] == paper), key=_place)
        notebooks = sorted(of_papers.glob(f"*_{paper}.ipynb"))
        reports = [
            (name, figures / name / paper / "replication.md")
            for name in _values(mine, "collection")
        ]
        sections.append(
            {
                "name": papers.get(paper, paper),
                "done": sum(_is_made(e) for e in mine),
                "notebook": _link(notebooks[0].resolve(), here) if notebooks else "",
                "reports": [(name, _link(path, here)) for name, path in reports if path.is_file()],
                "cards": [_card(entry, root, here) for entry in mine],
            }
        )
    return sections


def _place(entry: Entry) -> tuple[object, ...]:
    """Sort key of a paper's cards: collections, tables first, then by number."""
    is_figure = entry.get("kind") != "table"
    return (
        *_standing(str(entry["collection"])),
        is_figure,
        natural_order(("", entry["paper"], entry["id"])),
    )


def _standing(collection: str) -> tuple[object, ...]:
    """Sort key of collections: real data that no feature extractor saw, other real data, then twins."""
    return "unseen" not in collection, collection in (EMBEDDED, TWINS, STUDY), collection


def _card(entry: Entry, root: Path, here: Path) -> dict[str, Any]:
    """What the page says of an artifact."""
    files = [root / name for name in entry.get("files", []) if (root / name).is_file()]
    files.sort(key=lambda f: (f.stem != entry["id"], f.name))
    status, title = str(entry.get("status", "")), str(entry.get("title", entry["id"]))
    told, source = str(entry.get("caption", "")), str(entry.get("source", ""))
    caption = told.split(BUDGET)[0]
    words = [entry["id"], title, told, source, entry["paper"], entry["collection"]]
    picture = next((f for f in files if f.suffix == ".png"), None)
    table = next((f for f in files if f.suffix == ".csv" and f.stem == entry["id"]), None)
    preview = _preview(table) if table and not picture else None
    runs_failed = entry.get("failed") or []
    return {
        "data": [(key, str(entry.get(key, ""))) for key in FILTERS],
        "words": " ".join(words).lower(),
        "picture": _link(picture, here) if picture else "",
        "alt": caption or title,
        "preview": preview,
        "instead": "empty table" if table else _instead(entry),
        "look": "open" if _only_published(entry) else LOOKS.get(status, "open"),
        "status": status,
        "collection": entry["collection"],
        "rows": _rows_built(entry),
        "failed": _failed(runs_failed),
        "title": title,
        "caption": caption,
        "links": [(_link(f, here), f"{title}: {f.name}", _kind_of_file(f, entry)) for f in files],
        "facts": _facts(entry),
        "notes": [str(note) for note in entry.get("notes") or []],
    }


def _instead(entry: Entry) -> str:
    """What the card says where there is nothing to look at."""
    pictures = [Path(name).name for name in entry.get("local", []) if not name.endswith(".svg")]
    if pictures:
        return f"differs by machine, so it is not committed; a run writes {', '.join(pictures)}"
    return ", ".join(dict.fromkeys(run["what"] for run in entry.get("failed") or [])) or str(
        entry.get("status", "")
    )


def _rows_built(entry: Entry) -> str:
    """How many of the paper's rows or curves there are."""
    if not entry.get("rows_in_paper"):
        return ""
    unit = "rows" if entry.get("kind") == "table" else "series"
    return f"{entry.get('rows_built') or 0} of {entry['rows_in_paper']} {unit}"


def _only_published(entry: Entry) -> bool:
    """Whether the paper has rows there and what is drawn has none of them."""
    return _is_made(entry) and bool(entry.get("rows_in_paper")) and not entry.get("rows_built")


def _failed(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many runs of an artifact failed and how; which ones and what to do stand in its notes."""
    counts = Counter(str(run["what"]) for run in runs)
    return [f"{n} run{'s' * (n > 1)} {what}" for what, n in counts.items()]


def _kind_of_file(path: Path, entry: Entry) -> str:
    extra = path.stem.removeprefix(entry["id"]).removeprefix("-")
    return f"{extra} {path.suffix[1:]}".strip()


def _facts(entry: Entry) -> list[tuple[str, str]]:
    """Under which circumstances an artifact was made."""
    seeds = ", ".join(str(seed) for seed in entry.get("seeds") or [])
    names = ("source", "profile", "selection", "runs")
    facts = [(name, entry.get(name)) for name in names]
    _, _, budget = str(entry.get("caption", "")).partition(BUDGET)
    facts += [("seeds", seeds), ("data", budget), ("fingerprint", entry.get("fingerprint"))]
    return [(name, str(value)) for name, value in facts if value]


def _preview(path: Path) -> Preview | None:
    """The first rows of a table: of a comparison table, ours and what it is held against; None of an empty file."""
    with path.open(encoding="utf-8", newline="") as file:
        head = next(csv.reader(file), None)
        lines = list(csv.reader(file))
    if head is None:
        return None
    heads = [name.split(" | ") for name in head]
    built = [line for line in lines if not _is_only_published(line)]
    published = len(lines) - len(built)
    shown = [i for i, head in enumerate(heads) if len(head) < 3 or head[-1] in PREVIEWED][
        :PREVIEW_COLUMNS
    ]
    left = {"row": len(built) - PREVIEW_ROWS, "column": len(heads) - len(shown)}
    more = [f"{n} more {what}{'s' * (n > 1)}" for what, n in left.items() if n > 0]
    more += [f"{published} row{'s' * (published > 1)} published only"] if published else []
    cells = [[line[i] for i in shown] for line in built[:PREVIEW_ROWS]]
    return Preview(*_heads([heads[i] for i in shown]), cells, " and ".join(more))


def _is_only_published(line: Sequence[str]) -> bool:
    """Whether a table's line is of a row that is not built."""
    return NOT_BUILT in line and set(line[1:]) <= {NOT_BUILT, NOTHING, ""}


def _heads(heads: Sequence[Sequence[str]]) -> tuple[list[tuple[str, int]], list[str]]:
    """Groups of columns, where they are grouped by setting and metric, and the columns' heads."""
    if all(len(head) < 3 for head in heads):
        return [], [" | ".join(head) for head in heads]
    groups = itertools.groupby(
        heads, key=lambda head: ", ".join(part for part in head[:-1] if part)
    )
    return [(words, len(list(members))) for words, members in groups], [head[-1] for head in heads]


def _values(entries: Sequence[Entry], key: str, papers: Sequence[str] = ()) -> list[str]:
    values = {str(e.get(key, "")) for e in entries} - {""}
    if key == "collection":
        return sorted(values, key=_standing)
    order: Sequence[str] = {"paper": papers, "status": STATUSES}.get(key, ())
    return sorted(values, key=lambda v: (order.index(v) if v in order else len(order), v))


def _link(path: Path, here: Path) -> str:
    return quote(Path(os.path.relpath(path, here)).as_posix())
