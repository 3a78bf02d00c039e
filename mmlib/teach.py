"""Small helpers of the notebooks: parameters, exercises, the hash that tells whether cells changed, student copies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmlib import exercises, files, parameters
from mmlib.errors import InputError, unknown_name

TRIES = 3  # random inputs of an exercise
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


def exercise(name: str, answer: Callable[..., Any]) -> None:
    """Try a reader's function on three random inputs: prints ``PASS``, ``OPEN`` (it returns None) or ``NOT YET``.

    The answer may be a number, a NumPy array or a torch tensor. One that is wrong in a usual way gets a hint. Never
    raises for what a reader writes, so that a notebook with open exercises runs to its end.

    Raises:
        InputError: no exercise has this name.
    """
    known = exercises.find(name)
    inputs = [known.inputs(np.random.default_rng(number)) for number in range(TRIES)]
    try:
        given = [answer(*arguments) for arguments in inputs]
        if any(value is None for value in given):
            print(f"OPEN {name}: the function returns nothing yet")
            return
        results = [_as_array(value) for value in given]
    except Exception as error:  # a reader's code may fail in any way
        print(f"NOT YET {name}: {type(error).__name__}: {error}")
        return
    if _all_close(results, known.solution, inputs, known.tolerance):
        print(f"PASS {name}")
        return
    print(f"NOT YET {name}: {_hint(known, results, inputs)}")


def _as_array(value: Any) -> np.ndarray:
    """A reader's result as an array, whether it is a number, an array, a tensor or a tuple of such."""
    if isinstance(value, tuple | list):
        return np.asarray([_as_array(part) for part in value], dtype=float)
    return np.asarray(value.detach() if hasattr(value, "detach") else value, dtype=float)


def _all_close(
    results: Sequence[np.ndarray],
    function: Callable[..., Any],
    inputs: Sequence[tuple[Any, ...]],
    tolerance: float,
) -> bool:
    """Whether a function gives these results for these inputs."""
    expected = [np.asarray(function(*arguments), dtype=float) for arguments in inputs]
    return all(
        a.shape == b.shape and np.allclose(a, b, atol=tolerance, rtol=tolerance)
        for a, b in zip(results, expected, strict=True)
    )


def _hint(
    known: exercises.Exercise, results: Sequence[np.ndarray], inputs: Sequence[tuple[Any, ...]]
) -> str:
    """The hint of the mistake that gives the same results, or the first input with what came out."""
    for mistake in known.mistakes:
        if _all_close(results, mistake.answer, inputs, known.tolerance):
            return mistake.hint
    right = known.solution(*inputs[0])
    if np.shape(results[0]) != np.shape(right):
        return f"the result has the shape {np.shape(results[0])}, expected {np.shape(right)}"
    return f"{np.round(results[0], 4).tolist()} is not right for {_words(inputs[0])}"


def _words(arguments: tuple[Any, ...]) -> str:
    """Arguments as a reader sees them."""
    shown = (np.round(a, 3).tolist() if isinstance(a, np.ndarray | float) else a for a in arguments)
    return ", ".join(map(str, shown))


START = "start.md"
WORDS_A_MINUTE, LINES_A_MINUTE = 150, 6  # of somebody who learns
POINTER = re.compile(r"\s*Solutions: \[docs/solutions\.md\]\(\.\./docs/solutions\.md\)\.")
BADGES = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}) "
    "[![Open in Binder](https://mybinder.org/badge_logo.svg)]"
    "(https://mybinder.org/v2/gh/{repository}/main?labpath=notebooks/{name})"
)


def student_copies(notebooks: Iterable[Path], out: Path, repository: str = "") -> list[Path]:
    """Write notebooks for students, without outputs and without the pointer to the solutions, and a start page.

    repository: OWNER/NAME on GitHub, which gives every copy badges that open it in Colab and Binder.

    Raises:
        InputError: a notebook that is not there; a copy that is there already and differs, since a student may have
            worked in it; nothing is written then. A repository that is not OWNER/NAME; a folder that cannot be written.
    """
    import nbformat

    _check_folder(out)
    _check_repository(repository)
    notebooks = list(notebooks)
    _check_there(notebooks)
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
    files.write(out / START, start_page(sorted(texts)).encode("utf-8"))
    return list(texts)


def start_page(notebooks: Iterable[Path]) -> str:
    """The page that a course begins with: each lesson with its title, its sections and its exercises' minutes."""
    import nbformat

    parts = [
        "# Lessons\n\nThis page is made anew by `mmlib teach`. Begin with any lesson. Minutes are of reading, "
        f"{WORDS_A_MINUTE} words or {LINES_A_MINUTE} lines of code each; running a lesson takes longer at first.\n"
    ]
    for path in notebooks:
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        title = next(iter(re.findall(r"^# (.+)$", prose, flags=re.M)), path.stem)
        sections = [f"{name} ({minutes} min)" for name, minutes in reading_minutes(cells).items()]
        minutes = [int(number) for number in re.findall(r"\((\d+) min\)", prose)]
        parts.append(
            f"## [{title}]({path.name})\n\n{' · '.join(sections)}\n\n"
            f"{len(minutes)} exercises, about {sum(minutes)} minutes.\n"
        )
    return "\n".join(parts)


def reading_minutes(cells: Iterable[Any]) -> dict[str, int]:
    """Section to the minutes of reading it: so many words, and lines of code, a minute; exercises apart."""
    spent: dict[str, float] = {}
    section = ""
    for cell in cells:
        heading = re.search(r"^## (?:\d+\. )?(.+)$", cell.source, flags=re.M)
        if cell.cell_type == "markdown" and heading:
            section = heading[1]
        if not section:
            continue
        if cell.cell_type == "markdown":
            took = len(cell.source.split()) / WORDS_A_MINUTE
        else:
            took = len(cell.source.splitlines()) / LINES_A_MINUTE
        spent[section] = spent.get(section, 0.0) + took
    return {name: max(1, round(minutes)) for name, minutes in spent.items()}


def solutions(page: Path, notebooks: Iterable[Path], out: Path) -> str:
    """The solutions of some notebooks and no others, which are to be written into a folder of their own.

    page: docs/solutions.md.

    Raises:
        InputError: there is no such page, or the folder cannot be one.
    """
    _check_folder(out, "--solutions")
    if not page.is_file():
        raise InputError("--solutions", f"no {page}", "the repository's page", "Run in a checkout.")
    head, *sections = page.read_text(encoding="utf-8").split("\n## ")
    wanted = {path.stem for path in notebooks}
    kept = [section for section in sections if section.split("\n", 1)[0].strip() in wanted]
    return "\n## ".join([head, *kept])


def _check_folder(out: Path, option: str = "--out") -> None:
    """Refuse what is no folder and cannot become one."""
    with files.explained(out):
        taken = [place for place in (out, *out.parents) if place.exists() and not place.is_dir()]
    if taken:
        found = f"{out}, a file" if taken[0] == out else f"{out}, below the file {taken[0]}"
        raise InputError(option, found, "a folder, or a name for a new one", "Choose another.")


def _check_there(notebooks: Iterable[Path]) -> None:
    """Refuse a home that has not the notebooks to copy."""
    for path in notebooks:
        if not path.is_file():
            raise InputError(
                str(path),
                "no such notebook",
                "those of the repository",
                "Run in a checkout, or correct MMLIB_HOME.",
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

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
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
