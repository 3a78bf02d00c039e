"""The layout that GCNet, MoMKE, EBMC and MCULoRA share: an index pickle and one file per utterance.

``<root>/<name>_features_raw_<k>way.pkl`` is a list: utterance ids, labels, speakers and sentences
per video, then the sets of train, valid and test videos (IEMOCAP's has no valid set).
``<root>/features/<extractor>/<utterance>.npy`` is a vector, or frames; or a folder with a file per face.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmlib.data.bundle import Bundle, Task, make_bundle
from mmlib.data.readers.common import (
    EMOTIONS,
    choice,
    existing,
    hold_out,
    load_npy,
    one_each,
    single,
)
from mmlib.data.unpickle import safe_load
from mmlib.errors import InputError, unknown_name

SCORE = Task("score", range=(-3.0, 3.0))
TASKS = {
    "mosi": SCORE,
    "mosei": SCORE,
    "iemocap4": Task("classes", EMOTIONS[:4]),
    "iemocap6": Task("classes", EMOTIONS),
}
WAYS = {"mosi": 2, "mosei": 2, "iemocap4": 4, "iemocap6": 6}
LICENCES = {
    "mosi": "CC BY 4.0, as the DREAM paper states",
    "mosei": "custom, by the CMU Multimodal SDK",
    "iemocap4": "custom, by request from USC",
    "iemocap6": "custom, by request from USC",
}


@dataclass(frozen=True)
class _Index:
    """What the index pickle holds."""

    path: Path
    """The pickle itself, for messages."""

    ids: Mapping[str, Sequence[str]]
    """Video to the ids of its utterances, in order."""

    labels: Mapping[str, Sequence[Any]]
    """Video to a label of each utterance."""

    speakers: Mapping[str, Sequence[str]]
    """Video to the speaker of each utterance."""

    split: Mapping[str, str]
    """Video to the split it is in."""


def read(
    paths: Sequence[Path],
    task: str = "mosi",
    audio: str = "wav2vec-large-c-UTT",
    text: str = "deberta-large-4-UTT",
    vision: str = "manet_UTT",
) -> Bundle:
    """Read the root folder, or the pickle and the ``features`` folder.

    task: ``mosi``, ``mosei``, ``iemocap4`` or ``iemocap6``. audio, text, vision: feature folders.
    Frames are averaged over time; an utterance with none is marked as naturally missing. IEMOCAP
    without a valid set: a tenth of the train dialogues; ``iemocap4`` gets its sessions as folds.

    Raises:
        InputError: a layout that is not recognised, a missing folder or file, dims that differ.
    """
    choice("task", task, tuple(TASKS))
    pickle, root = _where(paths, WAYS[task])
    index = _index(pickle)
    rows = _rows(index)
    ids = [str(index.ids[v][i]) for v, i in rows]
    speakers = [str(index.speakers[v][i]) for v, i in rows]
    folders = {"audio": audio, "text": text, "vision": vision}
    features, observed = _modalities(root, folders, ids, speakers)
    return make_bundle(
        f"gcnet-{task}",
        TASKS[task],
        features,
        _labels(index, rows, TASKS[task]),
        [index.split[v] for v, _ in rows],
        ids,
        dialogue=[v for v, _ in rows],
        position=[i for _, i in rows],
        speaker=speakers,
        fold=_sessions(rows) if task == "iemocap4" else None,
        observed=observed,
        source=f"{pickle.name} with {audio}, {text}, {vision}",
        licence=LICENCES[task],
    )


def _rows(index: _Index) -> list[tuple[str, int]]:
    """The video and the place in it of every utterance, videos sorted."""
    return [(video, i) for video in sorted(index.split) for i in range(len(index.ids[video]))]


def _modalities(
    root: Path, folders: Mapping[str, str], ids: Sequence[str], speakers: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Modality to features (n, d), and (n, M) whether each is there, from each modality's folder."""
    features: dict[str, np.ndarray] = {}
    observed = []
    for modality, name in folders.items():
        features[modality], there = _features(root, modality, name, ids, speakers)
        observed.append(there)
    return features, np.stack(observed, axis=1)


def _where(paths: Sequence[Path], ways: int) -> tuple[Path, Path]:
    for path in paths:
        existing(path)
    folders, files = [p for p in paths if p.is_dir()], [p for p in paths if p.is_file()]
    if len(folders) == 1 and not files:
        files = sorted(folders[0].glob(f"*_features_raw_{ways}way.pkl"))
        folders = [
            existing(
                folders[0] / "features",
                "Give the root folder, or the pickle and the features folder.",
            )
        ]
    if len(folders) != 1 or len(files) != 1:
        raise InputError(
            "the paths",
            f"{len(folders)} folders and {len(files)} index pickles",
            f"a root folder with one *_features_raw_{ways}way.pkl, or a pickle and a features folder",
            "Give the pickle and the features folder; check the option task.",
        )
    return files[0], folders[0]


def _index(path: Path) -> _Index:
    content = safe_load(path)
    fits = (
        isinstance(content, list | tuple)
        and len(content) in (6, 7)
        and all(isinstance(part, dict) for part in content[:4])
        and all(isinstance(part, set | frozenset | list | tuple) for part in content[4:])
    )
    if not fits:
        parts = content if isinstance(content, list | tuple) else [content]
        description = f"{len(parts)} parts ({', '.join(type(part).__name__ for part in parts)})"
        raise InputError(
            str(path),
            description,
            "ids, labels, speakers, sentences (dictionaries by video), "
            "then the sets of train, valid and test videos",
            "Give the *_features_raw_*way.pkl file.",
        )
    ids, labels, speakers = content[:3]
    names = ("train", "valid", "test") if len(content) == 7 else ("train", "test")
    split = one_each(
        str(path), {n: [str(v) for v in part] for n, part in zip(names, content[4:], strict=True)}
    )
    for video in split:
        counts = [len(part[video]) if video in part else 0 for part in (ids, labels, speakers)]
        if counts[0] == 0 or len(set(counts)) > 1:
            raise InputError(
                str(path),
                f"{counts} ids, labels and speakers of the video {video!r}",
                "one of each per utterance",
                "Use the original file.",
            )
    if "valid" not in names:
        held = hold_out([v for v, s in split.items() if s == "train"])
        split = {v: "valid" if v in held else s for v, s in split.items()}
    return _Index(path, ids, labels, speakers, split)


def _labels(index: _Index, rows: Sequence[tuple[str, int]], task: Task) -> np.ndarray:
    values = [index.labels[v][i] for v, i in rows]
    try:
        labels = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            str(index.path), f"the label {values[0]!r}", "numbers", "Use the original file."
        ) from error
    if task.kind == "classes" and (labels != np.floor(labels)).any():
        raise InputError(
            str(index.path),
            f"the label {labels[labels != np.floor(labels)][0]:g}",
            "class numbers",
            "Set the option task to mosi or mosei for scores.",
        )
    return labels


def _features(
    root: Path, modality: str, name: str, ids: Sequence[str], speakers: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    if name not in folders:
        raise unknown_name(f"{root}, option {modality}", name, folders)
    entries = {entry.name.removesuffix(".npy"): entry for entry in os.scandir(root / name)}
    lacking = [i for i in ids if i not in entries]
    if lacking:
        raise InputError(
            str(root / name),
            f"no file for {len(lacking)} of {len(ids)} utterances, {lacking[0]!r} first",
            "<utterance>.npy for each",
            "Extract the features of those utterances too.",
        )
    vectors = [
        _vector(Path(entries[i].path), entries[i].is_dir(), s)
        for i, s in zip(ids, speakers, strict=True)
    ]
    dims = sorted({len(v) for v in vectors if v is not None})
    if len(dims) != 1:
        raise InputError(
            str(root / name),
            f"vectors of {' and '.join(map(str, dims)) or 'no'} dims",
            "one length",
            "Extract all utterances with one extractor.",
        )
    array = np.zeros((len(ids), dims[0]), dtype=np.float32)
    there = np.array([v is not None for v in vectors])
    array[there] = single(np.stack([v for v in vectors if v is not None]))
    return array, there


def _vector(path: Path, is_folder: bool, speaker: str) -> np.ndarray | None:
    """One utterance's vector: frames averaged; None where there are none."""
    if is_folder:
        faces = [
            load_npy(path / name) for name in sorted(os.listdir(path)) if _shows(name, speaker)
        ]
        array = np.stack([face.reshape(-1) for face in faces]) if faces else np.zeros((0, 0))
    else:
        array = load_npy(path)
        array = (
            array.reshape(array.shape[-2:])
            if array.ndim > 2 and array.size == np.prod(array.shape[-2:])
            else array
        )
    if array.size == 0:
        return None
    if array.ndim not in (1, 2):
        raise InputError(
            str(path),
            f"shape {array.shape}",
            "(d,) or (t, d)",
            "Save one vector or sequence a file.",
        )
    vector: np.ndarray = array.mean(axis=0) if array.ndim == 2 else array
    return vector


def _shows(face: str, speaker: str) -> bool:
    """Whether a face file is of the speaker: IEMOCAP's faces carry the letter F or M."""
    return speaker not in ("F", "M") or ("F" in face) == (speaker == "F")


def _sessions(rows: Sequence[tuple[str, int]]) -> list[int] | None:
    """The session of each row, from 0, as the names of IEMOCAP's videos begin with it; None where one does not."""
    sessions = []
    for video, _ in rows:
        match = re.match(r"Ses0?(\d)", video)
        if match is None:
            return None
        sessions.append(int(match.group(1)) - 1)
    return sessions
