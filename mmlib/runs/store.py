"""Where finished runs stand: one JSON and one safetensors file per run, each whole or absent.

Layout: ``<first two of id>/<id>.json`` (the record), ``.safetensors`` (its arrays), ``.time.json``
(seconds and machine, apart so that records can be compared byte for byte) and ``.failed.json``.
A file is written under a temporary name and renamed, the record last, so its presence means that
the run is done. An older record of the run is removed first, so that a process which is killed leaves
the run absent and never a record beside files of another. Sums tell whether a run's files are those that
were written (``integrity``); a run that is damaged is named and counts as not done. Any number of processes
may share a store.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mmlib import files
from mmlib.data.bounded import is_regular
from mmlib.errors import InputError
from mmlib.files import TEMPORARY, stamp
from mmlib.runs.integrity import (
    ARRAYS_SUM,
    RECORD_SUM,
    SUMS,
    Reading,
    digest,
    file_sum,
    is_sound,
    judge,
    parsed,
    say_once,
    sealed,
    unsealed,
)
from mmlib.runs.integrity import canonical as canonical
from mmlib.runs.spec import RunSpec, spec_from_json

if TYPE_CHECKING:
    from mmlib.runs.execute import Outcome

TRIES = 3  # at reading a run that another process may be writing
RECORD, ARRAYS, SIDECAR, FAILED = ".json", ".safetensors", ".time.json", ".failed.json"
SEEN = "whole.json"  # in the store's folder: see mmlib/runs/seen.py
_ID = re.compile(r"[0-9a-z]{2}[0-9a-z-]*")


class StoreError(InputError):
    """The store's folder cannot be read or written: no run can go on."""


@dataclass(frozen=True)
class Record:
    """What a finished run left.

    A record that came from ``records.jsonl.xz`` has ``imported`` set and its curves rounded.
    """

    content: Mapping[str, Any]
    """The record's JSON, the same bytes whenever the spec is run."""

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
    """A run that raised; it is tried again by the next sweep."""

    id: str
    """``key-numerics``, as of a finished run."""

    spec: Mapping[str, Any]
    """The run's spec as plain containers; empty where the file is damaged."""

    error: str
    """The traceback's text."""

    kind: str = ""
    """``diverged``, ``killed`` or the exception's name; empty where older code kept it."""


class Store:
    """Finished runs in a folder, which is made at the first write.

    quiet: do not say on stderr which runs are damaged, as in workers, whose parent has said it.
    """

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        self.folder = Path(folder)
        self.quiet = quiet

    def get(self, run_id: str) -> Record | None:
        """The record of a run, or None where it is not done, damaged or lacks its arrays.

        Raises:
            StoreError: the file is there and may not be read.
        """
        return self._read(run_id)[1]

    def read(self, run_id: str) -> Reading:
        """What the files of a run say, held against their sums; each file is read once in a process.

        Files that older code left without sums get them now, where the store can be written.

        Raises:
            StoreError: the record is there and may not be read.
        """
        return self._read(run_id)[0]

    def _read(self, run_id: str) -> tuple[Reading, Record | None]:
        if stamp(self.path(run_id, RECORD)) is None:  # takes no place among the runs that were read
            return Reading(), None
        paths = self.path(run_id, RECORD), self.path(run_id, ARRAYS), self.path(run_id, SIDECAR)
        for _ in range(TRIES):
            stamps = tuple(stamp(path) for path in paths)
            reading, record = _read(*paths, run_id, stamps)
            if not reading.damage or stamps == tuple(stamp(path) for path in paths):
                break  # else another process writes this run just now
        if reading.damage:
            with contextlib.suppress(OSError):  # whatever it said of this run
                (self.folder / SEEN).unlink(missing_ok=True)
        if reading.damage and not self.quiet:
            say_once(f"run {run_id}: {reading.damage}: damaged, so it counts as not done", stamps)
        return reading, record

    def has(self, run_id: str) -> bool:
        """Whether the run is done."""
        return self.get(run_id) is not None

    def whole(self, run_id: str) -> bool:
        """Whether the run is done and every array that its spec says to keep is here.

        Predictions that a compact file left out do not count: no run needs another's.
        """
        record = self.get(run_id)
        return record is not None and all(
            name.startswith("predictions.") for name in record.left_out
        )

    def arrays(self, run_id: str) -> dict[str, np.ndarray]:
        """The arrays of a run by name; ``predictions.<selection>.<mask>`` is (n_test, outputs) float32.

        Raises:
            InputError: the run is not done, or damaged.
        """
        reading = self.read(run_id)
        if reading.content is None:
            problem = f"no arrays ({reading.damage or 'no record'})"
            raise InputError(f"run {run_id}", problem, "a finished run", "Run it again.")
        try:
            return dict(load_file(self.path(run_id, ARRAYS)))
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"run {run_id}", f"no arrays ({error})", "a finished run", "Run it again."
            ) from error

    def sidecar(self, run_id: str) -> dict[str, Any]:
        """Seconds, memory and machine of a run; empty where they are not known or damaged."""
        content = unsealed(_bytes(self.path(run_id, SIDECAR)) or b"", RECORD_SUM)
        return {name: value for name, value in (content or {}).items() if name not in SUMS}

    def find(self, spec: RunSpec, fingerprint: str) -> tuple[Record | None, bool]:
        """The record of a spec, and whether it is stale: made by another version of the numerics.

        Of several stale records the one written last is taken.
        """
        key = spec.key(fingerprint)
        exact = self.get(f"{key}-{spec.numerics}")
        if exact is not None:
            return exact, False
        paths = self._of_key(key)
        for path in sorted(paths, key=lambda p: (p.stat().st_mtime, p.name), reverse=True):
            record = self.get(path.name.removesuffix(RECORD))
            if record is not None:
                return record, True
        return None, False

    def _of_key(self, key: str) -> list[Path]:
        """The files of a key's records; tables of many seeds ask for thousands of runs that are not there."""
        folder = self.folder / key[:2]
        try:
            names = [name for name in os.listdir(folder) if name.startswith(f"{key}-")]
        except OSError:  # no folder, or none that may be read, as a glob has it
            return []
        return [
            path for name in names if name.endswith(RECORD) and _is_record(path := folder / name)
        ]

    def versions(self, key: str) -> list[str]:
        """Sorted ids of the finished runs of a key, whatever version of the code made them."""
        names = sorted(path.name.removesuffix(RECORD) for path in self._of_key(key))
        return [name for name in names if self.has(name)]

    def records(self) -> Iterator[Record]:
        """Every finished run, by sorted id."""
        names = sorted(p.name for p in self.folder.glob(f"??/*{RECORD}") if _is_record(p))
        records = (
            self.get(name.removesuffix(RECORD))
            for name in names
            if _ID.fullmatch(name.removesuffix(RECORD))
        )
        return (record for record in records if record is not None)

    def ids(self) -> list[str]:
        """Sorted ids of the finished runs."""
        return [record.id for record in self.records()]

    def put(self, outcome: Outcome) -> None:
        """Keep a finished run: arrays first, then the sidecar, then the record, with the sums of each.

        Raises:
            StoreError: the folder cannot be written, or the disk is full.
        """
        self.keep(outcome.record, outcome.arrays, outcome.sidecar)

    def keep(
        self,
        content: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        sidecar: Mapping[str, Any],
    ) -> None:
        """``put`` of a record's content, its arrays and its sidecar.

        Raises:
            StoreError: the folder cannot be written, or the disk is full.
        """
        packed = pack(arrays)
        record = canonical({**content, ARRAYS_SUM: digest(packed)})
        beside = sealed({**sidecar, RECORD_SUM: digest(record)})
        self.take(str(content["id"]), {ARRAYS: packed, SIDECAR: beside, RECORD: record})

    def fail(
        self, run_id: str, spec: RunSpec | Mapping[str, Any], error: str, kind: str = ""
    ) -> None:
        """Keep a run's error; an earlier one of the same run is replaced."""
        content = spec.to_json() if isinstance(spec, RunSpec) else dict(spec)
        write(
            self.path(run_id, FAILED),
            sealed({"id": run_id, "spec": content, "error": error, "kind": kind}),
        )

    def failure(self, run_id: str) -> Failure | None:
        """Why a run that is not done failed; None where it is done, or was never tried."""
        data = _bytes(self.path(run_id, FAILED))
        if data is None or self.has(run_id):
            return None
        content = unsealed(data, "kind") or {}
        if content.get("id") != run_id or not {"spec", "error"} <= content.keys():
            return Failure(run_id, {}, "It failed, and the file that says why is damaged.")
        old = "diverged" if "training diverged" in content["error"] else ""
        return Failure(run_id, content["spec"], content["error"], content.get("kind", "") or old)

    def failures(self) -> list[Failure]:
        """The runs that failed and have not been done since, by sorted id."""
        names = sorted(path.name.removesuffix(FAILED) for path in self.folder.glob(f"??/*{FAILED}"))
        failures = (self.failure(name) for name in names if _ID.fullmatch(name))
        return [failure for failure in failures if failure is not None]

    def merge(self, source: Store) -> int:
        """Take over the runs that another store has and this one lacks; how many.

        A record of our own is kept as it is (``compare`` shows where the two differ), but one that
        was imported gives way to the full one.

        Raises:
            InputError: the other store has no folder.
        """
        check_exists(source)
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
        return {suffix: path.read_bytes() for suffix, path in paths.items() if is_regular(path)}

    def take(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Keep a run as another store's ``files`` gave it, the record last; its error only without a record."""
        if RECORD in files:
            self._make_way(run_id, files)
        for suffix in (ARRAYS, SIDECAR, RECORD) if RECORD in files else files:
            if suffix in files:
                write(self.path(run_id, suffix), files[suffix])
        if RECORD in files:
            self.path(run_id, FAILED).unlink(missing_ok=True)

    def _make_way(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Remove a record, and then a sidecar, that would not fit the files to come.

        Two processes that keep the same record at once need not: whoever is the later one, all files fit.
        """
        with contextlib.suppress(OSError):  # which the writing of the files then says
            if _bytes(self.path(run_id, RECORD)) != files[RECORD]:
                self.path(run_id, RECORD).unlink(missing_ok=True)
            if SIDECAR not in files:
                self.path(run_id, SIDECAR).unlink(missing_ok=True)

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
            raise InputError(
                "run id",
                repr(run_id),
                "key-numerics in hexadecimal digits",
                "Copy it from a record.",
            )
        return self.folder / run_id[:2] / f"{run_id}{suffix}"


def write(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or absent, whatever happens in between.

    Raises:
        StoreError: it cannot be written.
    """
    files.write(path, data, StoreError)


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A safetensors file of arrays in any memory layout."""
    return bytes(save({name: np.asarray(array, order="C") for name, array in arrays.items()}))


def _bytes(path: Path) -> bytes | None:
    """A file's content; None where it is not there."""
    try:
        return path.read_bytes() if is_regular(path) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(
            str(path),
            f"{type(error).__name__}: {error}",
            "a file that can be read",
            "Check its permissions.",
        ) from error


@lru_cache(maxsize=2048)  # tables and figures ask for the same runs again and again
def _read(
    record: Path, arrays: Path, sidecar: Path, run_id: str, stamps: tuple[object, ...]
) -> tuple[Reading, Record | None]:
    data = _bytes(record)
    if data is None:
        return Reading(), None
    beside = _bytes(sidecar)
    arrays_sum = file_sum(arrays, stamps[1])
    reading = judge(run_id, data, beside, arrays_sum)
    if reading.unsummed and not is_sound(arrays):
        return Reading(damage="its arrays are shorter or longer than their header says"), None
    if reading.unsummed:
        content = parsed(beside or b"{}") or {}
        content |= {RECORD_SUM: digest(data), ARRAYS_SUM: arrays_sum}
        with contextlib.suppress(StoreError):  # a store that may only be read stays as it is
            write(sidecar, sealed(content))
    return reading, None if reading.content is None else Record(reading.content)


def _is_record(path: Path) -> bool:
    return not path.name.endswith((SIDECAR, FAILED))


def check_exists(store: Store) -> None:
    """Refuse a store whose folder is not there.

    Raises:
        InputError: it is not.
    """
    if not store.folder.is_dir():
        raise InputError(str(store.folder), "no such folder", "a store of runs", "Check the path.")
