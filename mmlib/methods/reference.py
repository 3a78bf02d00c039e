"""The task loss that DREAM trains with (Eq. 13), by itself: how its pre-trained network P is made (ledger B15, B16).

P's recipe is not in the paper; a run of this method under the same masks as DREAM's is the reading taken here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from mmlib.methods.plain import Plain, PlainConfig
from mmlib.nn.backbone import Fused
from mmlib.nn.batch import Batch


@dataclass(frozen=True)
class ReferenceConfig(PlainConfig):
    """absolute: scores have the absolute error (L1), as the paper says; else the squared one of the other papers."""

    absolute: bool = True


VARIANTS: dict[str, ReferenceConfig] = {
    "paper": ReferenceConfig(),
    "squared": ReferenceConfig(absolute=False),
}


class Reference(Plain):
    """L_task: cross-entropy, over all binary labels where there are several, or the absolute error of a score."""

    Config = ReferenceConfig

    def fused_loss(self, batch: Batch, fused: Fused) -> Tensor:
        """Scalar loss of the fused prediction, with what the backbone adds to it."""
        if self.task.kind != "score" or not self.config.absolute:
            return super().fused_loss(batch, fused)
        loss = F.l1_loss(fused.logits[:, 0], batch.labels)
        extra = self.backbone.extra_loss(batch, fused)
        return loss if extra is None else loss + extra
