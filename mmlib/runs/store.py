"""Where finished runs stand: one JSON and one safetensors file per run, each whole or absent.

Layout: ``<first two of id>/<id>.json`` (the record), ``.safetensors`` (its arrays), ``.time.json``
(seconds and machine, apart so that records can be compared byte for byte) and ``.failed.json``.
A file is written under a temporary name and renamed, the record last, so its presence means that
the run is done. Any number of processes may share a store.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from mmlib.errors import InputError
from mmlib.runs.spec import RunSpec, spec_from_json

if TYPE_CHECKING:
    from mmlib.runs.execute import Outcome

FORMAT = 1
TEMPORARY = ".partial"
LEFTOVER_SECONDS = 3600
_RECORD, _ARRAYS, _SIDECAR, _FAILED = ".json", ".safetensors", ".time.json", ".failed.json"
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
        content = _read_json(self._path(run_id, _RECORD))
        if content is None or content.get("id") != run_id or content.get("status") != "done":
            return None
        return Record(content) if _sound(self._path(run_id, _ARRAYS)) else None

    def has(self, run_id: str) -> bool:
        """Whether the run is done."""
        return self.get(run_id) is not None

    def whole(self, run_id: str) -> bool:
        """Whether the run is done and every array that it made is here."""
        record = self.get(run_id)
        return record is not None and not record.left_out

    def arrays(self, run_id: str) -> dict[str, np.ndarray]:
        """The arrays of a run by name; ``predictions.<selection>.<mask>`` is (n_test, outputs) float32.

        Raises:
            InputError: the run is not done.
        """
        try:
            return dict(load_file(self._path(run_id, _ARRAYS)))
        except (OSError, SafetensorError) as error:
            raise InputError(f"run {run_id}", f"no arrays ({error})", "a finished run", "Run it again.") from error

    def sidecar(self, run_id: str) -> dict[str, Any]:
        """Seconds, memory and machine of a run; empty where they are not known."""
        return _read_json(self._path(run_id, _SIDECAR)) or {}

    def find(self, spec: RunSpec, fingerprint: str) -> tuple[Record | None, bool]:
        """The record of a spec, and whether it is stale: made by another version of the numerics.

        Of several stale records the one written last is taken.
        """
        exact = self.get(spec.run_id(fingerprint))
        if exact is not None:
            return exact, False
        key = spec.key(fingerprint)
        paths = [p for p in (self.folder / key[:2]).glob(f"{key}-*{_RECORD}") if _is_record(p)]
        for path in sorted(paths, key=lambda p: (p.stat().st_mtime, p.name), reverse=True):
            record = self.get(path.name.removesuffix(_RECORD))
            if record is not None:
                return record, True
        return None, False

    def records(self) -> Iterator[Record]:
        """Every finished run, by sorted id."""
        names = sorted(p.name for p in self.folder.glob(f"??/*{_RECORD}") if _is_record(p))
        found = (self.get(name.removesuffix(_RECORD)) for name in names)
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
        _write(self._path(run_id, _ARRAYS), _pack(outcome.arrays))
        _write(self._path(run_id, _SIDECAR), sidecar)
        _write(self._path(run_id, _RECORD), record)
        self._path(run_id, _FAILED).unlink(missing_ok=True)

    def fail(self, run_id: str, spec: RunSpec | Mapping[str, Any], error: str) -> None:
        """Keep a run's error; an earlier one of the same run is replaced."""
        content = spec.to_json() if isinstance(spec, RunSpec) else dict(spec)
        _write(self._path(run_id, _FAILED), canonical({"id": run_id, "spec": content, "error": error}))

    def failures(self) -> list[Failure]:
        """The runs that failed and have not been done since, by sorted id."""
        contents = [_read_json(path) for path in sorted(self.folder.glob(f"??/*{_FAILED}"))]
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
                for suffix in (_ARRAYS, _SIDECAR, _RECORD):
                    path = source._path(theirs.id, suffix)
                    if path.exists():
                        _write(self._path(theirs.id, suffix), path.read_bytes())
                self._path(theirs.id, _FAILED).unlink(missing_ok=True)
                count += 1
        return count

    def prepare(self) -> None:
        """Make the folder, see that it can be written, and remove temporary files older than an hour.

        Raises:
            StoreError: it cannot be made or written.
        """
        probe = self.folder / f".probe.{secrets.token_hex(4)}"
        _write(probe, b"")
        probe.unlink(missing_ok=True)
        for path in self.folder.glob(f"**/.*{TEMPORARY}"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    path.unlink()

    def _path(self, run_id: str, suffix: str) -> Path:
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
        same = all(a._path(run_id, s).read_bytes() == b._path(run_id, s).read_bytes() for s in (_RECORD, _ARRAYS))
        size, place = _largest_difference(_numbers(_read_json(a._path(run_id, _RECORD))),
                                          _numbers(_read_json(b._path(run_id, _RECORD))))
        rows.append({"id": run_id, "found": "both", "same_bytes": same, "largest_difference": size, "at": place})
    return pd.DataFrame(rows, columns=["id", "found", "same_bytes", "largest_difference", "at"])


def export_records(store: Store, path: Path, *, ids: Sequence[str] | None = None,
                   arrays: Sequence[str] = ("predictions.",)) -> int:
    """Write ``records.jsonl.gz``, small enough to be committed; how many records it holds.

    Curves are rounded to six significant digits, arrays are float16, and an array that equals an
    earlier one of its run (two selections that picked the same epoch) is a reference to it. The
    same store gives the same bytes.

    Args:
        ids: the runs to write; all where None.
        arrays: prefixes of the names of the arrays to carry. The others' names are noted, and a
            sweep that needs them (a parent's weights) runs those runs again.

    Raises:
        InputError: a run that is not done, or a path that cannot be written.
    """
    lines = [canonical({"format": FORMAT})]
    for run_id in sorted(set(ids)) if ids is not None else store.ids():
        record = store.get(run_id)
        if record is None:
            raise InputError(f"run {run_id}", "no finished run", "one that is done", "Run it before the export.")
        lines.append(canonical(_to_line(record, store.arrays(run_id), tuple(arrays))))
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0, compresslevel=9) as file:
        file.write(b"\n".join(lines) + b"\n")
    _write(Path(path), buffer.getvalue())
    return len(lines) - 1


def import_records(store: Store, path: Path) -> int:
    """Take over the runs of a ``records.jsonl.gz`` that the store lacks; how many.

    Their arrays come back as float32. The whole file is read before anything is written.

    Raises:
        InputError: no such file, or one that ``export_records`` did not write.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            head, *lines = [json.loads(line) for line in file]
        if head["format"] != FORMAT:
            raise ValueError(f"format {head['format']}")
        parsed = [_from_line(line) for line in lines]
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(str(path), f"{type(error).__name__}: {error}", "a file that export_records wrote",
                         "Copy it again, or leave it out.") from error
    paths = [store._path(record["id"], _RECORD) for record, _ in parsed]
    count = 0
    for target, (record, arrays) in zip(paths, parsed, strict=True):
        if not store.has(record["id"]):
            _write(target.with_suffix(_ARRAYS), _pack(arrays))
            _write(target, canonical(record))
            count += 1
    return count


def canonical(content: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and fixed separators: equal contents give equal bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _write(path: Path, data: bytes) -> None:
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(str(path), f"{type(error).__name__}: {error}", "a place that can be written",
                         "Check the path, its permissions and the free space.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
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


def _sound(path: Path) -> bool:
    """Whether a safetensors file is there and as long as its header says."""
    try:
        with safe_open(path, framework="numpy"):
            return True
    except (OSError, SafetensorError):
        return False


def _is_record(path: Path) -> bool:
    return not path.name.endswith((_SIDECAR, _FAILED))


def _check_exists(store: Store) -> None:
    if not store.folder.is_dir():
        raise InputError(str(store.folder), "no such folder", "a store of runs", "Check the path.")


def _numbers(value: Any, place: str = "") -> dict[str, float]:
    """Every number of nested containers by its place."""
    if isinstance(value, bool) or isinstance(value, int | float):
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


def _to_line(record: Record, arrays: Mapping[str, np.ndarray], prefixes: tuple[str, ...]) -> dict[str, Any]:
    content = {k: v for k, v in record.content.items() if k != "imported"}
    content["curves"] = _rounded(content.get("curves", {}))
    carried: dict[str, Any] = {}
    seen: dict[tuple[tuple[int, ...], bytes], str] = {}
    for name in sorted(n for n in arrays if n.startswith(prefixes)):
        array = arrays[name]
        if array.dtype == np.float32 and np.abs(array[np.isfinite(array)]).max(initial=0) < np.finfo(np.float16).max:
            array = array.astype(np.float16)
        data = array.tobytes()
        first = seen.setdefault((array.shape, data), name)
        carried[name] = first if first != name else {
            "dtype": str(array.dtype), "shape": list(array.shape), "data": base64.b64encode(data).decode()}
    left_out = sorted({*record.left_out, *(n for n in arrays if n not in carried)})
    return {"record": content, "arrays": carried, "left_out": left_out}


def _from_line(line: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays: dict[str, np.ndarray] = {}
    for name, packed in sorted(line["arrays"].items()):
        if isinstance(packed, str):
            arrays[name] = arrays[packed]
            continue
        array = np.frombuffer(base64.b64decode(packed["data"]), dtype=packed["dtype"]).reshape(packed["shape"])
        arrays[name] = array.astype(np.float32) if array.dtype == np.float16 else array
    record = {**line["record"], "imported": {"left_out": list(line["left_out"])}}
    if record["status"] != "done" or not isinstance(record["id"], str):
        raise ValueError(f"status {record['status']}")
    return record, arrays


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value
