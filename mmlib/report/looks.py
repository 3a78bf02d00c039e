"""Verdicts on several claims, each looked at more than once while seeds come in.

Primary claims are looked at after 10, 20, 40 and 80 seeds. Each look has Pocock's level: the same at all of them, and
such that a true null hypothesis is rejected at any of them with the probability asked for. The smallest of these
probabilities at which a claim would have been rejected by now is its p value, adjusted for the looks; Holm's rule
shares the level among a paper's primary claims. All other claims are exploratory, and Benjamini and Hochberg's rule
bounds the share of false ones among those that are called decided.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
import scipy

from mmlib.report import stats
from mmlib.report.stats import FEWEST, Comparison

LOOKS = (10, 20, 40, 80)
LEVEL = 0.05
NODES = 200  # of the quadrature over a test's value, exact to more digits than are shown
Kind = Literal["primary", "exploratory"]


def reached(seeds: int, looks: Sequence[int] = LOOKS) -> tuple[int, ...]:
    """The looks that so many seeds are enough for."""
    return tuple(look for look in looks if look <= seeds)


@cache
def overall(level: float, looks: tuple[int, ...] = LOOKS) -> float:
    """The probability that a true null hypothesis is rejected at one of the looks, two-sided, at one level for each.

    The tests' values are a random walk, seen at its root mean squares: by quadrature from look to look over the values
    that reject nothing (Armitage, McPherson and Rowe 1969).
    """
    if level == 0:  # a p value that is smaller than any number
        return 0.0
    bound = float(scipy.stats.norm.isf(level / 2))
    x, weights = np.polynomial.legendre.leggauss(NODES)
    x, weights = bound * x, bound * weights
    density = scipy.stats.norm.pdf(x)
    for before, now in itertools.pairwise(looks):
        kept = before / now  # share of the seeds, and so of the variance, that was there before
        steps = scipy.stats.norm.pdf(x[None], np.sqrt(kept) * x[:, None], np.sqrt(1 - kept))
        density = (weights * density) @ steps
    return max(0.0, 1 - float(weights @ density))


@cache
def pocock(level: float, looks: tuple[int, ...] = LOOKS) -> float:
    """The level of each look that makes ``overall`` what is asked for: 0.016 of 0.05 for the four looks."""
    if len(looks) == 1:
        return level
    return float(
        scipy.optimize.brentq(lambda each: overall(each, looks) - level, level / 20, level)
    )


def primary(values: Sequence[np.ndarray], margin: Sequence[float]) -> list[Comparison | None]:
    """Each claim's values against 0, at the look that decides it or at the last one; None where there are none.

    values: one value per seed of every primary claim that was declared, empty where it was not run; above 0 supports
    it. margin: of each claim, 0 where it has none. Before the first look there is an interval and no verdict, and
    under ``FEWEST`` seeds neither. An interval has the level that Holm's rule gives to its claim, adjusted for the
    looks: it leaves 0 out exactly where the rule rejects.
    """
    values = [np.round(of, 10) for of in values]  # equal runs differ by rounding alone
    levels, rejected = _holm([_sequential(of) for of in values])
    return [
        _at_look(of, level, width, decided) if len(of) else None
        for of, width, level, decided in zip(values, margin, levels, rejected, strict=True)
    ]


def exploratory(values: Sequence[np.ndarray], margin: Sequence[float]) -> list[Comparison | None]:
    """Each claim's values against 0 by all its seeds; decided are those that the false discovery rate allows."""
    values = [np.round(of, 10) for of in values]
    chances = np.array([_chance(of) if len(of) >= FEWEST else np.nan for of in values])
    known = np.flatnonzero(np.isfinite(chances))
    rejected = np.zeros(len(values), dtype=bool)
    if len(known):
        adjusted = scipy.stats.false_discovery_control(chances[known])
        rejected[known] = adjusted <= LEVEL
    return [
        _judged(stats.compared(of, LEVEL, 2 * LEVEL, width), width, bool(decided))
        if len(of)
        else None
        for of, width, decided in zip(values, margin, rejected, strict=True)
    ]


def _chance(values: np.ndarray) -> float:
    """The two-sided p value of the t test against 0.

    Values that are all equal have no spread: 1 where they are 0, else the chance that all have one sign.
    """
    if np.ptp(values) == 0:
        return 1.0 if values[0] == 0 else 2.0 ** (1 - len(values))
    return float(scipy.stats.ttest_1samp(values, 0.0).pvalue)


def _sequential(values: np.ndarray) -> float:
    """The smallest overall level at which one of the looks until now would have rejected; 1 before the first."""
    return min(
        (overall(_chance(values[:look])) for look in reached(len(values))),
        default=1.0,
    )


def _at_look(values: np.ndarray, level: float, margin: float, decided: bool) -> Comparison:
    """The comparison at the first look that rejects at an overall level, or at the last one that there is."""
    each, seen = pocock(level), reached(len(values))
    rejecting = [look for look in seen if _chance(values[:look]) <= each] if decided else []
    shown = rejecting[0] if rejecting else max(seen, default=len(values))
    used = values[:shown]
    made = stats.compared(used, each, pocock(2 * level), margin)
    if not seen and made.verdict != stats.TOO_FEW:
        return dataclasses.replace(made, verdict="undecided")
    return _judged(made, margin, decided)


def _judged(made: Comparison, margin: float, decided: bool) -> Comparison:
    """The comparison with the verdict that a rule over several claims allows."""
    if made.verdict == stats.TOO_FEW:
        return made
    if decided:
        return dataclasses.replace(made, verdict="better" if made.difference > 0 else "worse")
    if made.verdict in ("better", "worse"):
        inside = -margin <= made.low90 and made.high90 <= margin
        return dataclasses.replace(made, verdict="equivalent" if inside else "undecided")
    return made


def _holm(chances: Sequence[float]) -> tuple[list[float], list[bool]]:
    """Of every claim the level that it is held to, and whether it is rejected (Holm 1979).

    The smallest is held to the level over the number of claims, the next to that over one fewer, until one is not
    rejected; that one and all larger ones are held to its level.
    """
    levels, rejected = [0.0] * len(chances), [False] * len(chances)
    left, going = len(chances), True
    for place in np.argsort(chances, kind="stable"):
        level = LEVEL / left
        going = going and chances[place] <= level
        levels[place], rejected[place] = level, going
        left -= going
    return levels, rejected
