"""MM-DFN: multimodal dynamic fusion network (Hu et al., ICASSP 2022).

As BALM's released code has it (ledger 6.3): one linear encoder per modality, a BiGRU on text, beside it a
BiGRU shared by the modalities over each speaker's own utterances, a graph with one node per utterance and
modality, 16 GCNII layers, one linear head. The paper's gated fusion is off there (D15) and a switch here.
The unimodal embeddings are taken after the speaker context (D23), which is no encoder's. It is made of the
linear layer's output, not of the BiGRU's: the two run side by side in the released code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch, Layout
from mmlib.nn.dropout import dropout
from mmlib.nn.graph import GCNII, graph_edges
from mmlib.nn.gru import DialogueGRU


@dataclass(frozen=True)
class MMDFNConfig:
    """Sizes and switches of MM-DFN.

    hidden: width of every encoder's output. graph: width of the graph layers. layers: how many
    (16 or 32 in the official runs). alpha, lam: GCNII's initial residual and decay. recurrent: modalities
    whose encoder ends in a BiGRU. speaker_weights: how much of the speaker context each modality gets
    ("3-0-1" as released); 1 where a modality is not named. gated: the LSTM gate of the official
    ``--reason_flag`` (D15). packed: False lets the BiGRUs run over padding, as the released code does.
    """

    hidden: int = 200
    graph: int = 100
    layers: int = 16
    dropout: float = 0.4
    alpha: float = 0.2
    lam: float = 0.5
    recurrent: tuple[str, ...] = ("text",)
    speaker_weights: tuple[tuple[str, float], ...] = (
        ("audio", 3.0),
        ("text", 1.0),
        ("vision", 0.0),
    )
    gated: bool = False
    packed: bool = True

    def __post_init__(self) -> None:
        for name in ("hidden", "graph", "layers"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"mmdfn {name}", str(getattr(self, name)), "1 or more", "Raise it."
                )
        if self.hidden % 2:
            raise InputError(
                "mmdfn hidden", str(self.hidden), "an even number", "The BiGRUs halve it."
            )
        if not 0 <= self.dropout < 1:
            raise InputError("mmdfn dropout", str(self.dropout), "a share in [0, 1)", "Correct it.")
        names = [name for name, _ in self.speaker_weights]
        if len(set(names)) < len(names) or not all(
            math.isfinite(weight) for _, weight in self.speaker_weights
        ):
            raise InputError(
                "mmdfn speaker_weights",
                str(self.speaker_weights),
                "one finite weight per modality",
                "Name each modality once.",
            )


class MMDFN(Backbone):
    """The network; ``forward`` takes a batch and the features that a method made of it."""

    Config = MMDFNConfig

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: MMDFNConfig
    ) -> None:
        super().__init__()
        self.config, self.speakers = config, speakers
        self.modalities = tuple(sorted(dims))
        given = dict(config.speaker_weights)
        self.speaker_weights = {m: given.get(m, 1.0) for m in self.modalities}
        self.encoders = nn.ModuleDict(
            {m: Encoder(dims[m], m in config.recurrent, config) for m in self.modalities}
        )
        self.parties = DialogueGRU(
            config.hidden, config.hidden // 2, 2, config.dropout, config.packed
        )
        self.graph = GCNII(
            config.hidden,
            config.graph,
            config.layers,
            config.dropout,
            config.alpha,
            config.lam,
            config.gated,
        )
        self.embedding_dim = config.hidden
        self.prediction = nn.Linear(len(dims) * (config.hidden + config.graph), outputs)

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, add what speakers said, pass messages, fuse, predict; features[m] is (n, d_m)."""
        encoded = {m: self.encoders[m](features[m], batch.layout) for m in self.modalities}
        context = self._speaker_context({m: entered for m, (entered, _) in encoded.items()}, batch)
        z = {
            m: own + self.speaker_weights[m] * context[m] if m in context else own
            for m, (_, own) in encoded.items()
        }
        nodes = torch.stack([z[m] for m in self.modalities], dim=1)  # (n, M, h)
        edges = graph_edges(nodes, batch.layout)
        nodes = dropout(nodes, self.config.dropout, self.training)
        states = self.graph(nodes, edges, batch.layout)  # (n, M, g)
        fused = torch.cat([nodes, states], dim=2).flatten(1)  # (n, M (h + g))
        hidden = F.relu(dropout(fused, self.config.dropout, self.training))
        return Fused(z, hidden, self.prediction(hidden))

    def _speaker_context(self, entered: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """What each speaker said, (n, h) per modality that gets some of it: one recurrent call for all of them."""
        receiving = [m for m in self.modalities if self.speaker_weights[m] != 0]
        if not receiving:
            return {}
        groups, order, back = speaker_layout(
            batch.layout, batch.speaker, self.speakers, len(receiving)
        )
        own = torch.stack([entered[m] for m in receiving]).index_select(
            1, order
        )  # (k, n, h), each speaker's in a row
        context = (
            self.parties(own.flatten(0, 1), groups)
            .unflatten(0, (len(receiving), -1))
            .index_select(1, back)
        )
        return dict(zip(receiving, context, strict=True))


class Encoder(nn.Module):
    """phi^m: a linear layer without activation, for some modalities followed by a two-layer BiGRU."""

    def __init__(self, dim: int, recurrent: bool, config: MMDFNConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, config.hidden)
        half = config.hidden // 2
        self.gru = (
            DialogueGRU(config.hidden, half, 2, config.dropout, config.packed)
            if recurrent
            else None
        )

    def forward(self, features: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """(n, d) -> the linear layer's output, which the speaker network reads, and the encoder's; (n, hidden) each."""
        entered = self.linear(features)
        return entered, self.gru(
            entered, layout, self.linear.bias
        ) if self.gru is not None else entered


def speaker_layout(
    layout: Layout, speaker: Tensor, speakers: int, copies: int = 1
) -> tuple[Layout, Tensor, Tensor]:
    """The layout in which every (dialogue, speaker) pair is a dialogue of its own.

    speaker: (n,) numbers below ``speakers``. The groups are numbered without gaps; rows of the grid that
    are left over stay empty, so that its shape depends on the data's shape alone and nothing waits for the device.

    Returns:
        The layout of ``copies`` times the groups, for (copies * n) rows; order: (n,) the utterance at each
        place of one copy, in time within its group; back: (n,) the place of each utterance.
    """
    pair = layout.dialogue * speakers + speaker
    order = torch.argsort(pair, stable=True)
    pair = pair.index_select(0, order)
    place = torch.arange(len(pair), device=pair.device)
    start, end = torch.searchsorted(pair, pair), torch.searchsorted(pair, pair, right=True)
    group = (place == start).cumsum(0) - 1
    rows = min(layout.dialogues * speakers, len(pair))
    copy = torch.arange(copies, device=pair.device)[:, None]
    slot = (group + copy * rows) * layout.steps + place - start
    turn = start + end - 1 - place + copy * len(pair)
    groups = Layout(
        copies * rows, layout.steps, (group + copy * rows).flatten(), slot.flatten(), turn.flatten()
    )
    return groups, order, torch.argsort(order)
