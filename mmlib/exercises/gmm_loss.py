"""Exercises of the notebook on GMM-loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlib.exercises import Exercise, Mistake

Pair = tuple[float, float]


def _classes(draw: np.random.Generator) -> tuple[Any, ...]:
    """The number of classes."""
    return (int(draw.integers(3, 30)),)


def _components(draw: np.random.Generator) -> tuple[Any, ...]:
    """The shares and the means of two components, and the variance that both have."""
    share = float(draw.uniform(0.55, 0.9))
    means = (float(draw.uniform(-0.2, 0.1)), float(draw.uniform(0.4, 0.9)))
    return (share, 1 - share), means, float(draw.uniform(0.01, 0.05))


def _crossing(shares: Pair, means: Pair, variance: float) -> float:
    """Where both weighted densities are equal."""
    shift = variance * np.log(shares[0] / shares[1]) / (means[1] - means[0])
    return float(sum(means) / 2 + shift)


def _shifted_back(shares: Pair, means: Pair, variance: float) -> float:
    return float(sum(means) - _crossing(shares, means, variance))


def _scores(draw: np.random.Generator) -> tuple[Any, ...]:
    """The probabilities that audio and vision give to the true class."""
    return float(draw.uniform(0.6, 0.95)), float(draw.uniform(0.05, 0.5))


EXERCISES = {
    "largest gap": Exercise(
        inputs=_classes,
        solution=lambda classes: 1 - 1 / classes,
        mistakes=(
            Mistake(lambda classes: 1 / classes, "This is the probability at chance."),
            Mistake(
                lambda classes: 1.0,
                "Vision at chance still gives the true class a probability above zero.",
            ),
        ),
    ),
    "crossing": Exercise(
        inputs=_components,
        solution=_crossing,
        mistakes=(
            Mistake(
                lambda shares, means, variance: sum(means) / 2,
                "This is right for equal shares. Towards which mean does a larger share move it?",
            ),
            Mistake(
                _shifted_back,
                "The larger component should win more of the line, not less.",
            ),
        ),
    ),
    "meeting point": Exercise(
        inputs=_scores,
        solution=lambda audio, vision: (audio + vision) / 2,
        mistakes=(
            Mistake(
                lambda audio, vision: 1.0,
                "The penalty knows nothing of the label: only the difference matters to it.",
            ),
            Mistake(max, "Both move, and by the same amount."),
        ),
    ),
}
