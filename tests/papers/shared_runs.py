"""Runs that several modules of tests need, and the notebooks after them: each made once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mmlib.experiments.context import Context
from mmlib.pipeline import regenerate
from mmlib.runs.store import Record, Store

FOLDER = "MMLIB_SHARED_RUNS"


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The store of a whole session, whatever process of it asks: the environment's, else beside pytest's own folders.

    It is never older than the session, since a run's id does not cover the code that executes it.
    """
    if os.environ.get(FOLDER):
        return Path(os.environ[FOLDER])
    own = factory.getbasetemp()  # with xdist, one folder for each process in the session's
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared-runs"


def make_runs(
    context: Context, factory: pytest.TempPathFactory, wanted: Iterable[str] = ()
) -> None:
    """Fill a context's own store with the runs of some artifacts (all by default), and nothing else.

    Runs that the session has made already are copied, so a test may do to its store what it likes. Runs on a bundle of
    the test's own are not shared: another test may have the same data elsewhere, and a record names its data's place.
    """
    names = tuple(wanted)
    if any(Path(reference).is_absolute() for reference in context.data.values()):
        regenerate.run(context, names, jobs=1).raise_if_failed()
        return
    shared = Store(shared_folder(factory), quiet=True)
    there = dataclasses.replace(context, store=shared)
    regenerate.run(there, names, jobs=1).raise_if_failed()
    for spec in regenerate.specs(context, regenerate.artifacts(context, names)):
        run_id = spec.run_id(context.bundle_fingerprint(spec.data))
        context.store.take(run_id, shared.files(run_id))


def made_and_drawn(
    declare: Callable[[], Context],
    folder: Path,
    factory: pytest.TempPathFactory,
    needed: Iterable[str] = (),
    shown: Iterable[str] = (),
) -> Context:
    """A context in a folder of its own, with the runs of some artifacts made and some drawn (all by default)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLIB_RUNS", str(folder / "runs"))
        patch.setenv("MMLIB_FIGURES", str(folder / "figures"))
        context = declare()
        make_runs(context, factory, needed)
        for artifact in regenerate.artifacts(context, shown):
            regenerate.draw(context, artifact.id)
    return context


def at_another_epoch(
    record: Record, condition: str, metric: str, selection: str = "valid"
) -> float | None:
    """A metric by the record where it is read at another epoch than predictions are kept of; else None.

    That it is the metric of its epoch's outputs is a test of ``runs.execute``.
    """
    chosen = record["selected"][selection]
    if chosen["epochs"][condition][metric] == chosen["epoch"][condition]:
        return None
    return float(chosen["metrics"][condition][metric])
