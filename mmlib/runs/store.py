"""Where finished runs stand: one JSON and one safetensors file per run, each whole or absent.

Layout: ``<first two of id>/<id>.json`` (the record), ``.safetensors`` (its arrays), ``.time.json``
(seconds and machine, apart so that records can be compared byte for byte) and ``.failed.json``.
A file is written under a temporary name and renamed, the record last, so its presence means that
the run is done. Any number of processes may share a store.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from mmlib import files
from mmlib.errors import InputError
from mmlib.files import TEMPORARY
from mmlib.runs.spec import RunSpec, spec_from_json

if TYPE_CHECKING:
    from mmlib.runs.execute import Outcome

RECORD, ARRAYS, SIDECAR, FAILED = ".json", ".safetensors", ".time.json", ".failed.json"
_ID = re.compile(r"[0-9a-z]{2}[0-9a-z-]*")


class StoreError(InputError):
    """The store's folder cannot be read or written: no run can go on."""


@dataclass(frozen=True)
class Record:
    """What a finished run left: ``content`` is its JSON, the same bytes whenever the spec is run.

    A record that came from ``records.jsonl.gz`` has ``imported`` set and its curves rounded.
    """

    content: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.content[name]

    @property
    def id(self) -> str:
        """``key-numerics``."""
        return str(self.content["id"])

    @cached_property
    def spec(self) -> RunSpec:
        """The run's spec."""
        return spec_from_json(self.content["spec"])

    @property
    def imported(self) -> bool:
        """Whether the record came from a compact file."""
        return "imported" in self.content

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of arrays that the run made and the compact file did not carry."""
        return tuple(self.content.get("imported", {}).get("left_out", ()))


@dataclass(frozen=True)
class Failure:
    """A run that raised; it is tried again by the next sweep. ``error`` is the traceback's text."""

    id: str
    spec: Mapping[str, Any]
    error: str


class Store:
    """Finished runs in a folder, which is made at the first write."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def get(self, run_id: str) -> Record | None:
        """The record of a run, or None where it is not done, damaged or lacks its arrays.

        Raises:
            StoreError: the file is there and may not be read.
        """
        paths = self.path(run_id, RECORD), self.path(run_id, ARRAYS)
        return _record(*paths, run_id, tuple(_stamp(path) for path in paths))

    def has(self, run_id: str) -> bool:
        """Whether the run is done."""
        return self.get(run_id) is not None

    def whole(self, run_id: str) -> bool:
        """Whether the run is done and every array that its spec says to keep is here.

        Predictions that a compact file left out do not count: no run needs another's.
        """
        record = self.get(run_id)
        return record is not None and all(name.startswith("predictions.") for name in record.left_out)

    def arrays(self, run_id: str) -> dict[str, np.ndarray]:
        """The arrays of a run by name; ``predictions.<selection>.<mask>`` is (n_test, outputs) float32.

        Raises:
            InputError: the run is not done.
        """
        try:
            return dict(load_file(self.path(run_id, ARRAYS)))
        except (OSError, SafetensorError) as error:
            raise InputError(f"run {run_id}", f"no arrays ({error})", "a finished run", "Run it again.") from error

    def sidecar(self, run_id: str) -> dict[str, Any]:
        """Seconds, memory and machine of a run; empty where they are not known."""
        return _read_json(self.path(run_id, SIDECAR)) or {}

    def find(self, spec: RunSpec, fingerprint: str) -> tuple[Record | None, bool]:
        """The record of a spec, and whether it is stale: made by another version of the numerics.

        Of several stale records the one written last is taken.
        """
        exact = self.get(spec.run_id(fingerprint))
        if exact is not None:
            return exact, False
        key = spec.key(fingerprint)
        paths = [p for p in (self.folder / key[:2]).glob(f"{key}-*{RECORD}") if _is_record(p)]
        for path in sorted(paths, key=lambda p: (p.stat().st_mtime, p.name), reverse=True):
            record = self.get(path.name.removesuffix(RECORD))
            if record is not None:
                return record, True
        return None, False

    def versions(self, key: str) -> list[str]:
        """Sorted ids of the finished runs of a key, whatever version of the code made them."""
        return sorted(p.name.removesuffix(RECORD) for p in (self.folder / key[:2]).glob(f"{key}-*{RECORD}")
                      if _is_record(p))

    def records(self) -> Iterator[Record]:
        """Every finished run, by sorted id."""
        names = sorted(p.name for p in self.folder.glob(f"??/*{RECORD}") if _is_record(p))
        found = (self.get(name.removesuffix(RECORD)) for name in names)
        return (record for record in found if record is not None)

    def ids(self) -> list[str]:
        """Sorted ids of the finished runs."""
        return [record.id for record in self.records()]

    def put(self, outcome: Outcome) -> None:
        """Keep a finished run: arrays first, then the sidecar, then the record.

        Raises:
            StoreError: the folder cannot be written, or the disk is full.
        """
        run_id = str(outcome.record["id"])
        record, sidecar = canonical(outcome.record), canonical(outcome.sidecar)
        write(self.path(run_id, ARRAYS), pack(outcome.arrays))
        write(self.path(run_id, SIDECAR), sidecar)
        write(self.path(run_id, RECORD), record)
        self.path(run_id, FAILED).unlink(missing_ok=True)

    def fail(self, run_id: str, spec: RunSpec | Mapping[str, Any], error: str) -> None:
        """Keep a run's error; an earlier one of the same run is replaced."""
        content = spec.to_json() if isinstance(spec, RunSpec) else dict(spec)
        write(self.path(run_id, FAILED), canonical({"id": run_id, "spec": content, "error": error}))

    def failures(self) -> list[Failure]:
        """The runs that failed and have not been done since, by sorted id."""
        contents = [_read_json(path) for path in sorted(self.folder.glob(f"??/*{FAILED}"))]
        found = [Failure(c["id"], c["spec"], c["error"]) for c in contents if c and {"id", "spec", "error"} <= c.keys()]
        return [failure for failure in found if not self.has(failure.id)]

    def merge(self, source: Store) -> int:
        """Take over the runs that another store has and this one lacks; how many.

        A record of our own is kept as it is (``compare`` shows where the two differ), but one that
        was imported gives way to the full one.

        Raises:
            InputError: the other store has no folder.
        """
        _check_exists(source)
        count = 0
        for theirs in source.records():
            ours = self.get(theirs.id)
            if ours is None or (ours.imported and not theirs.imported):
                self.take(theirs.id, source.files(theirs.id))
                count += 1
        return count

    def files(self, run_id: str) -> dict[str, bytes]:
        """What stands here of a run, by suffix."""
        paths = {suffix: self.path(run_id, suffix) for suffix in (ARRAYS, SIDECAR, RECORD, FAILED)}
        return {suffix: path.read_bytes() for suffix, path in paths.items() if path.exists()}

    def take(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Keep a run as another store's ``files`` gave it, the record last; its error only without a record."""
        for suffix in (ARRAYS, SIDECAR, RECORD) if RECORD in files else files:
            if suffix in files:
                write(self.path(run_id, suffix), files[suffix])
        if RECORD in files:
            self.path(run_id, FAILED).unlink(missing_ok=True)

    def prepare(self) -> None:
        """Make the folder, see that it can be written, and remove temporary files older than an hour.

        Raises:
            StoreError: it cannot be made or written.
        """
        probe = self.folder / f".probe.{secrets.token_hex(4)}"
        write(probe, b"")
        probe.unlink(missing_ok=True)
        files.remove_old(self.folder, f"**/.*{TEMPORARY}")

    def path(self, run_id: str, suffix: str = RECORD) -> Path:
        """Where a file of a run stands."""
        if not _ID.fullmatch(run_id):
            raise InputError("run id", repr(run_id), "key-numerics in hexadecimal digits", "Copy it from a record.")
        return self.folder / run_id[:2] / f"{run_id}{suffix}"


def compare(a: Store, b: Store) -> pd.DataFrame:
    """Two stores side by side, one row per run id of either.

    Columns: id; found (``both``, ``only a``, ``only b``); same_bytes (record and arrays);
    largest_difference over the numbers of the record, infinite where one of them lacks a number or
    has NaN alone; at, the place of that difference.

    Raises:
        InputError: one of the stores has no folder.
    """
    _check_exists(a)
    _check_exists(b)
    ours, theirs = set(a.ids()), set(b.ids())
    rows: list[dict[str, Any]] = []
    for run_id in sorted(ours | theirs):
        if run_id not in ours or run_id not in theirs:
            found = "only a" if run_id in ours else "only b"
            rows.append({"id": run_id, "found": found, "same_bytes": None, "largest_difference": math.nan, "at": ""})
            continue
        same = all(a.path(run_id, s).read_bytes() == b.path(run_id, s).read_bytes() for s in (RECORD, ARRAYS))
        size, place = _largest_difference(_numbers(_read_json(a.path(run_id, RECORD))),
                                          _numbers(_read_json(b.path(run_id, RECORD))))
        rows.append({"id": run_id, "found": "both", "same_bytes": same, "largest_difference": size, "at": place})
    return pd.DataFrame(rows, columns=["id", "found", "same_bytes", "largest_difference", "at"])


def canonical(content: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and fixed separators: equal contents give equal bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def write(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or absent, whatever happens in between.

    Raises:
        StoreError: it cannot be written.
    """
    files.write(path, data, StoreError)


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A safetensors file of arrays in any memory layout."""
    return bytes(save({name: np.asarray(array, order="C") for name, array in arrays.items()}))


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise StoreError(str(path), f"{type(error).__name__}: {error}", "a file that can be read",
                         "Check its permissions.") from error
    return content if isinstance(content, dict) else None


@lru_cache(maxsize=2048)  # tables and figures ask for the same runs again and again
def _record(record: Path, arrays: Path, run_id: str, stamps: tuple[object, ...]) -> Record | None:
    content = _read_json(record)
    if content is None or content.get("id") != run_id or content.get("status") != "done":
        return None
    return Record(content) if _sound(arrays) else None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes whenever a file does; None where it is not there."""
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_ino, told.st_mtime_ns, told.st_size


def _sound(path: Path) -> bool:
    """Whether a safetensors file is there and as long as its header says."""
    try:
        with safe_open(path, framework="numpy"):
            return True
    except (OSError, SafetensorError):
        return False


def _is_record(path: Path) -> bool:
    return not path.name.endswith((SIDECAR, FAILED))


def _check_exists(store: Store) -> None:
    if not store.folder.is_dir():
        raise InputError(str(store.folder), "no such folder", "a store of runs", "Check the path.")


def _numbers(value: Any, place: str = "") -> dict[str, float]:
    """Every number of nested containers by its place."""
    if isinstance(value, int | float):
        return {place: float(value)}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {k: v for name, part in items for k, v in _numbers(part, f"{place}.{name}".lstrip(".")).items()}


def _largest_difference(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[float, str]:
    largest, at = 0.0, ""
    for place in sorted(a.keys() | b.keys()):
        x, y = a.get(place, math.nan), b.get(place, math.nan)
        absent = (place in a) != (place in b) or math.isnan(x) != math.isnan(y)
        size = math.inf if absent else 0.0 if x == y or math.isnan(x) else abs(x - y)
        if size > largest:
            largest, at = size, place
    return largest, at
