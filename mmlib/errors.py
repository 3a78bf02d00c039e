"""The one exception for input that a user can correct."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

NAMED = 40  # of a list of names, in a message


class InputError(Exception):
    """Bad input: says what was found, what was expected and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """

    def __init__(self, where: str, found: str, expected: str, do: str) -> None:
        self.where, self.found, self.expected, self.do = where, found, expected, do
        super().__init__(f"{where}: found {found}; expected {expected}. {do}")

    def __reduce__(self) -> tuple[type, tuple[str, str, str, str]]:
        return type(self), (self.where, self.found, self.expected, self.do)


def unknown_name(where: str, name: object, known: Iterable[str]) -> InputError:
    """An error for a name that is not among the known ones, with the nearest one; of a long list its beginning."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}?" if near else "Choose one of the expected names."
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return InputError(where, repr(name), f"one of {', '.join(names[:NAMED])}{more}", hint)
