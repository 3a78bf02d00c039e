"""Invertible maps with a density: affine couplings, each after a scale and shift (RealNVP; Dinh et al., 2017).

log p(h) = log N(z; mean, I) + log |det dz/dh|.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRETCH = 2.0  # the largest log-scale of a coupling: a chain of them stays invertible in floats


class Scale(nn.Module):
    """z = (h + b) exp(s): Glow's activation norm, which starts as the identity, since latents come normed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shift, self.log_scale = (nn.Parameter(torch.zeros(width)) for _ in range(2))

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(n, width) -> (n, width), and the logarithm of the determinant, (n,)."""
        made = (values + self.shift) * self.log_scale.exp()
        return made, self.log_scale.sum().expand(len(values))

    def inverse(self, values: Tensor) -> Tensor:
        """(n, width) -> (n, width)."""
        return values * (-self.log_scale).exp() - self.shift


class Coupling(nn.Module):
    """z_a = h_a, z_b = h_b exp(s(h_a)) + t(h_a); a is one half of the coordinates, ``turned`` the second one.

    It starts as the identity.
    """

    def __init__(self, width: int, wide: int, turned: bool) -> None:
        super().__init__()
        self.turned = turned
        self.sizes = (width // 2, width - width // 2)
        kept, changed = self.sizes[::-1] if turned else self.sizes
        self.first, self.second = nn.Linear(kept, wide), nn.Linear(wide, 2 * changed)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(n, width) -> (n, width), and the logarithm of the determinant, (n,)."""
        kept, changed = self._halves(values)
        log_scale, shift = self._given(kept)
        return self._joined(kept, changed * log_scale.exp() + shift), log_scale.sum(dim=1)

    def inverse(self, values: Tensor) -> Tensor:
        """(n, width) -> (n, width)."""
        kept, changed = self._halves(values)
        log_scale, shift = self._given(kept)
        return self._joined(kept, (changed - shift) * (-log_scale).exp())

    def _given(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.second(F.relu(self.first(kept))).chunk(2, dim=1)
        return STRETCH * torch.tanh(raw / STRETCH), shift

    def _halves(self, values: Tensor) -> tuple[Tensor, Tensor]:
        first, second = values.split(self.sizes, dim=1)
        return (second, first) if self.turned else (first, second)

    def _joined(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([changed, kept] if self.turned else [kept, changed], dim=1)


class Flow(nn.Module):
    """Several couplings, whose halves take turns, each after a scale and shift."""

    def __init__(self, width: int, couplings: int, wide: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(couplings):
            layers += [Scale(width), Coupling(width, wide, turned=number % 2 == 1)]
        self.layers = nn.ModuleList(layers)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """h (n, width) -> z (n, width), and log |det dz/dh|, (n,)."""
        total = values.new_zeros(len(values))
        for layer in self.layers:
            values, more = layer(values)
            total = total + more
        return values, total

    def inverse(self, values: Tensor) -> Tensor:
        """z (n, width) -> h (n, width)."""
        for layer in reversed(self.layers):
            values = layer.inverse(values)  # type: ignore[operator]
        return values


def bits(latent: Tensor, log_det: Tensor, means: Tensor) -> Tensor:
    """-log p(h) in bits for each coordinate, (n,); the latent z is of N(means, I), both (n, d), log_det (n,)."""
    width = latent.shape[1]
    nats = 0.5 * ((latent - means).square().sum(dim=1) + width * math.log(2 * math.pi)) - log_det
    return nats / (width * math.log(2))
