"""The notebooks: fit for reading, in step with their outputs, and their exercises solvable."""

from __future__ import annotations

import ast
import base64
import io
import re
import statistics
import struct
import tokenize
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from prose import typed_numbers

from mmlib import exercises, teach
from mmlib.cli import main
from mmlib.errors import InputError
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
        if o.output_type == "error" or (o.output_type == "stream" and o.name == "stderr")
    ]
    assert not errors


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_cells_are_few_and_short(path: Path) -> None:
    code = [c.source.splitlines() for c in cells(path, "code")]
    headings_and_formulas = re.compile(r"^#[^\n]*$|\$\$.*?\$\$|\$[^$\n]*\$", re.M | re.S)
    words = sum(
        len(headings_and_formulas.sub("", c.source).split()) for c in cells(path, "markdown")
    )
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


def typed(notebook: Any) -> list[str]:
    """Numbers that the author typed though no template holds them."""
    return [number for text in prose_of(notebook) for number in typed_numbers(text)]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_no_measured_number_is_typed_into_prose(path: Path) -> None:
    """Results come from code: prose may hold equation, section and ledger numbers, and small counts."""
    assert typed(nbformat.read(path, as_version=4)) == []


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
    assert typed(notebook) == [found]


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


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_the_obstacles_a_notebook_shows_are_those_that_its_paper_declares(path: Path) -> None:
    code = [c.source for c in cells(path, "code")]
    assert code.count("lesson.obstacles()") == 1
    prose = "\n".join(c.source for c in cells(path, "markdown"))
    assert "**Left out:**" not in prose and "**Guesses:**" not in prose


def test_unknown_and_lacking_parameters_are_errors() -> None:
    teach.only_known(
        {"profile": "quick", "seeds": 3, "_": 1, "In": [], "np": np}, ["profile", "seeds"]
    )
    with pytest.raises(InputError, match="Did you mean 'profile'"):
        teach.only_known({"profile": "quick", "seeds": 3, "profil": "smoke"}, ["profile", "seeds"])
    with pytest.raises(InputError, match="no seeds"):
        teach.only_known({"profile": "quick"}, ["profile", "seeds"])


def asked(path: Path) -> list[str]:
    """The names of a notebook's exercises."""
    code = "\n".join(c.source for c in cells(path, "code"))
    return re.findall(r'^teach\.exercise\("([^"]+)", \w+\)$', code, flags=re.M)


def solved(path: Path) -> list[Any]:
    """The functions of a notebook's section of the solutions."""
    text = (ROOT / "docs" / "solutions.md").read_text(encoding="utf-8")
    section = text.split(f"## {path.stem}\n")[1].split("\n## ")[0]
    spaces = []
    for source in re.findall(r"```python\n(.*?)```", section, flags=re.S):
        space: dict[str, Any] = {"np": np, "torch": torch}
        exec(source, space)
        spaces.append(next(v for k, v in space.items() if callable(v) and k == last_name(source)))
    return spaces


def last_name(source: str) -> str:
    """The function that a solution ends with."""
    return [n.name for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)][-1]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_every_exercise_passes_with_its_solution_and_is_open_in_the_notebook(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, solutions = asked(path), solved(path)
    assert len(names) == len(solutions) >= 3
    for name, solution in zip(names, solutions, strict=True):
        teach.exercise(name, solution)
        assert capsys.readouterr().out == f"PASS {name}\n"
        teach.exercise(name, lambda *arguments: None)
        assert capsys.readouterr().out.startswith(f"OPEN {name}")
    code = "\n".join(c.source for c in cells(path, "code"))
    assert len(re.findall(r"\n    \.\.\.\n", code)) == len(names)


@pytest.mark.parametrize("name", exercises.exercises())
def test_the_right_answer_passes_as_an_array_and_as_a_tensor(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    right = exercises.find(name).solution
    for form in (np.asarray, torch.as_tensor):
        teach.exercise(name, lambda *arguments, form=form: form(right(*arguments)))
        assert capsys.readouterr().out == f"PASS {name}\n"


@pytest.mark.parametrize("name", exercises.exercises())
def test_usual_mistakes_get_their_hints_and_constants_do_not_pass(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = exercises.find(name)
    assert len(known.mistakes) >= 2
    for mistake in known.mistakes:
        teach.exercise(name, mistake.answer)
        assert capsys.readouterr().out == f"NOT YET {name}: {mistake.hint}\n"
    first = known.solution(*known.inputs(np.random.default_rng(0)))
    for constant in (0.0, 1.0, 0.5, first, np.zeros_like(np.asarray(first, float))):
        teach.exercise(name, lambda *arguments, constant=constant: constant)
        assert capsys.readouterr().out.startswith(f"NOT YET {name}")


def test_answers_that_fail_or_have_another_shape_end_no_notebook(
    capsys: pytest.CaptureFixture[str],
) -> None:
    teach.exercise("merged", lambda weight, down, up: weight[0])
    assert "shape (4,), expected (4, 4)" in capsys.readouterr().out
    teach.exercise("merged", lambda: 1)
    assert capsys.readouterr().out.startswith("NOT YET merged: TypeError")
    teach.exercise("merged", lambda weight, down, up: "W")
    assert capsys.readouterr().out.startswith("NOT YET merged: ValueError")
    with pytest.raises(InputError, match="Did you mean 'merged'"):
        teach.exercise("merge", lambda: 1)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_a_student_copy_has_no_outputs_and_no_pointer_to_solutions(
    path: Path, tmp_path: Path
) -> None:
    (copy,) = teach.student_copies([path], tmp_path)
    ours, theirs = (nbformat.read(p, as_version=4) for p in (path, copy))
    nbformat.validate(theirs)
    for a, b in zip(ours.cells, theirs.cells, strict=True):
        assert b.cell_type == "markdown" or (b.outputs == [] and b.execution_count is None)
        assert a.source == b.source or "docs/solutions.md" in a.source
        assert "docs/solutions.md" not in b.source


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
    assert first.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, "start.md"]
    with pytest.raises(InputError, match="OWNER/NAME"):
        teach.student_copies(PATHS[:1], tmp_path / "other", "mmlib")


def test_a_course_has_a_start_page_and_its_solutions_apart(tmp_path: Path) -> None:
    course, teacher = tmp_path / "course", tmp_path / "teacher"
    out = ["teach", "--out", str(course), "--paper", "ebmc,balm", "--solutions", str(teacher)]
    assert main(out) == 0
    assert sorted(path.name for path in course.iterdir()) == [
        "01_balm.ipynb",
        "03_ebmc.ipynb",
        "start.md",
    ]
    page = (course / "start.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((.*?)\)", page) == ["01_balm.ipynb", "03_ebmc.ipynb"]
    for path in PATHS[0], PATHS[2]:
        asked_minutes = re.findall(
            r"\((\d+) min\)", "".join(c.source for c in cells(path, "markdown"))
        )
        assert f"{len(asked(path))} exercises, about {sum(map(int, asked_minutes))} minutes" in page
    assert re.search(r"What we found \(\d+ min\)", page)
    solved_text = (teacher / "solutions.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", solved_text, flags=re.M) == ["01_balm", "03_ebmc"]


def test_minutes_of_a_section_are_those_of_its_words_and_lines() -> None:
    lesson = [
        new_markdown_cell("# Title\n" + "word " * 900),
        new_markdown_cell("## 1. First\n" + "word " * 447),
        new_code_cell("a = 1\n" * 12),
        new_markdown_cell("## Second"),
        new_markdown_cell("word " * 300),
    ]
    assert teach.reading_minutes(lesson) == {"First": 5, "Second": 2}


SCREEN, WIDTH = 800, 145  # pixels; characters of a line of prose at 1,280 pixels


def lines_of(text: str, width: int = WIDTH) -> int:
    """About how many lines a text takes."""
    return sum(1 + len(line) // width for line in text.splitlines() if line.strip())


def markdown_height(text: str) -> float:
    """About how many pixels Markdown takes: tables, headings, formulas, prose; what is folded takes one line."""
    text = re.sub(r"<details>.*?</details>", "folded", text, flags=re.S)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    height = 20.0
    for part in filter(None, re.split(r"\n\s*\n", text)):
        if part.lstrip().startswith("|"):
            rows = [row for row in part.splitlines() if not row.startswith("|-")]
            height += sum(42 if "<br>" in row else 28 for row in rows) + 14
        elif part.startswith("#"):
            height += 48
        elif "$$" in part:
            height += 62
        else:
            height += 22 * lines_of(part) + 14
    return height


def output_height(output: Any) -> float:
    """About how many pixels an output of a cell takes."""
    data = output.get("data", {})
    if "image/png" in data:
        picture = base64.b64decode(data["image/png"])
        wide, high = struct.unpack(">II", picture[16:24])
        shown = output.metadata.get("image/png", {}).get("width", wide)
        return float(high * shown / wide + 8)
    if "text/markdown" in data:
        return markdown_height(data["text/markdown"])
    if "text/html" in data:
        return 28.0 * data["text/html"].count("<tr") + 24
    return 17.0 * lines_of(output.get("text", "") or data.get("text/plain", ""), 155) + 4


def page_height(notebook: Any) -> float:
    """About how many pixels high a notebook is at a width of 1,280, within three hundredths of a browser's answer."""
    height = 0.0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            height += markdown_height(cell.source)
        else:
            height += 17 * (cell.source.count("\n") + 1) + 21
            height += sum(output_height(output) for output in cell.outputs)
    return 0.95 * height


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_a_notebook_has_at_most_fifteen_screens_and_400_kb(path: Path) -> None:
    assert path.stat().st_size <= 400_000
    assert page_height(nbformat.read(path, as_version=4)) <= 15 * SCREEN


def test_the_readme_has_at_most_two_screens() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    wide, high = struct.unpack(">II", (ROOT / "figures" / "glance.png").read_bytes()[16:24])
    shown = int(re.findall(r'<img src="figures/glance.png" width="(\d+)"', text)[0])
    assert markdown_height(text) + high * shown / wide <= 2 * SCREEN


def test_a_long_table_and_a_tall_picture_make_a_page_longer() -> None:
    notebook = nbformat.read(PATHS[0], as_version=4)
    before = page_height(notebook)
    table = "| a |\n|---|\n" + "| 1 |\n" * 50
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + struct.pack(">II", 100, 900))
    data = [{"text/markdown": table}, {"image/png": picture.decode()}]
    outputs = [new_output("display_data", data=of) for of in data]
    notebook.cells.append(new_code_cell("show()", outputs=outputs))
    assert page_height(notebook) > before + 0.9 * (50 * 28 + 900)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_no_cell_reads_the_figures_of_data_that_it_names(path: Path) -> None:
    """On a reader's own data such a cell would show those of other data as its result."""
    code = "\n".join(c.source for c in cells(path, "code"))
    assert "figures()" not in code and not re.search(
        r"""["']figures["'] /|/ ["']figures["']""", code
    )
