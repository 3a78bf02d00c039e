"""Means over what counts, and per-example task losses; 0, never NaN, where nothing counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.data.bundle import Task


def mean_where(values: Tensor, counts: Tensor) -> Tensor:
    """Mean over the last axis of the entries that count; counts is bool, of the same shape."""
    return torch.where(counts, values, 0).sum(-1) / counts.sum(-1).clamp(min=1)


def each_loss(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """(n,): the task loss of every example; logits (n, C), labels as in the bundle."""
    if task.kind == "score":
        return (logits[:, 0] - labels).square()
    if task.kind == "binaries":
        each = F.cross_entropy(logits.reshape(-1, 2), labels.reshape(-1), reduction="none")
        return each.reshape(labels.shape).mean(dim=1)
    return F.cross_entropy(logits, labels, reduction="none")
