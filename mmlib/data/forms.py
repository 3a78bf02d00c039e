"""The form of tables that come out of JSON and TOML files: which keys, and what kind of value under each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Form = Callable[[Any], bool]


def text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def whole(value: Any) -> bool:
    """A whole number, true and false left out."""
    return type(value) is int


def number(value: Any) -> bool:
    """A finite number, true and false left out."""
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more digits than a float holds
        return False


def flag(value: Any) -> bool:
    """True or false."""
    return type(value) is bool


def table(value: Any) -> bool:
    """A table of any content, its keys strings."""
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def listed(form: Form) -> Form:
    """A list whose members all have a form."""
    return lambda value: isinstance(value, list) and all(map(form, value))


def named(form: Form) -> Form:
    """A table whose values all have a form."""
    return lambda value: table(value) and all(map(form, value.values()))


def optional(form: Form) -> Form:
    """A form, or nothing (``null``)."""
    return lambda value: value is None or form(value)


def check_form(
    where: str, content: Any, needed: Mapping[str, Form], allowed: Mapping[str, Form]
) -> None:
    """Hold a table to its form; keys that are neither needed nor allowed play no part.

    Raises:
        ValueError: no table, a needed key that lacks, or a value of another kind; the text names the place.
    """
    if not table(content):
        raise ValueError(f"{where} is a {type(content).__name__}, not a table")
    lacking = [key for key in needed if key not in content]
    if lacking:
        raise ValueError(f"{where} lacks {lacking[0]!r}")
    for key, form in {**needed, **allowed}.items():
        if key in content and not form(content[key]):
            raise ValueError(f"{where} has {str(content[key])[:60]!r} under {key!r}")
