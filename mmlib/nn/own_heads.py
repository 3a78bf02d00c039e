"""A first stage in which every modality's own network predicts by itself, and the mean stands for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmlib.nn.backbone import Fused
from mmlib.nn.tokens import stacked


def mean_of_heads(
    z: Mapping[str, Tensor], heads: nn.ModuleDict, modalities: Sequence[str], observed: Tensor
) -> Fused:
    """The mean of the present modalities' predictions; z[m] (n, width), observed (n, M) bool.

    The embedding is z side by side.
    """
    own = torch.stack([heads[m](z[m]) for m in modalities], dim=1)
    seen = observed[:, :, None]
    mean = torch.where(seen, own, 0).sum(dim=1) / seen.sum(dim=1).clamp(min=1)
    return Fused(dict(z), stacked(z, modalities).flatten(1), mean)
