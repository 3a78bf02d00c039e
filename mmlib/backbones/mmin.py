"""MMIN: imagine what is missing by a cascade of autoencoders, and predict from its codes (BASELINES_MM 4, MM2 B).

It starts from its teacher's encoders. A cascade turns the embeddings of a row's available modalities into those of the
others, a second one turns these back, and the prediction reads the codes of the first alone. The LSTMs and the TextCNN
are linear maps here (R1), and what is missing enters as zeros, as in the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.backbones.mmin_teacher import MMINTeacherConfig, embed
from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.cascade import Cascade, Imagined
from mmlib.nn.encoder import Encoder
from mmlib.nn.trunk import Trunk


@dataclass(frozen=True)
class MMINConfig(MMINTeacherConfig):
    """As the teacher's, and blocks: autoencoders in a cascade, whose widths are the published shares of M hidden."""

    dropout: float = 0.5
    blocks: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks < 1:
            raise InputError("mmin blocks", str(self.blocks), "1 or more", "Raise it.")


class Parts(NamedTuple):
    """What the loss reads: joined (n, M hidden), the embeddings h side by side, and what is imagined of them, h'."""

    fused: Fused
    joined: Tensor
    imagined: Imagined


class MMIN(Backbone):
    """The network. z^m is the embedding of a modality as it is, or of zeros."""

    Config = MMINConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MMINConfig
    ) -> None:
        super().__init__()
        width = self.embedding_dim = config.hidden
        joined = len(dims) * width
        self.config = config
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in sorted(dims)})
        self.imagine = Cascade(joined, config.blocks, joined)
        self.recall = Cascade(joined, config.blocks, joined)  # h' -> h'', in the loss alone
        self.trunk = Trunk(self.imagine.code_dim, width, config.dropout)
        self.prediction = nn.Linear(width, outputs)

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> Parts:
        """Embed, imagine, predict from the codes."""
        z = embed(self.encoders, batch, features)
        joined = torch.cat(list(z.values()), dim=1)
        imagined = self.imagine(joined)
        hidden = self.trunk(imagined.codes)
        return Parts(Fused(z, hidden, self.prediction(hidden)), joined, imagined)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m), or (n, t, d_m) by the mean of its frames' embeddings."""
        return self.parts(batch, features).fused
