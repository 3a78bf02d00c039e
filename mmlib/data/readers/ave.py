"""AVE's raw clips (audio-visual event localization): 4,143 events of 28 classes in 4,097 videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmlib.data.bounded import read_text
from mmlib.data.bundle import Bundle, Task
from mmlib.data.clips import clip_bundle, whole_option
from mmlib.data.media import Clip, Recipe
from mmlib.data.readers.common import choice, existing, numbers, one_path
from mmlib.errors import InputError, unknown_name

LISTS = {"test": "testSet.txt", "valid": "valSet.txt", "train": "trainSet.txt"}
FIELDS = ("Category", "VideoID", "Quality", "StartTime", "EndTime")
SOURCE = "AVE (audio-visual event localization), mp4 clips and order files of its release"
LICENCE = "none stated; the videos are YouTube's"


@dataclass(frozen=True)
class _Event:
    """One row of the annotations or of a split list."""

    category: str
    """The name of its class."""

    video: str
    """The video's file name without ``.mp4``."""

    span: tuple[float, float] | None
    """The annotated seconds, from and to; None where the event ends where it begins."""


def read(
    paths: Sequence[Path],
    frames: str = "3",
    size: str = "224",
    seconds: str = "10",
    rate: str = "22050",
    hop: str = "353",
    event: str = "cut",
    repeats: str = "first",
    cache: str = "",
    jobs: str = "",
) -> Bundle:
    """Read the folder with ``AVE/*.mp4``, ``Annotations.txt`` and ``{train,val,test}Set.txt``.

    audio: (n, 1, 257, T) float32 with T = floor(seconds * rate / hop) + 1, 257 x 625 by default: mono, resampled,
    tiled or cut to ``seconds``, STFT of 512 samples every ``hop``, log(|S| + 1e-7). vision: (n, frames, 3, size,
    size) uint8, 3 evenly spaced frames as in the lineage (ledger 5.3), never the first of a directory listing.

    event: ``cut`` takes sound and frames from the annotated seconds alone, ``whole`` from the whole clip. An event
    that ends where it begins (the release has one) is no annotation, and the whole clip is taken.
    repeats: the lists name some videos twice, under two categories, also across lists. ``first`` keeps one row of
    each video, that of test before valid before train, so that no video is in two splits (the lineage drops
    repeats too, ledger 5.3); ``keep`` keeps each category of a video, so that splits share some videos.

    Labels are the categories of ``Annotations.txt``, sorted. The files may begin with a line of field names.

    Raises:
        InputError: a missing folder or list, a row without its five fields, a category without annotations, an
            event in two lists, an option out of range, and what ``clip_bundle`` finds.
    """
    folder = one_path(
        paths, "the folder that holds AVE, Annotations.txt and trainSet.txt"
    ).resolve()
    choice("event", event, ("cut", "whole"))
    choice("repeats", repeats, ("first", "keep"))
    recipe = _recipe(frames, size, seconds, rate, hop)
    existing(folder / "AVE", "Give the folder that holds AVE and Annotations.txt.")
    return _bundle(folder, recipe, event, repeats, cache, jobs)


def _recipe(frames: str, size: str, seconds: str, rate: str, hop: str) -> Recipe:
    return Recipe(
        whole_option("frames", frames),
        whole_option("seconds", seconds),
        whole_option("size", size),
        whole_option("rate", rate, 1000),
        hop=whole_option("hop", hop),
    )


def _bundle(
    folder: Path, recipe: Recipe, event: str, repeats: str, cache: str, jobs: str
) -> Bundle:
    classes = tuple(sorted({row.category for row in _events(folder / "Annotations.txt")}))
    lists = {split: _events(folder / name) for split, name in LISTS.items()}
    rows, dropped = _samples(folder, lists, classes, repeats)
    ids = sorted(rows)
    return clip_bundle(
        "ave",
        Task("classes", classes),
        [_clip(folder, name, rows[name][1], event) for name in ids],
        recipe,
        [classes.index(rows[name][1].category) for name in ids],
        [rows[name][0] for name in ids],
        cache=cache,
        jobs=jobs,
        source=SOURCE,
        licence=LICENCE,
        notes={
            "audio": f"{recipe.rate} Hz, tiled to {recipe.seconds} s, log magnitude of STFT 512 / {recipe.hop}",
            "vision": f"{recipe.frames} evenly spaced frames a clip, {recipe.size} x {recipe.size}",
            "event": event,
            "repeats": {"rule": repeats, "dropped": len(dropped), "first": dropped[:10]},
        },
    )


def _clip(folder: Path, name: str, row: _Event, event: str) -> Clip:
    path = folder / "AVE" / f"{row.video}.mp4"
    return Clip(name, path, path, row.span if event == "cut" else None)


def _events(path: Path) -> list[_Event]:
    lines = read_text(path).splitlines()
    rows = [[field.strip() for field in line.split("&")] for line in lines if line.strip()]
    if rows and rows[0][0] == FIELDS[0]:
        rows = rows[1:]
    if not rows:
        raise InputError(
            str(path), "no rows", "one line per event: " + "&".join(FIELDS), "Copy the file again."
        )
    for number, row in enumerate(rows, 1):
        if len(row) != len(FIELDS) or not row[0] or not row[1]:
            raise InputError(
                f"{path}, row {number}", repr("&".join(row)), "&".join(FIELDS), "Correct the row."
            )
        if "/" in row[1]:
            raise InputError(
                f"{path}, row {number}",
                f"the video {row[1]!r}",
                "the name of a file in AVE/",
                "Take the slashes out: videos stand in that folder alone.",
            )
    starts, ends = (numbers(f"{path}, {FIELDS[k]}", [row[k] for row in rows]) for k in (3, 4))
    return [
        _Event(row[0], row[1], (float(start), float(end)) if 0 <= start < end else None)
        for row, start, end in zip(rows, starts, ends, strict=True)
    ]


def _samples(
    folder: Path, lists: Mapping[str, Sequence[_Event]], classes: Sequence[str], repeats: str
) -> tuple[dict[str, tuple[str, _Event]], list[str]]:
    """Id to (split, event), and the rows that were dropped, as ``category&video``; test first, then valid."""
    split_of: dict[tuple[str, str], str] = {}
    kept: dict[str, tuple[str, _Event]] = {}
    dropped: list[str] = []
    categories: dict[str, set[str]] = {}
    for row in (row for rows in lists.values() for row in rows):
        categories.setdefault(row.video, set()).add(row.category)
    for split, rows in lists.items():
        for row in rows:
            if row.category not in classes:
                raise unknown_name(
                    f"{folder / LISTS[split]}, category of {row.video}", row.category, classes
                )
            if split_of.setdefault((row.category, row.video), split) != split:
                raise InputError(
                    str(folder / LISTS[split]),
                    f"the event {row.category}&{row.video}, which "
                    f"{LISTS[split_of[row.category, row.video]]} has too",
                    "each event in one list",
                    "Remove it from one of them.",
                )
            several = repeats == "keep" and len(categories[row.video]) > 1
            name = f"{row.video} {row.category}" if several else row.video
            if name in kept:
                dropped.append(f"{row.category}&{row.video}")
            else:
                kept[name] = split, row
    return kept, dropped
