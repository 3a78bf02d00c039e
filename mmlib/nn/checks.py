"""Checks of a configuration's fields, each of which says what was found and what was expected."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from mmlib.errors import InputError, unknown_name


def check_counts(called: str, config: object, names: Sequence[str]) -> None:
    """Raise InputError where a field is not 1 or more."""
    for name in names:
        value = getattr(config, name)
        if value < 1:
            raise InputError(f"{called} {name}", str(value), "1 or more", "Raise it.")


def check_shares(called: str, config: object, names: Sequence[str] = ("dropout",)) -> None:
    """Raise InputError where a field is no share in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise InputError(f"{called} {name}", str(value), "a share in [0, 1)", "Correct it.")


def check_weights(called: str, config: object, names: Sequence[str]) -> None:
    """Raise InputError where a field is not finite and 0 or more."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < math.inf:
            raise InputError(f"{called} {name}", str(value), "0 or more", "Correct it.")


def check_choice(called: str, config: object, name: str, known: Collection[str]) -> None:
    """Raise InputError where a field is not among what is known."""
    value = getattr(config, name)
    if value not in known:
        raise unknown_name(f"{called} {name}", value, known)


def check_heads(called: str, width: int, heads: int) -> None:
    """Raise InputError where heads do not divide a width."""
    if heads < 1 or width % heads:
        raise InputError(
            f"{called} hidden", str(width), f"a multiple of {heads} heads", "Change one."
        )
