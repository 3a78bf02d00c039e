"""Cross-modal attention in several groups at once, each of a target over a source, as in MulT (BASELINES_MM 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.dropout import dropout
from mmlib.nn.latents import Several


def pairs(count: int) -> list[tuple[int, int]]:
    """(target, source) for all ordered pairs of modalities, those of one target next to one another."""
    return [(i, j) for i in range(count) for j in range(count) if i != j]


def reachable(target: Tensor, source: Tensor) -> Tensor:
    """Which frames a target's may look at: frame j from frame i where j <= i + |T_target - T_source|.

    A row's T is its last real frame. So the target's last frame sees all of the source.

    target (n, q), source (n, k) bool: the real frames -> (n, q, k) bool.
    """
    ends = [last(x) for x in (target, source)]
    steps = [torch.arange(x.shape[1], device=x.device) for x in (target, source)]
    reach = steps[0] + (ends[0] - ends[1]).abs()[:, None]  # (n, q)
    return source[:, None] & (steps[1] <= reach[:, :, None])


def last(real: Tensor) -> Tensor:
    """(n,): the number of each row's last real frame, 0 where none is; real (n, t) bool."""
    return (real * torch.arange(real.shape[1], device=real.device)).amax(dim=1)


class SeveralNorm(nn.Module):
    """A layer norm for each group, (G, ..., width)."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count, width))
        self.bias = nn.Parameter(torch.zeros(count, width))

    def forward(self, values: Tensor) -> Tensor:
        """(G, ..., width) -> the same."""
        shape = (len(self.weight), *[1] * (values.ndim - 2), -1)
        normed = F.layer_norm(values, values.shape[-1:])
        return normed * self.weight.reshape(shape) + self.bias.reshape(shape)


class CrossLayer(nn.Module):
    """z <- z + attention of LN(z) over LN(source), z <- z + W_2 ReLU(W_1 LN(z)), in every group.

    The first norm has the same weights for both. A target that may look at nothing keeps z in the first part.
    """

    def __init__(self, count: int, width: int, heads: int, rate: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, rate
        self.first, self.second = SeveralNorm(count, width), SeveralNorm(count, width)
        self.query, self.key, self.value, self.out = (
            Several(count, width, width) for _ in range(4)
        )
        self.widen, self.narrow = Several(count, width, 4 * width), Several(count, 4 * width, width)

    def forward(self, targets: Tensor, sources: Tensor, allowed: Tensor) -> Tensor:
        """targets (G, n, q, width), sources (G, n, k, width), allowed (G, n, q, k) bool -> as targets."""
        asked, told = self.first(targets), self.first(sources)
        query, key, value = (
            over(layer, x).unflatten(3, (self.heads, -1)).transpose(2, 3)  # (G, n, heads, t, each)
            for layer, x in ((self.query, asked), (self.key, told), (self.value, told))
        )
        scores = query @ key.transpose(3, 4) / math.sqrt(query.shape[4])
        any_allowed = allowed.any(dim=3, keepdim=True)
        hidden = ~(allowed | ~any_allowed)[:, :, None]
        attended = scores.masked_fill(hidden, -math.inf).softmax(dim=4) @ value
        joined = over(self.out, attended.transpose(2, 3).flatten(3)) * any_allowed
        targets = targets + dropout(joined, self.rate, self.training)
        inner = F.relu(over(self.widen, self.second(targets)))
        return targets + dropout(over(self.narrow, inner), self.rate, self.training)


class Crossings(nn.Module):
    """Layers one after the other, over sources that stay as they are, and a norm at the end."""

    def __init__(self, count: int, width: int, heads: int, layers: int, rate: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList([CrossLayer(count, width, heads, rate) for _ in range(layers)])
        self.norm = SeveralNorm(count, width)

    def forward(self, targets: Tensor, sources: Tensor, allowed: Tensor) -> Tensor:
        """As a layer's."""
        for layer in self.layers:
            targets = layer(targets, sources, allowed)
        normed: Tensor = self.norm(targets)
        return normed


def over(layer: Several, values: Tensor) -> Tensor:
    """A layer of every group on (G, n, t, inputs)."""
    made: Tensor = layer(values.flatten(1, 2))
    return made.unflatten(1, values.shape[1:3])


class ResidualHead(nn.Module):
    """x + W_2 dropout(ReLU(W_1 x)): what stands before MulT's predictions."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.first, self.second, self.rate = nn.Linear(width, width), nn.Linear(width, width), rate

    def forward(self, values: Tensor) -> Tensor:
        """(n, width) -> (n, width)."""
        inner = dropout(F.relu(self.first(values)), self.rate, self.training)
        made: Tensor = values + self.second(inner)
        return made


def padded(frames: Sequence[Tensor]) -> Tensor:
    """Modalities' (n, t, width) -> (M, n, T, width), zeros behind the frames of those with fewer than the longest."""
    longest = max(x.shape[1] for x in frames)
    return torch.stack([F.pad(x, (0, 0, 0, longest - x.shape[1])) for x in frames])


def positions(steps: int, width: int, like: Tensor) -> Tensor:
    """(steps, width): sines of the first half of the coordinates, cosines of the rest; like gives device and type."""
    half = (width + 1) // 2
    rates = torch.exp(
        torch.arange(half, device=like.device, dtype=like.dtype) * (-math.log(1e4) / max(half, 1))
    )
    angles = torch.arange(steps, device=like.device, dtype=like.dtype)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]
