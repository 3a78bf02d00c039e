"""Your own data: ``utterances.csv`` and one ``<modality>.npy`` each, rows in the same order."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmlib.data.bundle import SPLITS, Bundle, Task, make_bundle
from mmlib.data.readers.common import (
    HELD_OUT,
    existing,
    hold_out,
    hold_out_by_class,
    load_npy,
    need_columns,
    numbers,
    one_path,
    read_csv,
    single,
)
from mmlib.errors import InputError, unknown_name
from mmlib.names import SUFFIXES, check_bundle_name, check_modality

COLUMNS = ("id", "split", "label", "dialogue", "position", "speaker", "fold")
SETTINGS = ("name", "task", "range", "classes", "source", "licence")


def read(paths: Sequence[Path], valid: str = str(HELD_OUT)) -> Bundle:
    """Read a folder in the layout of ``data/README.md``.

    valid: share of the train dialogues (utterances, of each class, where there are none) that
        become the validation split where the table marks none.

    Raises:
        InputError: a missing file or column, an unknown column or setting, rows that do not match,
            features that are not finite numbers, and what ``check_bundle`` finds.
    """
    folder = one_path(paths, "the folder that holds utterances.csv")
    table = _table(existing(folder / "utterances.csv"))
    settings = _settings(folder / "bundle.toml")
    task = _task(folder, table["label"], settings)
    features, lengths, observed = _arrays(folder, len(table))
    return make_bundle(
        str(settings.get("name", folder.resolve().name)), task, features,
        _labels(folder, table["label"], task), _split(folder, table, task, valid), list(table["id"]),
        lengths=lengths, observed=observed, source=str(settings.get("source", "")),
        licence=str(settings.get("licence", "")), **_optional(folder, table),
    )


def _table(path: Path) -> pd.DataFrame:
    table = read_csv(path, dtype=str, keep_default_na=False)
    need_columns(path, table, COLUMNS[:3])
    for column in table.columns:
        if column not in COLUMNS:
            raise unknown_name(f"{path}, column", column, COLUMNS)
    if not len(table):
        raise InputError(str(path), "no rows", "one row per utterance", "Add the utterances.")
    for name, rows in table.groupby("id"):
        splits = sorted(set(rows["split"]))
        if len(splits) > 1:
            raise InputError(str(path), f"the utterance {name!r} in {' and '.join(splits)}",
                             "each utterance in one split", "Remove one of its rows.")
    unknown = sorted(set(table["split"]) - set(SPLITS))
    if unknown:
        raise unknown_name(f"{path}, split", unknown[0], SPLITS)
    return table


def _settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"no readable TOML ({error})", "lines such as task = \"score\"",
                         "Correct the file, or remove it.") from error
    for key in settings:
        if key not in SETTINGS:
            raise unknown_name(f"{path}, setting", key, SETTINGS)
    if "name" in settings:
        check_bundle_name(f"{path}, name", settings["name"], "Give another name.")
    return settings


def _task(folder: Path, labels: pd.Series, settings: dict[str, Any]) -> Task:
    numeric = not pd.to_numeric(labels, errors="coerce").isna().any()
    names = settings.get("classes", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InputError(f"{folder / 'bundle.toml'}, classes", repr(names), "a list of different names",
                         'Write for example classes = ["no", "yes"].')
    kind = settings.get("task", "score" if numeric and "classes" not in settings else "classes")
    if kind not in ("score", "classes"):
        raise unknown_name(f"{folder / 'bundle.toml'}, task", kind, ("classes", "score"))
    if kind == "classes":
        return Task("classes", tuple(names or sorted(set(labels))))
    values = numbers(f"{folder / 'utterances.csv'}, label", list(labels))
    low, high = _range(folder / "bundle.toml", settings.get("range", (values.min(), values.max())))
    return Task("score", range=(float(math.floor(low)), float(math.ceil(high))))


def _range(path: Path, value: Any) -> tuple[float, float]:
    numeric = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, int | float) for v in value)
    if not numeric or not value[0] <= value[1] or not all(map(math.isfinite, value)):
        raise InputError(f"{path}, range", repr(value), "two numbers, the lowest and the highest score",
                         "Write for example range = [-3, 3].")
    return float(value[0]), float(value[1])


def _labels(folder: Path, labels: pd.Series, task: Task) -> np.ndarray:
    if task.kind == "score":
        return numbers(f"{folder / 'utterances.csv'}, label", list(labels))
    unknown = sorted(set(labels) - set(task.names))
    if unknown:
        raise unknown_name(f"{folder / 'utterances.csv'}, label", unknown[0], task.names)
    return np.array([task.names.index(label) for label in labels])


def _split(folder: Path, table: pd.DataFrame, task: Task, valid: str) -> list[str]:
    split = list(table["split"])
    if "valid" in split:
        return split
    rate = float(numbers("option valid", [valid])[0])
    if not 0 < rate < 1:
        raise InputError("option valid", valid, "a share between 0 and 1", "Give for example valid=0.1.")
    train = table[table["split"] == "train"]
    by = "dialogue" if "dialogue" in table.columns else "id"
    if by == "id" and task.kind == "classes":
        held = hold_out_by_class(list(train["id"]), list(train["label"]), rate)
    else:
        held = hold_out(list(train[by]), rate)
    return ["valid" if s == "train" and g in held else s for s, g in zip(split, table[by], strict=True)]


def _arrays(folder: Path, n: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    files = sorted(p.stem for p in folder.glob("*.npy") if not p.name.startswith("."))
    modalities = [stem for stem in files if not stem.endswith(SUFFIXES)]
    features: dict[str, np.ndarray] = {}
    lengths: dict[str, np.ndarray] = {}
    observed = np.ones((n, len(modalities)), dtype=bool)
    for index, modality in enumerate(modalities):
        check_modality(str(folder / f"{modality}.npy"), modality, "Rename the file, and those that belong to it.")
        array = single(_rows(folder / f"{modality}.npy", n))
        if f"{modality}_lengths" in files:
            lengths[modality] = _integers(folder / f"{modality}_lengths.npy", n)
        if f"{modality}_observed" in files:
            observed[:, index] = _flags(folder / f"{modality}_observed.npy", n)
            array = array.copy()
            array[~observed[:, index]] = 0
        features[modality] = array
    for stem in files:
        if stem.endswith(SUFFIXES) and stem.rsplit("_", 1)[0] not in modalities:
            raise InputError(str(folder / f"{stem}.npy"), "no features that it belongs to",
                             f"{stem.rsplit('_', 1)[0]}.npy beside it", "Add the features, or remove the file.")
    return features, lengths, observed


def _rows(path: Path, n: int) -> np.ndarray:
    array = load_npy(path)
    if array.ndim == 0 or len(array) != n:
        raise InputError(str(path), f"shape {array.shape}", f"{n} rows, those of utterances.csv",
                         "Give every file the same rows in the same order.")
    return array


def _integers(path: Path, n: int) -> np.ndarray:
    array = _rows(path, n)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(str(path), f"{array.dtype} of shape {array.shape}", f"({n},) integers",
                         "Give each utterance's number of frames.")
    return array


def _flags(path: Path, n: int) -> np.ndarray:
    array = _rows(path, n)
    if array.ndim != 1 or not np.isin(array, (0, 1)).all():
        raise InputError(str(path), f"{array.dtype} of shape {array.shape}", f"({n},) true or false",
                         "Say for each utterance whether the modality was observed.")
    return array.astype(bool)


def _optional(folder: Path, table: pd.DataFrame) -> dict[str, Any]:
    columns: dict[str, Any] = {c: list(table[c]) for c in ("dialogue", "speaker") if c in table.columns}
    for column in ("position", "fold"):
        if column in table.columns:
            values = numbers(f"{folder / 'utterances.csv'}, {column}", list(table[column]))
            columns[column] = _whole(folder, column, values)
    return columns


def _whole(folder: Path, column: str, values: np.ndarray) -> list[int]:
    if (values != np.floor(values)).any():
        raise InputError(f"{folder / 'utterances.csv'}, {column}", str(values[values != np.floor(values)][0]),
                         "whole numbers", "Correct the column.")
    return [int(v) for v in values]
