"""The guide to own data: its blocks are run in order in an empty folder, the comparison with fewer minutes."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from mmlib import paths
from mmlib.cli import main
from mmlib.experiments import search

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "own-data.md"
MINUTES = "0.4"
CALLS = 8  # each goes on where the one before has stopped


def blocks(until: str) -> Iterator[tuple[str, str]]:
    """Language and text of the guide's blocks before a heading."""
    text = GUIDE.read_text(encoding="utf-8").split(until)[0]
    yield from re.findall(r"```(python|bash)\n(.*?)```", text, flags=re.S)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the working folder and mmlib's home; trials have one setting and a few steps."""
    monkeypatch.setattr(search, "SETTINGS", {"quick": search.SETTINGS["quick"][:1]})
    monkeypatch.setattr(search, "STEPS", {"quick": (8,)})
    monkeypatch.setattr(search, "SEEDS", 1)
    monkeypatch.setattr(
        os, "cpu_count", lambda: 1
    )  # runs are made here: no processes that import for seconds
    for name, folder in (("HOME", "."), ("RUNS", "runs"), ("FIGURES", "figures")):
        monkeypatch.setenv(f"MMLIB_{name}", str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(block: str) -> Iterator[list[str]]:
    """The arguments of each ``mmlib`` in a block."""
    for line in block.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == ".venv/bin/mmlib"
        yield arguments


def compared(arguments: list[str]) -> None:
    """Call a comparison with few minutes until runs are reported."""
    arguments[arguments.index("--minutes") + 1] = MINUTES
    page = paths.figures() / arguments[1] / "compare" / "numbers.csv"
    for _ in range(CALLS):
        assert main(arguments) in (0, 1)
        if set(pd.read_csv(page)["contender"]) - {"majority"}:
            return
    raise AssertionError(f"no run has ended after {CALLS} calls of {MINUTES} minutes")


@pytest.mark.slow
def test_every_block_of_the_guide_runs(home: Path) -> None:
    names: dict[str, object] = {}
    done = []
    for language, block in blocks(until="## 6. The papers' tables"):
        if language == "python" and "import compare" in block:
            continue  # the command before it, in a notebook
        if language == "python":
            exec(block, names)
            continue
        for arguments in commands(block):
            done.append(arguments[0])
            if arguments[0] == "compare":
                compared(arguments)
                continue
            if "RUN_ID" in arguments:
                page = (home / "figures" / "mine" / "compare" / "index.html").read_text()
                arguments[arguments.index("RUN_ID")] = re.findall(
                    r"[0-9a-f]{16}-[0-9a-f]{8}", page
                )[0]
            assert main(arguments) == 0
    assert done == ["data", "data", "compare", "export", "predict"]
    table = pd.read_csv(home / "predictions.csv")
    assert len(table) == 600 and set(table["prediction"]) <= set(names["moods"])
    tested = table[table["split"] == "test"] if "split" in table else table[450:]
    truth = pd.read_csv(home / "my-data" / "utterances.csv").set_index("id")["label"]
    assert (truth[tested["id"]].to_numpy() == tested["prediction"]).mean() > 0.4, "chance is 0.25"
    assert names["probabilities"].shape == (600, 4)
