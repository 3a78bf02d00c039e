"""Successive elimination: seeds are spent on the contenders that may still be the best.

After 5, 10, 20, 40 and 80 paired seeds every contender is compared with every other one that is still in. It is out
where another's lead over it is significant: a one-sided paired t test at ``LEVEL`` divided by the number of looks and
by the number of rivals at the start. So, whatever the others do, the truly best contender leaves with a probability of
at most ``LEVEL`` (Bonferroni, over looks and rivals). With several questions the rule holds for each question by
itself; a contender gets no more seeds once it is out in all of them. Those that lack the first look's seeds for want of
time wait, and count among the rivals, so that the rule holds when they join.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from mmlib.errors import InputError

LOOKS = (5, 10, 20, 40, 80)
LEVEL = 0.05


@dataclass(frozen=True)
class Standing:
    """Where one question stands after a look."""

    best: str
    """The contender with the highest mean over the seeds that all who are still in have."""

    open: tuple[str, ...]
    """Those that may still be the best, the highest mean first."""

    out: Mapping[str, tuple[int, str]]
    """Of the others, the seeds after which each left, and the contender whose lead over it was the most significant."""


def threshold(rivals: int, looks: Sequence[int] = LOOKS) -> float:
    """The level of one test, one-sided."""
    return LEVEL / (len(looks) * max(1, rivals))


def beaten(values: np.ndarray, rivals: int, looks: Sequence[int] = LOOKS) -> dict[int, int]:
    """The contenders that are out after a look, by column, each with the one that beats it most clearly.

    values: (seeds, contenders) of those that are still in; larger is better. A difference that is the same with every
    seed decides whatever its size, since more seeds would show it again.

    Raises:
        InputError: fewer than two seeds, or values that are not finite.
    """
    seeds = len(values)
    if seeds < 2 or not np.isfinite(values).all():
        raise InputError(
            "comparison",
            f"{seeds} seeds, {int((~np.isfinite(values)).sum())} values that are not finite",
            "two seeds or more and finite values",
            "Leave failed contenders out.",
        )
    leads = np.round(values[:, :, None] - values[:, None, :], 10)  # (seeds, i, j): i minus j
    means = leads.mean(axis=0)
    errors = leads.std(axis=0, ddof=1) / np.sqrt(seeds)
    constant = np.ptp(leads, axis=0) == 0
    t = np.zeros_like(means)
    np.divide(means, errors, out=t, where=~constant)
    t[constant & (means > 0)] = np.inf
    critical = stats.t.ppf(1 - threshold(rivals, looks), seeds - 1)
    winner = t.argmax(axis=0)
    return {int(j): int(winner[j]) for j in np.flatnonzero(t.max(axis=0) > critical)}


def standing(
    values: pd.DataFrame, looks: Sequence[int] = LOOKS, rivals: int | None = None
) -> Standing:
    """Replay the looks that all contenders have the seeds for.

    values: one row for each seed, in order; one column for each contender, NaN from the seed on at which it stopped.
    rivals: of each contender at the start; by default the other columns, more where some are still to come.
    Before all have the first look's seeds, all are open.
    """
    array, names = values.to_numpy(dtype=float), [str(name) for name in values.columns]
    still = np.arange(len(names))
    rivals = len(still) - 1 if rivals is None else rivals
    out: dict[str, tuple[int, str]] = {}
    seen = min(len(array), looks[0])
    for look in looks:
        part = array[:look, still]
        if len(part) < look or not np.isfinite(part).all():
            break
        seen = look
        lost = beaten(part, rivals, looks)
        out |= {names[still[j]]: (look, names[still[i]]) for j, i in lost.items()}
        still = np.delete(still, list(lost))
    shared = int(np.isfinite(array[:, still]).all(axis=1).cumprod().sum())  # begun looks count too
    means = values.iloc[: max(seen, shared), still].mean().to_numpy()  # of the seeds that there are
    order = tuple(names[still[place]] for place in np.argsort(-means, kind="stable"))
    return Standing(order[0] if order else "", order, out)
