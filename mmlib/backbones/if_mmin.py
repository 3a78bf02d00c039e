"""IF-MMIN: MMIN whose cascade is steered by what the modalities share (MM2 18).

It starts from its teacher's encoders and its map S to a modality's invariant part. The invariants are added to the
input of every autoencoder of the cascade, whose codes predict; there is no second cascade. The LSTMs and the TextCNN
are linear maps here (R1), and what is missing enters as zeros, whose invariants S(ReLU(b_m)) are not zero (R3, as the
source).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from mmlib.backbones.if_mmin_teacher import Shared, side_by_side
from mmlib.backbones.mmin import MMINConfig
from mmlib.backbones.mmin_teacher import embed
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.cascade import Cascade, Imagined
from mmlib.nn.encoder import Encoder
from mmlib.nn.trunk import Trunk


class Parts(NamedTuple):
    """What the loss reads: invariants (n, M hidden), H' of the input, and what is imagined of it."""

    fused: Fused
    invariants: Tensor
    imagined: Imagined


class IFMMIN(Backbone):
    """The network. z^m is the embedding of a modality as it is, or of zeros."""

    Config = MMINConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MMINConfig
    ) -> None:
        super().__init__()
        width = self.embedding_dim = config.hidden
        self.config = config
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in sorted(dims)})
        self.shared = Shared(width)
        self.imagine = Cascade(len(dims) * width, config.blocks, len(dims) * width)
        self.trunk = Trunk(self.imagine.code_dim, width, config.dropout)
        self.prediction = nn.Linear(width, outputs)

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, take the invariants, imagine, predict from the codes."""
        z = embed(self.encoders, batch, features)
        invariants = side_by_side(self.shared(h) for h in z.values())
        imagined = self.imagine(side_by_side(z.values()), invariants)
        hidden = self.trunk(imagined.codes)
        return Parts(Fused(z, hidden, self.prediction(hidden)), invariants, imagined)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m), or (n, t, d_m) by the mean of its frames' embeddings."""
        return self.parts(batch, features).fused
