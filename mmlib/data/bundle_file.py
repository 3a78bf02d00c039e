"""What stands in a bundle's two files, held to its form before anything is computed from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from mmlib.data.bounded import JSON_BYTES, is_regular, parse_json, read_bounded
from mmlib.data.forms import check_form, listed, named, number, optional, table, text, whole
from mmlib.errors import InputError

TASK = {
    "kind": text,
    "names": listed(text),
    "range": optional(lambda pair: listed(number)(pair) and len(pair) == 2),
}
HEAD = {
    "name": text,
    "task": table,
    "ids": listed(text),
    "source": text,
    "licence": text,
    "notes": table,
    "fingerprint": text,
}
SCALING = {"mean": listed(number), "sd": listed(number)}
VECTORS = {
    "labels": ("int64", "float32"),
    "split": ("int8",),
    "dialogue": ("int64",),
    "position": ("int64",),
    "speaker": ("int64",),
    "observed": ("bool",),
}
LONGEST = 250
NUMBERED = ("dialogue", "speaker", "fold")  # from 0, so below the number of rows


def short_names(where: str, values: Sequence[Any]) -> None:
    """Refuse names of more than ``LONGEST`` characters: in an array of NumPy strings each takes the longest's room.

    Raises:
        InputError: a longer name.
    """
    for value in values:
        if isinstance(value, str | bytes) and len(value) > LONGEST:
            raise InputError(
                where,
                f"a name of {len(value):,} characters ({value[:20]!r} ...)",
                f"at most {LONGEST}",
                "Give shorter ids, dialogues and speakers.",
            )


def read_head(path: Path, version: int) -> dict[str, Any]:
    """``bundle.json``.

    Raises:
        InputError: no regular file, one of more than 32 MiB, or another format.
        ValueError: text that is no JSON, a key that lacks, or a value of another kind.
    """
    head: dict[str, Any] = parse_json(read_bounded(path, JSON_BYTES))
    check_form("bundle.json", head, {"format": whole}, {})
    if head["format"] != version:
        raise InputError(
            str(path), f"format {head['format']}", f"format {version}", "Import the data again."
        )
    check_form("bundle.json", head, HEAD, {})
    check_form("task", head["task"], TASK, {})
    return head


def checked_scaling(
    head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> dict[str, dict[str, list[float]]]:
    """The means and sds in a head, by modality; none where a bundle was not standardised, or by an older version.

    Raises:
        ValueError: another form, a modality that is not there, or not one positive sd for each dimension.
    """
    scaling: dict[str, dict[str, list[float]]] = head.get("scaling", {})
    check_form("scaling", {"scaling": scaling}, {"scaling": named(table)}, {})
    for modality, of in scaling.items():
        check_form(f"scaling of {modality}", of, SCALING, {})
        features = arrays.get(f"features.{modality}")
        if features is None:
            raise ValueError(f"a scaling of {modality!r}, which is no modality")
        lengths = {len(of["mean"]), len(of["sd"])}
        if lengths != {features.shape[-1]}:
            raise ValueError(f"a scaling of {modality!r} that does not fit its dimensions")
        if min(of["sd"]) <= 0:
            raise ValueError(f"a scaling of {modality!r} with an sd of 0 or less")
    return scaling


def read_arrays(path: Path, n: int) -> dict[str, np.ndarray]:
    """``bundle.safetensors``, memory-mapped: name to array, each of n rows.

    Raises:
        ValueError: no regular file, an array that lacks, or of another type or shape, or numbers out of range; a
            damaged file.
    """
    if not is_regular(path):
        raise ValueError("bundle.safetensors is no regular file")
    try:
        with safe_open(path, framework="pt") as file:
            arrays: dict[str, np.ndarray] = {
                key: file.get_tensor(key).numpy() for key in file.keys()
            }
    except (MemoryError, OSError, RuntimeError, SafetensorError, TypeError) as error:
        raise ValueError(f"bundle.safetensors: {error}") from error
    lacking = [key for key in VECTORS if key not in arrays]
    if lacking:
        raise ValueError(f"no array {lacking[0]!r}")
    for key, array in arrays.items():
        types = VECTORS.get(
            key, ("float32", "uint8") if key.startswith("features.") else ("int64",)
        )
        axes = (
            1 <= array.ndim <= 5
            if key.startswith("features.")
            else array.ndim == 1 + (key == "observed") or key == "labels" and array.ndim == 2
        )
        if str(array.dtype) not in types or not axes or len(array) != n:
            raise ValueError(
                f"the array {key!r} of {array.dtype} and shape {array.shape} for {n} ids"
            )
        top = n if key in NUMBERED else 3 if key == "split" else None
        if top is not None and n and not 0 <= array.min() <= array.max() < top:
            raise ValueError(f"{key} from {array.min()} to {array.max()}")
    return arrays
