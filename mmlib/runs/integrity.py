"""Whether the files of a stored run are the ones that were written.

A record holds the sha256 of its arrays' file; the sidecar, which is written before the record, holds the sha256 of the
record's bytes and one of its own content. So a change of any bit of any file is noticed, but for the seconds and the
machine in a sidecar that older code wrote without sums.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mmlib.data.bounded import is_regular

ARRAYS_SUM, RECORD_SUM, OWN_SUM = "arrays_sha256", "record_sha256", "sha256"
SUMS = (ARRAYS_SUM, RECORD_SUM, OWN_SUM)


@dataclass(frozen=True)
class Reading:
    """What the files of a run say."""

    content: Mapping[str, Any] | None = None
    """The record without its sum; None where the run is not done or damaged."""

    damage: str = ""
    """What is wrong, empty where nothing is."""

    unsummed: bool = False
    """Whether neither record nor sidecar has sums, as older code left them."""


def canonical(content: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and fixed separators: equal contents give equal bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def digest(data: bytes) -> str:
    """The sha256 of some bytes in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sealed(content: Mapping[str, Any]) -> bytes:
    """A JSON file with the sum of its own content."""
    return canonical({**content, OWN_SUM: digest(canonical(content))})


def unsealed(data: bytes, since: str) -> dict[str, Any] | None:
    """The content of a sealed file, or of one that is older than seals; None where it is damaged.

    since: a name that every sealed file of its kind has and no older one.
    """
    content = parsed(data)
    if content is None:
        return None
    recorded_sum = content.pop(OWN_SUM, None)
    if recorded_sum is None and since not in content:
        return content
    return content if recorded_sum == digest(canonical(content)) else None


def parsed(data: bytes) -> dict[str, Any] | None:
    """A JSON object; None where the bytes are none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def judge(run_id: str, record: bytes, sidecar: bytes | None, arrays_sum: str | None) -> Reading:
    """Hold a run's files against their sums.

    Args:
        sidecar: its bytes, None where there is none.
        arrays_sum: the sha256 of the arrays' file, None where that is not there.
    """
    content = parsed(record)
    if content is None:
        return Reading(damage="its record is not JSON")
    if content.get("id") != run_id:
        return Reading(damage="its record is that of another run")
    if content.get("status") != "done":
        return Reading(damage="its record is not that of a finished run")
    if arrays_sum is None:
        return Reading(damage="its arrays are not there")
    sums = {} if sidecar is None else parsed(sidecar)
    damage = _differs(content, record, sums, arrays_sum)
    if damage:
        return Reading(damage=damage)
    unsummed = not any(name in (sums or {}) for name in SUMS) and ARRAYS_SUM not in content
    return Reading(
        {name: value for name, value in content.items() if name != ARRAYS_SUM}, unsummed=unsummed
    )


def _differs(
    content: Mapping[str, Any], record: bytes, sums: Mapping[str, Any] | None, arrays_sum: str
) -> str:
    """What does not have its recorded sum; empty where all has, or where there are no sums at all."""
    if sums is None:
        return "its sidecar, which has the record's sum, is not JSON"
    own = {name: value for name, value in sums.items() if name != OWN_SUM}
    if OWN_SUM in sums and sums[OWN_SUM] != digest(canonical(own)):
        return "its sidecar does not have its own sum"
    if ARRAYS_SUM not in content and not any(name in sums for name in SUMS):
        return ""
    if RECORD_SUM not in sums:
        return "its sidecar, which has the record's sum, is not there or lacks it"
    if sums[RECORD_SUM] != digest(record):
        return "its record does not have the recorded sum"
    if content.get(ARRAYS_SUM, sums.get(ARRAYS_SUM)) != arrays_sum:
        return "its arrays do not have the recorded sum"
    return ""


@lru_cache(maxsize=2**17)  # 64 characters each, of files that may be large
def file_sum(path: Path, stamped: object) -> str | None:
    """The sha256 of a regular file, read once for each of its stamps; None where there is none that can be read."""
    if not is_regular(path):
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def is_sound(path: Path) -> bool:
    """Whether a safetensors file is there and as long as its header says."""
    try:
        with safe_open(path, framework="numpy"):
            return True
    except (OSError, SafetensorError):
        return False


@cache
def say_once(text: str, stamps: tuple[object, ...]) -> None:
    """Print a line on stderr, once in a process for each stamps of the files that it is about."""
    print(text, file=sys.stderr, flush=True)
