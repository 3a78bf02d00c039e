"""Exercises of the notebook that compares the methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlib.exercises import Exercise, Mistake


def _scores(draw: np.random.Generator) -> tuple[Any, ...]:
    """Scores, (methods, cells)."""
    return (draw.uniform(40, 80, (3, 5)),)


def _mean_ranks(scores: np.ndarray) -> np.ndarray:
    """One plus how many methods have a higher score, averaged over cells: (methods,)."""
    above = scores[:, None, :] < scores[None, :, :]
    return np.asarray((1 + above.sum(axis=1)).mean(axis=1))


def _upside_down(scores: np.ndarray) -> np.ndarray:
    return _mean_ranks(-scores)


def _results(draw: np.random.Generator) -> tuple[Any, ...]:
    """The results of two methods over the same five seeds, and the quantile of t."""
    level = draw.normal(65, 3, 5)
    return level + draw.normal(1, 1, 5), level, 2.776


def _interval(ours: np.ndarray, own: np.ndarray, quantile: float) -> np.ndarray:
    """The two ends of the interval of the mean difference."""
    differences = ours - own
    half = quantile * differences.std(ddof=1) / len(differences) ** 0.5
    return np.array([differences.mean() - half, differences.mean() + half])


def _of_the_population(ours: np.ndarray, own: np.ndarray, quantile: float) -> np.ndarray:
    differences = ours - own
    half = quantile * differences.std() / len(differences) ** 0.5
    return np.array([differences.mean() - half, differences.mean() + half])


def _of_one_run(ours: np.ndarray, own: np.ndarray, quantile: float) -> np.ndarray:
    differences = ours - own
    half = quantile * differences.std(ddof=1)
    return np.array([differences.mean() - half, differences.mean() + half])


def _unpaired(ours: np.ndarray, own: np.ndarray, quantile: float) -> np.ndarray:
    half = quantile * ((ours.var(ddof=1) + own.var(ddof=1)) / len(ours)) ** 0.5
    middle = ours.mean() - own.mean()
    return np.array([middle - half, middle + half])


def _rates(draw: np.random.Generator) -> tuple[Any, ...]:
    """The missing rates of three modalities."""
    return (draw.uniform(0.2, 0.8, 3),)


EXERCISES = {
    "mean ranks": Exercise(
        inputs=_scores,
        solution=_mean_ranks,
        mistakes=(
            Mistake(
                lambda scores: scores.mean(axis=1),
                "These are mean scores. A rank counts how many methods are better.",
            ),
            Mistake(_upside_down, "The best method should have rank one."),
        ),
    ),
    "interval": Exercise(
        inputs=_results,
        solution=_interval,
        mistakes=(
            Mistake(
                _of_the_population,
                "The standard deviation of a sample divides by one less than its size.",
            ),
            Mistake(
                _of_one_run, "This is about one run; the mean of several varies less than one."
            ),
            Mistake(
                _unpaired,
                "Both methods have the same seeds: take the differences before anything else.",
            ),
        ),
    ),
    "nothing missing": Exercise(
        inputs=_rates,
        solution=lambda rates: np.prod(1 - rates) / (1 - np.prod(rates)),
        mistakes=(
            Mistake(
                lambda rates: np.prod(1 - rates),
                "Utterances of which everything would be missing are excluded.",
            ),
            Mistake(lambda rates: 1 - rates.mean(), "All modalities have to be there at once."),
        ),
    ),
}
