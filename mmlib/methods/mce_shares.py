"""A modality's share of right predictions, phi of MCE (BASELINES_MM2 19): Shapley's value, or as released."""

from __future__ import annotations

import torch
from torch import Tensor

from mmlib.nn import shapley
from mmlib.nn.shapley import Plan

EXACT = 4  # modalities up to which every subset is looked at; beyond, a random chain of them for each row


def ranked(there: Tensor) -> Tensor:
    """A random order of the modalities for each row, as ranks from 0 on; there (n, M) -> (n, M)."""
    return torch.rand(there.shape, device=there.device).argsort(dim=1).argsort(dim=1)


def shares(plan: Plan | None, ranks: Tensor | None, worth: Tensor, released: bool) -> Tensor:
    """phi_m of every row, (n, M), which add up to v(all).

    worth: v of every subset but the empty one, (S, n), in the order of a plan; or along a chain of M subsets, in which
    modality m is the ranks[:, m]-th to come in, whose gains estimate Shapley's value without bias.
    released: v(S and m) - v({m}) counts in the place of v(S and m) - v(S), where S is not empty.
    """
    worth = torch.cat([torch.zeros_like(worth[:1]), worth])
    if plan is None:
        assert ranks is not None
        before = ranks.t()
        return (worth.gather(0, before + 1) - worth.gather(0, before)).t()
    if not released:
        return shapley.shapley(plan, worth)
    alone = worth[plan.joined[:, 0]]  # the first step of each modality is from the empty subset
    base = torch.where((plan.without == 0)[..., None], 0.0, alone[:, None])
    return shapley.average(plan, worth[plan.joined] - base)
