"""MMIN's training: the task, and what is imagined held against a frozen teacher's embeddings (BASELINES_MM 4, MM2 B).

L = L_task + 4 MSE(h', g) + 2 MSE(h'', h). g are the embeddings that the teacher gives of the reversed input: of the
modalities that the network was not given, and of zeros in the place of those that it was. The teacher is the parent run
(``mmin_teacher``); its encoders are also where the network's start.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.backbones.mmin import MMIN
from mmlib.backbones.mmin_teacher import embed
from mmlib.errors import InputError, unknown_name
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.backbone import Backbone
from mmlib.nn.batch import Batch
from mmlib.nn.completion import TARGETS, Known, known
from mmlib.nn.sums import mean_where

READS = ("dropped", "available")
SLOTS = ("all", "wanted")


@dataclass(frozen=True)
class ImaginationConfig(ReferenceConfig):
    """The readings that MMIN and IF-MMIN share.

    imagined: weight of MSE(h', g). targets: of the imagination, ``selfdrop`` of what is there, or ``complete`` training
    rows. reads: what the task loss reads under self-drop, ``dropped`` input as the imagination does, or all that is
    ``available``, in a pass of its own. slots: the modalities whose h' is compared, ``all`` that are known, given ones
    with the embedding of zeros as published, or the ``wanted`` alone.
    """

    imagined: float = 1.0
    targets: str = "selfdrop"
    reads: str = "dropped"
    slots: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (("targets", TARGETS), ("reads", READS), ("slots", SLOTS)):
            if getattr(self, name) not in choices:
                raise unknown_name(f"imagination {name}", getattr(self, name), choices)
        check_weights(self, "imagined")


@dataclass(frozen=True)
class MminConfig(ImaginationConfig):
    """imagined, recalled: weights of MSE(h', g) and MSE(h'', h)."""

    imagined: float = 4.0
    recalled: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights(self, "recalled")


def check_weights(config: object, *names: str) -> None:
    """Raise InputError for a weight of a loss below 0 or not finite."""
    for name in names:
        if not 0 <= getattr(config, name) < float("inf"):
            raise InputError(
                f"imagination {name}", str(getattr(config, name)), "0 or more", "Correct it."
            )


VARIANTS: dict[str, MminConfig] = {
    "paper": MminConfig(),
    "complete": MminConfig(targets="complete"),
    "available": MminConfig(reads="available"),
    "wanted": MminConfig(slots="wanted"),
}


class Imagination(Reference):
    """A network that imagines, started from a run of its teacher; the base of MMIN and IF-MMIN.

    CALLED, KIND: the backbone. TAUGHT: its parts that start as the teacher's; a frozen copy of them makes the targets.
    """

    config: ImaginationConfig
    backbone: Any
    CALLED: str
    KIND: type[Backbone]
    TAUGHT: tuple[str, ...] = ("encoders",)

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if not isinstance(self.backbone, self.KIND):
            raise InputError(
                self.CALLED,
                f"the backbone {type(self.backbone).__name__}",
                "its own network",
                f"Use the backbone {self.CALLED}.",
            )
        self.backbone.needs_complete = self.config.targets == "complete"
        parts = {name: copy.deepcopy(getattr(self.backbone, name)) for name in self.TAUGHT}
        self.teacher = nn.ModuleDict(parts).requires_grad_(False).eval()
        self.given = False

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """A teacher's parts become the network's and the frozen copy; a run's own weights come back whole.

        Raises:
            InputError: a parent without the teacher's parts, or of another width.
        """
        if any(name.startswith("teacher.") for name in state_dict):
            self.given = True
            return super().load_state_dict(state_dict, strict, assign)
        starts = tuple(f"backbone.{name}." for name in self.TAUGHT)
        parts = {
            name.removeprefix("backbone."): values
            for name, values in state_dict.items()
            if name.startswith(starts)
        }
        own = {name: values.shape for name, values in self.teacher.state_dict().items()}
        if own != {name: values.shape for name, values in parts.items()}:
            raise InputError(
                f"{self.CALLED}, parent",
                "weights of another network",
                f"a teacher on the same modalities, {self.backbone.embedding_dim} wide",
                "Give both stages the same hidden.",
            )
        self.given = True
        both = {f"{at}.{name}": x for at in ("backbone", "teacher") for name, x in parts.items()}
        return super().load_state_dict(both, strict=False, assign=assign)

    def train(self, mode: bool = True) -> Self:
        """The teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch.

        Raises:
            InputError: no teacher was given.
        """
        if not self.given:
            raise InputError(
                self.CALLED,
                "no teacher",
                "a run with a parent that trained one",
                f"Give the run a parent: method reference on backbone {self.CALLED}_teacher.",
            )
        division = known(batch, self.config.targets)
        parts = self.backbone.parts(division.given, division.given.features)
        apart = self.config.reads == "available" and division.given is not batch
        fused = self(batch) if apart else parts.fused
        return self.fused_loss(batch, fused) + self.imagining(division, parts)

    def imagining(self, division: Known, parts: Any) -> Tensor:
        """What is added to the task loss; parts: those of the network, of what it was given."""
        raise NotImplementedError

    def compared(self, made: Tensor, truth: Mapping[str, Tensor], division: Known) -> Tensor:
        """MSE of imagined embeddings (n, M hidden), over rows that want something and the slots that count."""
        gaps = made - torch.cat(list(truth.values()), dim=1)
        each = gaps.square().unflatten(1, (len(truth), -1)).mean(dim=2)  # (n, M)
        counts = division.wanted
        if self.config.slots == "all":
            counts = division.whole.observed & counts.any(dim=1, keepdim=True)
        return mean_where(each.flatten(), counts.flatten())

    @property
    def encoders(self) -> nn.ModuleDict:
        """The teacher's."""
        encoders = self.teacher["encoders"]
        assert isinstance(encoders, nn.ModuleDict)
        return encoders


class Mmin(Imagination):
    """The method over the backbone ``mmin``."""

    Config = MminConfig
    config: MminConfig
    backbone: MMIN
    CALLED, KIND = "mmin", MMIN

    def imagining(self, division: Known, parts: Any) -> Tensor:
        """4 MSE(h', g) + 2 MSE(h'', h), the latter without gradient through h."""
        c, reverse = self.config, division.reverse
        truth = embed(self.encoders, reverse, reverse.features)
        forth = self.compared(parts.imagined.made, truth, division)
        back = F.mse_loss(self.backbone.recall(parts.imagined.made).made, parts.joined.detach())
        return c.imagined * forth + c.recalled * back
