"""Numbers that stand typed in prose, where they should come from a record through a template.

What only names something is no such number: equations, tables, figures, sections and ledger rows, years, versions,
the minutes of an exercise, maths, code, and small counts without a unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SMALL = 12  # counts up to this may stand as digits: how many modalities, classes, settings
_NUMBER = r"(?<![\w.])(?<![A-Za-z]-)[+\-−±]?\d+(?:[.,]\d+)*(?:(?!\w|\.\d)|(?=(?:x|ms|s|MB|GB)\b))"
_LIST = r"\d+(?:\.\d+)*(?:-\w+)?(?:(?:\s*[-–/,;]\s*|\s+(?:and|to)\s+|,\s+and\s+)(?:Eqs?\.?\s+)?\d+(?:\.\d+)*)*"
_UNIT = (
    r"\s*(?:%|×|(?:per\s?cent|percentage|points?|times|x|fold|seconds?|minutes?|hours?|ms|s|MB|GB|nats?|epochs?"
    r"|seeds?|runs?)\b)"
)
_NAMED = "Eqs?|Tables?|Figs?|Figures?|Sections?|Appendix|Algorithm|Group|Python|Exercises?|Cells?"
_NAMES = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        (r"```.*?```|\$\$.*?\$\$|\$[^$\n]*\$|`[^`]*`|\]\([^)]*\)|<[^>\n]*>", re.S),
        (r"^#+\s+[\d.]+|^\*\*\d+\.", re.M),
        (r"\((?:about )?\d+ min\)", 0),
        (r"\b(?:19|20)\d\d\b", 0),
        (rf"\b(?:{_NAMED})\.?\s+{_LIST}", re.I),
    )
)


def numbers(text: str) -> list[str]:
    """Every number of a text that is not part of a name, as it stands there, its unit left out."""
    return re.findall(_NUMBER, text)


def typed_numbers(text: str, held: Iterable[str] = ()) -> list[str]:
    """The numbers of a prose text that look like results: with decimals or a unit, or larger than a small count.

    held: numbers, as text, that a record or template holds.
    """
    for names in _NAMES:
        text = names.sub(" ", text)
    known, found = set(held), []
    for match in re.finditer(_NUMBER, text):
        number, unit = match.group(), re.match(_UNIT, text[match.end() :])
        whole = re.fullmatch(r"\d+", number)
        if number not in known and (unit or not whole or int(number) > SMALL):
            found.append(number + (unit.group().rstrip() if unit else ""))
    return found
