"""Exercises of the notebook on EBMC."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlib.exercises import Exercise, Mistake


def _utterances(draw: np.random.Generator) -> tuple[Any, ...]:
    """The number of utterances in a batch."""
    return (int(draw.integers(4, 64)),)


def _energies(draw: np.random.Generator) -> tuple[Any, ...]:
    """The energies of three modalities, and a learning rate."""
    return draw.uniform(0, 6, 3), float(draw.uniform(0.01, 0.2))


def _pull(energies: np.ndarray, rate: float) -> np.ndarray:
    """Minus the rate times the gradient of the sum over pairs of the squared difference."""
    return np.asarray(-rate * 2 * (energies[:, None] - energies).sum(axis=1))


def _half_the_pull(energies: np.ndarray, rate: float) -> np.ndarray:
    return _pull(energies, rate) / 2


def _push(energies: np.ndarray, rate: float) -> np.ndarray:
    return -_pull(energies, rate)


def _accuracies(draw: np.random.Generator) -> tuple[Any, ...]:
    """What no modality, the first, the second and both achieve, in percent."""
    return tuple(float(value) for value in np.sort(draw.uniform(30, 90, 4)))


EXERCISES = {
    "flat": Exercise(
        inputs=_utterances,
        solution=lambda utterances: float(np.log(utterances)),
        mistakes=(
            Mistake(
                lambda utterances: 0.0,
                "Zero would mean that the partner is found for certain. Here all are equally alike.",
            ),
            Mistake(
                lambda utterances: float(np.log(utterances - 1)),
                "The partner itself is one of the candidates.",
            ),
        ),
    ),
    "moves": Exercise(
        inputs=_energies,
        solution=_pull,
        mistakes=(
            Mistake(_half_the_pull, "The derivative of a square has a factor of two."),
            Mistake(_push, "Gradient descent goes against the gradient."),
        ),
    ),
    "fair": Exercise(
        inputs=_accuracies,
        solution=lambda nobody, first, second, both: (first - nobody + both - second) / 2,
        mistakes=(
            Mistake(
                lambda nobody, first, second, both: first - nobody,
                "This is its value where it comes first. It comes second as often.",
            ),
            Mistake(
                lambda nobody, first, second, both: (both - nobody) / 2,
                "This gives both modalities the same, whatever each can do alone.",
            ),
        ),
    ),
}
