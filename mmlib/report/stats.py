"""Statistics of a few seeds: intervals, paired comparisons with a verdict, prediction intervals.

Values are percentage points, or whatever unit the metric has. Every interval over seeds is a t-interval; there is
no bootstrap over seeds, whose coverage at n = 5 is far below its nominal level. ``scipy.stats`` does the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
import pandas as pd
import scipy  # its parts are imported when they are used: scipy.stats takes a second

from mmlib.errors import InputError

Verdict = Literal["better", "worse", "equivalent", "undecided", "too few seeds"]
VERDICTS = get_args(Verdict)
DECIDABLE = VERDICTS[:-1]  # of enough seeds
DECIDED = ("better", "worse", "equivalent")  # those that say something
TOO_FEW: Verdict = "too few seeds"
Values = Sequence[float] | np.ndarray | pd.Series
MARGIN = 1.0  # points of accuracy or F1 that do not matter; printed gains are 1 to 3
FEWEST = 5  # seeds that have an interval: of two or three it is hundreds of points wide
POWER = 0.8


@dataclass(frozen=True)
class Summary:
    """The runs of one method."""

    mean: float
    """Over the runs."""

    sd: float
    """Sample standard deviation (ddof 1); nan with one run."""

    n: int
    """How many runs there are."""

    low: float
    """Lower end of the t-interval of the mean; nan with fewer than ``FEWEST`` runs."""

    high: float
    """Upper end of it; nan with fewer than ``FEWEST`` runs."""

    values: tuple[float, ...]
    """Of every run."""


@dataclass(frozen=True)
class Comparison:
    """A paired comparison: a minus b, in the unit of the values."""

    difference: float
    """The mean difference."""

    low: float
    """Lower end of the interval of the mean difference (95 %, or simultaneous)."""

    high: float
    """Upper end of it."""

    low90: float
    """Lower end of the interval that decides equivalence."""

    high90: float
    """Upper end of it."""

    n: int
    """How many pairs there are."""

    sd: float
    """Of the differences."""

    verdict: Verdict
    """What ``paired`` says of a against b."""

    detectable: float
    """The smallest true difference that this many seeds would have shown in four of five repetitions, were the sd the
    true one."""

    def __str__(self) -> str:
        """The difference with its interval, as tables show it; alone where seeds are too few for one."""
        if np.isnan(self.low):
            return f"{self.difference:+.2f}"
        return f"{self.difference:+.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Interval:
    """A difference over test examples with its interval."""

    difference: float
    """Of the mean scores."""

    low: float
    """Lower end of the interval; nan with one cluster."""

    high: float
    """Upper end of it; nan with one cluster."""

    n: int
    """How many examples there are."""

    clusters: int
    """In how many clusters they are."""


def summarise(values: Values, level: float = 0.95) -> Summary:
    """Mean, sd, n and the t-interval of the mean.

    Raises:
        InputError: no values, values that are not finite, or a level outside (0, 1).
    """
    array = _finite("summary", values)
    mean, sd, n = float(array.mean()), _sd(array), len(array)
    half = _quantile(_level(level), n) * sd / math.sqrt(n) if n >= FEWEST else math.nan
    return Summary(mean, sd, n, mean - half, mean + half, tuple(float(v) for v in array))


def paired(
    a: Values, b: Values, margin: float = MARGIN, level: float = 0.95, comparisons: int = 1
) -> Comparison:
    """Compare two methods, paired by seed: larger is better (negate errors such as MAE).

    a, b: values in the same order of seeds, or two Series whose index is the seed; of these, the seeds that both
        have are compared.
    margin: differences up to this size do not matter; fixed before looking.
    comparisons: how many comparisons are read together; above 1 the intervals are simultaneous (Bonferroni).

    The verdict, from ``FEWEST`` seeds on: ``better`` where the interval lies above 0, ``worse`` below 0; else
    ``equivalent`` where the 90 % interval lies within the margin; else ``undecided``. Better and worse come first, so a
    real difference smaller than the margin is called better, and its size is read from the interval. Differences
    without any spread give an interval without width, which on a coarse metric says little: ``undecided``, unless all
    are 0, which is ``equivalent``.

    Raises:
        InputError: values that do not pair, are not finite or are none; a margin or count out of range.
    """
    if margin < 0 or comparisons < 1:
        raise InputError(
            "comparison",
            f"margin {margin}, {comparisons} comparisons",
            "a margin of 0 or more, 1 comparison or more",
            "Correct the call.",
        )
    alpha = (1 - _level(level)) / comparisons
    return compared(_differences(a, b), alpha, 2 * alpha, margin)


def compared(differences: np.ndarray, wide: float, narrow: float, margin: float) -> Comparison:
    """Differences, one per seed, against 0.

    wide, narrow: the probability that the interval, and that of equivalence, leave the true difference out.
    """
    outer, inner = summarise(differences, 1 - wide), summarise(differences, 1 - narrow)
    n, sd = outer.n, outer.sd
    detectable = _detectable(n, wide) * sd if n >= FEWEST else math.nan
    verdict = _verdict(differences, outer, inner, margin)
    return Comparison(
        outer.mean, outer.low, outer.high, inner.low, inner.high, n, sd, verdict, detectable
    )


def prediction_interval(
    values: Values, of_mean: int = 1, level: float = 0.95
) -> tuple[float, float]:
    """Where one further run, or the mean of ``of_mean`` further runs, would fall; nan with fewer than ``FEWEST``.

    mean +- t sd sqrt(1/n + 1/of_mean), the runs taken as normal with the same mean and sd.
    """
    if of_mean < 1:
        raise InputError(
            "prediction interval", f"a mean of {of_mean} runs", "1 or more", "Correct of_mean."
        )
    here = summarise(values, level)
    if here.n < FEWEST:
        return math.nan, math.nan
    half = _quantile(level, here.n) * here.sd * math.sqrt(1 / here.n + 1 / of_mean)
    return here.mean - half, here.mean + half


def inside(published: float, values: Values, of_mean: int = 1, level: float = 0.95) -> bool | None:
    """Whether a published number is one that our runs would predict; None where no interval can be had."""
    low, high = prediction_interval(values, of_mean, level)
    if math.isnan(low) or math.isnan(published):
        return None
    return low <= published <= high


def cluster_bootstrap(
    a_correct: Values,
    b_correct: Values,
    clusters: Sequence[object] | np.ndarray,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Difference of two mean scores over test examples, with an interval that resamples whole dialogues.

    a_correct, b_correct: (n,) per-example scores of two methods, such as 0 and 1, or means over seeds.
    clusters: (n,) the dialogue of each example.
    The interval is the percentile interval at a level widened for few clusters: the tail is that of
    -t(G - 1) sqrt(G / (G - 1)) under the normal law (Hesterberg 2015, expanded percentile interval).
    With one cluster the ends are nan.
    """
    a, b = _finite("bootstrap", a_correct), _finite("bootstrap", b_correct)
    if not len(a) == len(b) == len(clusters):
        raise InputError(
            "bootstrap",
            f"{len(a)}, {len(b)} scores and {len(clusters)} clusters",
            "equal lengths",
            "Give one score of each method and one cluster per example.",
        )
    codes, names = pd.factorize(np.asarray(clusters), sort=True)
    count = len(names)
    total, size = np.bincount(codes, a - b), np.bincount(codes)
    difference = float(total.sum() / len(a))
    if count < 2:
        return Interval(difference, math.nan, math.nan, len(a), count)
    generator = np.random.default_rng(seed)
    times = generator.multinomial(count, np.full(count, 1 / count), size=draws)
    picks = times.astype(float)  # (draws, G)
    means = (picks @ total) / (picks @ size)
    tail = float(
        scipy.stats.norm.cdf(-_quantile(_level(level), count) * math.sqrt(count / (count - 1)))
    )
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(difference, float(low), float(high), len(a), count)


def average_folds(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the folds within each seed, so that an interval sees one value per seed.

    frame: long results with the columns ``fold`` and ``value``; all others but ``run_id`` and ``stale`` tell
        the groups apart. Lines without a fold pass unchanged. A group that lacks some of the frame's folds is left
        out, since the mean over other folds would be another quantity. In the result ``fold`` is missing,
        ``run_id`` names all runs, and ``stale`` is true where any was.
    """
    folded = frame["fold"].notna()
    if not folded.any():
        return frame
    keys = [c for c in frame.columns if c not in ("fold", "value", "run_id", "stale")]
    how = {"value": ("value", "mean"), "folds": ("fold", "nunique")}
    if "run_id" in frame:
        how["run_id"] = ("run_id", _joined)  # type: ignore[assignment]
    if "stale" in frame:
        how["stale"] = ("stale", "any")
    means = frame[folded].groupby(keys, dropna=False, sort=False).agg(**how).reset_index()
    means = means[means["folds"] == frame["fold"].nunique()].assign(fold=None)
    parts = [part[frame.columns] for part in (frame[~folded], means) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else frame.iloc[:0]


def _joined(ids: Iterable[object]) -> str:
    return " ".join(sorted(str(i) for i in ids))


def _verdict(differences: np.ndarray, wide: Summary, narrow: Summary, margin: float) -> Verdict:
    if wide.n < FEWEST:
        return TOO_FEW
    if wide.sd == 0:
        return "undecided" if differences.any() else "equivalent"
    if wide.low > 0:
        return "better"
    if wide.high < 0:
        return "worse"
    return "equivalent" if -margin <= narrow.low and narrow.high <= margin else "undecided"


def _differences(a: Values, b: Values) -> np.ndarray:
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        if not (a.index.is_unique and b.index.is_unique):
            raise InputError(
                "comparison", "a seed twice", "each seed once", "Average folds before comparing."
            )
        shared = a.index.intersection(b.index).sort_values()
        a, b = a.loc[shared], b.loc[shared]
    first, second = _finite("comparison", a), _finite("comparison", b)
    if len(first) != len(second):
        raise InputError(
            "comparison",
            f"{len(first)} and {len(second)} values",
            "pairs, one per seed",
            "Compare runs with the same seeds.",
        )
    differences: np.ndarray = np.round(first - second, 10)  # equal runs differ by rounding alone
    return differences


def _finite(where: str, values: Values) -> np.ndarray:
    array = np.asarray(values, dtype=float).reshape(-1)
    if not len(array) or not np.isfinite(array).all():
        raise InputError(
            where,
            "no values"
            if not len(array)
            else f"{int((~np.isfinite(array)).sum())} values that are not finite",
            "one finite value or more",
            "Leave failed runs out.",
        )
    return array


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(
            "interval", f"level {level}", "a level in (0, 1), such as 0.95", "Correct the level."
        )
    return level


def _sd(array: np.ndarray) -> float:
    if len(array) < 2:
        return math.nan
    if np.ptp(array) == 0:
        return 0.0  # std of equal values may be 1e-17
    return float(array.std(ddof=1))


@cache
def _quantile(level: float, n: int) -> float:
    return float(scipy.stats.t.ppf((1 + level) / 2, n - 1)) if n > 1 else math.nan


@cache
def _detectable(n: int, alpha: float) -> float:
    """The true difference, in sds, that is called better with probability ``POWER``."""
    critical = float(scipy.stats.t.ppf(1 - alpha / 2, n - 1))

    def lack(shift: float) -> float:
        return float(scipy.stats.nct.sf(critical, n - 1, shift)) - POWER

    top = critical + 1.0
    while lack(top) < 0:
        top *= 2
    return float(scipy.optimize.brentq(lack, 0.0, top)) / math.sqrt(n)
