"""Central moment discrepancy: how far apart distributions are, by means and central moments (MISA, IF-MMIN)."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor


def moments(values: Tensor, counts: Tensor, orders: int) -> Tensor:
    """(orders, d): the mean, and the central moments of orders 2 and more, over the rows that count.

    values: (n, d). counts: (n,) bool. Zeros where no row counts.
    """
    shares = counts.to(values.dtype) / counts.sum().clamp(min=1)
    mean = shares @ values
    centred = torch.where(counts[:, None], values - mean, 0)
    return torch.stack([mean, *(shares @ centred**k for k in range(2, orders + 1))])


def discrepancy(values: Tensor, observed: Tensor, orders: int = 5) -> Tensor:
    """Scalar: mean over pairs of modalities of the sum over orders k of ||c_k(m) - c_k(m')||, c_1 the mean.

    Each modality's moments are over all rows that have it, so rows need not have both. A modality that no row has is in
    no pair; 0 where there is no pair.

    values: (n, M, d). observed: (n, M) bool.
    """
    count = values.shape[1]
    each = [moments(values[:, i], observed[:, i], orders) for i in range(count)]
    there = observed.any(dim=0)
    pairs = list(combinations(range(count), 2))
    apart = torch.stack([(each[i] - each[j]).norm(dim=1).sum() for i, j in pairs])
    counted = torch.stack([there[i] & there[j] for i, j in pairs])
    return torch.where(counted, apart, 0).sum() / counted.sum().clamp(min=1)
