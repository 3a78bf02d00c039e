"""A cascade of residual autoencoders, which imagines embeddings and keeps its codes (BASELINES_MM 4).

MMIN's two imaginations are such cascades; IF-MMIN steers one by another vector in every block (MM2 18), and RedCore
makes each modality from the others with a short one (MM2 B).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Imagined(NamedTuple):
    """codes: (n, blocks x code), the bottlenecks side by side. made: (n, out), what is imagined."""

    codes: Tensor
    made: Tensor


def widths(width: int) -> tuple[int, int, int]:
    """The layers of a block down to its code: 256, 128 and 64 of the published 384, and their shares of others."""
    down = [max(1, round(width * share / 6)) for share in (4, 2, 1)]
    return down[0], down[1], down[2]


class Autoencoder(nn.Module):
    """LeakyReLU on the way down to a linear code, ReLU on the way up to a linear output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide, middle, code = widths(width)
        self.encode = nn.Sequential(
            nn.Linear(width, wide),
            nn.LeakyReLU(),
            nn.Linear(wide, middle),
            nn.LeakyReLU(),
            nn.Linear(middle, code),
        )
        self.decode = nn.Sequential(
            nn.Linear(code, middle),
            nn.ReLU(),
            nn.Linear(middle, wide),
            nn.ReLU(),
            nn.Linear(wide, width),
        )

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(n, width) -> the code (n, width / 6) and the output (n, width)."""
        code = self.encode(values)
        return code, self.decode(code)


class Cascade(nn.Module):
    """Autoencoders in a row, and two linear layers with ReLU between on what the last of them leaves.

    Without a steering vector a block's input is the one before with its output added, x_b + o_b, and so is what the
    last layers read. With one it is o_b + s, and the last layers read o_b alone.
    """

    def __init__(self, width: int, blocks: int, out: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Autoencoder(width) for _ in range(blocks)])
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, out)
        self.code_dim = blocks * widths(width)[-1]

    def forward(self, values: Tensor, steer: Tensor | None = None) -> Imagined:
        """values, steer: (n, width)."""
        codes = []
        entered = values if steer is None else values + steer  # x_1
        left = values
        for block in self.blocks:
            code, output = block(entered)
            codes.append(code)
            left = entered + output if steer is None else output
            entered = left if steer is None else output + steer
        return Imagined(torch.cat(codes, dim=1), self.last(F.relu(self.first(left))))
