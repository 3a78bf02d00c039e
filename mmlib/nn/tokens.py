"""Modalities as the tokens of a transformer: what a sequence of one step leaves of attention over time (R2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.attention import attend
from mmlib.nn.dropout import dropout


def stacked(values: Mapping[str, Tensor], modalities: Sequence[str]) -> Tensor:
    """Modality to (n, width) -> (n, M, width)."""
    return torch.stack([values[m] for m in modalities], dim=1)


class TokenBlock(nn.Module):
    """A pre-norm transformer layer over tokens, of which some are not there.

    width: of a token. wide: of the hidden layer of its perceptron (GELU). rate: dropout after both parts.
    """

    def __init__(self, width: int, heads: int, wide: int, rate: float = 0.0) -> None:
        super().__init__()
        self.heads, self.rate = heads, rate
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.told, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, wide), nn.Linear(wide, width)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """tokens (n, k, width), seen (n, k) bool: which of them others may look at -> (n, k, width)."""
        query, key, value = self.told(self.first(tokens)).chunk(3, dim=2)
        attended = self.out(attend(query, key, value, seen, self.heads))
        tokens = tokens + dropout(attended, self.rate, self.training)
        inner = self.narrow(F.gelu(self.widen(self.second(tokens))))
        return tokens + dropout(inner, self.rate, self.training)
