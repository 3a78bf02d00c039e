"""The encoder of the comparison systems: their BERT, LSTM or TextCNN, reduced to features that are given (R1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.frames import FrameConv, as_frames, mean_over, real_frames


class Encoder(nn.Module):
    """h = ReLU(W x + b) of a vector; of a sequence, the mean over its real frames of a convolution's (R1).

    norm: a layer norm follows, where the source ends in one. kernel: frames of the convolution; 1 of vectors.
    """

    def __init__(self, dim: int, width: int, kernel: int = 1, norm: bool = False) -> None:
        super().__init__()
        self.conv = FrameConv(dim, width, kernel)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        """(n, dim) or (n, t, dim) -> (n, width)."""
        frames = as_frames(values)
        encoded: Tensor = self.norm(mean_over(F.relu(self.conv(frames)), real_frames(frames)))
        return encoded
