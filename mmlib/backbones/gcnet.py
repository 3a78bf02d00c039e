"""GCNet: graph completion network for incomplete multimodal learning in conversation (Lian et al., TPAMI 2023).

The official network, by ledger 6.2: the modalities side by side, one BiLSTM over each dialogue, a temporal
and a speaker graph over windows of utterances, each read by a BiLSTM of its own, one linear head. It has no
encoder per modality and BALM's hook into it is unpublished (A17): both constructions of the ledger are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.nn.backbone import Backbone, Fused, Lazy
from mmlib.nn.batch import Batch, Layout
from mmlib.nn.recurrent import DialogueRNN

TIMES = 3  # past, now, future
MOST_PAIRS = 9  # of speakers, each with a relation of its own


@dataclass(frozen=True)
class GCNetConfig:
    """Sizes and switches of GCNet.

    hidden: D_e, width of one direction of the sequence encoder. window_past, window_future: how many utterances
    before and after it an utterance hears from. encoder: ``columns`` is A17 (i), the network unchanged; ``linear``
    is A17 (ii), a linear layer per modality before the BiLSTM. packed: False lets the BiLSTMs run over padding, as
    the official code does. reconstruct: weight of the loss on missing features; 0, as in BALM, leaves it out.
    """

    hidden: int = 200
    window_past: int = 2
    window_future: int = 2
    dropout: float = 0.5
    encoder: str = "columns"
    packed: bool = True
    reconstruct: float = 0.0

    def __post_init__(self) -> None:
        if self.encoder not in ("columns", "linear"):
            raise unknown_name("gcnet encoder", self.encoder, ("columns", "linear"))
        for name, right, expected in (
            (
                "hidden",
                self.hidden >= 2 and self.hidden % 2 == 0,
                "an even number, 2 or more: the graphs halve it",
            ),
            ("window_past", self.window_past >= 0, "0 or more"),
            ("window_future", self.window_future >= 0, "0 or more"),
            ("dropout", 0 <= self.dropout < 1, "a share in [0, 1)"),
            ("reconstruct", 0 <= self.reconstruct < float("inf"), "0 (off) or more"),
        ):
            if not right:
                raise InputError(f"gcnet {name}", str(getattr(self, name)), expected, "Correct it.")


class GCNet(Backbone):
    """The network; ``forward`` takes a batch and the features that a method made of it.

    ``columns``: theta^phi^m are the columns of modality m in the BiLSTM's first input weights, both directions;
    ``encoders`` is empty and ``encoder_gradients`` gives views. z^m is the BiLSTM's output with the other modalities
    zeroed, without gradient, with the BiLSTM's dropout, made when first asked for (so ask before the next step).
    ``linear``: theta^phi^m and z^m are a linear layer and its output, its bias where m is missing.
    """

    Config = GCNetConfig
    owner: Tensor  # (sum of d_m,) number of the modality that an input column belongs to

    def __init__(
        self, dims: Mapping[str, int], outputs: int, speakers: int, config: GCNetConfig
    ) -> None:
        super().__init__()
        self.config, self.speakers = config, speakers
        self.modalities = tuple(sorted(dims))
        self.widths = [dims[m] for m in self.modalities]
        owner = torch.arange(len(dims)).repeat_interleave(torch.tensor(self.widths))
        self.register_buffer("owner", owner, persistent=False)
        self.embedding_dim, linear = 2 * config.hidden, config.encoder == "linear"
        self.encoders = nn.ModuleDict(
            {m: nn.Linear(dims[m], self.embedding_dim) for m in self.modalities if linear}
        )
        inputs = len(dims) * self.embedding_dim if linear else len(owner)
        self.sequence = DialogueRNN(inputs, config.hidden, 2, config.dropout, config.packed)
        self.temporal = GraphNetwork(TIMES, config)
        self.speaker = GraphNetwork(speakers**2 if speakers**2 <= MOST_PAIRS else 2, config)
        self.prediction = nn.Linear(self.temporal.width, outputs)
        self.needs_complete = config.reconstruct > 0
        self.reconstruction = (
            nn.Linear(self.temporal.width, len(owner)) if self.needs_complete else None
        )

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Concatenate, encode, pass messages in both graphs, add, predict; features[m] is (n, d_m)."""
        z, nodes = self._encode(features, batch.layout)  # (n, 2 D_e)
        near = neighbours(batch.layout, self.config.window_past, self.config.window_future)
        hidden = self.temporal(nodes, near, time_relation(near), batch.layout)
        hidden = hidden + self.speaker(
            nodes, near, speaker_relation(near, batch.speaker, self.speakers), batch.layout
        )
        return Fused(z, hidden, self.prediction(hidden))  # hidden: (n, D_h)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The linear layers' parameters, or the first BiLSTM layer's input weights in both directions."""
        if self.encoders:
            return super().encoder_parameters()
        ways = (self.sequence.ahead, self.sequence.back)
        return [layers[0].get_parameter("weight_ih_l0") for layers in ways]

    def encoder_gradients(self, modality: str) -> list[Tensor]:
        """The gradients of theta^phi^m, to be changed in place: a layer's, or columns of the first BiLSTM layer's."""
        if self.encoders:
            return super().encoder_gradients(modality)
        index = self.modalities.index(modality)
        start, width = sum(self.widths[:index]), self.widths[index]
        weights = self.encoder_parameters()
        return [w.grad.narrow(1, start, width) for w in weights if w.grad is not None]

    def extra_loss(self, batch: Batch, fused: Fused) -> Tensor | None:
        """``reconstruct`` times the mean squared error over missing entries of finite truth; 0 if there are none."""
        if self.reconstruction is None or batch.complete is None:
            return None
        truth = torch.cat([batch.complete[m] for m in self.modalities], dim=1)  # (n, sum of d_m)
        missing = ~batch.observed.index_select(1, self.owner) & truth.isfinite()
        error = torch.where(missing, self.reconstruction(fused.hidden) - truth, 0)
        return self.config.reconstruct * error.square().sum() / missing.sum().clamp(min=1)

    def _encode(
        self, features: Mapping[str, Tensor], layout: Layout
    ) -> tuple[Mapping[str, Tensor], Tensor]:
        if self.encoders:
            z = {m: self.encoders[m](features[m]) for m in self.modalities}
            filler = torch.cat([self.encoders[m].get_parameter("bias") for m in self.modalities])
            return z, self.sequence(torch.cat(list(z.values()), dim=1), layout, filler)
        inputs = torch.cat([features[m] for m in self.modalities], dim=1)
        return Lazy(self.modalities, lambda: self._unimodal(inputs, layout)), self.sequence(
            inputs, layout
        )

    @torch.no_grad()
    def _unimodal(self, inputs: Tensor, layout: Layout) -> dict[str, Tensor]:
        """z^m of A17 (i) for every modality in one pass over M copies of the batch, (n, 2 D_e) each."""
        count = len(self.modalities)
        own = self.owner == torch.arange(count, device=inputs.device)[:, None]  # (M, sum of d_m)
        copies = torch.where(own[:, None], inputs, 0).flatten(0, 1)  # (M n, sum of d_m)
        made = self.sequence(copies, repeated(layout, count)).unflatten(0, (count, -1))
        return dict(zip(self.modalities, made.unbind(), strict=True))


class GraphNetwork(nn.Module):
    """Two graph convolutions and a BiLSTM over what they make beside the nodes; D_h = 2 D_e + D_e / 2 wide."""

    def __init__(self, relations: int, config: GCNetConfig) -> None:
        super().__init__()
        nodes, half = 2 * config.hidden, config.hidden // 2
        self.width = nodes + half
        self.relational = RelationalConv(nodes, half, relations)
        self.root = nn.Linear(half, half)
        self.message = nn.Linear(half, half, bias=False)
        self.sequence = DialogueRNN(self.width, self.width, 2, config.dropout, config.packed)
        self.last = nn.Linear(2 * self.width, self.width)

    def forward(self, nodes: Tensor, near: Neighbours, relation: Tensor, layout: Layout) -> Tensor:
        """Nodes (n, 2 D_e), relation (n, K) -> (n, D_h)."""
        states = torch.cat([nodes, self.convolve(nodes, near, relation)], dim=1)
        return F.relu(self.last(self.sequence(states, layout)))

    def convolve(self, nodes: Tensor, near: Neighbours, relation: Tensor) -> Tensor:
        """Both convolutions, (n, 2 D_e) -> (n, D_e / 2); the second adds up neighbours whatever their relation."""
        states = self.relational(nodes, near, relation)
        return torch.add(
            self.root(states),
            gather_sum(self.message(states), near.row, near.valid.to(states.dtype)),
        )


class RelationalConv(nn.Module):
    """W_0 x_i + b + sum over r of the mean of W_r x_j over i's neighbours j by relation r (Schlichtkrull et al., 2018).

    Glorot's initialisation and a zero bias, which is what RGCNConv of the official network comes with.
    """

    def __init__(self, inputs: int, width: int, relations: int) -> None:
        super().__init__()
        self.relations = relations
        self.root = nn.Linear(inputs, width)
        self.weight = nn.Parameter(torch.empty(inputs, relations, width))
        for matrix in (self.root.weight, *self.weight.unbind(1)):
            nn.init.xavier_uniform_(matrix.detach())
        nn.init.zeros_(self.root.bias)

    def forward(self, nodes: Tensor, near: Neighbours, relation: Tensor) -> Tensor:
        """Nodes (n, inputs), relation (n, K) in 0 ... R - 1 -> (n, width)."""
        kinds = torch.arange(self.relations, device=nodes.device)
        of_kind = (relation[..., None] == kinds) & near.valid[..., None]  # (n, K, R)
        size = (
            of_kind.sum(dim=1).gather(1, relation).clamp(min=1)
        )  # (n, K) neighbours of the same relation
        table = (nodes @ self.weight.flatten(1)).view(-1, self.weight.shape[2])  # (n R, width)
        means = gather_sum(
            table, near.row * self.relations + relation, near.valid.to(table.dtype) / size
        )
        return torch.add(self.root(nodes), means)


class Neighbours(NamedTuple):
    """The K = window_past + 1 + window_future places around each utterance, the edges of both graphs.

    row: (n, K) the utterance at each place, some other where there is none. valid: (n, K) whether there is one.
    """

    row: Tensor
    valid: Tensor


def neighbours(layout: Layout, past: int, future: int) -> Neighbours:
    """Utterance j hears from i in [j - past, j + future] of its dialogue (with equal windows, also the reverse)."""
    here = torch.arange(len(layout.dialogue), device=layout.dialogue.device)[:, None]
    wanted = here + torch.arange(-past, future + 1, device=here.device)
    row = wanted.clamp(0, len(here) - 1)
    return Neighbours(row, (row == wanted) & (layout.dialogue[row] == layout.dialogue[:, None]))


def time_relation(near: Neighbours) -> Tensor:
    """0 for the past, 1 for the utterance itself, 2 for the future, (n, K)."""
    return (near.row - torch.arange(len(near.row), device=near.row.device)[:, None]).sign() + 1


def speaker_relation(near: Neighbours, speaker: Tensor, speakers: int) -> Tensor:
    """The ordered pair of speakers, (n, K); own or another's where pairs are many (a reading of ours)."""
    mine, theirs = speaker[:, None], speaker[near.row]
    return mine * speakers + theirs if speakers**2 <= MOST_PAIRS else (theirs != mine).long()


def gather_sum(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sum over k of weight[i, k] table[index[i, k]]: table (rows, g), index and weight (n, K) -> (n, g)."""
    return (table.index_select(0, index.flatten()).view(*index.shape, -1) * weight[..., None]).sum(
        dim=1
    )


def repeated(layout: Layout, count: int) -> Layout:
    """The layout of ``count`` copies of the same dialogues, copy after copy."""
    copy = torch.arange(count, device=layout.slot.device)[:, None]
    cells, size = layout.dialogues * layout.steps, len(layout.slot)
    return Layout(
        count * layout.dialogues,
        layout.steps,
        (layout.dialogue + copy * layout.dialogues).flatten(),
        (layout.slot + copy * cells).flatten(),
        (layout.turn + copy * size).flatten(),
    )
