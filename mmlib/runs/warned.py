"""Warnings of libraries, counted by kind: a mixture that did not converge, a division by zero."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

LONGEST = 90  # characters of a message in a summary


def kinds(caught: Iterable[warnings.WarningMessage]) -> dict[str, int]:
    """Warnings by kind, where it was raised and the first line of what it said, each with its number."""
    return dict(Counter(_kind(warning) for warning in caught))


def _kind(warning: warnings.WarningMessage) -> str:
    words = " ".join(str(warning.message).split())
    words = words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."
    return f"{warning.category.__name__} in {Path(warning.filename).name}: {words}"


def together(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of several counts, the most frequent kind first."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total.most_common())


def counted(counts: Mapping[str, int], most: int = 3) -> str:
    """One sentence: how many warnings, and the most frequent kinds."""
    total = sum(counts.values())
    named: Sequence[str] = [f"{number} x {kind}" for kind, number in counts.items()]
    more = (
        [f"{total - sum(list(counts.values())[:most])} of other kinds"] if len(named) > most else []
    )
    return f"{total} warning{'s' * (total != 1)}: " + "; ".join([*named[:most], *more])
