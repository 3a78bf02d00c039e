"""The run of ``mmlib decide``: seeds for the primary claims until each is decided.

Every primary claim that is open gets the seeds of the next look, the one that lacks fewest runs first. A claim is
decided where it is supported, contradicted, or equivalent within its margin (``mmlib.report.looks``).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mmlib.errors import InputError
from mmlib.experiments import verdicts
from mmlib.experiments.budgets import seeds_in_words
from mmlib.experiments.claims import Claim
from mmlib.experiments.comparison import shown
from mmlib.experiments.context import Context
from mmlib.experiments.rows import with_parents
from mmlib.papers.catalog import CLAIMS
from mmlib.pipeline import job
from mmlib.report.looks import LOOKS
from mmlib.report.stats import DECIDED, Comparison
from mmlib.runs.spec import RunSpec
from mmlib.runs.sweep import estimate, sweep


@dataclass(frozen=True)
class Open:
    """A primary claim that is not decided, and the runs of the next look."""

    claim: Claim
    """The claim, with its runs of that look."""

    lacking: list[RunSpec]
    """Those that the store lacks."""


def decide(contexts: Sequence[Context], jobs: int | None, minutes: float | None = None) -> int:
    """Spend seeds, show where the claims stand after each look, draw their tables; 1 where runs failed or were left.

    minutes: about how long; without them until all are decided or have the last look's seeds.

    Raises:
        InputError: none of the papers has claims.
    """
    chosen = [context for context in contexts if context.paper in CLAIMS]
    if not chosen:
        raise InputError("decide", "a paper without claims", ", ".join(CLAIMS), "Choose another.")
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    code = 0
    print(f"{table(chosen).to_string(index=False)}\n", flush=True)
    for look in LOOKS:
        code = max(code, _look(chosen, look, jobs, end))
        if time.monotonic() >= end:
            break
    return max(code, job.report(chosen, ["claims"]))


def _look(contexts: Sequence[Context], look: int, jobs: int | None, end: float) -> int:
    """The runs of one look; 1 where some failed or were left."""
    code = 0
    waiting = [(context, one) for context in contexts for one in open_claims(context, look)]
    specs = list(dict.fromkeys(spec for _, one in waiting for spec in one.lacking))
    if not specs:
        return 0
    count = jobs or os.cpu_count() or 1
    store = contexts[0].store
    print(f"{seeds_in_words([look])}: {estimate(specs, store, jobs=count)} with {count} at a time.")
    for context, one in sorted(waiting, key=lambda pair: len(pair[1].lacking)):
        left = (end - time.monotonic()) / 60
        if left <= 0:
            return 1
        result = sweep(
            one.lacking,
            context.store,
            jobs=jobs,
            max_minutes=None if math.isinf(left) else left,
            title=f"{context.paper}, {seeds_in_words([look])}",
        )
        code = max(code, int(result.failed > 0 or result.left > 0))
    print(f"\n{table(contexts).to_string(index=False)}\n", flush=True)
    return code


def open_claims(context: Context, look: int) -> list[Open]:
    """The primary claims that are not decided and lack runs of a look, with these."""
    of = CLAIMS[context.paper]
    made = []
    for claim, test in zip(of.primary(context, look), of.standing(context), strict=True):
        if test is not None and test.verdict in DECIDED:
            continue
        wanted = with_parents(cell.spec for cell in claim.cells())
        lacking = [spec for spec in wanted if context.record(spec) is None]
        made += [Open(claim, lacking)] if lacking else []
    return made


def table(contexts: Sequence[Context]) -> pd.DataFrame:
    """Where the primary claims stand: paper, data, claim, test, seeds, difference with its interval, verdict."""
    lines = [
        _line(context, claim, test)
        for context in contexts
        for claim, test in zip(
            CLAIMS[context.paper].primary(context),
            CLAIMS[context.paper].standing(context),
            strict=True,
        )
    ]
    return pd.DataFrame(lines)


def _line(context: Context, claim: Claim, test: Comparison | None) -> dict[str, object]:
    known = {
        "paper": context.paper,
        "data": shown(context, claim.source.dataset),
        "claim": claim.text,
        "test (above 0 supports)": claim.test,
    }
    if test is None:
        return known | {"seeds": 0, "measured": "", "verdict": verdicts.NOT_RUN}
    return known | {
        "seeds": test.n,
        "measured": str(test),
        "verdict": verdicts.VERDICTS[test.verdict],
    }
