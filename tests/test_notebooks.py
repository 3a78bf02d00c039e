"""The notebooks: fit for reading, in step with their outputs, and their exercises solvable."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

from mmlib import masks, teach
from mmlib.errors import InputError
from mmlib.methods import gmm_loss
from mmlib.papers.pipeline import NOTEBOOKS

ROOT = Path(__file__).resolve().parent.parent
PATHS = [ROOT / "notebooks" / name for name in NOTEBOOKS.values()]


def cells(path: Path, kind: str) -> list[Any]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_the_outputs_are_those_of_these_cells(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata["mmlib"]["cells"] == teach.cells_hash(notebook), "run ./run_all.sh --update-notebooks"
    assert all(c.execution_count for c in notebook.cells if c.cell_type == "code")
    errors = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "error"]
    assert not errors


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_cells_are_few_and_short(path: Path) -> None:
    code = [c.source.splitlines() for c in cells(path, "code")]
    words = sum(len(c.source.split()) for c in cells(path, "markdown"))
    assert 30 <= len(nbformat.read(path, as_version=4).cells) <= 60
    assert statistics.median(len(c) for c in code) <= 7 and max(len(c) for c in code) <= 25
    assert 2 <= words / sum(len(c) for c in code) <= 6


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_the_first_code_cell_has_the_parameters_and_the_second_checks_them(path: Path) -> None:
    first, second = cells(path, "code")[:2]
    assert "parameters" in first.metadata.tags
    assert "teach.only_known(globals()" in second.source


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_no_measured_number_is_typed_into_prose(path: Path) -> None:
    """Results come from code: prose may hold equation, section and ledger numbers, settings, and small counts."""
    for cell in cells(path, "markdown"):
        prose = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", " ", cell.source, flags=re.S)
        prose = re.sub(r"^#+ [\d.]+|Python 3\.\d+", " ", prose, flags=re.M)
        found = re.findall(r"(?<![\w.])\d+\.\d+(?:\s*%)?(?!\.?\d)", prose)
        assert not [n for n in found if n not in ("0.5",)], (found, cell.source[:80])


def test_unknown_and_lacking_parameters_are_errors() -> None:
    teach.only_known({"profile": "quick", "seeds": 3, "_": 1, "In": [], "np": np}, ["profile", "seeds"])
    with pytest.raises(InputError, match="Did you mean 'profile'"):
        teach.only_known({"profile": "quick", "seeds": 3, "profil": "smoke"}, ["profile", "seeds"])
    with pytest.raises(InputError, match="no seeds"):
        teach.only_known({"profile": "quick"}, ["profile", "seeds"])


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_exercises_start_open_and_their_solutions_pass(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "solutions.md").read_text(encoding="utf-8")
    section = text.split(f"## {path.stem}\n")[1].split("\n## ")[0]
    solutions = re.findall(r"```python\n(.*?)```", section, flags=re.S)
    exercises = [c.source for c in cells(path, "code") if "teach.exercise" in c.source]
    assert len(solutions) == len(exercises) == 3
    for exercise, solution in zip(exercises, solutions, strict=True):
        space: dict[str, Any] = {"np": np, "torch": torch, "teach": teach, "masks": masks, "method": gmm_loss}
        exec(exercise, space)
        assert "OPEN" in capsys.readouterr().out
        checks = exercise[exercise.index("\n\n\n"):]  # all but the open function, which comes first
        exec(solution + checks, space)
        printed = capsys.readouterr().out
        assert "PASS" in printed and "OPEN" not in printed and "NOT YET" not in printed


def test_a_wrong_answer_does_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    teach.exercise("x", lambda a: a + 1, (1,), lambda a: a)
    assert capsys.readouterr().out.startswith("NOT YET")
    teach.exercise("x", lambda a: 1 / 0, (1,), lambda a: a)
    assert capsys.readouterr().out.startswith("NOT YET")
