"""IMDer: a missing modality's latent drawn by diffusion, given what is there (BASELINES_MM 16, MM2 B).

Each modality has a score network, conditioned on the mean of the present latents. Missing latents are drawn by steps
of Euler and Maruyama from noise, without gradient, and a residual layer refines them. Reduced: BERT and the
crossmodal transformers become an encoder each (R1) and one transformer layer over the modalities (R2), the U-Net over
time a perceptron, the channel attention a residual layer. The method ``imder`` trains the scores. In evaluation every
utterance gets the same fixed noise: a prediction depends neither on chance nor on its batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.diffusion import ScoreNet, sample
from mmlib.nn.encoder import Encoder
from mmlib.nn.latents import Reader, Refiner, check_sizes, mean_seen
from mmlib.nn.tokens import stacked

SEED = 0  # of the noise in evaluation


@dataclass(frozen=True)
class IMDerConfig:
    """Sizes. What is missing is completed, so that every modality takes part in the prediction.

    hidden: width of a latent. wide: of the score networks' layers. steps: of the sampler, the cost of the system.
    dropout: of the layers that read the latents.
    """

    hidden: int = 32
    wide: int = 128
    steps: int = 100
    dropout: float = 0.1

    def __post_init__(self) -> None:
        counts = {"wide": self.wide, "steps": self.steps}
        check_sizes("imder", self.hidden, counts, self.dropout)


class Drawn(NamedTuple):
    """The prediction, what the scores are conditioned on, (n, hidden), and the refined draws, (n, M, hidden)."""

    fused: Fused
    condition: Tensor
    made: Tensor


class IMDer(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean."""

    Config = IMDerConfig
    noise: Tensor  # (steps, M, 1, hidden) of evaluation

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: IMDerConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width = len(dims), config.hidden
        self.encoders = nn.ModuleDict(
            {m: Encoder(dims[m], width, norm=True) for m in self.modalities}
        )
        self.condition = nn.Linear(width, width)
        self.score = ScoreNet(count, width, config.wide)
        self.refiner = Refiner(count, width)
        self.reader = Reader(count, width, config.dropout)
        self.embedding_dim = width
        self.prediction = nn.Linear(count * width, outputs)
        fixed = torch.Generator().manual_seed(SEED)
        noise = torch.randn(config.steps, count, 1, width, generator=fixed)
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, draw what is missing, read, predict."""
        return self.parts(batch, features).fused

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Drawn:
        """The prediction with what is drawn on the way."""
        seen = batch.observed[:, :, None]
        latents = torch.where(seen, self.latents(features), 0)  # (n, M, hidden)
        condition = self.condition(mean_seen(latents, batch.observed))
        made = self.refiner(self.drawn(condition))
        whole = torch.where(seen, latents, made)
        hidden = self.reader(whole)
        z = dict(zip(self.modalities, latents.unbind(dim=1), strict=True))
        return Drawn(Fused(z, hidden, self.prediction(hidden)), condition, made)

    def latents(self, features: Mapping[str, Tensor]) -> Tensor:
        """h of each modality, (n, M, hidden)."""
        return stacked({m: self.encoders[m](features[m]) for m in self.modalities}, self.modalities)

    @torch.no_grad()
    def drawn(self, condition: Tensor) -> Tensor:
        """A latent of every modality given (n, hidden), drawn by its score: (n, M, hidden)."""
        count, rows = len(self.modalities), len(condition)
        context = self.score.context(condition.expand(count, -1, -1))

        def noise(step: int) -> Tensor:
            still = self.noise[step].expand(-1, rows, -1)
            return torch.randn_like(still) if self.training else still

        def score(values: Tensor, time: Tensor) -> Tensor:
            return self.score(values, context, time.expand(count, 1, 1))

        return sample(score, noise, self.config.steps).transpose(0, 1)
