"""A run says whether what it wrote equals what is committed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mmlib.pipeline import reproduced


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    folder = tmp_path / "figures"
    (folder / "twins" / "balm").mkdir(parents=True)
    (folder / "twins" / "balm" / "table1.csv").write_text("acc\n65\n")
    (folder / "twins" / "balm" / "fig1.csv").write_text("acc\n66\n")
    (tmp_path / ".gitignore").write_text("*.svg\n*-local*\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "all")
    return folder


def test_equal_files_are_said_to_be_equal_whatever_is_ignored(figures: Path) -> None:
    (figures / "twins" / "balm" / "fig1.svg").write_text("here")
    (figures / "twins" / "balm" / "cost-local.csv").write_text("here")
    (figures / "twins" / "balm" / "table1.csv").write_text("acc\n65\n")
    (line,) = reproduced.lines(figures, ["twins"])
    assert line.endswith("twins: all 2 files equal what is committed")


def test_changed_gone_and_new_files_are_counted(figures: Path) -> None:
    (figures / "twins" / "balm" / "table1.csv").write_text("acc\n64\n")
    (figures / "twins" / "balm" / "fig1.csv").unlink()
    (figures / "twins" / "balm" / "fig2.csv").write_text("new")
    (line,) = reproduced.lines(figures, ["twins"])
    assert "3 files differ" in line and "(2 files)" in line and "processor" in line


def test_data_of_a_reader_and_folders_outside_a_checkout_say_nothing(
    figures: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (figures / "mine" / "balm").mkdir(parents=True)
    (figures / "mine" / "balm" / "table1.csv").write_text("acc\n65\n")
    assert reproduced.lines(figures, ["mine"]) == []
    alone = tmp_path_factory.mktemp("alone")
    (alone / "twins").mkdir()
    assert reproduced.lines(alone, ["twins"]) == []
    assert reproduced.lines(alone / "nowhere", ["twins"]) == []
