"""``mmlib bench sweep``: how many runs a minute a sweep makes, and what the engine itself costs a run.

Rates are counted from when each worker has ended a run to the last one's end, so that starting the workers is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mmlib.bench.common import machine, refuse
from mmlib.bench.page import sweep_table
from mmlib.errors import unknown_name
from mmlib.runs.execute import Outcome
from mmlib.runs.on_dask import DaskExecutor
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store
from mmlib.runs.sweep import data_fingerprint, sweep

PLACES = (("local", 1), ("local", 2), ("dask", 2), ("dask", 3))
DATA = "twin:iemocap6"
RUNS, EMPTY_RUNS = 24, 200  # by each number of workers, after those that are left out
EPOCHS = 12


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return what ``--json`` writes.

    Raises:
        InputError: an option that a sweep's bench has not, or a value that is out of range.
    """
    size = "quick" if args.size == "iemocap" else args.size  # bench's default is of other benches
    if size not in ("quick", "tiny"):
        raise unknown_name("--size", size, ("quick", "tiny"))
    refuse(
        args,
        "threads",
        "lengths",
        "write_shapes",
        "device",
        why="Leave it out: a sweep is measured on the CPU, a thread a worker.",
    )
    epochs = args.epochs or EPOCHS
    rows = [measure(kind, workers, f"{DATA}@{size}", epochs) for kind, workers in PLACES]
    report = {
        "machine": machine("cpu"),
        "sweeps": {"data": f"{DATA}@{size}", "epochs": epochs},
        "rows": rows,
    }
    print(sweep_table([report]))
    return report


def measure(kind: str, workers: int, data: str, epochs: int) -> dict[str, Any]:
    """Runs a minute of real runs, and milliseconds a run of ones that do almost nothing, in each worker."""
    print(f"measuring {workers} {kind} worker(s) ...", file=sys.stderr, flush=True)
    real = [
        RunSpec(data=data, seed=seed, training=Training(epochs=epochs))
        for seed in range(RUNS + workers)
    ]
    empty = [RunSpec(data="none", seed=seed) for seed in range(EMPTY_RUNS + workers)]
    with cluster(kind, workers) as address:
        seconds = {
            name: seconds_a_run(specs, address, workers)
            for name, specs in (("real", real), ("empty", empty))
        }
    return {
        "kind": kind,
        "workers": workers,
        "runs": RUNS,
        "empty_runs": EMPTY_RUNS,
        "runs_per_minute": 60 / seconds["real"],
        "engine_ms": 1e3 * seconds["empty"],
    }


@contextlib.contextmanager
def cluster(kind: str, workers: int) -> Iterator[str | None]:
    """The address of a Dask scheduler with that many worker processes, on this machine; None for local ones."""
    if kind == "local":
        yield None
        return
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its HTTP server: any free port
    ) as started:
        yield started.scheduler_address


def seconds_a_run(specs: Sequence[RunSpec], address: str | None, workers: int) -> float:
    """Seconds between the ends of runs, all workers together, in a store that is thrown away."""
    options: dict[str, Any] = {"progress": False, "jobs": workers, "fingerprint": data_fingerprint}
    if specs[0].data == "none":
        options |= {"execute": nothing, "fingerprint": no_data}
    with TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        store = Store(Path(folder))
        if address is not None:
            there = DaskExecutor(address, specs, store, fingerprint=options["fingerprint"])
            options["executor"] = stack.enter_context(there)
        sweep(specs, store, **options).raise_if_failed()
        return between(sorted(store.path(i).stat().st_mtime for i in store.ids()), workers)


def between(ends: Sequence[float], workers: int) -> float:
    """Seconds a run from when as many runs have ended as there are workers."""
    return (ends[-1] - ends[workers - 1]) / (len(ends) - workers)


def no_data(reference: str) -> str:
    """A fingerprint where there is no bundle."""
    return "0" * 16


def nothing(spec: RunSpec, parent: Mapping[str, np.ndarray] | None = None) -> Outcome:
    """A run of almost no work: what it takes is the engine's."""
    print_of = no_data(spec.data)
    record = {
        "id": spec.run_id(print_of),
        "key": spec.key(print_of),
        "status": "done",
        "spec": spec.to_json(),
    }
    return Outcome(
        record, {"predictions.valid.test": np.zeros((1, 1), np.float32)}, {"seconds": 0.0}
    )
