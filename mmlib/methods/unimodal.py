"""Each modality's own prediction, trained side by side: the first stage of MoMKE, and of EBMC's backbone."""

from __future__ import annotations

from torch import Tensor

from mmlib.errors import InputError
from mmlib.methods.plain import Plain, PlainConfig
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import masked_task_loss

VARIANTS: dict[str, PlainConfig] = {"paper": PlainConfig()}


class Unimodal(Plain):
    """The sum over modalities of the task loss of their own heads, over the utterances that have the modality.

    What fuses them learns nothing: the fused prediction of such a run is that of an untrained layer.
    """

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        alone = self.backbone.unimodal(self(batch))
        if not alone:
            raise InputError(
                "unimodal",
                f"the backbone {type(self.backbone).__name__}",
                "one with a prediction for each modality",
                "Use momke with routing own, or concat.",
            )
        losses = [
            masked_task_loss(self.task, alone[m], batch.labels, batch.observed[:, index])
            for index, m in enumerate(self.modalities)
        ]
        return sum(losses[1:], losses[0])
