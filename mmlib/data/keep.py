"""A bundle's folder on disk: replaced as a whole, so that at every moment the old bundle or the new one opens.

``bundle.json`` names the file of the arrays, one of two. An import writes the one that is not in use, then renames
the new ``bundle.json`` into place, which is the moment of change, and removes the other file last. Who has the old
arrays open, memory-mapped, keeps them.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from mmlib import files
from mmlib.errors import InputError

HEAD = "bundle.json"
ARRAYS = ("bundle.safetensors", "bundle-2.safetensors")
Read = TypeVar("Read")


def replace_bundle(folder: Path, head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a bundle's head and arrays into its folder, in the place of a bundle that is there.

    Killed at any moment, the old bundle or the new one is whole, and the same call works again; what it left is then
    removed. Calls at the same time wait for one another.

    Raises:
        InputError: the folder holds something that is not a bundle, or it cannot be written; it is as it was then.
    """
    with files.explained(folder):
        absent = [path for path in (folder, *folder.parents) if not path.exists()]
        if folder.exists() and not folder.is_dir():
            raise InputError(
                str(folder), "a file", "a new or empty folder", "Choose another --out."
            )
        if folder.exists():
            _refuse_other_files(folder)  # before a lock is put there
    try:
        with files.locked(folder / HEAD) as held, files.explained(folder):
            _refuse_other_files(folder)
            _remove_leftovers(folder, held)
            target = next(name for name in ARRAYS if name != _in_use(folder))
            with files.replacing(folder / target) as temporary:
                _save(arrays, temporary)
            files.write(
                folder / HEAD, json.dumps({**head, "arrays": target}, indent=1).encode("utf-8")
            )
            _remove_leftovers(folder, held)
    except BaseException:
        for path in absent:
            with suppress(OSError):
                path.rmdir()
        raise


def newest(folder: Path, read: Callable[[Path], Read]) -> Read:
    """What ``read`` makes of a bundle's folder; read again where it fails because an import has replaced the bundle.

    Raises:
        InputError: what ``read`` raises of a bundle that nobody has touched meanwhile.
    """
    while True:
        before = files.stamp(folder / HEAD)
        try:
            return read(folder)
        except InputError:
            if files.stamp(folder / HEAD) == before:
                raise


def arrays_file(head: Mapping[str, Any]) -> str:
    """The name of the file that holds a bundle's arrays, as its head says.

    Raises:
        ValueError: a name that no import gives.
    """
    name = head.get("arrays", ARRAYS[0])
    if name not in ARRAYS:
        raise ValueError(f"arrays in {name!r:.80}")
    return str(name)


def _save(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a safetensors file, in a folder beside it: the library makes a temporary file of a name of its own there.

    It also gives the file to its owner alone; here it may be read by those who may read the folder.
    """
    folder = path.with_suffix(f".d{files.TEMPORARY}")
    folder.mkdir()
    try:
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "arrays"
        )
        (folder / "arrays").chmod(folder.stat().st_mode & 0o666)
        (folder / "arrays").replace(path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_use(folder: Path) -> str | None:
    """The file of the arrays of the bundle that is there; None where there is none that can be read."""
    try:
        return arrays_file(json.loads((folder / HEAD).read_text(encoding="utf-8")))
    except (AttributeError, OSError, RecursionError, TypeError, ValueError):
        return None


def _is_ours(name: str) -> bool:
    """Whether an import makes files of this name: the bundle's, its lock, and what killed imports leave."""
    return name in (HEAD, f".{HEAD}.lock", *ARRAYS) or _is_temporary(name)


def _is_temporary(name: str) -> bool:
    return bool(re.fullmatch(r"\.?bundle.*\.partial|\.tmp[A-Za-z0-9]{6}", name))


def _refuse_other_files(folder: Path) -> None:
    if not (folder / HEAD).exists() and not all(_is_ours(path.name) for path in folder.iterdir()):
        raise InputError(
            str(folder),
            "a folder that holds other files",
            "a new or empty folder",
            "Choose another --out.",
        )


def _remove_leftovers(folder: Path, held: bool) -> None:
    """Remove what no bundle needs; without the lock only what is old, since others may be writing."""
    used = _in_use(folder)
    for path in list(folder.iterdir()):
        stale = path.name in ARRAYS and path.name != used and used is not None
        if not stale and not _is_temporary(path.name):
            continue
        with suppress(OSError):
            if held or time.time() - path.stat().st_mtime > files.LEFTOVER_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
