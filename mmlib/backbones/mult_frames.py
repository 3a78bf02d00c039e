"""MulT over frames: positions, and self-attention over what the pairs of every target leave (BASELINES_MM 6).

A target's frame looks at a source's up to its own place, moved by how many more frames one of them has; the last real
frame sees all, and is read. Padding and dropped frames are no keys, which the released code lacks. Convolutions are
of one frame, the original default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.backbones.mult import MulT, MulTConfig
from mmlib.nn.checks import check_counts
from mmlib.nn.crossings import Crossings, positions, reachable


@dataclass(frozen=True)
class FrameMulTConfig(MulTConfig):
    """memory: layers of self-attention over every target's frames."""

    memory: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts("mult_frames", self, ("memory",))


class FrameMulT(MulT):
    """The network over frames (n, t, d), whose numbers may differ by modality."""

    Config = FrameMulTConfig
    config: FrameMulTConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: FrameMulTConfig
    ) -> None:
        super().__init__(dims, outputs, speakers, config)
        self.memories = Crossings(
            len(dims), self.embedding_dim, config.heads, config.memory, config.dropout
        )

    def placed(self, values: Tensor) -> Tensor:
        """Sinusoids added to every frame."""
        return values + positions(values.shape[2], values.shape[3], values)

    def read(self, crossed: Tensor, real: Tensor) -> Tensor:
        """Self-attention over the frames, of which the last real one is read."""
        allowed = torch.stack([reachable(x, x) for x in real])
        return super().read(self.memories(crossed, crossed, allowed), real)
