"""LNLN over frames: a modality's tokens stand before its frames in transformer layers (BASELINES_MM 9).

How complete the text is cannot be told from the frames that were dropped before training; so it is 1 where the text is
there, less the share of frames that the method's own noise takes (its variant ``noise``).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mmlib.backbones.lnln import LNLN, LNLNConfig
from mmlib.nn.hyper import FrameTokens, HyperSizes


@dataclass(frozen=True)
class FrameLNLNConfig(LNLNConfig):
    """tokens: 8, as published. layers: also of the transformers over a modality's tokens and frames."""

    tokens: int = 8


class FrameLNLN(LNLN):
    """The network over frames (n, t, d), whose numbers may differ by modality."""

    Config = FrameLNLNConfig

    def enter(self, dim: int, sizes: HyperSizes) -> nn.Module:
        """What makes a modality's tokens."""
        return FrameTokens(dim, sizes, self.config.layers)
