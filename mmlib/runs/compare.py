"""Two stores side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mmlib.runs.integrity import canonical
from mmlib.runs.store import ARRAYS, Store, check_exists


def compare(a: Store, b: Store) -> pd.DataFrame:
    """Two stores side by side, one row per run id of either.

    Columns: id; found (``both``, ``only a``, ``only b``); same_bytes (record and arrays);
    largest_difference over the numbers of the record, infinite where one of them lacks a number or
    has NaN alone; at, the place of that difference.

    Raises:
        InputError: one of the stores has no folder.
    """
    check_exists(a)
    check_exists(b)
    ours, theirs = set(a.ids()), set(b.ids())
    rows: list[tuple[str, str, bool | None, float, str]] = []
    for run_id in sorted(ours | theirs):
        if run_id not in theirs:
            rows.append((run_id, "only a", None, math.nan, ""))
        elif run_id not in ours:
            rows.append((run_id, "only b", None, math.nan, ""))
        else:
            rows.append((run_id, "both", *_compare_run(a, b, run_id)))
    return pd.DataFrame(rows, columns=["id", "found", "same_bytes", "largest_difference", "at"])


def _compare_run(a: Store, b: Store, run_id: str) -> tuple[bool, float, str]:
    """Of a run that both stores have: whether its bytes are the same, the largest difference and its place."""
    contents = [dict(store.read(run_id).content or {}) for store in (a, b)]
    same = canonical(contents[0]) == canonical(contents[1])
    same = same and a.path(run_id, ARRAYS).read_bytes() == b.path(run_id, ARRAYS).read_bytes()
    size, place = _largest_difference(*map(_numbers, contents))
    return same, size, place


def _numbers(value: Any, place: str = "") -> dict[str, float]:
    """Every number of nested containers by its place."""
    if isinstance(value, int | float):
        return {place: float(value)}
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return {
        k: v
        for name, part in items
        for k, v in _numbers(part, f"{place}.{name}".lstrip(".")).items()
    }


def _largest_difference(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[float, str]:
    largest, at = 0.0, ""
    for place in sorted(a.keys() | b.keys()):
        x, y = a.get(place, math.nan), b.get(place, math.nan)
        absent = (place in a) != (place in b) or math.isnan(x) != math.isnan(y)
        size = math.inf if absent else 0.0 if x == y or math.isnan(x) else abs(x - y)
        if size > largest:
            largest, at = size, place
    return largest, at
