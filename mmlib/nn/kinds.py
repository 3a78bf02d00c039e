"""Labels as memberships of kinds, for losses over classes: a score's kinds are equal parts of its range."""

from __future__ import annotations

import torch
from torch import Tensor

from mmlib.data.bundle import Task


def kinds(task: Task, labels: Tensor, parts: int = 2) -> Tensor:
    """labels as in the bundle -> (n, K) ones and zeros: which kinds an utterance is of.

    Classes: the class. Binaries: no and yes of each question, K = 2 questions. Scores: the nearest of ``parts`` equally
    spaced values from the lowest to the highest score: of two the sign where the range lies around 0 (0 counts as
    positive), of seven the rounded score where it is -3 to 3.
    """
    if task.kind == "binaries":
        yes = labels.float()
        return torch.stack([1 - yes, yes], dim=2).flatten(1)
    number, count = labels, task.outputs
    if task.kind == "score":
        assert task.range is not None  # a score has one
        lowest, highest = task.range
        share = (labels - lowest) / (highest - lowest)
        number = (share * (parts - 1) + 0.5).floor().clamp(0, parts - 1)
        count = parts
    return (number[:, None] == torch.arange(count, device=labels.device)).float()
