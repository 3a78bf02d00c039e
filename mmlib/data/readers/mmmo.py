"""MMMO product reviews: 20 word-aligned steps of audio and vision, in HDF5 files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from mmlib.data.bounded import regular_file
from mmlib.data.bundle import SPLITS, Bundle, Task, make_bundle
from mmlib.data.readers.common import one_path, single
from mmlib.errors import InputError

FILES = {"audio": "audio", "vision": "video"}
KEY = "d1"
UNFOLDED = 64  # how many times its file a data set may be, for compression
UNFOLDED_LEAST = 64 * 2**20
SOURCE = "MMMO (ICT multi-modal movie opinion), word-aligned audio and vision features"
LICENCE = "none stated"


def read(paths: Sequence[Path]) -> Bundle:
    """Read the folder with ``{audio,video,y}_{train,valid,test}.h5``.

    Scores of 1 to 5 become -3 to 3 (linear). Ids are made from split and row number, since the
    files have none.

    Raises:
        InputError: a missing file or key, shapes that differ, scores outside 1 to 5.
    """
    folder = one_path(paths, "the folder that holds y_train.h5")
    scores = {s: _load(folder / f"y_{s}.h5", 1) for s in SPLITS}
    for part, values in scores.items():
        if not ((values >= 1) & (values <= 5)).all():
            raise InputError(
                str(folder / f"y_{part}.h5"),
                f"scores from {values.min():g} to {values.max():g}",
                "1 to 5",
                "Give the files with the original scores.",
            )
    features = {m: _frames(folder, stem, scores) for m, stem in FILES.items()}
    split = [s for s in SPLITS for _ in scores[s]]
    ids = [f"{s}-{row:04d}" for s in SPLITS for row in range(len(scores[s]))]
    labels = (np.concatenate([scores[s] for s in SPLITS]) - 3) * 1.5
    return make_bundle(
        "mmmo",
        Task("score", range=(-3.0, 3.0)),
        features,
        labels,
        split,
        ids,
        position=[0] * len(ids),
        source=SOURCE,
        licence=LICENCE,
        notes={"scores": "1 to 5 mapped to -3 to 3", "ids": "made from split and row number"},
    )


def _frames(folder: Path, stem: str, scores: dict[str, np.ndarray]) -> np.ndarray:
    parts = {s: _load(folder / f"{stem}_{s}.h5", 3) for s in SPLITS}
    for split, array in parts.items():
        expected = (len(scores[split]), *parts["train"].shape[1:])
        if array.shape != expected:
            raise InputError(
                str(folder / f"{stem}_{split}.h5"),
                f"shape {array.shape}",
                str(expected),
                "Use the files of one release.",
            )
    return np.concatenate([parts[s] for s in SPLITS])


def _load(path: Path, axes: int) -> np.ndarray:
    regular_file(path)
    try:
        with h5py.File(path, "r") as file:
            array = np.asarray(_data_set(path, file, axes))
    except InputError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(
            str(path), f"no readable HDF5 file ({error})", "an .h5 file", "Copy the file again."
        ) from error
    return single(array)


def _data_set(path: Path, file: h5py.File, axes: int) -> h5py.Dataset:
    """The data set, once its own numbers are known to lie in this file and to be about as many as its bytes."""
    link = file.get(KEY, getlink=True) if KEY in file else None
    if isinstance(link, h5py.ExternalLink):
        raise _not_released(
            path, f"a link from {KEY!r} to another file", "the numbers in the file itself"
        )
    if link is None or not isinstance(file[KEY], h5py.Dataset):
        keys = [str(key)[:40] for _, key in zip(range(9), file, strict=False)]
        raise _not_released(path, f"the keys {', '.join(keys) or 'none'}", f"a data set {KEY!r}")
    data = file[KEY]
    if data.is_virtual or data.external:
        raise _not_released(
            path,
            f"a data set {KEY!r} whose numbers lie in other files",
            "the numbers in the file itself",
        )
    shape = f"{data.dtype} of shape {data.shape}"
    if data.shape is None or data.ndim != axes or data.dtype.kind not in "fiu":
        raise _not_released(path, shape, f"numbers with {axes} axes")
    size = path.stat().st_size
    needed = math.prod(max(axis, 1) for axis in data.shape) * max(data.dtype.itemsize, 4)
    if needed > UNFOLDED * size + UNFOLDED_LEAST:
        raise _not_released(path, f"{shape} in {size:,} bytes", "about as many numbers as bytes")
    return data


def _not_released(path: Path, content: str, expected: str) -> InputError:
    """The error of a file that holds something else than the release's."""
    return InputError(str(path), content, expected, "Give the files of the MMMO release.")
