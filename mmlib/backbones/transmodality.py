"""TransModality: text is translated into each other modality and back (BASELINES_MM2 27; TransM in DREAM's table).

Over single vectors, so the transformers become perceptrons: E1 of the anchor, D1 of the source and E1, E2 of D1, D2 of
the anchor and E2. Linear maps of D1 and D2 should give the source's and the anchor's features: the method
``transmodality`` asks for that. The head reads E1 and E2 of every source, and the modalities' own embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch
from mmlib.nn.dropout import dropout
from mmlib.nn.encoder import Encoder

QUERIES, MADE = ("target", "token"), ("linear", "relu")
ANCHOR = "text"


@dataclass(frozen=True)
class TransModalityConfig:
    """Sizes, and two readings of the decoders.

    hidden: width. dropout: of the embeddings. anchor: the modality that is translated, or the first where the data have
    no text. query: a decoder reads the embedding of its own ``target``, as published, so that it can copy it, or a
    learned ``token`` instead. made: translations are ``linear``, or pass a ``relu`` as published and are not negative.
    A missing anchor is a learned vector. A missing source gives zeros to the head and no translation loss.
    """

    hidden: int = 100
    dropout: float = 0.3
    anchor: str = ANCHOR
    query: str = "target"
    made: str = "linear"

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise InputError("transmodality hidden", str(self.hidden), "1 or more", "Raise it.")
        if not 0 <= self.dropout < 1:
            raise InputError(
                "transmodality dropout", str(self.dropout), "a share in [0, 1)", "Correct it."
            )
        for name, known in (("query", QUERIES), ("made", MADE)):
            if getattr(self, name) not in known:
                raise unknown_name(f"transmodality {name}", getattr(self, name), known)


class Translated(NamedTuple):
    """What a cell makes: E1 and E2, (n, hidden) each; the source's features and the anchor's, (n, d) each."""

    there: Tensor
    back: Tensor
    source: Tensor
    anchor: Tensor


class TransParts(NamedTuple):
    """The prediction, and what each source's cell makes."""

    fused: Fused
    translated: dict[str, Translated]


class TransModality(Backbone):
    """The network over vectors (n, d), or frames (n, t, d) by their mean.

    anchor: the modality that is translated. sources: the others.
    """

    Config = TransModalityConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: TransModalityConfig
    ) -> None:
        super().__init__()
        self.config, self.modalities, width = config, tuple(sorted(dims)), config.hidden
        if config.anchor not in (*dims, ANCHOR):
            raise unknown_name("transmodality anchor", config.anchor, self.modalities)
        self.anchor = config.anchor if config.anchor in dims else self.modalities[0]
        self.sources = tuple(m for m in self.modalities if m != self.anchor)
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width) for m in self.modalities})
        self.absent = nn.Parameter(torch.zeros(width))
        self.cells = nn.ModuleDict(
            {m: Cell(width, dims[m], dims[self.anchor], config) for m in self.sources}
        )
        self.embedding_dim = width
        parts = 2 * len(self.sources) + len(dims)
        self.prediction = nn.Linear(parts * width, outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, translate, predict."""
        return self.parts(batch, features).fused

    def parts(self, batch: Batch, features: Mapping[str, Tensor]) -> TransParts:
        """The prediction with every cell's translations."""
        z, seen = {}, {}
        for i, m in enumerate(self.modalities):
            encoded = dropout(self.encoders[m](features[m]), self.config.dropout, self.training)
            seen[m] = batch.observed[:, i, None]
            z[m] = torch.where(seen[m], encoded, self.absent if m == self.anchor else 0.0)
        made = {m: self.cells[m](z[self.anchor], z[m]) for m in self.sources}
        joined = [torch.where(seen[m], x, 0.0) for m in self.sources for x in made[m][:2]]
        hidden = torch.cat([*joined, *(z[m] for m in self.modalities)], dim=1)
        return TransParts(Fused(z, hidden, self.prediction(hidden)), made)


class Cell(nn.Module):
    """The translation of the anchor into one source, and back."""

    def __init__(self, width: int, source: int, anchor: int, config: TransModalityConfig) -> None:
        super().__init__()
        self.config = config
        self.encode, self.encode_back = perceptron(width, width), perceptron(width, width)
        self.decode, self.decode_back = perceptron(2 * width, width), perceptron(2 * width, width)
        self.to_source, self.to_anchor = nn.Linear(width, source), nn.Linear(width, anchor)
        self.queries = nn.Parameter(torch.zeros(2, width), requires_grad=config.query == "token")

    def forward(self, anchor: Tensor, source: Tensor) -> Translated:
        """Embeddings of both, (n, width) each."""
        asked = source, anchor
        if self.config.query == "token":
            asked = self.queries[0].expand_as(source), self.queries[1].expand_as(anchor)
        there = self.encode(anchor)
        decoded = self.decode(torch.cat([asked[0], there], dim=1))
        back = self.encode_back(decoded)
        decoded_back = self.decode_back(torch.cat([asked[1], back], dim=1))
        made = self.to_source(decoded), self.to_anchor(decoded_back)
        if self.config.made == "relu":
            made = F.relu(made[0]), F.relu(made[1])
        return Translated(there, back, *made)


def perceptron(dim: int, width: int) -> nn.Sequential:
    """Linear, ReLU, linear: (n, dim) -> (n, width)."""
    return nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width))
