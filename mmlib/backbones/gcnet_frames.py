"""GCNet where an utterance is a sequence: the network reads the mean over an utterance's real frames (R1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from mmlib.backbones.gcnet import GCNet
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch
from mmlib.nn.frames import time_mean


class FrameGCNet(GCNet):
    """The network; its parameters are GCNet's, and modalities may have different numbers of frames.

    What it reconstructs is the mean too, over the frames that the training data have, and only where no frame is left.
    """

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m] (n, t_m, d_m), or (n, d_m) as GCNet has them."""
        return super().forward(batch, {m: time_mean(x) for m, x in features.items()})

    def extra_loss(self, batch: Batch, fused: Fused) -> Tensor | None:
        """As GCNet's, of the mean frame."""
        if batch.complete is not None:
            means = {m: time_mean(x) for m, x in batch.complete.items()}
            batch = dataclasses.replace(batch, complete=means)
        return super().extra_loss(batch, fused)
