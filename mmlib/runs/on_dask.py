"""Runs on an existing Dask scheduler: an executor for ``sweep`` with one run at a time on each worker.

A worker gets no run before it has said what would decide a run's numbers there, and it is what it is here. One that
sees the store's folder writes its records there; any other gets a run's parent with the run and sends the record back.
A run whose worker is lost is tried on another. Workers may join and leave while the sweep goes on.

Each run is submitted to one worker that is free. Dask's own queue would hold to the workers that a run named when it
was submitted, so none could move to one that joins; and it counts a lost worker against a run without saying which.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import platform
import queue
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

import mmlib
from mmlib.errors import InputError, unknown_name
from mmlib.files import TEMPORARY
from mmlib.runs.spec import RunSpec, numerics_version
from mmlib.runs.store import Store, StoreError, write
from mmlib.runs.sweep import data_fingerprint
from mmlib.runs.workers import Task

PREFIX = "dask:"
TRIES = 3
CONNECT_SECONDS, WORKER_SECONDS, ANSWER_SECONDS, FETCH_SECONDS, ALONE_SECONDS = (
    5.0,
    10.0,
    120.0,
    60.0,
    120.0,
)
LOOK_SECONDS = 0.5  # between two looks at which workers there are
QUEUED = 8  # runs on hand for workers that join
LOADED = "as loaded"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def address_of(name: str) -> str | None:
    """The scheduler's address in ``dask:ADDRESS``; None for ``local``.

    Raises:
        InputError: another name, or no address.
    """
    if name == "local":
        return None
    if not name.startswith(PREFIX) or name == PREFIX:
        raise unknown_name("--executor", name, ("local", f"{PREFIX}ADDRESS"))
    return name.removeprefix(PREFIX)


def executor_of(
    name: str, specs: Iterable[RunSpec], store: Store, jobs: int | None = None
) -> AbstractContextManager[Executor | None]:
    """The executor of ``--executor NAME``, to be closed after use; None is ``sweep``'s own."""
    address = address_of(name)
    return (
        contextlib.nullcontext()
        if address is None
        else DaskExecutor(address, specs, store, jobs=jobs)
    )


@dataclass(frozen=True)
class Question:
    """What a worker is asked."""

    code: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Methods, backbones and families of mask laws that runs need together."""

    data: tuple[str, ...]
    """References of bundles."""

    fingerprint: Callable[[str], str]
    """From a reference to its bundle's fingerprint."""

    probe: str
    """A file that stands in the store's folder."""


def question_about(
    specs: Iterable[RunSpec], fingerprint: Callable[[str], str], probe: Path
) -> Question:
    """What decides the numbers of these specs and of their parents."""
    every: dict[RunSpec, None] = {}
    for spec in specs:
        step: RunSpec | None = spec
        while step is not None and step not in every:
            every[step], step = None, step.parent
    code = {(s.method, s.backbone, s.families) for s in every}
    return Question(
        tuple(sorted(code)), tuple(sorted({s.data for s in every})), fingerprint, str(probe)
    )


def answer(question: Question) -> tuple[dict[str, str], bool]:
    """What decides numbers in this process, by name; and whether it can write to the store's folder."""
    keep_freed_memory()
    deciding = {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "torch": metadata.version("torch").split("+")[0],
        "mmlib": mmlib.__version__,
        "files of mmlib": _files(),
    }
    for method, backbone, families in question.code:
        name = f"code of {method} on {backbone} with {', '.join(families)}"
        deciding[name] = numerics_version(method, backbone, families)
    for reference in question.data:
        try:
            deciding[f"bundle {reference}"] = question.fingerprint(reference)
        except Exception as error:
            deciding[f"bundle {reference}"] = f"{type(error).__name__}: {error}"
    return deciding, _shared(Path(question.probe))


def keep_freed_memory() -> None:
    """Let this process reuse memory that it has freed.

    Dask's nanny sets ``MALLOC_TRIM_THRESHOLD_`` so low that glibc hands every freed tensor back to the system and
    asks for its pages again at the next: training takes more than twice as long. The thresholds are glibc's largest
    for a block, and what a worker may well keep for all blocks.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(M_TRIM_THRESHOLD, 256 * 2**20)


def _files() -> str:
    """Whether a module's file is younger than this process, which may then run other code than the file's."""
    started = psutil.Process().create_time()
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None) if name.startswith("mmlib.") else None
        if path and os.path.exists(path) and os.path.getmtime(path) > started:
            return f"{name} changed after this worker was started"
    return LOADED


def _shared(probe: Path) -> bool:
    try:
        if probe.exists():
            Store(probe.parent).prepare()
            return True
    except (OSError, StoreError):
        pass
    return False


def work_apart(
    function: Callable[[Task], tuple[str, str]], task: Task, parent: Mapping[str, bytes]
) -> tuple[str, str, dict[str, bytes]]:
    """A run on a worker without the store, in a store of its own: (status, error, the run's files)."""
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        if task.parent:
            store.take(task.parent, parent)
        status, error = function(replace(task, folder=folder))
        return status, error, store.files(task.run_id)


@dataclass
class _Job:
    """A run on its way."""

    function: Callable[[Task], tuple[str, str]]
    """What does the task."""

    task: Task
    """The run."""

    future: Future[tuple[str, str]] = field(default_factory=Future)
    """What the sweep waits for."""

    sent: Any = None
    """What Dask gave for it, once it was sent."""

    lost: list[str] = field(default_factory=list)
    """Addresses of the workers that were lost with it."""


class DaskExecutor(Executor):
    """Sends tasks to the workers of a scheduler, each to one worker that was compared with this machine.

    All that changes after the start is changed by one thread, which takes calls from ``_inbox``. Closing it leaves the
    runs in flight to end by themselves: those with the store's folder still write their records.

    Raises:
        InputError: no scheduler or no worker there, or a worker that differs.
    """

    def __init__(
        self,
        address: str,
        specs: Iterable[RunSpec],
        store: Store,
        *,
        jobs: int | None = None,
        fingerprint: Callable[[str], str] = data_fingerprint,
    ) -> None:
        self.address, self.store, self.jobs = address, store, jobs or sys.maxsize
        self.client = _connect(address)
        self.probe = store.folder.resolve() / f".dask.{secrets.token_hex(8)}{TEMPORARY}"
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting: deque[_Job] = deque()
        self._busy: dict[str, _Job] = {}
        self._asked: dict[str, Any] = {}  # answers that are awaited; None once read
        self._ready: dict[str, bool] = {}  # compared workers; whether they have the store's folder
        self._seen, self._closed = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        try:
            write(self.probe, b"")
            self.question = question_about(specs, fingerprint, self.probe)
            self.here = answer(self.question)[0] | {"files of mmlib": LOADED}
            self._meet()
        except BaseException:
            self.shutdown()
            raise
        self._thread.start()

    @property
    def bound(self) -> int:
        """Tasks outstanding at most: enough for workers that join."""
        return 2 * len(self._ready) + QUEUED

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand over one task."""
        job = _Job(fn, *args)
        self._inbox.put(functools.partial(self._waiting.append, job))
        return job.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more, forget what is not finished, and leave the scheduler as it was."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        for job in self._busy.values():
            job.sent.cancel()
        self._busy.clear()
        self._asked.clear()
        self.probe.unlink(missing_ok=True)
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self.client.close(timeout=CONNECT_SECONDS)

    def _meet(self) -> None:
        """Compare every worker that is there; those that do not answer now, being busy, get work when they do."""
        problems, until = self._first_look(), time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until:
            awaited = any(asked is not None for asked in self._asked.values())
            gone = not self._asked and not problems  # a worker that was listed may come back
            if not awaited and not gone:
                break
            time.sleep(0.05)
            problems += self._look()
        if problems:
            more = (
                f" {len(problems) - 1} more differ: all are to be alike."
                if len(problems) > 1
                else ""
            )
            first = problems[0]
            raise InputError(first.where, first.found, first.expected, first.do + more)
        if not self._ready:
            raise InputError(
                f"Dask scheduler {self.address}",
                f"no answer in {ANSWER_SECONDS:.0f} s from " + ", ".join(self._asked),
                "a free worker",
                "Wait until their other work has ended.",
            )

    def _first_look(self) -> list[InputError]:
        """Look until a worker is listed: the client's list may lag behind a worker that has joined."""
        problems, until = self._look(), time.monotonic() + WORKER_SECONDS
        while not self._asked:
            if time.monotonic() > until:
                raise InputError(
                    f"Dask scheduler {self.address}",
                    "no worker",
                    "at least one",
                    "Start workers, and this again when the first has joined.",
                )
            time.sleep(0.05)
            problems += self._look()
        return problems

    def _serve(self) -> None:
        looked = 0.0
        while not self._closed.is_set():
            try:
                with contextlib.suppress(queue.Empty):
                    self._inbox.get(timeout=LOOK_SECONDS)()
                if time.monotonic() - looked >= LOOK_SECONDS:
                    for problem in self._look():
                        print(f"gets no runs: {problem}", file=sys.stderr, flush=True)
                    looked = time.monotonic()
                self._send()
            except Exception as error:
                self._give_up(error)

    def _look(self) -> list[InputError]:
        """See which workers there are and ask the new ones; what is wrong with those that have answered."""
        problems, workers = [], self.client.scheduler_info(n_workers=-1).get("workers")
        if workers is None:
            raise ConnectionError("the connection is lost")
        for address in [a for a in self._asked if a not in workers]:
            del self._asked[address]
            self._ready.pop(address, None)
            if address in self._busy:
                self._lost(address)
        for address in [a for a in workers if a not in self._asked]:
            self._asked[address] = self.client.submit(
                answer, self.question, workers=[address], pure=False
            )
        for address, asked in self._asked.items():
            if asked is not None and asked.done():
                self._asked[address] = None
                problem = self._compare(address, asked, workers[address]["nthreads"])
                problems += [problem] if problem else []
        if workers:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > ALONE_SECONDS:
            raise InputError(
                f"Dask scheduler {self.address}",
                "no worker left",
                "at least one",
                "Start workers, and this again: what finished is kept.",
            )
        return problems

    def _compare(self, address: str, asked: Any, threads: int) -> InputError | None:
        if threads != 1:
            return InputError(
                f"Dask worker {address}",
                f"{threads} threads",
                "1, since runs in one process would mix their random numbers",
                "Start it with --nthreads 1, and more workers instead.",
            )
        try:
            there, shared = asked.result(timeout=FETCH_SECONDS)
        except Exception as error:
            return InputError(
                f"Dask worker {address}",
                f"{type(error).__name__}: {error}",
                "mmlib as it is here",
                "Install it there, or stop that worker.",
            )
        differing = [name for name in self.here if there.get(name) != self.here[name]]
        if differing:
            return InputError(
                f"Dask worker {address}",
                "; ".join(f"{n}: {there.get(n)}" for n in differing),
                "; ".join(f"{n}: {self.here[n]}" for n in differing),
                "Make it as it is here and start it again, or stop it.",
            )
        self._ready[address] = shared
        return None

    def _send(self) -> None:
        """Give each free worker the next run."""
        free = deque(a for a in self._ready if a not in self._busy)
        while self._waiting and free and len(self._busy) < self.jobs:
            job = self._waiting.popleft()
            if not job.lost and not job.future.set_running_or_notify_cancel():
                continue
            if time.time() >= job.task.deadline:
                job.future.set_result(("late", ""))
                continue
            address = free.popleft()
            self._busy[address] = job
            job.sent = self._submit(address, job)
            job.sent.add_done_callback(
                lambda sent, address=address: self._inbox.put(
                    functools.partial(self._ended, address, sent)
                )
            )

    def _submit(self, address: str, job: _Job) -> Any:
        import dask

        task = replace(job.task, deadline=float("inf"))  # which was judged by this machine's clock
        where: dict[str, Any] = {"workers": [address], "allow_other_workers": False, "pure": False}
        if self._ready[address]:
            return self.client.submit(job.function, task, **where)
        files = self.store.files(task.parent) if task.parent else {}
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
            return self.client.submit(work_apart, job.function, task, files, **where)

    def _ended(self, address: str, sent: Any) -> None:
        """Take in a run, unless its worker was given up before."""
        from distributed import KilledWorker

        job = self._busy.get(address)
        if job is None or job.sent is not sent:
            return
        try:
            status, error, *files = sent.result(timeout=FETCH_SECONDS)
            if files and self.store.whole(job.task.run_id):
                status = "reused"
            elif files:
                self.store.take(job.task.run_id, files[0])
        except (TimeoutError, CancelledError, KilledWorker):
            self._lost(address)
            return
        except Exception as error:
            job.future.set_exception(error)
        else:
            job.future.set_result((status, error))
        del self._busy[address]

    def _lost(self, address: str) -> None:
        """Try a run elsewhere whose worker is gone, or end it."""
        job = self._busy.pop(address)
        job.lost.append(address)
        job.sent.cancel()
        if len(job.lost) < TRIES:
            self._waiting.appendleft(job)
        else:
            job.future.set_exception(
                RuntimeError(
                    f"its worker was lost {TRIES} times ({', '.join(job.lost)}): killed, out of memory "
                    "perhaps, or crashed in native code"
                )
            )

    def _give_up(self, error: Exception) -> None:
        """End all that is outstanding, since the scheduler does not answer or has no workers."""
        if not isinstance(error, InputError):
            error = InputError(
                f"Dask scheduler {self.address}",
                f"{type(error).__name__}: {error}",
                "an answer",
                "Start it and its workers, and this again: what finished is kept.",
            )
        for job in [*self._busy.values(), *self._waiting]:
            if job.future.running() or job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
        self._busy.clear()
        self._waiting.clear()


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "--executor",
            f"{PREFIX}{address} ({error})",
            "the package distributed",
            "Install it: pip install 'mmlib[cluster]'.",
        ) from error
    try:
        with ThreadPoolExecutor(1) as aside:  # a notebook's own thread has a loop that runs
            aside.submit(asyncio.run, _knock(address)).result()
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            "--executor",
            f"no Dask scheduler at {address} ({str(error) or type(error).__name__})",
            f"the address of one that runs, as in {PREFIX}tcp://HOST:8786",
            "Start it with `dask scheduler`, or correct the address.",
        ) from error


async def _knock(address: str) -> None:
    """See that something there speaks as Dask does: a client would wait for a silent one without end.

    Raises:
        OSError: nothing there, or no answer in time.
    """
    from distributed.comm import connect
    from distributed.security import Security

    options = Security().get_connection_args("client")
    comm = await asyncio.wait_for(
        connect(address, timeout=CONNECT_SECONDS, **options), 2 * CONNECT_SECONDS
    )
    await comm.close()
