"""Failures of single notebooks, tables and figures: one line, and a file with the traceback."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from mmlib import paths
from mmlib.errors import InputError

LONGEST_REASON = 240  # characters: a line or two of a terminal


@dataclass(frozen=True)
class Trouble:
    """One notebook, table or figure that failed."""

    collection: str
    """The collection that it is of."""

    paper: str
    """The paper's name."""

    what: str
    """The artifact's id or the notebook's file name."""

    reason: str
    """One line."""

    details: Path
    """The file with the traceback."""

    def __str__(self) -> str:
        return f"{self.paper} {self.what} on {self.collection}: {self.reason} (traceback: {shown(self.details)})"


def details_of(collection: str, paper: str, what: str) -> Path:
    """Where the traceback of a failed notebook, table or figure stands."""
    return paths.runs() / "troubles" / collection / paper / f"{what}.txt"


def reason_of(error: BaseException) -> str:
    """An error as one line: bad input in its own words, anything else with its type's name."""
    lines = str(error).split()
    words = " ".join(lines) or "no message"
    if not isinstance(error, InputError):
        words = f"{type(error).__name__}: {words}"
    return words if len(words) <= LONGEST_REASON else f"{words[:LONGEST_REASON]} ..."


def note(collection: str, paper: str, what: str, error: BaseException) -> Trouble:
    """Write an error's traceback to its file; a disk that takes no file loses the traceback, not the reason."""
    trouble = Trouble(
        collection, paper, what, reason_of(error), details_of(collection, paper, what)
    )
    text = "".join(traceback.format_exception(error))
    try:
        trouble.details.parent.mkdir(parents=True, exist_ok=True)
        trouble.details.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        print(text, file=sys.stderr)
    return trouble


def shown(path: Path) -> str:
    """A path as a reader in the current folder would type it."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)
