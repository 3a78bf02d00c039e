"""The concatenation network, told for each modality whether it is observed: zeros and indicators, the plainest way."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmlib.backbones.concat import Concat, ConcatConfig
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch


class ConcatIndicators(Concat):
    """z^m is what the encoder gives and, after it, 1 where m is observed and 0 where it is not."""

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: ConcatConfig
    ) -> None:
        super().__init__(dims, outputs, speakers, config)
        self.embedding_dim += 1
        self.prediction = nn.Linear(len(dims) * self.embedding_dim, outputs)
        nn.init.xavier_normal_(self.prediction.weight)
        nn.init.zeros_(self.prediction.bias)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode each modality, put its indicator beside it, concatenate, predict."""
        z = {}
        for index, m in enumerate(self.modalities):
            encoded = self.encoders[m](features[m])
            observed = batch.observed[:, index, None].to(encoded.dtype)
            z[m] = torch.cat([encoded, observed], dim=1)  # (n, d_emb)
        hidden = torch.cat([z[m] for m in self.modalities], dim=1)
        return Fused(z, hidden, self.prediction(hidden))
