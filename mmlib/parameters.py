"""The parameters of the notebooks: what each may be, checked in the cell after the one that has them."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

from mmlib import options
from mmlib.errors import InputError, unknown_name
from mmlib.names import check_collection


def check(parameters: Mapping[str, Any]) -> None:
    """Hold the parameters that all notebooks share to their types and values; others pass.

    Raises:
        InputError: a wrong type, an unknown profile, an empty name in a list, a label that cannot name a folder, or a
            number of seeds that is none.
    """
    for name, hold in CHECKS.items():
        if name in parameters:
            hold(parameters[name])


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(
            f"notebook parameter {name}", f"{value!r:.80}", "text in quotes", "Correct it."
        )
    return value


def _profile(value: object) -> None:
    from mmlib.experiments.profiles import PROFILES

    if _text("profile", value) not in PROFILES:
        raise unknown_name("notebook parameter profile", value, PROFILES)


def _data(value: object) -> None:
    options.names("notebook parameter data", _text("data", value) or None)


def _rates(value: object) -> None:
    options.rates("notebook parameter own_rates", _text("own_rates", value) or None)


def _backbone(value: object) -> None:
    options.names("notebook parameter backbone", _text("backbone", value) or None)


def _label(value: object) -> None:
    if _text("label", value):
        check_collection("notebook parameter label", value, "Give a name that can name a folder.")


def _seeds(value: object) -> None:
    from mmlib.experiments.context import MOST_SEEDS

    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not 0 <= int(value) <= MOST_SEEDS:  # type: ignore[call-overload]
        raise InputError(
            "notebook parameter seeds",
            f"{value!r:.80}",
            f"a whole number from 1 to {MOST_SEEDS}, or 0 for the profile's",
            "Correct it.",
        )


CHECKS: dict[str, Callable[[object], None]] = {
    "profile": _profile,
    "data": _data,
    "backbone": _backbone,
    "label": _label,
    "seeds": _seeds,
    "own_rates": _rates,
}
