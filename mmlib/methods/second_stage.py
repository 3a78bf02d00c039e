"""The second stage of a network that is trained twice: it starts from a run of the first, and part of it stays frozen.

Prompt learning (MPLMM, MSPs) freezes a pre-trained transformer; MCE freezes its unimodal networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmlib.errors import InputError
from mmlib.methods.reference import Reference, ReferenceConfig
from mmlib.nn.batch import Batch
from mmlib.nn.two_stage import TwoStage

VARIANTS: dict[str, ReferenceConfig] = {
    "paper": ReferenceConfig(),
    "squared": ReferenceConfig(absolute=False),
}


class SecondStage(Reference):
    """The task loss, with what the network adds to it, on what the second stage of a network trains."""

    Config = ReferenceConfig

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if not isinstance(self.backbone, TwoStage):
            raise InputError(
                type(self).__name__,
                f"the backbone {type(self.backbone).__name__}",
                "a network that is trained in two stages",
                "Use mce, mplmm or msps.",
            )
        self.backbone.second = True
        for module in self.backbone.frozen():
            module.requires_grad_(False)
        self.given = False
        self.prepare()
        self.train()

    def prepare(self) -> None:
        """Set what a variant starts from, before training and after weights are loaded; nothing here."""

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """A first stage's weights, or a run's own.

        Raises:
            InputError: weights without those of the frozen modules, or with others of another shape.
        """
        for name, shape in self._frozen_shapes().items():
            if name not in state_dict or state_dict[name].shape != shape:
                raise InputError(
                    f"{type(self).__name__}, parent",
                    "weights of another network",
                    f"those of a {type(self.backbone).__name__} of the same size",
                    "Give the parent this run's backbone and backbone_options.",
                )
        self.given = True
        loaded = super().load_state_dict(state_dict, strict, assign)
        self.prepare()
        return loaded

    def _frozen_shapes(self) -> dict[str, Any]:
        assert isinstance(self.backbone, TwoStage)
        frozen = {id(p) for module in self.backbone.frozen() for p in module.parameters()}
        return {name: p.shape for name, p in self.named_parameters() if id(p) in frozen}

    def train(self, mode: bool = True) -> SecondStage:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        assert isinstance(self.backbone, TwoStage)
        for module in self.backbone.frozen():
            module.eval()
        return self

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch.

        Raises:
            InputError: no first stage has given its weights.
        """
        self.check_given()
        return super().loss(batch)

    def check_given(self) -> None:
        """Refuse to train on frozen modules that nothing has trained."""
        if not self.given:
            raise InputError(
                type(self).__name__,
                "no first stage",
                "a run of it to start from",
                "Give that run as the parent, or load its weights.",
            )
