"""GLoMo: the task loss, and what keeps the experts of every modality equally busy (BASELINES_MM2 20).

L = L_task + 0.01 sum_m [CV^2(importance) + CV^2(load)], CV^2 the variance over experts divided by the squared mean. An
expert's importance is the sum of its gates over the rows that have the modality, its load the number of rows that
would go to it, expected over its noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmlib.backbones.glomo import Gates, GLoMo
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_weights

SMALL = 1e-10


@dataclass(frozen=True)
class GlomoConfig(ReferenceConfig):
    """balance: the weight 0.01. shift: mean of the normal law that load is expected under, 0.1 as released."""

    balance: float = 0.01
    shift: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights("glomo", self, ("balance", "shift"))


VARIANTS: dict[str, GlomoConfig] = {
    "paper": GlomoConfig(),
    "released": GlomoConfig(shift=0.1),
    "no_balance": GlomoConfig(balance=0.0),
}


class Glomo(Reference):
    """The method over the backbone ``glomo``."""

    Config = GlomoConfig
    config: GlomoConfig
    backbone: GLoMo

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "glomo", GLoMo)

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        parts = self.backbone.parts(batch, batch.features)
        loss = self.fused_loss(batch, parts.fused)
        if not self.config.balance:
            return loss
        there = batch.observed.t()[..., None]  # (M, n, 1)
        kept = self.backbone.config.kept
        importance = (parts.routed.gates * there).sum(dim=1)
        load = (loads(parts.routed, kept, self.config.shift) * there).sum(dim=1)
        return loss + self.config.balance * (unevenness(importance) + unevenness(load)).sum()


def unevenness(values: Tensor) -> Tensor:
    """CV^2 over experts: (M, E) -> (M,); 0 of one expert, and where all are 0."""
    if values.shape[1] < 2:
        return torch.zeros_like(values[:, 0])
    return values.var(dim=1) / (values.mean(dim=1).square() + SMALL)


def loads(routed: Gates, kept: int, shift: float) -> Tensor:
    """The chance that a row goes to an expert, were its noise drawn anew: (M, n, E).

    It goes there where its score is above the ``kept``-th largest of the others'. Where a row goes to every expert, 1.
    """
    if routed.noisy.shape[2] <= kept:
        return torch.ones_like(routed.noisy)
    order = routed.noisy.topk(kept + 1, dim=2).values
    inside, outside = (
        order[..., -1:],
        order[..., -2:-1],
    )  # what one of the kept, and one of the rest, must pass
    bar = torch.where(routed.noisy > inside, inside, outside)
    return torch.distributions.Normal(shift, 1.0, validate_args=False).cdf(
        (routed.clean - bar) / routed.noise
    )
