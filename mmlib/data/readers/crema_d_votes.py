"""CREMA-D as its raters judged it: votes from voice alone (audio) and from face alone (vision)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmlib.data.bundle import Bundle, Task, make_bundle
from mmlib.data.readers.common import (
    existing,
    floats,
    hold_out_by_class,
    need_columns,
    numbers,
    one_each,
    one_path,
    read_csv,
)
from mmlib.errors import InputError, unknown_name

CLASSES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
VIEWS = {"audio": 1, "vision": 2}
VOTES = ("A", "D", "F", "H", "N", "S")
MEANS = tuple(
    f"mean{name}RespNorm" for name in ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad")
)
SOURCE = "CREMA-D, tabulatedVotes.csv: judgements from voice alone and from face alone; split of the OGM-GE release"
LICENCE = "Open Database License (ODbL) 1.0"


def read(paths: Sequence[Path]) -> Bundle:
    """Read the folder with ``tabulatedVotes.csv``, ``split_train.csv`` and ``split_test.csv``.

    Features per modality: 6 vote shares, then 6 normalised mean intensities over 100; an emotion
    that nobody chose is 0. A tenth of each class of train is held out as validation.

    Raises:
        InputError: missing files or columns, clips without votes, or a clip in both lists.
    """
    folder = one_path(paths, "the folder that holds tabulatedVotes.csv")
    lists = {split: _clips(existing(folder / f"split_{split}.csv")) for split in ("train", "test")}
    split = one_each(str(folder), lists)
    ids = sorted(split)
    labels = np.array([_label(folder, name) for name in ids])
    train = [name for name in ids if split[name] == "train"]
    held = hold_out_by_class(train, [_label(folder, name) for name in train])
    votes = _votes(folder / "tabulatedVotes.csv")
    return make_bundle(
        "crema-d-votes",
        Task("classes", CLASSES),
        {
            m: _features(folder, votes[votes.index // 100000 == view], ids)
            for m, view in VIEWS.items()
        },
        labels,
        ["valid" if name in held else split[name] for name in ids],
        ids,
        speaker=[name.split("_")[0] for name in ids],
        position=[0] * len(ids),
        source=SOURCE,
        licence=LICENCE,
        notes={
            "features": "6 vote shares, then 6 normalised mean intensities over 100",
            "split": "a tenth of each class of train held out as valid; actors are shared by the splits",
        },
    )


def _clips(path: Path) -> list[str]:
    return [str(name) for name in read_csv(path, header=None, dtype=str).iloc[:, 0]]


def _label(folder: Path, name: str) -> int:
    parts = name.split("_")
    if len(parts) != 4:
        raise InputError(
            str(folder),
            f"the clip {name!r}",
            "a name such as 1001_IEO_NEU_XX",
            "Correct the split lists.",
        )
    if parts[2] not in CLASSES:
        raise unknown_name(f"{folder}, emotion of {name}", parts[2], CLASSES)
    return CLASSES.index(parts[2])


def _votes(path: Path) -> pd.DataFrame:
    table = read_csv(path, dtype=str)
    need_columns(path, table, ("fileName", *VOTES, *MEANS))
    numeric = [*VOTES, *MEANS]
    table[numeric] = floats(path, table[numeric])
    return table.set_index(numbers(f"{path}, index", list(table.iloc[:, 0])).astype(int))


def _features(folder: Path, votes: pd.DataFrame, ids: Sequence[str]) -> np.ndarray:
    by_clip = votes.set_index("fileName")
    lacking = sorted(set(ids) - set(by_clip.index))
    if lacking or by_clip.index.has_duplicates:
        raise InputError(
            str(folder / "tabulatedVotes.csv"),
            f"{len(lacking)} clips of the split lists without a row, or a clip with two",
            "one row per clip and view",
            "Use the files of one release.",
        )
    rows = by_clip.loc[list(ids)]
    counts = rows[list(VOTES)].to_numpy(dtype=np.float64)
    means = rows[list(MEANS)].to_numpy(dtype=np.float64)
    chosen = np.where(np.isnan(means) | (means < 0), 0.0, means)
    return np.concatenate([counts / counts.sum(axis=1, keepdims=True), chosen / 100], axis=1)
