"""What systems that complete missing modalities share: what they are shown and asked for, and what reads the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.attention import Tail
from mmlib.nn.batch import Batch, hide
from mmlib.nn.selfdrop import self_drop
from mmlib.nn.tokens import TokenBlock

TARGETS = ("selfdrop", "complete")
HEADS = 4  # of the layer that reads completed modalities


class View(NamedTuple):
    """A batch as a completion sees it in training.

    batch: what it is shown. truth: modality to features, with what is hidden from it where that is known.
    targets: (n, M) bool, modalities that it is not shown and whose truth is known.
    """

    batch: Batch
    truth: Mapping[str, Tensor]
    targets: Tensor

    @property
    def known(self) -> Tensor:
        """(n, M) bool: modalities whose truth is known."""
        return self.batch.observed | self.targets


def view(batch: Batch, targets: str, share: float) -> View:
    """A view of a training batch, drawn anew (R5).

    targets: ``selfdrop`` hides more of what is there, in this share of the rows; ``complete`` shows all that is there
    and asks for what the mask hides, but not for what the data themselves lack.

    Raises:
        InputError: ``complete`` on a batch without complete features.
    """
    if targets == "selfdrop":
        drops = torch.rand(len(batch), 1, device=batch.labels.device) < share
        kept = torch.where(drops, self_drop(batch.observed), batch.observed)
        return View(hide(batch, kept), batch.features, batch.observed & ~kept)
    if batch.complete is None:
        raise InputError(
            "targets complete",
            "a batch without complete features",
            "one that keeps them",
            "Use selfdrop.",
        )
    whole = [x for _, x in sorted(batch.complete.items())]
    there = torch.stack([x.flatten(1).isfinite().all(dim=1) for x in whole], dim=1)
    truth = {m: torch.nan_to_num(x) for m, x in batch.complete.items()}
    return View(batch, truth, there & ~batch.observed)


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
