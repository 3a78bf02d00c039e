"""Exercises of the notebook on MCULoRA."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlib.exercises import Exercise, Mistake


def _sizes(draw: np.random.Generator) -> tuple[Any, ...]:
    """The number of modalities, the width and the rank."""
    return int(draw.integers(2, 6)), int(draw.integers(64, 512)), int(draw.integers(2, 16))


def _matrices(draw: np.random.Generator) -> tuple[Any, ...]:
    """A map (d, d), and the two matrices of an adapter of full rank, also (d, d)."""
    return tuple(draw.normal(size=(3, 4, 4)))


def _gradients(draw: np.random.Generator) -> tuple[Any, ...]:
    """Two gradients and a learning rate."""
    return draw.normal(size=3), draw.normal(size=3), float(draw.uniform(0.01, 0.2))


def _merged(weight: np.ndarray, down: np.ndarray, up: np.ndarray) -> np.ndarray:
    return weight + up @ down


def _change(first: np.ndarray, second: np.ndarray, rate: float) -> float:
    return float(-rate * first @ second)


EXERCISES = {
    "adapter parameters": Exercise(
        inputs=_sizes,
        solution=lambda modalities, width, rank: 2**modalities * 2 * width * rank,
        mistakes=(
            Mistake(
                lambda modalities, width, rank: (2**modalities - 1) * 2 * width * rank,
                "These are the private adapters. Which one is left?",
            ),
            Mistake(
                lambda modalities, width, rank: 2**modalities * width * rank,
                "An adapter has two matrices.",
            ),
        ),
    ),
    "merged": Exercise(
        inputs=_matrices,
        solution=_merged,
        mistakes=(
            Mistake(
                lambda weight, down, up: weight + down @ up,
                "Which of the two matrices meets the features first?",
            ),
            Mistake(lambda weight, down, up: up @ down, "The shared branch also has W itself."),
        ),
    ),
    "change": Exercise(
        inputs=_gradients,
        solution=_change,
        mistakes=(
            Mistake(
                lambda first, second, rate: rate * first @ second,
                "The step goes against the first gradient.",
            ),
            Mistake(
                lambda first, second, rate: -rate * second @ second,
                "The step is taken for the first loss, not for the second.",
            ),
        ),
    ),
}
