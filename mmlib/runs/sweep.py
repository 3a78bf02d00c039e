"""Many runs: what is missing from a store is run, on any ``concurrent.futures`` executor.

Resume is set difference: what the store holds is not run again, what failed is tried again. Each
worker writes its own record, so a killed sweep loses only the runs in flight. The default is one
spawned process per core with one thread each; a cluster is ``dask_client.get_executor()``.
A script that calls ``sweep`` needs ``if __name__ == "__main__":``, as for every spawned process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from mmlib.errors import InputError
from mmlib.runs.spec import RunSpec, spec_from_json
from mmlib.runs.store import Store, StoreError

if TYPE_CHECKING:
    from mmlib.runs.execute import Outcome

Execute = Callable[[RunSpec, dict[str, np.ndarray] | None], "Outcome"]
GRACE_SECONDS = 30.0
TWIN_SECONDS, REAL_SECONDS = 1.0, 10.0


@dataclass(frozen=True)
class SweepReport:
    """What became of a sweep: wanted = reused + done + failed + left.

    wanted: the runs asked for and the parents that had to be run for them. left: not started, or
    stopped. errors: (run id, error text) of the failed. seconds: passed, not summed over workers.
    """

    wanted: int
    reused: int
    done: int
    failed: int
    left: int
    seconds: float
    errors: tuple[tuple[str, str], ...] = ()

    def raise_if_failed(self) -> None:
        """Raises:
        RuntimeError: at least one run failed; the message has the first one's error.
        """
        if self.errors:
            run_id, text = self.errors[0]
            raise RuntimeError(f"{self.failed} of {self.wanted} runs failed. The first, {run_id}:\n{text}")


@dataclass(frozen=True)
class Task:
    """One run on its way to a worker: plain values, so that any executor can send it."""

    run_id: str
    spec: Mapping[str, Any]
    folder: str
    parent: str | None = None
    execute: Execute | None = None
    deadline: float = float("inf")


def data_fingerprint(reference: str) -> str:
    """The fingerprint of the bundle that a reference names."""
    from mmlib.data.catalog import open_bundle

    return open_bundle(reference).fingerprint


def sweep(specs: Sequence[RunSpec], store: Store, *, executor: Executor | None = None, jobs: int | None = None,
          max_minutes: float | None = None, execute: Execute | None = None,
          fingerprint: Callable[[str], str] = data_fingerprint, progress: bool = True,
          title: str = "sweep") -> SweepReport:
    """Run what the store lacks of these specs, parents before children, each once.

    Args:
        executor: where to run; it is not shut down. Default: ``jobs`` spawned processes, or this
            very process where jobs is 1.
        jobs: runs at a time; by default one per core.
        max_minutes: after that long nothing is started; runs in flight get 30 seconds to end.
        execute: a module-level function; by default ``mmlib.runs.execute.execute``.
        fingerprint: from a data reference to its bundle's fingerprint.

    Raises:
        InputError: jobs or minutes below their range, or a store that cannot be written.
        KeyboardInterrupt: on Ctrl-C, when the workers have ended; the store is in order.
    """
    jobs = _check(jobs, max_minutes)
    store.prepare()
    started = time.monotonic()
    deadline = time.time() + 60 * max_minutes if max_minutes is not None else float("inf")
    tasks, reused = _plan(specs, store, fingerprint, execute, deadline)
    board = _Board(store, {t.run_id: t for t in tasks}, reused, _Progress(title, len(tasks) + reused, reused, progress))
    try:
        if tasks:
            with contextlib.closing(_Pool(executor, jobs, len(tasks))) as pool:
                _drive(board, pool, deadline)
    except KeyboardInterrupt:
        board.progress.close()
        print(f"{title}: stopped with {reused + board.done} of {len(tasks) + reused} runs done and kept. "
              "Start it again to go on.", flush=True)
        raise
    finally:
        board.progress.close()
    return SweepReport(len(tasks) + reused, board.reused, board.done, len(board.errors), board.left,
                       time.monotonic() - started, tuple(board.errors.items()))


def estimate(specs: Sequence[RunSpec], store: Store, *, jobs: int | None = None,
             fingerprint: Callable[[str], str] = data_fingerprint) -> tuple[int, float]:
    """How many runs a sweep would make, and about how many seconds that takes with ``jobs`` at a time.

    The time of a run is that of the median epoch of the store's runs with the same method, backbone
    and data; without any, one second on a twin and ten on other data.
    """
    jobs = _check(jobs, None)
    tasks, _ = _plan(specs, store, fingerprint, None, float("inf"))
    epochs: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for record in store.records() if tasks else ():
        seconds = store.sidecar(record.id).get("seconds")
        if seconds is not None:
            epochs[_kind(record["spec"])].append(seconds / record["spec"]["training"]["epochs"])
    total = 0.0
    for task in tasks:
        like = epochs.get(_kind(task.spec))
        default = TWIN_SECONDS if task.spec["data"].startswith("twin:") else REAL_SECONDS
        total += median(like) * task.spec["training"]["epochs"] if like else default
    return len(tasks), total / max(1, min(jobs, len(tasks)))


def work(task: Task) -> tuple[str, str]:
    """One run in a worker: (status, error), with status ``done``, ``reused``, ``failed`` or ``late``.

    Raises:
        StoreError: the store cannot be written.
    """
    store = Store(Path(task.folder))
    if time.time() >= task.deadline:
        return "late", ""
    if store.whole(task.run_id):
        return "reused", ""
    try:
        if task.execute is None:
            from mmlib.runs.execute import execute
        else:
            execute = task.execute
        outcome = execute(spec_from_json(task.spec), store.arrays(task.parent) if task.parent else None)
        if outcome.record["id"] != task.run_id:
            raise RuntimeError(f"the run's id is {outcome.record['id']}, not {task.run_id}: code or data have "
                               "changed since the sweep began. Start it again.")
        store.put(outcome)
    except StoreError:
        raise
    except Exception:
        text = traceback.format_exc()
        store.fail(task.run_id, task.spec, text)
        return "failed", text
    return "done", ""


class _Progress:
    """One bar, or one line per twentieth where nobody watches."""

    def __init__(self, title: str, total: int, count: int, show: bool) -> None:
        self.title, self.total, self.count, self.failed = title, total, count, 0
        self.first, self.started, self.shown = count, time.monotonic(), 20 * count // max(1, total)
        self.show, self.bar = show, None
        if show and count == total:
            print(f"{title}: {total} runs, all done before", flush=True)
        elif show and not _headless():
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, initial=count, desc=title, unit="run")

    def step(self, failed: int) -> None:
        """One more run has ended."""
        self.count, self.failed = self.count + 1, failed
        if self.bar is not None:
            self.bar.update()
            if failed:
                self.bar.set_postfix(failed=failed)
        elif self.show and 20 * self.count // self.total > self.shown:
            self.shown = 20 * self.count // self.total
            passed = time.monotonic() - self.started
            left = passed / (self.count - self.first) * (self.total - self.count)
            print(f"{self.title}: {self.count}/{self.total} runs, {failed} failed, {_clock(passed)} passed, "
                  f"about {_clock(left)} left", flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


@dataclass
class _Board:
    """Which runs are ready, which wait for a parent, and what became of the others."""

    store: Store
    tasks: dict[str, Task]
    reused: int
    progress: _Progress
    done: int = 0
    left: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    ready: deque[Task] = field(default_factory=deque)
    children: dict[str, list[Task]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.left = len(self.tasks)
        for task in self.tasks.values():
            if task.parent in self.tasks:
                self.children[task.parent].append(task)
            else:
                self.ready.append(task)

    def end(self, task: Task, status: str, error: str = "") -> None:
        """Count a run that has ended; release its children, or fail them with it."""
        if status == "late":
            return
        self.left -= 1
        self.done += status == "done"
        self.reused += status == "reused"
        if status == "failed":
            self.errors[task.run_id] = error
        self.progress.step(len(self.errors))
        for child in self.children.pop(task.run_id, []):
            if status == "failed":
                self.fail(child, f"its parent {task.run_id} failed:\n{error}")
            else:
                self.ready.append(child)

    def fail(self, task: Task, error: str) -> None:
        """Record a failure that no worker could record."""
        self.store.fail(task.run_id, task.spec, error)
        self.end(task, "failed", error)

    def settle(self, task: Task, future: Future[tuple[str, str]]) -> bool:
        """Take in a finished future; False where its worker died and nobody knows which run did it."""
        try:
            self.end(task, *future.result())
        except BrokenExecutor:
            return False
        except CancelledError:
            pass
        except StoreError:
            raise
        except Exception:
            self.fail(task, traceback.format_exc())
        return True


class _Inline(Executor):
    """Runs each task at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _Pool:
    """An executor that can be made anew when a worker was killed. ``bound``: tasks outstanding at most."""

    def __init__(self, executor: Executor | None, jobs: int, tasks: int) -> None:
        self.own = executor is None and jobs > 1
        self.jobs = min(jobs, tasks)
        self.bound = 2 * jobs if executor else jobs + 1 if self.own else 1
        self.executor = executor or (_new_pool(self.jobs) if self.own else _Inline())

    def submit(self, task: Task) -> Future[tuple[str, str]]:
        if not self.own:
            return self.executor.submit(work, task)
        with _for_workers():
            return self.executor.submit(work, task)

    def renew(self, jobs: int) -> None:
        """A new pool in place of a broken or a smaller one, once it is known that workers can start."""
        self.kill()
        self.executor = _new_pool(jobs)
        with _for_workers():
            probe = self.executor.submit(os.getpid)
        try:
            probe.result()
        except BrokenExecutor as error:
            raise RuntimeError("worker processes end as soon as they start. In a script, call sweep under "
                               '`if __name__ == "__main__":`; anywhere, jobs=1 does without workers.') from error

    def kill(self) -> None:
        """End the workers at once, whatever they do. Runs in flight are lost; the store stays in order."""
        if isinstance(self.executor, ProcessPoolExecutor):
            for process in list((self.executor._processes or {}).values()):  # no public way before Python 3.14
                process.kill()
            self.executor.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        if self.own:
            self.kill()


def _drive(board: _Board, pool: _Pool, deadline: float) -> None:
    running: dict[Future[tuple[str, str]], Task] = {}
    try:
        while (board.ready or running) and time.time() < deadline + (GRACE_SECONDS if running else 0):
            broken = False
            while board.ready and len(running) < pool.bound and time.time() < deadline and not broken:
                try:
                    running[pool.submit(board.ready[0])] = board.ready[0]
                    board.ready.popleft()
                except BrokenExecutor:
                    broken = True
            finish = deadline + GRACE_SECONDS - time.time()
            ended = wait(running, None if finish == float("inf") else max(0.0, finish), FIRST_COMPLETED).done
            suspects = [task for task in (running.pop(f) for f in list(ended)) if False]
            del suspects
    finally:
        for future in running:
            future.cancel()
