"""Modality dropout: each training step hides modalities at random, beyond what the data and the mask hide.

After ModDrop (Neverova et al., TPAMI 2016), here from the first step on. A row keeps each modality that it has with
probability 1 - rate, and one of them, at random, where it would lose all. Tests see what their masks leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.errors import InputError
from mmlib.methods.plain import Plain, PlainConfig
from mmlib.nn.batch import Batch, hide


@dataclass(frozen=True)
class ModalityDropoutConfig(PlainConfig):
    """rate: the probability of each modality of a row to be hidden in a step."""

    rate: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rate < 1:
            raise InputError("modality dropout", str(self.rate), "a rate in [0, 1)", "Correct it.")


VARIANTS: dict[str, ModalityDropoutConfig] = {"paper": ModalityDropoutConfig()}


class ModalityDropout(Plain):
    """The task loss of a batch of which more is hidden at every step."""

    Config = ModalityDropoutConfig
    config: ModalityDropoutConfig

    def loss(self, batch: Batch) -> Tensor:
        """Scalar training loss of what is left of a batch."""
        return super().loss(hide(batch, kept(batch.observed, self.config.rate)))


def kept(observed: Tensor, rate: float) -> Tensor:
    """(n, M) bool: what stays of what is observed, one modality at least where there is one."""
    draws = torch.where(observed, torch.rand(observed.shape, device=observed.device), -1.0)
    # The largest draw stays in any case, so that it decides which one is left where all are below the rate.
    largest = draws.argmax(dim=1, keepdim=True) == torch.arange(
        observed.shape[1], device=observed.device
    )
    return observed & ((draws >= rate) | largest)
