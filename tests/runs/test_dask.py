"""Laws of the sweep on a Dask scheduler: a real one, with three worker processes, all on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fake_runs
import pytest
from fake_runs import NUMERICS, log, outcome, run_id, specs

from mmlib import cli
from mmlib.errors import InputError
from mmlib.runs import on_dask
from mmlib.runs.compare import compare
from mmlib.runs.on_dask import DaskExecutor
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store
from mmlib.runs.sweep import SweepReport, sweep
from mmlib.runs.workers import Task, work

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
BLIND = """
import os
from pathlib import Path
from mmlib.runs import store

def guarded(path, data, write=store.write, hidden=Path(os.environ["FAKE_FOLDER"]) / "stores"):
    if hidden in path.parents:
        raise store.StoreError(str(path), "no such folder", "one", "Mount it.")
    write(path, data)

if store.write.__name__ != "guarded":  # a preloaded file is run twice
    store.write = guarded
"""


@dataclass
class Cluster:
    """A scheduler and its workers, as a user starts them."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def launch(self, *words: str, mmlib: Path = REPOSITORY) -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "PYTHONPATH": f"{mmlib}{os.pathsep}{HERE}",
            "FAKE_FOLDER": str(self.folder),
            "FAKE_SLEEP": "0.2",
            "OMP_NUM_THREADS": "1",
            "MMLIB_HOME": str(REPOSITORY),
        }
        output = open(self.folder / "output", "ab")  # noqa: SIM115
        with output:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=env,
                stdout=output,
                stderr=output,
                cwd=self.folder,
            )
        self.processes.append(process)
        return process

    def schedule(self) -> None:
        self.launch(
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(self.folder / "scheduler.json"),
        )
        wait_until((self.folder / "scheduler.json").exists, "for the scheduler")

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            gone(process)

    def worker(self, name: str, *words: str, mmlib: Path = REPOSITORY) -> subprocess.Popen[bytes]:
        return self.launch(
            "distributed.cli.dask_worker",
            self.address,
            "--nthreads",
            "1",
            "--name",
            name,
            "--host",
            "127.0.0.1",
            "--no-dashboard",
            "--memory-limit",
            "0",
            "--local-directory",
            str(self.folder),
            *words,
            mmlib=mmlib,
        )

    @property
    def address(self) -> str:
        path = self.folder / "scheduler.json"
        for _ in range(100):  # the file is there a moment before its content
            with contextlib.suppress(ValueError):
                return str(json.loads(path.read_text())["address"])
            time.sleep(0.1)
        raise AssertionError(f"no address in {path}")

    def executor(self, todo: list[Any], store: Store, **options: Any) -> DaskExecutor:
        return DaskExecutor(self.address, todo, store, fingerprint=fake_runs.fingerprint, **options)

    def sweep(self, todo: list[Any], store: Store, **options: Any) -> SweepReport:
        with self.executor(todo, store) as executor:
            return run(todo, store, executor, **options)


def run(todo: list[Any], store: Store, executor: DaskExecutor, **options: Any) -> SweepReport:
    return sweep(
        todo,
        store,
        executor=executor,
        execute=fake_runs.execute,
        fingerprint=fake_runs.fingerprint,
        **options,
    )


def gone(process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Wait for a process that was told to end; one of Dask's that hangs while it says goodbye is killed."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(seconds)


def wait_until(true: Callable[[], bool], what: str, every: float = 0.02) -> None:
    limit = time.monotonic() + 300  # on a busy machine a worker takes minutes to import torch
    while not true():
        assert time.monotonic() < limit, f"waited five minutes: {what}"
        time.sleep(every)


def wait_for_workers(cluster: Cluster, count: int, what: str) -> None:
    """Each look opens a client, which costs the scheduler as much as a run: few looks leave the CPU to the workers."""
    wait_until(lambda: alive_workers(cluster) == count, what, every=0.25)


def alive_workers(cluster: Cluster) -> int:
    from distributed import Client

    with Client(cluster.address, set_as_default=False) as client:
        return len(client.scheduler_info(n_workers=-1)["workers"])


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("dask"))
    try:
        cluster.schedule()
        for number in range(3):
            cluster.worker(f"w{number}")  # with a nanny, which starts it again when it was killed
        wait_for_workers(cluster, 3, "for three workers")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Three workers, and nothing left of the test before."""
    monkeypatch.setattr("mmlib.runs.spec.numerics_version", lambda *_: NUMERICS)
    monkeypatch.setenv("MMLIB_HEADLESS", "1")
    wait_for_workers(_cluster, 3, "for killed workers to come back")
    for name in ("log", "died", "mended"):
        (_cluster.folder / name).unlink(missing_ok=True)
    return _cluster


@pytest.fixture
def store(cluster: Cluster, request: pytest.FixtureRequest) -> Store:
    return Store(cluster.folder / "stores" / request.node.name[:40])


def counts(report: SweepReport) -> tuple[int, int, int, int, int]:
    assert report.wanted == report.reused + report.done + report.failed + report.left
    return report.wanted, report.reused, report.done, report.failed, report.left


def contents(store: Store) -> dict[str, bytes]:
    """Every file but sidecars."""
    return {
        p.name: p.read_bytes()
        for p in sorted(store.folder.rglob("*"))
        if p.is_file() and not p.name.endswith(".time.json")
    }


def made_here(folder: Path, todo: list[Any], parent: Any = None) -> dict[str, bytes]:
    store = Store(folder)
    for spec in [*([parent] if parent else []), *todo]:
        store.put(outcome(spec, outcome(parent).arrays if spec.parent else None))
    return contents(store)


def test_a_worker_killed_in_mid_run_loses_only_that_run_which_is_made_elsewhere(
    cluster: Cluster, store: Store, tmp_path: Path
) -> None:
    (parent,) = specs(1, keep=("weights",))
    (slow,) = specs(1, parent=parent, options=(("do", "linger once"),))
    todo, lost, killed = [slow, *specs(11, parent=parent)], run_id(slow), []

    def kill() -> None:
        wait_until(lambda: lost in dict(log(cluster.folder)), "for the run to begin")
        killed.append(dict(log(cluster.folder))[lost])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    report = cluster.sweep(todo, store)
    killer.join()
    assert counts(report) == (13, 0, 13, 0, 0)
    began = log(cluster.folder)
    assert began[0][0] == run_id(parent)
    assert Counter(name for name, _ in began) == Counter([*map(run_id, [parent, *todo]), lost])
    assert len([where for name, where in began if name == lost and where not in killed]) == 1
    assert contents(store) == made_here(tmp_path / "here", todo, parent)
    assert counts(cluster.sweep(todo, store)) == (12, 12, 0, 0, 0) and log(cluster.folder) == began


def test_a_run_that_kills_every_worker_it_gets_fails_alone(cluster: Cluster, store: Store) -> None:
    bad, good = specs(1, options=(("do", "die"),)), specs(8)
    report = cluster.sweep([*good[:2], *bad, *good[2:]], store)
    assert counts(report) == (9, 0, 8, 1, 0)
    ((failed, error),) = report.errors
    assert failed == run_id(bad[0]) and "its worker was lost 3 times (tcp://127.0.0.1:" in error
    assert [f.id for f in store.failures()] == [failed] and sorted(store.ids()) == sorted(
        map(run_id, good)
    )
    assert Counter(name for name, _ in log(cluster.folder)) == Counter(
        [*map(run_id, good), *3 * [failed]]
    )


def test_a_run_that_raises_on_a_worker_is_recorded_with_its_children_and_tried_again(
    cluster: Cluster, store: Store
) -> None:
    (parent,) = specs(1, keep=("weights",), options=(("do", "raise"),))
    todo = [*specs(2, parent=parent), *specs(1)]
    assert counts(cluster.sweep(todo, store)) == (4, 0, 1, 3, 0)
    assert sum("ValueError: told to raise" in f.error for f in store.failures()) == 3
    (cluster.folder / "mended").touch()
    assert counts(cluster.sweep(todo, store)) == (4, 1, 3, 0, 0) and store.failures() == []


def test_a_worker_without_the_stores_folder_sends_its_records_back(
    cluster: Cluster, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "blind.py").write_text(BLIND)
    blind = cluster.worker("blind", "--no-nanny", "--preload", str(tmp_path / "blind.py"))
    try:
        wait_for_workers(cluster, 4, "for the fourth worker")
        (parent,) = specs(1, keep=("weights",))
        todo = specs(14, parent=parent)
        with cluster.executor(todo, store) as executor:
            assert sorted(executor._ready.values()) == [False, True, True, True]
            assert counts(run(todo, store, executor)) == (15, 0, 15, 0, 0)
    finally:
        blind.terminate()
        gone(blind)
    assert blind.pid in {process for _, process in log(cluster.folder)}
    assert contents(store) == made_here(tmp_path / "here", todo, parent)


def test_a_worker_without_the_store_sends_back_an_error_as_it_would_have_been_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    (bad,) = specs(1, options=(("do", "raise"),))
    task = Task(run_id(bad), bad.to_json(), "nowhere", execute=fake_runs.execute)
    status, error, files = on_dask.work_apart(work, task, {})
    assert status == "failed" and "told to raise" in error and list(files) == [".failed.json"]
    store = Store(tmp_path / "s")
    store.take(task.run_id, files)
    assert [(f.id, f.error) for f in store.failures()] == [(task.run_id, error)]
    (tmp_path / "mended").touch()
    store.take(task.run_id, on_dask.work_apart(work, task, {})[2])
    assert store.has(task.run_id) and not store.path(task.run_id, ".failed.json").exists()
    assert not (tmp_path / "nowhere").exists()


def test_a_worker_of_another_version_gets_no_run_and_is_named(
    cluster: Cluster, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(
        REPOSITORY / "mmlib", tmp_path / "mmlib", ignore=shutil.ignore_patterns("__pycache__")
    )
    with open(tmp_path / "mmlib" / "fit.py", "a") as file:
        file.write("\nOTHER = 1\n")
    todo = specs(6)
    with cluster.executor(todo, store) as executor:
        other = cluster.worker("other", "--no-nanny", mmlib=tmp_path)
        try:
            seen = ""

            def named() -> bool:
                nonlocal seen
                seen += capsys.readouterr().err
                return "gets no runs: Dask worker tcp://127.0.0.1:" in seen

            wait_until(named, "for the word on the worker that joined")
            assert counts(run(todo, store, executor)) == (6, 0, 6, 0, 0)
            assert other.pid not in {process for _, process in log(cluster.folder)}
            (address,) = re.findall(
                r"Dask worker (tcp://[0-9.:]+): found code of fake on fake", seen
            )
            with pytest.raises(
                InputError,
                match=f"{address}: found code of fake on fake with masks.fixed: .*Make it as it is here",
            ):
                cluster.sweep(specs(8), store)
        finally:
            other.terminate()
            gone(other)
    assert len(log(cluster.folder)) == 6


def test_a_bundle_that_differs_or_is_lacking_on_the_workers_is_named(
    cluster: Cluster, store: Store
) -> None:
    def elsewhere(reference: str) -> str:
        return "fedcba9876543210"

    question = on_dask.Question((), ("twin:fake",), elsewhere, "nowhere")
    assert (
        on_dask.answer(question)[0]["bundle twin:fake"] == "fedcba9876543210"
        and not on_dask.answer(question)[1]
    )
    with pytest.raises(
        InputError, match=r"Dask worker .*found bundle twin:fake: InputError.*2 more differ"
    ):
        DaskExecutor(cluster.address, specs(2), store, fingerprint=only_here)
    assert log(cluster.folder) == []


def only_here(reference: str) -> str:
    if "FAKE_FOLDER" in os.environ:  # on a worker
        raise InputError("bundle", reference, "another", "Import it.")
    return fake_runs.FINGERPRINT


def test_the_time_limit_leaves_the_rest_and_ctrl_c_keeps_what_is_done(
    cluster: Cluster, store: Store
) -> None:
    wanted, reused, done, failed, left = counts(cluster.sweep(specs(24), store, max_minutes=0.01))
    assert (
        (wanted, reused, failed) == (24, 0, 0)
        and left == 24 - done > 0
        and len(store.ids()) == done
    )
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); import fake_runs; "
        "fake_runs.dask_sweep(*sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, cluster.address, str(store.folder), "200"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{HERE}"},
    )
    wait_until(lambda: len(store.ids()) > done, "for runs to end")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode not in (0, -signal.SIGKILL)
    assert "of 200 runs done and kept. Start it again to go on." in out.splitlines()[-1]
    assert err.rstrip().endswith("KeyboardInterrupt"), err
    assert store.failures() == [] and done < len(store.ids()) < 200
    assert not list(store.folder.glob(".dask*"))


def test_runs_on_workers_are_those_made_here_byte_for_byte(
    _cluster: Cluster, tmp_path: Path
) -> None:
    small = (("hidden", 8), ("graph", 4))
    todo = [
        RunSpec(
            data="twin:iemocap6@tiny",
            seed=seed,
            backbone_options=small,
            training=Training(epochs=2),
        )
        for seed in range(2)
    ]
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    assert sweep(todo, here, jobs=1).done == 2
    with on_dask.executor_of(f"dask:{_cluster.address}", todo, there, jobs=1) as executor:
        assert sweep(todo, there, executor=executor).done == 2
    frame = compare(here, there)
    assert len(frame) == 2 and frame["same_bytes"].all()


def test_an_address_without_a_scheduler_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_dask, "CONNECT_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        for listening in (False, True):
            if listening:
                silent.listen()
            with pytest.raises(
                InputError, match=f"no Dask scheduler at 127.0.0.1:{port}.*dask:tcp://HOST:8786"
            ):
                DaskExecutor(f"127.0.0.1:{port}", specs(1), Store(tmp_path / "s"))
    with pytest.raises(InputError, match="no Dask scheduler at no such://place"):
        DaskExecutor("no such://place", specs(1), Store(tmp_path / "s"))
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "s"))
    for command in ("run", "sweep"):
        words = [command, "--paper", "balm", "--artifact", "table3", "--profile", "smoke"]
        assert cli.main([*words, "--executor", f"dask:127.0.0.1:{port}"]) == 2
        assert f"no Dask scheduler at 127.0.0.1:{port}" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_no_worker_a_worker_of_two_threads_and_a_scheduler_that_goes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmlib.runs.spec.numerics_version", lambda *_: NUMERICS)
    monkeypatch.setattr(on_dask, "WORKER_SECONDS", 0.1)
    store, todo, own = Store(tmp_path / "s"), specs(200), Cluster(tmp_path)
    try:
        own.schedule()
        with pytest.raises(InputError, match="found no worker"):
            own.executor(todo, store)
        own.worker("two", "--no-nanny", "--nthreads", "2")
        monkeypatch.setattr(on_dask, "WORKER_SECONDS", 60)
        with pytest.raises(InputError, match=r"Dask worker tcp.*found 2 threads.*--nthreads 1"):
            own.executor(todo, store)
        own.processes[1].kill()
        own.worker("one", "--no-nanny")
        wait_for_workers(own, 1, "for the worker")
        threading.Thread(
            target=lambda: (wait_until(store.ids, "for a run"), own.processes[0].kill())
        ).start()
        with pytest.raises(InputError, match="what finished is kept"):
            own.sweep(todo, store)
    finally:
        own.stop()
    assert 0 < len(store.ids()) < 200 and store.failures() == []


class LaggingClient:
    """A Dask client that lists its worker some looks after it has joined."""

    worker = "tcp://127.0.0.1:1"

    def __init__(self, looks: int) -> None:
        self.left = looks

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        self.left -= 1
        return {"workers": {} if self.left >= 0 else {self.worker: {"nthreads": 1}}}

    def submit(self, function: Callable[..., Any], *given: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*given))
        return future

    def wait_for_workers(self, *_: object, **__: object) -> None:
        """The worker has joined."""

    def close(self, timeout: float) -> None:
        """Nothing is open."""


def test_a_worker_that_joined_and_is_not_listed_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmlib.runs.spec.numerics_version", lambda *_: NUMERICS)
    monkeypatch.setattr(on_dask, "_files", lambda: on_dask.LOADED)  # however young this checkout is
    store = Store(tmp_path / "s")
    for looks in (0, 1, 5):
        monkeypatch.setattr(on_dask, "_connect", lambda _, looks=looks: LaggingClient(looks))
        with DaskExecutor("x", specs(1), store, fingerprint=fake_runs.fingerprint) as executor:
            assert executor._ready == {LaggingClient.worker: True}
    monkeypatch.setattr(on_dask, "WORKER_SECONDS", 0.1)
    monkeypatch.setattr(on_dask, "_connect", lambda _: LaggingClient(10**9))
    with pytest.raises(InputError, match="found no worker"):
        DaskExecutor("x", specs(1), store, fingerprint=fake_runs.fingerprint)


FAULTS = """
import resource, sys
import numpy as np
from mmlib.runs.on_dask import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        np.ones(2**17)  # 1 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
keep_freed_memory()
faults()
print(first, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the thresholds are glibc's")
def test_a_worker_keeps_the_memory_that_it_frees() -> None:
    as_nanny_sets = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    told = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env=as_nanny_sets,
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, told.stdout.split())
    assert before > 200 * 200 and after < 200, (
        "an array of 256 pages is taken from the system each time, then never"
    )
