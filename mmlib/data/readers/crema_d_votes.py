"""CREMA-D as its raters judged it: votes from voice alone (audio) and from face alone (vision)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

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

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
VIEWS = {"audio": 1, "vision": 2}
VOTES = ("A", "D", "F", "H", "N", "S")
MEANS = tuple(
    f"mean{name}RespNorm" for name in ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad")
)
SOURCE = "CREMA-D, tabulatedVotes.csv: judgements from voice alone and from face alone; split of the OGM-GE release"
LICENCE = "Open Database License (ODbL) 1.0"


@dataclass(frozen=True)
class Votes:
    """What the public tables say of n clips, in the order of their sorted names."""

    split: Mapping[str, str]
    """Clip to ``train`` or ``test``, as the public lists have them."""

    counts: Mapping[str, np.ndarray]
    """Modality to (n, 6) votes for each class of ``CLASSES``."""

    means: Mapping[str, np.ndarray]
    """Modality to (n, 6) normalised mean intensities, 0 to 1; 0 where nobody chose the class."""


def read(paths: Sequence[Path]) -> Bundle:
    """Read the folder with ``tabulatedVotes.csv``, ``split_train.csv`` and ``split_test.csv``.

    Features per modality: 6 vote shares, then 6 normalised mean intensities over 100; an emotion
    that nobody chose is 0. A tenth of each class of train is held out as validation.

    Raises:
        InputError: missing files or columns, clips without votes, or a clip in both lists.
    """
    folder = one_path(paths, "the folder that holds tabulatedVotes.csv")
    return bundle_of(str(folder), tables(folder))


def tables(folder: Path) -> Votes:
    """The counts and means of the public tables, for the clips of both lists.

    Raises:
        InputError: missing files or columns, clips without votes, or a clip in both lists.
    """
    lists = {split: _clips(existing(folder / f"split_{split}.csv")) for split in ("train", "test")}
    split = one_each(str(folder), lists)
    ids = sorted(split)
    rows = _votes(folder / "tabulatedVotes.csv")
    views = {
        m: _of_clips(folder, rows[rows.index // 100000 == view], ids) for m, view in VIEWS.items()
    }
    return Votes(
        {name: split[name] for name in ids},
        {m: view[list(VOTES)].to_numpy(dtype=np.float64) for m, view in views.items()},
        {m: _means(view[list(MEANS)].to_numpy(dtype=np.float64)) for m, view in views.items()},
    )


def bundle_of(where: str, votes: Votes) -> Bundle:
    """The bundle of some votes, wherever they were read.

    Raises:
        InputError: a clip whose name says no emotion; ``where`` says in which files.
    """
    ids = list(votes.split)
    labels = np.array([_label(where, name) for name in ids])
    train = [name for name in ids if votes.split[name] == "train"]
    held = hold_out_by_class(train, [_label(where, name) for name in train])
    return make_bundle(
        "crema-d-votes",
        Task("classes", CLASSES),
        {m: _features(votes.counts[m], votes.means[m]) for m in VIEWS},
        labels,
        ["valid" if name in held else votes.split[name] for name in ids],
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


def _label(where: str, name: str) -> int:
    parts = name.split("_")
    if len(parts) != 4:
        raise InputError(
            where,
            f"the clip {name!r}",
            "a name such as 1001_IEO_NEU_XX",
            "Correct the split lists.",
        )
    if parts[2] not in CLASSES:
        raise unknown_name(f"{where}, emotion of {name}", parts[2], CLASSES)
    return CLASSES.index(parts[2])


def _votes(path: Path) -> pd.DataFrame:
    table = read_csv(path, dtype=str)
    need_columns(path, table, ("fileName", *VOTES, *MEANS))
    numeric = [*VOTES, *MEANS]
    table[numeric] = floats(path, table[numeric])
    return table.set_index(numbers(f"{path}, index", list(table.iloc[:, 0])).astype(int))


def _of_clips(folder: Path, votes: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    """One view's row of each clip, in the clips' order."""
    by_clip = votes.set_index("fileName")
    lacking = sorted(set(ids) - set(by_clip.index))
    if lacking or by_clip.index.has_duplicates:
        raise InputError(
            str(folder / "tabulatedVotes.csv"),
            f"{len(lacking)} clips of the split lists without a row, or a clip with two",
            "one row per clip and view",
            "Use the files of one release.",
        )
    return by_clip.loc[list(ids)]


def _means(printed: np.ndarray) -> np.ndarray:
    """Intensities of 0 to 1; the table has -1 or nothing where nobody chose the emotion."""
    return np.where(np.isnan(printed) | (printed < 0), 0.0, printed) / 100


def _features(counts: np.ndarray, means: np.ndarray) -> np.ndarray:
    """(n, 12): shares of the votes, then mean intensities."""
    return np.concatenate([counts / counts.sum(axis=1, keepdims=True), means], axis=1)
