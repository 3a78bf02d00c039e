"""IF-MMIN's training: MMIN's imagination, and the input's invariants held against those of the whole row (MM2 18).

L = L_task + MSE(h', g) + w MSE(H', H*). g are the frozen teacher's embeddings of the reversed input, as MMIN's; H* its
invariants of all that is known of the row, whatever of it the network is given. The teacher is the parent run
(``if_mmin_teacher``); its encoders and its map S are where the network's start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmlib.backbones.if_mmin import IFMMIN
from mmlib.backbones.if_mmin_teacher import side_by_side
from mmlib.backbones.mmin_teacher import embed
from mmlib.methods.mmin import Imagination, ImaginationConfig, check_weights
from mmlib.nn.completion import Known
from mmlib.nn.sums import mean_where


@dataclass(frozen=True)
class IfMminConfig(ImaginationConfig):
    """invariant: w. The source declares 1, and its script asks for 100."""

    invariant: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights(self, "invariant")


VARIANTS: dict[str, IfMminConfig] = {
    "paper": IfMminConfig(),
    "complete": IfMminConfig(targets="complete"),
    "script": IfMminConfig(invariant=100.0),
    "no_invariant": IfMminConfig(invariant=0.0),
}


class IfMmin(Imagination):
    """The method over the backbone ``if_mmin``, started from a run of its teacher."""

    Config = IfMminConfig
    config: IfMminConfig
    backbone: IFMMIN
    CALLED, KIND = "if_mmin", IFMMIN
    TAUGHT = ("encoders", "shared")

    def imagining(self, division: Known, parts: Any) -> Tensor:
        """MSE(h', g) + w MSE(H', H*), over rows that want something and modalities that are known."""
        c, reverse, whole = self.config, division.reverse, division.whole
        truth = embed(self.encoders, reverse, reverse.features)
        forth = self.compared(parts.imagined.made, truth, division)
        shared = self.teacher["shared"]
        steady = side_by_side(
            shared(h) for h in embed(self.encoders, whole, whole.features).values()
        )
        gaps = (parts.invariants - steady).square().unflatten(1, (len(self.modalities), -1))
        counts = whole.observed & division.wanted.any(dim=1, keepdim=True)
        kept = mean_where(gaps.mean(dim=2).flatten(), counts.flatten())
        return c.imagined * forth + c.invariant * kept
