"""TFR-Net's training over frames: more of them are dropped, and their features are to be made again (BASELINES_MM 8).

L = L_task + sum over modalities of the smooth L1 error of the frames that are known and were not given. What is known
is as for other completions (R5): by self-drop frames, and whole modalities in some rows, of what is there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.backbones.tfr_net_frames import FrameTFRNet
from mmlib.methods.completion import Completion, CompletionConfig
from mmlib.methods.own_network import own_network
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_shares
from mmlib.nn.completion import Known
from mmlib.nn.frames import as_frames
from mmlib.nn.sums import mean_where


@dataclass(frozen=True)
class FrameTfrNetConfig(CompletionConfig):
    """weight: of every modality's reconstruction. frames: share of the frames that training drops, 0.2 as published."""

    weight: float = 1.0
    frames: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares("tfr_net_frames", self, ("frames",))


VARIANTS: dict[str, FrameTfrNetConfig] = {
    "paper": FrameTfrNetConfig(),
    "complete": FrameTfrNetConfig(targets="complete"),
    "no_reconstruction": FrameTfrNetConfig(weight=0.0),
}


class FrameTfrNet(Completion):
    """The method over the backbone ``tfr_net_frames``."""

    Config = FrameTfrNetConfig
    config: FrameTfrNetConfig
    backbone: FrameTFRNet

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "tfr_net_frames", FrameTFRNet)

    def divided_loss(self, division: Known) -> Tensor:
        """Scalar loss of a divided batch."""
        batch = self.fewer(division.given)
        parts = self.backbone.parts(batch, batch.features)
        loss = self.fused_loss(batch, parts.fused)
        for m, made in parts.made.items():
            whole, given = (as_frames(x.features[m]) for x in (division.whole, batch))
            dropped = (whole != 0).any(dim=2) & ~(given != 0).any(dim=2)  # (n, t)
            errors = F.smooth_l1_loss(made, whole, reduction="none").mean(dim=2)
            loss = loss + self.config.weight * mean_where(errors.flatten(), dropped.flatten())
        return loss

    def fewer(self, batch: Batch) -> Batch:
        """The batch with a share of all frames zeroed, drawn anew."""
        features = {}
        for m, values in batch.features.items():
            frames = as_frames(values)
            kept = torch.rand_like(frames[:, :, :1]) >= self.config.frames
            features[m] = torch.where(kept, frames, 0)
        return dataclasses.replace(batch, features=features, source=None)
