"""Runs that take milliseconds, for the tests of stores and sweeps; importable by spawned workers.

What a fake run does besides follows from its spec's options: ``("do", "raise")`` raises until the
file ``mended`` exists, ``("do", "die once")`` and ``("do", "die")`` kill their own process, and
``("do", "write and die")`` does so between the writing of its record and the word to its parent.
``("do", "linger once")`` waits to be killed, the first time. ``("do", "warn")`` warns of two things, as libraries do.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mmlib.runs.spec
from mmlib.runs.on_dask import DaskExecutor
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Store
from mmlib.runs.sweep import SweepReport, sweep

if TYPE_CHECKING:
    import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FINGERPRINT, NUMERICS = "0123456789abcdef", "00c0ffee"


@dataclass(frozen=True)
class FakeOutcome:
    record: dict[str, Any]
    arrays: dict[str, np.ndarray]
    sidecar: dict[str, Any]


def surround(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let fake runs log into a folder, here and in workers, and have one version of every method."""
    patch.setattr("mmlib.runs.spec.numerics_version", lambda *_: NUMERICS)
    patch.setenv("FAKE_FOLDER", str(folder))
    patch.setenv("MMLIB_HEADLESS", "1")
    patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)]))


def specs(count: int, **fields: Any) -> list[RunSpec]:
    return [
        RunSpec(data="twin:fake", seed=seed, method="fake", backbone="fake", **fields)
        for seed in range(count)
    ]


def version(spec: RunSpec) -> str:
    """What ``spec.numerics`` is where every method's own version is NUMERICS."""
    if spec.parent is None:
        return NUMERICS
    return hashlib.sha256(f"{NUMERICS} {version(spec.parent)}".encode()).hexdigest()[:8]


def run_id(spec: RunSpec) -> str:
    return f"{spec.key(FINGERPRINT)}-{version(spec)}"


def fingerprint(reference: str) -> str:
    return FINGERPRINT


def outcome(
    spec: RunSpec, parent_arrays: dict[str, np.ndarray] | None = None, n: int = 10
) -> FakeOutcome:
    """Numbers that follow from the spec alone."""
    generator = np.random.default_rng(int(spec.key(FINGERPRINT), 16))
    inherited = float(sum((parent_arrays or {}).get("weights.w", np.zeros(1)).flat))
    curves = {
        "valid": {"acc": generator.random(12).tolist()},
        "test": {"test": {"mae": generator.random(12).tolist()}},
    }
    arrays = {
        f"predictions.{s}.test": generator.normal(size=(n, 1)).astype(np.float32)
        for s in ("last", "valid")
    }
    arrays["predictions.test.test"] = arrays["predictions.valid.test"]
    if spec.keep:
        arrays["weights.w"] = generator.normal(size=(3, 2)).astype(np.float32)
    record = {
        "id": run_id(spec),
        "key": spec.key(FINGERPRINT),
        "numerics": version(spec),
        "fingerprint": FINGERPRINT,
        "spec": spec.to_json(),
        "status": "done",
        "masks": {"test": "00"},
        "curves": curves,
        "selected": {
            "valid": {"epoch": 3, "acc": curves["valid"]["acc"][3], "inherited": inherited}
        },
    }
    return FakeOutcome(record, arrays, {"seconds": 0.25, "pid": os.getpid()})


def execute(spec: RunSpec, parent_arrays: dict[str, np.ndarray] | None = None) -> FakeOutcome:
    """Logs its id and process, misbehaves as its spec says, sleeps ``FAKE_SLEEP`` seconds."""
    folder, action = Path(os.environ["FAKE_FOLDER"]), dict(spec.options).get("do")
    with open(folder / "log", "a") as file:
        file.write(f"{run_id(spec)} {os.getpid()}\n")
    if action == "raise" and not (folder / "mended").exists():
        raise ValueError("told to raise")
    if action == "write and die":
        Store(Path(os.environ["FAKE_FOLDER"]) / "s").put(outcome(spec, parent_arrays))
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "warn":
        warnings.simplefilter("default")
        warnings.warn("no convergence\nafter 100 steps", RuntimeWarning, stacklevel=1)
        warnings.warn("of no use", UserWarning, stacklevel=1)
    if action == "linger once" and not (folder / "died").exists():
        (folder / "died").touch()
        time.sleep(600)
    if action == "die" or (action == "die once" and not (folder / "died").exists()):
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ.get("FAKE_SLEEP", "0")) * random.uniform(0.5, 1.5))
    return outcome(spec, parent_arrays)


def run(todo: list[Any], store: Store, **options: Any) -> SweepReport:
    """A sweep of fake runs in this process, one at a time unless told otherwise."""
    return sweep(
        todo, store, **({"jobs": 1, "execute": execute, "fingerprint": fingerprint} | options)
    )


def log(folder: Path) -> list[tuple[str, int]]:
    """(run id, process) of every execution that began."""
    path = folder / "log"
    words = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(name, int(process)) for name, process in words]


def run_sweep(folder: str, count: int, jobs: int, sleep: str) -> None:
    """A sweep in a process of its own; the log stands beside the store."""
    os.environ.update(FAKE_FOLDER=str(Path(folder).parent), FAKE_SLEEP=sleep)
    mmlib.runs.spec.numerics_version = lambda *_: NUMERICS
    sweep(
        specs(count),
        Store(Path(folder)),
        jobs=jobs,
        execute=execute,
        fingerprint=fingerprint,
        title="fake",
    )


def dask_sweep(address: str, folder: str, count: str) -> None:
    """A sweep on a Dask scheduler, whose workers have an environment of their own."""
    mmlib.runs.spec.numerics_version = lambda *_: NUMERICS
    todo, store = specs(int(count)), Store(Path(folder))
    with DaskExecutor(address, todo, store, fingerprint=fingerprint) as executor:
        sweep(
            todo, store, executor=executor, execute=execute, fingerprint=fingerprint, title="fake"
        )
