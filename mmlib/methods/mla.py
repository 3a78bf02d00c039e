"""MLA: multimodal representation learning by alternating unimodal adaptation (Zhang et al., CVPR 2024).

There is no joint loss. One head, shared by the modalities, predicts from each embedding; in every batch each modality
in turn has an optimizer step of its encoder and of the head, whose gradient is projected away from the directions of
earlier embeddings. At evaluation the modalities' logits are added up by weights that fall with their entropy. The
backbone's own prediction layer is not used: it gets no gradient, so no optimizer moves it.

The equations follow the released code, with two readings: P's denominator is a scalar (there an outer product, so
element by element), and entropies are each sample's own (there one per batch). In the last released version the
projection never fires; ``released`` has no projection and the entropy of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmlib.errors import InputError, unknown_name
from mmlib.methods.plain import Peek, Plain, PlainConfig
from mmlib.nn.backbone import Backbone, Fused
from mmlib.nn.batch import Batch

PROJECTIONS = ("scalar", "outer", "none")
FUSIONS = ("sample", "batch", "fixed")


@dataclass(frozen=True)
class MlaConfig(PlainConfig):
    """How the head's gradient is projected and how predictions are fused.

    projection: ``scalar`` divides by lambda_t + r P r^T, ``outer`` by lambda_t + P r^T r element by element, as
    released before the projection was lost. fusion: by the entropy of each ``sample``; by that of a ``batch``, taken
    over its samples instead of over classes, so that a prediction depends on what it is evaluated with; or ``fixed``,
    the mean.
    """

    projection: str = "scalar"
    fusion: str = "sample"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("projection", PROJECTIONS), ("fusion", FUSIONS)):
            if getattr(self, name) not in known:
                raise unknown_name(f"mla {name}", getattr(self, name), known)


VARIANTS: dict[str, MlaConfig] = {
    "paper": MlaConfig(),
    "released": MlaConfig(projection="none", fusion="batch"),
}


class Mla(Plain):
    """The method over a backbone whose embeddings come from one modality each."""

    Config = MlaConfig
    config: MlaConfig
    projector: Tensor

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        if self.task.kind != "classes":
            raise InputError("mla", f"task {self.task.kind}", "classes", "Choose a classification.")
        if type(self.backbone).unimodal is Backbone.unimodal:
            raise InputError(
                "mla",
                f"the backbone {type(self.backbone).__name__}",
                "one whose embeddings come from one modality each",
                "Use concat.",
            )
        self.head = nn.Linear(self.backbone.embedding_dim, self.task.outputs)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("projector", torch.eye(self.backbone.embedding_dim), persistent=False)
        self.examples = self.seen = 0
        self.begun = False
        self.strength = 0.1
        self.feature: Tensor | None = None

    def forward(self, batch: Batch) -> Fused:
        """The backbone's view with the fused logits of the shared head."""
        fused: Fused = self.backbone(batch, batch.features)
        alone = self.views(fused)
        return fused._replace(
            logits=fuse(torch.stack([alone[m] for m in self.modalities]), self.config.fusion)
        )

    def views(self, fused: Fused) -> dict[str, Tensor]:
        """o^m = H z^m + b, modality to (n, C)."""
        return {m: self.head(fused.z[m]) for m in self.modalities}

    def loss(self, batch: Batch) -> Tensor:
        """The modalities' losses added up; training takes them one after the other."""
        alone = self.views(self.backbone(batch, batch.features))
        return torch.stack([self.task_loss(alone[m], batch.labels) for m in self.modalities]).sum()

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """One pass of both encoders, then each modality's loss with the head as the step before left it."""
        z = self.backbone(batch, batch.features).z
        self.strength = 0.1 ** (1 + (self.seen / self.examples if self.examples else 0.0))
        self.seen += len(batch)
        for modality in self.modalities:
            self.feature = z[modality].detach().mean(dim=0)
            yield self.task_loss(self.head(z[modality]), batch.labels)

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Begin lambda_t anew; its t/T is the share of the training examples that the epoch has seen."""
        if not self.examples and self.config.projection != "none":
            self.examples = sum(len(batch) for batch in peek.train())
        self.seen = 0
        return {}

    @torch.no_grad()
    def after_backward(self) -> None:
        """Gradient of H <- gradient P^T with the next P, but in the very first step of training."""
        gradient = self.head.weight.grad
        if (
            self.begun
            and self.config.projection != "none"
            and gradient is not None
            and self.feature is not None
        ):
            outer = self.config.projection == "outer"
            self.projector = next_projector(self.projector, self.feature, self.strength, outer)
            gradient.copy_(gradient @ self.projector.T)
        self.begun = True

    def clipped(self) -> Iterable[nn.Parameter]:
        """All, the shared head among them."""
        return self.parameters()


def next_projector(projector: Tensor, feature: Tensor, strength: float, outer: bool) -> Tensor:
    """MLA, k = P r^T, P <- P - k k^T / (lambda_t + r P r^T), then P <- P / |P|_F; (d, d) and r (d,) -> (d, d).

    strength: lambda_t = 0.1^(1 + t/T). outer: divide element by element by lambda_t + k r, as released.
    """
    k = projector @ feature
    below = strength + (torch.outer(k, feature) if outer else feature @ k)
    following: Tensor = projector - torch.outer(k, k) / below
    return following.div(torch.linalg.matrix_norm(following))


def fuse(logits: Tensor, kind: str) -> Tensor:
    """MLA, sum over m of u^m o^m with u^m ~ exp(max E - E^m), which add up to 1; (M, n, C) -> (n, C).

    E^m = -sum of p log p, per sample over classes; ``batch``: p over the samples, summed over all; ``fixed``: the mean.
    """
    if kind == "fixed":
        return logits.mean(dim=0)
    log_p = logits.log_softmax(dim=1 if kind == "batch" else 2)
    entropy = -(log_p.exp() * log_p).sum(dim=(1, 2) if kind == "batch" else 2, keepdim=True)
    weights = torch.softmax(-entropy, dim=0)
    return torch.sum(weights * logits, dim=0)
