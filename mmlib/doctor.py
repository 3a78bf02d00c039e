"""What could go wrong on this machine, one line a thing: ``mmlib doctor``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from mmlib import paths

Status = Literal["ok", "warn", "FAIL"]
TRIED_PYTHON = ((3, 11), (3, 13))
GIB = 1024**3
NEEDED_DISK, NEEDED_MEMORY = 3.0, 4.0
SET_UP = "Run ./run_all.sh setup."


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What was looked at, in one word."""

    status: Status
    """``ok``, ``warn`` (works, with a limit) or ``FAIL`` (results or runs would break)."""

    finding: str
    """What there is, in one line."""

    do: str = ""
    """What to do about it; empty where there is nothing to do."""

    def __str__(self) -> str:
        return f"{self.status:4}  {self.name:8}  {self.finding}" + (
            f"  -> {self.do}" if self.do else ""
        )


def doctor() -> list[Check]:
    """Everything that is checked, in the order in which it is worth mending. Changes nothing."""
    written = (paths.runs(), paths.figures(), paths.bundles())
    return [
        check_python(),
        *check_packages(paths.root() / "requirements.lock"),
        check_device(),
        check_threads(),
        check_memory(),
        check_disk(),
        *map(check_writable, written),
        check_kernel(),
        check_twin(),
        check_bundles(),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line per check; 1 where anything FAILs, else 0. Takes no arguments."""
    del argv
    checks = doctor()
    for check in checks:
        print(check)
    return int(any(check.status == "FAIL" for check in checks))


def check_python() -> Check:
    """The running Python against the versions that this repository is tried with."""
    lowest, highest = TRIED_PYTHON
    running = f"{sys.version.split()[0]} at {sys.executable}"
    if sys.version_info[:2] < lowest:
        return Check("python", "FAIL", running, "Install Python 3.11 or later.")
    if sys.version_info[:2] > highest:
        return Check("python", "warn", running, "Not tried with this version: 3.11 to 3.13 are.")
    return Check("python", "ok", running)


def check_packages(lock: Path) -> list[Check]:
    """The installed packages against the lock: one line where all agree, else one per mismatch."""
    if not lock.exists():
        return [
            Check(
                "packages",
                "warn",
                f"no {lock.name} beside the package",
                "Use a clone of the repository.",
            )
        ]
    pins = read_lock(lock)
    wrong = []
    for name, pinned in pins.items():
        try:
            # A local suffix names a build of the same version.
            installed = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            wrong.append(
                Check("packages", "FAIL", f"{name} is missing, the lock has {pinned}", SET_UP)
            )
            continue
        if installed != pinned:
            wrong.append(
                Check("packages", "FAIL", f"{name} is {installed}, the lock has {pinned}", SET_UP)
            )
    return wrong or [Check("packages", "ok", f"all {len(pins)} as locked")]


def read_lock(lock: Path) -> dict[str, str]:
    """Package name to pinned version, for those pins that concern this Python and system."""
    lines = (line.split("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    pins = [Requirement(line) for line in lines if line]
    here = (pin for pin in pins if pin.marker is None or pin.marker.evaluate())
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in here}


def check_device() -> Check:
    """The device that training uses: CUDA, Apple's MPS, else the CPU."""
    import torch

    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        return Check(
            "device",
            "ok",
            f"cuda: {gpu.name}, {gpu.total_memory / GIB:.0f} GiB, torch {torch.__version__}",
        )
    if torch.backends.mps.is_available():
        return Check("device", "ok", f"mps: Apple GPU, torch {torch.__version__}")
    return Check(
        "device",
        "ok",
        f"cpu: no GPU that torch {torch.__version__} can use; the quick profile needs none",
    )


def check_threads() -> Check:
    """Cores, and torch's threads: many workers with many threads each are slower than one each."""
    import torch

    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    threads = torch.get_num_threads()
    counts = f"{cores} cores, {threads} torch threads in this process"
    if threads > cores:
        return Check("threads", "warn", counts, f"Set OMP_NUM_THREADS to {cores} or less.")
    return Check("threads", "ok", counts + "; sweeps run one process a core with one thread each")


def check_memory() -> Check:
    """Memory that is free now."""
    import psutil

    memory = psutil.virtual_memory()
    free = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    if memory.available < NEEDED_MEMORY * GIB:
        return Check("memory", "warn", free, f"Below {NEEDED_MEMORY:g} GiB: use --jobs 1.")
    return Check("memory", "ok", free)


def check_disk() -> Check:
    """Disk space that is free where the repository stands."""
    free = shutil.disk_usage(paths.root()).free / GIB
    if free < NEEDED_DISK:
        return Check(
            "disk",
            "warn",
            f"{free:.1f} GiB free",
            f"Free {NEEDED_DISK:g} GiB for packages and runs.",
        )
    return Check("disk", "ok", f"{free:.1f} GiB free")


def check_writable(folder: Path) -> Check:
    """Whether a folder can be written, or made where it is not there yet."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    name, shown = "write", str(folder)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Check(name, "ok", shown)
    return Check(
        name, "FAIL", f"{shown} cannot be written", f"Make {there} a folder that you may write."
    )


def check_kernel() -> Check:
    """Whether notebooks can run in this environment."""
    lacking = [
        name for name in ("ipykernel", "papermill", "nbformat") if util.find_spec(name) is None
    ]
    if lacking:
        return Check("kernel", "FAIL", f"no {', '.join(lacking)}", SET_UP)
    return Check("kernel", "ok", f"ipykernel {metadata.version('ipykernel')}")


def check_twin() -> Check:
    """Whether the twins can be made: the smallest six-class one."""
    try:
        from mmlib.data.catalog import open_bundle

        bundle = open_bundle("twin:iemocap6@smoke")
    except Exception as error:  # whatever breaks here is the finding
        return Check(
            "twins",
            "FAIL",
            f"{type(error).__name__}: {error}",
            "Run ./run_all.sh test, and report it.",
        )
    return Check(
        "twins",
        "ok",
        f"{bundle.name}: {len(bundle.ids)} utterances, {', '.join(bundle.modalities)}",
    )


def check_bundles() -> Check:
    """The imported real data sets."""
    names = sorted(p.parent.name for p in paths.bundles().glob("*/bundle.json"))
    if not names:
        return Check(
            "data",
            "ok",
            "no imported bundles: everything runs on the embedded data",
            "For real features: data/README.md.",
        )
    return Check("data", "ok", "bundles: " + ", ".join(names))


if __name__ == "__main__":
    sys.exit(main())
