"""What reads and refines completed latents, with weights of each modality's own (DiCMoR, IMDer, SMIL)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.attention import Tail
from mmlib.nn.tokens import TokenBlock

HEADS = 4  # of the layer that reads completed latents


def mean_seen(values: Tensor, seen: Tensor) -> Tensor:
    """values (n, M, d), seen (n, M) bool -> (n, d): the mean over what is seen; zeros where nothing is."""
    counts = seen[:, :, None]
    return torch.where(counts, values, 0).sum(dim=1) / counts.sum(dim=1).clamp(min=1)


class Refiner(nn.Module):
    """x + W_2 ReLU(W_1 x), for each modality with weights of its own."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.first, self.second = Several(count, width, width), Several(count, width, width)

    def forward(self, values: Tensor) -> Tensor:
        """(n, M, width) -> the same."""
        inner = F.relu(self.first(values.transpose(0, 1)))
        return values + self.second(inner).transpose(0, 1)


class Several(nn.Module):
    """A linear layer for each modality, (M, n, inputs) -> (M, n, width), in one product."""

    def __init__(self, count: int, inputs: int, width: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(count, inputs, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, 1, width).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """(M, n, inputs) -> (M, n, width)."""
        return torch.baddbmm(self.bias, values, self.weight)


class Reader(nn.Module):
    """One transformer layer over the modalities' completed latents, put side by side, and a residual layer."""

    def __init__(self, count: int, width: int, rate: float) -> None:
        super().__init__()
        self.block = TokenBlock(width, HEADS, 2 * width, rate)
        self.tail = Tail(count * width, rate)

    def forward(self, latents: Tensor) -> Tensor:
        """(n, M, width) -> (n, M width)."""
        everything = torch.ones_like(latents[:, :, 0], dtype=torch.bool)
        read: Tensor = self.tail(self.block(latents, everything).flatten(1))
        return read


def check_sizes(called: str, hidden: int, counts: Mapping[str, int], dropout: float) -> None:
    """Raise InputError for sizes of a completing network that make no sense.

    hidden: width of a latent, which the heads divide. counts: further sizes, 1 or more.
    """
    if hidden < HEADS or hidden % HEADS:
        raise InputError(
            f"{called} hidden", str(hidden), f"a multiple of {HEADS}, of heads", "Correct it."
        )
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{called} {name}", str(value), "1 or more", "Raise it.")
    if not 0 <= dropout < 1:
        raise InputError(f"{called} dropout", str(dropout), "a share in [0, 1)", "Correct it.")
