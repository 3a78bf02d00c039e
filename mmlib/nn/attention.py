"""Attention over the utterances of dialogues, with masks for padding and for what is missing (ledger G12)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.dropout import dropout


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention of several heads; a query without any key to see gets zeros.

    query (b, q, d), key and value (b, k, d), seen (b, k) bool: which keys exist and are observed -> (b, q, d).
    """
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    any_seen = seen.any(dim=1, keepdim=True)
    hidden = ~(seen | ~any_seen)[
        :, None, None
    ]  # a row that sees nothing hides nothing, and stays finite
    weights = scores.masked_fill(hidden, -math.inf).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2) * any_seen[:, :, None]


class Attention(nn.Module):
    """``attend`` with biased linear maps to queries, keys and values, and none to the output."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, queries: Tensor, context: Tensor, seen: Tensor) -> Tensor:
        """queries (b, q, width), context (b, k, width), seen (b, k) -> (b, q, width)."""
        return attend(self.query(queries), self.key(context), self.value(context), seen, self.heads)


class Block(nn.Module):
    """x + a + MLP(a), a = self-attention of x: a transformer's block without norms, positions or output map.

    (BASELINES_MM section 3, EBMC E22.)
    """

    def __init__(self, width: int, heads: int, rate: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.rate = rate

    def forward(self, values: Tensor, seen: Tensor) -> Tensor:
        """values (b, steps, width), seen (b, steps) -> (b, steps, width)."""
        attended = self.attention(values, values, seen)
        inner = dropout(F.gelu(self.first(attended)), self.rate, self.training)
        return values + attended + dropout(self.second(inner), self.rate, self.training)


class Expert(nn.Module):
    """Several blocks, one after the other: the encoder of one modality."""

    def __init__(self, width: int, depth: int, heads: int, rate: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(width, heads, rate) for _ in range(depth)])

    def forward(self, values: Tensor, seen: Tensor) -> Tensor:
        """values (b, steps, width), seen (b, steps) -> the same shape."""
        for block in self.blocks:
            values = block(values, seen)
        return values


class Tail(nn.Module):
    """j + dropout(ReLU(W j)): what stands between the joined modalities and the prediction."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.linear, self.rate = nn.Linear(width, width), rate

    def forward(self, joined: Tensor) -> Tensor:
        """(n, width) -> (n, width)."""
        return joined + dropout(F.relu(self.linear(joined)), self.rate, self.training)
