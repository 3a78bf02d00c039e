"""The exercise that ends every paper's notebook: train with several seeds, and read the interval of the difference."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmlib.exercises import Exercise, Mistake

SEEDS = 5


def _differences(draw: np.random.Generator) -> tuple[Any, ...]:
    """One difference per seed, in points."""
    return (draw.normal(1, 2, SEEDS),)


def _span(differences: np.ndarray, half: float) -> np.ndarray:
    """The two ends of an interval around the mean."""
    return np.asarray(differences.mean() + half * np.array([-1.0, 1.0]))


def _paired(differences: np.ndarray) -> np.ndarray:
    """The 95 % interval of the mean, by the t distribution: (2,)."""
    from scipy import stats

    quantile = stats.t.ppf(0.975, len(differences) - 1)
    return _span(differences, quantile * differences.std(ddof=1) / len(differences) ** 0.5)


def _normal(differences: np.ndarray) -> np.ndarray:
    return _span(differences, 1.96 * differences.std(ddof=1) / len(differences) ** 0.5)


def _of_the_population(differences: np.ndarray) -> np.ndarray:
    from scipy import stats

    quantile = stats.t.ppf(0.975, len(differences) - 1)
    return _span(differences, quantile * differences.std() / len(differences) ** 0.5)


def _of_one_run(differences: np.ndarray) -> np.ndarray:
    from scipy import stats

    return _span(differences, stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1))


EXERCISES = {
    "paired interval": Exercise(
        inputs=_differences,
        solution=_paired,
        mistakes=(
            Mistake(
                _normal,
                "With so few seeds the quantile is that of t with n - 1 degrees of freedom.",
            ),
            Mistake(
                _of_the_population,
                "The standard deviation of a sample divides by one less than its size.",
            ),
            Mistake(
                _of_one_run, "This is about one run; the mean of several varies less than one."
            ),
        ),
        tolerance=1e-3,
    ),
}
