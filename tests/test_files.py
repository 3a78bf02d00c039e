"""Full and read-only disks: one message, exit code 2, what was there stays, and the next call completes.

Takes about 15 s.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mmlib import files, paths
from mmlib.cli import main
from mmlib.errors import InputError
from mmlib.papers import catalog
from mmlib.pipeline import gather
from mmlib.report import artifact
from mmlib.report.dashboard import write_dashboard
from mmlib.runs import store

FULL = OSError(errno.ENOSPC, "No space left on device")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")
TABLE = artifact.Artifact(
    "table1", "balm", "table", "T", "C.", lambda c: [], lambda c: artifact.Output()
)
MADE = artifact.Made("mine", "quick")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refuse(patch: pytest.MonkeyPatch, error: OSError, at: int = 0) -> None:
    """Every rename beyond the first ``at`` fails."""
    count, real = [0], os.replace

    def replace(*given: object) -> None:
        count[0] += 1
        if count[0] > at:
            raise error
        real(*given)  # type: ignore[call-overload]

    patch.setattr(os, "replace", replace)


def entry(figures: Path, value: int) -> artifact.Entry:
    return artifact.write(TABLE, artifact.Output(table=pd.DataFrame({"a": [value]})), figures, MADE)


WRITERS: dict[str, Callable[[Path], object]] = {
    "table": lambda f: entry(f, 2),
    "records": lambda f: artifact.write_records([], f, "mine", "balm"),
    "manifest": lambda f: artifact.update_manifest(
        f / "manifest.json", [artifact.missing(TABLE, MADE, "needs data")]
    ),
    "gathered": lambda f: gather.write_all(f, catalog.PAPERS),
    "dashboard": lambda f: write_dashboard(f / "manifest.json", f / "index.html"),
}


@pytest.mark.parametrize("error", [FULL, READ_ONLY], ids=["full", "read-only"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_figure_that_cannot_be_written_is_told_and_the_old_one_stays(
    writer: str, error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = tmp_path / "figures"
    artifact.update_manifest(figures / "manifest.json", [entry(figures, 1)])
    artifact.write_records([], figures, "mine", "balm")
    before = contents(figures)
    with monkeypatch.context() as patch:
        refuse(patch, error)
        with pytest.raises(InputError) as caught:
            WRITERS[writer](figures)
    assert error.strerror in str(caught.value) and str(figures) in str(caught.value)
    assert "free space" in caught.value.do and contents(figures) == before
    WRITERS[writer](figures)
    assert not [name for name in contents(figures) if "partial" in name or "lock" in name]


@pytest.mark.parametrize("writer", WRITERS)
def test_figures_below_a_file_are_refused(writer: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="thesis"):
        WRITERS[writer](tmp_path / "thesis.tex" / "figures")
    assert contents(tmp_path) == {"thesis.tex": b"precious"}


def test_a_report_on_a_full_disk_exits_with_2_and_the_next_one_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    command = ["report", "--paper", "balm", "--profile", "smoke", "--artifact", "table3"]
    for at in (0, 1, 3):
        with monkeypatch.context() as patch:
            refuse(patch, FULL, at)
            assert main(command) == 2
        message = capsys.readouterr().err
        assert "No space left" in message and "Traceback" not in message
    assert main(command) == 0
    assert (tmp_path / "figures/index.html").exists() and (tmp_path / "figures/claims.csv").exists()
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures/index.html/below"))
    assert main(command) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("at", [0, 2])
def test_student_copies_on_a_full_disk_exit_with_2_and_the_next_call_completes(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["teach", "--out", str(tmp_path / "copies")]
    with monkeypatch.context() as patch:
        refuse(patch, FULL, at)
        assert main(command) == 2
    message = capsys.readouterr().err
    assert "No space left" in message and "free space" in message
    assert len(contents(tmp_path)) == at
    assert main(command) == 0
    notebooks = [path.name for path in paths.notebooks().glob("*.ipynb")]
    assert set(contents(tmp_path)) == {f"copies/{name}" for name in ["start.md", *notebooks]}


@pytest.mark.parametrize(
    "place", ["file", "below a file", "name too long", "folders of the notebooks' names"]
)
def test_student_copies_in_a_place_that_cannot_be_written_exit_with_2(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "taken" / "01_balm.ipynb").mkdir(parents=True)
    out = {
        "file": tmp_path / "thesis.tex",
        "below a file": tmp_path / "thesis.tex" / "out",
        "name too long": tmp_path / ("x" * 300),
        "folders of the notebooks' names": tmp_path / "taken",
    }[place]
    assert main(["teach", "--out", str(out), "--paper", "balm"]) == 2
    message = capsys.readouterr().err
    assert str(out) in message and "Traceback" not in message
    assert contents(tmp_path) == {"thesis.tex": b"precious"}


def test_the_store_says_the_same_of_a_full_disk_and_stops_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, FULL)
    with pytest.raises(store.StoreError, match=r"No space left.*free space"):
        store.write(tmp_path / "a.json", b"{}")
    assert contents(tmp_path) == {}


def test_a_file_is_whole_or_as_before_whatever_fails(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    for failing in (ValueError, KeyboardInterrupt, OSError):
        with pytest.raises(failing), files.replacing(path) as temporary:
            temporary.write_text("half")
            raise failing
        assert contents(tmp_path) == {}
    files.write(path, b"whole")
    with pytest.raises(ValueError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert contents(tmp_path) == {"new/a.txt": b"whole"}
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_lock_is_held_by_one_at_a_time_and_leaves_nothing(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(20):
            with files.locked(tmp_path / "sub" / "x") as held:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                assert held
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and inside == [0] and list((tmp_path / "sub").iterdir()) == []
