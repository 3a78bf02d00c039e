"""Task losses and what BALM needs of them: distributions, and gradients in closed form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.data.bundle import Task


def task_loss(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of a batch (A15: mean, not the printed sum); logits (n, C), labels as in the bundle.

    Cross-entropy for classes, mean squared error for a score (A16), cross-entropy over each pair
    of logits for binaries.
    """
    if task.kind == "score":
        return F.mse_loss(logits[:, 0], labels)
    if task.kind == "binaries":
        return F.cross_entropy(logits.reshape(-1, 2), labels.reshape(-1))
    return F.cross_entropy(logits, labels)


def logit_residual(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """d(n * task_loss)/d logits, (n, C): P - Y for classes (A12), 2 (score - y) for a score."""
    if task.kind == "score":
        return 2 * (logits - labels[:, None])
    if task.kind == "binaries":
        pairs = logits.unflatten(1, (-1, 2))
        truth = F.one_hot(labels, 2).to(logits.dtype)
        return ((pairs.softmax(dim=-1) - truth) / labels.shape[1]).flatten(1)
    return logits.softmax(dim=-1) - F.one_hot(labels, logits.shape[1]).to(logits.dtype)


def log_distribution(task: Task, logits: Tensor) -> Tensor:
    """Log-probabilities over classes, (n, K).

    A score y becomes the two classes (sigmoid(-y), sigmoid(y)) (BALM supplement E).
    """
    if task.kind == "score":
        return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=1)
    if task.kind == "binaries":
        return logits.unflatten(1, (-1, 2)).log_softmax(dim=-1).flatten(0, 1)
    return logits.log_softmax(dim=-1)
