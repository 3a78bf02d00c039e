"""Artifacts: a paper's tables and figures, how they are written, and the manifest that lists them.

Files are ``figures/<collection>/<paper>/<id>.*``. Each is written to a temporary name and renamed, and equal
content gives equal bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from mmlib import files
from mmlib.data import forms
from mmlib.data.bounded import JSON_BYTES, parse_json, read_bounded
from mmlib.data.forms import check_form
from mmlib.errors import InputError, unknown_name
from mmlib.names import check_collection, check_name
from mmlib.report import tables

DPI = 180
NOT_DRAWN = "could not be drawn"
STATUSES = ("regenerated", "not built yet", "needs data", "failed", NOT_DRAWN)
MOST_RUN_IDS = 50
Entry = dict[str, Any]


@dataclass(frozen=True)
class FailedRun:
    """A run that failed or is damaged, where a reader looks for it."""

    run_id: str
    """``key-numerics``."""

    row: str
    """Of the table or figure, or what the run is."""

    setting: str
    """Of the table or figure; may be empty."""

    seed: int
    """The run's."""

    fold: int | None
    """The run's; None without folds."""

    what: str
    """What its cell says: ``failed (diverged)``."""

    advice: str
    """What a reader can do about it."""


@dataclass(frozen=True)
class Output:
    """What drawing an artifact gave."""

    table: pd.DataFrame | None = None
    """The table as text."""

    figure: Figure | None = None
    """The picture."""

    numbers: pd.DataFrame | None = None
    """Those behind the table or picture, one line each."""

    rows_built: int | None = None
    """How many of the paper's rows, curves or bars there are."""

    notes: tuple[str, ...] = ()
    """What a reader must know, each one sentence or more."""

    run_ids: tuple[str, ...] = ()
    """The finished runs that it shows."""

    failed: tuple[FailedRun, ...] = ()
    """The runs that it lacks since they failed."""


@dataclass(frozen=True)
class Artifact:
    """A table or figure of a paper. What a context and a cell are, ``experiments`` says."""

    id: str
    """The paper's own number: ``table1``, ``fig8-tsne``."""

    paper: str
    """The paper's name: ``balm``."""

    kind: Literal["table", "figure"]
    """Decides which files are written."""

    title: str
    """What the paper calls it: ``Table 1``."""

    caption: str
    """What it shows, one sentence or more."""

    cells: Callable[[Any], Sequence[Any]]
    """From a context to the places of its runs; the runs that it needs follow from them."""

    draw: Callable[[Any, Sequence[Any]], Output]
    """From a context whose runs are done, and the cells, to what is shown."""

    rows_in_paper: int | None = None
    """Rows of the paper's table, or curves or bars of its figure; None where that says nothing."""

    source: str = ""
    """Where it is in the paper: ``BALM Table 1``."""

    on_request: bool = False
    """Made only where it is asked for by name, since its runs take long."""

    needs: str | Callable[[Any], str] = ""
    """What it cannot do without: ``twins``, a data set, or what says why these data do not do; nothing where empty."""

    left_out: Callable[[Any], Sequence[str]] = lambda context: ()
    """From a context to the rows that the paper prints there and that nothing here declares."""

    any_score: bool = False
    """Whether it shows whatever metrics there are, or none: scores without a sign have MAE and correlation alone."""

    def __post_init__(self) -> None:
        advice = "Name it as the paper does, such as 'table1' or 'fig8-tsne'."
        check_name("artifact id", self.id, advice)
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise InputError(
                "artifact id",
                repr(self.id),
                "lower case letters, digits and single hyphens",
                advice,
            )
        if self.kind not in ("table", "figure"):
            raise unknown_name(f"artifact {self.id}, kind", self.kind, ("table", "figure"))


@dataclass(frozen=True)
class Made:
    """Under which circumstances an artifact was made; goes into its manifest entry."""

    collection: str
    """The folder of ``figures`` that it goes into."""

    profile: str
    """The name of the budget."""

    selection: str = "valid"
    """On which split the epoch was chosen."""

    seeds: tuple[int, ...] = ()
    """Those of its runs."""

    seconds: float = 0.0
    """How long it took to draw."""

    fingerprint: str = ""
    """Of the bundles, joined by ``+``."""

    reduced: str = ""
    """The data, and what the profile reduced; joins the caption."""

    def __post_init__(self) -> None:
        check_collection("collection", self.collection)


def render(artifact: Artifact, output: Output, made: Made) -> dict[str, bytes]:
    """An artifact's files as bytes, by what follows its id in their names; nothing is written."""
    caption = f"{artifact.caption} {made.reduced}".strip()
    contents: dict[str, bytes] = {}
    if output.table is not None:
        contents[".csv"] = csv_bytes(tables.flat(output.table))
        contents[".md"] = tables.to_markdown(
            output.table, f"{artifact.title}. {caption}", output.notes
        ).encode()
        label = f"{artifact.paper}-{artifact.id}"
        contents[".tex"] = tables.to_latex(
            output.table, f"{artifact.title}. {caption}", label
        ).encode()
    if output.figure is not None:
        contents[".png"] = figure_bytes(output.figure, "png", artifact.id)
        contents[".svg"] = figure_bytes(output.figure, "svg", artifact.id)
    if output.numbers is not None:
        contents["-numbers.csv" if ".csv" in contents else ".csv"] = csv_bytes(output.numbers)
    return contents


def write(
    artifact: Artifact,
    output: Output,
    figures: Path,
    made: Made,
    rendered: Mapping[str, bytes] | None = None,
) -> Entry:
    """Write an artifact's files and return its manifest entry, whose paths are relative to the root.

    A table gives ``.csv``, ``.md``, ``.tex`` (and ``-numbers.csv`` where there are numbers), a figure ``.png``,
    ``.svg`` and ``.csv``. The root is the folder that holds ``figures``. rendered: what ``render`` gave, where it was
    called before.
    """
    contents = render(artifact, output, made) if rendered is None else rendered
    folder = figures / made.collection / artifact.paper
    for ending, content in contents.items():
        files.write(folder / f"{artifact.id}{ending}", content)
    done = output.table is not None or output.figure is not None
    status = "regenerated" if done else "failed" if output.failed else "not built yet"
    entry = missing(artifact, made, status, output.notes)
    if output.failed:
        entry["failed"] = [dataclasses.asdict(run) for run in output.failed]
    names = sorted(f"{artifact.id}{ending}" for ending in contents)
    at = Path(figures.name) / made.collection / artifact.paper
    return entry | {
        "rows_built": output.rows_built,
        "files": [(at / name).as_posix() for name in names],
        "seeds": sorted(made.seeds),
        "seconds": round(made.seconds, 1),
        **_run_ids(output.run_ids),
    }


def missing(artifact: Artifact, made: Made, status: str, notes: Sequence[str] = ()) -> Entry:
    """The manifest entry of an artifact without files, such as one that ``needs data``."""
    if status not in STATUSES:
        raise unknown_name("artifact status", status, STATUSES)
    return {
        "id": artifact.id,
        "paper": artifact.paper,
        "collection": made.collection,
        "kind": artifact.kind,
        "title": artifact.title,
        "caption": f"{artifact.caption} {made.reduced}".strip(),
        "source": artifact.source,
        "status": status,
        "rows_built": 0,
        "rows_in_paper": artifact.rows_in_paper,
        "files": [],
        **_run_ids(()),
        "seeds": [],
        "seconds": 0.0,
        "profile": made.profile,
        "selection": made.selection,
        "fingerprint": made.fingerprint,
        "notes": list(notes),
    }


def write_records(
    records: Iterable[Mapping[str, Any]], figures: Path, collection: str, paper: str
) -> Path:
    """Write ``records.csv`` of a paper in a collection, one tidy row per run and metric."""
    path = figures / collection / paper / "records.csv"
    files.write(path, csv_bytes(tables.records_frame(records)))
    return path


def read_manifest(path: Path) -> list[Entry]:
    """The manifest's entries; none where there is no file.

    Raises:
        InputError: a file that is not a manifest, cannot be read, or has an entry that lacks a key, has a value of
            another kind or a name that none can have.
    """
    if not path.exists():
        return []
    try:
        entries = parse_json(read_bounded(path, JSON_BYTES))
        if not isinstance(entries, list):
            raise ValueError(f"a {type(entries).__name__}")
        for number, entry in enumerate(entries):
            check_form(f"entry {number}", entry, _FORM, {})
        return [_inside(path, entry) for entry in entries]
    except ValueError as error:
        raise InputError(
            str(path),
            f"no list of artifacts ({error})",
            "a manifest that the notebooks wrote",
            "Delete the file and run the notebooks again; finished runs are reused.",
        ) from None


def update_manifest(
    path: Path, entries: Iterable[Entry], papers: Sequence[str] = ()
) -> list[Entry]:
    """Merge entries into the manifest: one per collection, paper and id, the later one winning.

    papers: their order; others follow by name.
    Two processes may do so at once: each holds a lock beside the file while it reads, merges and renames.
    """
    with files.locked(path):
        merged = {_key(entry): entry for entry in read_manifest(path)} | {
            _key(entry): entry for entry in entries
        }
        ordered = [
            merged[key] for key in sorted(merged, key=lambda key: natural_order(key, papers))
        ]
        files.write(path, (json.dumps(ordered, indent=1, ensure_ascii=False) + "\n").encode())
    return ordered


def natural_order(key: tuple[str, str, str], papers: Sequence[str] = ()) -> tuple[object, ...]:
    """Sort key of (collection, paper, id): papers in the given order, ``fig9`` before ``fig10``."""
    collection, paper, name = key
    place = papers.index(paper) if paper in papers else len(papers)
    parts = tuple(
        (0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.findall(r"\d+|\D+", name)
    )
    return collection, place, paper, parts


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """A frame as CSV without its index, the same bytes on every system."""
    return frame.to_csv(index=False, lineterminator="\n").encode("utf-8")


@contextmanager
def plain_settings() -> Iterator[None]:
    """Matplotlib's own defaults until the ``with`` block ends: a user's matplotlibrc changes no picture."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def figure_bytes(
    figure: Figure, kind: Literal["png", "svg"], salt: str = "mmlib", dpi: int = DPI
) -> bytes:
    """A figure as PNG or SVG without dates or random ids: equal figures give equal bytes.

    The layout is settled at the first call, since constrained layout moves a little with every drawing. A PNG has
    256 colours of its own, which nobody can tell from the original at a quarter of its size.
    """
    target = io.BytesIO()
    with plain_settings():
        matplotlib.rcParams["svg.hashsalt"] = salt
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(
            target,
            format=kind,
            dpi=dpi,
            metadata={"Software": None} if kind == "png" else {"Date": None},
        )
    return _fewer_colours(target) if kind == "png" else target.getvalue()


def _fewer_colours(picture: io.BytesIO) -> bytes:
    target = io.BytesIO()
    few = (
        Image.open(picture)
        .convert("RGB")
        .quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    few.save(target, "PNG", optimize=True)
    return target.getvalue()


_KEY = ("collection", "paper", "id")
_FORM: dict[str, forms.Form] = {
    "id": forms.text,
    "paper": forms.text,
    "collection": forms.text,
    "kind": forms.text,
    "title": forms.text,
    "caption": forms.text,
    "source": forms.text,
    "status": forms.text,
    "rows_built": forms.optional(forms.whole),
    "rows_in_paper": forms.optional(forms.whole),
    "files": forms.listed(forms.text),
    "runs": forms.whole,
    "run_ids": forms.listed(forms.text),
    "run_ids_hash": forms.text,
    "seeds": forms.listed(forms.whole),
    "seconds": forms.number,
    "profile": forms.text,
    "selection": forms.text,
    "fingerprint": forms.text,
    "notes": forms.listed(forms.text),
}


def _key(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(entry["collection"]), str(entry["paper"]), str(entry["id"])


def _inside(manifest: Path, entry: Entry) -> Entry:
    """The entry, with files that stand in the folder of its collection and paper beside the manifest.

    Each is ``FOLDER/<collection>/<paper>/<name>``. The first part is the name that the manifest's folder had when it
    was written, and becomes the one that it has.
    """
    advice = "Correct the entry, or delete the file and run the notebooks again; finished runs are reused."
    for key in _KEY:
        check_name(f"{manifest}, {key}", entry[key], advice)
    here, kept = Path(os.path.abspath(manifest)).parent.name, []
    for file in entry.get("files", []):
        parts = PurePosixPath(str(file)).parts
        if len(parts) != 4 or parts[1:3] != (entry["collection"], entry["paper"]):
            raise InputError(
                f"{manifest}, files of {entry['id']}",
                f"{str(file)!r:.80}",
                f"files in {here}/{entry['collection']}/{entry['paper']}",
                advice,
            )
        check_name(f"{manifest}, files of {entry['id']}", parts[3], advice)
        kept.append("/".join((here, *parts[1:])))
    return entry | ({"files": kept} if "files" in entry else {})


def _run_ids(ids: Sequence[str]) -> Entry:
    unique = sorted(set(ids))
    digest = hashlib.sha256("\n".join(unique).encode()).hexdigest()[:16]
    return {
        "runs": len(unique),
        "run_ids": unique if len(unique) <= MOST_RUN_IDS else [],
        "run_ids_hash": digest if unique else "",
    }
