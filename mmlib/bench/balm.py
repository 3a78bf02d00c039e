"""``mmlib bench balm``: how fast a training is here, beside the time that its matrix products take alone.

Each measurement is made in a fresh process, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from mmlib import files, paths
from mmlib.backbones import BACKBONES
from mmlib.bench import length
from mmlib.bench.command import EPOCHS, LENGTHS
from mmlib.bench.common import METHODS, SIZES, apart, check_size, device_of, machine, refuse
from mmlib.bench.step import Case, measure
from mmlib.errors import InputError, unknown_name

# Column of the table to field of a measurement.
FIELDS = {
    "method": "name",
    "threads": "threads",
    "utterances/s": "utterances_per_second",
    "s/epoch": "epoch_seconds",
    "products s": "product_seconds",
    "ratio": "ratio",
    "memory MB": "memory_mb",
    "set-up s": "setup_seconds",
}
CUDA_FIELDS = {"CUDA memory MB": "cuda_memory_mb", "idle %": "idle_percent"}
RATIO_GOAL = 2.0
SPEED_GOAL = 2500.0
SPEED_CORES = 2


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the plain backbone and BALM, or with ``--lengths`` a step of each by length, and print tables.

    Raises:
        InputError: an unknown name, or options that do not go together.
    """
    names = args.backbone.split(",")
    for name in names:
        if name not in BACKBONES:
            raise unknown_name("--backbone", name, BACKBONES)
    check_size(args, SIZES)
    return _by_length(args, names) if args.lengths is not None else _epochs(args, names)


def _epochs(args: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    if len(names) > 1:
        raise InputError(
            "--backbone", args.backbone, "one name", "Several are measured beside --lengths only."
        )
    rows = []
    for case in cases_of(args):
        print(f"measuring {case.name}, {case.threads} thread(s) ...", file=sys.stderr, flush=True)
        rows.append(measure_apart(case))
    report = {
        "machine": machine(args.device),
        "size": args.size,
        "import_seconds": import_seconds(),
        "rows": [{k: v for k, v in row.items() if k != "products"} for row in rows],
    }
    shapes = shapes_file(args.backbone)
    if args.write_shapes:
        write_shapes(rows, shapes)
    print(render(report))
    if args.size == "iemocap":
        print(_shapes_line(rows, shapes))
    return report


def _by_length(args: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    refuse(
        args,
        "threads",
        "epochs",
        "write_shapes",
        "device",
        why="Leave it out: a step's cost by length is measured on the CPU and one thread.",
    )
    report = length.report_of(names, args.size, args.lengths or list(LENGTHS))
    print(length.render(report))
    return report


def cases_of(args: argparse.Namespace) -> list[Case]:
    """The measurements that the arguments ask for, checked before any of them starts."""
    device_of(args)
    if args.write_shapes and args.size != "iemocap":
        raise InputError(
            "--write-shapes", f"--size {args.size}", "--size iemocap", "Only that size is listed."
        )
    threads = args.threads or sorted(
        {1, min(2, os.cpu_count() or 1)} if args.device == "cpu" else {1}
    )
    epochs = EPOCHS if args.epochs is None else args.epochs
    return [
        Case(args.backbone, method, variant, args.size, count, epochs, args.device)
        for count in threads
        for method, variant in METHODS
    ]


def measure_apart(case: Case) -> dict[str, Any]:
    """``step.measure`` in a process of its own."""
    return apart(measure, case)


def import_seconds() -> float:
    """How long a fresh interpreter takes to import ``mmlib.fit``; the better of two, so that files are cached."""
    code = "import time; start = time.perf_counter(); import mmlib.fit; print(time.perf_counter() - start)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return min(
        float(
            subprocess.run(
                [sys.executable, "-c", code],
                check=True,
                capture_output=True,
                text=True,
                env=environment,
            ).stdout
        )
        for _ in range(2)
    )


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per case; ``rows`` as ``step.measure`` returns them."""
    on_cuda = all(row["cuda_memory_mb"] is not None for row in rows)
    chosen = FIELDS | (CUDA_FIELDS if on_cuda else {})
    return pd.DataFrame({column: [row[field] for row in rows] for column, field in chosen.items()})


def render(report: dict[str, Any]) -> str:
    """The table, what it was measured on, and the goals beside what was reached."""
    rows, here = report["rows"], report["machine"]
    digits = {
        "utterances/s": 0,
        "s/epoch": 3,
        "products s": 3,
        "ratio": 2,
        "memory MB": 0,
        "set-up s": 2,
        "CUDA memory MB": 0,
        "idle %": 0,
    }
    formats = {c: (lambda v, d=d: f"{v:,.{d}f}") for c, d in digits.items()}
    first = rows[0]
    lines = [
        f"{here['device']} ({here['device_name']}), {here['cores']} cores, {here['system']}, torch {here['torch']}, "
        f"Python {here['python']}",
        f"{first['utterances']:,} utterances in {first['dialogues']} dialogues, dims "
        + ", ".join(f"{m} {d}" for m, d in first["dims"].items())
        + f", 16 dialogues a step; median of {first['epochs']} epochs after one for warming up",
        "",
        table(rows).to_string(index=False, formatters=formats),
        "",
        f"importing mmlib.fit: {report['import_seconds']:.1f} s; set-up: data to the device and model built",
        "products s: the epoch's matrix products alone, on warm operands; ratio: epoch over products",
        *goals(rows),
    ]
    return "\n".join(lines)


def goals(rows: list[dict[str, Any]]) -> list[str]:
    """A line per goal and case of BALM as printed, at the size that the goals are for."""
    lines = []
    for row in rows:
        if (row["method"], row["variant"], row["size"]) != ("balm", "paper", "iemocap"):
            continue
        where = f"{row['name']}, {row['threads']} thread(s)"
        lines.append(
            _goal(
                f"at most {RATIO_GOAL:g} times the products' time",
                f"{row['ratio']:.2f}",
                where,
                row["ratio"] <= RATIO_GOAL,
            )
        )
        if row["threads"] == SPEED_CORES and row["device"] == "cpu":
            speed = row["utterances_per_second"]
            lines.append(
                _goal(
                    f"{SPEED_GOAL:,.0f} utterances/s on two cores",
                    f"{speed:,.0f}",
                    where,
                    speed >= SPEED_GOAL,
                )
            )
    return lines


def _goal(goal: str, measured: str, where: str, reached: bool) -> str:
    return f"goal {goal}: {measured} ({where}): {'reached' if reached else 'missed'}"


def shapes_file(backbone: str) -> Path:
    """The committed list of an epoch's matrix products."""
    return paths.root() / "docs" / "bench" / f"balm_{backbone}_iemocap.csv"


def write_shapes(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the lists of products: one line per method, variant, operation and pair of shapes."""
    lines = ["method,variant,op,left,right,count"]
    lines += [
        ",".join([method, variant, *map(str, product)])
        for (method, variant), products in _lists(rows).items()
        for product in products
    ]
    files.write(path, ("\n".join(lines) + "\n").encode())


def read_shapes(path: Path) -> dict[tuple[str, str], list[tuple[str, str, str, int]]]:
    """What ``write_shapes`` wrote: (method, variant) to (op, left, right, count) tuples."""
    products: dict[tuple[str, str], list[tuple[str, str, str, int]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        method, variant, op, left, right, count = line.split(",")
        products.setdefault((method, variant), []).append((op, left, right, int(count)))
    return products


def _lists(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[str, str, str, int]]]:
    return {(row["method"], row["variant"]): [tuple(p) for p in row["products"]] for row in rows}


def _shapes_line(rows: list[dict[str, Any]], path: Path) -> str:
    at = path.relative_to(paths.root()).as_posix()
    if not path.exists():
        return f"list of matrix products: none at {at}; --write-shapes writes it"
    same = read_shapes(path) == _lists(rows)
    return f"list of matrix products: {'as in' if same else 'differs from'} {at}" + (
        "" if same else " (the code or the data has changed; --write-shapes renews it)"
    )
