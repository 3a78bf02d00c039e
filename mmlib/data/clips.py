"""Raw clips to a bundle: decoded in parallel, cached one file per clip, so that a stopped import goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mmlib import files, paths
from mmlib.data.bounded import regular_file
from mmlib.data.bundle import Bundle, Task, make_bundle
from mmlib.data.media import Clip, Recipe, Unusable, decode_clip
from mmlib.errors import InputError

VERSION = 1


def whole_option(option: str, value: str, least: int = 1) -> int:
    """An option's value as a whole number.

    Raises:
        InputError: something else, or less than ``least``.
    """
    if not value.isdecimal() or int(value) < least:
        raise InputError(
            f"option {option}",
            repr(value),
            f"a whole number of {least} or more",
            f"Write for example {option}={least}.",
        )
    return int(value)


def clip_bundle(
    name: str,
    task: Task,
    clips: Sequence[Clip],
    recipe: Recipe,
    labels: Sequence[int],
    split: Sequence[str],
    *,
    cache: str,
    jobs: str,
    source: str,
    licence: str,
    notes: Mapping[str, Any],
    speaker: Sequence[str] | None = None,
) -> Bundle:
    """A checked bundle of ``audio`` (n, 1, F, T) float32 and ``vision`` (n, K, 3, H, W) uint8.

    clips: sorted by id, so that nothing is copied; labels, split and speaker in the same order.
    cache: folder of the decoded clips, by default ``.cache`` beside the imported bundles.
    jobs: processes, one thread each; by default one per core.

    A clip that cannot be used is left out: printed, counted, and in the notes as ``left_out``.

    Raises:
        InputError: what ``decode_all`` and ``make_bundle`` say, or a split or a class without a usable clip.
    """
    folder = Path(cache).expanduser() if cache else paths.bundles() / ".cache"
    processes = whole_option("jobs", jobs) if jobs else os.cpu_count() or 1
    reasons = decode_all(clips, recipe, folder, processes, name)
    _print_left_out(name, len(clips), reasons, folder)
    ids = [clip.id for clip in clips]
    _refuse_lost(name, "split", ids, split, reasons)
    _refuse_lost(name, "class", ids, [task.names[label] for label in labels], reasons)
    usable = [row for row, clip in enumerate(clips) if clip.id not in reasons]
    bundle = _from_cache(name, task, clips, recipe, folder, usable, labels, split, speaker)
    left_out = {"count": len(reasons), "first": dict(sorted(reasons.items())[:10])}
    notes = {**notes, "decoder": f"PyAV {version('av')}", "left_out": left_out}
    return dataclasses.replace(bundle, source=source, licence=licence, notes=notes)


def _from_cache(
    name: str,
    task: Task,
    clips: Sequence[Clip],
    recipe: Recipe,
    cache: Path,
    rows: Sequence[int],
    labels: Sequence[int],
    split: Sequence[str],
    speaker: Sequence[str] | None,
) -> Bundle:
    """The bundle of some rows of the clips, all of them decoded."""
    audio, vision = load_all([clips[row] for row in rows], recipe, cache)
    return make_bundle(
        name,
        task,
        {"audio": audio, "vision": vision},
        np.array([labels[row] for row in rows]),
        [split[row] for row in rows],
        [clips[row].id for row in rows],
        position=[0] * len(rows),
        speaker=[speaker[row] for row in rows] if speaker else None,
    )


def _print_left_out(name: str, count: int, reasons: Mapping[str, str], cache: Path) -> None:
    for clip_id, reason in sorted(reasons.items()):
        print(f"{name}: left out {clip_id}: {reason}")
    decoded = count - len(reasons)
    print(
        f"{name}: {decoded} clips decoded, {len(reasons)} left out; cache: {cache}",
        flush=True,
    )


def _refuse_lost(
    name: str, kind: str, ids: Sequence[str], groups: Sequence[str], reasons: Mapping[str, str]
) -> None:
    for group in sorted(set(groups)):
        members = [clip_id for clip_id, other in zip(ids, groups, strict=True) if other == group]
        if all(clip_id in reasons for clip_id in members):
            raise InputError(
                f"{name}, {kind} {group}",
                f"none of its {len(members)} clips usable ({members[0]}: {reasons[members[0]]})",
                "one or more",
                "Get the files again.",
            )


def decode_all(
    clips: Sequence[Clip], recipe: Recipe, cache: Path, jobs: int, title: str
) -> dict[str, str]:
    """Decode the clips that the cache lacks, and return the reason for each that cannot be used.

    One ``.npz`` per clip, written to a temporary name and renamed, so that a killed call resumes; named by the
    hash of recipe, span, and the files' names, sizes and times. What failed is tried again by the next call.

    Raises:
        InputError: PyAV is not installed, a cache that cannot be written, or a worker that died.
    """
    if find_spec("av") is None:
        raise InputError("raw clips", "no PyAV", "the package `av`", "Install it: pip install av.")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        files.remove_old(cache)
        pending = [clip for clip in clips if not _entry(clip, recipe, cache).exists()]
        jobs = min(jobs, len(pending))
        done = (
            _parallel(pending, recipe, cache, jobs)
            if jobs > 1
            else (_decode_into(clip, recipe, cache) for clip in pending)
        )
        return {clip_id: reason for clip_id, reason in _shown(done, len(pending), title) if reason}
    except OSError as error:
        raise InputError(
            str(cache),
            f"a cache that cannot be written ({error})",
            "a folder with room in it",
            "Give another with --option cache=DIR; what is decoded is kept.",
        ) from error


def load_all(clips: Sequence[Clip], recipe: Recipe, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """(n, 1, F, T) and (n, K, 3, H, W) of clips that ``decode_all`` has decoded, in their order.

    Raises:
        InputError: a damaged cache file.
    """
    audio = np.empty((len(clips), *recipe.audio_shape), dtype=np.float32)
    vision = np.empty((len(clips), *recipe.vision_shape), dtype=np.uint8)
    for row, clip in enumerate(clips):
        entry = _entry(clip, recipe, cache)
        try:
            with (
                regular_file(entry).open("rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                audio[row], vision[row] = arrays["audio"], arrays["vision"]
        except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(
                str(entry),
                f"a damaged file of {clip.id} ({error})",
                "what the import wrote",
                "Remove it, and import again.",
            ) from error
    return audio, vision


def _entry(clip: Clip, recipe: Recipe, cache: Path) -> Path:
    stats = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else None
        for path in (clip.audio, clip.video)
    ]
    text = repr((VERSION, clip.id, clip.span, stats, recipe))
    return cache / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"


def _decode_into(clip: Clip, recipe: Recipe, cache: Path) -> tuple[str, str]:
    """The clip's id, and why it cannot be used: empty once its file is in the cache."""
    try:
        audio, vision = decode_clip(clip, recipe)
    except Unusable as error:
        return clip.id, str(error)
    entry = _entry(clip, recipe, cache)
    with files.replacing(entry) as temporary, temporary.open("wb") as file:
        np.savez(file, audio=audio, vision=vision)
    return clip.id, ""


def _parallel(
    clips: Sequence[Clip], recipe: Recipe, cache: Path, jobs: int
) -> Iterator[tuple[str, str]]:
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker)
    try:
        for future in as_completed(
            [pool.submit(_decode_into, clip, recipe, cache) for clip in clips]
        ):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "raw clips",
            "a worker process that died",
            "workers that end by themselves",
            "Import again: what is decoded is kept. With --option jobs=1 there are no workers.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _shown(results: Iterator[tuple[str, str]], total: int, title: str) -> Iterator[tuple[str, str]]:
    """The results, with a progress bar, or a line per twentieth where nobody watches."""
    if os.environ.get("MMLIB_HEADLESS") != "1" and (
        "ipykernel" in sys.modules or sys.stderr.isatty()
    ):
        from tqdm.auto import tqdm

        yield from tqdm(results, total=total, desc=title, unit="clip")
        return
    for count, result in enumerate(results, 1):
        yield result
        if 20 * count // total > 20 * (count - 1) // total:
            print(f"{title}: {count}/{total} clips", flush=True)
