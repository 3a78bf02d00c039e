"""TFR-Net: Transformer-based Feature Reconstruction Network for Robust Multimodal Sentiment Analysis (BASELINES_MM 8).

L = L_task + sum over modalities of the smooth L1 error of the features that were hidden (MM2 B). The weight is 1 for
each; the published ones are up to 20 on CMU-MOSI and up to 2e-5 on CMU-MOSEI, where reconstruction is off in effect.
The discrepancy of moments, which is divided by the number of entries as published, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.backbones.tfr_net import TFRNet
from mmlib.methods.completion import Completion, CompletionConfig, over_modalities
from mmlib.methods.own_network import own_network
from mmlib.nn.completion import Known
from mmlib.nn.frames import time_mean


@dataclass(frozen=True)
class TfrNetConfig(CompletionConfig):
    """weight: of every modality's reconstruction."""

    weight: float = 1.0


VARIANTS: dict[str, TfrNetConfig] = {
    "paper": TfrNetConfig(),
    "complete": TfrNetConfig(targets="complete"),
    "no_reconstruction": TfrNetConfig(weight=0.0),
}


class TfrNet(Completion):
    """The method over the backbone ``tfr_net``."""

    Config = TfrNetConfig
    config: TfrNetConfig
    backbone: TFRNet

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "tfr_net", TFRNet)

    def divided_loss(self, division: Known) -> Tensor:
        """Scalar loss of a divided batch."""
        parts = self.backbone.parts(division.given, division.given.features)
        errors = [
            F.smooth_l1_loss(
                parts.made[m], time_mean(division.whole.features[m]), reduction="none"
            ).mean(dim=1)
            for m in self.modalities
        ]
        missed = over_modalities(torch.stack(errors, dim=1), division.wanted)
        return self.fused_loss(division.given, parts.fused) + self.config.weight * missed
