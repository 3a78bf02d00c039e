"""What the last execution of each notebook was made from and what it wrote, so that an equal one is left out.

``NAME.json`` beside an executed copy has a hash of each thing that decides what the notebook shows and writes, and of
each file that it wrote. It is removed before an execution begins and written whole after one that ended well, so that
whatever is interrupted is done again. ``gathered.json`` says the same of the files on all papers.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from mmlib import files, paths
from mmlib.data.catalog import open_bundle
from mmlib.data.manifest import load_manifest
from mmlib.experiments import recipes
from mmlib.experiments.context import Context
from mmlib.pipeline import regenerate
from mmlib.report.artifact import MANIFEST, NOT_DRAWN, Entry, is_local, manifest_of, read_all
from mmlib.report.dashboard import COMPARED, GATHERED
from mmlib.runs.seen import Seen
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import FAILED
from mmlib.teach import cells_hash

PACKAGE = Path(__file__).resolve().parent.parent
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "matplotlib",
    "pillow",
    "tabulate",
    "diptest",
    "papermill",
    "ipykernel",
)
FIRST = "not executed yet, or not to its end"
# What reading a file of JSON raises that is not what it should be.
UNREADABLE = (OSError, ValueError, TypeError, KeyError, RecursionError)
RECORDS, REPORT = "records.csv", "replication.md"  # what no notebook shows


@dataclass(frozen=True)
class Inputs:
    """What decides an execution: a hash of each part. The names of the fields are what a reader is told."""

    cells: str
    """The notebook's cells, without their outputs."""

    parameters: str
    """What its first cell is given."""

    code: str
    """Every file of this package, and ``data/manifest.toml``."""

    packages: str
    """Python, the machine's kind and the packages that compute and draw."""

    data: str
    """The bundles."""

    trials: str
    """Those of learning rates on own data, which stand beside the runs."""

    runs: str
    """Those that its tables and figures need."""

    committed: str
    """The paper's results on other data, which it shows."""

    gathered: str
    """The files on all papers that its cells name: the last notebook counts what the others found."""


def copy_of(context: Context) -> Path:
    """Where a notebook's executed copy stands."""
    return regenerate.copies(context.collection) / context.declared.notebook


class Shared(NamedTuple):
    """What decides all executions: two of the hashes of ``Inputs``."""

    code: str
    packages: str


def shared() -> Shared:
    """What decides all executions now."""
    inside = (path for path in PACKAGE.rglob("*") if path.is_file())
    kept = [p for p in inside if "__pycache__" not in p.parts and not p.name.startswith(".")]
    lines = (f"{path.relative_to(PACKAGE).as_posix()} {_sum(path)}" for path in sorted(kept))
    return Shared(
        _hash([*lines, json.dumps(load_manifest(), sort_keys=True)]),
        _hash([platform.python_version(), platform.machine(), *map(_version, PACKAGES)]),
    )


def inputs(
    context: Context, parameters: Mapping[str, Any], needed: Sequence[RunSpec], of_all: Shared
) -> Inputs | None:
    """What decides an execution now; None of a file that is no notebook.

    needed: the runs of its tables and figures. of_all: ``shared()``.
    """
    try:
        cells = _cells_of(paths.notebooks() / context.declared.notebook)
    except UNREADABLE:
        return None
    return Inputs(
        cells_hash(SimpleNamespace(cells=[SimpleNamespace(**cell) for cell in cells])),
        _hash([json.dumps(parameters, sort_keys=True)]),
        of_all.code,
        of_all.packages,
        _hash(map(_of_data, sorted(context.data.items()))),
        _sum(paths.runs() / recipes.FILE.name),
        _of_runs(context, needed),
        _committed(context),
        _gathered(cells),
    )


def reads_all(context: Context) -> bool:
    """Whether a paper's notebook reads files on all papers."""
    try:
        return bool(_named(_cells_of(paths.notebooks() / context.declared.notebook)))
    except UNREADABLE:
        return False


def changes(context: Context, now: Inputs | None) -> str:
    """Why a notebook is executed: what has changed since it was, in words; empty where nothing has."""
    noted = _noted(context)
    if now is None or noted is None:
        return FIRST
    before, wrote = noted["inputs"], noted["wrote"]
    parts = [name for name, digest in asdict(now).items() if before.get(name) != digest]
    if parts:
        return f"changed: {', '.join(parts)}"
    if _sum(copy_of(context)) != noted["copy"]:
        return "its executed copy is gone or changed"
    there = {name: _sum(context.folder / name) for name in wrote}
    lost = [name for name, digest in wrote.items() if there[name] != digest]
    if lost:
        return f"gone or changed: {lost[0]}{f' and {len(lost) - 1} more' if lost[1:] else ''}"
    return "" if _entered(context) == noted["entries"] else "changed: its lines in manifest.json"


def forget(context: Context) -> None:
    """Remove what was noted of a notebook: an execution begins."""
    note_of = _note_of(context)
    with files.explained(note_of):
        note_of.unlink(missing_ok=True)


def note(context: Context, before: Inputs | None, seconds: float | None = None) -> None:
    """Note what an execution that ended well was made from and what it wrote.

    before: as it was when the execution began. seconds: that it took. A table or figure that could not be drawn leaves
    no note.
    """
    entries, copy = _entries(context), copy_of(context)
    if before is None or not copy.exists() or any(e["status"] == NOT_DRAWN for e in entries):
        return
    # A notebook gathers what is there before it reads that, so it read what stands there now, unless another
    # notebook has written it since.
    cells = _cells_of(copy)
    read = {} if _written_since(cells) else {"gathered": _gathered(cells)}
    listed = [Path(name).name for e in entries for name in (*e["files"], *e["local"])]
    parts = [path.name for path in context.folder.glob("records-*.jsonl.xz")]
    content = {
        "inputs": asdict(before) | read,
        "copy": _sum(copy),
        "entries": _entered(context),
        "wrote": {name: _sum(context.folder / name) for name in sorted([RECORDS, *listed, *parts])},
        "seconds": seconds,
    }
    _write(_note_of(context), content)


def seconds(context: Context) -> list[float]:
    """What executions of a notebook took that ended well, one on each collection."""
    found = []
    for path in sorted(copy_of(context).parent.parent.glob(f"*/{_note_of(context).name}")):
        try:
            took = json.loads(path.read_bytes())["seconds"]
        except UNREADABLE:
            continue
        found += [took] if isinstance(took, float) and took > 0 else []
    return found


def gather(of_all: Shared) -> None:
    """Gather what stands in the figures' folder, unless the files on all papers are there as they were made of it."""
    path = paths.runs() / "notebooks" / "gathered.json"
    made_of = _made_of(of_all)
    try:
        if json.loads(path.read_bytes()) == {"inputs": made_of, "wrote": _of_all_papers()}:
            return
    except (OSError, ValueError, RecursionError):
        pass
    regenerate.gather_all()
    _write(path, {"inputs": made_of, "wrote": _of_all_papers()})


def _made_of(of_all: Shared) -> str:
    """What the files on all papers are made of: code, the manifest, the files that it lists, what pages link."""
    figures = paths.figures()
    listed = sorted({name for entry in _manifest() for name in entry["files"]})
    notebooks = sorted(path.name for path in (figures.parent / "notebooks").glob("*.ipynb"))
    copies = (
        path
        for page in _manifests()[1:]
        for path in regenerate.copies(page.parent.name).glob("*.ipynb")
    )
    beside = [*copies, *figures.glob(f"*/{COMPARED}")]
    linked = sorted("/".join(path.parts[-3:]) for path in beside)
    lines = (f"{name} {_sum(figures.parent / name)}" for name in listed)
    return _hash([*of_all, *map(_sum, _manifests()), *notebooks, *linked, *lines])


def _of_all_papers() -> dict[str, str]:
    """The files on all papers, each with its hash."""
    figures = paths.figures()
    reports = [path.relative_to(figures).as_posix() for path in figures.glob(f"*/*/{REPORT}")]
    pages = [path.parent.relative_to(figures) / "index.html" for path in _manifests()]
    names = [*GATHERED, *(page.as_posix() for page in pages), *reports]
    return {name: _sum(figures / name) for name in sorted(names)}


def _note_of(context: Context) -> Path:
    return copy_of(context).with_suffix(".json")


def _write(path: Path, content: Mapping[str, Any]) -> None:
    files.write(path, (json.dumps(content, indent=1) + "\n").encode())


def _noted(context: Context) -> dict[str, Any] | None:
    """What was noted of a notebook; None where nothing is, or the file is damaged."""
    try:
        content = json.loads(_note_of(context).read_bytes())
        whole = isinstance(content["inputs"], dict) and isinstance(content["wrote"], dict)
        names = [Path(name).name == name for name in content["wrote"]]
        return content if whole and all(names) and {"copy", "entries"} <= set(content) else None
    except UNREADABLE:
        return None


def _cells_of(path: Path) -> list[dict[str, Any]]:
    """A notebook's cells: cell_type, source and metadata. Read as JSON, since nbformat takes a second to import."""
    return [
        {
            "cell_type": cell["cell_type"],
            "source": "".join(cell["source"]),
            "metadata": cell.get("metadata", {}),
        }
        for cell in json.loads(path.read_bytes())["cells"]
    ]


def _of_data(line: tuple[str, str]) -> str:
    """A role's bundle: its content, and what is told of it."""
    role, reference = line
    bundle = open_bundle(reference)
    told = (bundle.name, bundle.source, bundle.licence, sorted(bundle.notes.items()))
    return f"{role} {reference} {bundle.fingerprint} {told!r}"


def _of_runs(context: Context, needed: Iterable[RunSpec]) -> str:
    """The runs that are needed: what the store has of each, else of one of other code, and why it failed."""
    seen = Seen(context.store)
    lines = []
    for spec in needed:
        run_id = spec.run_id(context.bundle_fingerprint(spec.data))
        digest = seen.digest(run_id)
        if not digest:
            stale = context.record(spec)
            digest = f"{seen.digest(stale.id) if stale else ''} {_sum(context.store.path(run_id, FAILED))}"
        lines.append(f"{run_id} {digest}")
    seen.keep()
    return _hash(lines)


def _committed(context: Context) -> str:
    """The paper's files and lines of the manifest in other collections, those of the repository too."""
    lines = []
    for figures in dict.fromkeys((paths.figures(), paths.root() / "figures")):
        for path in sorted(figures.glob(f"*/{context.paper}/*")):
            shown = path.name not in (RECORDS, REPORT) and not is_local(path.name)
            if shown and path.parent != context.folder:
                lines.append(f"{path.relative_to(figures).as_posix()} {_sum(path)}")
    lines += [
        f"{entry['collection']} {entry['id']} {entry['status']}"
        for entry in _manifest()
        if entry["paper"] == context.paper and entry["collection"] != context.collection
    ]
    return _hash(lines)


def _named(cells: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The files on all papers that code names, each with the first cell that does."""
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    return {name: cell for cell in reversed(codes) for name in GATHERED if name in cell["source"]}


def _gathered(cells: Iterable[dict[str, Any]]) -> str:
    return _hash(f"{name} {_sum(paths.figures() / name)}" for name in sorted(_named(cells)))


def _written_since(cells: Iterable[dict[str, Any]]) -> bool:
    """Whether a file on all papers was written after the first cell of an executed copy that names it began."""
    for name, cell in _named(cells).items():
        began = datetime.fromisoformat(cell["metadata"]["papermill"]["start_time"]).timestamp()
        path = paths.figures() / name
        if path.exists() and path.stat().st_mtime > began:
            return True
    return False


def _manifest() -> tuple[Entry, ...]:
    figures = paths.figures()
    return _manifest_of(figures, tuple((path, files.stamp(path)) for path in _manifests()))


def _manifests() -> list[Path]:
    """The manifest, and those of the collections that stand apart."""
    figures = paths.figures()
    return [manifest_of(figures), *sorted(figures.glob(f"*/{MANIFEST}"))]


@lru_cache(maxsize=1)  # all notebooks of a call ask for it, and its check takes a while
def _manifest_of(figures: Path, stamped: object) -> tuple[Entry, ...]:
    return tuple(read_all(figures))


def _entries(context: Context) -> list[Entry]:
    """The manifest's lines on a notebook's own tables and figures."""
    own = {artifact.id for artifact in regenerate.artifacts(context)}
    return [
        entry
        for entry in _manifest()
        if (entry["collection"], entry["paper"]) == (context.collection, context.paper)
        and entry["id"] in own
    ]


def _entered(context: Context) -> str:
    return _hash(json.dumps(entry, sort_keys=True) for entry in _entries(context))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def _sum(path: Path) -> str:
    """A hash of a file; empty where it is not there."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _hash(lines: Iterable[str]) -> str:
    """A hash of some lines of text."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n\x00".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]
