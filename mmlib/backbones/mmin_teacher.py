"""MMIN's teacher: an encoder for each modality, and a prediction from all embeddings (BASELINES_MM 4, MM2 B).

Its encoders are where MMIN starts, and what MMIN's imagination is held against. The LSTMs and the TextCNN are linear
maps here (R1). What is missing enters as zeros, whose embedding is ReLU(b_m) (R3: that is the point of the source's
targets).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.encoder import Encoder
from mmlib.nn.trunk import Trunk


@dataclass(frozen=True)
class MMINTeacherConfig:
    """hidden: width of an embedding and of the prediction's layers. dropout: in these."""

    hidden: int = 128
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise InputError("mmin hidden", str(self.hidden), "1 or more", "Raise it.")
        if not 0 <= self.dropout < 1:
            raise InputError("mmin dropout", str(self.dropout), "a share in [0, 1)", "Correct it.")


def embed(
    encoders: nn.ModuleDict, batch: Batch, features: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """h_m = E_m(x_m), modality to (n, hidden); of zeros where a modality is missing."""
    z = {}
    for index, (m, encoder) in enumerate(encoders.items()):
        values = features[m]
        seen = batch.observed[:, index].reshape(-1, *[1] * (values.ndim - 1))
        z[m] = encoder(torch.where(seen, values, 0))
    return z


class MMINTeacher(Backbone):
    """The teacher: the embeddings side by side, two hidden layers, the prediction."""

    Config = MMINTeacherConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MMINTeacherConfig
    ) -> None:
        super().__init__()
        width = self.embedding_dim = config.hidden
        self.config = config
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in sorted(dims)})
        self.trunk = Trunk(len(dims) * width, width, config.dropout)
        self.prediction = nn.Linear(width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m), or (n, t, d_m) by the mean of its frames' embeddings."""
        z = embed(self.encoders, batch, features)
        hidden = self.trunk(torch.cat(list(z.values()), dim=1))
        return Fused(z, hidden, self.prediction(hidden))
