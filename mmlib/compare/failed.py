"""What is said of failed runs: which seeds of whom, why, and what becomes of them."""

from __future__ import annotations

from collections import defaultdict

import pandas as pd

from mmlib.compare.results import DIVERGED, Results
from mmlib.experiments import failures
from mmlib.report.artifact import FailedRun

TITLE = "Failed runs"
AGAIN = "The same command tries failed runs again, but for those that diverged: they would diverge again."
TEXT = (
    f"Who has a failed run takes no part until it is done; the seeds that it has are shown. {AGAIN}"
)


def table(made: Results) -> pd.DataFrame:
    """A line for each contender with failed runs and each reason: seeds, and what happens."""
    rows = []
    for name, runs in made.failures.items():
        of_reason: dict[tuple[str, str], list[FailedRun]] = defaultdict(list)
        for run, error in runs:
            of_reason[run.what, failures.reason(error)].append(run)
        rows += [
            {
                "contender": name,
                "seeds": ", ".join(dict.fromkeys(str(run.seed) for run in of)),
                "what": what,
                "reason": reason,
                "next": "stays out" if what == failures.what(DIVERGED) else "is tried again",
            }
            for (what, reason), of in of_reason.items()
        ]
    return pd.DataFrame(rows)


def lines(made: Results, asked: str) -> list[str]:
    """What the console says: a line for each run of the first seed that failed of a contender, and once each advice.

    asked: what the runs were made for.
    """
    told = []
    first = []
    for runs in made.failures.values():
        seeds = dict.fromkeys(run.seed for run, _ in runs)
        others = f"; {len(seeds) - 1} more seeds failed" if len(seeds) > 1 else ""
        of_first = [(run, error) for run, error in runs if run.seed == runs[0][0].seed]
        told += [failures.line(run, asked, error) + others for run, error in of_first]
        first += [run for run, _ in of_first]
    advice = list(dict.fromkeys(run.advice for run in first))
    again = any(run.what != failures.what(DIVERGED) for run in first)
    return [*told, *advice, *([AGAIN] if again else [])]
