"""Attention of one modality's frames to those of several, some of which are not there (DREAM Eqs 7 and 8)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Crossing(nn.Module):
    """Several attentions of the same frames, each with maps and heads of its own, seeing other keys; their sum.

    Queries, keys, values and the output each have a linear map with bias. The attentions ("groups") go through as one,
    so that DREAM's I_g + sum of I_k takes as many operations as I_g.
    """

    def __init__(self, width: int, heads: int, groups: int = 1) -> None:
        super().__init__()
        self.heads, self.groups = heads, groups
        self.query, self.told = (
            nn.Linear(width, groups * width),
            nn.Linear(width, 2 * groups * width),
        )
        self.out = nn.Linear(groups * width, width)

    def forward(self, queries: Tensor, context: Tensor, seen: Tensor) -> Tensor:
        """queries (n, q, width), context (n, k, width), seen (n, groups, k) bool: what each sees -> (n, q, width).

        An attention that sees nothing adds nothing but the output's bias.
        """
        query = self._apart(self.query(queries))  # (n groups heads, q, width / heads)
        key, value = (self._apart(x) for x in self.told(context).chunk(2, dim=2))
        any_seen = seen.any(dim=2, keepdim=True)
        hidden = ~seen & any_seen  # a row that sees nothing hides nothing, and stays finite
        bias = torch.zeros_like(seen, dtype=queries.dtype).masked_fill_(hidden, -math.inf)
        bias = bias.flatten(0, 1).repeat_interleave(self.heads, dim=0)[:, None]
        scores = torch.baddbmm(
            bias, query, key.transpose(1, 2), alpha=1 / math.sqrt(query.shape[2])
        )
        attended = torch.bmm(scores.softmax(dim=2), value).unflatten(
            0, (-1, self.groups, self.heads)
        )
        joined: Tensor = self.out(
            (attended * any_seen[:, :, None, None]).permute(0, 3, 1, 2, 4).flatten(2)
        )
        return joined

    def _apart(self, values: Tensor) -> Tensor:
        """(n, t, groups width) -> (n groups heads, t, width / heads)."""
        return values.unflatten(2, (self.groups * self.heads, -1)).transpose(1, 2).flatten(0, 1)
