"""Means over what counts; 0, never NaN, where nothing does."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_where(values: Tensor, counts: Tensor) -> Tensor:
    """Mean over the last axis of the entries that count; counts is bool, of the same shape."""
    return torch.where(counts, values, 0).sum(-1) / counts.sum(-1).clamp(min=1)
