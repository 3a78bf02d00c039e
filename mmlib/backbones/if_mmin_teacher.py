"""IF-MMIN's teacher: MMIN's, with a part of every embedding that the modalities share (MM2 18).

One map S takes every modality's embedding to its invariant part, i_m = S(h_m). The prediction reads embeddings and
invariants, and the distance between the distributions of the modalities' invariants is added to the loss. Encoders and
S are where IF-MMIN starts, and what it is held against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.backbones.mmin_teacher import MMINTeacherConfig, embed
from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.encoder import Encoder
from mmlib.nn.moments import discrepancy
from mmlib.nn.trunk import Trunk

MOMENTS = 5  # of the distance between the modalities' invariants


@dataclass(frozen=True)
class IFMMINTeacherConfig(MMINTeacherConfig):
    """As MMIN's teacher's, and apart: weight of the distance between the modalities' invariants."""

    apart: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.apart < float("inf"):
            raise InputError("if_mmin apart", str(self.apart), "0 or more", "Correct it.")


class Shared(nn.Module):
    """S: two linear layers, each with LeakyReLU, the same for every modality."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return F.leaky_relu(self.second(F.leaky_relu(self.first(values))))


def side_by_side(values: Iterable[Tensor]) -> Tensor:
    """Some (n, width) -> (n, M width)."""
    return torch.cat(list(values), dim=1)


class IFMMINTeacher(Backbone):
    """The teacher: embeddings and invariants side by side, two hidden layers, the prediction."""

    Config = IFMMINTeacherConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: IFMMINTeacherConfig
    ) -> None:
        super().__init__()
        width = self.embedding_dim = config.hidden
        self.config = config
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in sorted(dims)})
        self.shared = Shared(width)
        self.trunk = Trunk(2 * len(dims) * width, width, config.dropout)
        self.prediction = nn.Linear(width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m), or (n, t, d_m) by the mean of its frames' embeddings."""
        z = embed(self.encoders, batch, features)
        joined = side_by_side([*z.values(), *(self.shared(h) for h in z.values())])
        hidden = self.trunk(joined)
        return Fused(z, hidden, self.prediction(hidden))

    def extra_loss(self, batch: Batch, fused: Fused) -> Tensor:
        """The distance of the invariants' distributions, each over the rows that have it, mean over pairs."""
        invariants = self.shared(torch.stack(list(fused.z.values()), dim=1))  # (n, M, hidden)
        return self.config.apart * discrepancy(invariants, batch.observed, MOMENTS)
