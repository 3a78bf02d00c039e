"""Small helpers of the notebooks: parameters, exercises, the hash that tells whether cells changed, student copies."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mmlib import files, parameters
from mmlib.errors import InputError, unknown_name

_SHELL = {"In", "Out", "get_ipython", "exit", "quit", "open"}


def only_known(namespace: Mapping[str, Any], known: Iterable[str]) -> None:
    """Hold a notebook's parameters to the known ones; call it in the cell after the parameters.

    Papermill only warns of a parameter that no cell has, and the run goes on without it; here it is an error.

    Raises:
        InputError: a name that is not a parameter, with the nearest one; or a value that it cannot have.
    """
    names = set(known)
    for name, value in namespace.items():
        if (
            name.startswith("_")
            or name in _SHELL | names
            or callable(value)
            or hasattr(value, "__spec__")
        ):
            continue
        raise unknown_name("notebook parameter", name, names)
    for name in sorted(names - set(namespace)):
        raise InputError(
            "notebook parameters",
            f"no {name}",
            ", ".join(sorted(names)),
            "Give it in the first cell.",
        )
    parameters.check({name: namespace[name] for name in names})


def cells_hash(notebook: Any) -> str:
    """Hash of a notebook's cells without outputs: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for cell in notebook.cells:
        digest.update(f"{cell.cell_type}\n{cell.source}\n\x00".encode())
    return digest.hexdigest()[:16]


def exercise(
    name: str,
    answer: Callable[..., Any],
    arguments: tuple[Any, ...],
    solution: Any,
    tolerance: float = 1e-6,
) -> None:
    """Check a reader's function on some arguments: prints ``PASS``, ``OPEN`` (it returns None) or ``NOT YET``.

    solution: the right function, or the right result, as student copies have it.

    Never raises, so that a notebook with open exercises runs to its end.
    """
    try:
        result = answer(*arguments)
    except Exception as error:  # a reader's code may fail in any way
        print(f"NOT YET {name}: {type(error).__name__}: {error}")
        return
    if result is None:
        print(f"OPEN {name}: the function returns nothing yet")
        return
    expected = np.asarray(solution(*arguments) if callable(solution) else solution, dtype=float)
    right = np.shape(result) == expected.shape and bool(
        np.allclose(np.asarray(result, float), expected, atol=tolerance)
    )
    print(f"PASS {name}" if right else f"NOT YET {name}: {result} for {arguments}")


EXERCISE, POINTER = "teach.exercise(", re.compile(r"\s*Solutions: `docs/solutions\.md`\.")
BADGES = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}) "
    "[![Open in Binder](https://mybinder.org/badge_logo.svg)]"
    "(https://mybinder.org/v2/gh/{repository}/main?labpath=notebooks/{name})"
)


def student_copies(notebooks: Iterable[Path], out: Path, repository: str = "") -> list[Path]:
    """Write notebooks for students: without outputs, without solutions; exercises know the right results alone.

    repository: OWNER/NAME on GitHub, which gives every copy badges that open it in Colab and Binder.

    Raises:
        InputError: a copy that is there already and differs, since a student may have worked in it; nothing is
            written then. A repository that is not OWNER/NAME; a folder that cannot be written.
    """
    import nbformat

    _check_folder(out)
    _check_repository(repository)
    texts = {
        out / path.name: nbformat.writes(
            _student_copy(nbformat.read(path, as_version=4), path.name, repository)
        )
        for path in notebooks
    }
    for path, text in texts.items():
        _refuse_other_copy(path, text)
    for path, text in texts.items():
        files.write(path, text.encode("utf-8"))
    return list(texts)


def _check_folder(out: Path) -> None:
    with files.explained(out):
        if out.exists() and not out.is_dir():
            raise InputError(
                "--out", f"{out}, a file", "a folder, or a name for a new one", "Choose another."
            )


def _check_repository(repository: str) -> None:
    if repository and not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(
            "--repository",
            repository,
            "OWNER/NAME",
            "Name the repository as its address on GitHub does.",
        )


def _refuse_other_copy(path: Path, text: str) -> None:
    """Refuse to write over a copy that is there and differs."""
    with files.explained(path):
        there = path.read_bytes() if path.exists() else None
    if there not in (None, text.encode("utf-8")):
        raise InputError(
            str(path),
            "another notebook",
            "none, or the same copy",
            "Choose another --out, or move what is there: someone may have worked in it.",
        )


def _student_copy(notebook: Any, name: str, repository: str) -> Any:
    from nbformat.v4 import new_markdown_cell

    imports = _imports(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = (
                _with_results(cell.source, imports) if EXERCISE in cell.source else cell.source
            )
        else:
            cell.source = POINTER.sub("", cell.source)
            if repository:  # a copy in Colab or Binder has no docs/ beside it
                address = f"https://github.com/{repository}/blob/main/docs/"
                cell.source = cell.source.replace("](../docs/", f"]({address}")
    if repository:
        notebook.cells.insert(
            0, new_markdown_cell(BADGES.format(repository=repository, name=name), id="badges")
        )
    notebook.metadata.pop("mmlib", None)
    return notebook


def _imports(sources: Iterable[str]) -> str:
    """All import statements of some cells, one below the other."""
    nodes = [
        node
        for source in sources
        for node in ast.parse(source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return "\n".join(dict.fromkeys(ast.unparse(node) for node in nodes))


def _with_results(source: str, imports: str) -> str:
    """An exercise's cell with the right results in the place of the functions that give them."""
    calls = _exercise_calls(source)
    results = _right_results(source, imports)
    lines = [line.encode("utf-8") for line in source.splitlines()]  # a syntax tree counts bytes
    # From the end, so that the lines above keep their numbers.
    for call, result in reversed(list(zip(calls, results, strict=True))):
        solution = call.args[3]
        assert solution.end_lineno and solution.end_col_offset
        before = lines[solution.lineno - 1][: solution.col_offset]
        after = lines[solution.end_lineno - 1][solution.end_col_offset :]
        lines[solution.lineno - 1 : solution.end_lineno] = [before + result.encode("utf-8") + after]
    return b"\n".join(lines).decode("utf-8")


def _exercise_calls(source: str) -> list[ast.Call]:
    """The calls of ``teach.exercise`` in a cell, from top to bottom."""
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == EXERCISE[:-1]
    ]
    return sorted(calls, key=lambda call: call.lineno)


def _right_results(source: str, imports: str) -> list[str]:
    """What each exercise of a cell should give, as text: run with an ``exercise`` that keeps the solution's results."""
    results: list[str] = []

    def keep(
        name: str,
        answer: Callable[..., Any],
        arguments: tuple[Any, ...],
        solution: Callable[..., Any],
        tolerance: float = 0.0,
    ) -> None:
        results.append(repr(np.asarray(solution(*arguments), dtype=float).tolist()))

    space: dict[str, Any] = {}
    exec(imports, space)  # the repository's own notebook, whose cells are run anyway
    space["teach"] = SimpleNamespace(exercise=keep)
    exec(source, space)
    return results
