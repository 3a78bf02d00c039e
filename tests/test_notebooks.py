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
from prose import typed_numbers
from wrong_answers import WRONG

from mmlib import masks, teach
from mmlib.errors import InputError
from mmlib.experiments.undeclared import PRINTED
from mmlib.methods import gmm_loss
from mmlib.papers import catalog

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {name: paper.notebook for name, paper in catalog.PAPERS.items()}
PATHS = [ROOT / "notebooks" / name for name in NOTEBOOKS.values()]


def cells(path: Path, kind: str) -> list[Any]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_the_outputs_are_those_of_these_cells(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata["mmlib"]["cells"] == teach.cells_hash(notebook), (
        "run ./run_all.sh --update-notebooks"
    )
    assert all(c.execution_count for c in notebook.cells if c.cell_type == "code")
    errors = [
        o
        for c in notebook.cells
        if c.cell_type == "code"
        for o in c.outputs
        if o.output_type == "error"
    ]
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
            found += [
                n.value
                for n in ast.walk(ast.parse(cell.source))
                if isinstance(n, ast.Constant) and isinstance(n.value, str)
            ]
            tokens = tokenize.generate_tokens(io.StringIO(cell.source).readline)
            found += [t.string for t in tokens if t.type == tokenize.COMMENT]
    return found


def typed(notebook: Any, paper: str) -> list[str]:
    """Numbers that the author typed though no template holds them; the paper's own choices are held by its module."""
    held = {text for choice in catalog.PAPERS[paper].obstacles for text in choice}
    return [n for text in prose_of(notebook) if text not in held for n in typed_numbers(text)]


@pytest.mark.parametrize(("paper", "name"), NOTEBOOKS.items())
def test_no_measured_number_is_typed_into_prose(paper: str, name: str) -> None:
    """Results come from code: prose may hold equation, section and ledger numbers, and small counts."""
    assert typed(nbformat.read(ROOT / "notebooks" / name, as_version=4), paper) == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("It gains 2.31 points of weighted F1.", "2.31 points"),
        ("It is better by 3 points.", "3 points"),
        ("On 1623 utterances.", "1623"),
        ("In 40 % of them.", "40 %"),
        ("A step takes 5 ms.", "5 ms"),
        ("Twice as fast, or 3x.", "3x"),
        ("See Table 1: it gains +7.", "+7"),
    ],
)
@pytest.mark.parametrize("where", ["markdown", "string", "comment"])
def test_a_planted_number_is_found_wherever_it_stands(planted: str, found: str, where: str) -> None:
    notebook = nbformat.read(PATHS[0], as_version=4)
    kind, text = {
        "markdown": ("markdown", f"As Fig 2 shows. {planted}"),
        "string": ("code", f"print({planted!r})"),
        "comment": ("code", f"x = 1  # {planted}"),
    }[where]
    next(c for c in notebook.cells if c.cell_type == kind).source += f"\n{text}"
    assert typed(notebook, "balm") == [found]


@pytest.mark.parametrize(
    "text",
    [
        "## 3. The method",
        "**2. Merge** (10 min).",
        "Eqs 8-10, Tables 11, 12; Figs 11 to 22 and section 4.3 (A20).",
        "A Author (CVPR 2026) on Python 3.11",
        "$x = 0.5$ and `rate=0.7`",
        "seven or 7 subsets",
        "ResNet-18",
        "H21",
    ],
)
def test_what_only_names_something_is_no_typed_number(text: str) -> None:
    assert typed_numbers(text) == []


@pytest.mark.parametrize(("paper", "name"), NOTEBOOKS.items())
def test_the_obstacles_a_notebook_shows_are_those_of_its_paper(paper: str, name: str) -> None:
    code = [c.source for c in cells(ROOT / "notebooks" / name, "code")]
    typed_here = [
        ast.literal_eval(ast.parse(c).body[0].value)
        for c in code  # type: ignore[attr-defined]
        if c.startswith("choices = [")
    ]
    module = catalog.PAPERS[paper]
    assert typed_here == [[tuple(choice) for choice in module.obstacles]] or any(
        "OBSTACLES" in c for c in code
    )
    prose = "\n".join(c.source for c in cells(ROOT / "notebooks" / name, "markdown"))
    said = module.left_out or f"{PRINTED}; `replication.md` lists them."
    assert f"**Left out:** {said}" in prose
    assert (
        f"**Guesses:** {module.guesses}" in prose if module.guesses else "**Guesses:**" not in prose
    )


def test_unknown_and_lacking_parameters_are_errors() -> None:
    teach.only_known(
        {"profile": "quick", "seeds": 3, "_": 1, "In": [], "np": np}, ["profile", "seeds"]
    )
    with pytest.raises(InputError, match="Did you mean 'profile'"):
        teach.only_known({"profile": "quick", "seeds": 3, "profil": "smoke"}, ["profile", "seeds"])
    with pytest.raises(InputError, match="no seeds"):
        teach.only_known({"profile": "quick"}, ["profile", "seeds"])


def exercises(path: Path) -> list[str]:
    return [c.source for c in cells(path, "code") if "teach.exercise" in c.source]


def printed(exercise: str, answer: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What an exercise's cell prints with an answer in the place of the open function."""
    space: dict[str, Any] = {
        "np": np,
        "torch": torch,
        "teach": teach,
        "masks": masks,
        "method": gmm_loss,
        "itertools": itertools,
    }
    checks = exercise[exercise.index("\n\n\n") :]  # all but the open function, which comes first
    exec(answer + checks if answer else exercise, space)
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of student copies."""
    out = tmp_path_factory.mktemp("students")
    teach.student_copies(PATHS, out)
    return out


@pytest.mark.parametrize("student", [False, True], ids=["notebook", "student copy"])
@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_right_answers_pass_and_wrong_ones_do_not(
    path: Path, student: bool, copies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "solutions.md").read_text(encoding="utf-8")
    section = text.split(f"## {path.stem}\n")[1].split("\n## ")[0]
    solutions = re.findall(r"```python\n(.*?)```", section, flags=re.S)
    found = exercises(copies / path.name if student else path)
    assert len(solutions) == len(found) == len(WRONG[path.stem]) == 3
    for exercise, solution, wrong in zip(found, solutions, WRONG[path.stem], strict=True):
        assert "OPEN" in printed(exercise, "", capsys)
        told = printed(exercise, solution, capsys)
        assert "PASS" in told and "OPEN" not in told and "NOT YET" not in told
        assert len(wrong) == 2
        for answer in wrong:
            assert "NOT YET" in printed(exercise, answer, capsys), answer


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_a_student_copy_has_no_outputs_and_no_solutions_and_runs_as_the_notebook_does(
    path: Path, copies: Path
) -> None:
    ours, theirs = (
        nbformat.read(path, as_version=4),
        nbformat.read(copies / path.name, as_version=4),
    )
    nbformat.validate(theirs)
    assert len(ours.cells) == len(theirs.cells)
    for a, b in zip(ours.cells, theirs.cells, strict=True):
        assert b.cell_type == "markdown" or (b.outputs == [] and b.execution_count is None)
        if a.source != b.source:
            assert "teach.exercise" in a.source or "docs/solutions.md" in a.source
        assert "docs/solutions.md" not in b.source
        for call in (
            n
            for n in (ast.walk(ast.parse(b.source)) if "teach.exercise(" in b.source else [])
            if isinstance(n, ast.Call) and ast.unparse(n.func) == "teach.exercise"
        ):
            ast.literal_eval(call.args[3])


def test_copies_can_open_in_colab_and_binder_and_overwrite_no_work(tmp_path: Path) -> None:
    first = teach.student_copies(PATHS[:1], tmp_path, "someone/mmlib")[0]
    badges = nbformat.read(first, as_version=4).cells[0].source
    assert (
        f"github/someone/mmlib/blob/main/notebooks/{first.name}" in badges
        and "mybinder.org" in badges
    )
    prose = "".join(c.source for c in cells(first, "markdown"))
    assert "](../docs/" not in prose
    assert "](https://github.com/someone/mmlib/blob/main/docs/ledger.md#a1)" in prose
    teach.student_copies(PATHS[:1], tmp_path, "someone/mmlib")
    first.write_text(
        first.read_text(encoding="utf-8").replace("...", "return 1", 1), encoding="utf-8"
    )
    before = first.read_bytes()
    with pytest.raises(InputError, match="someone may have worked in it"):
        teach.student_copies(PATHS, tmp_path, "someone/mmlib")
    assert first.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match="OWNER/NAME"):
        teach.student_copies(PATHS[:1], tmp_path / "other", "mmlib")


def test_a_wrong_answer_does_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    teach.exercise("x", lambda a: a + 1, (1,), lambda a: a)
    assert capsys.readouterr().out.startswith("NOT YET")
    teach.exercise("x", lambda a: 1 / 0, (1,), lambda a: a)
    assert capsys.readouterr().out.startswith("NOT YET")
