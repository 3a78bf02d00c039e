"""Links of executed notebooks, which lie beside the runs and not in the folder that their cells are written for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmlib import files, paths

# Words in brackets, then a path that leaves the folder of notebooks by one step; a copy's own take more steps.
LINK = re.compile(r"\[((?:[^\[\]\\]|\\.)*)\]\(\.\./(?!\.\./)([^)\s#]*)(#[^)\s]*)?\)")
FIGURES = "figures"


def resolve(copy: Path) -> None:
    """Make an executed copy's links lead from where it lies to what they lead to from the folder of notebooks.

    Of a link to a file that is not there the words stay. Nothing is done where there is no copy.
    """
    import nbformat

    if not copy.is_file():
        return
    notebook = nbformat.read(copy, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = resolved(cell.source, copy.parent)
        for output in cell.get("outputs", []):
            _resolve_output(output, copy.parent)
    files.write(copy, f"{nbformat.writes(notebook)}\n".encode())


def _resolve_output(output: Any, folder: Path) -> None:
    data = output.get("data", {})
    if "text/markdown" in data:
        data["text/markdown"] = resolved(data["text/markdown"], folder)


def resolved(text: str, folder: Path) -> str:
    """Markdown of a notebook with its links as a file in another folder needs them."""
    return LINK.sub(lambda match: _link(match[1], match[2], match[3] or "", folder), text)


def _link(words: str, name: str, anchor: str, folder: Path) -> str:
    there = _target(name)
    if there is None:
        return words
    path = Path(os.path.relpath(there.resolve(), folder.resolve())).as_posix()
    return f"[{words}]({quote(path)}{anchor})"


def _target(name: str) -> Path | None:
    """What a link means: of figures those of this run, else the repository's; None where neither is there."""
    first, _, rest = name.partition("/")
    places = [paths.notebooks().parent / name]
    if first == FIGURES:
        places.insert(0, paths.figures() / rest)
    return next((place for place in places if place.exists()), None)
