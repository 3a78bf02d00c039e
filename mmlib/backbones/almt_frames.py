"""ALMT over frames: a modality's tokens stand before its frames in a transformer layer (BASELINES_MM 16)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mmlib.backbones.almt import ALMT, ALMTConfig
from mmlib.nn.checks import check_counts
from mmlib.nn.hyper import FrameTokens, HyperSizes


@dataclass(frozen=True)
class FrameALMTConfig(ALMTConfig):
    """tokens: 8, as published. embedding: layers over a modality's tokens and frames."""

    tokens: int = 8
    embedding: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts("almt_frames", self, ("embedding",))


class FrameALMT(ALMT):
    """The network over frames (n, t, d), whose numbers may differ by modality."""

    Config = FrameALMTConfig
    config: FrameALMTConfig

    def enter(self, dim: int, sizes: HyperSizes) -> nn.Module:
        """What makes a modality's tokens."""
        return FrameTokens(dim, sizes, self.config.embedding)
