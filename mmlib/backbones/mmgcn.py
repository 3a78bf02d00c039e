"""MMGCN: multimodal fusion by a deep graph convolution network (Hu et al., ACL 2021).

As BALM's released code has it (ledger 6.1): one linear encoder per modality, a BiLSTM on text,
a graph with one node per utterance and modality, GCNII layers, one linear head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch, Layout
from mmlib.nn.dropout import dropout
from mmlib.nn.graph import GCNII, graph_edges
from mmlib.nn.recurrent import DialogueRNN


@dataclass(frozen=True)
class MMGCNConfig:
    """Sizes and switches of MMGCN.

    hidden: width of every encoder's output. graph: width of the graph layers. layers: how many
    (4 as BALM released, 64 in the official file: D16). alpha, lam: GCNII's initial residual and
    decay. speaker: the speaker embedding is added to ``all`` modalities (D17) or to ``text`` only
    as in the official code. recurrent: modalities whose encoder ends in a BiLSTM. packed: False
    lets the BiLSTM run over padding, as the released code does.
    """

    hidden: int = 200
    graph: int = 100
    layers: int = 4
    dropout: float = 0.4
    alpha: float = 0.1
    lam: float = 0.5
    speaker: str = "all"
    recurrent: tuple[str, ...] = ("text",)
    packed: bool = True

    def __post_init__(self) -> None:
        if self.speaker not in ("all", "text", "none"):
            raise unknown_name("mmgcn speaker", self.speaker, ("all", "text", "none"))
        for name in ("hidden", "graph", "layers"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"mmgcn {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )
        if self.hidden % 2:
            raise InputError(
                "mmgcn hidden", str(self.hidden), "an even number", "The BiLSTM halves it."
            )
        if not 0 <= self.dropout < 1:
            raise InputError("mmgcn dropout", str(self.dropout), "a share in [0, 1)", "Correct it.")


class MMGCN(Backbone):
    """The network; ``forward`` takes a batch and the features that a method made of it."""

    Config = MMGCNConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MMGCNConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.modalities = tuple(sorted(dims))
        self.encoders = nn.ModuleDict(
            {m: Encoder(d, m in config.recurrent, config) for m, d in sorted(dims.items())}
        )
        self.speaker = nn.Embedding(speakers, config.hidden)
        self.graph = GCNII(
            config.hidden, config.graph, config.layers, config.dropout, config.alpha, config.lam
        )
        self.embedding_dim = config.hidden
        self.prediction = nn.Linear(len(dims) * (config.hidden + config.graph), outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, add speakers, pass messages, fuse, predict; features[m] is (n, d_m)."""
        z = {m: self.encoders[m](features[m], batch.layout) for m in self.modalities}
        nodes = torch.stack(
            [self._with_speaker(m, z[m], batch.speaker) for m in self.modalities], dim=1
        )  # (n, M, h)
        edges = graph_edges(nodes, batch.layout)
        nodes = dropout(nodes, self.config.dropout, self.training)
        states = self.graph(nodes, edges, batch.layout)  # (n, M, g)
        fused = torch.cat([nodes, states], dim=2).flatten(1)  # (n, M (h + g))
        hidden = F.relu(dropout(fused, self.config.dropout, self.training))
        return Fused(z, hidden, self.prediction(hidden))

    def _with_speaker(self, modality: str, z: Tensor, speaker: Tensor) -> Tensor:
        wanted = self.config.speaker
        return z + self.speaker(speaker) if wanted == "all" or wanted == modality else z


class Encoder(nn.Module):
    """phi^m: a linear layer without activation, for some modalities followed by a two-layer BiLSTM."""

    def __init__(self, dim: int, recurrent: bool, config: MMGCNConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, config.hidden)
        half = config.hidden // 2
        self.lstm = (
            DialogueRNN(config.hidden, half, 2, config.dropout, config.packed)
            if recurrent
            else None
        )

    def forward(self, features: Tensor, layout: Layout) -> Tensor:
        """(n, d) -> (n, hidden)."""
        z: Tensor = self.linear(features)
        return self.lstm(z, layout, self.linear.bias) if self.lstm is not None else z
