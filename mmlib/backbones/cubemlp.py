"""CubeMLP: perceptrons that mix one axis of time x modality x channel at a time (BASELINES_MM 11, MM2 B).

On single vectors the time axis has one step and is left out, so the network is an MLP-mixer over modalities. Sequences
are pooled to a fixed number of steps, since the perceptrons of the time axis need one. The modalities' axis has one
place for each of them, so a missing one stands there as zeros, or as a learned token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder

ABSENT = ("zero", "token")


@dataclass(frozen=True)
class CubeMLPConfig:
    """Sizes, and what stands in the place of a missing modality.

    hidden: channels of the encoders and of the first block. narrow: channels that the second block leaves.
    absent: ``zero``, or a learned ``token`` for each modality.
    """

    hidden: int = 128
    narrow: int = 32
    dropout: float = 0.1
    absent: str = "zero"

    def __post_init__(self) -> None:
        for name in ("hidden", "narrow"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"cubemlp {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )
        if not 0 <= self.dropout < 1:
            raise InputError(
                "cubemlp dropout", str(self.dropout), "a share in [0, 1)", "Correct it."
            )
        if self.absent not in ABSENT:
            raise unknown_name("cubemlp absent", self.absent, ABSENT)


class CubeMLP(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean."""

    Config = CubeMLPConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: CubeMLPConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width, narrow, rate = len(dims), config.hidden, config.narrow, config.dropout
        self.encoders = nn.ModuleDict(
            {m: Encoder(dims[m], width, norm=True) for m in self.modalities}
        )
        self.token = nn.Parameter(torch.zeros(count, width), requires_grad=config.absent == "token")
        self.blocks = nn.ModuleList(
            [
                Mix(count, count, rate, axis=1),
                Mix(width, width, rate, axis=2),
                Mix(count, count, rate, axis=1),
                Mix(width, narrow, rate, axis=2),
            ]
        )
        self.embedding_dim = width
        self.prediction = nn.Linear(count * narrow, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, mix modalities and channels twice, put the modalities side by side, predict."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        cube = torch.stack([z[m] for m in self.modalities], dim=1)  # (n, M, hidden)
        cube = torch.where(batch.observed[:, :, None], cube, self.token)
        for block in self.blocks:
            cube = block(cube)
        hidden = cube.flatten(1)  # (n, M narrow)
        return Fused(z, hidden, self.prediction(hidden))


class Mix(nn.Module):
    """P x + W_2 GELU(W_1 LN(x)) along one axis, P without bias; W_1 as wide as what comes out."""

    def __init__(self, size: int, out: int, rate: float, axis: int) -> None:
        super().__init__()
        self.axis, self.rate = axis, rate
        self.norm, self.straight = nn.LayerNorm(size), nn.Linear(size, out, bias=False)
        self.first, self.second = nn.Linear(size, out), nn.Linear(out, out)

    def forward(self, cube: Tensor) -> Tensor:
        """(n, M, channels), ``size`` of them along the axis -> the same with ``out`` of them."""
        turned = cube.movedim(self.axis, -1)
        inner = self.second(F.gelu(self.first(self.norm(turned))))
        mixed: Tensor = self.straight(turned) + dropout(inner, self.rate, self.training)
        return mixed.movedim(-1, self.axis)
