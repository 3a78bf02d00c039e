"""IMDer: Incomplete Multimodality-Diffused Emotion Recognition (BASELINES_MM 16, MM2 B).

Task loss + 0.1 (denoising score matching + distance of refined draws to true latents), both on modalities that the
network is not shown and whose truth is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmlib.backbones.imder import IMDer
from mmlib.methods.completion import Completion, CompletionConfig, over_modalities
from mmlib.methods.own_network import own_network
from mmlib.nn.completion import Known
from mmlib.nn.diffusion import FIRST, denoising, spread


@dataclass(frozen=True)
class ImderConfig(CompletionConfig):
    """noisy_condition: the condition gets the noise of the latent in score matching, as released.

    A score's loss is L1, as published.
    """

    noisy_condition: bool = False


VARIANTS: dict[str, ImderConfig] = {
    "paper": ImderConfig(),
    "noisy_condition": ImderConfig(noisy_condition=True),
    "complete": ImderConfig(targets="complete"),
}


class Imder(Completion):
    """The method over the backbone ``imder``."""

    Config = ImderConfig
    config: ImderConfig
    backbone: IMDer

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "imder", IMDer)

    def divided_loss(self, division: Known) -> Tensor:
        """L_task + weight (L_score + L_rec)."""
        drawn = self.backbone.parts(division.given, division.given.features)
        truth = self.backbone.latents(division.whole.features).detach()
        missed = (drawn.made - truth).square().mean(dim=2)
        further = self.matching(truth, drawn.condition, division) + over_modalities(
            missed, division.wanted
        )
        return self.fused_loss(division.given, drawn.fused) + self.config.weight * further

    def matching(self, truth: Tensor, condition: Tensor, division: Known) -> Tensor:
        """Denoising score matching of true latents (n, M, hidden) at random times, given (n, hidden)."""
        latents = truth.transpose(0, 1).contiguous()  # (M, n, hidden)
        time = FIRST + (1 - FIRST) * torch.rand_like(latents[:, :, :1])
        noise = torch.randn_like(latents)
        given = condition.expand(len(latents), -1, -1)
        if self.config.noisy_condition:
            given = given + spread(time) * noise
        net = self.backbone.score
        score = net(latents + spread(time) * noise, net.context(given), time)
        return over_modalities(denoising(score, noise, time).t(), division.wanted)
