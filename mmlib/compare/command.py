"""The run of ``mmlib compare``: trials, then seeds for the contenders that may still be the best, then the report."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from mmlib import paths
from mmlib.compare import page, results
from mmlib.compare.plan import Contender, Plan, planned
from mmlib.compare.results import Results
from mmlib.errors import InputError
from mmlib.experiments import failures
from mmlib.experiments.budgets import seeds_in_words
from mmlib.experiments.context import NO_ROLE
from mmlib.experiments.profiles import profile as profile_of
from mmlib.experiments.rows import with_parents
from mmlib.papers import side_by_side
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.pipeline.recipes import Wanted, lacking, search_all
from mmlib.runs.spec import RunSpec
from mmlib.runs.sweep import estimate, sweep

FOR_TRIALS = 0.5  # of the minutes, at most
LONG = 30  # minutes from which on the larger profile is worth its time
FOLDER = "compare"


def plan_for(data: str, profile: str, rates: Mapping[str, float], systems: bool = False) -> Plan:
    """The comparison on some data.

    Raises:
        InputError: no such data, a profile without recipes, rates that do not fit, or data that no network here takes.
    """
    if not profile_of(profile).searched:
        raise InputError("--profile", profile, "quick or laptop", "Other profiles have no recipes.")
    context = side_by_side.context(profile, {NO_ROLE: data}, rates=rates)
    return planned(context, Ground(context.main), systems)


def folder_of(plan: Plan) -> Path:
    """Where the report of a comparison goes."""
    return paths.figures() / plan.context.collection / FOLDER


def compare(
    data: str,
    minutes: float | None = None,
    profile: str | None = None,
    rates: Mapping[str, float] | None = None,
    jobs: int | None = None,
    systems: bool = False,
) -> int:
    """Search recipes where these data have none, spend seeds, write the report.

    Returns 1 where a run failed or nothing can be said yet, else 0. A learning rate's trial may fail: it is not chosen.

    minutes: about how long; without them, until every question is decided or 80 seeds are spent. profile: by default
    quick below 30 minutes, else laptop. rates: modality to missing rate, a training and a question more. jobs: runs at
    a time, by default one per core. systems: whether the comparison systems of the papers' tables take part.

    Raises:
        InputError: as ``plan_for``.
    """
    rates = rates or {}
    chosen = profile or ("quick" if (minutes or LONG) < LONG else "laptop")
    start = time.monotonic()
    end = None if minutes is None else start + 60 * minutes
    plan = plan_for(data, chosen, rates, systems)
    if lacking(chosen, data, systems):
        print(f"Learning rates are searched on {data} first, on its validation split alone.")
        share = None if minutes is None else FOR_TRIALS * minutes
        search_all([data], chosen, Wanted(systems=systems), jobs, share, quiet=True)
        plan = plan_for(data, chosen, rates, systems)  # with what the trials chose
    made = spend(plan, end, jobs)
    out = folder_of(plan)
    left = lacking(chosen, data, systems)
    untried = [c.row.name for c in plan.contenders if c.key in left]
    notes = page.Notes(again(data, minutes, chosen, rates, systems), tuple(dict.fromkeys(untried)))
    page.write_report(made, out, notes)
    print(page.headline(made))
    print(f"\n{(time.monotonic() - start) / 60:.1f} minutes. Open {out / 'index.html'}")
    for line in failed_lines(made):
        print(line, file=sys.stderr)
    return int(bool(made.failures) or not any(s.best for s in made.standings.values()))


def failed_lines(made: Results) -> list[str]:
    """What the console says of failed runs: a line for each, and once each advice."""
    runs = [pair for of_one in made.failures.values() for pair in of_one]
    lines = [failures.line(run, FOLDER, error) for run, error in runs]
    return [*lines, *dict.fromkeys(run.advice for run, _ in runs)]


def again(
    data: str,
    minutes: float | None,
    profile: str,
    rates: Mapping[str, float],
    systems: bool = False,
) -> str:
    """The command that goes on with a comparison, or repeats it."""
    given = ",".join(f"{m}={rate:g}" for m, rate in rates.items())
    parts = [f"mmlib compare {data} --profile {profile}"]
    parts += [f"--rates {given}"] if given else []
    parts += [f"--minutes {minutes:g}"] if minutes is not None else []
    parts += ["--systems"] if systems else []
    return " ".join(parts)


def spend(plan: Plan, end: float | None, jobs: int | None) -> Results:
    """Make runs look by look until every question is decided, the seeds are spent or time is up."""
    made = results.read(plan)
    if end is not None:
        made = _within(made, end, jobs)
        plan = made.plan
    show = shower()
    for look in plan.looks:
        wanted = with_parents(_in_order(plan, made, look))
        left = None if end is None else (end - time.monotonic()) / 60
        if left is not None and left <= 0:
            break
        _say_time(plan, wanted, look, jobs)
        report = sweep(
            wanted,
            plan.context.store,
            jobs=jobs,
            max_minutes=left,
            title=seeds_in_words([look]),
        )
        made = results.read(plan)
        if report.left:
            break
        show(made)
        if made.decided:
            break
    return made


def shower() -> Callable[[Results], object]:
    """What shows where the questions stand: a table that is updated in a notebook, and printed anew elsewhere."""
    from IPython import get_ipython

    if get_ipython() is None:  # type: ignore[no-untyped-call]
        return lambda made: print(f"\n{page.live(made).to_string(index=False)}\n", flush=True)
    from IPython.display import display

    handle = display(display_id=True)
    return lambda made: handle.update(page.live(made).style.hide(axis="index"))


def _within(made: Results, end: float, jobs: int | None) -> Results:
    """A comparison of those whose first look ends in time, as their first seed predicts.

    All run their first seed; then those with the best mean rank over the questions are kept, and the linear model.
    """
    plan = made.plan
    left = (end - time.monotonic()) / 60
    if left <= 0:
        return made
    first = with_parents(spec for c in made.active for spec in plan.specs(c, [0]))
    _say_time(plan, first, 1, jobs)
    report = sweep(first, plan.context.store, jobs=jobs, max_minutes=left, title="first seed")
    made = results.read(plan)
    if report.left:
        return made
    kept = affordable(made, end - time.monotonic(), jobs or os.cpu_count() or 1)
    left_out = tuple(c for c in plan.contenders if c not in kept and c.name not in made.failed)
    if not left_out:
        return made
    print(
        f"No time for {seeds_in_words([plan.looks[0]])} of all: {len(left_out)} are left out "
        "(see the report)."
    )
    chosen = tuple(c for c in plan.contenders if c not in left_out)
    return results.read(dataclasses.replace(plan, contenders=chosen, left_out=left_out))


def affordable(made: Results, seconds: float, jobs: int) -> list[Contender]:
    """The contenders whose runs up to the first look fit into so many seconds, the best by their first seed first.

    The linear model is always among them. A contender that has the first look's seeds costs nothing.
    """
    plan, look = made.plan, made.plan.looks[0]
    means = pd.DataFrame({q.name: made.of(q).iloc[:1].mean() for q in plan.questions})
    order = means.rank(ascending=False).mean(axis=1).sort_values(kind="stable")
    by_name = {c.name: c for c in plan.contenders if made.seeds(c.name)}
    linear = [c for c in by_name.values() if c.row.stages[-1].method == "linear"]
    ranked = dict.fromkeys([*linear, *(by_name[n] for n in map(str, order.index) if n in by_name)])
    kept, spent = [], 0.0
    for contender in ranked:
        lacking = max(0, look - made.seeds(contender.name))
        cost = lacking * _seconds(made, contender) / jobs
        if spent + cost <= seconds or contender in linear:
            kept.append(contender)
            spent += cost
    return kept


def _seconds(made: Results, contender: Contender) -> float:
    """What a contender's first seed took, all folds and stages together."""
    first = made.specs[contender.name][: len(made.plan.context.folds(made.plan.ground.dataset))]
    store, fingerprint = made.plan.context.store, made.plan.bundle.fingerprint
    times = [store.sidecar(s.run_id(fingerprint)).get("seconds", 0.0) for s in with_parents(first)]
    return float(sum(times))


def _in_order(plan: Plan, made: Results, look: int) -> list[RunSpec]:
    """The runs up to a look: seed after seed, so that time may end with whole seeds of all."""
    return [
        spec
        for seed in range(look)
        for contender in made.active
        for spec in plan.specs(contender, [seed])
    ]


def _say_time(plan: Plan, wanted: list[RunSpec], look: int, jobs: int | None) -> None:
    count = jobs or os.cpu_count() or 1
    expected = estimate(wanted, plan.context.store, jobs=count)
    if expected.lacking:
        print(
            f"Up to {seeds_in_words([look])} of each contender that is still in: "
            f"{expected.lacking} runs, {expected.time} with {count} at a time.",
            file=sys.stderr,
            flush=True,
        )
