"""DiCMoR: Distribution-Consistent Modal Recovering for Incomplete Multimodal Learning (BASELINES_MM 16, MM2 B).

Task loss + 0.1 (likelihood of each modality's latents under its flow + distance of recovered latents to true ones).
The prior of the flows' images is a normal distribution for each class, shared by the modalities, which is what makes
what is present stand for what is missing. Training alone sees labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmlib.backbones.dicmor import DiCMoR
from mmlib.methods.completion import Completion, CompletionConfig, over_modalities
from mmlib.methods.own_network import own_network
from mmlib.nn.completion import Known
from mmlib.nn.flow import bits
from mmlib.nn.kinds import kinds

LEVELS = 7  # of a score, -3 to 3 in the published data


@dataclass(frozen=True)
class DicmorConfig(CompletionConfig):
    """likelihood, recovery: whether each of the two further losses is there. A score's loss is L1, as published."""

    likelihood: bool = True
    recovery: bool = True


VARIANTS: dict[str, DicmorConfig] = {
    "paper": DicmorConfig(),
    "no_likelihood": DicmorConfig(likelihood=False),
    "no_recovery": DicmorConfig(recovery=False),
    "complete": DicmorConfig(targets="complete"),
}


class Dicmor(Completion):
    """The method over the backbone ``dicmor``.

    means: (K, hidden), of the prior of each class; of binaries, of each answer, and an utterance's are added up.
    """

    Config = DicmorConfig
    config: DicmorConfig
    backbone: DiCMoR

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "dicmor", DiCMoR)
        count = LEVELS if self.task.kind == "score" else self.task.outputs
        self.means = nn.Parameter(torch.zeros(count, self.backbone.embedding_dim))

    def divided_loss(self, division: Known) -> Tensor:
        """L_task + weight (L_nll + L_rec)."""
        net, c = self.backbone, self.config
        completed = net.parts(division.given, division.given.features)
        loss = self.fused_loss(division.given, completed.fused)
        truth = net.latents(division.whole.features)
        if c.likelihood:
            loss = loss + c.weight * self.surprise(truth, division)
        if c.recovery:
            missed = (completed.made - truth.detach()).square().mean(dim=2)
            loss = loss + c.weight * over_modalities(missed, division.wanted)
        return loss

    def surprise(self, truth: Tensor, division: Known) -> Tensor:
        """Sum over modalities of max(0, mean -log2 p(h | y) for each coordinate); truth (n, M, hidden)."""
        means = kinds(self.task, division.given.labels, LEVELS) @ self.means  # (n, hidden)
        images, log_det = self.backbone.images(truth)
        total = images.new_zeros(())
        for number in range(images.shape[1]):
            each = bits(images[:, number], log_det[:, number], means)
            counts = division.seen[:, number]
            total = total + ((each * counts).sum() / counts.sum().clamp(min=1)).clamp(min=0)
        return total
