"""CMU-MOSI utterance features of the contextual-LSTM papers, with the real-valued scores.

A trap (``data/README.md``): text and vision vectors behave as if their extractors had been trained
with the labels of the 62 training videos. Neither split of this reader validates inside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmlib.data.bundle import Bundle, Task, make_bundle
from mmlib.data.readers.common import choice, existing, floats, numbers, read_csv
from mmlib.data.unpickle import safe_load
from mmlib.errors import InputError

FILES = {"audio": "audio", "text": "text", "vision": "video"}
SPLITS = ("unseen", "leaky")
VALID_VIDEOS = 8
FOLDS = 5
SOURCE = (
    "CMU-MOSI: utterance features of the contextual-LSTM papers; scores of the GCNet feature layout"
)
LICENCE = "CC BY 4.0, as the DREAM paper states"
NOTES = {
    "leaky": "leaky training: the extractors of text and vision saw the labels of the 62 training videos",
    "unseen": "only the 31 videos that the extractors did not see; 5 folds by video",
}


def read(paths: Sequence[Path], split: str = "unseen") -> Bundle:
    """Read the folder of CSV files and the pickle with scores, in either order.

    split: ``unseen``: the 752 rows of the 31 unseen videos alone, in 5 folds by video.
        ``leaky``: train on the 62 training videos, validate on the first eight unseen ones by
        sorted id, test on the others.

    Raises:
        InputError: missing files, wrong counts or columns, labels that contradict the scores.
    """
    choice("split", split, SPLITS)
    folder, pickle = _two(paths)
    ids, features, binary, of_training = _rows(folder)
    scores = _scores(pickle, ids)
    if (binary != (scores >= 0)).any():
        row = int(np.flatnonzero(binary != (scores >= 0))[0])
        raise InputError(
            str(pickle),
            f"a score of {scores[row]:g} for {ids[row]!r}, labelled {int(binary[row])}",
            "1 for scores of 0 and above, else 0",
            "Use the files of one release.",
        )
    keep = ~of_training if split == "unseen" else np.ones(len(ids), dtype=bool)
    names = [name for name, kept in zip(ids, keep, strict=True) if kept]
    videos = [name.rsplit("_", 1)[0] for name in names]
    fold, where = _splits(videos, [bool(s) for s in of_training[keep]], split)
    return make_bundle(
        f"mosi-{'unseen' if split == 'unseen' else 'bclstm'}",
        Task("score", range=(-3.0, 3.0)),
        {m: array[keep] for m, array in features.items()},
        scores[keep],
        where,
        names,
        dialogue=videos,
        position=[int(name.rsplit("_", 1)[1]) for name in names],
        fold=fold,
        source=SOURCE,
        licence=LICENCE,
        notes={"split": NOTES[split]},
    )


def _two(paths: Sequence[Path]) -> tuple[Path, Path]:
    for path in paths:
        existing(path)
    folders, files = [p for p in paths if p.is_dir()], [p for p in paths if p.is_file()]
    if len(folders) != 1 or len(files) != 1:
        raise InputError(
            "the paths",
            f"{len(folders)} folders and {len(files)} files",
            "the folder of CSV files and the pickle with scores",
            "Give both.",
        )
    return folders[0], files[0]


def _rows(folder: Path) -> tuple[list[str], dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Ids, features, 0/1 labels and whether the row is of a training video."""
    transcripts = read_csv(folder / "transcripts.csv", header=None, dtype=str)
    ids: list[str] = []
    parts: dict[str, list[np.ndarray]] = {m: [] for m in FILES}
    labels, of_training = [], []
    for part in ("train", "test"):
        rows = _row_numbers(folder / f"rows_{part}.csv", len(transcripts))
        ids += [str(transcripts.iat[row, 0]) for row in rows]
        of_training.append(np.full(len(rows), part == "train"))
        tables = {m: _table(folder / f"{stem}_{part}0.csv", len(rows)) for m, stem in FILES.items()}
        for modality, table in tables.items():
            parts[modality].append(table[:, :-1])
        labels.append(tables["text"][:, -1])
    features = {m: np.concatenate(arrays).astype(np.float32) for m, arrays in parts.items()}
    return ids, features, np.concatenate(labels).astype(bool), np.concatenate(of_training)


def _row_numbers(path: Path, count: int) -> list[int]:
    rows = numbers(str(path), list(read_csv(path).iloc[:, 0])).astype(int)
    if rows.min() < 0 or rows.max() >= count:
        raise InputError(
            str(path),
            f"rows {rows.min()} to {rows.max()}",
            f"0 to {count - 1}, those of transcripts.csv",
            "Use the files of one release.",
        )
    return [int(row) for row in rows]


def _table(path: Path, rows: int) -> np.ndarray:
    table = read_csv(path, header=None, dtype=str)
    if len(table) != rows:
        raise InputError(
            str(path), f"{len(table)} rows", f"{rows} rows", "Use the files of one release."
        )
    return floats(path, table)


def _scores(path: Path, ids: Sequence[str]) -> np.ndarray:
    content = safe_load(path)
    if (
        not isinstance(content, list | tuple)
        or len(content) != 7
        or not all(isinstance(c, dict) for c in content[:2])
    ):
        raise InputError(
            str(path),
            f"a {type(content).__name__}",
            "a list of seven: ids, scores, speakers, sentences and three sets of videos",
            "Give CMUMOSI_features_raw_2way.pkl.",
        )
    names, values = content[:2]
    score = {
        str(n): float(s)
        for video in names
        for n, s in zip(names[video], values[video], strict=True)
    }
    lacking = [name for name in ids if name not in score]
    if lacking:
        raise InputError(
            str(path),
            f"no score for {len(lacking)} utterances, {lacking[0]!r} among them",
            "a score for each utterance of the CSV files",
            "Use the files of CMU-MOSI.",
        )
    return np.array([score[name] for name in ids])


def _splits(
    videos: Sequence[str], of_training: Sequence[bool], split: str
) -> tuple[list[int] | None, list[str]]:
    """Fold numbers (dealt to the sorted videos in turn) and splits."""
    unseen = sorted({v for v, s in zip(videos, of_training, strict=True) if not s})
    if split == "leaky":
        valid = set(unseen[:VALID_VIDEOS])
        return None, [
            "train" if s else "valid" if v in valid else "test"
            for v, s in zip(videos, of_training, strict=True)
        ]
    fold = [unseen.index(v) % FOLDS for v in videos]
    return fold, [{0: "test", 1: "valid"}.get(number, "train") for number in fold]
