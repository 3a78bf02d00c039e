"""Two or more encoders side by side, one linear head: the audio-visual networks of the GMM-loss paper (ledger 5).

An encoder is a ResNet-18 from scratch for pictures and spectrograms, or a small perceptron for vectors, so that
the same methods run on raw clips and on features. Since the head is linear, its logits split exactly into one
part per modality (Eqs 2-3): ``unimodal_logits``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.dropout import dropout
from mmlib.nn.resnet import ResNet18


@dataclass(frozen=True)
class ConcatConfig:
    """Sizes of the concatenation network.

    encoder: ``resnet`` for (n, c, h, w) and (n, frames, c, h, w), ``mlp`` for (n, d). width: channels of ResNet's
    first group (64 as published, embedding 8 times that). hidden: of the perceptron, which is its embedding too.
    augment: in training, cut and flip the frames of clips (3 channels) at random.
    """

    encoder: str = "resnet"
    width: int = 64
    hidden: int = 64
    dropout: float = 0.0
    augment: bool = False

    def __post_init__(self) -> None:
        if self.encoder not in ("resnet", "mlp"):
            raise unknown_name("concat encoder", self.encoder, ("resnet", "mlp"))
        for name in ("width", "hidden"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"concat {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )
        if not 0 <= self.dropout < 1:
            raise InputError(
                "concat dropout", str(self.dropout), "a share in [0, 1)", "Correct it."
            )


class Concat(Backbone):
    """The network; modalities in alphabetical order make up the head's input."""

    Config = ConcatConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: ConcatConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.modalities = tuple(sorted(dims))
        kind = Pictures if config.encoder == "resnet" else Vectors
        self.encoders = nn.ModuleDict({m: kind(dims[m], config) for m in self.modalities})
        self.embedding_dim = 8 * config.width if config.encoder == "resnet" else config.hidden
        self.prediction = nn.Linear(len(dims) * self.embedding_dim, outputs)
        nn.init.xavier_normal_(self.prediction.weight)
        nn.init.zeros_(self.prediction.bias)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode each modality, concatenate, predict (Eqs 1-2)."""
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        hidden = torch.cat([z[m] for m in self.modalities], dim=1)
        return Fused(z, hidden, self.prediction(hidden))

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """l^m, which add up to the fused logits."""
        return unimodal_logits(self.prediction, fused.z)


class Pictures(nn.Module):
    """ResNet-18 and the mean over places, and over frames where there are several."""

    def __init__(self, channels: int, config: ConcatConfig) -> None:
        super().__init__()
        self.net = ResNet18(channels, config.width)
        self.augment = config.augment and channels == 3

    def forward(self, values: Tensor) -> Tensor:
        """(n, c, h, w) or (n, frames, c, h, w), bytes or floats, -> (n, 8 width).

        On CUDA in bfloat16 (weights stay in float32) and with channels last, which convolutions there are fastest in.
        """
        frames = values.shape[1] if values.ndim == 5 else 1
        pictures = as_floats(values.flatten(0, 1) if values.ndim == 5 else values)
        if self.augment and self.training:
            pictures = cut_and_flip(pictures, frames)
        with torch.autocast(values.device.type, torch.bfloat16, enabled=values.is_cuda):
            layout = torch.channels_last if values.is_cuda else torch.contiguous_format
            maps: Tensor = self.net(pictures.contiguous(memory_format=layout))
        return maps.float().mean(dim=(2, 3)).unflatten(0, (-1, frames)).mean(dim=1)


class Vectors(nn.Module):
    """A perceptron of two layers."""

    def __init__(self, dim: int, config: ConcatConfig) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Linear(dim, config.hidden),
            nn.Linear(config.hidden, config.hidden),
        )
        self.rate = config.dropout

    def forward(self, values: Tensor) -> Tensor:
        """(n, d) -> (n, hidden)."""
        inner = dropout(F.relu(self.first(values)), self.rate, self.training)
        return F.relu(self.second(inner))


def cut_and_flip(pictures: Tensor, frames: int) -> Tensor:
    """A random part of each clip, 8 % to all of its area, at the old size, and half of the clips mirrored.

    (clips x frames, c, h, w) -> the same shape; the frames of a clip are cut alike.
    """
    clips, device = len(pictures) // frames, pictures.device
    area, ratio, x, y, side = torch.rand(5, clips, device=device).unbind()
    stretch = torch.exp((2 * ratio - 1) * math.log(4 / 3) / 2)
    scale = (0.08 + 0.92 * area).sqrt()
    width, height = (scale * stretch).clamp(max=1), (scale / stretch).clamp(max=1)
    zero, mirror = torch.zeros_like(x), torch.where(side < 0.5, -1.0, 1.0)
    rows = [
        torch.stack([width * mirror, zero, (2 * x - 1) * (1 - width)], dim=1),
        torch.stack([zero, height, (2 * y - 1) * (1 - height)], dim=1),
    ]
    theta = torch.stack(rows, dim=1).repeat_interleave(frames, dim=0)
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, align_corners=False, padding_mode="border")


def as_floats(pictures: Tensor) -> Tensor:
    """Bytes as floats in [-1, 1]; floats as they are."""
    return pictures.float() / 127.5 - 1 if pictures.dtype == torch.uint8 else pictures


def unimodal_logits(prediction: nn.Linear, z: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """l^m = W^m z^m + b / M (Eq. 3), modality to (n, C); over all modalities they add up to the fused logits."""
    names = sorted(z)
    parts = prediction.weight.split([z[m].shape[1] for m in names], dim=1)
    return {
        m: F.linear(z[m], part, prediction.bias / len(names))
        for m, part in zip(names, parts, strict=True)
    }
