"""MMSA's feature pickles of CMU-MOSI and CMU-MOSEI: ``aligned_50.pkl`` and ``unaligned_50.pkl``.

A dictionary of train, valid and test, each with ``text`` (BERT), ``audio`` and ``vision`` of shape (n, t, d),
``regression_labels`` (n,) and ``id``, a list of ``video$_$clip``; the unaligned file has ``audio_lengths`` and
``vision_lengths`` too. What else there is (``text_bert``, ``raw_text``, class labels) plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmlib.data.bundle import SPLITS, Bundle, Task, make_bundle
from mmlib.data.readers.common import choice, existing, one_path
from mmlib.data.readers.gcnet import LICENCES
from mmlib.data.readers.split_pickle import MODALITIES, Parts, column, frames, load_splits, rows_of
from mmlib.errors import InputError

TASKS = ("mosi", "mosei")
NEEDED = (*MODALITIES, "regression_labels", "id")
MARK = "$_$"
LENGTHS = {
    "file": "stated by the file where it states them, else frames from the first to the last that is not zero",
    "zeros": "frames from the first to the last that is not zero",
}


def read(paths: Sequence[Path], task: str = "mosi", lengths: str = "file") -> Bundle:
    """Read one pickle, safely, into frames with lengths.

    task: ``mosi`` or ``mosei``, for the bundle's name and licence. lengths: ``file`` takes what the file states of
    audio and vision (``audio_lengths``, ``vision_lengths``); ``zeros`` takes no notice of it. The video of an
    utterance's id is its dialogue, and the clip its position. A modality whose every frame is zero is marked as
    naturally missing; minus infinity in audio becomes 0, and is counted in the notes.

    Raises:
        InputError: a layout that is not recognised, arrays that do not fit, ids without a video or a clip number,
            lengths that leave frames out, a video in two splits.
    """
    choice("task", task, TASKS)
    choice("lengths", lengths, tuple(LENGTHS))
    path = existing(one_path(paths, "aligned_50.pkl or unaligned_50.pkl"))
    parts = load_splits(path, NEEDED)
    counts = rows_of(path, parts)
    stated = {}
    for modality in MODALITIES if lengths == "file" else ():
        if all(f"{modality}_lengths" in part for part in parts.values()):
            stated[modality] = column(path, parts, f"{modality}_lengths")
    split = [s for s in SPLITS for _ in range(counts[s])]
    ids = [name for s in SPLITS for name in _ids(path, s, parts, counts[s])]
    labels = column(path, parts, "regression_labels")
    sequences, silent = frames(path, parts, stated)
    return make_bundle(
        f"mmsa-{task}",
        Task("score", range=(-3.0, 3.0)),
        sequences.features,
        labels,
        split,
        ids,
        dialogue=[name.rsplit(MARK, 1)[0] for name in ids],
        position=[int(name.rsplit(MARK, 1)[1]) for name in ids],
        lengths=sequences.lengths,
        observed=sequences.observed,
        source=f"MMSA release, {path.name}",
        licence=LICENCES[task],
        notes={"lengths": LENGTHS[lengths], "minus infinity in audio, now 0": silent},
    )


def _ids(path: Path, split: str, parts: Parts, count: int) -> list[str]:
    values: Any = parts[split]["id"]
    if not isinstance(values, list | tuple | np.ndarray) or len(values) != count:
        content = (
            f"{len(values)} ids" if hasattr(values, "__len__") else f"a {type(values).__name__}"
        )
        raise InputError(
            f"{path}, {split}, id",
            content,
            f"{count} ids: a video, {MARK}, the clip's number",
            "Give the pickle of the MMSA release.",
        )
    names = [
        v.decode() if isinstance(v, bytes) else str(v)
        for v in np.asarray(values, dtype=object).ravel()
    ]
    wrong = [n for n in names if not (n.rpartition(MARK)[0] and n.rpartition(MARK)[2].isdecimal())]
    if len(names) != count or wrong:
        content = f"the id {wrong[0]!r}" if wrong else f"{len(names)} ids"
        raise InputError(
            f"{path}, {split}, id",
            content,
            f"{count} ids: a video, {MARK}, the clip's number",
            "Give the pickle of the MMSA release, or your own data in the layout of `folder`.",
        )
    return names
