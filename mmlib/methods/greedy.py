"""Greedy: characterizing and overcoming the greedy nature of learning in multi-modal networks (Wu et al., ICML 2022).

Over encoders that gate one another (``mmtm``), with the sum of both heads' losses. How fast each modality's encoder
learns is compared with how fast the gates learn that bring it the other modality. Where the two modalities differ in
that by more than epsilon, the one that leans on the other more trains for Q steps with constant gates, on its own.
All decisions are tensors on the device, so that no step waits for one.

The released code gives both gates the running mean of the first one; here each has its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.backbones.mmtm import MMTM, Fusion
from mmlib.data.bundle import Task
from mmlib.errors import InputError
from mmlib.methods.plain import Peek, Plain, PlainConfig
from mmlib.nn.backbone import Backbone
from mmlib.nn.batch import Batch


@dataclass(frozen=True)
class GreedyConfig(PlainConfig):
    """When modalities are re-balanced.

    epsilon: largest difference in conditional learning speed that is left alone; infinity never re-balances.
    steps: Q, how many steps an episode lasts. start: share of the epochs before the first one (2 epochs of 100).
    """

    epsilon: float = 0.01
    steps: int = 5
    start: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.epsilon >= 0:
            raise InputError(
                "greedy epsilon",
                str(self.epsilon),
                "0 or more",
                "The released configuration has 0.01.",
            )
        if self.steps < 1:
            raise InputError(
                "greedy steps", str(self.steps), "1 or more", "The released configuration has 5."
            )
        if not 0 <= self.start <= 1:
            raise InputError(
                "greedy start", str(self.start), "a share in [0, 1]", "Give a part of the training."
            )


PAPER = GreedyConfig()
VARIANTS: dict[str, GreedyConfig] = {
    "paper": PAPER,
    "never": dataclasses.replace(PAPER, epsilon=math.inf),
}


class Greedy(Plain):
    """The method over ``mmtm``.

    own, others: (2,), M_m^main and M_m^byp, sums over the steps that re-balance nothing. left: how many steps the
    episode still lasts. lagging: (2,) bool, m* of the last one.
    """

    Config = GreedyConfig
    config: GreedyConfig
    own: Tensor
    others: Tensor
    left: Tensor
    lagging: Tensor

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        config: GreedyConfig,
        dims: dict[str, int],
        class_counts: Sequence[int] = (),
    ) -> None:
        super().__init__(backbone, task, config, dims, class_counts)
        if not isinstance(backbone, MMTM) or len(self.modalities) != 2:
            raise InputError(
                "greedy",
                f"the backbone {type(backbone).__name__} with {len(self.modalities)} modalities",
                "mmtm with two",
                "Choose the backbone mmtm.",
            )
        for name, start in (
            ("own", torch.zeros(2)),
            ("others", torch.zeros(2)),
            ("left", torch.zeros(())),
            ("lagging", torch.zeros(2, dtype=torch.bool)),
        ):
            self.register_buffer(name, start, persistent=False)
        self.started = False
        self._series: dict[str, Tensor] = {}

    def loss(self, batch: Batch) -> Tensor:
        """CE(o_a) + CE(o_v)."""
        alone = self.backbone.unimodal(self(batch))
        return torch.stack([self.task_loss(alone[m], batch.labels) for m in self.modalities]).sum()

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Whether re-balancing may begin."""
        self.started = peek.epoch >= round(self.config.start * peek.epochs)
        return {}

    @torch.no_grad()
    def after_backward(self) -> None:
        """Add up speeds unless this step re-balances, and decide on the steps to come."""
        rebalancing = self.left > 0
        own = torch.stack([speed(self.branch(m)) for m in self.modalities])
        others = torch.stack([speed(self.bypass(m)) for m in self.modalities])
        self.own = torch.where(rebalancing, self.own, self.own + own)
        self.others = torch.where(rebalancing, self.others, self.others + others)
        conditional = torch.log10(self.others / self.own)  # S_m
        apart = conditional[0] - conditional[1]  # d
        if self.keep_series:
            self._series = {"speed": conditional, "constant": self.gated.constant.to(own)}
        begins = (
            ~rebalancing & (apart.abs() > self.config.epsilon)
            if self.started
            else torch.zeros_like(rebalancing)
        )
        self.lagging = torch.where(begins, torch.stack([apart > 0, apart <= 0]), self.lagging)
        self.left = torch.where(
            begins, torch.full_like(self.left, self.config.steps), (self.left - 1).clamp(min=0)
        )
        self.gated.constant = self.lagging & (self.left > 0)

    @property
    def gated(self) -> MMTM:
        """The backbone."""
        assert isinstance(self.backbone, MMTM)
        return self.backbone

    def branch(self, modality: str) -> Iterable[nn.Parameter]:
        """A modality's encoder and head."""
        yield from self.gated.encoders[modality].parameters()
        yield from self.gated.heads[modality].parameters()

    def bypass(self, modality: str) -> Iterable[nn.Parameter]:
        """What makes a modality's gates, with what both modalities' gates are made of."""
        for fusion in self.gated.fusions:
            assert isinstance(fusion, Fusion)
            yield from fusion.squeeze.parameters()
            yield from fusion.excite[modality].parameters()

    def series(self) -> dict[str, Tensor]:
        """speed, S_m, and constant, whether the step had the modality's gates constant; each (2,)."""
        return self._series


def speed(parameters: Iterable[nn.Parameter]) -> Tensor:
    """mu = squared norm of the gradient over squared norm of the parameters, as one group; a scalar."""
    pairs = [(p.grad, p.detach()) for p in parameters if p.grad is not None]
    gradient, own = (
        torch.stack(torch._foreach_norm(tensors)).square().sum()
        for tensors in zip(*pairs, strict=True)
    )
    return gradient / own
