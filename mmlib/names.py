"""One rule for every name that becomes a file's or a folder's name, or part of one: checked where a name is read."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Sequence
from functools import cache

from mmlib.errors import InputError

LONGEST = 64  # characters, so that a name with what is added to it stays below the 255 bytes of file systems
RULE = (
    f"1 to {LONGEST} letters, digits, dots, dashes and underscores (ASCII), a letter or digit first, no two "
    "dots in a row, no dot last"
)
MODALITY_RULE = (
    f"1 to {LONGEST} letters, digits, dashes and underscores (ASCII), a letter or digit first"
)
# Those of the embedded data, which are no names of torch's: its import takes seconds.
KNOWN_MODALITIES = frozenset({"audio", "text", "vision"})
# Splits (train is torch's name already), and settings of tables, beside which modalities stand.
TAKEN_MODALITIES = frozenset({"valid", "test", "all", "average", "complete"})
EMPTY_CELLS = frozenset({"na", "nan", "none", "null"})  # what pandas reads from a table as nothing
SUFFIXES = ("_lengths", "_observed")  # of the arrays that belong to a modality
BESIDE_COLLECTIONS = frozenset(
    {"arithmetic.csv", "claims.csv", "glance.md", "glance.png", "index.html", "manifest.json"}
)  # files in figures/
TWINS = "twins"  # the collection of results on synthetic data
STUDY = "twins-study"  # that of results on the larger twins, which are for questions that take many runs
EMBEDDED = "embedded"  # that of results on all that comes with the repository: twins, and real data
REAL = ("mosi-unseen", "mosi-bclstm", "mmmo-standardised")
"""Real data whose results are committed; they cannot be embedded."""

LEAKY = frozenset({"mosi-bclstm"})
"""Of these, data whose training features have seen their labels."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9_-]))*")
_WINDOWS = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 80


def check_name(where: str, name: object, do: str, taken: Iterable[str] = ()) -> str:
    """The name, where it can name a file or folder on every system and stays inside the folder it is put into.

    where: what was read, such as ``--label``. do: what the message advises. taken: names that stand for something else.

    Raises:
        InputError: it is no text, empty, too long, has other characters than ``RULE`` says, or is taken.
    """
    if not isinstance(name, str) or len(name) > LONGEST or not _NAME.fullmatch(name):
        raise InputError(where, _SHOWN.repr(name), RULE, do)
    if _WINDOWS.fullmatch(name) or name.lower() in taken:
        raise InputError(where, f"{name!r}, which is reserved", "another name", do)
    return name


def check_collection(
    where: str, name: object, do: str = "Give --label a name that can name a folder."
) -> str:
    """The name of a results' folder under figures/.

    Raises:
        InputError: what ``check_name`` says, or the name of a file that stands there.
    """
    return check_name(where, name, do, BESIDE_COLLECTIONS)


def check_bundle_name(where: str, name: object, do: str = "Give another --name.") -> str:
    """The name of a bundle, which also names its results' folder.

    Raises:
        InputError: what ``check_collection`` says, or a name that is kept for embedded data.
    """
    return check_name(where, name, do, BESIDE_COLLECTIONS | {TWINS, STUDY, EMBEDDED})


def check_modality(where: str, name: object, do: str = "Rename the modality.") -> str:
    """The name of a modality: also a key of torch's ``ModuleDict``, a column, and joined to others by plus signs.

    Raises:
        InputError: what ``check_name`` says, a dot, a suffix of ``SUFFIXES``, a name that torch's containers or
            the tables use, or one that stands for an empty cell.
    """
    if not isinstance(name, str) or "." in name or len(name) > LONGEST or not _NAME.fullmatch(name):
        raise InputError(where, _SHOWN.repr(name), MODALITY_RULE, do)
    check_name(where, name, do)
    if name.endswith(SUFFIXES):
        raise InputError(
            where, repr(name), f"a name that does not end in {' or '.join(SUFFIXES)}", do
        )
    if name.lower() in TAKEN_MODALITIES:
        raise InputError(
            where,
            f"{name!r}, which stands for a split or a setting of the tables",
            "another name",
            do,
        )
    if name.lower() in EMPTY_CELLS:
        raise InputError(
            where,
            f"{name!r}, which programs read from a table as an empty cell",
            "another name",
            do,
        )
    if name not in KNOWN_MODALITIES and _is_torchs(name):
        raise InputError(
            where, f"{name!r}, which torch's modules use themselves", "another name", do
        )
    return name


def few(names: Sequence[object], most: int = 3) -> str:
    """A list in a sentence: the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


@cache
def _is_torchs(name: str) -> bool:
    """Whether networks cannot keep a layer under this name."""
    from torch import nn  # seconds to import, and needed for data alone

    return any(hasattr(container, name) for container in (nn.ModuleDict(), nn.ParameterDict()))
