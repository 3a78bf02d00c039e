"""Runs that failed or are damaged, by the row and setting where a reader would look for them.

A run that failed is not one that is "not built yet": tables, replication reports, the dashboard and the console name
it, with the advice that fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmlib.experiments.context import Cell, Context
from mmlib.experiments.rows import with_parents
from mmlib.names import few
from mmlib.report.artifact import Artifact, FailedRun
from mmlib.report.markup import NOT_BUILT
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import FAILED, Failure, Store

DAMAGED = "damaged"
SAID = ("diverged", "out of memory", "killed")  # kinds that tell a reader something
NAMED = 12  # runs in a table's note
ADVICE = {
    "diverged": "Standardise the features (`mmlib data import ... --standardise`) or choose a smaller learning rate.",
    "out of memory": "Run fewer at a time (`--jobs 1`), or on a machine with more memory.",
    "killed": "Run fewer at a time (`--jobs 1`), or on a machine with more memory.",
    DAMAGED: "The next sweep makes it again.",
}


def what(kind: str) -> str:
    """The text of a cell: ``failed (diverged)``, ``failed`` or ``damaged``."""
    return DAMAGED if kind == DAMAGED else f"failed ({kind})" if kind in SAID else "failed"


def advice(store: Store, failure: Failure) -> str:
    """What to do about a failure."""
    at = f"{store.folder.name}/{failure.id[:2]}/{failure.id}{FAILED}"
    return ADVICE.get(failure.kind, f"Look at the traceback in `{at}`.")


def of_run(context: Context, spec: RunSpec) -> Failure | None:
    """Why a run of the present code has no record; None if it is done or was never tried."""
    run_id = spec.run_id(context.bundle_fingerprint(spec.data))
    failure = context.store.failure(run_id)
    if failure is not None:
        return failure
    damage = context.store.read(run_id).damage
    return Failure(run_id, spec.to_json(), damage, DAMAGED) if damage else None


def of_cells(context: Context, cells: Iterable[Cell]) -> dict[tuple[str, str], str]:
    """What the cells say of which a run failed, by row and setting."""
    texts: dict[tuple[str, str], str] = {}
    for cell in cells:
        failure = of_run(context, cell.spec)
        if failure is not None:
            texts.setdefault((cell.row, cell.setting), what(failure.kind))
    return texts


def lacking(context: Context, cells: Iterable[Cell]) -> str:
    """What a cell without any result says."""
    return next(iter(of_cells(context, cells).values()), NOT_BUILT)


def of_runs(
    context: Context, cells: Sequence[Cell], needed: Iterable[RunSpec]
) -> tuple[FailedRun, ...]:
    """The failed of some runs, each once, under the rows and settings of the cells that it serves."""
    failures = {spec: failure for spec in needed if (failure := of_run(context, spec)) is not None}
    return tuple(
        _of_cells(context.store, spec, failure, [cell for cell in cells if cell.spec == spec])
        for spec, failure in failures.items()
    )


def _of_cells(store: Store, spec: RunSpec, failure: Failure, cells: Sequence[Cell]) -> FailedRun:
    rows = list(dict.fromkeys(cell.row for cell in cells))
    settings = list(dict.fromkeys(cell.setting for cell in cells if cell.setting))
    own = f"{spec.method} ({spec.variant}) on {spec.backbone}, trained on {spec.train_mask}"
    return named(store, spec, failure, few(rows) or own, few(settings))


def named(store: Store, spec: RunSpec, failure: Failure, row: str, setting: str) -> FailedRun:
    """A failure under the row and setting where a reader looks for the run."""
    told = what(failure.kind), advice(store, failure)
    return FailedRun(failure.id, row, setting, spec.seed, spec.fold, *told)


def place(run: FailedRun) -> str:
    """Row, setting, seed and fold of a run, as text."""
    fold = "" if run.fold is None else f"fold {run.fold}"
    return ", ".join(part for part in (run.row, run.setting, f"seed {run.seed}", fold) if part)


def notes(failed: Sequence[FailedRun]) -> tuple[str, ...]:
    """The notes of a table or figure on its failed runs; empty if none failed."""
    sentences = []
    for what_failed in dict.fromkeys(run.what for run in failed):
        mine = [run for run in failed if run.what == what_failed]
        listed = "; ".join(f"{place(run)} (run {run.run_id})" for run in mine[:NAMED])
        more = f"; and {len(mine) - NAMED} more" if len(mine) > NAMED else ""
        advised = " ".join(dict.fromkeys(run.advice for run in mine[:NAMED]))
        runs = f"{len(mine)} run{'s' * (len(mine) > 1)}"
        sentences.append(f"{runs} {what_failed}: {listed}{more}. {advised}")
    return (
        (*sentences, "Means are over the runs that are done; each cell has their number.")
        if sentences
        else ()
    )


def reason(error: str) -> str:
    """The last line of a failure's error text, which says what was raised."""
    return (error.strip().splitlines() or ["no reason is known"])[-1]


def line(run: FailedRun, asked: str, error: str) -> str:
    """What the console says of a failed run; asked: what it was made for."""
    return f"{run.what}: {asked}: {place(run)}, run {run.run_id}: {reason(error)}"


def failure_lines(
    asked: Iterable[tuple[Context, Artifact]], errors: Sequence[tuple[str, str]]
) -> list[str]:
    """What the console says after a sweep: one line for each failed run, and once each advice.

    Args:
        asked: every artifact that the sweep was for, with its context.
        errors: (run id, error text) of the failed.
    """
    if not errors:
        return []
    failed: dict[str, FailedRun] = {}
    asking: dict[str, list[str]] = {}  # artifacts, each as ``paper artifact``
    for context, artifact in asked:
        cells = artifact.cells(context)
        for run in of_runs(context, cells, with_parents(cell.spec for cell in cells)):
            failed.setdefault(run.run_id, run)
            asking.setdefault(run.run_id, []).append(f"{context.paper} {artifact.id}")
    lines = []
    for run_id, text in errors:
        if run_id in failed:
            lines.append(line(failed[run_id], few(asking[run_id]), text))
        else:
            lines.append(f"failed: run {run_id}, which others start from: {reason(text)}")
    return [*lines, *dict.fromkeys(run.advice for run in failed.values())]
