"""A column of labels as people write it: numbers, or names of classes, and the slips that make one into the other.

A column is read only where every row is of one kind. Else the first row that differs is named, with what most rows are.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmlib.data.bundle_file import LONGEST
from mmlib.data.labels import looks_like_classes
from mmlib.errors import InputError

# Cyrillic and Greek letters to the Latin ones that they look like.
LATIN = str.maketrans(
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0406\u0408\u0405"
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bf",
    "ABEKMHOPCTYXIJSaeopcyxijsABEZHIKMNOPTYXo",
)
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
COMMA = re.compile(
    r"[-+−]?[0-9]*,[0-9]+|−[0-9.]+"
)  # decimal commas, and minus signs of a typesetter
MISSING = (
    "",
    "-",
    "--",
    "–",
    "—",
    "?",
    ".",
    "nan",
    "na",
    "n/a",
    "#n/a",
    "null",
    "none",
    "<na>",
    "nat",
)
KINDS = {
    "number": "numbers",
    "word": "words",
    "missing": "empty",
    "foreign number": "numbers with a decimal comma",
}
LARGEST = 1e30  # of a score; 32 bits end at 3e38
APART = 1e-3  # sds: scores further apart than this must stay so
NEVER_RIGHT = ("foreign number", "missing")
DO = {
    "missing": "Fill in the label, or take the row out of the table and of every .npy.",
    "foreign number": "Write numbers with a decimal point and a plain minus: -1.5.",
    "number": "Correct the label. If all are names of classes, list them in bundle.toml: classes = [...].",
    "word": "Correct the label. If all are names of classes, list them in bundle.toml: classes = [...].",
}


@dataclass(frozen=True)
class Column:
    """A column of labels as text, and the ids that name its rows in messages."""

    where: str
    """The file and the column, for messages."""

    ids: Sequence[str]
    """(n,) the id of each row."""

    cells: Sequence[str]
    """(n,) the label of each row, as it is written."""

    def refused(self, row: int, most: str, expected: str, do: str) -> InputError:
        """The error that names a row by its number, from 1, and its id."""
        cell = f"{self.cells[row]!r} in row {row + 1} (id {self.ids[row]!r}); {most}"
        return InputError(self.where, cell, expected, do)


def scores(column: Column, bounds: tuple[float, float] | None = None) -> np.ndarray:
    """(n,) float64: every cell a finite number, within the bounds where there are any.

    Raises:
        InputError: names the first row that is not.
    """
    kinds = [kind_of(cell) for cell in column.cells]
    count = kinds.count("number")
    for row, kind in enumerate(kinds):
        if kind != "number":
            most = f"{count} of {len(kinds)} rows are numbers"
            raise column.refused(row, most, "a number in every row", DO[kind])
    values = np.array([float(cell) for cell in column.cells])
    if np.abs(values).max(initial=0) > LARGEST:
        row = int(np.argmax(np.abs(values) > LARGEST))
        raise column.refused(
            row, "no score is so large", f"at most {LARGEST:g}", "Correct the label."
        )
    low, high = bounds or (-math.inf, math.inf)
    inside = (values >= low) & (values <= high)
    if not inside.all():
        most = f"{int(inside.sum())} of {len(values)} rows are in the range"
        raise column.refused(
            int(np.argmin(inside)),
            most,
            f"{low:g} to {high:g}",
            "Correct the label, or the range in bundle.toml.",
        )
    return values


def told_apart(column: Column, values: np.ndarray) -> None:
    """Refuse scores, less their neutral value, of which 32 bits make fewer different ones.

    Raises:
        InputError: names the first row whose score cannot be told from another one.
    """
    _, first, places = np.unique(values.astype(np.float32), return_index=True, return_inverse=True)
    moved = np.abs(values - values[first][places.reshape(-1)])
    wrong = np.flatnonzero(moved > APART * values.std())
    if len(wrong):
        other = column.cells[first[places[wrong[0]]]]
        raise column.refused(
            int(wrong[0]),
            f"in 32 bits it equals {other!r}",
            "scores that can be told apart",
            "Subtract what all have in common: give it as neutral in bundle.toml.",
        )


def classes(column: Column) -> list[str]:
    """The class of each row, blanks around it taken off, where no list of classes says which there are.

    Raises:
        InputError: names the first row that is empty or of another kind than most, or that differs from another class
            only by case, blanks, letters that look alike or the way a number is written.
    """
    one_kind(column)
    _check_names(column)
    keys = [_key(cell) for cell in column.cells]
    spellings: dict[str, Counter[str]] = {}
    for key, cell in zip(keys, column.cells, strict=True):
        spellings.setdefault(key, Counter())[cell] += 1
    for row, (key, cell) in enumerate(zip(keys, column.cells, strict=True)):
        usual, count = spellings[key].most_common(1)[0]
        if cell != usual:
            foreign = _foreign(cell) or _foreign(usual)
            raise column.refused(
                row,
                f"{count} of {len(keys)} rows are {usual!r}{f', which looks alike: {foreign}' if foreign else ''}",
                "one spelling of each class",
                "Write them alike. If they are different classes, list both in bundle.toml: "
                "classes = [...].",
            )
    return [cell.strip() for cell in column.cells]


def _check_names(column: Column) -> None:
    """Refuse names of classes that no table or picture can show."""
    for row, cell in enumerate(column.cells):
        text = cell.strip()
        if not in_one_line(text):
            raise InputError(
                column.where,
                f"{text[:40]!r}, {len(text):,} characters, in row {row + 1} (id {column.ids[row]!r})",
                f"names of classes in one line, at most {LONGEST} characters",
                "Correct the label.",
            )


def in_one_line(name: str) -> bool:
    """Whether a table or picture can show a name: no line break or other control character, and no whole text."""
    broken = any(unicodedata.category(mark) in ("Cc", "Zl", "Zp") for mark in name)
    return not broken and len(name) <= LONGEST


def listed(column: Column, names: Sequence[str]) -> np.ndarray:
    """(n,) the place of each row's class in a list of names, which may hold whatever a user means.

    Raises:
        InputError: names the first row whose label is not in the list.
    """
    places = {name: place for place, name in enumerate(names)}
    right = sum(cell in places for cell in column.cells)
    for row, cell in enumerate(column.cells):
        if cell not in places:
            close = [n for n in names if _key(n) == _key(cell)] or difflib.get_close_matches(
                cell, names, 1, 0.4
            )
            hint = (
                f"Did you mean {close[0]!r}?"
                if close
                else "Correct the label, or add it to classes in bundle.toml."
            )
            raise column.refused(
                row,
                f"{right} of {len(column.cells)} rows are in the list",
                "one of " + ", ".join(names),
                hint,
            )
    return np.array([places[cell] for cell in column.cells])


def one_kind(column: Column) -> str:
    """``number`` or ``word``: what all rows are.

    Raises:
        InputError: names the first row that is of another kind than most, or empty.
    """
    kinds = [kind_of(cell) for cell in column.cells]
    counts = Counter(kinds)
    usual, count = max(counts.items(), key=lambda item: item[1])
    if len(counts) == 1 and usual in ("number", "word"):
        return usual
    wrong = next(row for row, kind in enumerate(kinds) if len(counts) == 1 or kind != usual)
    if usual in NEVER_RIGHT:  # so that rows to change are named, not those that are right
        wrong = kinds.index(usual)
    raise column.refused(
        wrong,
        f"{count} of {len(kinds)} rows are {KINDS[usual]}",
        "numbers, or names of classes, in every row",
        _advice(column.cells[wrong].strip(), kinds[wrong], among_numbers="number" in kinds),
    )


def _advice(cell: str, kind: str, among_numbers: bool) -> str:
    """What to do about a cell; a word such as none may well name a class, but not among numbers."""
    if kind != "missing" or among_numbers or not cell.isalpha():
        return DO[kind]
    return (
        f"{cell!r} stands for an empty cell: {DO[kind][0].lower()}{DO[kind][1:]} If it names a class, list all in "
        f'bundle.toml: classes = ["{cell}", ...].'
    )


def ask_whether_classes(column: Column, values: np.ndarray) -> None:
    """Refuse numbers that nobody has called scores and that look like classes.

    Raises:
        InputError: whole numbers, none below 0, few different ones.
    """
    if (
        not looks_like_classes(values) or np.ptp(values) == 0
    ):  # a constant is refused whatever it is called
        return
    names = sorted({cell.strip() for cell in column.cells}, key=float)
    quoted = ", ".join(f'"{name}"' for name in names)
    raise InputError(
        column.where,
        f"whole numbers from {values.min():g} to {values.max():g}, {len(names)} different ones",
        "a word on what they are",
        f'These look like classes: write task = "classes" (and classes = [{quoted}]) in bundle.toml; or, if they are '
        'ratings, task = "score", and the rating that is neither good nor bad, such as neutral = 4 of 1 to 7.',
    )


def kind_of(cell: str) -> str:
    """``number`` (finite, with a point), ``foreign number``, ``missing`` or ``word``."""
    text = cell.strip()
    if NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return "number"
    if COMMA.fullmatch(text):
        return "foreign number"
    return "missing" if text.casefold() in MISSING else "word"


def _key(cell: str) -> str:
    """What two spellings of one class have in common."""
    if kind_of(cell) == "number":
        return repr(float(cell))
    seen = "".join(mark for mark in cell if unicodedata.category(mark) != "Cf")  # of no width
    return " ".join(unicodedata.normalize("NFKC", seen).translate(LATIN).casefold().split())


def _foreign(cell: str) -> str:
    """The letters of a cell that look like Latin ones, as a message names them; empty where there are none."""
    letters = dict.fromkeys(mark for mark in cell if ord(mark) in LATIN)
    return ", ".join(f"{mark!r} is {unicodedata.name(mark)}" for mark in letters)
