"""Exercises of the notebook on DREAM."""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np

from mmlib.exercises import Exercise, Mistake


def _set_and_count(draw: np.random.Generator) -> tuple[Any, ...]:
    """How many modalities come before one, and how many there are."""
    count = int(draw.integers(3, 7))
    return int(draw.integers(0, count - 1)), count


def _agreeing(draw: np.random.Generator) -> tuple[Any, ...]:
    """How many modalities agree."""
    return (int(draw.integers(2, 7)),)


def _precision(draw: np.random.Generator) -> tuple[Any, ...]:
    """A standard deviation, and the standard error that is wanted."""
    return float(draw.uniform(0.2, 0.6)), float(draw.uniform(0.01, 0.05))


EXERCISES = {
    "step weight": Exercise(
        inputs=_set_and_count,
        solution=lambda size, count: (
            factorial(size) * factorial(count - size - 1) / factorial(count)
        ),
        mistakes=(
            Mistake(
                lambda size, count: 1 / 2 ** (count - 1),
                "Not all sets are equally likely: each order of all modalities is.",
            ),
            Mistake(
                lambda size, count: 1 / count,
                "This is the chance that so many come before. How many sets of that size are there?",
            ),
        ),
    ),
    "agreeing": Exercise(
        inputs=_agreeing,
        solution=lambda count: 1 / count,
        mistakes=(
            Mistake(
                lambda count: 1.0,
                "The prediction changes once in each order. Whose turn is it then?",
            ),
            Mistake(
                lambda count: 1 / 2,
                "This is right for two modalities. In how many orders does a given one come first?",
            ),
        ),
    ),
    "orders needed": Exercise(
        inputs=_precision,
        solution=lambda s, e: (s / e) ** 2,
        mistakes=(
            Mistake(
                lambda s, e: s / e,
                "The standard error falls with the square root of the number of orders.",
            ),
            Mistake(lambda s, e: (e / s) ** 2, "A smaller error needs more orders, not fewer."),
        ),
        tolerance=1e-3,
    ),
}
