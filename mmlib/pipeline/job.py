"""The main job: all runs in one pool, then the notebooks, then a summary of what was made."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence

from mmlib import paths
from mmlib.errors import InputError
from mmlib.experiments import failures
from mmlib.experiments.context import Context
from mmlib.options import HERE
from mmlib.pipeline import executed, regenerate, reproduced, troubles
from mmlib.pipeline.notebooks import AT_ONCE, due, execute_all
from mmlib.pipeline.regenerate import draw_all
from mmlib.pipeline.troubles import Trouble, shown
from mmlib.report.artifact import NOT_DRAWN, Entry, read_all
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Store
from mmlib.runs.sweep import estimate, learned, sweep
from mmlib.runs.timing import Range, Run, notebook
from mmlib.runs.warned import counted


def all_specs(contexts: Iterable[Context], wanted: Sequence[str]) -> list[RunSpec]:
    """The pool: every run of every paper, each once."""
    return _each_once([regenerate.specs(c, regenerate.wanted_of(c, wanted)) for c in contexts])


def _each_once(needed: Iterable[Iterable[RunSpec]]) -> list[RunSpec]:
    return list(dict.fromkeys(spec for specs in needed for spec in specs))


def run(
    contexts: Sequence[Context],
    wanted: Sequence[str],
    jobs: int | None,
    executor: str = HERE,
    force: bool = False,
) -> int:
    """Runs, then notebooks (or, where artifacts are named, those alone), then the summary; 1 where anything failed.

    force: execute notebooks that are up to date, too.
    """
    start = time.perf_counter()
    if not wanted:
        _check_notebooks(contexts)
    needed = [regenerate.specs(c, regenerate.wanted_of(c, wanted)) for c in contexts]
    if executor == HERE:
        costs = drawing(contexts, wanted, needed, force)
        print(expected(_each_once(needed), contexts[0].store, jobs, costs), flush=True)
    code = sweep_all(contexts, wanted, jobs, executor=executor, needed=needed)
    failed = draw_all(contexts, wanted) if wanted else execute_all(contexts, jobs, needed, force)
    code = max(code, conclude(contexts, wanted, failed))
    pages = dict.fromkeys(shown(regenerate.page_of(context)) for context in contexts)
    print(f"\n{time.perf_counter() - start:.0f} s. Open {', '.join(map(str, pages))}")
    if not wanted:
        print(where_copies_lie(contexts))
    return code


def where_copies_lie(contexts: Iterable[Context]) -> str:
    """The folders of the executed notebooks, in a sentence."""
    folders = dict.fromkeys(shown(executed.copy_of(context).parent) for context in contexts)
    return f"The executed notebooks, with what they found, are in {', '.join(folders)}."


def _check_notebooks(contexts: Sequence[Context]) -> None:
    """Hold the folder of notebooks to having some, before any run is made.

    Raises:
        InputError: it has none of those that are to be executed.
    """
    names = {context.declared.notebook for context in contexts}
    if not any((paths.notebooks() / name).is_file() for name in names):
        raise InputError(
            str(paths.notebooks()),
            "none of the notebooks",
            ", ".join(sorted(names)),
            "Run in a checkout, correct MMLIB_HOME, or draw without notebooks: mmlib sweep, then mmlib report.",
        )


def sweep_all(
    contexts: Sequence[Context],
    wanted: Sequence[str],
    jobs: int | None,
    max_minutes: float | None = None,
    executor: str = "local",
    needed: Sequence[Sequence[RunSpec]] | None = None,
) -> int:
    """All runs that the store lacks, here or on a Dask scheduler; 1 where some failed or were left.

    needed: the runs of each paper, where they are known.
    """
    from mmlib.runs.on_dask import executor_of

    specs = all_specs(contexts, wanted) if needed is None else _each_once(needed)
    if not specs:
        return 0
    store = contexts[0].store
    with executor_of(executor, specs, store, jobs) as where:
        result = sweep(
            specs, store, executor=where, jobs=jobs, max_minutes=max_minutes, title="runs"
        )
    print(
        f"runs: {result.wanted} wanted, {result.reused} reused, {result.done} done, {result.failed} failed, "
        f"{result.left} left, {result.seconds:.0f} s",
        flush=True,
    )
    if result.warnings:
        print(counted(result.warnings), flush=True)
    for line in failures.failure_lines(regenerate.pairs(contexts, wanted), result.errors):
        print(line, file=sys.stderr)
    return int(result.failed > 0 or result.left > 0)


def report(contexts: Sequence[Context], wanted: Sequence[str]) -> int:
    """Draw from finished runs; cells whose runs are lacking say so. 1 where something could not be drawn."""
    return conclude(contexts, wanted, draw_all(contexts, wanted))


def dry_run(
    contexts: Sequence[Context],
    wanted: Sequence[str],
    jobs: int | None,
    draws: bool = False,
    began: float | None = None,
) -> int:
    """Print how many runs are lacking and what time they take, for which up to three are made.

    draws: whether tables and figures are drawn after them, in notebooks where none are wanted by name. began: when this
    command began, as ``time.monotonic`` counts; what it took to come here, it takes again.
    """
    needed = [regenerate.specs(c, regenerate.wanted_of(c, wanted)) for c in contexts]
    costs = drawing(contexts, wanted, needed) if draws else []
    here = 0.0 if began is None else time.monotonic() - began
    print(expected(_each_once(needed), contexts[0].store, jobs, costs, here, pilot=True))
    return 0


def drawing(
    contexts: Sequence[Context],
    wanted: Sequence[str],
    needed: Sequence[Sequence[RunSpec]],
    force: bool = False,
) -> list[tuple[Run, list[float]]]:
    """What will be drawn, as ``timing.notebook`` has it: due notebooks, or the wanted of their tables and figures.

    With each, what the whole notebook took before.
    """
    if not wanted:
        return [(notebook(c.paper), executed.seconds(c)) for c in due(contexts, needed, force)]
    shares = [
        (c, len(regenerate.wanted_of(c, wanted)) / len(regenerate.artifacts(c))) for c in contexts
    ]
    return [(notebook(c.paper, share), executed.seconds(c)) for c, share in shares if share]


def expected(
    specs: Sequence[RunSpec],
    store: Store,
    jobs: int | None,
    draws: Sequence[tuple[Run, list[float]]] = (),
    seconds: float = 0.0,
    pilot: bool = False,
) -> str:
    """How many runs are lacking and how long they take, and with what else is to be done, in a sentence.

    draws: of ``drawing``. seconds: what this command has taken to come here. pilot: as in ``estimate``.
    """
    count = jobs or os.cpu_count() or 1
    made = estimate(specs, store, jobs=count, pilot=pilot)
    if not draws and not seconds:
        return f"{made} with {count} at a time"
    forecast = learned(store, min(count, AT_ONCE))
    for work, before in draws:
        for took in before:
            forecast.learn(notebook(work["backbone"]), took)
    whole = made.time + forecast.left([work for work, _ in draws]) + Range(seconds, seconds)
    whole_ones = sum(work["training"]["epochs"] == 1 for work, _ in draws)
    what = f" with {whole_ones} notebook{'s' * (whole_ones > 1)}" if whole_ones else ""
    return f"{made} with {count} at a time; in all{what} {whole}"


def list_artifacts(contexts: Sequence[Context], wanted: Sequence[str]) -> int:
    """Print every artifact: paper, id, kind, runs that it needs, caption."""
    for context in contexts:
        for artifact in (
            regenerate.wanted_of(context, wanted) if wanted else regenerate.every(context)
        ):
            why = regenerate.lacks(context, artifact)
            count = "needs data" if why else f"{len(regenerate.runs_of(context, artifact))} runs"
            caption = f"{artifact.caption}{' On request: --artifact ' + artifact.id if artifact.on_request else ''}"
            print(f"{context.paper:10} {artifact.id:24} {artifact.kind:7} {count:>10}  {caption}")
    return 0


def conclude(contexts: Sequence[Context], wanted: Sequence[str], failed: Sequence[Trouble]) -> int:
    """Print the summary, what was found, whether it is what is committed, and what failed; 1 where there is any."""
    summary(contexts)
    found(contexts, wanted)
    print()
    for line in reproduced.lines(paths.figures(), (context.collection for context in contexts)):
        print(line)
    every = [*failed, *not_drawn(contexts, wanted)]
    if every:
        print(f"\n{len(every)} failed, the rest is done:")
    for trouble in every:
        print(f"  {trouble}")
    return int(bool(every))


def not_drawn(contexts: Sequence[Context], wanted: Sequence[str]) -> list[Trouble]:
    """The wanted tables and figures that could not be drawn, as the manifest has them."""
    entries = _entries()
    lost = []
    for context in contexts:
        for artifact in regenerate.wanted_of(context, wanted):
            key = (context.collection, context.paper, artifact.id)
            if entries.get(key, {}).get("status") == NOT_DRAWN:
                lost.append(
                    Trouble(*key, " ".join(entries[key]["notes"]), troubles.details_of(*key))
                )
    return lost


def summary(contexts: Sequence[Context]) -> None:
    """Print one line per artifact: status, rows, and its first file."""
    entries = _entries()
    print(f"\n{'collection':14} {'paper':6} {'artifact':24} {'status':18} {'rows':>7}  file")
    for context in contexts:
        for artifact in context.declared.artifacts:
            entry = entries.get((context.collection, context.paper, artifact.id))
            if entry is None:
                continue
            rows = (
                f"{entry['rows_built']}/{entry['rows_in_paper']}"
                if entry["rows_in_paper"]
                else ("-" if context.own else "ours")
            )
            files = [*entry["files"], *entry["local"]]
            best = sorted(files, key=lambda f: (not f.endswith((".md", ".png")), f))
            print(
                f"{context.collection:14} {context.paper:6} {artifact.id:24} {entry['status']:18} {rows:>7}  "
                f"{best[0] if best else '-'}"
            )


def found(contexts: Sequence[Context], wanted: Sequence[str]) -> None:
    """Print each paper's finding: its committed claims, and this run's main comparison where it has been drawn."""
    import pandas as pd

    from mmlib.pipeline import findings
    from mmlib.pipeline.lesson import Lesson

    entries = _entries()
    for context in contexts:
        drawn = [artifact.id for artifact in regenerate.wanted_of(context, wanted)]
        if not drawn:
            continue
        lesson = Lesson(context)
        print(f"\n{context.declared.called}: what was found")
        told = findings.plain(lesson.opening())
        entry = entries.get((context.collection, context.paper, lesson.flagship))
        path = context.folder / f"{lesson.flagship}-numbers.csv"
        if (
            lesson.flagship in drawn
            and entry
            and entry["status"] == "regenerated"
            and path.exists()
        ):
            told += ["  In this run:", *findings.plain(lesson.closing(pd.read_csv(path)))]
        print("\n".join(told))


def _entries() -> dict[tuple[str, str, str], Entry]:
    listed = read_all(paths.figures())
    return {(e["collection"], e["paper"], e["id"]): e for e in listed}
