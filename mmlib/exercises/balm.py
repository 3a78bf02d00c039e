"""Exercises of the notebook on BALM."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlib.exercises import Exercise, Mistake


def _rates(draw: np.random.Generator) -> tuple[Any, ...]:
    """Missing rates of three modalities, and the number of one of them."""
    return draw.uniform(0.2, 0.9, 3), int(draw.integers(3))


def _realised(rates: np.ndarray, m: int) -> float:
    """What is missing less what is given back: everything missing, shared among the modalities."""
    return float(rates[m] - np.prod(rates) / len(rates))


def _progress(draw: np.random.Generator) -> tuple[Any, ...]:
    """The progress of three modalities."""
    return (draw.normal(0, 0.5, 3),)


def _coefficients(progress: np.ndarray) -> np.ndarray:
    """One minus a softmax: in [0, 1], their sum is two, the fastest modality has the smallest."""
    share = np.exp(progress - progress.max())
    return np.asarray(1 - share / share.sum())


def _softmax(progress: np.ndarray) -> np.ndarray:
    return 1 - _coefficients(progress)


def _optimizer(draw: np.random.Generator) -> tuple[Any, ...]:
    """The name of an optimizer, and by how much the gradient is scaled."""
    return ("adam", "sgd")[int(draw.integers(2))], float(draw.uniform(2, 5))


EXERCISES = {
    "realised rate": Exercise(
        inputs=_rates,
        solution=_realised,
        mistakes=(
            Mistake(
                lambda rates, m: rates[m],
                "This is the nominal rate. What happens to an utterance that would lose everything?",
            ),
            Mistake(
                lambda rates, m: rates[m] - np.prod(rates),
                "An utterance that would lose everything gets back one modality, not all of them.",
            ),
        ),
    ),
    "steady coefficients": Exercise(
        inputs=_progress,
        solution=_coefficients,
        mistakes=(
            Mistake(_softmax, "The modality that has progressed most should be slowed down most."),
            Mistake(
                lambda progress: 1 - progress,
                "Nothing bounds this: a large progress makes the coefficient negative.",
            ),
        ),
    ),
    "step ratio": Exercise(
        inputs=_optimizer,
        solution=lambda optimizer, scale: 1.0 if optimizer == "adam" else scale,
        mistakes=(
            Mistake(
                lambda optimizer, scale: scale,
                "This is true of plain gradient descent. What does Adam divide its step by?",
            ),
            Mistake(
                lambda optimizer, scale: 1.0,
                "This is true of Adam. Does plain gradient descent divide its step by anything?",
            ),
        ),
        tolerance=1e-4,
    ),
}
