"""Which runs of a store were found whole, so that a plan of a thousand runs reads none of their files again.

``whole.json`` in the store's folder has, for each run, the stamps that its files had when they were held against their
sums, and a hash of its record and its sidecar. A file that was written since has another stamp, and its run is read
again. The list spares time and decides nothing: where it lacks or is damaged, every run is read, and ``Store`` removes
it when it finds that a run is damaged.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlib.files import stamp
from mmlib.runs.store import ARRAYS, RECORD, SEEN, SIDECAR, Store, StoreError, write

Stamps = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class _Run:
    """What was seen of one run."""

    stamps: Stamps
    """Of its record, its arrays and its sidecar; None of a file that is not there."""

    whole: bool
    """As ``Store.whole`` says."""

    digest: str
    """Of its record, which has the sum of its arrays, and of its sidecar; empty where it is not done."""


class Seen:
    """The runs of a store that were found whole, those that are asked for now included."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._runs = _read(store)
        self._new = False

    def whole(self, run_id: str) -> bool:
        """``Store.whole``, without reading a run whose files have the stamps that they had."""
        return self._seen(run_id).whole

    def digest(self, run_id: str) -> str:
        """A hash of what the store has of a run, seconds and machine included; empty where it is not done."""
        return self._seen(run_id).digest

    def keep(self) -> None:
        """Write what was read now, for the next process; a store that may only be read stays as it is."""
        if not self._new:
            return
        listed = {
            name: [run.stamps, run.whole, run.digest] for name, run in sorted(self._runs.items())
        }
        with suppress(StoreError):
            write(self.store.folder / SEEN, json.dumps(listed, separators=(",", ":")).encode())
            self._new = False

    def _seen(self, run_id: str) -> _Run:
        stamps = tuple(
            stamp(self.store.path(run_id, suffix)) for suffix in (RECORD, ARRAYS, SIDECAR)
        )
        run = self._runs.get(run_id)
        if run is not None and run.stamps == stamps:
            return run
        # The stamps are older than what is read: a file that is replaced meanwhile is read again the next time.
        done = self.store.has(run_id)
        run = _Run(stamps, self.store.whole(run_id), _digest(self.store, run_id) if done else "")
        if run.digest:
            self._runs[run_id] = run
            self._new = True
        return run


def _digest(store: Store, run_id: str) -> str:
    """Of a run's record and sidecar; empty where another process has just removed them."""
    record, sidecar = (_bytes(store.path(run_id, suffix)) for suffix in (RECORD, SIDECAR))
    return hashlib.sha256(record + b"\n" + sidecar).hexdigest()[:32] if record else ""


def _bytes(path: Path) -> bytes:
    """A file's content; nothing where it is not there, as the sidecar of an imported run."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _read(store: Store) -> dict[str, _Run]:
    """What the list says; nothing where it is not there or damaged."""
    try:
        listed = json.loads((store.folder / SEEN).read_bytes())
        return {name: _run(*line) for name, line in listed.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _run(stamps: Any, whole: Any, digest: Any) -> _Run:
    """One line of the list.

    Raises:
        ValueError: another form.
        TypeError: likewise.
    """
    if not (isinstance(whole, bool) and isinstance(digest, str) and len(stamps) == 3):
        raise ValueError("another form")
    return _Run(tuple(None if s is None else tuple(map(int, s)) for s in stamps), whole, digest)
