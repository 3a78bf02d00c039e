"""Diffusion of latents whose variance explodes, dh = sigma^t dw (Song et al., 2021), its score network and its sampler.

At time t in (0, 1] a latent has noise of variance (sigma^2t - 1) / (2 ln sigma), sigma = 25.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.latents import Several

SIGMA = 25.0
FIRST = 1e-3  # the smallest time: at 0 the score of a point is infinite
FREQUENCIES = 8


def spread(time: Tensor) -> Tensor:
    """Standard deviation of the noise at a time, of the same shape."""
    return ((SIGMA ** (2 * time) - 1) / (2 * math.log(SIGMA))).sqrt()


def sample(
    score: Callable[[Tensor, Tensor], Tensor],
    noise: Callable[[int], Tensor],
    steps: int,
) -> Tensor:
    """A draw at time ``FIRST``, by Euler and Maruyama's steps backwards from time 1.

    score: of values at a time, a tensor without axes. noise: by step 0 ... steps - 1, N(0, I) in the shape of the
    draw; that of step 0 is where it starts, and the last step adds none.
    """
    start = noise(0)
    times = torch.linspace(1, FIRST, steps + 1, device=start.device, dtype=start.dtype)
    length = (1 - FIRST) / steps
    values = spread(times[0]) * start
    for number in range(steps):
        pull = SIGMA ** (2 * times[number])
        values = values + pull * length * score(values, times[number])
        if number + 1 < steps:
            values = values + (pull * length).sqrt() * noise(number + 1)
    return values


def denoising(score: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """|std score + noise|^2, mean over the last axis: least where the score is that of the noised values.

    score, noise (..., d), time (..., 1) -> (...).
    """
    return (spread(time) * score + noise).square().mean(dim=-1)


class ScoreNet(nn.Module):
    """Each modality's score of its noised latents, given a context: that of N(0, I) and what a perceptron adds to it.

    s = W_3 ReLU(W_2 ReLU(W_1 [h_t / a; c; t] + b_1) + b_2) / std - h_t / a^2, a^2 = 1 + std^2: normed latents are not
    far from N(0, I), and an untrained network draws from it. W_1 is applied in parts, so that the context's is done
    once for all steps of a sampler.
    """

    frequencies: Tensor

    def __init__(self, count: int, width: int, wide: int) -> None:
        super().__init__()
        self.enter, self.context = Several(count, width, wide), Several(count, width, wide)
        self.clock = Several(count, 2 * FREQUENCIES, wide)
        self.middle, self.leave = Several(count, wide, wide), Several(count, wide, width)
        powers = 2.0 ** torch.arange(FREQUENCIES)
        self.register_buffer("frequencies", math.pi / 2 * powers, persistent=False)

    def forward(self, values: Tensor, context: Tensor, time: Tensor) -> Tensor:
        """values (M, n, width), context (M, n, wide) as ``self.context`` gives it, time (M, n or 1, 1) -> as values."""
        angles = time * self.frequencies
        clock = self.clock(torch.cat([angles.sin(), angles.cos()], dim=2))
        deviation = spread(time)
        variance = 1 + deviation.square()  # of a noised latent
        inner = F.relu(self.enter(values / variance.sqrt()) + context + clock)
        made: Tensor = self.leave(F.relu(self.middle(inner)))
        return made / deviation - values / variance
