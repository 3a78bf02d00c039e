"""The notebooks' exercises: what they are tried with, the right answer, and a hint for each usual mistake.

They stand here and not in the notebooks, so that nobody reads the answer beside the question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from mmlib.errors import unknown_name

MODULES = ("balm", "dream", "ebmc", "mculora", "gmm_loss", "side_by_side", "training")


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that many give."""

    answer: Callable[..., Any]
    """What they write."""

    hint: str
    """What to think about; it does not give the answer away."""


@dataclass(frozen=True)
class Exercise:
    """A question to which the answer is a function."""

    inputs: Callable[[np.random.Generator], tuple[Any, ...]]
    """From a generator to arguments: numbers, text and arrays."""

    solution: Callable[..., Any]
    """The right function."""

    mistakes: tuple[Mistake, ...] = ()
    """The usual wrong ones."""

    tolerance: float = 1e-6
    """By how much an answer may differ."""


@cache
def exercises() -> dict[str, Exercise]:
    """All exercises by name."""
    modules = [import_module(f"{__name__}.{name}") for name in MODULES]
    return {name: exercise for module in modules for name, exercise in module.EXERCISES.items()}


def find(name: str) -> Exercise:
    """An exercise by name.

    Raises:
        InputError: there is none of this name.
    """
    known = exercises()
    if name not in known:
        raise unknown_name("exercise", name, known)
    return known[name]
