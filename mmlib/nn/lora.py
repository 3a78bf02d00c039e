"""Low-rank adapters (MCULoRA Eqs 1-2): several of one linear map, one of them for each row of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmlib.nn.dropout import dropout


class Adapters(nn.Module):
    """scale * B_k A_k x for k of ``count`` adapters; A starts as a linear layer does, B at zero.

    down: (count, rank, inputs), A. up: (count, outputs, rank), B. rate: of dropout on x.
    """

    def __init__(
        self,
        count: int,
        inputs: int,
        outputs: int,
        rank: int,
        scale: float = 1.0,
        rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.down = nn.Parameter(
            torch.empty(count, rank, inputs).uniform_(-1, 1) / math.sqrt(inputs)
        )
        self.up = nn.Parameter(torch.zeros(count, outputs, rank))
        self.scale, self.rate = scale, rate

    def forward(self, values: Tensor, chosen: Tensor | None = None) -> Tensor:
        """values (n, inputs), chosen (n, count) with a single 1 a row, all ones where None -> (n, outputs).

        One product with all adapters' A side by side and one with their B: those not chosen are zero between.
        """
        count, rank, _ = self.down.shape
        inner = dropout(values, self.rate, self.training) @ self.down.flatten(0, 1).T
        if chosen is not None:
            inner = (inner.unflatten(1, (count, rank)) * chosen[:, :, None]).flatten(1)
        return self.scale * inner @ self.up.transpose(1, 2).flatten(0, 1)

    def every(self, values: Tensor) -> Tensor:
        """What each adapter makes of each row, without dropout: (n, inputs) -> (n, count, outputs)."""
        return self.scale * torch.einsum("nd,krd,kor->nko", values, self.down, self.up)

    def merged(self, weight: Tensor, number: int = 0) -> Tensor:
        """A linear map's weight (outputs, inputs) with one adapter added to it."""
        return weight + self.scale * self.up[number] @ self.down[number]
