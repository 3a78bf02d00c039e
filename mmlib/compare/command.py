"""The run of ``mmlib compare``: recipes, then seeds for the contenders that may still be the best, then the report."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mmlib import paths
from mmlib.compare import facts, failed, order, page, results
from mmlib.compare.begin import profile_for
from mmlib.compare.plan import Plan, planned
from mmlib.compare.results import Results
from mmlib.errors import InputError
from mmlib.experiments.budgets import seeds_in_words
from mmlib.experiments.context import NO_ROLE
from mmlib.experiments.profiles import profile as profile_of
from mmlib.papers import side_by_side
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.pipeline import recipes
from mmlib.pipeline.recipes import Wanted, lacking, search_all
from mmlib.runs.spec import RunSpec
from mmlib.runs.sweep import estimate, sweep

SEARCH_WITHIN = 1 / 3  # of the minutes: a search that is expected to take longer is not begun
SEARCH_STOPS = 0.5  # of the minutes, for a search that takes longer than expected
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
    """Search recipes where there is time for it, spend seeds, write the report.

    Returns 1 where a run failed or nothing can be said yet, else 0. A learning rate's trial may fail: it is not chosen.

    minutes: about how long; without them, until every question is decided or 80 seeds are spent. profile: by default
    quick below 30 minutes, else laptop. rates: modality to missing rate, a training and a question more. jobs: runs at
    a time, by default one per core. systems: whether the comparison systems of the papers' tables take part.

    Raises:
        InputError: as ``plan_for``.
        KeyboardInterrupt: on Ctrl-C or when asked to end; what has been run is kept.
    """
    rates = rates or {}
    chosen = profile_for(minutes, profile)
    start = time.monotonic()
    end = None if minutes is None else start + 60 * minutes
    command = again(data, minutes, chosen, rates, systems)
    with _stopping(command):
        plan = plan_for(data, chosen, rates, systems)
        print(outline(plan), flush=True)
        untried = lacking(chosen, data, systems)
        if untried and _searches(plan, data, minutes, jobs, systems):
            share = None if minutes is None else SEARCH_STOPS * minutes
            search_all([data], chosen, Wanted(systems=systems), jobs, share, quiet=True)
            plan = plan_for(data, chosen, rates, systems)  # with what the trials chose
            untried = lacking(chosen, data, systems)
        made = spend(plan, end, jobs)
        out = folder_of(plan)
        rows = dict.fromkeys(c.row.name for c in plan.contenders if c.key in untried)
        notes = facts.Notes(command, tuple(rows), f"mmlib recipes {data} --profile {chosen}")
        page.write_report(made, out, notes)
    print(page.headline(made))
    print(f"\n{(time.monotonic() - start) / 60:.1f} minutes. Open {out / 'index.html'}")
    for line in failed.lines(made, FOLDER):
        print(line, file=sys.stderr)
    return int(bool(made.failures) or not any(map(made.seeds, made.specs)))


def outline(plan: Plan) -> str:
    """Who is compared under what, in a few lines."""
    rows = dict.fromkeys(contender.row.name for contender in plan.contenders)
    trainings = dict.fromkeys(contender.training for contender in plan.contenders)
    return (
        f"{len(plan.contenders)} contenders: {', '.join(rows)}; each trained on: {', '.join(trainings)}.\n"
        f"{len(plan.questions)} questions: who is the best on {', '.join(q.name for q in plan.questions)}?"
    )


def _searches(
    plan: Plan, data: str, minutes: float | None, jobs: int | None, systems: bool
) -> bool:
    """Whether this call begins with a search of the recipes that lack one, and say so.

    The recipes are settled before the first seed of a network and then kept, so that no later call loses a seed.
    """
    profile = plan.context.profile.name
    later = f"To search: mmlib recipes {data} --profile {profile}; the networks then begin anew."
    if settled(results.read(plan)):
        print(f"Recipes stay as they were when this comparison began. {later}", flush=True)
        return False
    expected = recipes.expected(profile, data, Wanted(systems=systems), jobs)
    middle = math.sqrt(expected.low * expected.high) / 60
    if minutes is not None and middle > SEARCH_WITHIN * minutes:
        print(
            f"A search of recipes would take {expected}, more than a third of {minutes:g} minutes: networks use the "
            f"recipes of the most similar data that were searched. {later}",
            flush=True,
        )
        return False
    print(f"Recipes are searched on {data} first, on its validation split alone: {expected}.")
    return True


def settled(made: Results) -> bool:
    """Whether a network has a seed; the linear model has no recipe."""
    return any(made.seeds(c.name) for c in made.plan.contenders if not order.is_linear(c))


@contextlib.contextmanager
def _stopping(command: str) -> Iterator[None]:
    """Take a request to end like Ctrl-C, and say how to go on after either."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    try:
        yield
    except KeyboardInterrupt:
        print(f"Stopped; finished runs are kept. To go on: {command}", file=sys.stderr, flush=True)
        raise
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


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
    """Make runs step by step until every question is decided, the seeds are spent or time is up.

    A run that failed is tried again once. end: on the clock of ``time.monotonic``; None for no limit.
    """
    tried: set[str] = set()  # the runs that failed in this call
    made = results.read(plan, tried)
    show = shower()
    count = jobs or os.cpu_count() or 1
    for step, share in order.steps(plan, end is not None):
        left = math.inf if end is None else share * (end - time.monotonic())
        if made.decided or left <= 0:
            break
        wanted = step(made, order.seconds(made), left * count)
        if not wanted:
            continue
        _say_time(plan, wanted, count)
        report = sweep(
            wanted,
            plan.context.store,
            jobs=jobs,
            max_minutes=None if end is None else left / 60,
            title=_title(wanted),
            in_order=True,
        )
        tried |= {run_id for run_id, _ in report.errors}
        made = results.read(plan, tried)
        show(made)
        if report.left and share == 1:
            break
    return results.read(plan) if made.failures else made


def _title(wanted: list[RunSpec]) -> str:
    """What a step's runs are called while they are made."""
    last = 1 + max(spec.seed for spec in wanted)
    return "first seeds" if last == 1 else f"up to {seeds_in_words([last])}"


def shower() -> Callable[[Results], object]:
    """What shows where the questions stand: a table that is updated in a notebook, and printed anew elsewhere."""
    from IPython import get_ipython

    if get_ipython() is None:  # type: ignore[no-untyped-call]
        return lambda made: print(f"\n{page.live(made).to_string(index=False)}\n", flush=True)
    from IPython.display import display

    handle = display(display_id=True)
    return lambda made: handle.update(page.live(made).style.hide(axis="index"))


def _say_time(plan: Plan, wanted: list[RunSpec], jobs: int) -> None:
    expected = estimate(wanted, plan.context.store, jobs=jobs)
    if expected.lacking:
        print(
            f"{_title(wanted).capitalize()}: {expected.lacking} runs, first stages included, {expected.time} "
            f"with {jobs} at a time.",
            file=sys.stderr,
            flush=True,
        )
