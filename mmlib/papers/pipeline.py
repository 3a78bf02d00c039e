"""The main job: all runs in one pool, then the notebooks, then a summary of what was made."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmlib import files, paths
from mmlib.errors import InputError
from mmlib.papers import failures, jupyter, regenerate, troubles
from mmlib.papers.context import Context
from mmlib.papers.troubles import Trouble, shown
from mmlib.report.artifact import NOT_DRAWN, Artifact, Entry, read_manifest
from mmlib.runs.on_dask import executor_of
from mmlib.runs.spec import RunSpec
from mmlib.runs.sweep import estimate, sweep
from mmlib.runs.warned import counted
from mmlib.teach import cells_hash

NOTEBOOKS = {"balm": "01_balm.ipynb", "dream": "02_dream.ipynb", "ebmc": "03_ebmc.ipynb", "mculora": "04_mculora.ipynb",
             "gmm_loss": "05_gmm_loss.ipynb", "side_by_side": "06_side_by_side.ipynb"}


AT_ONCE = 2  # notebooks
NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def all_specs(contexts: Iterable[Context], wanted: Sequence[str]) -> list[RunSpec]:
    """The pool: every run of every paper, each once."""
    found = [s for c in contexts for s in regenerate.specs(c, regenerate.wanted_of(c, wanted))]
    return list(dict.fromkeys(found))


def run(contexts: Sequence[Context], wanted: Sequence[str], jobs: int | None, executor: str = "local") -> int:
    """Runs, then notebooks (or, where artifacts are named, those alone), then the summary; 1 where anything failed."""
    start = time.perf_counter()
    code = sweep_all(contexts, wanted, jobs, executor=executor)
    failed = draw_all(contexts, wanted) if wanted else execute_all(contexts, jobs)
    code = max(code, conclude(contexts, wanted, failed))
    print(f"\n{time.perf_counter() - start:.0f} s. Open {shown(paths.figures() / 'index.html')}")
    return code


def sweep_all(contexts: Sequence[Context], wanted: Sequence[str], jobs: int | None,
              max_minutes: float | None = None, executor: str = "local") -> int:
    """All runs that the store lacks, here or on a Dask scheduler; 1 where some failed or were left."""
    specs = all_specs(contexts, wanted)
    if not specs:
        return 0
    store = contexts[0].store
    with executor_of(executor, specs, store, jobs) as where:
        result = sweep(specs, store, executor=where, jobs=jobs, max_minutes=max_minutes, title="runs")
    print(f"runs: {result.wanted} wanted, {result.reused} reused, {result.done} done, {result.failed} failed, "
          f"{result.left} left, {result.seconds:.0f} s", flush=True)
    if result.warnings:
        print(counted(result.warnings), flush=True)
    for line in failures.failure_lines(regenerate.pairs(contexts, wanted), result.errors):
        print(line, file=sys.stderr)
    return int(result.failed > 0 or result.left > 0)


def report(contexts: Sequence[Context], wanted: Sequence[str]) -> int:
    """Draw from finished runs; cells whose runs are lacking say so. 1 where something could not be drawn."""
    return conclude(contexts, wanted, draw_all(contexts, wanted))


def draw_all(contexts: Sequence[Context], wanted: Sequence[str]) -> list[Trouble]:
    """Every wanted artifact of every paper; what could not be gathered or listed at the end of one.

    An artifact that could not be drawn is in the manifest.
    """
    failed = []
    for context in contexts:
        for artifact in regenerate.wanted_of(context, wanted):
            regenerate.draw(context, artifact.id)
        try:
            regenerate.finish(context)
        except InputError:  # the disk's or the store's, which concerns every paper
            raise
        except Exception as error:
            failed.append(troubles.note(context.collection, context.paper, "records and reports", error))
    return failed


def execute_all(contexts: Sequence[Context], jobs: int | None) -> list[Trouble]:
    """Every paper's notebook, two at a time, the sixth one last: at its end it counts what the others found.

    Each has processes of its own, so that one that is killed ends no other. Returns the notebooks that failed.
    """
    count = min(AT_ONCE, jobs or os.cpu_count() or 1, len(contexts))
    if count == 1:
        ended = [execute(context) for context in contexts]
    else:
        threads = ThreadPoolExecutor(count)
        try:
            ended = list(threads.map(_execute_apart, contexts))
        finally:
            threads.shutdown(cancel_futures=True)
    return [trouble for trouble in ended if trouble]


def _execute_apart(context: Context) -> Trouble | None:
    try:
        return _apart(execute, context)
    except BrokenExecutor as error:
        trouble = troubles.note(context.collection, context.paper, NOTEBOOKS[context.paper], error)
    return _without_notebook(trouble, lambda: _apart(draw_all, [context], ()))


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """A call in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def execute(context: Context) -> Trouble | None:
    """Run a paper's notebook headless with papermill; the executed copy stands beside the runs.

    Where it cannot be run to its end (a cell that fails, a kernel that dies or does not start, a file that is no
    notebook), what it would have drawn is drawn without it, and what went wrong is returned.
    """
    os.environ["MMLIB_HEADLESS"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import papermill

    name = NOTEBOOKS[context.paper]
    out = paths.runs() / "notebooks" / context.collection / name
    with files.explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    print(f"{name} on {context.collection} ...", flush=True)
    try:
        with jupyter.own_settings() as folder:
            papermill.execute_notebook(paths.notebooks() / name, out, _parameters(context), kernel_name=jupyter.KERNEL,
                                       progress_bar=False, cwd=paths.notebooks(), log_output=False,
                                       kernel_manager_class=jupyter.kernel_manager(folder))
    except papermill.PapermillExecutionError as error:
        reason = f"failed in cell {error.exec_count}: {error.ename}: {' '.join(error.evalue.split())}"
        trouble = Trouble(context.collection, context.paper, name, reason, out)
    except Exception as error:  # whatever ends a notebook is to end no other
        if isinstance(error, OSError) and error.errno in NO_DISK:  # but every one needs the disk
            with files.explained(out):
                raise
        trouble = troubles.note(context.collection, context.paper, name, error)
    else:
        return None
    return _without_notebook(trouble, lambda: draw_all([context], ()))


def _without_notebook(trouble: Trouble, draw: Callable[[], Any]) -> Trouble:
    """Say that a notebook failed, and draw its tables and figures without it."""
    print(f"notebook failed: {trouble}\nIts tables and figures are drawn without it.", file=sys.stderr, flush=True)
    try:
        draw()
    except InputError:  # the disk's or the store's, which concerns every paper
        raise
    except Exception as error:
        print(f"nor could they be drawn: {troubles.reason_of(error)}", file=sys.stderr, flush=True)
    return trouble


def _parameters(context: Context) -> dict[str, Any]:
    """What a notebook is given: its context's own choices, as its first code cell names them."""
    given = {role: data for role, data in context.data.items() if not data.startswith("twin:")}
    return {"profile": context.profile.name, "data": ",".join(f"{r}={d}" for r, d in given.items()),
            "backbone": ",".join(context.backbones), "label": context.label, "seeds": context.seed_count}


def update_notebooks() -> int:
    """Execute every notebook in place with its own parameters and note the hash of its cells.

    One that fails stays as it was; returns 1 then.
    """
    os.environ["MMLIB_HEADLESS"] = "1"
    failed = 0
    for paper, name in NOTEBOOKS.items():
        print(f"{name} ...", flush=True)
        try:
            update_notebook(paths.notebooks() / name)
        except InputError:  # the disk's, which concerns every notebook
            raise
        except Exception as error:  # whatever ends a notebook is to end no other
            trouble = troubles.note("notebooks", paper, name, error)
            print(f"left as it was: {trouble}", file=sys.stderr, flush=True)
            failed = 1
    return failed


def update_notebook(path: Path) -> None:
    """Execute a notebook in place and note the hash of its cells."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with jupyter.own_settings() as folder:
        NotebookClient(notebook, timeout=None, kernel_name=jupyter.KERNEL,
                       kernel_manager_class=jupyter.kernel_manager(folder),
                       resources={"metadata": {"path": str(paths.notebooks())}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata["mmlib"] = {"cells": cells_hash(notebook)}
    files.write(path, f"{nbformat.writes(notebook)}\n".encode())


def dry_run(contexts: Sequence[Context], wanted: Sequence[str], jobs: int | None) -> int:
    """Print how many runs are lacking and an estimate of the time."""
    specs = all_specs(contexts, wanted)
    count = jobs or os.cpu_count() or 1
    lacking, seconds = estimate(specs, contexts[0].store, jobs=count)
    print(f"{len(specs)} runs, {lacking} still to do, about {seconds / 60:.1f} minutes with {count} at a time")
    return 0


def list_artifacts(contexts: Sequence[Context], wanted: Sequence[str]) -> int:
    """Print every artifact: paper, id, kind, runs that it needs, caption."""
    for context in contexts:
        for artifact in regenerate.wanted_of(context, wanted) if wanted else _all(context):
            why = regenerate.lacks(context, artifact)
            count = "needs data" if why else f"{len(set(artifact.specs(context)))} runs"
            caption = f"{artifact.caption}{' On request: --artifact ' + artifact.id if artifact.on_request else ''}"
            print(f"{context.paper:10} {artifact.id:24} {artifact.kind:7} {count:>10}  {caption}")
    return 0


def conclude(contexts: Sequence[Context], wanted: Sequence[str], failed: Sequence[Trouble]) -> int:
    """Print the summary, then each notebook, table and figure that failed; 1 where there is any."""
    summary(contexts)
    every = [*failed, *not_drawn(contexts, wanted)]
    if every:
        print(f"\n{len(every)} failed, the rest is done:")
    for trouble in every:
        print(f"  {trouble}")
    return int(bool(every))


def not_drawn(contexts: Sequence[Context], wanted: Sequence[str]) -> list[Trouble]:
    """The wanted tables and figures that could not be drawn, as the manifest has them."""
    entries = _entries()
    found = []
    for context in contexts:
        for artifact in regenerate.wanted_of(context, wanted):
            key = (context.collection, context.paper, artifact.id)
            if entries.get(key, {}).get("status") == NOT_DRAWN:
                found.append(Trouble(*key, " ".join(entries[key]["notes"]), troubles.details_of(*key)))
    return found


def summary(contexts: Sequence[Context]) -> None:
    """Print one line per artifact: status, rows, and its first file."""
    entries = _entries()
    print(f"\n{'collection':14} {'paper':6} {'artifact':24} {'status':18} {'rows':>7}  file")
    for context in contexts:
        for artifact in _all(context):
            entry = entries.get((context.collection, context.paper, artifact.id))
            if entry is None:
                continue
            rows = f"{entry['rows_built']}/{entry['rows_in_paper']}" if entry["rows_in_paper"] else "ours"
            best = sorted(entry["files"], key=lambda f: (not f.endswith((".md", ".png")), f))
            print(f"{context.collection:14} {context.paper:6} {artifact.id:24} {entry['status']:18} {rows:>7}  "
                  f"{best[0] if best else '-'}")


def _entries() -> dict[tuple[str, str, str], Entry]:
    listed = read_manifest(paths.figures() / "manifest.json")
    return {(e["collection"], e["paper"], e["id"]): e for e in listed}


def _all(context: Context) -> Sequence[Artifact]:
    artifacts: Sequence[Artifact] = regenerate.PAPERS[context.paper].ARTIFACTS
    return artifacts
