"""The numbers that the papers print, as tidy tables, one CSV per printed table, or figure that states numbers.

Columns: ``table``, ``dataset``, ``setting``, ``row`` (method), ``condition``, ``metric``, ``value``,
``sd`` and ``note``. Accuracies, recalls and F1 scores are in percent. A setting is the missing rates as
``r_A/r_L/r_V``, one shared rate, or in ``dream``, ``ebmc`` and ``mculora`` the modalities seen at test as
``audio+text``, or ``average``; empty where all are.
Values are as printed, misprints included but for one misplaced point (``mculora`` table 2, noted there), and where
the paper prints a dash they are empty, or in ``mculora`` have no line (nor have four gains that our copy of the paper
does not show); a metric that starts with ``delta`` is a difference that the paper prints, kept so that its arithmetic
can be checked.

``stated.csv`` has the gains that the papers' texts state, each with the cells whose difference it is.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

import pandas as pd

from mmlib.errors import unknown_name

COLUMNS = ("table", "dataset", "setting", "row", "condition", "metric", "value", "sd", "note")
_NUMBERS = ("value", "sd")
_MODALITY_OF_LETTER = {"A": "audio", "L": "text", "T": "text", "V": "vision"}


def papers() -> list[str]:
    """The papers whose numbers are here."""
    return list(_listed())


def tables(paper: str) -> list[str]:
    """The tables of a paper that are here.

    Raises:
        InputError: no such paper.
    """
    if paper not in _listed():
        raise unknown_name("published paper", paper, papers())
    return list(_listed()[paper])


def published(paper: str, table: str) -> pd.DataFrame:
    """The printed numbers of one table, such as ``published("balm", "table1")``.

    Text columns hold empty strings where the table has no such axis; ``sd`` is NaN for single runs.

    Raises:
        InputError: no such paper or table.
    """
    if table not in tables(paper):
        raise unknown_name(f"published table of {paper}", table, tables(paper))
    return _read(paper, table).copy()


def stated(paper: str) -> pd.DataFrame:
    """The gains that a paper's text states, one line each.

    Columns: ``where`` (section), ``table``, ``dataset``, ``setting``, ``condition``, ``metric``, ``row``, ``other``
    (what the row is compared with: a row, several with ``|`` between for their mean, or ``group 1``),
    ``other_setting`` and ``other_table`` (where that stands in another) and ``stated``, as text with the decimals that
    are printed, or ``over 3``.

    Raises:
        InputError: no such paper.
    """
    if paper not in papers():
        raise unknown_name("published paper", paper, papers())
    with (_folder() / "stated.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    return frame[frame["paper"] == paper].drop(columns="paper").reset_index(drop=True)


def modalities(condition: str) -> tuple[str, ...]:
    """Canonical names of a printed modality subset: ``AL`` gives ``("audio", "text")``.

    Raises:
        InputError: a letter that stands for no modality.
    """
    for letter in condition:
        if letter not in _MODALITY_OF_LETTER:
            raise unknown_name("modality letter", letter, _MODALITY_OF_LETTER)
    return tuple(sorted(_MODALITY_OF_LETTER[letter] for letter in condition))


@cache
def _listed() -> dict[str, tuple[str, ...]]:
    """Paper to its tables, both sorted; papers without tables are left out."""
    folders = sorted((f for f in _folder().iterdir() if f.is_dir()), key=lambda f: f.name)
    listed = {folder.name: tuple(sorted(_csv_names(folder))) for folder in folders}
    return {name: tables for name, tables in listed.items() if tables}


@cache
def _read(paper: str, table: str) -> pd.DataFrame:
    types = {c: float if c in _NUMBERS else str for c in COLUMNS}
    with (_folder() / paper / f"{table}.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(
            file, dtype=types, na_values={c: [""] for c in _NUMBERS}, keep_default_na=False
        )
    return frame[list(COLUMNS)]


def _folder() -> Traversable:
    return resources.files(__name__)


def _csv_names(folder: Traversable) -> list[str]:
    return [f.name.removesuffix(".csv") for f in folder.iterdir() if f.name.endswith(".csv")]
