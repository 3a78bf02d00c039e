"""What a network that completes missing modalities is given, and what is known of the rest (R5)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from mmlib.nn.batch import Batch, hide
from mmlib.nn.selfdrop import self_drop

TARGETS = ("selfdrop", "complete")


class Known(NamedTuple):
    """given: the batch as the network reads it. whole: with all that is known of it.

    wanted: (n, M) bool, the modalities that are known and not given: what there is a true value to complete.
    """

    given: Batch
    whole: Batch
    wanted: Tensor

    @property
    def reverse(self) -> Batch:
        """The batch with the wanted modalities alone."""
        return hide(self.whole, self.wanted)


def known(batch: Batch, targets: str) -> Known:
    """Divide what is known of a batch into what is given and what is wanted.

    targets: ``selfdrop`` hides more of what is there, so that a row with one modality wants nothing; ``complete`` gives
    what is there and wants the rest, from training rows as they were before anything was hidden. A modality that a row
    lacks by nature stands there as zeros or NaN, and is not wanted.
    """
    if targets == "selfdrop":
        given = hide(batch, self_drop(batch.observed))
        return Known(given, batch, batch.observed & ~given.observed)
    assert batch.complete is not None  # the method asks for it by ``needs_complete``
    features = [batch.complete[m].flatten(1) for m in sorted(batch.complete)]
    there = torch.stack([(x != 0).any(dim=1) & x.isfinite().all(dim=1) for x in features], dim=1)
    whole = replace(
        batch, features=dict(batch.complete), observed=batch.observed | there, source=None
    )
    return Known(batch, whole, there & ~batch.observed)
