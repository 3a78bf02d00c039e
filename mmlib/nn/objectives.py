"""Task losses and what BALM needs of them: distributions, and gradients in closed form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def each_loss(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """(n,): the task loss of every example; logits (n, C), labels as in the bundle."""
    if task.kind == "score":
        return (logits[:, 0] - labels).square()
    if task.kind == "binaries":
        each = F.cross_entropy(logits.reshape(-1, 2), labels.reshape(-1), reduction="none")
        return each.reshape(labels.shape).mean(dim=1)
    return F.cross_entropy(logits, labels, reduction="none")


def masked_task_loss(task: Task, logits: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """``task_loss`` over the examples that count; counts (n,) bool. 0 where none does."""
    return (each_loss(task, logits, labels) * counts).sum() / counts.sum().clamp(min=1)


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


class TaskLoss(nn.Module):
    """A task's loss, for classes with class weights and a focal factor where a backbone's recipe has them.

    Mean over the batch of w_y (1 - p_y)^focal (-log p_y), the factor without gradient (ledger 8, A12).

    weights: (C,) or none. normalised: divide by the sum of the weights instead of the batch's size.
    """

    weights: Tensor | None

    def __init__(
        self,
        task: Task,
        focal: float = 0.0,
        weights: Tensor | None = None,
        normalised: bool = False,
    ) -> None:
        super().__init__()
        self.task, self.focal, self.normalised = task, focal, normalised
        self.plain = task.kind != "classes" or (focal == 0 and weights is None)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of a batch; logits (n, C)."""
        if self.plain:
            return task_loss(self.task, logits, labels)
        return (
            self._shares(logits, labels) * F.cross_entropy(logits, labels, reduction="none")
        ).mean()

    def residual(self, logits: Tensor, labels: Tensor) -> Tensor:
        """d(n * loss)/d logits, (n, C), without graph through the factors."""
        if self.plain:
            return logit_residual(self.task, logits, labels)
        return self._shares(logits, labels)[:, None] * logit_residual(self.task, logits, labels)

    def _shares(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(n,) what each example's cross-entropy counts for."""
        with torch.no_grad():
            shares = torch.ones_like(logits[:, 0])
            if self.focal:
                shares = (1 - logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]) ** self.focal
            if self.weights is not None:
                mine = self.weights.index_select(0, labels)
                shares = shares * (mine / mine.mean() if self.normalised else mine)
        return shares
