"""Gradient reversal (Ganin and Lempitsky, 2015): nothing on the way forth, minus the gradient on the way back."""

from __future__ import annotations

from torch import Tensor


def reverse(values: Tensor) -> Tensor:
    """The same values, whose gradient is turned round."""
    return 2 * values.detach() - values
