"""Sequences of frames, and single vectors as sequences of one frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError


def as_frames(values: Tensor) -> Tensor:
    """(n, d) or (n, t, d) -> (n, t, d).

    Raises:
        InputError: pictures, or anything else of another rank.
    """
    if values.ndim not in (2, 3):
        raise InputError(
            "features",
            f"{values.ndim - 1} axes an utterance",
            "vectors (n, d) or frames (n, t, d)",
            "Choose another backbone.",
        )
    return values[:, None] if values.ndim == 2 else values


def real_frames(frames: Tensor) -> Tensor:
    """(n, t, d) -> (n, t) bool: frames with any value that is not zero, as padding and dropped frames have none (B21).

    All frames of an utterance that has no such frame, which are equal.
    """
    real = (frames != 0).any(dim=2)
    return real | ~real.any(dim=1, keepdim=True)


def mean_over(frames: Tensor, counts: Tensor) -> Tensor:
    """(n, t, d) and (n, t) bool, in every row one at the least -> (n, d): the mean over the frames that count."""
    return (frames * counts[:, :, None]).sum(dim=1) / counts.sum(dim=1, keepdim=True)


def time_mean(values: Tensor) -> Tensor:
    """(n, d) or (n, t, d) -> (n, d), over the real frames; zeros where an utterance has none."""
    frames = as_frames(values)
    return mean_over(frames, real_frames(frames))


class FrameConv(nn.Module):
    """A convolution over time with bias, as one matrix product; zeros beyond both ends, so as many frames come out."""

    def __init__(self, dim: int, width: int, kernel: int = 1) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise InputError("kernel", str(kernel), "an odd number of frames", "Give 1, 3 or 5.")
        self.kernel, self.linear = kernel, nn.Linear(kernel * dim, width)

    def forward(self, values: Tensor) -> Tensor:
        """(n, t, dim) -> (n, t, width)."""
        if self.kernel > 1:
            side = self.kernel // 2
            padded = F.pad(values, (0, 0, side, side))
            values = torch.cat(
                [padded[:, i : i + values.shape[1]] for i in range(self.kernel)], dim=2
            )
        convolved: Tensor = self.linear(values)
        return convolved
