"""Many runs: what is missing from a store is run, on any ``concurrent.futures`` executor.

Resume is set difference: what the store holds is not run again, what failed is tried again. Each
worker writes its own record, so a killed sweep loses only the runs in flight. The default is one
spawned process per core with one thread each; a cluster is ``on_dask.DaskExecutor``.
A script that calls ``sweep`` needs ``if __name__ == "__main__":``, as for every spawned process.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import pickle
import random
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from dataclasses import dataclass, field

from mmlib.errors import InputError
from mmlib.runs import timing
from mmlib.runs.progress import Progress
from mmlib.runs.seen import Seen
from mmlib.runs.spec import RunSpec, spec_from_json
from mmlib.runs.store import Store
from mmlib.runs.timing import Forecast, Range, Run
from mmlib.runs.warned import together
from mmlib.runs.workers import IMPORTED, STARTED, WARNINGS, Execute, Pool, Task, kind_of

GRACE_SECONDS = 30.0
LEARN_FROM = 300  # runs of a store, for estimates


@dataclass(frozen=True)
class SweepReport:
    """What became of a sweep: wanted = reused + done + failed + left."""

    wanted: int
    """The runs asked for and the parents that had to be run for them."""

    reused: int
    """Runs that the store had, or that another sweep did meanwhile."""

    done: int
    """Runs that were done now."""

    failed: int
    """Runs that raised, or whose parent did."""

    left: int
    """Runs not started, or stopped."""

    seconds: float
    """Time that passed, not summed over workers."""

    errors: tuple[tuple[str, str], ...] = ()
    """(run id, error text) of the failed."""

    warnings: Mapping[str, int] = field(default_factory=dict)
    """What libraries warned of in the runs that were done now, by kind, with numbers."""

    def raise_if_failed(self) -> None:
        """Stop a caller that needs every run.

        Raises:
            RuntimeError: at least one run failed; the message has the first one's error.
        """
        if self.errors:
            run_id, text = self.errors[0]
            raise RuntimeError(
                f"{self.failed} of {self.wanted} runs failed. The first, {run_id}:\n{text}"
            )


def data_fingerprint(reference: str) -> str:
    """The fingerprint of the bundle that a reference names."""
    from mmlib.data.catalog import open_bundle

    return open_bundle(reference).fingerprint


def sweep(
    specs: Sequence[RunSpec],
    store: Store,
    *,
    executor: Executor | None = None,
    jobs: int | None = None,
    max_minutes: float | None = None,
    execute: Execute | None = None,
    fingerprint: Callable[[str], str] = data_fingerprint,
    progress: bool = True,
    title: str = "sweep",
    in_order: bool = False,
) -> SweepReport:
    """Run what the store lacks of these specs, parents before children, each once.

    Args:
        executor: where to run; it is not shut down. Default: ``jobs`` spawned processes, or this
            very process where jobs is 1.
        jobs: runs at a time; by default one per core.
        max_minutes: after that long nothing is started; runs in flight get 30 seconds to end.
        execute: a module-level function; by default ``mmlib.runs.execute.execute``.
        fingerprint: from a data reference to its bundle's fingerprint.
        in_order: whether runs are started as they stand in specs, and a child as soon as its parent has ended. Else
            those that tell most of times come first, and children after all that can start at once.

    Raises:
        InputError: jobs or minutes below their range, or a store that cannot be written.
        KeyboardInterrupt: on Ctrl-C, when the workers have ended; the store is in order.
    """
    jobs = _check(jobs, max_minutes, execute)
    store.prepare()
    started = time.monotonic()
    deadline = time.time() + 60 * max_minutes if max_minutes is not None else float("inf")
    tasks, reused = _plan(specs, store, fingerprint, execute, deadline)
    forecast = learned(store, jobs) if tasks else Forecast(jobs)
    tasks = tasks if in_order else _pilots_early(tasks, forecast, jobs)
    board = _Board(store, {task.run_id: task for task in tasks}, reused, jobs, in_order)
    board.progress = Progress(
        title, len(tasks) + reused, reused, forecast, board.specs_left, progress
    )
    _run_all(board, executor, jobs, deadline)
    return board.report(time.monotonic() - started)


def _pilots_early(tasks: list[Task], forecast: Forecast, jobs: int) -> list[Task]:
    """The same runs, those that tell most of times before the others; a worker's first run tells little."""
    head, others = tasks[:jobs], tasks[jobs:]
    places = timing.pilots([task.spec for task in others], forecast)
    rest = [task for place, task in enumerate(others) if place not in places]
    return [*head, *(others[place] for place in places), *rest]


def _run_all(board: _Board, executor: Executor | None, jobs: int, deadline: float) -> None:
    """Make the runs of a board until all have ended, the time is over or somebody presses Ctrl-C."""
    shown = board.progress
    try:
        if board.tasks:
            with contextlib.closing(Pool(executor, jobs, len(board.tasks))) as pool:
                _drive(board, pool, deadline)
    except KeyboardInterrupt:
        shown.close()
        print(
            f"{shown.title}: stopped with {board.reused + board.done} of {shown.total} runs done and kept. "
            "Start it again to go on.",
            flush=True,
        )
        raise
    finally:
        shown.close()


def _warnings(store: Store, fresh: Sequence[str]) -> dict[str, int]:
    """What the sidecars of the runs that were done now say of warnings."""
    counts = (store.sidecar(run_id).get(WARNINGS) for run_id in fresh)
    return together(part for part in counts if isinstance(part, dict))


@dataclass(frozen=True)
class Estimate:
    """What a sweep would make."""

    wanted: int
    """Runs asked for."""

    parents: int
    """Runs that others start from and that were not asked for; only those that the store lacks."""

    lacking: int
    """Of both, those that the store lacks."""

    time: Range
    """What the lacking ones take."""

    def __str__(self) -> str:
        more = f" and {self.parents} that they start from" if self.parents else ""
        return f"{self.wanted} runs{more}, {self.lacking} still to do" + (
            f": {self.time}" if self.lacking else ""
        )


def estimate(
    specs: Sequence[RunSpec],
    store: Store,
    *,
    jobs: int | None = None,
    pilot: bool = False,
    fingerprint: Callable[[str], str] = data_fingerprint,
) -> Estimate:
    """How many runs a sweep would make, and what time they take with ``jobs`` at a time.

    pilot: first make up to three of them, the dearest kinds' that the store has no like of, so that the estimate knows
    this machine and these data.
    """
    jobs = _check(jobs, None, None)
    asked = list(dict.fromkeys(specs))
    tasks, reused = _plan(asked, store, fingerprint, None, float("inf"))
    if pilot and tasks:
        places = timing.pilots([task.spec for task in tasks], learned(store, jobs))
        chosen = [spec_from_json(tasks[place].spec) for place in places]
        if chosen:
            sweep(chosen, store, jobs=jobs, fingerprint=fingerprint, title="pilot runs")
            tasks, reused = _plan(asked, store, fingerprint, None, float("inf"))
    forecast = learned(store, jobs)
    time = forecast.left([task.spec for task in tasks])
    time = forecast.start() + time if tasks else time
    return Estimate(len(asked), len(tasks) + reused - len(asked), len(tasks), time)


def learned(store: Store, jobs: int) -> Forecast:
    """What the store's runs tell of times; of many, some hundred that chance has drawn."""
    forecast = Forecast(jobs)
    name = STARTED if jobs > 1 else IMPORTED
    for record in itertools.islice(store.records(), LEARN_FROM):
        sidecar = store.sidecar(record.id)
        first = STARTED in sidecar or IMPORTED in sidecar
        forecast.learn(record["spec"], sidecar.get("seconds"), first)
        forecast.starts += [sidecar[name]] if name in sidecar else []
    return forecast


@dataclass
class _Board:
    """Which runs are ready, which wait for a parent, and what became of the others."""

    store: Store
    """Where the runs' records go."""

    tasks: dict[str, Task]
    """The runs to make, by id."""

    reused: int
    """Runs asked for that were done before, or by another sweep meanwhile."""

    jobs: int
    """Runs at a time."""

    children_first: bool = False
    """Whether a run starts before all others once its parent has ended."""

    progress: Progress = field(init=False)
    """What shows how far the sweep is."""

    open: dict[str, Task] = field(init=False)
    """Runs that have not ended, by id."""

    done: int = 0
    """Runs that were done now."""

    fresh: list[str] = field(default_factory=list)
    """Ids of the runs that were done now."""

    errors: dict[str, str] = field(default_factory=dict)
    """Error texts of the failed, by id."""

    ready: deque[Task] = field(default_factory=deque)
    """Runs that can start."""

    children: dict[str, list[Task]] = field(default_factory=lambda: defaultdict(list))
    """By a parent's id, the runs that wait for it."""

    def __post_init__(self) -> None:
        self.open = dict(self.tasks)
        for task in self.tasks.values():
            if task.parent in self.tasks:
                self.children[task.parent].append(task)
            else:
                self.ready.append(task)

    def specs_left(self) -> list[Run]:
        """The specifications of the runs that have not ended."""
        return [task.spec for task in self.open.values()]

    def end(self, task: Task, status: str, error: str = "") -> None:
        """Count a run that has ended; release its children, or fail them with it."""
        if status == "late":
            return
        self.open.pop(task.run_id, None)
        if status == "done":
            self.done += 1
            self.fresh.append(task.run_id)
            seconds = self.store.sidecar(task.run_id).get("seconds")
            self.progress.forecast.learn(task.spec, seconds, first=self.done <= self.jobs)
        if status == "reused":
            # Another sweep works on the same list: leave its order, or we do each run twice.
            self.reused += 1
            random.shuffle(self.ready)
        if status == "failed":
            self.errors[task.run_id] = error
        self.progress.step(len(self.errors))
        for child in self.children.pop(task.run_id, []):
            if status == "failed":
                parent = self.store.failure(task.run_id)
                self.fail(
                    child,
                    f"its parent {task.run_id} failed:\n{error}",
                    parent.kind if parent else "",
                )
            elif self.children_first:
                self.ready.appendleft(child)
            else:
                self.ready.append(child)

    def report(self, seconds: float) -> SweepReport:
        """What became of the sweep, which took so long."""
        return SweepReport(
            self.progress.total,
            self.reused,
            self.done,
            len(self.errors),
            len(self.open),
            seconds,
            tuple(self.errors.items()),
            _warnings(self.store, self.fresh),
        )

    def fail(self, task: Task, error: str, kind: str = "") -> None:
        """Record a failure that no worker could record; kind: as in ``Failure``."""
        self.store.fail(task.run_id, task.spec, error, kind)
        self.end(task, "failed", error)

    def written(self, task: Task) -> bool:
        """Whether a worker had written this run when it died before it could say so; then the run is done."""
        whole = self.store.whole(task.run_id)
        if whole:
            self.end(task, "done")
        return whole

    def settle(self, task: Task, future: Future[tuple[str, str]]) -> bool:
        """Take in a finished future; False where its worker died and nobody knows which run did it."""
        try:
            self.end(task, *future.result())
        except BrokenExecutor:
            return False
        except CancelledError:
            pass
        except InputError:  # the store's or the executor's, which concerns every run
            raise
        except (Exception, SystemExit) as error:
            self.fail(task, traceback.format_exc(), kind_of(error))
        return True


def _drive(board: _Board, pool: Pool, deadline: float) -> None:
    running: dict[Future[tuple[str, str]], Task] = {}
    try:
        while running or (board.ready and time.time() < deadline):
            while board.ready and len(running) < pool.bound and time.time() < deadline:
                task = board.ready.popleft()
                running[pool.submit(task)] = task
            ended = _ended(running, deadline)
            if not ended:
                return
            suspects = [task for task, future in ended if not board.settle(task, future)]
            if suspects:
                suspects += [
                    task
                    for task, future in _ended(running, deadline, ALL_COMPLETED)
                    if not board.settle(task, future)
                ]
                _retry(board, pool, suspects, deadline)
    finally:
        for future in running:
            future.cancel()


def _retry(board: _Board, pool: Pool, suspects: Sequence[Task], deadline: float) -> None:
    """Run again, one at a time, the runs that were in flight when a worker was killed."""
    if not pool.own:
        raise RuntimeError(
            "the executor that was given has lost a worker and takes no more runs. "
            "What finished is kept: start the sweep again with a new executor."
        )
    alone = False
    for task in suspects:
        if time.time() >= deadline:
            return
        if not alone:
            pool.renew(1)
        alone = board.written(task)
        if alone:
            continue
        future = pool.submit(task)
        if not _ended({future: task}, deadline):
            return
        alone = board.settle(task, future)
        if not alone and not board.written(task):
            board.fail(
                task,
                "its worker process ended without a word, and again when the run was alone: "
                "killed, out of memory perhaps, or crashed in native code",
                "killed",
            )
    if board.ready:
        pool.renew(pool.jobs)


def _ended(
    running: dict[Future[tuple[str, str]], Task], deadline: float, until: str = FIRST_COMPLETED
) -> list[tuple[Task, Future[tuple[str, str]]]]:
    """Wait, until the deadline and its grace at the most, and take the ended ones out."""
    seconds = max(0.0, deadline + GRACE_SECONDS - time.time())
    ended = wait(running, None if math.isinf(seconds) else seconds, until).done
    return [(running.pop(future), future) for future in list(running) if future in ended]


def _plan(
    specs: Sequence[RunSpec],
    store: Store,
    fingerprint: Callable[[str], str],
    execute: Execute | None,
    deadline: float,
) -> tuple[list[Task], int]:
    """The runs to make, parents before children, and how many of those asked for are done."""
    tasks: dict[str, Task] = {}
    reused: set[str] = set()
    printed, whole = functools.cache(fingerprint), functools.cache(Seen(store).whole)
    folder = str(store.folder.resolve())

    def visit(spec: RunSpec, asked: bool) -> str:
        run_id = spec.run_id(printed(spec.data))
        if whole(run_id):
            reused.update([run_id] if asked else [])
        elif run_id not in tasks:
            parent = visit(spec.parent, False) if spec.parent else None
            tasks[run_id] = Task(run_id, spec.to_json(), folder, parent, execute, deadline)
        return run_id

    for spec in specs:
        visit(spec, True)
    return list(tasks.values()), len(reused)


def _check(jobs: int | None, max_minutes: float | None, execute: Execute | None) -> int:
    if jobs is not None and jobs < 1:
        raise InputError("jobs", str(jobs), "1 or more", "Leave it out for one per core.")
    if max_minutes is not None and not max_minutes > 0:
        raise InputError(
            "max minutes", str(max_minutes), "more than 0", "Leave it out for no limit."
        )
    try:
        pickle.dumps(execute)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            "execute",
            f"{execute!r} ({error})",
            "a function of a module",
            "Move it to the top level of a module.",
        ) from error
    return jobs or os.cpu_count() or 1
