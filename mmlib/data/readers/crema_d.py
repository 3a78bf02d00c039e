"""CREMA-D's raw clips: voice from AudioWAV, face from VideoFlash, the 6,698 / 744 split lists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mmlib.data.bundle import Bundle, Task
from mmlib.data.clips import clip_bundle, whole_option
from mmlib.data.media import Clip, Recipe
from mmlib.data.readers.common import existing, hold_out_by_class, one_each, one_path, read_csv
from mmlib.data.readers.crema_d_votes import CLASSES, LICENCE
from mmlib.errors import InputError, unknown_name

FOLDERS = ("AudioWAV", "VideoFlash")
SECONDS = 3
SOURCE = "CREMA-D, AudioWAV and VideoFlash; split of the OGM-GE release"


def read(
    paths: Sequence[Path], frames: str = "1", size: str = "224", cache: str = "", jobs: str = ""
) -> Bundle:
    """Read the folder with ``AudioWAV/*.wav``, ``VideoFlash/*.flv``, ``train.csv`` and ``test.csv``.

    audio: (n, 1, 257, 188) float32: 22,050 Hz, mono, tiled or cut to 3 s, STFT of 512 samples every 353,
    log(|S| + 1e-7) (ledger 5.3). vision: (n, frames, 3, size, size) uint8, evenly spaced frames of each clip,
    never the first files of a directory listing, as the lineage takes them.

    A row of a list: the file's stem, ``ACTOR_SENTENCE_EMOTION_LEVEL``, then perhaps the emotion's name. Label:
    the stem's third field (ledger 5.1). Speaker: the actor; actors are shared by the splits. A tenth of each class
    of train is held out as validation, drawn over the whole list as ``crema-d-votes`` draws it, so that the clips
    left out as unusable move no other clip.

    Raises:
        InputError: a missing folder or list, a row that is no clip, an unknown emotion, one that differs from the
            stem's, a clip in both lists, an option out of range, and what ``clip_bundle`` finds.
    """
    folder = one_path(
        paths, "the folder that holds AudioWAV, VideoFlash, train.csv and test.csv"
    ).resolve()
    recipe = Recipe(whole_option("frames", frames), SECONDS, whole_option("size", size))
    for name in FOLDERS:
        existing(folder / name, "Give the folder that holds AudioWAV and VideoFlash.")
    splits = _splits(folder)
    ids = sorted(splits)
    return clip_bundle(
        "crema-d",
        Task("classes", CLASSES),
        [_clip(folder, name) for name in ids],
        recipe,
        [CLASSES.index(_emotion(name)) for name in ids],
        [splits[name] for name in ids],
        speaker=[name.split("_")[0] for name in ids],
        cache=cache,
        jobs=jobs,
        source=SOURCE,
        licence=LICENCE,
        notes=_notes(recipe),
    )


def _notes(recipe: Recipe) -> dict[str, str]:
    return {
        "audio": "22,050 Hz, tiled to 3 s, log magnitude of STFT 512 / 353",
        "vision": f"{recipe.frames} evenly spaced frames a clip, {recipe.size} x {recipe.size}",
        "split": "a tenth of each class of train held out as valid; actors are shared by the splits",
    }


def _splits(folder: Path) -> dict[str, str]:
    """Clip to split, with a part of train held out as valid."""
    lists = {split: _stems(folder / f"{split}.csv") for split in ("train", "test")}
    splits = one_each(str(folder), lists)
    train = sorted(name for name, split in splits.items() if split == "train")
    held = hold_out_by_class(train, [_emotion(name) for name in train])
    return splits | dict.fromkeys(held, "valid")


def _clip(folder: Path, name: str) -> Clip:
    return Clip(name, folder / "AudioWAV" / f"{name}.wav", folder / "VideoFlash" / f"{name}.flv")


def _emotion(stem: str) -> str:
    return stem.split("_")[2]


def _stems(path: Path) -> list[str]:
    """The stems of a split list, each held to its own form and to the label beside it."""
    table = read_csv(
        existing(path), header=None, dtype=str, encoding="utf-8-sig", keep_default_na=False
    )
    stems = [str(stem).strip() for stem in table[0]]
    for row, stem in enumerate(stems):
        if not re.fullmatch(r"\d+_[A-Z]+_[A-Z]+_[A-Z]+", stem):
            raise InputError(
                str(path),
                f"{stem!r} in row {row + 1}",
                "a clip such as 1001_IEO_NEU_XX",
                "Correct the list, or take the one of the OGM-GE release.",
            )
        if _emotion(stem) not in CLASSES:
            raise unknown_name(f"{path}, emotion of {stem}", _emotion(stem), CLASSES)
        label = str(table[1][row]).strip() if 1 in table else ""
        if label and label[:3].upper() != _emotion(stem):
            raise InputError(
                f"{path}, label of {stem}", repr(label), _emotion(stem), "Correct the list."
            )
    return stems
