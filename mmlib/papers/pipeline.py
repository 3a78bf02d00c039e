"""The main job: all runs in one pool, then the notebooks, then a summary of what was made."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from mmlib import files, paths
from mmlib.papers import failures, regenerate
from mmlib.papers.context import Context
from mmlib.report.artifact import Artifact, read_manifest
from mmlib.runs.on_dask import executor_of
from mmlib.runs.spec import RunSpec
from mmlib.runs.sweep import estimate, sweep
from mmlib.teach import cells_hash

NOTEBOOKS = {"balm": "01_balm.ipynb", "dream": "02_dream.ipynb", "ebmc": "03_ebmc.ipynb", "mculora": "04_mculora.ipynb",
             "gmm_loss": "05_gmm_loss.ipynb", "side_by_side": "06_side_by_side.ipynb"}


AT_ONCE = 2  # notebooks


def all_specs(contexts: Iterable[Context], wanted: Sequence[str]) -> list[RunSpec]:
    """The pool: every run of every paper, each once."""
    found = [s for c in contexts for s in regenerate.specs(c, regenerate.wanted_of(c, wanted))]
    return list(dict.fromkeys(found))


def run(contexts: Sequence[Context], wanted: Sequence[str], jobs: int | None, executor: str = "local") -> int:
    """Runs, then notebooks (or, where artifacts are named, those alone), then the summary."""
    start = time.perf_counter()
    code = sweep_all(contexts, wanted, jobs, executor=executor)
    if wanted:
        draw_all(contexts, wanted)
    else:
        code = max(code, execute_all(contexts, jobs))
    summary(contexts)
    print(f"\n{time.perf_counter() - start:.0f} s. Open {_shown(paths.figures() / 'index.html')}")
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
    for line in failures.failure_lines(regenerate.pairs(contexts, wanted), result.errors):
        print(line, file=sys.stderr)
    return int(result.failed > 0 or result.left > 0)


def report(contexts: Sequence[Context], wanted: Sequence[str]) -> int:
    """Draw from finished runs; cells whose runs are lacking say so."""
    draw_all(contexts, wanted)
    summary(contexts)
    return 0


def draw_all(contexts: Sequence[Context], wanted: Sequence[str]) -> None:
    """Every wanted artifact of every paper."""
    for context in contexts:
        for artifact in regenerate.wanted_of(context, wanted):
            regenerate.draw(context, artifact.id)
        regenerate.finish(context)


def execute_all(contexts: Sequence[Context], jobs: int | None) -> int:
    """Every paper's notebook, two at a time, the sixth one last: at its end it counts what the others found.

    Returns 0, or 1 where a cell failed.
    """
    count = min(AT_ONCE, jobs or os.cpu_count() or 1, len(contexts))
    if count == 1:
        return max(execute(context) for context in contexts)
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        return max(pool.map(execute, contexts))


def execute(context: Context) -> int:
    """Run a paper's notebook headless with papermill; the executed copy stands beside the runs.

    Returns 0, or 1 where a cell failed; the copy then shows the cell and its error, and what the notebook would have
    drawn is drawn without it.
    """
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    os.environ["MMLIB_HEADLESS"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import papermill

    name = NOTEBOOKS[context.paper]
    out = paths.runs() / "notebooks" / context.collection / name
    with files.explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    print(f"{name} on {context.collection} ...", flush=True)
    given = {role: data for role, data in context.data.items() if not data.startswith("twin:")}
    parameters: dict[str, Any] = {
        "profile": context.profile.name, "data": ",".join(f"{r}={d}" for r, d in given.items()),
        "backbone": ",".join(context.backbones), "label": context.label, "seeds": context.seed_count,
    }
    try:
        with files.explained(out):
            papermill.execute_notebook(paths.notebooks() / name, out, parameters, kernel_name="python3",
                                       progress_bar=False, cwd=paths.notebooks(), log_output=False,
                                       extra_arguments=["--IPKernelApp.log_level=40"])
    except papermill.PapermillExecutionError as error:
        print(f"{name} failed in cell {error.exec_count}: {error.ename}: {error.evalue}\nLook at {_shown(out)}. "
              "Its tables and figures are drawn without it.", file=sys.stderr)
        draw_all([context], ())
        return 1
    return 0


def update_notebooks() -> int:
    """Execute every notebook in place with its own parameters and note the hash of its cells."""
    os.environ["MMLIB_HEADLESS"] = "1"
    import nbformat
    from nbclient import NotebookClient

    for name in NOTEBOOKS.values():
        path = paths.notebooks() / name
        notebook = nbformat.read(path, as_version=4)
        print(f"{name} ...", flush=True)
        NotebookClient(notebook, timeout=None, kernel_name="python3",
                       resources={"metadata": {"path": str(paths.notebooks())}}).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
        notebook.metadata["mmlib"] = {"cells": cells_hash(notebook)}
        files.write(path, f"{nbformat.writes(notebook)}\n".encode())
    return 0


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


def summary(contexts: Sequence[Context]) -> None:
    """Print one line per artifact: status, rows, and its first file."""
    entries = {(e["collection"], e["paper"], e["id"]): e for e in read_manifest(paths.figures() / "manifest.json")}
    print(f"\n{'collection':14} {'paper':6} {'artifact':24} {'status':14} {'rows':>7}  file")
    for context in contexts:
        for artifact in _all(context):
            entry = entries.get((context.collection, context.paper, artifact.id))
            if entry is None:
                continue
            rows = f"{entry['rows_built']}/{entry['rows_in_paper']}" if entry["rows_in_paper"] else "ours"
            best = sorted(entry["files"], key=lambda f: (not f.endswith((".md", ".png")), f))
            print(f"{context.collection:14} {context.paper:6} {artifact.id:24} {entry['status']:14} {rows:>7}  "
                  f"{best[0] if best else '-'}")


def _all(context: Context) -> Sequence[Artifact]:
    artifacts: Sequence[Artifact] = regenerate.PAPERS[context.paper].ARTIFACTS
    return artifacts


def _shown(path: Path) -> str:
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)
