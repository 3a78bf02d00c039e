"""A network in the style of DEVA: measurements become words, and text takes the others in level by level (MM2 28).

Only an abstract of DEVA is known here, so layers and weights are this reading's. A describing sentence ("high pitch")
becomes this: every feature of a modality but the text is low, normal or high by the thirds of the training rows, and
the mean over features of a learned vector for each of these is added to the modality's embedding h_m. The text has
levels t_1 ... t_L, one after each layer of a perceptron. f_0 = t_L, f_i = f_(i-1) + sum_m alpha_m MLP_m,i([h_m; t_i]).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.nn.anchor import ANCHOR, anchor_of
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.checks import check_counts, check_shares
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder
from mmlib.nn.frames import time_mean

THIRDS = (1 / 3, 2 / 3)
CUT = 0.43  # of a standard normal law, before the cuts are known


@dataclass(frozen=True)
class DEVAConfig:
    """hidden: width. levels: of the text, L. dropout: of what predicts.

    anchor: the modality that takes the others in, or the first where the data have no text; a learned vector where it
    is missing. Another one that is missing adds nothing.
    """

    hidden: int = 64
    levels: int = 3
    dropout: float = 0.1
    anchor: str = ANCHOR

    def __post_init__(self) -> None:
        check_counts("deva", self, ("hidden", "levels"))
        check_shares("deva", self)


class DEVA(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean. z^m is h_m.

    anchor: the text. others: the rest. cuts: of their features, (2, d_m) each; the method ``deva`` finds them.
    """

    Config = DEVAConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: DEVAConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities = config, tuple(sorted(dims))
        self.anchor = anchor_of("deva", config.anchor, self.modalities)
        self.others = tuple(m for m in self.modalities if m != self.anchor)
        width = self.embedding_dim = config.hidden
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.descriptions = nn.ModuleDict({m: Description(dims[m], width) for m in self.others})
        self.absent = nn.Parameter(torch.zeros(width))
        self.levels = nn.ModuleList([nn.Linear(width, width) for _ in range(config.levels)])
        self.weights = nn.Parameter(torch.ones(len(self.others)))  # alpha
        self.takes = nn.ModuleList(
            [nn.ModuleList([Take(width) for _ in self.others]) for _ in range(config.levels)]
        )
        self.prediction = nn.Linear(width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """features[m]: (n, d_m) or (n, t, d_m)."""
        seen = dict(zip(self.modalities, batch.observed.unbind(dim=1), strict=True))
        z = {m: self.encoders[m](features[m]) for m in self.modalities}
        for m, description in self.descriptions.items():
            z[m] = z[m] + description(time_mean(features[m]))
        text = torch.where(seen[self.anchor][:, None], z[self.anchor], self.absent)
        levels = []
        for layer in self.levels:
            text = F.relu(layer(text))
            levels.append(text)
        fused = levels[-1]
        for level, takes in zip(levels, self.takes, strict=True):
            each = zip(self.others, self.weights, cast(nn.ModuleList, takes), strict=True)
            for m, weight, take in each:
                fused = fused + torch.where(seen[m][:, None], weight * take(z[m], level), 0)
        hidden = dropout(fused, self.config.dropout, self.training)
        return Fused(z, hidden, self.prediction(hidden))


class Description(nn.Module):
    """The mean over features of a learned vector for low, for normal or for high."""

    cuts: Tensor

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.randn(3, dim, width))
        self.register_buffer("cuts", torch.tensor([[-CUT], [CUT]]).repeat(1, dim))

    def forward(self, values: Tensor) -> Tensor:
        """(n, dim) -> (n, width)."""
        low, high = values < self.cuts[0], values >= self.cuts[1]
        which = torch.stack([low, ~low & ~high, high]).to(values.dtype)  # (3, n, dim)
        return (which @ self.words).sum(dim=0) / values.shape[1]

    @torch.no_grad()
    def cut(self, values: Tensor, seen: Tensor) -> None:
        """Find where the lowest and the highest third begin, values (n, dim), among the rows that count, (n,) bool."""
        count = seen.sum()
        ordered = torch.where(seen[:, None], values, torch.inf).sort(dim=0).values
        for place, share in enumerate(THIRDS):
            row = (count * share).long().clamp(max=len(values) - 1)
            self.cuts[place] = torch.where(count > 0, ordered.index_select(0, row[None])[0], 0)


class Take(nn.Module):
    """W_2 ReLU(W_1 [h_m; t_i])."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2 * width, width), nn.Linear(width, width)

    def forward(self, values: Tensor, text: Tensor) -> Tensor:
        """(n, width) each -> (n, width)."""
        taken: Tensor = self.second(F.relu(self.first(torch.cat([values, text], dim=1))))
        return taken
