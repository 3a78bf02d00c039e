"""Your own data: ``utterances.csv`` and one ``<modality>.npy`` each, rows in the same order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmlib.data.bounded import read_toml
from mmlib.data.bundle import SPLITS, Bundle, Task, make_bundle
from mmlib.data.bundle_file import LONGEST
from mmlib.data.forms import listed as listed_of
from mmlib.data.forms import number
from mmlib.data.groups import NAMES
from mmlib.data.readers.common import (
    HELD_OUT,
    choice,
    existing,
    hold_out,
    hold_out_by_class,
    load_npy,
    need_columns,
    numbers,
    one_path,
    read_csv,
)
from mmlib.data.readers.label_column import (
    Column,
    ask_whether_classes,
    classes,
    in_one_line,
    listed,
    one_kind,
    scores,
    told_apart,
)
from mmlib.data.scales import zero_rows
from mmlib.data.scaling import floats
from mmlib.data.standardise import rounded
from mmlib.data.unlabelled import Unlabelled, none_as_one
from mmlib.errors import InputError, unknown_name
from mmlib.names import SUFFIXES, check_bundle_name, check_modality

COLUMNS = ("id", "split", "label", "dialogue", "position", "speaker", "fold")
SETTINGS = ("name", "task", "range", "neutral", "classes", "source", "licence")
ZEROS = ("kept", "missing")


def read(paths: Sequence[Path], valid: str | None = None, zeros: str = ZEROS[0]) -> Bundle:
    """Read a folder in the layout of ``data/README.md``.

    valid: share of the train dialogues (utterances, of each class, where there are none) that
        become the validation split where the table marks none; None for a tenth. zeros: ``kept`` takes
        rows of zeros alone as they are, ``missing`` as missing by nature.

    Raises:
        InputError: a missing file or column, an unknown column or setting, rows that do not match, a share where
            the table marks validation, features that are not finite numbers or that 32 bits cannot tell apart, and
            what ``check_bundle`` finds.
    """
    return rounded(_read(paths, valid, zeros))


def read_wide(paths: Sequence[Path], valid: str | None = None, zeros: str = ZEROS[0]) -> Bundle:
    """The same, but features of more than 32 bits keep 64, for ``standardise`` to round; the files must stay till then.

    Raises:
        InputError: what ``read`` raises, but for numbers that 32 bits cannot tell apart.
    """
    return _read(paths, valid, zeros, mapped=True)


def _read(paths: Sequence[Path], valid: str | None, zeros: str, mapped: bool = False) -> Bundle:
    folder = one_path(paths, "the folder that holds utterances.csv")
    table = _table(existing(folder / "utterances.csv"))
    settings = _settings(folder / "bundle.toml")
    features, lengths, observed = _arrays(folder, len(table), mapped)
    task, labels, of_labels = _labelled(folder, table, settings)
    notes: dict[str, Any] = dict(of_labels)
    if choice("zeros", zeros, ZEROS) == "missing":
        observed = observed & ~zero_rows(features, lengths)
        notes["zeros"] = "rows of zeros alone are missing by nature"
    if "speaker" in table.columns:
        notes[NAMES] = sorted(set(table["speaker"]))
    return make_bundle(
        str(settings.get("name", folder.resolve().name)),
        task,
        features,
        labels,
        _split(folder, table, labels, task, valid),
        list(table["id"]),
        lengths=lengths,
        observed=observed,
        source=str(settings.get("source", "")),
        licence=str(settings.get("licence", "")),
        notes=notes,
        wide=True,
        **_optional(folder, table),
    )


def read_unlabelled(folder: Path) -> Unlabelled:
    """Read the utterances of such a folder for a prediction, and the order of its table is kept.

    The table needs no column but ``id``; labels, folds and ``bundle.toml`` play no part, and one modality is enough.

    Raises:
        InputError: a missing file, an unknown column, or rows that do not match.
    """
    table = _table(existing(folder / "utterances.csv"), COLUMNS[:1])
    features, lengths, observed = _arrays(folder, len(table))
    if not features:
        raise InputError(
            str(folder), "no .npy file", "one for each modality that there is", "Add the features."
        )
    columns = {name: value for name, value in _optional(folder, table).items() if name != "fold"}
    return Unlabelled(
        str(folder),
        features,
        observed,
        list(table["id"]),
        lengths,
        list(table["split"]) if "split" in table.columns else None,
        **columns,
    )


def _table(path: Path, needed: Sequence[str] = COLUMNS[:3]) -> pd.DataFrame:
    table = _cells(path)
    for column in table.columns:
        meant = str(column).strip().lower()
        if meant in COLUMNS and column != meant:
            raise InputError(
                str(path), f"the column {column!r}", repr(meant), "Write it small, without blanks."
            )
    need_columns(path, table, needed)
    for column in table.columns:
        if column not in COLUMNS:
            raise unknown_name(f"{path}, column", column, COLUMNS)
    if not len(table):
        raise InputError(str(path), "no rows", "one row per utterance", "Add the utterances.")
    if "split" in table.columns:
        _check_splits(path, table)
    return table


def _check_splits(path: Path, table: pd.DataFrame) -> None:
    for row, split in enumerate(table["split"], start=1):
        if split not in SPLITS:
            raise unknown_name(f"{path}, split in row {row}", split, SPLITS)
    pairs = table[["id", "split"]].drop_duplicates()
    twice = pairs.loc[pairs["id"].duplicated(), "id"]
    if len(twice):
        name = twice.iloc[0]
        splits = sorted(pairs.loc[pairs["id"] == name, "split"])
        raise InputError(
            str(path),
            f"the utterance {name!r} in {' and '.join(splits)}",
            "each utterance in one split",
            "Remove one of its rows.",
        )


def _cells(path: Path) -> pd.DataFrame:
    """The table as text, separated by commas, semicolons or tabs."""
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    head = read_csv(path, nrows=0, **options).columns
    separator = next((mark for mark in (";", "\t") if len(head) == 1 and mark in str(head[0])), ",")
    table = read_csv(path, sep=separator, **options)
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(
            str(path),
            f"rows of more cells than the {len(table.columns)} columns",
            "as many cells as columns",
            "Quote cells that hold commas, and write decimal points: 1.5.",
        )
    return table.fillna("")


def _settings(path: Path) -> dict[str, Any]:
    if not path.exists() and not path.is_symlink():
        return {}
    settings = read_toml(path, 'lines such as task = "score"', "Correct the file, or remove it.")
    for key in settings:
        if key not in SETTINGS:
            raise unknown_name(f"{path}, setting", key, SETTINGS)
    if "name" in settings:
        check_bundle_name(f"{path}, name", settings["name"], "Give another name.")
    return settings


def _labelled(
    folder: Path, table: pd.DataFrame, settings: dict[str, Any]
) -> tuple[Task, np.ndarray, dict[str, str]]:
    """The task, the labels (n,), and what to note of them: scores count from the neutral one."""
    column = Column(f"{folder / 'utterances.csv'}, label", list(table["id"]), list(table["label"]))
    toml = folder / "bundle.toml"
    names = _names(toml, settings.get("classes", []))
    kind = settings.get("task") or _kind(column, settings)
    if kind not in ("score", "classes"):
        raise unknown_name(f"{toml}, task", kind, ("classes", "score"))
    if kind == "classes":
        if "neutral" in settings:
            raise InputError(
                f"{toml}, neutral", "a neutral value of classes", "a score", "Leave it out."
            )
        if names:
            return Task("classes", tuple(names)), listed(column, names), {}
        labels = classes(column)
        names = sorted(set(labels))
        return Task("classes", tuple(names)), np.array([names.index(name) for name in labels]), {}
    bounds = _range(toml, settings["range"]) if "range" in settings else None
    values = scores(column, bounds)
    if not {"task", "range", "neutral"} & set(settings):
        ask_whether_classes(column, values)
    neutral = _neutral(toml, settings)
    low, high = (end - neutral for end in bounds or (values.min(), values.max()))
    notes = (
        {"neutral": f"{neutral:g} of the source is 0 here: all scores are less by {neutral:g}"}
        if neutral
        else {}
    )
    told_apart(column, values - neutral)
    return (
        Task("score", range=(float(math.floor(low)), float(math.ceil(high)))),
        values - neutral,
        notes,
    )


def _kind(column: Column, settings: dict[str, Any]) -> str:
    """``score`` or ``classes``, where the settings do not name the task."""
    if "classes" in settings:
        return "classes"
    if {"range", "neutral"} & set(settings):
        return "score"
    return "score" if one_kind(column) == "number" else "classes"


def _names(path: Path, names: Any) -> list[str]:
    texts = isinstance(names, list) and all(
        isinstance(name, str) and name.strip() and in_one_line(name) for name in names
    )
    if not texts or len(set(names)) < len(names):
        raise InputError(
            f"{path}, classes",
            repr(names)[:200],
            f"a list of different names, each in one line of at most {LONGEST} characters",
            'Write for example classes = ["no", "yes"].',
        )
    return list(names)


def _neutral(path: Path, settings: dict[str, Any]) -> float:
    value = settings.get("neutral", 0)
    if not number(value):
        raise InputError(
            f"{path}, neutral",
            repr(value),
            "the score that is neither positive nor negative",
            "Write for example neutral = 4.",
        )
    return float(value)


def _range(path: Path, value: Any) -> tuple[float, float]:
    pair = listed_of(number)(value) and len(value) == 2
    if not pair or not value[0] <= value[1]:
        raise InputError(
            f"{path}, range",
            repr(value),
            "two numbers, the lowest and the highest score",
            "Write for example range = [-3, 3].",
        )
    return float(value[0]), float(value[1])


def _split(
    folder: Path, table: pd.DataFrame, labels: np.ndarray, task: Task, valid: str | None
) -> list[str]:
    split = list(table["split"])
    rate = _share(valid)
    if "valid" in split:
        if valid is not None:
            raise InputError(
                "option valid",
                f"{valid} of train, and {split.count('valid')} rows that utterances.csv marks valid",
                "one of the two",
                "Leave the option out, or mark those rows train.",
            )
        return split
    train = table[table["split"] == "train"]
    by = "dialogue" if "dialogue" in table.columns else "id"
    if by == "id" and task.kind == "classes":
        names = [task.names[labels[row]] for row in np.flatnonzero(table["split"] == "train")]
        held = hold_out_by_class(list(train["id"]), names, rate)
    else:
        held = hold_out(list(train[by]), rate)
    return [
        "valid" if s == "train" and g in held else s for s, g in zip(split, table[by], strict=True)
    ]


def _share(valid: str | None) -> float:
    """The share of train that is held out."""
    rate = HELD_OUT if valid is None else float(numbers("option valid", [valid])[0])
    if not 0 < rate < 1:
        raise InputError(
            "option valid", str(valid), "a share between 0 and 1", "Give for example valid=0.1."
        )
    return rate


def _no_other_arrays(folder: Path) -> None:
    """Refuse arrays that would be left out without a word."""
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".")  # as those that some systems leave beside a copied file
        if not hidden and path.suffix.lower() in (".npz", ".npy") and path.suffix != ".npy":
            raise InputError(
                str(path),
                f"an array in a {path.suffix} file",
                "one .npy file for each modality",
                "Save it as MODALITY.npy, or move it elsewhere.",
            )


def _arrays(
    folder: Path, n: int, mapped: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    _no_other_arrays(folder)
    files = sorted(p.stem for p in folder.glob("*.npy") if not p.name.startswith("."))
    modalities = [stem for stem in files if not stem.endswith(SUFFIXES)]
    features: dict[str, np.ndarray] = {}
    lengths: dict[str, np.ndarray] = {}
    observed = np.ones((n, len(modalities)), dtype=bool)
    for index, modality in enumerate(modalities):
        check_modality(
            str(folder / f"{modality}.npy"),
            modality,
            "Rename the file, and those that belong to it.",
        )
        array = _features(_rows(folder / f"{modality}.npy", n, mapped))
        if f"{modality}_observed" in files:
            observed[:, index] = _flags(folder / f"{modality}_observed.npy", n)
            array[~observed[:, index]] = 0
        if f"{modality}_lengths" in files:
            ends = _integers(folder / f"{modality}_lengths.npy", n)
            lengths[modality] = none_as_one(ends, observed[:, index])
        features[modality] = array
    for stem in files:
        if stem.endswith(SUFFIXES) and stem.rsplit("_", 1)[0] not in modalities:
            raise InputError(
                str(folder / f"{stem}.npy"),
                "no features that it belongs to",
                f"{stem.rsplit('_', 1)[0]}.npy beside it",
                "Add the features, or remove the file.",
            )
    return features, lengths, observed


def _features(array: np.ndarray) -> np.ndarray:
    """As ``floats``; bytes stay bytes where they are pictures, (n, c, h, w) or (n, k, c, h, w)."""
    return array if array.dtype == np.uint8 and array.ndim > 3 else floats(array)


def _rows(path: Path, n: int, mapped: bool = False) -> np.ndarray:
    array = load_npy(path, mapped)
    if array.ndim == 0 or len(array) != n:
        raise InputError(
            str(path),
            f"shape {array.shape}",
            f"{n} rows, those of utterances.csv",
            "Give every file the same rows in the same order.",
        )
    return array


def _integers(path: Path, n: int) -> np.ndarray:
    array = _rows(path, n)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            str(path),
            f"{array.dtype} of shape {array.shape}",
            f"({n},) integers",
            "Give each utterance's number of frames.",
        )
    return array


def _flags(path: Path, n: int) -> np.ndarray:
    array = _rows(path, n)
    if array.ndim != 1 or not np.isin(array, (0, 1)).all():
        raise InputError(
            str(path),
            f"{array.dtype} of shape {array.shape}",
            f"({n},) true or false",
            "Say for each utterance whether the modality was observed.",
        )
    return array.astype(bool)


def _optional(folder: Path, table: pd.DataFrame) -> dict[str, Any]:
    for column in ("id", "dialogue", "speaker"):
        if column in table.columns:
            _no_gaps(folder, column, list(table[column]))
            _no_doubles(folder, column, list(table[column]))
    columns: dict[str, Any] = {
        c: list(table[c]) for c in ("dialogue", "speaker") if c in table.columns
    }
    for column in ("position", "fold"):
        if column in table.columns:
            values = numbers(f"{folder / 'utterances.csv'}, {column}", list(table[column]))
            columns[column] = _whole(folder, column, values)
    if "dialogue" in columns and "position" not in columns:
        columns["position"] = list(table.groupby("dialogue").cumcount())  # as the rows come
    if "dialogue" in columns:
        _no_ties(folder, columns["dialogue"], columns["position"])
    return columns


def _no_ties(folder: Path, dialogues: Sequence[str], positions: Sequence[int]) -> None:
    """Refuse two utterances at one position of a dialogue, which have no order."""
    seen: dict[tuple[str, int], int] = {}
    for row, place in enumerate(zip(dialogues, positions, strict=True)):
        other = seen.setdefault(place, row)
        if other != row:
            raise InputError(
                f"{folder / 'utterances.csv'}, position",
                f"{place[1]} in rows {other + 1} and {row + 1}, both of dialogue {place[0]}",
                "each position once in a dialogue",
                "Correct them, or leave the column out: utterances are then in the order of the rows.",
            )


def _no_gaps(folder: Path, column: str, values: list[str]) -> None:
    """Refuse empty cells, which would make one dialogue or speaker of rows that have nothing to do with each other."""
    empty = [row for row, value in enumerate(values) if not str(value).strip()]
    if empty:
        raise InputError(
            f"{folder / 'utterances.csv'}, {column}",
            f"no value in {len(empty)} rows, the first of them row {empty[0] + 1}",
            "a value in every row",
            "Fill the column, or leave it out.",
        )


def _no_doubles(folder: Path, column: str, values: list[str]) -> None:
    """Refuse a name that differs from another by blanks alone: the two would be two speakers, and hide a leak."""
    seen: dict[str, str] = {}
    for row, value in enumerate(map(str, values)):
        other = seen.setdefault(" ".join(value.split()), value)
        if other != value:
            raise InputError(
                f"{folder / 'utterances.csv'}, {column}",
                f"{value!r} in row {row + 1} and {other!r} before it",
                "names that differ by more than blanks",
                "Write both alike, or give them different names.",
            )


def _whole(folder: Path, column: str, values: np.ndarray) -> list[int]:
    """Whole numbers that 32 bits hold, so that none is turned into another."""
    where = f"{folder / 'utterances.csv'}, {column}"
    wrong = np.flatnonzero((values != np.floor(values)) | (np.abs(values) >= 2**31))
    if len(wrong):
        raise InputError(
            f"{where}, row {wrong[0] + 1}",
            str(values[wrong[0]]),
            "whole numbers that 32 bits hold",
            "Correct the column.",
        )
    return [int(v) for v in values]
