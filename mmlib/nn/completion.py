"""What a network that completes missing modalities is given, and what is known of the rest (R5)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from mmlib.errors import InputError
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
    def seen(self) -> Tensor:
        """(n, M) bool: modalities whose true value is known, given or wanted."""
        return self.given.observed | self.wanted

    @property
    def reverse(self) -> Batch:
        """The batch with the wanted modalities alone."""
        return hide(self.whole, self.wanted)


def known(batch: Batch, targets: str, share: float = 1.0) -> Known:
    """Divide what is known of a training batch into what is given and what is wanted.

    targets: ``selfdrop`` hides more of what is there, drawn anew, so that a row with one modality wants nothing;
    ``complete`` gives what is there and wants the rest, from training rows as they were before anything was hidden.
    What a row lacks by nature, zeros or NaN there, is not wanted. share: of the rows in which self-drop hides more.

    Raises:
        InputError: ``complete`` on a batch without complete features.
    """
    if targets == "selfdrop":
        given = hide(batch, _dropped(batch.observed, share))
        return Known(given, batch, batch.observed & ~given.observed)
    if batch.complete is None:
        raise InputError(
            "targets complete",
            "a batch without complete features",
            "one that keeps them",
            "Use selfdrop.",
        )
    each = [batch.complete[m].flatten(1) for m in sorted(batch.complete)]
    there = torch.stack([(x != 0).any(dim=1) & x.isfinite().all(dim=1) for x in each], dim=1)
    features = {m: torch.nan_to_num(x) for m, x in batch.complete.items()}
    whole = replace(batch, features=features, observed=batch.observed | there, source=None)
    return Known(batch, whole, there & ~batch.observed)


def _dropped(observed: Tensor, share: float) -> Tensor:
    """What self-drop leaves, (n, M) bool, in a share of the rows; the others keep all that they have."""
    if share >= 1:
        return self_drop(observed)
    drops = torch.rand(len(observed), 1, device=observed.device) < share
    return torch.where(drops, self_drop(observed), observed)
