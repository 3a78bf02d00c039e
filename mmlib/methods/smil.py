"""SMIL: Multimodal Learning with Severely Missing Modality (BASELINES_MM 14, MM2 B).

Meta-learning: the inner step moves encoders and head by the loss of what a row has; the outer loss is that of the
same rows with the missing modalities completed, through the moved network. Before each epoch the centres are found
anew by K-means over the training rows that have a modality. Selection on validation, where the released code takes
the best test accuracy; no decay of the inner learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.func import functional_call

from mmlib.backbones.smil import SMIL, Layers
from mmlib.errors import InputError
from mmlib.methods.own_network import own_network
from mmlib.methods.plain import Peek
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch


@dataclass(frozen=True)
class SmilConfig(ReferenceConfig):
    """inner_lr: eta of the inner step. second_order: the outer gradient goes through the inner one, as published.

    noise_weight: of the squared size of what is added to the two layers.
    """

    inner_lr: float = 1e-3
    second_order: bool = False
    noise_weight: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("inner_lr", "noise_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"smil {name}", str(getattr(self, name)), "0 or more", "Raise it.")


VARIANTS: dict[str, SmilConfig] = {
    "paper": SmilConfig(),
    "second_order": SmilConfig(second_order=True),
}


class Smil(Reference):
    """The method over the backbone ``smil``."""

    Config = SmilConfig
    config: SmilConfig
    backbone: SMIL

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        own_network(self, "smil", SMIL)

    @torch.no_grad()
    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Find each modality's centres among the training rows that have it; one that no row has keeps its own."""
        batches, net = peek.train(), self.backbone
        latents = torch.cat([net.latents(b, b.features) for b in batches]).cpu().double().numpy()
        seen = torch.cat([b.observed for b in batches]).cpu().numpy()
        for number, centres in enumerate(net.centres):
            rows = latents[seen[:, number], number]
            if len(rows):
                centres.copy_(torch.from_numpy(centres_of(rows, len(centres))))
        return {}

    def loss(self, batch: Batch) -> Tensor:
        """Outer loss + noise_weight (|f_1 - f_1*|^2 + |f_2 - f_2*|^2) + inner loss."""
        net, c = self.backbone, self.config
        inner = self.fused_loss(batch, net.present(batch, batch.features))
        layers = self.after(self.moved(inner), batch)
        added = (
            (layers.noisy_joined - layers.joined).square().sum(dim=1).mean()
            + (layers.noisy_inner - layers.inner).square().sum(dim=1).mean()
        )  # fmt: skip
        return self.fused_loss(batch, layers.fused) + c.noise_weight * added + inner

    def moved(self, inner: Tensor) -> dict[str, Tensor]:
        """theta - eta d inner/d theta, by name; of first order, the gradient is a constant."""
        c, own = self.config, self.backbone.trained_inside()
        slopes = torch.autograd.grad(
            inner, list(own.values()), create_graph=c.second_order, retain_graph=True
        )
        return {n: p - c.inner_lr * s for (n, p), s in zip(own.items(), slopes, strict=True)}

    def after(self, moved: dict[str, Tensor], batch: Batch) -> Layers:
        """What the network makes of a batch with other parameters in the place of some."""
        named = {f"network.{n}": p for n, p in moved.items()}
        layers: Layers = functional_call(Parts(self.backbone), named, (batch,))
        return layers


class Parts(nn.Module):
    """A network's ``parts`` as a module of its own, so that it can be called with other parameters."""

    def __init__(self, network: SMIL) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Layers:
        """Of what a batch shows."""
        return self.network.parts(batch, batch.features)


def centres_of(rows: np.ndarray, count: int) -> np.ndarray:
    """rows (n, d) -> (count, d) centres of K-means; of fewer distinct rows than that, some come again."""
    distinct = len(np.unique(rows, axis=0))
    found: Sequence[Any] = (
        KMeans(min(count, distinct), n_init=1, random_state=0).fit(rows).cluster_centers_
    )
    return np.resize(found, (count, rows.shape[1]))
