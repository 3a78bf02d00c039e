"""Artifacts: a paper's tables and figures, how they are written, and the manifest that lists them.

Files are ``figures/<collection>/<paper>/<id>.*``. Each is written to a temporary name and renamed, and equal
content gives equal bytes. What differs by machine (seconds, t-SNE layouts) stands in files called ``<id>-local*``;
these and the pictures as SVG are not committed, so that a repeated run leaves the checkout clean.
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
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from mmlib import files
from mmlib.data import forms
from mmlib.data.bounded import JSON_BYTES, parse_json, read_bounded
from mmlib.data.forms import check_form
from mmlib.errors import InputError, unknown_name
from mmlib.names import check_collection, check_name
from mmlib.report import citations, fitting, layout, markup, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANIFEST = "manifest.json"
DPI = 180
LOCAL = "-local"
ENDINGS = {
    where + ending
    for where in ("", LOCAL)
    for ending in (".csv", "-numbers.csv", ".md", ".tex", ".png", ".svg")
}
NOT_DRAWN = "could not be drawn"
STATUSES = ("regenerated", "not built yet", "needs data", "failed", NOT_DRAWN)
MOST_RUN_IDS = 50
Entry = dict[str, Any]
Text = str | Callable[[Any], str]  # true of any data, or what a context's data make of it


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
    """The result of drawing an artifact."""

    table: pd.DataFrame | None = None
    """The table as text."""

    figure: Figure | None = None
    """The picture."""

    numbers: pd.DataFrame | None = None
    """The numbers behind the table or figure, one line each."""

    rows_built: int | None = None
    """How many of the paper's rows, curves or bars there are."""

    notes: tuple[str, ...] = ()
    """Notes for the reader, each one or more sentences."""

    run_ids: tuple[str, ...] = ()
    """Ids of the finished runs that it shows."""

    failed: tuple[FailedRun, ...] = ()
    """The runs that are missing because they failed."""

    comparison: bool = False
    """Whether the numbers are those of ``tables.compare``, to be set as the table where they are written or shown."""

    local: pd.DataFrame | None = None
    """What was measured on this machine, such as seconds: text beside the table, in a file of its own."""


NOT_BUILT = Output(notes=("Not built yet.",))


@dataclass(frozen=True)
class Artifact:
    """A table or figure of a paper. Contexts and cells are defined in ``experiments``."""

    id: str
    """The paper's own number: ``table1``, ``fig8-tsne``."""

    paper: str
    """The paper's name: ``balm``."""

    kind: Literal["table", "figure"]
    """Determines which files are written."""

    title: str
    """Its name in the paper (``Table 1``), or what it shows."""

    caption: Text
    """What it shows, one sentence or more."""

    cells: Callable[[Any], Sequence[Any]]
    """Function from a context to its cells, from which the runs that it needs follow."""

    draw: Callable[[Any, Sequence[Any]], Output]
    """Function from a context with finished runs, and the cells, to the output."""

    rows_in_paper: int | None = None
    """Rows of the paper's table, or curves or bars of its figure; None where that says nothing."""

    source: str = ""
    """Where it is in the paper: ``BALM Table 1``."""

    on_request: bool = False
    """Made only if it is requested by name, because its runs take long."""

    needs: str | Callable[[Any], str] = ""
    """The data that it requires: ``twins``, a data set, or a function that says why given data do not suffice."""

    left_out: Callable[[Any], Sequence[str]] = lambda context: ()
    """From a context to the rows that the paper prints there and that nothing here declares."""

    any_score: bool = False
    """Whether it accepts scores without a neutral value, for which only MAE and correlation are defined."""

    varies: bool = False
    """Whether all of it differs by machine, as a t-SNE layout does."""

    def __post_init__(self) -> None:
        advice = "Name it as the paper does, such as 'table1' or 'fig8-tsne'."
        check_name("artifact id", self.id, advice)
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id) or LOCAL in self.id:
            raise InputError(
                "artifact id",
                repr(self.id),
                f"lower case letters, digits and single hyphens, without '{LOCAL}'",
                advice,
            )
        if self.kind not in ("table", "figure"):
            raise unknown_name(f"artifact {self.id}, kind", self.kind, ("table", "figure"))

    @property
    def is_ours(self) -> bool:
        """Whether the paper has no such table or figure."""
        return self.source.startswith("ours")


def said(context: Any, text: Text) -> str:
    """What a text says of a context's data."""
    return text if isinstance(text, str) else text(context)


@dataclass(frozen=True)
class Made:
    """How an artifact was made: data, profile, seeds. Part of its manifest entry."""

    collection: str
    """The folder of ``figures`` that it goes into."""

    profile: str
    """The name of the budget."""

    selection: str = "valid"
    """On which split the epoch was chosen."""

    seeds: tuple[int, ...] = ()
    """Those of its runs."""

    fingerprint: str = ""
    """Of the bundles, joined by ``+``."""

    reduced: str = ""
    """The data, and what the profile reduced; joins the caption."""

    def __post_init__(self) -> None:
        check_collection("collection", self.collection)


def render(artifact: Artifact, output: Output, made: Made) -> dict[str, bytes]:
    """An artifact's files as bytes, by what follows its id in their names; nothing is written."""
    heading = f"{artifact.title}. {_caption(artifact, made)}"
    contents: dict[str, bytes] = {}
    label = f"{artifact.paper}-{artifact.id}"
    if output.comparison and output.numbers is not None:
        contents[".csv"] = csv_bytes(layout.wide(output.numbers))
        page = layout.markdown(output.numbers, heading, output.notes)
        contents[".md"] = citations.link_markdown(page, citations.FROM_ARTIFACTS).encode()
        contents[".tex"] = layout.latex(output.numbers, heading, label).encode()
    if output.table is not None:
        contents[".csv"] = csv_bytes(output.table)
        page = markup.to_markdown(output.table, heading, output.notes)
        contents[".md"] = citations.link_markdown(page, citations.FROM_ARTIFACTS).encode()
        contents[".tex"] = markup.to_latex(output.table, heading, label).encode()
    if output.figure is not None:
        contents[".png"] = figure_bytes(output.figure, "png", artifact.id)
        contents[".svg"] = figure_bytes(output.figure, "svg", artifact.id)
    if output.numbers is not None:
        contents["-numbers.csv" if ".csv" in contents else ".csv"] = csv_bytes(output.numbers)
    if artifact.varies:
        contents = {f"{LOCAL}{ending}": content for ending, content in contents.items()}
    if output.local is not None:
        contents[f"{LOCAL}.csv"] = csv_bytes(output.local)
    return contents


def _caption(artifact: Artifact, made: Made) -> str:
    assert isinstance(artifact.caption, str)  # a function of a context has been called before
    return f"{artifact.caption} {made.reduced}".strip()


def is_local(name: str) -> bool:
    """Whether a file of an artifact is not committed: a picture as SVG, or what differs by machine."""
    return name.endswith(".svg") or LOCAL in name


def write(
    artifact: Artifact,
    output: Output,
    figures: Path,
    made: Made,
    rendered: Mapping[str, bytes] | None = None,
) -> Entry:
    """Write an artifact's files and return its manifest entry, whose paths are relative to the root.

    A table gives ``.csv``, ``.md``, ``.tex`` (and ``-numbers.csv`` where there are numbers), a figure ``.png``,
    ``.svg`` and ``.csv``; the entry lists apart those that are not committed. The root is the folder that holds
    ``figures``. rendered: what ``render`` gave, where it was called before. Files that an earlier drawing has and
    this one has not, such as the picture of what can no longer be shown, are removed.
    """
    contents = render(artifact, output, made) if rendered is None else rendered
    folder = figures / made.collection / artifact.paper
    for ending, content in contents.items():
        files.write(folder / f"{artifact.id}{ending}", content)
    for ending in ENDINGS - set(contents) if contents else ():  # of an earlier drawing
        (folder / f"{artifact.id}{ending}").unlink(missing_ok=True)
    done = output.table is not None or output.figure is not None or output.comparison
    status = "regenerated" if done else "failed" if output.failed else "not built yet"
    entry = missing(artifact, made, status, output.notes)
    if output.failed:
        entry["failed"] = [dataclasses.asdict(run) for run in output.failed]
    at = Path(figures.name) / made.collection / artifact.paper
    names = [(at / f"{artifact.id}{ending}").as_posix() for ending in sorted(contents)]
    return entry | {
        "rows_built": output.rows_built,
        "files": sorted(name for name in names if not is_local(name)),
        "local": sorted(name for name in names if is_local(name)),
        "seeds": sorted(made.seeds),
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
        "caption": _caption(artifact, made),
        "source": artifact.source,
        "status": status,
        "rows_built": 0,
        "rows_in_paper": artifact.rows_in_paper,
        "files": [],
        "local": [],
        **_run_ids(()),
        "seeds": [],
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


def read_manifest(path: Path, figures: Path | None = None) -> list[Entry]:
    """The manifest's entries; none where there is no file.

    figures: the figures' folder, where that is not the one that the manifest stands in.

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
            check_form(f"entry {number}", entry, _FORM, {"local": forms.listed(forms.text)})
        return [_inside(path, figures or path.parent, entry) for entry in entries]
    except ValueError as error:
        raise InputError(
            str(path),
            f"no list of artifacts ({error})",
            "a manifest that the notebooks wrote",
            "Delete the file and run the notebooks again; finished runs are reused.",
        ) from None


def manifest_of(figures: Path, collection: str = "") -> Path:
    """The manifest in the figures' folder, or that of a collection which stands apart."""
    return figures / collection / MANIFEST


def read_all(figures: Path) -> list[Entry]:
    """The entries of the manifest and of those of the collections that stand apart, which win.

    Raises:
        InputError: as ``read_manifest``.
    """
    entries: dict[tuple[str, str, str], Entry] = {}
    for path in (manifest_of(figures), *sorted(figures.glob(f"*/{MANIFEST}"))):
        entries |= {_key(entry): entry for entry in read_manifest(path, figures)}
    return list(entries.values())


def update_manifest(
    path: Path, entries: Iterable[Entry], papers: Sequence[str] = (), figures: Path | None = None
) -> list[Entry]:
    """Merge entries into the manifest: one per collection, paper and id, the later one winning.

    papers: their order; others follow by name. figures: as in ``read_manifest``.
    Two processes may do so at once: each holds a lock beside the file while it reads, merges and renames.
    """
    with files.locked(path):
        merged = {_key(entry): entry for entry in read_manifest(path, figures)} | {
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
    """A frame as CSV without its index, the same bytes on every system.

    Numbers have ten digits: what comes after them differs by processor, since each orders its sums in its own way.
    """
    text = frame.to_csv(index=False, lineterminator="\n", float_format="%.10g")
    return text.encode("utf-8")


@contextmanager
def plain_settings() -> Iterator[None]:
    """Matplotlib's own defaults until the ``with`` block ends: a user's matplotlibrc changes no picture."""
    import matplotlib

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
    import matplotlib
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    target = io.BytesIO()
    with plain_settings():
        matplotlib.rcParams["svg.hashsalt"] = salt
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            fitting.lay_out(figure)
            figure.set_layout_engine("none")
        figure.savefig(
            target,
            format=kind,
            dpi=dpi,
            metadata={"Software": None} if kind == "png" else {"Date": None},
        )
    return _fewer_colours(target) if kind == "png" else target.getvalue()


def _fewer_colours(picture: io.BytesIO) -> bytes:
    from PIL import Image

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
    "profile": forms.text,
    "selection": forms.text,
    "fingerprint": forms.text,
    "notes": forms.listed(forms.text),
}


def _key(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(entry["collection"]), str(entry["paper"]), str(entry["id"])


def _inside(manifest: Path, figures: Path, entry: Entry) -> Entry:
    """The entry, with files that stand in the folder of its collection and paper among the figures.

    Each is ``FOLDER/<collection>/<paper>/<name>``. The first part is the name that the figures' folder had when it
    was written, and becomes the one that it has.
    """
    advice = "Correct the entry, or delete the file and run the notebooks again; finished runs are reused."
    for key in _KEY:
        check_name(f"{manifest}, {key}", entry[key], advice)
    here = Path(os.path.abspath(figures)).name
    kept: dict[str, list[str]] = {"files": [], "local": []}
    for kind, names in kept.items():
        for file in entry.get(kind, []):
            parts = PurePosixPath(str(file)).parts
            if len(parts) != 4 or parts[1:3] != (entry["collection"], entry["paper"]):
                raise InputError(
                    f"{manifest}, {kind} of {entry['id']}",
                    f"{str(file)!r:.80}",
                    f"files in {here}/{entry['collection']}/{entry['paper']}",
                    advice,
                )
            check_name(f"{manifest}, {kind} of {entry['id']}", parts[3], advice)
            names.append("/".join((here, *parts[1:])))
    return entry | kept


def _run_ids(ids: Sequence[str]) -> Entry:
    unique = sorted(set(ids))
    digest = hashlib.sha256("\n".join(unique).encode()).hexdigest()[:16]
    return {
        "runs": len(unique),
        "run_ids": unique if len(unique) <= MOST_RUN_IDS else [],
        "run_ids_hash": digest if unique else "",
    }
