"""Encoders that gate one another between their layers: the multimodal transfer module (Joze et al., CVPR 2020).

As the paper on greedy learning has it (Wu et al., ICML 2022): after the last three groups of ResNet-18, or after both
layers of a perceptron, all modalities' channels are squeezed together, and each modality's are scaled by a gate made
of that. Every modality has a head, and the prediction is the mean of their logits. ``greedy`` makes a modality's gates
constant for some steps, for which they keep their running means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.backbones.concat import ConcatConfig, Pictures, Vectors, as_floats, cut_and_flip
from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.dropout import dropout


@dataclass(frozen=True)
class MMTMConfig(ConcatConfig):
    """Sizes of the encoders, as for ``concat``, and ratio: the squeezed width is that of all modalities over it."""

    ratio: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio < 1:
            raise InputError("mmtm ratio", str(self.ratio), "1 or more", "The papers use 4.")


class MMTM(Backbone):
    """The network. ``prediction`` is the first modality's head, since no single layer makes the mean of the logits.

    constant: (M,) bool, whose gates are replaced by their running means in training; ``greedy`` sets it.
    """

    Config = MMTMConfig
    constant: Tensor

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MMTMConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.modalities = tuple(sorted(dims))
        pictures = config.encoder == "resnet"
        kind = Pictures if pictures else Vectors
        self.encoders = nn.ModuleDict({m: kind(dims[m], config) for m in self.modalities})
        widths = (
            [2 * config.width, 4 * config.width, 8 * config.width]
            if pictures
            else [config.hidden] * 2
        )
        self.embedding_dim = widths[-1]
        self.fusions = nn.ModuleList(
            Fusion(self.modalities, width, config.ratio) for width in widths
        )
        heads = [nn.Linear(self.embedding_dim, outputs) for _ in self.modalities]
        self.heads = nn.ModuleDict(dict(zip(self.modalities, heads, strict=True)))
        self.prediction = heads[0]
        for module in (*self.fusions.modules(), *heads):
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
        self.register_buffer("constant", torch.zeros(len(dims), dtype=torch.bool), persistent=False)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode stage by stage with gates after each; z^m is what the last gate lets through, averaged over places."""
        n = len(batch)
        values = {m: entered(self.encoders[m], features[m]) for m in self.modalities}
        for depth, fusion in enumerate(self.fusions):
            values = {m: staged(self.encoders[m], depth, values[m]) for m in self.modalities}
            gates = fusion({m: pooled(values[m], n) for m in self.modalities}, self.constant)
            values = {m: scaled(values[m], gates[m]) for m in self.modalities}
        z = {m: pooled(values[m], n) for m in self.modalities}
        logits = torch.stack([self.heads[m](z[m]) for m in self.modalities]).mean(dim=0)
        return Fused(z, torch.cat([z[m] for m in self.modalities], dim=1), logits)

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """The logits of each modality's head, of which the fused ones are the mean."""
        return {m: self.heads[m](fused.z[m]) for m in self.modalities}


class Fusion(nn.Module):
    """One transfer module: u = ReLU(F [s^a; s^v]), gates e^m = sigmoid(F^m u).

    means: (M, width), each gate's mean over all training steps so far, of which there are ``steps``.
    """

    means: Tensor
    steps: Tensor

    def __init__(self, modalities: Sequence[str], width: int, ratio: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        inner = max(1, len(self.modalities) * width // ratio)
        self.squeeze = nn.Linear(len(self.modalities) * width, inner)
        self.excite = nn.ModuleDict({m: nn.Linear(inner, width) for m in self.modalities})
        self.register_buffer("means", torch.zeros(len(self.modalities), width))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, squeezed: Mapping[str, Tensor], constant: Tensor) -> dict[str, Tensor]:
        """Gates from modality to (n, width); in training those of the modalities in ``constant`` (M,) are means."""
        inner = F.relu(self.squeeze(torch.cat([squeezed[m] for m in self.modalities], dim=1)))
        gates = torch.stack(
            [torch.sigmoid(self.excite[m](inner)) for m in self.modalities]
        )  # (M, n, width)
        used = gates
        if self.training:
            used = torch.where(constant[:, None, None], self.means[:, None], gates)
            with torch.no_grad():
                self.steps = self.steps + 1
                self.means = self.means + (gates.mean(dim=1) - self.means) / self.steps
        return dict(zip(self.modalities, used, strict=True))


def entered(encoder: nn.Module, values: Tensor) -> Tensor:
    """What the first stage takes: vectors as they are; pictures as ``Pictures`` has them, (n frames, c, h, w)."""
    if not isinstance(encoder, Pictures):
        return values
    frames = values.shape[1] if values.ndim == 5 else 1
    flat = as_floats(values.flatten(0, 1) if values.ndim == 5 else values)
    if encoder.augment and encoder.training:
        flat = cut_and_flip(flat, frames)
    return flat.contiguous(
        memory_format=torch.channels_last if values.is_cuda else torch.contiguous_format
    )


def staged(encoder: nn.Module, depth: int, values: Tensor) -> Tensor:
    """One stage: of ResNet its entry and two groups, then a group; of the perceptron a layer."""
    if isinstance(encoder, Vectors):
        layer = encoder.second if depth else encoder.first
        inner = F.relu(layer(values))
        return inner if depth else dropout(inner, encoder.rate, encoder.training)
    assert isinstance(encoder, Pictures)
    stages = list(encoder.net.stages)
    with torch.autocast(values.device.type, torch.bfloat16, enabled=values.is_cuda):
        for stage in stages[depth + 2 : depth + 3] if depth else stages[:3]:
            values = stage(values)
    return values


def pooled(values: Tensor, n: int) -> Tensor:
    """(n, width) as it is; maps (n frames, width, h, w) averaged over places and frames, (n, width) in float32."""
    if values.ndim == 2:
        return values
    return values.mean(dim=(2, 3), dtype=torch.float32).view(n, -1, values.shape[1]).mean(dim=1)


def scaled(values: Tensor, gate: Tensor) -> Tensor:
    """Channels times their gate (n, width), the same for all places and frames."""
    if values.ndim == 2:
        return values * gate
    frames = len(values) // len(gate)
    spread = gate[:, None].expand(-1, frames, -1).flatten(0, 1)[..., None, None]
    return values * spread.to(values.dtype)
