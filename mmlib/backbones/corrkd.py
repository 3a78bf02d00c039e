"""A network of the size of DREAM's pre-trained one, which it calls CorrKD's backbone (BASELINES_MM 2.2, B16).

Every modality goes through a convolution of three frames, a residual linear map and a mean over its real frames
(B21); a linear head reads all of them, and a narrow one their sum. The wiring is a guess that meets the three parameter
counts of Table 3; others meet them too, so it is published as a network of that size. What is zero and what is missing
are the same to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.frames import FrameConv, as_frames, mean_over, real_frames


@dataclass(frozen=True)
class CorrKDConfig:
    """Sizes: hidden is a modality's width, kernel the frames of the convolution, narrow the second head's width."""

    hidden: int = 64
    kernel: int = 3
    narrow: int = 32

    def __post_init__(self) -> None:
        for name in ("hidden", "narrow"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"corrkd {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )


class CorrKD(Backbone):
    """The network over frames (n, t, d), or vectors as one frame."""

    Config = CorrKDConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: CorrKDConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, width = config, tuple(sorted(dims)), config.hidden
        self.encoders = nn.ModuleDict({m: FrameEncoder(dims[m], config) for m in self.modalities})
        self.embedding_dim = width
        self.prediction = nn.Linear(len(dims) * width, outputs)
        self.narrow, self.second = (
            nn.Linear(width, config.narrow),
            nn.Linear(config.narrow, outputs),
        )

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """y = A z + a + B ReLU(U (h_1 + ... + h_M) + u) + b, with z all h_m side by side."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        stacked = torch.stack([z[m] for m in self.modalities], dim=1)  # (n, M, hidden)
        hidden = stacked.flatten(1)
        more = self.second(F.relu(self.narrow(stacked.sum(dim=1))))
        return Fused(z, hidden, self.prediction(hidden) + more)


class FrameEncoder(nn.Module):
    """h = mean over real frames of LN(u + W u + b), u = ReLU(convolution of x)."""

    def __init__(self, dim: int, config: CorrKDConfig) -> None:
        super().__init__()
        self.conv = FrameConv(dim, config.hidden, config.kernel)
        self.linear, self.norm = (
            nn.Linear(config.hidden, config.hidden),
            nn.LayerNorm(config.hidden),
        )

    def forward(self, values: Tensor) -> Tensor:
        """(n, t, dim) or (n, dim) -> (n, hidden)."""
        frames = as_frames(values)
        inner = F.relu(self.conv(frames))
        return mean_over(self.norm(inner + self.linear(inner)), real_frames(frames))
