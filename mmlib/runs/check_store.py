"""Go through a store: what is sound, what is damaged, what failed, what is stale, what is left over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmlib.errors import InputError
from mmlib.files import TEMPORARY
from mmlib.runs.spec import spec_from_json
from mmlib.runs.store import ARRAYS, FAILED, RECORD, SIDECAR, Failure, Store, check_exists


@dataclass(frozen=True)
class Checked:
    """What stands in a store."""

    sound: int
    """Finished runs whose files have their sums."""

    unsummed: int
    """How many of the sound runs had no sums until now."""

    damaged: Mapping[str, str]
    """Run id to what is wrong."""

    failed: tuple[Failure, ...]
    """Runs that failed and have not been done since."""

    stale: int
    """Sound runs that an older version of the code made."""

    leftovers: int
    """Files of no finished and no failed run."""

    def lines(self) -> list[str]:
        """What ``mmlib store check`` prints."""
        lines = [
            f"sound: {self.sound}, of which {self.unsummed} had no sums until now and {self.stale} are stale",
            f"damaged: {len(self.damaged)}",
            *(f"  {name}: {why}" for name, why in self.damaged.items()),
            f"failed: {len(self.failed)}",
            *(f"  {failure.id}: {_reason(failure)}" for failure in self.failed),
            f"left over: {self.leftovers} files of no finished or failed run, which do no harm",
        ]
        if self.damaged:
            lines.append(
                "A damaged run counts as not done: the next sweep that needs it makes it again."
            )
        return lines


def check_store(store: Store) -> Checked:
    """Hold every file of a store against its sum; runs without sums get theirs, where the store can be written.

    Raises:
        InputError: no such folder, or one that holds other things.
    """
    check_is_store(store)
    paths = [path for path in store.folder.glob("??/*") if not path.name.startswith(".")]
    names = sorted({_run_of(path.name) for path in paths if path.suffix in (RECORD, ARRAYS)})
    sound = unsummed = stale = 0
    damaged: dict[str, str] = {}
    failed, whole = [], set()
    quiet = Store(store.folder, quiet=True)
    for name in names:
        try:
            reading, failure = quiet.read(name), quiet.failure(name)
        except InputError:  # a name that is no run's
            continue
        if reading.damage:
            damaged[name] = reading.damage
        if failure is not None:
            failed.append(failure)
        if reading.damage or failure is not None or reading.content is not None:
            whole.add(name)
        if reading.content is not None:
            sound += 1
            unsummed += reading.unsummed
            stale += is_stale(reading.content)
    left = sum(_run_of(path.name) not in whole for path in paths)
    left += sum(1 for _ in store.folder.glob(f"**/.*{TEMPORARY}"))
    return Checked(sound, unsummed, damaged, tuple(failed), stale, left)


def check_is_store(store: Store) -> None:
    """Refuse a folder that holds other things than runs; an empty one is a store.

    Raises:
        InputError: no such folder, or files in it but no run.
    """
    check_exists(store)
    inside = [path.name for path in store.folder.iterdir() if not path.name.startswith(".")]
    runs = (path.suffix in (RECORD, ARRAYS) for path in store.folder.glob("??/*"))
    if inside and not any(runs):
        raise InputError(
            str(store.folder),
            "files, but no run",
            "a store of runs, or an empty folder",
            "Check the path: the store of a checkout is its folder runs.",
        )


def _run_of(name: str) -> str:
    for suffix in (FAILED, SIDECAR, ARRAYS, RECORD):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def is_stale(content: Mapping[str, Any]) -> bool:
    """Whether another version of the code made a run; also where the present one no longer knows its method."""
    try:
        return bool(content["numerics"] != spec_from_json(content["spec"]).numerics)
    except (InputError, KeyError, TypeError, ValueError):
        return True


def _reason(failure: Failure) -> str:
    lines = failure.error.strip().splitlines()
    return (
        f"{failure.kind}: {lines[-1]}"
        if failure.kind and lines
        else lines[-1]
        if lines
        else "no reason is known"
    )
