"""What a backbone declares so that any method can plug into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from mmlib.nn.batch import Batch


class Fused(NamedTuple):
    """What a backbone makes of a batch.

    z: modality to (n, d_emb), the unimodal embeddings (BALM Eq. 11).
    hidden: (n, d_h), the input of the prediction layer (BALM Eq. 12, after activation and dropout).
    logits: (n, C), the prediction before softmax (BALM Eq. 13).
    """

    z: Mapping[str, Tensor]
    hidden: Tensor
    logits: Tensor


class Backbone(nn.Module):
    """The hook: which parameters encode modality m, where z^m is, which layer predicts.

    encoders: modality to the module whose parameters are theta^phi^m.
    prediction: the last linear layer, F_pred.
    embedding_dim: d_emb, the width of every z^m.
    """

    encoders: nn.ModuleDict
    prediction: nn.Linear
    embedding_dim: int

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, fuse and predict; features[m] is (n, d_m), zero where the modality is missing."""
        raise NotImplementedError
