"""The transformer layer of Vaswani et al. (2017), normed after each part, over tokens of which some are not there."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.attention import attend
from mmlib.nn.dropout import dropout


class PostBlock(nn.Module):
    """x <- LN(x + attention of x), x <- LN(x + W_2 ReLU(W_1 x)).

    width: of a token. wide: of the hidden layer. rate: dropout of both parts and of the hidden layer.
    """

    def __init__(self, width: int, heads: int, wide: int, rate: float = 0.0) -> None:
        super().__init__()
        self.heads, self.rate = heads, rate
        self.told, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, wide), nn.Linear(wide, width)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """tokens (n, k, width), seen (n, k) bool: which of them others may look at -> (n, k, width)."""
        query, key, value = self.told(tokens).chunk(3, dim=2)
        attended = self.out(attend(query, key, value, seen, self.heads))
        tokens = self.first(tokens + dropout(attended, self.rate, self.training))
        inner = dropout(F.relu(self.widen(tokens)), self.rate, self.training)
        normed: Tensor = self.second(tokens + dropout(self.narrow(inner), self.rate, self.training))
        return normed
