"""IEMOCAP as the MulT release has it: ``iemocap_data.pkl`` (20 word-aligned steps) and ``iemocap_data_noalign.pkl``.

A dictionary of train, valid and test, each with ``text`` (GloVe), ``audio`` and ``vision`` of shape (n, t, d) and
``labels`` (n, 4, 2): for each of four emotions, one of (absent, present). Ids are usually missing. The field reports
a weighted F1 of each emotion as its own binary label (ledger, 2.1), so that is the task by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmlib.data.bundle import SPLITS, Bundle, Task, make_bundle
from mmlib.data.readers.common import choice, existing, one_path
from mmlib.data.readers.gcnet import LICENCES
from mmlib.data.readers.split_pickle import MODALITIES, column, frames, load_splits, rows_of
from mmlib.errors import InputError

EMOTIONS = ("neutral", "happy", "sad", "angry")  # in the release's order
TASKS = ("binaries", "classes")


def read(paths: Sequence[Path], task: str = "binaries") -> Bundle:
    """Read one pickle, safely, into frames with lengths.

    task: ``binaries``, four binary labels an utterance, of which none or several may be true; or ``classes``,
    one of four, which leaves out the utterances that have no emotion or several, and counts them in the notes.
    Each utterance is its own dialogue; ids are made from split and row. A modality whose every frame is zero is
    marked as naturally missing; minus infinity in audio becomes 0, and is counted in the notes.

    Raises:
        InputError: a layout that is not recognised, arrays that do not fit, labels that are not one of two.
    """
    choice("task", task, TASKS)
    path = existing(one_path(paths, "iemocap_data.pkl or iemocap_data_noalign.pkl"))
    parts = load_splits(path, (*MODALITIES, "labels"))
    counts = rows_of(path, parts)
    labels = _present(path, column(path, parts, "labels", (len(EMOTIONS), 2)))
    sequences, silent = frames(path, parts, {})
    number = labels.sum(axis=1)
    kept = np.flatnonzero(number == 1) if task == "classes" else np.arange(len(labels))
    names = [f"{s}-{row:05d}" for s in SPLITS for row in range(counts[s])]
    return make_bundle(
        "mult-iemocap",
        Task("binaries" if task == "binaries" else "classes", EMOTIONS),
        {m: array[kept] for m, array in sequences.features.items()},
        (labels if task == "binaries" else labels.argmax(axis=1))[kept],
        [names[i].partition("-")[0] for i in kept],
        [names[i] for i in kept],
        position=[0] * len(kept),
        observed=sequences.observed[kept],
        lengths={m: array[kept] for m, array in sequences.lengths.items()},
        source=f"MulT release, {path.name}",
        licence=LICENCES["iemocap4"],
        notes=_notes(number, silent, task),
    )


def _notes(emotions: np.ndarray, silent: int, task: str) -> dict[str, int | str]:
    """What the bundle says of itself. emotions: (n,) how many each utterance has."""
    notes: dict[str, int | str] = {
        "ids": "made from split and row number",
        "utterances without an emotion": int((emotions == 0).sum()),
        "utterances with several": int((emotions > 1).sum()),
        "minus infinity in audio, now 0": silent,
    }
    if task == "classes":
        notes["left out"] = f"{int((emotions != 1).sum())} utterances without exactly one emotion"
    return notes


def _present(path: Path, labels: np.ndarray) -> np.ndarray:
    """(n, 4, 2) to (n, 4): 1 where the emotion is present."""
    wrong = ~(np.isin(labels, (0, 1)).all(axis=(1, 2)) & (labels.sum(axis=2) == 1).all(axis=1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{path}, labels",
            f"{labels[row].tolist()} in row {row + 1} of all splits",
            "(1, 0) or (0, 1) for each of four emotions",
            "Give the pickle of the MulT release.",
        )
    return labels.argmax(axis=2)
