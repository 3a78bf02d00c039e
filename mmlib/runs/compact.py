"""The compact form of a store: one ``records.jsonl.xz``, small enough to be committed.

A sweep resumes from it on another machine: the metrics of every selection and the test predictions
travel, weights and embeddings do not. Lines: a head, every run's record, then every run's arrays in
the same order (text and packed numbers compress better apart).

Where it is asked for, a run's predictions of classes travel as the predicted class of each utterance, a twentieth of
the logits: all that metrics and intervals need, and no probability. They come back as 1 for that class and 0 for the
others.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import lzma
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmlib.data.bounded import parse_json, unfolded_lines
from mmlib.data.forms import check_form, listed, table, text, whole
from mmlib.errors import InputError
from mmlib.runs.store import Record, Store, canonical, write

FORMAT = 3
READ = (2, FORMAT)  # 2 has no predicted classes
CLASS = "class"  # in the place of a dtype
NO_CLASS = 255  # of an utterance without a prediction
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
PRESET = 9 | lzma.PRESET_EXTREME  # a tenth smaller than by default, where records are alike
RECORD_FORM = {"id": text, "status": text, "spec": table, "curves": table}


def export_records(
    store: Store,
    path: Path,
    *,
    ids: Sequence[str] | None = None,
    arrays: Sequence[str] = ("predictions.",),
    of_runs: Mapping[str, Sequence[str]] | None = None,
    decided: Collection[str] = (),
) -> int:
    """Write ``records.jsonl.xz``, small enough to be committed; how many records it holds.

    Curves are those of the main test mask, with five digits; arrays are float16 or predicted classes, and one that
    equals an earlier one of its run (two selections that picked the same epoch) is a reference to it. The same store
    gives the same bytes.

    Args:
        ids: the runs to write; all where None.
        arrays: prefixes of the names of the arrays to carry. The others' names are noted, and a
            sweep that needs them (a parent's weights) runs those runs again.
        of_runs: by run, further names of arrays to carry.
        decided: the runs whose predictions travel as predicted classes.

    Raises:
        InputError: a run that is not done, or a path that cannot be written.
    """
    records = [_finished(store, i) for i in (store.ids() if ids is None else sorted(set(ids)))]
    further = {record.id: tuple((of_runs or {}).get(record.id, ())) for record in records}
    head = _head(records, arrays, further, decided)
    if _holds(path, head):
        return len(records)
    texts, packed = [], []
    for record in records:
        text, predictions = to_lines(
            record,
            store.arrays(record.id),
            (*arrays, *further[record.id]),
            decided=record.id in decided,
        )
        texts.append(canonical(text))
        packed.append(canonical(predictions))
    lines = [canonical(head), *texts, *packed]
    write(path, lzma.compress(b"\n".join(lines) + b"\n", preset=PRESET))
    return len(texts)


def _finished(store: Store, run_id: str) -> Record:
    record = store.get(run_id)
    if record is None:
        raise InputError(
            f"run {run_id}", "no finished run", "one that is done", "Run it before the export."
        )
    return record


def _head(
    records: Sequence[Record],
    arrays: Sequence[str],
    further: Mapping[str, Sequence[str]],
    decided: Collection[str],
) -> dict[str, Any]:
    """The first line of a file, whose sum over its records says whether another file has the same content.

    An id alone does not: a run that is made again on another processor has its id, and other last digits.
    """
    content = hashlib.sha256(canonical({"arrays": list(arrays)}))
    for record in records:
        content.update(canonical(_carried(record)))
        if further[record.id]:
            content.update(canonical({"further": list(further[record.id])}))
        if record.id in decided:
            content.update(canonical({"predictions": CLASS}))
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
            if head["format"] not in READ:
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
    record: Record,
    arrays: Mapping[str, np.ndarray],
    prefixes: tuple[str, ...],
    decided: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run's two lines: its record, with curves rounded, and its packed arrays of those names.

    decided: predictions of classes as the predicted class.
    """
    carried: dict[str, Any] = {}
    seen: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    for name in sorted(n for n in arrays if n.startswith(prefixes)):
        array, dtype = _compact(arrays[name], decided and name.startswith("predictions."))
        data, shape = array.tobytes(), arrays[name].shape
        first = seen.setdefault((dtype, shape, data), name)
        packed = {"dtype": dtype, "shape": list(shape), "data": base64.b64encode(data).decode()}
        carried[name] = first if first != name else packed
    left_out = sorted({*record.left_out, *(n for n in arrays if n not in carried)})
    return {"record": _carried(record), "left_out": left_out}, carried


def _compact(array: np.ndarray, decided: bool) -> tuple[np.ndarray, str]:
    """An array as it travels, and its dtype there: floats as halves, or of (n, classes) the class of each row."""
    if decided and array.ndim == 2 and 1 < array.shape[1] < NO_CLASS:
        made = np.where(np.isfinite(array).all(axis=1), array.argmax(axis=1), NO_CLASS)
        return made.astype(np.uint8), CLASS
    finite = array[np.isfinite(array)] if array.dtype == np.float32 else array[:0]
    if array.dtype == np.float32 and np.abs(finite).max(initial=0) < np.finfo(np.float16).max:
        array = array.astype(np.float16)
    return array, str(array.dtype)


def _expanded(packed: Mapping[str, Any]) -> np.ndarray:
    """An array as the store has it."""
    data, shape = base64.b64decode(packed["data"]), packed["shape"]
    if packed["dtype"] == CLASS:
        made = np.frombuffer(data, dtype=np.uint8)
        count, classes = map(int, shape)
        if not 1 < classes < NO_CLASS or len(made) != count:
            raise ValueError(f"{len(made)} answers for {count} utterances and {classes} classes")
        if ((made >= classes) & (made != NO_CLASS)).any():
            raise ValueError(f"class {made.max()} of {classes}")
        array = (made[:, None] == np.arange(classes)).astype(np.float32)
        array[made == NO_CLASS] = np.nan
        return array
    array = np.frombuffer(data, dtype=packed["dtype"]).reshape(shape)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _from_lines(
    line: Mapping[str, Any], carried: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays: dict[str, np.ndarray] = {}
    for name, packed in sorted(carried.items()):
        if isinstance(packed, str):
            arrays[name] = arrays[packed]
            continue
        arrays[name] = _expanded(packed)
    record = {**line["record"], "imported": {"left_out": list(line["left_out"])}}
    if record["status"] != "done" or not isinstance(record["id"], str):
        raise ValueError(f"status {record['status']}")
    return record, arrays


def _carried(record: Record) -> dict[str, Any]:
    """What of a record travels."""
    content = {k: v for k, v in record.content.items() if k != "imported"}
    return content | {"curves": _main_curves(content)}


def _main_curves(content: Mapping[str, Any]) -> Any:
    """The curves with five digits; of test, those under the run's main mask, or all where the run keeps them."""
    curves, main = content.get("curves", {}), content["spec"]["eval_masks"][0][0]
    every = "curves" in content["spec"]["keep"]
    tests = {name: curve for name, curve in curves.get("test", {}).items() if every or name == main}
    return _rounded({**curves, "test": tests})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value
