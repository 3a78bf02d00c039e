"""DiCMoR: a missing modality's latent by an invertible map from what the others share (BASELINES_MM 16, MM2 B).

Each modality has a normalising flow. The flows' images of what is present are averaged, and the inverse of a missing
modality's flow takes the mean back to that modality; a residual layer refines it. Reduced: BERT and the crossmodal
transformers of MulT become an encoder each (R1) and one transformer layer over the modalities (R2), Glow's steps affine
couplings, the map of a pair of images their mean. The method ``dicmor`` trains the flows; labels have no part here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.encoder import Encoder
from mmlib.nn.flow import Flow
from mmlib.nn.latents import Reader, Refiner, check_sizes, mean_seen
from mmlib.nn.tokens import stacked


@dataclass(frozen=True)
class DiCMoRConfig:
    """Sizes. What is missing is completed, so that every modality takes part in the prediction.

    hidden: width of a latent. couplings: affine couplings of a flow. wide: of their hidden layer.
    dropout: of the layers that read the latents.
    """

    hidden: int = 64
    couplings: int = 6
    wide: int = 64
    dropout: float = 0.1

    def __post_init__(self) -> None:
        counts = {"couplings": self.couplings, "wide": self.wide}
        check_sizes("dicmor", self.hidden, counts, self.dropout)


class Completed(NamedTuple):
    """The prediction, and the latents that the flows make for every modality, refined, (n, M, hidden)."""

    fused: Fused
    made: Tensor


class DiCMoR(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean."""

    Config = DiCMoRConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: DiCMoRConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        count, width = len(dims), config.hidden
        self.encoders = nn.ModuleDict(
            {m: Encoder(dims[m], width, norm=True) for m in self.modalities}
        )
        self.flows = nn.ModuleDict(
            {m: Flow(width, config.couplings, config.wide) for m in self.modalities}
        )
        self.refiner = Refiner(count, width)
        self.reader = Reader(count, width, config.dropout)
        self.embedding_dim = width
        self.prediction = nn.Linear(count * width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, complete, read, predict."""
        return self.parts(batch, features).fused

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Completed:
        """The prediction with what is completed on the way."""
        seen = batch.observed[:, :, None]
        latents = torch.where(seen, self.latents(features), 0)  # (n, M, hidden)
        made = self.refiner(self.carried(latents, batch.observed))
        whole = torch.where(seen, latents, made)
        hidden = self.reader(whole)
        z = dict(zip(self.modalities, latents.unbind(dim=1), strict=True))
        return Completed(Fused(z, hidden, self.prediction(hidden)), made)

    def latents(self, features: Mapping[str, Tensor]) -> Tensor:
        """h of each modality, (n, M, hidden)."""
        return stacked({m: self.encoders[m](features[m]) for m in self.modalities}, self.modalities)

    def carried(self, latents: Tensor, seen: Tensor) -> Tensor:
        """flow_m^-1 of the mean of the images that are there, for every m, (n, M, hidden)."""
        shared = mean_seen(self.images(latents)[0], seen)
        return torch.stack([self.flow(m).inverse(shared) for m in self.modalities], dim=1)

    def flow(self, modality: str) -> Flow:
        """A modality's flow."""
        flow = self.flows[modality]
        assert isinstance(flow, Flow)
        return flow

    def images(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """z of each modality's flow, (n, M, hidden), and log |det dz/dh|, (n, M)."""
        found = [self.flows[m](latents[:, i]) for i, m in enumerate(self.modalities)]
        return torch.stack([z for z, _ in found], dim=1), torch.stack([d for _, d in found], dim=1)
