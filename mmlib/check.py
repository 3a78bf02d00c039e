"""Checks that notebooks print: ``PASS`` with a name, or an error that says what to look at."""

from __future__ import annotations

from typing import Any

import numpy as np


def equal(name: str, actual: Any, expected: Any, tolerance: float = 0.0, hint: str = "") -> None:
    """Print ``PASS name`` where actual equals expected, within a tolerance.

    actual, expected: numbers or arrays (tensors too) of the same shape. tolerance: absolute where all that is expected
    is within -1 and 1, else a share of the largest of it, so that single precision passes on data of any scale.

    Raises:
        AssertionError: they differ; the message has the largest difference and the hint.
    """
    a, b = _array(actual), _array(expected)
    if a.shape != b.shape:
        raise AssertionError(f"FAIL {name}: shape {a.shape}, expected {b.shape}. {hint}")
    if not np.isfinite(b).all():
        raise AssertionError(
            f"FAIL {name}: what is expected is not finite, as on features of huge values. Standardise them (mmlib data "
            f"check names their scales). {hint}"
        )
    worst = float(np.abs(a - b).max()) if a.size else 0.0
    most = tolerance * max(1.0, float(np.abs(b).max(initial=0.0)))
    if not worst <= most:
        raise AssertionError(
            f"FAIL {name}: off by up to {worst:.3g}, at most {most:.3g} is right. {hint}"
        )
    print(f"PASS {name}")


def true(name: str, condition: Any, hint: str = "") -> None:
    """Print ``PASS name`` where the condition holds.

    Raises:
        AssertionError: it does not; the message has the hint.
    """
    if not bool(condition):
        raise AssertionError(f"FAIL {name}. {hint}")
    print(f"PASS {name}")


def _array(values: Any) -> np.ndarray:
    """As float64; a tensor without its graph."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=float)
