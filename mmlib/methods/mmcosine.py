"""MMCosine: multi-modal cosine loss towards balanced audio-visual fine-grained learning (Xu et al., ICASSP 2023).

Every modality has weights of its own without bias, and both they and the embeddings are scaled to norm 1: the logit of
class k is s times the sum over modalities of cos(W^m_k, z^m), trained with cross-entropy. Neither a large norm of an
embedding nor one of weights lets a modality rule the sum. Prediction is by the same logits, while the released code
evaluates some of them unnormalised. The backbone's own prediction layer is not used: it gets no gradient.

If s is small, the loss cannot come near 0: with C balanced classes and M modalities its mean stays at
ln(1 + (C - 1) exp(-s M C / (C - 1))) or above.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.methods.plain import Plain, PlainConfig
from mmlib.methods.separate import linear_heads, needs_classes, needs_separate_embeddings
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch


@dataclass(frozen=True)
class MmCosineConfig(PlainConfig):
    """scale: s, published as 10 for CREMA-D."""

    scale: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scale < math.inf:
            raise InputError(
                "mmcosine scale", str(self.scale), "above 0", "10 is published for CREMA-D."
            )


VARIANTS: dict[str, MmCosineConfig] = {"paper": MmCosineConfig()}


class MmCosine(Plain):
    """The method over ``concat``, with any number of modalities; the loss is that of ``plain`` on these logits."""

    Config = MmCosineConfig
    config: MmCosineConfig

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        needs_separate_embeddings(self)
        needs_classes(self)
        self.heads = linear_heads(self, bias=False)

    def forward(self, batch: Batch) -> Fused:
        """The backbone's view with s times the sum of the cosines as fused logits, each within s M of 0."""
        fused: Fused = self.backbone(batch, batch.features)
        return fused._replace(logits=torch.stack(list(self.views(fused).values())).sum(dim=0))

    def views(self, fused: Fused) -> dict[str, Tensor]:
        """s cos(W^m_k, z^m), modality to (n, C); they add up to the fused logits."""
        return {
            m: self.config.scale * cosines(fused.z[m], head.get_parameter("weight"))
            for m, head in self.heads.items()
        }

    def clipped(self) -> Iterable[nn.Parameter]:
        """All parameters: these weights are what predicts."""
        return self.parameters()


def cosines(z: Tensor, weight: Tensor) -> Tensor:
    """The cosine of every embedding with every class's weights, (n, C); z (n, d), weight (C, d). 0 where z is 0."""
    return F.linear(F.normalize(z, dim=1), F.normalize(weight, dim=1))
