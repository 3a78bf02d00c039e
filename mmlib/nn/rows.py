"""Which rows of a split a batch holds, for what is stored by row; and what rows hold, as a number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.errors import InputError
from mmlib.nn.batch import Batch

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
SPREAD = -7046029254386353131  # odd, its bits without pattern: makes few bits that differ into many


def checksums(batch: Batch) -> Tensor:
    """(n,) int64: a number for each row's features and labels, the same wherever the row stands, to the last bit.

    In whole numbers, since sums of floats depend on how a batch is cut. Two rows that differ share theirs with a
    chance of about 2^-64.
    """
    total = torch.zeros(len(batch), dtype=torch.int64, device=batch.labels.device)
    for number, values in enumerate(
        (batch.labels, *(x for _, x in sorted(batch.features.items())))
    ):
        bits = _bits(values.flatten(1) if values.ndim > 1 else values[:, None])
        spread = bits * SPREAD
        mixed = (spread ^ (spread >> 32)) * _factors(bits.shape[1], number, str(bits.device))
        total += (mixed ^ (mixed >> 29)).sum(dim=1)
    return total


def _bits(values: Tensor) -> Tensor:
    """(n, k) of any type -> (n, j) int64 with the same content, two floats in each."""
    if values.element_size() == 4:
        padded = F.pad(values, (0, values.shape[1] % 2)).contiguous()
        return padded.view(torch.int64)
    return values.contiguous().view(BITS[values.element_size()]).long()


@lru_cache(maxsize=32)
def _factors(count: int, number: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(1000 + number)
    drawn = torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator, dtype=torch.int64)
    return (drawn | 1).to(device)


class RowIndex:
    """The rows of some batches of one split, numbered in order. Finding them asks the device nothing.

    Raises:
        InputError: batches that are not all cut from one split.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        sources = {id(batch.source) for batch in batches}
        self.source = batches[0].source
        if self.source is None or len(sources) > 1:
            raise InputError(
                "rows of batches",
                "batches that are not cut from one split",
                "batches of one Resident",
                "Cut them by Resident.batch.",
            )
        self.keys = torch.cat([checksums(batch) for batch in batches])
        rows = torch.cat([batch.rows for batch in batches if batch.rows is not None])
        self.number = rows.new_full((len(self.source.observed),), -1)
        self.number[rows] = torch.arange(len(rows), device=rows.device)

    def find(self, batch: Batch) -> Tensor | None:
        """(n,) the numbers of a batch's rows; None of a batch that is cut from another split, or was changed since."""
        if batch.source is not self.source or batch.rows is None:
            return None
        return self.number[batch.rows]
