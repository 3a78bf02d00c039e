"""What a backbone declares so that any method can plug into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
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


class Lazy(Mapping[str, Tensor]):
    """Embeddings that are computed, all at once, when the first of them is asked for."""

    def __init__(self, names: Sequence[str], make: Callable[[], Mapping[str, Tensor]]) -> None:
        self.names, self.make = tuple(names), make

    @cached_property
    def made(self) -> Mapping[str, Tensor]:
        """The embeddings by modality."""
        return self.make()

    def __getitem__(self, name: str) -> Tensor:
        return self.made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Backbone(nn.Module):
    """The hook: which parameters encode modality m, where z^m is, which layer predicts.

    encoders: modality to the module whose parameters are theta^phi^m (or override ``encoder_parameters`` and
        ``encoder_gradients``).
    prediction: the last linear layer, F_pred.
    embedding_dim: d_emb, the width of every z^m.
    needs_complete: whether ``extra_loss`` reads ``batch.complete``.
    """

    encoders: nn.ModuleDict
    prediction: nn.Linear
    embedding_dim: int
    needs_complete: bool = False

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode, fuse and predict; features[m] is (n, d_m), zero where the modality is missing."""
        raise NotImplementedError

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The parameters that hold theta^phi^m of any modality."""
        return list(self.encoders.parameters())

    def encoder_gradients(self, modality: str) -> list[Tensor]:
        """The gradients of theta^phi^m after a backward pass, to be changed in place."""
        return [p.grad for p in self.encoders[modality].parameters() if p.grad is not None]

    def extra_loss(self, batch: Batch, fused: Fused) -> Tensor | None:
        """What a backbone adds to the task loss; nothing here."""
        return None

    def unimodal(self, fused: Fused) -> dict[str, Tensor]:
        """Each modality's own logits, modality to (n, C), where the prediction splits into them; else none."""
        return {}


class Staged(Backbone):
    """A backbone in three steps, between which a method can put something: encode, map, fuse.

    outputs: modality to the linear map of what ``represent`` gives, R^m = W^m x^m, before ``fuse``.
    """

    outputs: nn.ModuleDict

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Fused:
        """Encode each modality, map it, fuse, predict."""
        encoded = self.represent(batch, features)
        z, hidden = self.fuse(batch, {m: self.outputs[m](x) for m, x in encoded.items()})
        return Fused(z, hidden, self.prediction(hidden))

    def represent(self, batch: Batch, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """x^m: modality to (n, d_emb), from the modality's own utterances alone."""
        raise NotImplementedError

    def fuse(
        self, batch: Batch, representations: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Representations, modality to (n, d_emb) -> z^m, and what the prediction reads, (n, M d_emb)."""
        raise NotImplementedError
