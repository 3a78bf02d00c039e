"""Laws of the sweep: each run once, nothing lost, whatever is killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fake_runs
import pytest
from fake_runs import FINGERPRINT, REPOSITORY, log, outcome, run, run_id, specs

from mmlib.errors import InputError
from mmlib.runs import sweep as sweep_module
from mmlib.runs.compact import export_records, import_records
from mmlib.runs.store import Store, StoreError
from mmlib.runs.sweep import SweepReport, estimate, learned
from mmlib.runs.timing import Range
from mmlib.runs.workers import STARTED


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runs.surround(tmp_path, monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # some milliseconds each


def counts(report: SweepReport) -> tuple[int, int, int, int, int]:
    assert report.wanted == report.reused + report.done + report.failed + report.left
    return report.wanted, report.reused, report.done, report.failed, report.left


def contents(store: Store) -> dict[str, bytes]:
    """Every file but sidecars and what a killed writer left behind."""
    return {
        p.name: p.read_bytes()
        for p in sorted(store.folder.rglob("*"))
        if p.is_file() and not p.name.endswith((".time.json", ".partial"))
    }


def never_killed(folder: Path, count: int) -> dict[str, bytes]:
    store = Store(folder)
    for spec in specs(count):
        store.put(outcome(spec))
    return contents(store)


def start(folder: Path, count: int, jobs: int, sleep: str) -> subprocess.Popen[str]:
    """A sweep in a process group of its own that Ctrl-C reaches, as a terminal starts it."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"import fake_runs; fake_runs.run_sweep({str(folder)!r}, {count}, {jobs}, {sleep!r})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(true: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + 60
    while not true():
        assert time.monotonic() < limit, f"waited a minute: {what}"
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_each_spec_is_run_once_and_a_second_sweep_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "s")
    assert counts(run(specs(4) + specs(6), store)) == (6, 0, 6, 0, 0)
    assert counts(run(specs(8), store)) == (8, 6, 2, 0, 0)
    capsys.readouterr()
    assert counts(run(specs(8), store, title="again")) == (8, 8, 0, 0, 0)
    assert capsys.readouterr().out == "again: 8 runs, all done before\n"
    assert sorted(name for name, _ in log(tmp_path)) == sorted(run_id(s) for s in specs(8))
    assert contents(store) == never_killed(tmp_path / "other", 8)


def test_a_sweep_killed_at_ten_moments_ends_as_one_never_killed_and_repeats_no_finished_run(
    tmp_path: Path,
) -> None:
    store, generator, count = Store(tmp_path / "s"), random.Random(7), 60
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fake_runs"])
    finished: set[str] = set()
    for _ in range(10):
        began = len(log(tmp_path))
        process = context.Process(
            target=fake_runs.run_sweep, args=(str(store.folder), count, 1, "0.02")
        )
        process.start()
        wait_until(lambda began=began: len(log(tmp_path)) > began, "for a run to begin")
        time.sleep(generator.random() * 0.1)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not finished & {name for name, _ in log(tmp_path)[began:]}, (
            "a finished run was repeated"
        )
        finished = set(store.ids())
    assert 0 < len(finished) < count
    assert counts(run(specs(count), store)) == (count, len(finished), count - len(finished), 0, 0)
    assert contents(store) == never_killed(tmp_path / "other", count)


def test_workers_of_a_killed_sweep_end_and_what_they_finished_is_kept(tmp_path: Path) -> None:
    store, count = Store(tmp_path / "s"), 60
    process = start(store.folder, count, 2, "0.1")
    wait_until(lambda: len({worker for _, worker in log(tmp_path)}) == 2, "for both workers")
    process.kill()
    process.communicate()
    workers = {worker for _, worker in log(tmp_path)}
    assert process.pid not in workers
    wait_until(lambda: not any(map(alive, workers)), "for the orphans to end")
    finished = set(store.ids())
    assert 0 <= len(finished) < count
    began = len(log(tmp_path))
    assert run(specs(count), store).reused == len(finished)
    assert not finished & {name for name, _ in log(tmp_path)[began:]}
    assert contents(store) == never_killed(tmp_path / "other", count)


def test_ctrl_c_leaves_a_clean_store_one_line_and_no_worker(tmp_path: Path) -> None:
    store, count = Store(tmp_path / "s"), 60
    process = start(store.folder, count, 2, "0.1")
    wait_until(
        lambda: len({worker for _, worker in log(tmp_path)}) == 2 and len(store.ids()) > 1,
        "for finished runs",
    )
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode not in (0, -signal.SIGKILL)
    assert "of 60 runs done and kept. Start it again to go on." in out.splitlines()[-1]
    assert err.count("Traceback") == 1 and err.rstrip().endswith("KeyboardInterrupt"), err
    assert not any(alive(worker) for _, worker in log(tmp_path))
    assert store.failures() == [] and 1 < len(store.ids()) < count
    whole = never_killed(tmp_path / "other", count)
    records = {name: data for name, data in contents(store).items() if name.endswith(".json")}
    assert records.items() <= whole.items()


def test_two_sweeps_on_one_store_at_once_both_end_well(tmp_path: Path) -> None:
    store, count = Store(tmp_path / "s"), 40
    context = multiprocessing.get_context("forkserver")
    values = (str(store.folder), count, 1, "0.02")
    processes = [context.Process(target=fake_runs.run_sweep, args=values) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert {name for name, _ in log(tmp_path)} == {run_id(s) for s in specs(count)}
    assert contents(store) == never_killed(tmp_path / "other", count)


def test_a_run_that_another_sweep_has_done_meanwhile_is_not_repeated(tmp_path: Path) -> None:
    store, (first, second) = Store(tmp_path / "s"), specs(2)

    class Meanwhile(ThreadPoolExecutor):
        def submit(self, function: Any, /, *values: Any, **named: Any) -> Any:
            if not store.has(run_id(second)):
                store.put(outcome(second))
            return super().submit(function, *values, **named)

    with Meanwhile(1) as executor:
        assert counts(run([first, second], store, executor=executor)) == (2, 1, 1, 0, 0)
    assert [name for name, _ in log(tmp_path)] == [run_id(first)]


def test_a_sweep_that_meets_another_on_the_same_list_leaves_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, todo = Store(tmp_path / "s"), specs(20)
    order = [run_id(s) for s in todo]
    run(todo, Store(tmp_path / "alone"))
    assert [name for name, _ in log(tmp_path)] == order
    whole, first = Store.whole, iter([False, False])  # at the plan and at the start, not at the end
    store.put(outcome(todo[0]))
    monkeypatch.setattr(
        Store,
        "whole",
        lambda self, name: next(first, True) if name == order[0] else whole(self, name),
    )
    random.seed(1)
    assert counts(run(todo, store)) == (20, 1, 19, 0, 0)
    met = [name for name, _ in log(tmp_path)][20:]
    assert met[0] == order[0] and sorted(met) == sorted(order) and met != order


def test_killed_workers_lose_only_their_runs_and_a_run_that_kills_twice_is_failed(
    tmp_path: Path,
) -> None:
    store, plain = Store(tmp_path / "s"), specs(6)
    once = specs(1, keep=("weights",), options=(("do", "die once"),))
    always = specs(
        1, options=(("do", "die"),), parent=once[0]
    )  # a child, so that only one kills at a time
    report = run([*plain[:2], *once, *plain[2:4], *always, *plain[4:]], store, jobs=2)
    assert counts(report) == (8, 0, 7, 1, 0)
    (failure,) = store.failures()
    assert failure.id == run_id(always[0]) == report.errors[0][0] and "killed" in failure.error
    began = Counter(name for name, _ in log(tmp_path))
    assert began[run_id(always[0])] == 2 and began[run_id(once[0])] == 2
    assert all(store.has(run_id(s)) for s in plain + once)
    with pytest.raises(RuntimeError, match="1 of 8 runs failed"):
        report.raise_if_failed()


def test_a_run_whose_worker_dies_after_writing_it_is_done(tmp_path: Path) -> None:
    store, wrote = Store(tmp_path / "s"), specs(1, options=(("do", "write and die"),))
    report = run([*wrote, *specs(4)], store, jobs=2)
    assert (
        counts(report) == (5, 0, 5, 0, 0) and store.failures() == [] and store.has(run_id(wrote[0]))
    )


def test_a_run_that_raises_is_recorded_the_others_go_on_and_it_is_tried_again(
    tmp_path: Path,
) -> None:
    store, bad = Store(tmp_path / "s"), specs(2, options=(("do", "raise"),))
    report = run([bad[0], *specs(3), bad[1]], store)
    assert counts(report) == (5, 0, 3, 2, 0)
    assert {f.id for f in store.failures()} == {run_id(s) for s in bad}
    assert all(
        "ValueError: told to raise" in f.error and "fake_runs.py" in f.error
        for f in store.failures()
    )
    (tmp_path / "mended").touch()
    again = run([*bad, *specs(3)], store)
    assert counts(again) == (5, 3, 2, 0, 0) and store.failures() == []
    again.raise_if_failed()


def test_parents_run_first_once_and_hand_on_their_arrays(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    (oldest,) = specs(1, keep=("weights",))
    (parent,) = specs(1, keep=("weights",), variant="stage2", parent=oldest)
    children = specs(4, parent=parent)
    assert counts(run(children, store)) == (6, 0, 6, 0, 0)
    order = [name for name, _ in log(tmp_path)]
    assert order[:2] == [run_id(oldest), run_id(parent)] and sorted(order[2:]) == sorted(
        map(run_id, children)
    )
    want = float(sum(store.arrays(run_id(parent))["weights.w"].flat))
    record = store.get(run_id(children[0]))
    assert record is not None and record["selected"]["valid"]["inherited"] == want != 0
    assert counts(run([*children, parent], store)) == (5, 5, 0, 0, 0)


def test_children_of_a_failed_parent_fail_with_it_and_run_when_it_is_mended(tmp_path: Path) -> None:
    store, (parent,) = (
        Store(tmp_path / "s"),
        specs(1, keep=("weights",), options=(("do", "raise"),)),
    )
    children = specs(2, parent=parent)
    assert counts(run(children, store)) == (3, 0, 0, 3, 0)
    assert [name for name, _ in log(tmp_path)] == [run_id(parent)]
    assert sum(f"its parent {run_id(parent)} failed" in f.error for f in store.failures()) == 2
    (tmp_path / "mended").touch()
    assert counts(run(children, store)) == (3, 0, 3, 0, 0)


def test_imported_runs_are_reused_and_a_parent_without_its_weights_runs_again_only_for_a_child(
    tmp_path: Path,
) -> None:
    source, store = Store(tmp_path / "a"), Store(tmp_path / "b")
    (parent,) = specs(1, keep=("weights",))
    children = specs(3, parent=parent)
    run(children[:2], source)
    export_records(source, tmp_path / "r.xz")
    import_records(store, tmp_path / "r.xz")
    assert counts(run(children[:2], store)) == (2, 2, 0, 0, 0)
    before = len(log(tmp_path))
    assert counts(run(children, store)) == (4, 2, 2, 0, 0)
    assert [name for name, _ in log(tmp_path)[before:]] == [run_id(parent), run_id(children[2])]
    record = store.get(run_id(parent))
    assert record is not None and not record.imported


def test_the_time_limit_starts_nothing_after_it_and_the_rest_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))  # one second passes at every look
    store = Store(tmp_path / "s")
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: float(next(clock)))
        report = run(specs(50), store, max_minutes=0.5)
    wanted, reused, done, failed, left = counts(report)
    assert (
        (wanted, reused, failed) == (50, 0, 0)
        and 0 < done == len(store.ids()) < 31
        and left == 50 - done
    )
    assert counts(run(specs(50), store)) == (50, done, left, 0, 0)


def test_a_run_that_outlasts_limit_and_grace_is_stopped_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SLEEP", "600")
    monkeypatch.setattr(sweep_module, "GRACE_SECONDS", 0.0)
    store = Store(tmp_path / "s")
    assert counts(run(specs(3), store, jobs=2, max_minutes=0.02)) == (3, 0, 0, 0, 3)
    assert (
        not any(alive(worker) for _, worker in log(tmp_path))
        and store.ids() == [] == store.failures()
    )


def test_any_executor_will_do_is_not_shut_down_and_holds_few_runs_at_a_time(tmp_path: Path) -> None:
    outstanding, most = 0, []
    lock = threading.Lock()

    class Counting(ThreadPoolExecutor):
        def submit(self, function: Any, /, *values: Any, **named: Any) -> Any:
            nonlocal outstanding
            with lock:
                outstanding += 1
                most.append(outstanding)
            future = super().submit(function, *values, **named)
            future.add_done_callback(lambda _: finished())
            return future

    def finished() -> None:
        nonlocal outstanding
        with lock:
            outstanding -= 1

    store = Store(tmp_path / "s")
    with Counting(3) as executor:
        assert counts(run(specs(30), store, executor=executor, jobs=3)) == (30, 0, 30, 0, 0)
        assert executor.submit(int, "7").result() == 7
    assert 1 < max(most) <= 6
    assert contents(store) == never_killed(tmp_path / "other", 30)


def test_the_estimate_counts_missing_runs_and_their_parents_and_learns_from_like_ones(
    tmp_path: Path,
) -> None:
    store, todo = Store(tmp_path / "s"), specs(10)
    blind = estimate(todo, store, jobs=2, fingerprint=fake_runs.fingerprint)
    assert (blind.wanted, blind.parents, blind.lacking) == (10, 0, 10)
    for spec in todo[:4]:
        made = outcome(spec)
        made.sidecar["seconds"] = 300.0
        store.put(made)
    seen = estimate(todo, store, jobs=2, fingerprint=fake_runs.fingerprint)
    assert (seen.wanted, seen.lacking) == (10, 6)
    assert seen.time.low < 6 * 300 / 2 < seen.time.high < 2 * seen.time.low
    assert blind.time.high / blind.time.low > 2 * seen.time.high / seen.time.low
    done = estimate(todo[:4], store, fingerprint=fake_runs.fingerprint)
    assert (done.lacking, done.time) == (0, Range(0.0, 0.0))
    assert log(tmp_path) == []


def test_the_first_run_of_each_worker_tells_how_long_its_start_took(tmp_path: Path) -> None:
    store, todo = Store(tmp_path / "s"), specs(6)
    before = time.time()
    run(todo[:4], store, jobs=2)
    passed = time.time() - before
    sidecars = [store.sidecar(run_id(spec)) for spec in todo[:4]]
    starts = [sidecar[STARTED] for sidecar in sidecars if STARTED in sidecar]
    assert 1 <= len(starts) <= 2 and all(0 < start < passed for start in starts)
    assert sorted(learned(store, 2).starts) == sorted(starts) and learned(store, 1).starts == []
    left = estimate(todo, store, jobs=2, fingerprint=fake_runs.fingerprint).time
    start, runs = learned(store, 2).start(), learned(store, 2).left([s.to_json() for s in todo[4:]])
    assert left == start + runs and start.low > 0


def test_headless_progress_is_one_line_for_each_twentieth_and_one_after_the_pilot_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run([*specs(59), *specs(1, options=(("do", "raise"),))], Store(tmp_path / "s"), title="grid")
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert len(lines) == 21 and captured.err == ""  # one after the pilot runs
    assert lines[0].startswith("grid: 3/60 runs, 0 failed, 0:0") and lines[-1].startswith(
        "grid: 60/60 runs, 1 failed,"
    )
    assert lines[-1].endswith("all ended")
    run(specs(70), Store(tmp_path / "s"), progress=False)
    assert capsys.readouterr() == ("", "")


def test_bad_input_is_an_input_error_before_anything_is_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    (tmp_path / "file").touch()
    nowhere = {"execute": lambda spec, arrays: None}
    for options in ({"jobs": 0}, {"max_minutes": 0}, {"max_minutes": float("nan")}, nowhere):
        with pytest.raises(InputError):
            run(specs(2), store, **options)
    assert not store.folder.exists()
    with pytest.raises(StoreError, match="file"):
        run(specs(2), Store(tmp_path / "file"))
    assert log(tmp_path) == []


def test_a_store_that_cannot_be_written_any_more_stops_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Store, made: Any) -> None:
        raise StoreError("store", "No space left on device", "space", "Make some.")

    monkeypatch.setattr(Store, "put", full)
    with pytest.raises(StoreError, match="No space left"):
        run(specs(5), Store(tmp_path / "s"))
    assert len(log(tmp_path)) == 1


def test_a_run_under_another_id_than_the_wanted_is_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "s")
    monkeypatch.setattr("mmlib.runs.spec.numerics_version", lambda *_: "deadbeef")
    assert counts(run(specs(1), store)) == (1, 0, 0, 1, 0)
    assert "have changed since the sweep began" in store.failures()[0].error and store.ids() == []
    assert store.find(specs(1)[0], FINGERPRINT) == (None, False)


def test_workers_start_without_torch() -> None:
    code = "import sys, mmlib.runs.sweep, mmlib.runs.compact; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_in_order_runs_start_as_they_stand_and_a_child_right_after_its_parent(
    tmp_path: Path,
) -> None:
    parents = specs(3, keep=("weights",))
    children = [specs(1, variant="stage2", parent=parent)[0] for parent in parents]
    lone = specs(2, variant="alone")
    wanted = [children[2], lone[1], children[0], lone[0]]
    run(wanted, Store(tmp_path / "s"), in_order=True)
    order = [parents[2], children[2], lone[1], parents[0], children[0], lone[0]]
    assert [name for name, _ in log(tmp_path)] == [run_id(spec) for spec in order]
