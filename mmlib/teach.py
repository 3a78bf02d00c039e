"""Small helpers of the notebooks: parameters, exercises, and the hash that tells whether cells have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from mmlib.errors import InputError, unknown_name

_SHELL = {"In", "Out", "get_ipython", "exit", "quit", "open"}


def only_known(namespace: Mapping[str, Any], known: Iterable[str]) -> None:
    """Hold a notebook's parameters to the known ones; call it in the cell after the parameters.

    Papermill only warns of a parameter that no cell has, and the run goes on without it; here it is an error.

    Raises:
        InputError: a name that is not a parameter, with the nearest one.
    """
    names = set(known)
    for name, value in namespace.items():
        if name.startswith("_") or name in _SHELL | names or callable(value) or hasattr(value, "__spec__"):
            continue
        raise unknown_name("notebook parameter", name, names)
    for name in sorted(names - set(namespace)):
        raise InputError("notebook parameters", f"no {name}", ", ".join(sorted(names)), "Give it in the first cell.")


def cells_hash(notebook: Any) -> str:
    """Hash of a notebook's cells without outputs: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for cell in notebook.cells:
        digest.update(f"{cell.cell_type}\n{cell.source}\n\x00".encode())
    return digest.hexdigest()[:16]


def exercise(name: str, answer: Callable[..., Any], arguments: tuple[Any, ...], solution: Callable[..., Any],
             tolerance: float = 1e-6) -> None:
    """Check a reader's function on some arguments: prints ``PASS``, ``OPEN`` (it returns None) or ``NOT YET``.

    Never raises, so that a notebook with open exercises runs to its end.
    """
    try:
        found = answer(*arguments)
    except Exception as error:  # a reader's code may fail in any way
        print(f"NOT YET {name}: {type(error).__name__}: {error}")
        return
    if found is None:
        print(f"OPEN {name}: the function returns nothing yet")
        return
    expected = np.asarray(solution(*arguments), dtype=float)
    right = np.shape(found) == expected.shape and bool(np.allclose(np.asarray(found, float), expected, atol=tolerance))
    print(f"PASS {name}" if right else f"NOT YET {name}: {found} for {arguments}")
