"""Two hidden layers before a prediction, and with it, as the systems around MMIN have them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.dropout import dropout


class Trunk(nn.Module):
    """Linear, ReLU and dropout, twice.

    rate: of the dropout.
    """

    def __init__(self, dim: int, width: int, rate: float) -> None:
        super().__init__()
        self.first, self.second, self.rate = nn.Linear(dim, width), nn.Linear(width, width), rate

    def forward(self, values: Tensor) -> Tensor:
        """(n, dim) -> (n, width)."""
        inner = dropout(F.relu(self.first(values)), self.rate, self.training)
        return dropout(F.relu(self.second(inner)), self.rate, self.training)


class Head(nn.Module):
    """A trunk and the linear layer that predicts from it."""

    def __init__(self, dim: int, width: int, outputs: int, rate: float) -> None:
        super().__init__()
        self.hidden, self.last = Trunk(dim, width, rate), nn.Linear(width, outputs)

    def forward(self, values: Tensor) -> Tensor:
        """(n, dim) -> (n, outputs)."""
        logits: Tensor = self.last(self.hidden(values))
        return logits
