"""What the cases of ``mmlib bench`` share: their common options checked, measurements apart, the machine, tables."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Container
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

from mmlib.errors import InputError, unknown_name

METHODS = (("plain", "paper"), ("balm", "paper"), ("balm", "released"))
SIZES = {"iemocap": "full", "quick": "quick"}
# Of a step's time; length.py says what each is.
PARTS = ("recurrences", "products", "pairs", "update", "rest")
# Of a step of EBMC; ebmc.py says what each is.
SMALL_PARTS = ("rest", "teacher", "MSD", "CCE", "EMC", "IMTD")


def check_size(args: argparse.Namespace, sizes: Container[str]) -> None:
    """Refuse a size that a case does not have.

    Raises:
        InputError: with the nearest known one.
    """
    if args.size not in sizes:
        raise unknown_name("--size", args.size, list(sizes))  # type: ignore[call-overload]


def device_of(args: argparse.Namespace) -> torch.device:
    """The device to measure on.

    Raises:
        InputError: one that torch does not find here.
    """
    here = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not here[args.device]:
        raise InputError(
            "--device",
            args.device,
            "a device that torch finds here",
            "Leave it out to use the CPU.",
        )
    return torch.device(args.device)


def refuse(args: argparse.Namespace, *names: str, why: str) -> None:
    """Refuse options that a case cannot take; names are those of the arguments, such as ``write_shapes``.

    Raises:
        InputError: one of them is given.
    """
    for name in names:
        given = getattr(args, name)
        if given not in (None, False) and not (name == "device" and given == "cpu"):
            raise InputError(f"--{name.replace('_', '-')}", "it", "none of it", why)


def case_name(backbone: str, method: str, variant: str) -> str:
    """How tables call a method on a backbone."""
    return backbone if method == "plain" else f"{backbone} + {method} ({variant})"


def apart(measure: Callable[[Any], dict[str, Any]], case: object) -> dict[str, Any]:
    """A measurement in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, case).result()


def machine(device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    return {
        "system": platform.system(),
        "cores": os.cpu_count(),
        "device": device,
        "device_name": name,
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
    }


def markdown(lines: list[list[str]]) -> str:
    """A table of cells as Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def place(here: dict[str, Any]) -> str:
    """Where a measurement was made, in words: device, cores and the version of torch."""
    return f"{here['device']} ({here['device_name']}), {here['cores']} cores, torch {here['torch']}"
