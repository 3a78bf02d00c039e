"""The notebooks: executed headless with what a context says, or in place."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlib import files, paths
from mmlib.data.catalog import is_twin
from mmlib.errors import InputError
from mmlib.experiments.context import Context
from mmlib.papers.catalog import PAPERS
from mmlib.pipeline import executed, jupyter, links, regenerate, troubles
from mmlib.pipeline.regenerate import draw_all
from mmlib.pipeline.troubles import Trouble
from mmlib.runs.spec import RunSpec
from mmlib.teach import cells_hash

AT_ONCE = 2  # notebooks
NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class _Due:
    """A notebook that is to be executed."""

    context: Context
    """Of its paper."""

    inputs: executed.Inputs | None
    """What decides its execution, as it is before."""

    why: str
    """In words."""


def execute_all(
    contexts: Sequence[Context],
    jobs: int | None,
    needed: Sequence[Sequence[RunSpec]] | None = None,
    force: bool = False,
) -> list[Trouble]:
    """The notebooks that are not up to date, two at a time, those that count what the others found after them.

    Each has processes of its own, so that one that is killed ends no other. Where what they found has changed what one
    that was up to date has read, that is executed after them. Returns the notebooks that failed.

    needed: the runs of each paper's tables and figures, where they are known. force: execute all of them.
    """
    if needed is None:
        needed = [regenerate.specs(c, regenerate.artifacts(c)) for c in contexts]
    shared, left = executed.shared(), list(zip(contexts, needed, strict=True))
    failed: list[Trouble] = []
    while due := [of for pair in left if (of := _due(*pair, shared, force))]:
        first = [of for of in due if not executed.reads_all(of.context)] or due
        failed += _execute_those(first, jobs)
        left = [pair for pair in left if pair[0] not in [of.context for of in first]]
    for context, _ in left:
        print(f"{context.declared.notebook} on {context.collection}: up to date", flush=True)
    return [*failed, *_gather(contexts[-1], shared)]


def _gather(context: Context, shared: executed.Shared) -> list[Trouble]:
    """Gather what all papers have drawn, where that has changed; what went wrong with that."""
    try:
        executed.gather(shared)
    except InputError:  # the disk's or the manifest's, which concerns every paper
        raise
    except Exception as error:
        return [troubles.note(context.collection, context.paper, "reports", error)]
    return []


def _due(
    context: Context, needed: Sequence[RunSpec], shared: executed.Shared, force: bool
) -> _Due | None:
    """A notebook with the reason for which it is executed; None where it is up to date."""
    now = executed.inputs(context, _parameters(context), needed, shared)
    why = "--force" if force else executed.changes(context, now)
    return _Due(context, now, why) if why else None


def due(
    contexts: Sequence[Context], needed: Sequence[Sequence[RunSpec]], force: bool = False
) -> list[Context]:
    """Those whose notebooks are not up to date; arguments as in ``execute_all``."""
    shared = executed.shared()
    pairs = zip(contexts, needed, strict=True)
    return [context for context, runs in pairs if _due(context, runs, shared, force)]


def _execute_those(due: Sequence[_Due], jobs: int | None) -> list[Trouble]:
    count = min(AT_ONCE, jobs or os.cpu_count() or 1, len(due))
    if count == 1:
        ended = [_execute_one(of, execute) for of in due]
    else:
        threads = ThreadPoolExecutor(count)
        try:
            ended = list(threads.map(lambda of: _execute_one(of, _execute_apart), due))
        finally:
            threads.shutdown(cancel_futures=True)
    return [trouble for trouble in ended if trouble]


def _execute_one(due: _Due, run: Callable[[Context], Trouble | None]) -> Trouble | None:
    """Execute a notebook, and note what it was made from and what it wrote; nothing is noted of one that failed."""
    name = f"{due.context.declared.notebook} on {due.context.collection}"
    again = f" ({due.why})" if due.why != executed.FIRST else ""
    print(f"{name}: running{again}", flush=True)
    executed.forget(due.context)
    began = time.monotonic()
    trouble = run(due.context)
    if trouble is None:
        took = time.monotonic() - began
        executed.note(due.context, due.inputs, took)
        print(f"{name}: executed in {took:.0f} s", flush=True)
    return trouble


def _execute_apart(context: Context) -> Trouble | None:
    try:
        return _apart(execute, context)
    except BrokenExecutor as error:
        trouble = troubles.note(context.collection, context.paper, context.declared.notebook, error)
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

    name = context.declared.notebook
    out = executed.copy_of(context)
    with files.explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    try:
        _say_what_it_lacks(paths.notebooks() / name, _parameters(context))
        with jupyter.own_settings() as folder:
            papermill.execute_notebook(
                paths.notebooks() / name,
                out,
                _parameters(context),
                kernel_name=jupyter.KERNEL,
                progress_bar=False,
                cwd=paths.notebooks(),
                log_output=False,
                kernel_manager_class=jupyter.kernel_manager(folder),
            )
    except papermill.PapermillExecutionError as error:
        reason = (
            f"failed in cell {error.exec_count}: {error.ename}: {' '.join(error.evalue.split())}"
        )
        trouble = Trouble(context.collection, context.paper, name, reason, out)
        links.resolve(out)
    except Exception as error:  # whatever ends a notebook is to end no other
        if isinstance(error, OSError) and error.errno in NO_DISK:  # but every one needs the disk
            with files.explained(out):
                raise
        trouble = troubles.note(context.collection, context.paper, name, error)
    else:
        links.resolve(out)
        return None
    return _without_notebook(trouble, lambda: draw_all([context], ()))


def _say_what_it_lacks(path: Path, given: Mapping[str, Any]) -> None:
    """Say which parameters a notebook of another origin does not name, in the place of papermill's own warning."""
    import logging

    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    lacking = sorted(given.keys() - papermill.inspect_notebook(str(path)).keys())
    if lacking:
        print(
            f"{path.name}: its cell with the tag 'parameters' does not name {', '.join(lacking)}, so what is given for "
            "them may have no effect there. The notebook of this repository has such a cell.",
            file=sys.stderr,
            flush=True,
        )


def _without_notebook(trouble: Trouble, draw: Callable[[], Any]) -> Trouble:
    """Say that a notebook failed, and draw its tables and figures without it."""
    print(
        f"notebook failed: {trouble}\nIts tables and figures are drawn without it.",
        file=sys.stderr,
        flush=True,
    )
    try:
        draw()
    except InputError:  # the disk's or the store's, which concerns every paper
        raise
    except Exception as error:
        print(f"nor could they be drawn: {troubles.reason_of(error)}", file=sys.stderr, flush=True)
    return trouble


def _parameters(context: Context) -> dict[str, Any]:
    """What a notebook is given: its context's own choices, as its first code cell names them."""
    default = dict(context.data) == context.declared.defaults(context.profile)
    data = {} if default else {r: _from_anywhere(d) for r, d in context.data.items()}
    given = [reference if context.own else f"{r}={reference}" for r, reference in data.items()]
    rates = ",".join(f"{name}={rate:g}" for name, rate in context.given_rates)
    return {
        **({"own_rates": rates} if context.declared.rated else {}),
        "profile": context.profile.name,
        "data": ",".join(given),
        "backbone": ",".join(context.backbones),
        "label": context.label,
        "seeds": context.seed_count,
    }


def _from_anywhere(reference: str) -> str:
    """A reference that a notebook can open, which runs in a folder of its own: a folder's path from the root."""
    folder = Path(reference)
    if is_twin(reference) or (paths.bundles() / reference).exists() or not folder.exists():
        return reference
    return str(folder.resolve())


def update_notebooks() -> int:
    """Execute every notebook in place with its own parameters and note the hash of its cells.

    One that fails stays as it was; returns 1 then.
    """
    os.environ["MMLIB_HEADLESS"] = "1"
    failed = 0
    for paper in PAPERS.values():
        print(f"{paper.notebook} ...", flush=True)
        try:
            update_notebook(paths.notebooks() / paper.notebook)
        except InputError:  # the disk's, which concerns every notebook
            raise
        except Exception as error:  # whatever ends a notebook is to end no other
            trouble = troubles.note("notebooks", paper.name, paper.notebook, error)
            print(f"left as it was: {trouble}", file=sys.stderr, flush=True)
            failed = 1
    return failed


def update_notebook(path: Path) -> None:
    """Execute a notebook in place and note the hash of its cells."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with jupyter.own_settings() as folder:
        NotebookClient(
            notebook,
            timeout=None,
            coalesce_streams=True,
            kernel_name=jupyter.KERNEL,
            kernel_manager_class=jupyter.kernel_manager(folder),
            resources={"metadata": {"path": str(paths.notebooks())}},
        ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata["mmlib"] = {"cells": cells_hash(notebook)}
    files.write(path, f"{nbformat.writes(notebook)}\n".encode())
