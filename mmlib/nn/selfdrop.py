"""Self-drop: hide more of what is there, so that it can be the target of a completion (R5).

A loss that wants the true value of a missing modality is honest only where training rows are complete. Else a row's
available set A gives an input S, a non-empty proper subset of A, and the targets A without S.
"""

from __future__ import annotations

import torch
from torch import Tensor


def self_drop(observed: Tensor) -> Tensor:
    """S for each row, drawn anew: observed (n, M) bool -> (n, M) bool.

    Each non-empty proper subset of a row's A is equally likely; a row with one modality keeps it, and has no target.
    """
    draws = torch.rand(observed.shape, device=observed.device)
    # A random order of A, of which the first k stay: k drawn in proportion to the number of subsets of that size.
    order = torch.where(observed, draws, 2.0).argsort(dim=1).argsort(dim=1)
    kept: Tensor = observed & (order < sizes(observed)[:, None])
    return kept


def sizes(observed: Tensor) -> Tensor:
    """(n,) how many modalities stay, as of a random proper subset: 1 to |A| - 1, and 1 where |A| is 1."""
    count = observed.sum(dim=1)  # |A|
    most = observed.shape[1]
    size = torch.arange(1, most, device=observed.device).float()  # 1 ... M - 1
    of = count[:, None].float()
    ways = (
        torch.lgamma(of + 1) - torch.lgamma(size + 1) - torch.lgamma((of - size).clamp(min=0) + 1)
    ).exp()
    ways = torch.where(size < of, ways, 0.0)
    total = ways.cumsum(dim=1)
    drawn = torch.rand(len(count), 1, device=observed.device) * total[:, -1:]
    return 1 + (drawn > total).sum(dim=1).clamp(max=most - 2)
