"""Which runs of a comparison are made next: the cheapest first seeds, then seeds where they may decide.

Where minutes are given, a call goes through these steps, each within the time that is left by the expected cost of a
seed; what does not fit waits for the next call, and keeps the seeds that it has:

1. seeds that are damaged or failed in an earlier call, of those that have others, then first seeds: both the cheapest
   first, in at most half of the time;
2. the first look's seeds of the linear model, of the cheap ones of the better half by their first seeds, and of the
   best by their first seeds;
3. the other first seeds, and again the first look's seeds;
4. further seeds of those that wait, the best first;
5. the further looks of all that may still be the best.

Without a limit what is damaged or failed is made again, all get the first look's seeds, and then the further looks
follow. A run is tried once in a call.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import pandas as pd

from mmlib.compare.plan import Contender, Plan
from mmlib.compare.results import Results
from mmlib.experiments.rows import with_parents
from mmlib.runs.spec import RunSpec
from mmlib.runs.sweep import learned
from mmlib.runs.timing import Forecast

FOR_FIRST = 0.5  # of the time, at most, for first seeds before anyone gets a second
FOR_CHEAP = 0.5  # of the time for the first look, at most, for the cheap ones of the better half

Seconds = Mapping[str, float]
"""What one seed of each contender is expected to take, by name."""

Step = Callable[[Results, Seconds, float], list[RunSpec]]
"""From results, costs and the seconds of all workers that it may take to the runs to make next, in their order."""


def steps(plan: Plan, limited: bool) -> list[tuple[Step, float]]:
    """The steps of a call, in order, each with the share that it may take of the time that is left then.

    A step that finds nothing to do gives no runs.
    """
    looks: list[Step] = [next_look] * (len(plan.looks) - 1)
    others: list[Step] = [first_look, partial(first_seeds, least=1), first_look, further_seeds]
    if not limited:
        return [(step, 1.0) for step in (made_again, all_first_look, *looks)]
    first = [(made_again, FOR_FIRST), (first_seeds, FOR_FIRST)]
    return [*first, *((step, 1.0) for step in (*others, *looks))]


def seconds(made: Results) -> dict[str, float]:
    """What one seed of each contender takes, all folds and stages one after the other.

    The quickest of its own seeds where it has some, since a worker's first run also imports; else by the cost model.
    """
    forecast = learned(made.plan.context.store, 1)
    return {c.name: _seconds(made, c, forecast) for c in made.plan.contenders}


def _seconds(made: Results, contender: Contender, forecast: Forecast) -> float:
    plan, done = made.plan, made.specs.get(contender.name, [])
    folds = len(plan.context.folds(plan.ground.dataset))
    times = [_measured(plan, done[at : at + folds]) for at in range(0, len(done), folds)]
    known = [time for time in times if time is not None]
    if known:
        return min(known)
    expected = forecast.left([s.to_json() for s in with_parents(plan.specs(contender, [0]))])
    return math.sqrt(expected.low * expected.high)


def _measured(plan: Plan, of_seed: list[RunSpec]) -> float | None:
    """What the runs of a seed took with their stages; None where a sidecar does not say."""
    records = [plan.context.record(spec) for spec in with_parents(of_seed)]
    times = [plan.context.store.sidecar(r.id).get("seconds") for r in records if r is not None]
    known = [float(time) for time in times if time is not None]
    return sum(known) if len(known) == len(records) else None


def made_again(made: Results, costs: Seconds, left: float) -> list[RunSpec]:
    """Damaged seeds and those that failed in an earlier call, the cheapest first, as many as fit into the time.

    Of contenders that have another seed: the others wait for a first one in the order of all.
    """
    some = [c for c in made.plan.contenders if made.seeds(c.name)]
    lacking = [(c, seed) for c in some for seed in made.again.get(c.name, ())]
    lacking.sort(key=lambda of: costs[of[0].name])
    total = itertools.accumulate(costs[c.name] for c, _ in lacking)
    count = sum(spent <= left for spent in total)
    return _specs(made, ((c, [seed]) for c, seed in lacking[:count]))


def first_seeds(made: Results, costs: Seconds, left: float, least: int = 0) -> list[RunSpec]:
    """First seeds of those that have none, the cheapest first, as many as fit into the time.

    least: so many of them even where none fits, so that every call gets somewhere.
    """
    lacking = sorted(
        (c for c in made.waiting if not made.seeds(c.name)), key=lambda c: costs[c.name]
    )
    total = itertools.accumulate(costs[c.name] for c in lacking)
    count = sum(spent <= left for spent in total)
    return _specs(made, ((c, [0]) for c in lacking[: max(count, least)]))


def first_look(made: Results, costs: Seconds, left: float) -> list[RunSpec]:
    """The seeds up to the first look of those for whom there is time, whole contenders, the cheapest first."""
    look = made.plan.looks[0]
    kept = sorted(affordable(made, costs, left), key=lambda c: costs[c.name])
    return _specs(made, ((c, made.lacking(c.name, look)) for c in kept))


def affordable(made: Results, costs: Seconds, left: float) -> list[Contender]:
    """Of those that have a seed and lack the first look's, whose seeds fit into the time.

    The linear model always; then of the better half by first seed the cheapest, in half of the time; then the best by
    first seed, up to one for whom there is no time.
    """
    by_rank = ranked(made)
    lacking = {c.name: len(made.lacking(c.name, made.plan.looks[0])) for c in by_rank}
    kept = [c for c in by_rank if is_linear(c)]

    def add(order: Iterable[Contender], limit: float) -> None:
        for contender in order:
            seconds = sum(lacking[c.name] * costs[c.name] for c in [*kept, contender])
            if seconds > limit:
                return
            kept.append(contender)

    better = by_rank[: math.ceil(len(by_rank) / 2)]
    cheapest = sorted(better, key=lambda c: costs[c.name])
    add((c for c in cheapest if c not in kept), FOR_CHEAP * left)
    add((c for c in by_rank if c not in kept), left)
    return kept


def further_seeds(made: Results, costs: Seconds, left: float) -> list[RunSpec]:
    """As many seeds as fit of those that lack the first look's, the best so far first."""
    picked = []
    for contender in ranked(made):
        fits = int(left // max(costs[contender.name], 1e-3))
        more = made.lacking(contender.name, made.plan.looks[0])[:fits]
        left -= len(more) * costs[contender.name]
        picked.append((contender, more))
    return _specs(made, picked)


def ranked(made: Results) -> list[Contender]:
    """Those that have a seed and lack the first look's, by their mean rank over the questions; the linear model first.

    Ranks are by the first seed that each has.
    """
    means = pd.DataFrame({q.name: made.of(q).bfill().iloc[:1].mean() for q in made.plan.questions})
    ranks = means.rank(ascending=False).mean(axis=1)
    chosen = [c for c in made.waiting if made.seeds(c.name)]
    return sorted(chosen, key=lambda c: (not is_linear(c), ranks[c.name]))


def all_first_look(made: Results, costs: Seconds, left: float) -> list[RunSpec]:
    """The first look's seeds of everyone: seed after seed, and the cheapest first."""
    order = sorted(made.waiting, key=lambda c: costs[c.name])
    lacking = {c.name: made.lacking(c.name, made.plan.looks[0]) for c in order}
    seeds = range(made.plan.looks[0])
    return _specs(made, ((c, [s]) for s in seeds for c in order if s in lacking[c.name]))


def next_look(made: Results, costs: Seconds, left: float) -> list[RunSpec]:
    """The seeds up to the next look of those that may still be the best; seed after seed, and the cheapest first.

    None where each question has one such contender.
    """
    if all(len(s.open) == 1 for s in made.standings.values()):
        return []
    order = sorted(made.still_in, key=lambda c: costs[c.name])
    for look in made.plan.looks[1:]:
        of_each = [(c, made.lacking(c.name, look)) for c in order]
        lacking = [(c, s) for s in range(look) for c, seeds in of_each if s in seeds]
        if lacking:
            return _specs(made, ((c, [s]) for c, s in lacking))
    return []


def is_linear(contender: Contender) -> bool:
    """Whether a contender is the linear model, which all are compared with."""
    return contender.row.stages[-1].method == "linear"


def _specs(made: Results, picked: Iterable[tuple[Contender, Sequence[int]]]) -> list[RunSpec]:
    """The runs of contenders with some seeds, with the stages that they start from.

    Before them those that an older version of the code has made, so that a contender's seeds are of one version.
    """
    plan, fingerprint = made.plan, made.plan.bundle.fingerprint
    chosen = list(picked)
    older = [
        spec
        for name in dict.fromkeys(contender.name for contender, _ in chosen)
        for spec in made.specs.get(name, ())
        if made.run_id(spec) != spec.run_id(fingerprint)
    ]
    fresh = [spec for contender, seeds in chosen for spec in plan.specs(contender, seeds)]
    return with_parents([*older, *fresh])
