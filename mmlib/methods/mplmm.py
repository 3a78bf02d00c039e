"""MPLMM: the second stage, which learns prompts for missing modalities (BASELINES_MM 15, MM2 B).

The loss is that of the task alone. In the released code both factors of the type prompts start at 0, a stationary
point of their product, so that these prompts stay 0 for good: the variant ``released``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mmlib.backbones.mplmm import MPLMM
from mmlib.errors import unknown_name
from mmlib.methods.own_network import own_network
from mmlib.methods.reference import ReferenceConfig
from mmlib.methods.second_stage import SecondStage

STARTS = ("random", "zeros")


@dataclass(frozen=True)
class MplmmConfig(ReferenceConfig):
    """types: what P of the type prompts P_m sum Q_m' signal_m' starts from; Q starts from zeros."""

    types: str = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.types not in STARTS:
            raise unknown_name("mplmm types", self.types, STARTS)


VARIANTS: dict[str, MplmmConfig] = {
    "paper": MplmmConfig(),
    "released": MplmmConfig(types="zeros"),
}


class Mplmm(SecondStage):
    """The prompts, the input maps and the last layer, over a frozen transformer."""

    Config = MplmmConfig
    config: MplmmConfig

    def prepare(self) -> None:
        """P and Q at 0, as released; after training from there they are 0 still."""
        prompts = own_network(self, "mplmm", MPLMM).prompts
        if self.config.types == "zeros":
            with torch.no_grad():
                prompts.P.zero_()
                prompts.Q.zero_()
