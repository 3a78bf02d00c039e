"""The compact form of a store: one ``records.jsonl.xz``, small enough to be committed.

A sweep resumes from it on another machine: the metrics of every selection and the test predictions
travel, weights and embeddings do not. Lines: a head, every run's record, then every run's arrays in
the same order (text and packed numbers compress better apart).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmlib.data.bounded import parse_json, unfolded_lines
from mmlib.data.forms import check_form, listed, table, text, whole
from mmlib.errors import InputError
from mmlib.runs.store import Record, Store, canonical, write

FORMAT = 2
DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    lzma.LZMAError,
)
RECORD_FORM = {"id": text, "status": text, "spec": table, "curves": table}


def export_records(
    store: Store,
    path: Path,
    *,
    ids: Sequence[str] | None = None,
    arrays: Sequence[str] = ("predictions.",),
    of_runs: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Write ``records.jsonl.xz``, small enough to be committed; how many records it holds.

    Curves are those of the main test mask, with four digits; arrays are float16, and an array that equals an
    earlier one of its run (two selections that picked the same epoch) is a reference to it. The
    same store gives the same bytes.

    Args:
        ids: the runs to write; all where None.
        arrays: prefixes of the names of the arrays to carry. The others' names are noted, and a
            sweep that needs them (a parent's weights) runs those runs again.
        of_runs: by run, further names of arrays to carry.

    Raises:
        InputError: a run that is not done, or a path that cannot be written.
    """
    records = [_finished(store, i) for i in (store.ids() if ids is None else sorted(set(ids)))]
    further = {record.id: tuple((of_runs or {}).get(record.id, ())) for record in records}
    head = _head(records, arrays, further)
    if _holds(path, head):
        return len(records)
    texts, packed = [], []
    for record in records:
        text, predictions = to_lines(
            record, store.arrays(record.id), (*arrays, *further[record.id])
        )
        texts.append(canonical(text))
        packed.append(canonical(predictions))
    lines = [canonical(head), *texts, *packed]
    write(path, lzma.compress(b"\n".join(lines) + b"\n"))
    return len(texts)


def _finished(store: Store, run_id: str) -> Record:
    record = store.get(run_id)
    if record is None:
        raise InputError(
            f"run {run_id}", "no finished run", "one that is done", "Run it before the export."
        )
    return record


def _head(
    records: Sequence[Record], arrays: Sequence[str], further: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The first line of a file, whose sum over its records says whether another file has the same content.

    An id alone does not: a run that is made again on another processor has its id, and other last digits.
    """
    content = hashlib.sha256(canonical({"arrays": list(arrays)}))
    for record in records:
        content.update(canonical(_carried(record)))
        if further[record.id]:
            content.update(canonical({"further": list(further[record.id])}))
    return {"format": FORMAT, "runs": len(records), "content": content.hexdigest()}


def _holds(path: Path, head: Mapping[str, Any]) -> bool:
    """Whether a whole file with this head is there already."""
    if not path.exists():
        return False
    with contextlib.suppress(*DAMAGED, InputError):
        lines = unfolded_lines(path)
        same: bool = parse_json(next(lines, b"")) == head
        return same and sum(1 for _ in lines) == 2 * head["runs"]
    return False


def import_records(store: Store, path: Path) -> int:
    """Take over the runs of a ``records.jsonl.xz`` that the store lacks; how many.

    Their arrays come back as float32. The whole file is read before anything is written.

    Raises:
        InputError: no such file, or one that ``export_records`` did not write.
    """
    try:
        half, lines = _lines(path)
        parsed = [_from_lines(*pair) for pair in zip(lines[:half], lines[half:], strict=True)]
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            str(path),
            f"{type(error).__name__}: {error}",
            "a file that export_records wrote",
            "Copy it again, or leave it out.",
        ) from error
    for record, _ in parsed:
        store.path(record["id"])  # refuses an id that is none before anything is written
    count = 0
    for record, arrays in parsed:
        if not store.has(record["id"]):
            store.keep(record, arrays, {})
            count += 1
    return count


def _lines(path: Path) -> tuple[int, list[Any]]:
    """How many runs the file has, and the lines after its head: as many records, then as many groups of arrays."""
    head: Any = None
    lines: list[Any] = []
    for number, line in enumerate(unfolded_lines(path)):
        content = parse_json(line)
        if number == 0:
            head = content
            check_form("the head", head, {"format": whole, "runs": whole, "content": text}, {})
            if head["format"] != FORMAT:
                raise ValueError(f"format {head['format']}")
        elif number <= head["runs"]:
            check_form(
                f"line {number + 1}", content, {"record": table, "left_out": listed(text)}, {}
            )
            check_form(f"line {number + 1}, record", content["record"], RECORD_FORM, {})
            lines.append(content)
        else:
            check_form(f"line {number + 1}", content, {}, {})
            lines.append(content)
    if head is None or len(lines) != 2 * head["runs"]:
        raise ValueError(f"{len(lines)} lines for {head['runs'] if head else 'no'} runs")
    return head["runs"], lines


def to_lines(
    record: Record, arrays: Mapping[str, np.ndarray], prefixes: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run's two lines: its record, with curves rounded, and its packed arrays of those names."""
    carried: dict[str, Any] = {}
    seen: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    for name in sorted(n for n in arrays if n.startswith(prefixes)):
        array = arrays[name]
        if (
            array.dtype == np.float32
            and np.abs(array[np.isfinite(array)]).max(initial=0) < np.finfo(np.float16).max
        ):
            array = array.astype(np.float16)
        data = array.tobytes()
        first = seen.setdefault((str(array.dtype), array.shape, data), name)
        carried[name] = (
            first
            if first != name
            else {
                "dtype": str(array.dtype),
                "shape": list(array.shape),
                "data": base64.b64encode(data).decode(),
            }
        )
    left_out = sorted({*record.left_out, *(n for n in arrays if n not in carried)})
    return {"record": _carried(record), "left_out": left_out}, carried


def _from_lines(
    line: Mapping[str, Any], carried: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays: dict[str, np.ndarray] = {}
    for name, packed in sorted(carried.items()):
        if isinstance(packed, str):
            arrays[name] = arrays[packed]
            continue
        array = np.frombuffer(base64.b64decode(packed["data"]), dtype=packed["dtype"]).reshape(
            packed["shape"]
        )
        arrays[name] = array.astype(np.float32) if array.dtype == np.float16 else array
    record = {**line["record"], "imported": {"left_out": list(line["left_out"])}}
    if record["status"] != "done" or not isinstance(record["id"], str):
        raise ValueError(f"status {record['status']}")
    return record, arrays


def _carried(record: Record) -> dict[str, Any]:
    """What of a record travels."""
    content = {k: v for k, v in record.content.items() if k != "imported"}
    return content | {"curves": _main_curves(content)}


def _main_curves(content: Mapping[str, Any]) -> Any:
    """The curves with four digits; of test, those under the run's main mask, or all where the run keeps them."""
    curves, main = content.get("curves", {}), content["spec"]["eval_masks"][0][0]
    every = "curves" in content["spec"]["keep"]
    tests = {name: curve for name, curve in curves.get("test", {}).items() if every or name == main}
    return _rounded({**curves, "test": tests})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value
