"""What libraries warn of in runs: kept beside each run, counted at the end, in no record."""

from __future__ import annotations

import warnings
from pathlib import Path

import fake_runs
import pytest
from fake_runs import outcome, run, run_id, specs

from mmlib.runs.store import Store
from mmlib.runs.warned import counted, kinds, together
from mmlib.runs.workers import WARNINGS


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runs.surround(tmp_path, monkeypatch)


@pytest.mark.parametrize("jobs", [1, 2])
def test_warnings_of_runs_are_counted_and_not_printed(
    jobs: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loud, quiet = specs(4, options=(("do", "warn"),)), specs(3)
    store = Store(tmp_path / "store")
    report = run([*loud, *quiet], store, jobs=jobs)
    assert report.done == 7
    assert report.warnings == {
        "RuntimeWarning in fake_runs.py: no convergence after 100 steps": 4,
        "UserWarning in fake_runs.py: of no use": 4,
    }
    told = capfd.readouterr()
    assert "convergence" not in told.out + told.err
    assert run([*loud, *quiet], store, jobs=jobs).warnings == {}
    for spec in loud:
        assert len(store.sidecar(run_id(spec))[WARNINGS]) == 2
    assert all(WARNINGS not in store.sidecar(run_id(spec)) for spec in quiet)


@pytest.mark.parametrize("filters", ["ignore", "error", "always"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_pythons_filters_silence_no_run_and_fail_none(
    filters: str, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", filters)  # of the workers
    with warnings.catch_warnings():
        warnings.simplefilter(filters)  # type: ignore[arg-type]
        report = run(specs(2, options=(("do", "warn"),)), Store(tmp_path / "store"), jobs=jobs)
    assert (report.done, report.failed) == (2, 0)
    assert sorted(report.warnings.values()) == [2, 2]


def test_a_warning_changes_no_byte_of_a_record(tmp_path: Path) -> None:
    (spec,) = specs(1, options=(("do", "warn"),))
    warned, direct = Store(tmp_path / "warned"), Store(tmp_path / "direct")
    run([spec], warned)
    direct.put(outcome(spec))  # type: ignore[arg-type]
    for ending in (".json", ".safetensors"):
        assert (
            warned.path(run_id(spec), ending).read_bytes()
            == direct.path(run_id(spec), ending).read_bytes()
        )


def test_counts_are_added_by_kind_and_told_in_one_sentence() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            warnings.warn("a " * 200, UserWarning, stacklevel=1)
    ((kind, number),) = kinds(caught).items()
    assert number == 3 and kind.startswith("UserWarning in test_warned.py: a a") and len(kind) < 140
    assert together([{"x": 1, "y": 2}, {}, {"y": 3}]) == {"y": 5, "x": 1}
    assert counted({"x": 1}) == "1 warning: 1 x x"
    assert (
        counted({"a": 4, "b": 3, "c": 2, "d": 1})
        == "10 warnings: 4 x a; 3 x b; 2 x c; 1 of other kinds"
    )
