"""``mmlib bench balm``: how fast a training is here, beside the time that its matrix products take alone.

Nothing heavy is imported before a measurement is asked for. Each case is measured in a fresh process,
so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlib import files, options, paths
from mmlib.errors import InputError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

METHODS = (("plain", "paper"), ("balm", "paper"), ("balm", "released"))
SIZES = {"iemocap": "full", "quick": "quick"}
DEVICES = ("cpu", "cuda", "mps")
# Column of the table to field of a measurement.
FIELDS = {"method": "name", "threads": "threads", "utterances/s": "utterances_per_second", "s/epoch": "epoch_seconds",
          "products s": "product_seconds", "ratio": "ratio", "memory MB": "memory_mb", "set-up s": "setup_seconds"}
CUDA_FIELDS = {"CUDA memory MB": "cuda_memory_mb", "idle %": "idle_percent"}
EPOCHS = 3
LENGTHS = (10, 30, 100, 300)  # utterances of a dialogue
PARTS = ("recurrences", "products", "pairs", "update", "rest")  # of a step's time; bench_length says what each is
SMALL_PARTS = ("rest", "teacher", "MSD", "CCE", "EMC", "IMTD")  # of a step of EBMC; bench_ebmc says what each is
# In reports of other benches than BALM's epochs.
OTHERS = {"lengths", "adapters", "clips", "stages", "contributions", "sweeps"}
PAPERS = ("balm", "gmm_loss", "mculora", "ebmc", "dream", "sweep")
RATIO_GOAL = 2.0
SPEED_GOAL = 2500.0
SPEED_CORES = 2
MOST_THREADS = 1024


@dataclass(frozen=True)
class Case:
    """One measurement: ``size`` is a key of ``SIZES``; ``epochs`` are timed after one for warming up."""

    backbone: str
    method: str
    variant: str
    size: str
    threads: int
    epochs: int
    device: str

    @property
    def name(self) -> str:
        """As the table shows it."""
        return case_name(self.backbone, self.method, self.variant)


def case_name(backbone: str, method: str, variant: str) -> str:
    """How tables call a method on a backbone."""
    return backbone if method == "plain" else f"{backbone} + {method} ({variant})"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``mmlib bench``."""
    parser.add_argument("paper", metavar="PAPER",
                        help="whose method is measured: balm, gmm_loss, mculora, ebmc, dream; or sweep")
    parser.add_argument("--backbone", default="mmgcn", metavar="NAME[,NAME]",
                        help="the network that the method plugs into; several beside --lengths only")
    parser.add_argument("--size", default="iemocap",
                        help="iemocap (108 dialogues at the real dims) or quick; of gmm_loss crema-d or quick; of "
                             "sweep quick or tiny")
    parser.add_argument("--threads", type=int, nargs="+", metavar="N",
                        help="thread counts to measure in turn (default: 1, and 2 where there are two cores)")
    parser.add_argument("--epochs", type=int, metavar="N",
                        help=f"timed epochs after a warm-up, of which the median counts (default: {EPOCHS})")
    parser.add_argument("--lengths", type=int, nargs="*", metavar="T",
                        help="measure a step over dialogues of so many utterances instead "
                             f"(default: {' '.join(map(str, LENGTHS))})")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there as well")
    parser.add_argument("--write-shapes", action="store_true", help="renew the committed list of matrix products")


def run(args: argparse.Namespace) -> int:
    """Measure, print a table with the goals, and write JSON where asked.

    Raises:
        InputError: an unknown name, a number out of range, a device that is not here, or a JSON path
            in a folder that does not exist.
    """
    _check(args)
    if args.paper == "gmm_loss":
        from mmlib import bench_clips

        return _written(bench_clips.run(args), args.json)
    if args.paper == "mculora":
        from mmlib import bench_adapters

        return _written(bench_adapters.run(args), args.json)
    if args.paper == "ebmc":
        from mmlib import bench_ebmc

        return _written(bench_ebmc.run(args), args.json)
    if args.paper == "dream":
        from mmlib import bench_dream

        return _written(bench_dream.run(args), args.json)
    if args.paper == "sweep":
        from mmlib import bench_sweep

        return _written(bench_sweep.run(args), args.json)
    if args.lengths is not None:
        return _run_lengths(args)
    cases = cases_of(args)
    rows = []
    for case in cases:
        print(f"measuring {case.name}, {case.threads} thread(s) ...", file=sys.stderr, flush=True)
        rows.append(measure_apart(case))
    report = {"machine": machine(args.device), "size": args.size, "import_seconds": import_seconds(),
              "rows": [{k: v for k, v in row.items() if k != "products"} for row in rows]}
    shapes = shapes_file(args.backbone)
    if args.write_shapes:
        write_shapes(rows, shapes)
    print(render(report))
    if args.size == "iemocap":
        print(_shapes_line(rows, shapes))
    return _written(report, args.json)


def _check(args: argparse.Namespace) -> None:
    """What every bench needs of its arguments."""
    for where, value, known in (("bench", args.paper, PAPERS), ("--device", args.device, DEVICES)):
        if value not in known:
            raise unknown_name(where, value, known)
    if args.device == "mps":
        import torch

        if not torch.backends.mps.is_available():
            raise InputError("--device", args.device, "a device that torch finds here", "Leave it out to use the CPU.")
    for count in args.threads or ():
        if not 1 <= count <= MOST_THREADS:
            raise InputError("--threads", str(count)[:40], f"1 to {MOST_THREADS}", "Correct it.")
    options.at_least_one("--epochs", args.epochs)
    for length in args.lengths or ():
        options.at_least_one("--lengths", length)
    options.names("--backbone", args.backbone)
    options.file_to_write("--json", args.json)


def _written(report: dict[str, Any], path: str | None) -> int:
    """Write a report where asked."""
    if path:
        with files.explained(Path(path)):  # which may be a device, so written as it is
            Path(path).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def cases_of(args: argparse.Namespace) -> list[Case]:
    """The measurements that the arguments ask for, checked before any of them starts."""
    import torch

    if len(_backbones(args)) > 1:
        raise InputError("--backbone", args.backbone, "one name", "Several are measured beside --lengths only.")
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here[args.device]:
        raise InputError("--device", args.device, "a device that torch finds here", "Leave it out to use the CPU.")
    threads = args.threads or sorted({1, min(2, os.cpu_count() or 1)} if args.device == "cpu" else {1})
    epochs = EPOCHS if args.epochs is None else args.epochs
    _at_least_one(("--epochs", epochs), *(("--threads", n) for n in threads))
    if args.write_shapes and args.size != "iemocap":
        raise InputError("--write-shapes", f"--size {args.size}", "--size iemocap", "Only that size is listed.")
    return [Case(args.backbone, method, variant, args.size, count, epochs, args.device)
            for count in threads for method, variant in METHODS]


def _backbones(args: argparse.Namespace) -> list[str]:
    """The backbones, after what every measurement needs has been checked."""
    from mmlib.backbones import BACKBONES

    names = args.backbone.split(",")
    for where, value, known in (("bench", args.paper, PAPERS),
                                *(("--backbone", name, BACKBONES) for name in names),
                                ("--size", args.size, SIZES), ("--device", args.device, DEVICES)):
        if value not in known:
            raise unknown_name(where, value, known)
    if args.json and not Path(args.json).resolve().parent.is_dir():
        raise InputError("--json", args.json, "a file in a folder that exists", "Make the folder first.")
    return names


def _at_least_one(*given: tuple[str, int]) -> None:
    for where, value in given:
        if value < 1:
            raise InputError(where, str(value), "1 or more", "Raise it.")


def _run_lengths(args: argparse.Namespace) -> int:
    names = _backbones(args)
    for option, given in (("--threads", args.threads), ("--epochs", args.epochs), ("--write-shapes", args.write_shapes),
                          ("--device", args.device != "cpu")):
        if given:
            raise InputError(option, "it beside --lengths", "one of the two",
                             "A step's cost by length is measured on the CPU and one thread.")
    lengths = args.lengths or list(LENGTHS)
    _at_least_one(*(("--lengths", length) for length in lengths))
    from mmlib import bench_length

    report = bench_length.report_of(names, args.size, lengths)
    print(bench_length.render(report))
    return _written(report, args.json)


def measure_apart(case: Case) -> dict[str, Any]:
    """``bench_step.measure`` in a process of its own."""
    from mmlib.bench_step import measure

    return apart(measure, case)


def apart(measure: Callable[[Any], dict[str, Any]], case: object) -> dict[str, Any]:
    """A measurement in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, case).result()


def import_seconds() -> float:
    """How long a fresh interpreter takes to import ``mmlib.fit``; the better of two, so that files are cached."""
    code = "import time; start = time.perf_counter(); import mmlib.fit; print(time.perf_counter() - start)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    return min(float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                                    env=environment).stdout) for _ in range(2))


def machine(device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    return {"system": platform.system(), "cores": os.cpu_count(), "device": device, "device_name": name,
            "python": platform.python_version(), "torch": torch.__version__.split("+")[0]}


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per case; ``rows`` as ``bench_step.measure`` returns them."""
    import pandas as pd

    on_cuda = all(row["cuda_memory_mb"] is not None for row in rows)
    chosen = FIELDS | (CUDA_FIELDS if on_cuda else {})
    return pd.DataFrame({column: [row[field] for row in rows] for column, field in chosen.items()})


def render(report: dict[str, Any]) -> str:
    """The table, what it was measured on, and the goals beside what was reached."""
    rows, here = report["rows"], report["machine"]
    digits = {"utterances/s": 0, "s/epoch": 3, "products s": 3, "ratio": 2, "memory MB": 0, "set-up s": 2,
              "CUDA memory MB": 0, "idle %": 0}
    formats = {c: (lambda v, d=d: f"{v:,.{d}f}") for c, d in digits.items()}
    first = rows[0]
    lines = [
        f"{here['device']} ({here['device_name']}), {here['cores']} cores, {here['system']}, torch {here['torch']}, "
        f"Python {here['python']}",
        f"{first['utterances']:,} utterances in {first['dialogues']} dialogues, dims "
        + ", ".join(f"{m} {d}" for m, d in first["dims"].items())
        + f", 16 dialogues a step; median of {first['epochs']} epochs after one for warming up",
        "", table(rows).to_string(index=False, formatters=formats), "",
        f"importing mmlib.fit: {report['import_seconds']:.1f} s; set-up: data to the device and model built",
        "products s: the epoch's matrix products alone, on warm operands; ratio: epoch over products",
        *goals(rows),
    ]
    return "\n".join(lines)


def readme_table(reports: list[dict[str, Any]]) -> str:
    """The README's table of measured speeds, from what ``--json`` wrote on each machine, BALM as printed.

    BALM as released and the lengths stand in docs/bench.
    """
    reports = [report for report in reports if not OTHERS & set(report)]
    head = ["where", "method", "threads", "utterances/s", "s/epoch", "over the products' time", "memory MB", "idle"]
    lines = [head, ["---"] * len(head)]
    for report in reports:
        where = place(report["machine"])
        lines += [[where, row["name"], str(row["threads"]), f"{row['utterances_per_second']:,.0f}",
                   f"{row['epoch_seconds']:.2f}", f"{row['ratio']:.2f}", f"{row['memory_mb']:.0f}",
                   f"{row['idle_percent']:.0f} %" if row.get("idle_percent") is not None else "-"]
                  for row in report["rows"] if row["variant"] == "paper"]
    if not any(report["machine"]["device"] == "cuda" for report in reports):
        lines.append(["a GPU", "not measured yet: run `mmlib bench balm --device cuda`", *["-"] * (len(head) - 2)])
    return markdown(lines)


def markdown(lines: list[list[str]]) -> str:
    """A table of cells as Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def place(here: dict[str, Any]) -> str:
    """Where a measurement was made, in words: device, cores and the version of torch."""
    return f"{here['device']} ({here['device_name']}), {here['cores']} cores, torch {here['torch']}"


def goals(rows: list[dict[str, Any]]) -> list[str]:
    """A line per goal and case of BALM as printed, at the size that the goals are for."""
    lines = []
    for row in rows:
        if (row["method"], row["variant"], row["size"]) != ("balm", "paper", "iemocap"):
            continue
        where = f"{row['name']}, {row['threads']} thread(s)"
        lines.append(_goal(f"at most {RATIO_GOAL:g} times the products' time", f"{row['ratio']:.2f}", where,
                           row["ratio"] <= RATIO_GOAL))
        if row["threads"] == SPEED_CORES and row["device"] == "cpu":
            speed = row["utterances_per_second"]
            lines.append(_goal(f"{SPEED_GOAL:,.0f} utterances/s on two cores", f"{speed:,.0f}", where,
                               speed >= SPEED_GOAL))
    return lines


def _goal(goal: str, found: str, where: str, reached: bool) -> str:
    return f"goal {goal}: {found} ({where}): {'reached' if reached else 'missed'}"


def shapes_file(backbone: str) -> Path:
    """The committed list of an epoch's matrix products."""
    return paths.root() / "docs" / "bench" / f"balm_{backbone}_iemocap.csv"


def write_shapes(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the lists of products: one line per method, variant, operation and pair of shapes."""
    lines = ["method,variant,op,left,right,count"]
    lines += [",".join([method, variant, *map(str, product)])
              for (method, variant), products in _lists(rows).items() for product in products]
    files.write(path, ("\n".join(lines) + "\n").encode())


def read_shapes(path: Path) -> dict[tuple[str, str], list[tuple[str, str, str, int]]]:
    """What ``write_shapes`` wrote: (method, variant) to (op, left, right, count) tuples."""
    found: dict[tuple[str, str], list[tuple[str, str, str, int]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        method, variant, op, left, right, count = line.split(",")
        found.setdefault((method, variant), []).append((op, left, right, int(count)))
    return found


def _lists(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[str, str, str, int]]]:
    return {(row["method"], row["variant"]): [tuple(p) for p in row["products"]] for row in rows}


def _shapes_line(rows: list[dict[str, Any]], path: Path) -> str:
    at = path.relative_to(paths.root()).as_posix()
    if not path.exists():
        return f"list of matrix products: none at {at}; --write-shapes writes it"
    same = read_shapes(path) == _lists(rows)
    return f"list of matrix products: {'as in' if same else 'differs from'} {at}" + (
        "" if same else " (the code or the data has changed; --write-shapes renews it)")
