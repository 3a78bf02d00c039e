"""The command line of ``mmlib bench``; a case is imported when it is asked for."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from mmlib import files, options
from mmlib.errors import InputError, unknown_name

# What is measured, and the module whose ``run`` measures it.
CASES = {
    "balm": "balm",
    "gmm_loss": "clips",
    "mculora": "adapters",
    "ebmc": "ebmc",
    "dream": "dream",
    "sweep": "sweep",
}
DEVICES = ("cpu", "cuda", "mps")
EPOCHS = 3
LENGTHS = (10, 30, 100, 300)  # utterances of a dialogue
MOST_THREADS = 1024
LOOK_SECONDS, BUSY_CORES = (
    1.0,
    0.25,
)  # how long others are watched, and what of the machine they may use


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``mmlib bench``."""
    parser.add_argument(
        "paper",
        metavar="PAPER",
        help="whose method is measured: balm, gmm_loss, mculora, ebmc, dream; or sweep",
    )
    parser.add_argument(
        "--backbone",
        default="mmgcn",
        metavar="NAME[,NAME]",
        help="the network that the method plugs into; several beside --lengths only",
    )
    parser.add_argument(
        "--size",
        default="iemocap",
        help="iemocap (108 dialogues at the real dims) or quick; of gmm_loss crema-d or quick; of "
        "sweep quick or tiny",
    )
    _add_amounts(parser)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there as well")
    parser.add_argument(
        "--write-shapes", action="store_true", help="renew the committed list of matrix products"
    )


def _add_amounts(parser: argparse.ArgumentParser) -> None:
    """How much is measured."""
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        metavar="N",
        help="thread counts to measure in turn (default: 1, and 2 where there are two cores)",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help=f"timed epochs after a warm-up, of which the median counts (default: {EPOCHS})",
    )
    parser.add_argument(
        "--lengths",
        type=int,
        nargs="*",
        metavar="T",
        help="measure a step over dialogues of so many utterances instead "
        f"(default: {' '.join(map(str, LENGTHS))})",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print a table with the goals, and write JSON where asked.

    Raises:
        InputError: an unknown name, a number out of range, a device that is not here, or a JSON path
            in a folder that does not exist.
    """
    _check(args)
    # Threads that wait are to sleep: beside one busy process, spinning ones took fifty times as long for an epoch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    busy = busy_cores()
    if busy > BUSY_CORES:
        print(
            f"WARNING: others use {busy:.1f} of {os.cpu_count()} cores, so times come out too long. Measure again when "
            "the machine is free.",
            file=sys.stderr,
        )
    report: dict[str, Any] = import_module(f"mmlib.bench.{CASES[args.paper]}").run(args)
    report = {**report, "busy_cores": round(busy, 2)}
    if args.json:
        path = Path(args.json)
        with files.explained(path):  # which may be a device, so written as it is
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def busy_cores() -> float:
    """How many cores others use now, watched for a second."""
    return psutil.cpu_percent(interval=LOOK_SECONDS) / 100 * (os.cpu_count() or 1)


def _check(args: argparse.Namespace) -> None:
    """What every bench needs of its arguments."""
    for where, value, known in (("bench", args.paper, CASES), ("--device", args.device, DEVICES)):
        if value not in known:
            raise unknown_name(where, value, known)
    for count in args.threads or ():
        if not 1 <= count <= MOST_THREADS:
            raise InputError("--threads", str(count)[:40], f"1 to {MOST_THREADS}", "Correct it.")
    options.at_least_one("--epochs", args.epochs)
    for length in args.lengths or ():
        options.at_least_one("--lengths", length)
    options.names("--backbone", args.backbone)
    options.file_to_write("--json", args.json)
