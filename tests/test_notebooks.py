"""The notebooks: fit for reading, in step with their outputs, and their exercises solvable."""

from __future__ import annotations

import ast
import io
import itertools
import re
import statistics
import tokenize
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

from mmlib import masks, teach
from mmlib.errors import InputError
from mmlib.methods import gmm_loss
from mmlib.papers import regenerate
from mmlib.papers.pipeline import NOTEBOOKS
from mmlib.report.prose import typed_numbers

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


def prose_of(notebook: Any) -> list[str]:
    """Every text that a notebook's author typed: Markdown, and the strings and comments of its code."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found.append(cell.source)
        else:
            found += [n.value for n in ast.walk(ast.parse(cell.source))
                      if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            tokens = tokenize.generate_tokens(io.StringIO(cell.source).readline)
            found += [t.string for t in tokens if t.type == tokenize.COMMENT]
    return found


def typed(notebook: Any, paper: str) -> list[str]:
    """Numbers that the author typed though no template holds them; the paper's own choices are held by its module."""
    held = {text for choice in regenerate.PAPERS[paper].OBSTACLES for text in choice}
    return [n for text in prose_of(notebook) if text not in held for n in typed_numbers(text)]


@pytest.mark.parametrize(("paper", "name"), NOTEBOOKS.items())
def test_no_measured_number_is_typed_into_prose(paper: str, name: str) -> None:
    """Results come from code: prose may hold equation, section and ledger numbers, and small counts."""
    assert typed(nbformat.read(ROOT / "notebooks" / name, as_version=4), paper) == []


@pytest.mark.parametrize(("planted", "found"), [
    ("It gains 2.31 points of weighted F1.", "2.31 points"), ("It is better by 3 points.", "3 points"),
    ("On 1623 utterances.", "1623"), ("In 40 % of them.", "40 %"), ("A step takes 5 ms.", "5 ms"),
    ("Twice as fast, or 3x.", "3x"), ("See Table 1: it gains +7.", "+7")])
@pytest.mark.parametrize("where", ["markdown", "string", "comment"])
def test_a_planted_number_is_found_wherever_it_stands(planted: str, found: str, where: str) -> None:
    notebook = nbformat.read(PATHS[0], as_version=4)
    kind, text = {"markdown": ("markdown", f"As Fig 2 shows. {planted}"), "string": ("code", f"print({planted!r})"),
                  "comment": ("code", f"x = 1  # {planted}")}[where]
    next(c for c in notebook.cells if c.cell_type == kind).source += f"\n{text}"
    assert typed(notebook, "balm") == [found]


@pytest.mark.parametrize("text", [
    "## 3. The method", "**2. Merge** (10 min).", "Eqs 8-10, Tables 11, 12; Figs 11 to 22 and section 4.3 (A20).",
    "A Author (CVPR 2026) on Python 3.11", "$x = 0.5$ and `rate=0.7`", "seven or 7 subsets", "ResNet-18", "H21"])
def test_what_only_names_something_is_no_typed_number(text: str) -> None:
    assert typed_numbers(text) == []


@pytest.mark.parametrize(("paper", "name"), NOTEBOOKS.items())
def test_the_obstacles_a_notebook_shows_are_those_of_its_paper(paper: str, name: str) -> None:
    code = [c.source for c in cells(ROOT / "notebooks" / name, "code")]
    typed_here = [ast.literal_eval(ast.parse(c).body[0].value) for c in code  # type: ignore[attr-defined]
                  if c.startswith("choices = [")]
    module = regenerate.PAPERS[paper]
    assert typed_here == [[tuple(choice) for choice in module.OBSTACLES]] or any("OBSTACLES" in c for c in code)
    prose = "\n".join(c.source for c in cells(ROOT / "notebooks" / name, "markdown"))
    assert f"**Left out:** {module.LEFT_OUT}" in prose
    assert f"**Guesses:** {module.GUESSES}" in prose if module.GUESSES else "**Guesses:**" not in prose


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
        space: dict[str, Any] = {"np": np, "torch": torch, "teach": teach, "masks": masks, "method": gmm_loss,
                                 "itertools": itertools}
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
