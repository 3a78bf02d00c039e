"""GLoMo: what segments of a modality tell goes through experts, and the whole modality weighs it (BASELINES_MM2 20).

A modality gives c, the largest value of every channel over time, and three more such values, each over a third of the
time; experts make one local vector l of these three. A transformer reads the tokens (c_m, l_m). Then two perceptrons
weigh the modalities: A is of sum alpha_c,m c_m and of sum alpha_l,m l_m, and B = sum alpha_c,m W_m [c_m; l_m], so that
the global weights choose the local vectors there. The prediction reads both. A vector is a sequence of one frame,
whose three segments are equal. BERT and MulT's encoder are one map of a frame here (R1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_heads, check_shares
from mmlib.nn.crossings import last
from mmlib.nn.frames import FrameConv, as_frames, real_frames
from mmlib.nn.latents import Several
from mmlib.nn.post_norm import PostBlock

SEGMENTS = 3
QUIET = 0.01  # the least noise of a gate in training


@dataclass(frozen=True)
class GLoMoConfig:
    """hidden: width. kernel: frames that a frame's map reads, 3 as published. heads, layers, wide: of the transformer.

    experts, kept: of every modality, and how many of them a row goes to. A missing modality's tokens are no keys, and
    its weights 0.
    """

    hidden: int = 64
    kernel: int = 1
    experts: int = 3
    kept: int = 2
    heads: int = 4
    layers: int = 2
    wide: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_counts("glomo", self, ("hidden", "experts", "kept", "layers", "wide"))
        check_heads("glomo", self.hidden, self.heads)
        check_shares("glomo", self)
        if self.kept > self.experts:
            raise InputError(
                "glomo kept", str(self.kept), f"{self.experts} experts at most", "Correct it."
            )


class Gates(NamedTuple):
    """Of all modalities' experts, (M, n, E) each: what every expert is worth, and what load depends on.

    gates: 0 but for the experts that a row goes to, whose gates add up to 1. clean, noise: the scores without noise,
    and its size. noisy: the scores that chose the experts.
    """

    gates: Tensor
    clean: Tensor
    noise: Tensor
    noisy: Tensor


class Parts(NamedTuple):
    """What the loss reads."""

    fused: Fused
    routed: Gates


class GLoMo(Backbone):
    """The network over vectors (n, d), or frames (n, t, d). z^m is c_m."""

    Config = GLoMoConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: GLoMoConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, c = config, tuple(sorted(dims)), config
        count, width = len(dims), config.hidden
        self.encoders = nn.ModuleDict(
            {m: FrameConv(dims[m], width, c.kernel) for m in self.modalities}
        )
        self.experts = Experts(count, SEGMENTS * width, width, c.experts, c.kept)
        self.blocks = nn.ModuleList(
            [PostBlock(width, c.heads, c.wide, c.dropout) for _ in range(c.layers)]
        )
        self.of_global, self.of_local = (Weights(count, width) for _ in range(2))
        self.joint = nn.Linear(2 * width, width)  # A
        self.guided = Several(count, 2 * width, width)  # B
        self.prediction = nn.Linear(2 * width, outputs)
        self.embedding_dim = width

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Cut into segments, ask the experts, let the tokens look at one another, weigh the modalities, predict."""
        seen = batch.observed
        cut = [
            segments(self.encoders[m], features[m], there)
            for m, there in zip(self.modalities, seen.unbind(dim=1), strict=True)
        ]
        whole = torch.stack([x.amax(dim=1) for x in cut])  # (M, n, width), c_m
        local, routed = self.experts(torch.stack(cut).flatten(2))
        tokens = torch.cat([whole, local]).transpose(0, 1)  # (n, 2 M, width)
        keys = seen.repeat(1, 2)
        for block in self.blocks:
            tokens = block(tokens, keys)
        c, l = torch.where(keys[:, :, None], tokens, 0).chunk(2, dim=1)  # noqa: E741
        weights = self.of_global(c, seen), self.of_local(l, seen)  # (n, M, 1) each
        joint = self.joint(torch.cat([(weights[0] * c).sum(1), (weights[1] * l).sum(1)], dim=1))
        guided = self.guided(torch.cat([c, l], dim=2).transpose(0, 1)).transpose(0, 1)
        hidden = torch.cat([joint, (weights[0] * guided).sum(dim=1)], dim=1)
        z = dict(zip(self.modalities, whole, strict=True))
        return Parts(Fused(z, hidden, self.prediction(hidden)), routed)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        return self.parts(batch, features).fused


def segments(encoder: nn.Module, values: Tensor, seen: Tensor) -> Tensor:
    """The largest value of every channel of ReLU(encoder) over each third of an utterance's time, (n, 3, width).

    Of t frames, third i goes from floor(i t / 3) up to ceil((i + 1) t / 3); one that has no frame that is real gets
    the largest value of all. values: (n, d) or (n, t, d). seen: (n,) bool; of what is missing, zeros are encoded.
    """
    frames = as_frames(values)
    frames = torch.where(seen[:, None, None], frames, 0)
    real = real_frames(frames)
    encoded = F.relu(encoder(frames))
    count = 1 + last(real)[:, None]  # (n, 1)
    number = torch.arange(SEGMENTS, device=values.device)
    first, end = number * count // SEGMENTS, -(-(number + 1) * count // SEGMENTS)
    time = torch.arange(frames.shape[1], device=values.device)[:, None]
    inside = (time >= first[:, None]) & (time < end[:, None]) & real[:, :, None]  # (n, t, 3)
    inside = torch.where(inside.any(dim=1, keepdim=True), inside, real[:, :, None])
    each = torch.where(inside[..., None], encoded[:, :, None], -torch.inf)
    return each.amax(dim=1)


class Experts(nn.Module):
    """l = log sum_k g_k exp(e_k) for every modality: perceptrons e_k, of which noisy gates choose some."""

    def __init__(self, count: int, inputs: int, width: int, experts: int, kept: int) -> None:
        super().__init__()
        self.number, self.kept = experts, kept
        self.first = Several(count * experts, inputs, width)
        self.second = Several(count * experts, width, width)
        self.clean = nn.Parameter(torch.randn(count, inputs, experts) * inputs**-0.5)
        self.noise = nn.Parameter(torch.zeros(count, inputs, experts))

    def forward(self, values: Tensor) -> tuple[Tensor, Gates]:
        """values (M, n, inputs) -> (M, n, width), and the gates."""
        routed = self.route(values)
        each = values[:, None].expand(-1, self.number, -1, -1).flatten(0, 1)
        made = self.second(F.relu(self.first(each))).unflatten(0, (len(values), self.number))
        return mixed(made, routed.gates.transpose(1, 2)), routed

    def route(self, values: Tensor) -> Gates:
        """The softmax of the largest scores, which have noise in training; values (M, n, inputs)."""
        clean = values @ self.clean
        noise = F.softplus(values @ self.noise) + QUIET
        noisy = clean + noise * torch.randn_like(clean) if self.training else clean
        best = noisy.topk(self.kept, dim=2).indices  # of equal ones, any: as many as are kept
        chosen = torch.zeros_like(noisy, dtype=torch.bool).scatter(2, best, True)
        gates = torch.where(chosen, noisy, -torch.inf).softmax(dim=2)
        return Gates(gates, clean, noise, noisy)


def mixed(made: Tensor, gates: Tensor) -> Tensor:
    """log sum_k g_k exp(e_k): made (M, E, n, width), gates (M, E, n) -> (M, n, width)."""
    on = (gates > 0)[..., None]
    logs = gates.clamp(min=torch.finfo(gates.dtype).tiny).log()[..., None]
    joined: Tensor = torch.where(on, made + logs, -torch.inf).logsumexp(dim=1)
    return joined


class Weights(nn.Module):
    """Of modalities, from all their tokens side by side: the softmax of a perceptron's outputs over the root of d."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(count * width, width), nn.Linear(width, count)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """tokens (n, M, width), zeros where missing, seen (n, M) bool -> (n, M, 1), 0 where missing."""
        scores = self.second(F.relu(self.first(tokens.flatten(1)))) * tokens.shape[2] ** -0.5
        hidden = ~seen & seen.any(dim=1, keepdim=True)  # a row without anything hides nothing
        weights: Tensor = scores.masked_fill(hidden, -torch.inf).softmax(dim=1)[..., None]
        return weights
