"""The command line: what it prints, its exit codes, and that bad input changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmlib.cli import main
from mmlib.runs.store import Store


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store and a figures folder of the test's own."""
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))


def test_list_names_every_artifact_and_its_runs(capsys: pytest.CaptureFixture[str]) -> None:
    from mmlib.papers.catalog import PAPERS

    assert main(["run", "--list", "--profile", "smoke"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [tuple(line[:2]) for line in lines] == [
        (name, a.id) for name, m in PAPERS.items() for a in m.artifacts
    ]
    lacking = [line[1] for line in lines if "runs" not in line]
    assert lacking == ["two-modalities"], "a smoke run has twins alone"
    assert main(["run", "--list", "--profile", "smoke", "--artifact", "table9,planted"]) == 0
    found = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert found == [["balm", "table9"], ["gmm_loss", "planted"]]


def test_dry_run_makes_the_pilot_runs_alone_and_says_what_is_left(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one = ["--paper", "balm", "--profile", "smoke", "--artifact", "table3"]
    one += ["--seeds", "2", "--jobs", "1"]
    for _ in range(2):  # the second call has its pilot runs
        assert main(["run", "--dry-run", *one]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        # 3 rows x 2 data sets x 2 seeds, of which one run each of the dearest three kinds is made.
        assert re.fullmatch(
            r"12 runs, 9 still to do: ([\d.]+ to|about) [\d.]+ s with 1 at a time; in all .* s",
            last,
        )
    assert len(Store(tmp_path / "runs").ids()) == 3
    assert not (tmp_path / "figures").exists()


def test_one_artifact_is_run_drawn_and_listed_and_a_second_call_reuses_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = [
        "run",
        "--paper",
        "balm",
        "--artifact",
        "table3",
        "--profile",
        "smoke",
        "--jobs",
        "1",
    ]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert "6 done" in first and "table3" in first and "regenerated" in first
    assert (tmp_path / "figures" / "index.html").exists()
    names = ("twins/balm/table3.csv", "twins/balm/replication.md", "claims.csv", "arithmetic.csv")
    files = {name: (tmp_path / "figures" / name).read_bytes() for name in names}
    assert main(arguments) == 0
    assert "6 reused, 0 done" in capsys.readouterr().out
    assert {name: (tmp_path / "figures" / name).read_bytes() for name in names} == files


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--profile", "quik"], "Did you mean 'quick'"),
        (["run", "--paper", "balms"], "Did you mean 'balm'"),
        (["run", "--artifact", "tabel1"], "Did you mean 'table1'"),
        (
            ["run", "--paper", "balm,gmm_loss", "--artifact", "table1,plantd"],
            "Did you mean 'planted'",
        ),
        (["run", "--artifact", "table9,tabel1"], "Did you mean 'table1'"),
        (["run", "--backbone", "mmgnc"], "Did you mean 'mmgcn'"),
        (["run", "--data", "mosei"], "ROLE=BUNDLE"),
        (["run", "--data", "mosey=x"], "Did you mean 'mosei'"),
        (["run", "--data", "mosei=nowhere"], "bundle"),
        (["run", "--data", "mosei=a", "--data", "mosei=b"], "twice"),
        (["run", "--seeds", "-1"], "--seeds"),
        (["run", "--jobs", "0"], "--jobs"),
        (["run", "--executor", "dusk:localhost"], "one of dask:ADDRESS, local"),
        (["sweep", "--executor", "dask:"], "--executor"),
        (["run", "--no-such-option"], "unrecognized arguments"),
        (["run", "--prof", "smoke"], "unrecognized arguments"),
        (["sweep", "--max-minutes", "-1", "--artifact", "table3", "--profile", "smoke"], "minutes"),
        (["sweep", "--max-minutes", "nan", "--dry-run"], "--max-minutes"),
        (["run", "--artifact", ","], "--artifact"),
        (["run", "--artifact", "table3,"], "--artifact"),
        (["run", "--artifact", ""], "--artifact"),
        (["run", "--paper", "balm,balm"], "balm twice"),
        (["run", "--paper", ","], "--paper"),
        (["run", "--paper", "balm,ebmc", "--backbone", "mmgcn"], "--backbone"),
        (["run", "--paper", "balm", "--backbone", "dream"], "--backbone of balm"),
        (["run", "--backbone", "mmgcn,"], "--backbone"),
        (["run", "--label", ""], "--label"),
        (["run", "--label", "x" * 65], "--label"),
        (["run", "--label", "../x"], "--label"),
        (["run", "--data", f"mosei={'x' * 5000}"], "bundle"),
        (["run", "--seeds", "1000000000"], "--seeds"),
        (["run", "--update-notebooks", "--paper", "balm"], "--paper beside it"),
        (["run", "--update-notebooks", "--dry-run"], "--dry-run beside it"),
        (["teach", "--out", "x" * 300], "x" * 90),
        (["teach", "--out", "", "--paper", "balm"], "--out"),
        (["teach", "--out", "copies", "--paper", "balm,balm"], "balm twice"),
        (["store", "adopt", "nowhere"], "nowhere"),
        (["store", "adopt", "nowhere/" + "x" * 300], "nowhere"),
        (["store", "compare", ".", "nowhere"], "nowhere"),
        (["store", "merge", "new", "nowhere"], "nowhere"),
        (["store", "adopt", ".", "."], "two stores"),
        (["bench", "balm", "--backbone", "mmgnc"], "Did you mean 'mmgcn'"),
        (["bench", "gmm_loss", "--device", ""], "--device"),
        (["bench", "mculora", "--threads", "0"], "--threads"),
        (["bench", "gmm_loss", "--json", "nowhere/x.json"], "--json"),
        (["data", "check", "twin:iemocap7"], "Did you mean 'iemocap6'"),
        (["run", "--data", "mosei=twin:iemocap6@smoke", "--profile", "smoke"], "a score as labels"),
        (["run", "--data", "ave=twin:mosei@smoke", "--profile", "smoke"], "classes as labels"),
        (["nothing"], "invalid choice"),
    ],
)
def test_bad_options_exit_with_2_one_message_and_no_file(
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert expected in message and "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["run"],
        ["sweep"],
        ["report"],
        ["doctor"],
        ["bench"],
        ["store"],
        ["data"],
        ["data", "import"],
        ["data", "check"],
    ],
)
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert "usage:" in capsys.readouterr().out


def test_stores_are_merged_and_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert (
        main(
            [
                "sweep",
                "--paper",
                "balm",
                "--artifact",
                "table3",
                "--profile",
                "smoke",
                "--jobs",
                "1",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["store", "merge", str(tmp_path / "copy"), str(tmp_path / "runs")]) == 0
    assert "6 runs copied" in capsys.readouterr().out
    assert main(["store", "compare", str(tmp_path / "copy"), str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out.count("True") >= 6
