"""Which row stands a change of law between training and test, in words made of the matrix's numbers.

Two questions, both over all pairs of different laws. What does a change of law cost: the value of a row that was
trained under the law of the test minus its value trained under another? And what does it still reach under a law other
than that of its training? A row that learns nothing from the mask loses nothing, so the first alone says little.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mmlib.experiments.budgets import seeds_in_words
from mmlib.report import stats

COST, REACHED = "cost", "reached"


def by_seed(frame: pd.DataFrame, share: str) -> pd.DataFrame:
    """``cost`` and ``reached`` of each row and seed, in the unit of the column ``share``, of those with every pair.

    frame: columns row, training, setting (of the test), seed, and that column. Index (row, seed).
    """
    laws = sorted(set(frame["training"]))
    wide = frame.pivot_table(index=["row", "seed", "setting"], columns="training", values=share)
    lines = {}
    for place, of in wide.groupby(level=["row", "seed"]):
        square = of.droplevel(["row", "seed"]).reindex(index=laws, columns=laws)
        if len(laws) < 2 or square.isna().any(axis=None):
            continue
        own = pd.Series({law: square.loc[law, law] for law in laws})
        others = (square.sum(axis=1) - own) / (len(laws) - 1)
        lines[place] = {COST: (own - others).mean(), REACHED: others.mean()}
    index = pd.MultiIndex.from_tuples(list(lines), names=["row", "seed"])
    return pd.DataFrame(list(lines.values()), index=index, columns=[COST, REACHED])


def told(frame: pd.DataFrame, share: str, unit: str) -> tuple[str, ...]:
    """The finding in sentences; none where no two rows have all pairs of laws.

    frame, share: as in ``by_seed``. unit: of the column ``share``, in words. Rows of fewer seeds than an interval needs
    are named and take no part, where there are two or more with enough.
    """
    found = by_seed(frame, share)
    counts = found.groupby(level="row").size()
    enough = [row for row in counts.index if counts[row] >= stats.FEWEST]
    decided = len(enough) > 1
    kept = enough if decided else list(counts.index)
    if len(kept) < 2:
        return ()
    one = int(counts.max()) == 1
    parts = [
        f"What a change of law between training and test costs, over all pairs of different laws, in {unit}:",
        _least(found, kept, decided),
        _most(found, kept, decided),
        _intervals(len(kept))
        if decided
        else f"{seeds_in_words(counts)} decide{'s' * one} nothing.",
    ]
    few = [row for row in counts.index if row not in kept]
    if few:
        parts.append(f"Too few seeds ({seeds_in_words(counts[few])}): {', '.join(few)}.")
    return (" ".join(parts),)


def _intervals(rows: int) -> str:
    others = "the other" if rows == 2 else f"the {rows - 1} others"
    return f"Intervals are over seeds, 95 %; those of differences hold at once for the first against {others}."


def _least(found: pd.DataFrame, kept: list[str], decided: bool) -> str:
    """Which row loses least, and which most."""
    costs = _of(found, COST, kept)
    order = sorted(kept, key=lambda row: float(costs[row].mean()))
    first, last = order[0], order[-1]
    less = {row: -of for row, of in costs.items()}
    ahead = _ahead(less, order) if decided else ""
    return f"least for {first}, {_number(costs[first])}{ahead}; most for {last}, {_number(costs[last])}."


def _most(found: pd.DataFrame, kept: list[str], decided: bool) -> str:
    """Which row reaches most under another law than that of its training."""
    values = _of(found, REACHED, kept)
    order = sorted(kept, key=lambda row: -float(values[row].mean()))
    ahead = _ahead(values, order) if decided else ""
    return (
        f"Most is reached under another law than that of training by {order[0]}, "
        f"{_number(values[order[0]])}{ahead}."
    )


def _of(found: pd.DataFrame, column: str, kept: list[str]) -> dict[str, pd.Series]:
    """A column's values by row, over seeds."""
    names = found.index.get_level_values("row")
    return {row: found.loc[names == row, column].droplevel("row") for row in kept}


def _number(values: pd.Series) -> str:
    """The mean over seeds, with its 95 % interval where there are enough."""
    of = stats.summarise(values)
    ends = f" [{of.low:.1f}, {of.high:.1f}]" if of.n >= stats.FEWEST else ""
    return f"{of.mean:.1f}{ends}"


def _ahead(values: Mapping[str, pd.Series], order: list[str]) -> str:
    """The first against the next, and against how many of the others it is decided; larger is better."""
    first, others = order[0], order[1:]
    tests = {
        row: stats.paired(values[first], values[row], comparisons=len(others)) for row in others
    }
    behind = sum(test.verdict == "better" for test in tests.values())
    against = tests[others[0]]
    verdict = "decided" if against.verdict == "better" else against.verdict
    return (
        f" ({against} against {others[0]}, the next: {verdict}; "
        f"decided against {behind} of {len(others)})"
    )
