"""One run in a worker, and the processes that the workers are."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmlib.runs.spec import RunSpec, spec_from_json
from mmlib.runs.store import Store, StoreError
from mmlib.runs.warned import kinds

if TYPE_CHECKING:
    from mmlib.runs.execute import Outcome

WARNINGS = "warnings"  # in a run's sidecar, by kind
# In the sidecar of a process's first run: seconds until it could begin, of a worker from when it was asked for.
STARTED, IMPORTED = "worker_start_seconds", "import_seconds"
Execute = Callable[[RunSpec, dict[str, np.ndarray] | None], "Outcome"]
_FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Task:
    """One run on its way to a worker: plain values, so that any executor can send it."""

    run_id: str
    """``key-numerics``, which the run's record must have."""

    spec: Mapping[str, Any]
    """What ``RunSpec.to_json`` gave."""

    folder: str
    """The store's."""

    parent: str | None = None
    """Id of the run that it starts from, which is done."""

    execute: Execute | None = None
    """What runs the spec; by default ``mmlib.runs.execute.execute``."""

    deadline: float = float("inf")
    """Seconds since the epoch as ``time.time`` counts them; the run is not started later."""


@dataclass
class _Process:
    """What this process knows of its own start."""

    asked: float | None = None
    """When a pool asked for it, as ``time.time`` counts; None of a process that no pool of ours started."""

    ready: bool = False
    """Whether it has begun a run."""

    def begins(self, came: float) -> dict[str, float]:
        """What the sidecar of its first run says of its start, nothing of later ones; came: when the run came."""
        if self.ready:
            return {}
        self.ready = True
        name, since = (IMPORTED, came) if self.asked is None else (STARTED, self.asked)
        return {name: time.time() - since}


_PROCESS = _Process()


def work(task: Task) -> tuple[str, str]:
    """One run in a worker: (status, error), with status ``done``, ``reused``, ``failed`` or ``late``.

    Reused means that another sweep has done the run meanwhile.

    Raises:
        StoreError: the store cannot be written.
    """
    store, came = Store(Path(task.folder), quiet=True), time.time()
    if came >= task.deadline:
        return "late", ""
    if store.whole(task.run_id):
        return "reused", ""
    try:
        execute = task.execute or _default()
        parent = store.arrays(task.parent) if task.parent else None
        start = _PROCESS.begins(came)
        with _kept_warnings() as caught:
            outcome = execute(spec_from_json(task.spec), parent)
        if caught or start:
            warned = {WARNINGS: kinds(caught)} if caught else {}
            outcome = replace(outcome, sidecar={**outcome.sidecar, **warned, **start})
        if outcome.record["id"] != task.run_id:
            raise RuntimeError(
                f"the run's id is {outcome.record['id']}, not {task.run_id}: code or data have "
                "changed since the sweep began. Start it again."
            )
        if store.whole(task.run_id):
            return "reused", ""
        store.put(outcome)
    except StoreError:
        raise
    except Exception as error:
        text = traceback.format_exc()
        store.fail(task.run_id, task.spec, text, kind_of(error))
        return "failed", text
    return "done", ""


@contextlib.contextmanager
def _kept_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """The warnings in here, which would break through the progress, whatever PYTHONWARNINGS says.

    Python's own filters hold: each place says a thing once, and what is meant for developers alone is left out.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for category in _FOR_DEVELOPERS:
            warnings.simplefilter("ignore", category)
        yield caught


def kind_of(error: BaseException) -> str:
    """What a failure is called: ``diverged``, ``out of memory``, or the exception's name."""
    if isinstance(error, FloatingPointError):
        return "diverged"
    torchs = ("out of memory", "can't allocate memory")  # RuntimeErrors of a GPU and of the host
    if isinstance(error, MemoryError) or any(words in str(error) for words in torchs):
        return "out of memory"
    return type(error).__name__


def _default() -> Execute:
    from mmlib.runs.execute import execute  # imports torch: seconds

    return execute


class _Inline(Executor):
    """Runs each task at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Pool:
    """An executor that can be made anew after a worker was killed."""

    def __init__(self, executor: Executor | None, jobs: int, tasks: int) -> None:
        self.own = executor is None and jobs > 1
        self.jobs = min(jobs, tasks)
        self.executor = executor or (_new_pool(self.jobs) if self.own else _Inline())
        self._bound = 2 * jobs if executor else self.jobs + 1 if self.own else 1

    @property
    def bound(self) -> int:
        """Tasks outstanding at most; an executor whose workers come and go says so itself."""
        return getattr(self.executor, "bound", self._bound)

    def submit(self, task: Task) -> Future[tuple[str, str]]:
        """Hand over a task; a pool that is broken already shows in the future, not here."""
        try:
            with _for_workers() if self.own else contextlib.nullcontext():
                return self.executor.submit(work, task)
        except BrokenExecutor as error:
            future: Future[tuple[str, str]] = Future()
            future.set_exception(error)
            return future

    def renew(self, jobs: int) -> None:
        """A new pool in place of the old one, once it is known that its workers can start."""
        self.close()
        self.executor = _new_pool(jobs)
        with _for_workers():
            probe = self.executor.submit(os.getpid)
        try:
            probe.result()
        except BrokenExecutor as error:
            raise RuntimeError(
                "worker processes end as soon as they start. In a script, call sweep under "
                '`if __name__ == "__main__":`; anywhere, jobs=1 does without workers.'
            ) from error

    def close(self) -> None:
        """End our workers at once, whatever they do. Runs in flight are lost; the store stays in order."""
        if isinstance(self.executor, ProcessPoolExecutor) and self.own:
            processes = self.executor._processes or {}  # public only from Python 3.14 on
            for process in list(processes.values()):
                process.kill()
            self.executor.shutdown(wait=True, cancel_futures=True)


def _new_pool(jobs: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin, initargs=(os.getpid(), time.time())
    )


def _begin(parent: int, asked: float) -> None:
    """The first thing that a worker does; asked: when it was asked for."""
    _PROCESS.asked = asked
    _watch_parent(parent)


def _watch_parent(parent: int) -> None:
    """End this worker soon after its parent was killed: nobody would read its results."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _for_workers() -> Iterator[None]:
    """Processes started in here have one thread each and leave Ctrl-C to their parent.

    A blocked signal and the environment are inherited from the first instruction on, before any
    initializer, so neither an interrupt while a worker starts nor an early import slips through.
    """
    resource_tracker.ensure_running()  # it unblocks the signal when it starts
    before = {name: os.environ.get(name) for name in _THREADS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
