"""What a modality learns: the gradient and the update of the parameters that it alone feeds, noted at every step.

A run that keeps ``gradients`` has them as series beside those of its method, ``series.own_gradient`` and
``series.own_update``. The parameters of a modality are those in whose name it stands as a part, alone
(``backbone.encoders.audio.weight``); all others are shared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmlib.errors import InputError
from mmlib.methods.plain import Plain

GRADIENT, UPDATE = "own_gradient", "own_update"


def own_parameters(module: nn.Module, modalities: Sequence[str]) -> dict[str, list[nn.Parameter]]:
    """Modality to the trained parameters that it alone feeds; an empty list where there are none."""
    own: dict[str, list[nn.Parameter]] = {modality: [] for modality in modalities}
    for name, parameter in module.named_parameters():
        named = set(name.split(".")) & set(modalities)
        if len(named) == 1 and parameter.requires_grad:
            own[named.pop()].append(parameter)
    return own


class Watched(Plain):
    """What a method's class is put before: it notes each step's own gradients and updates.

    Its attributes have names that no method has, since they stand in the method itself.
    """

    watched_gradients: dict[str, Tensor]
    watched_parameters: dict[str, list[Tensor]]

    def after_backward(self) -> None:
        """Note the gradients as they are before the method changes them, and where the parameters stand."""
        own = own_parameters(self, self.modalities)
        given = [[p.grad for p in of if p.grad is not None] for of in own.values()]
        self.watched_gradients = {
            GRADIENT: torch.stack([self._norm(gradients) for gradients in given])
        }
        self.watched_parameters = {m: [p.detach().clone() for p in of] for m, of in own.items()}
        super().after_backward()

    def series(self) -> dict[str, Tensor]:
        """Those of the method, and ``own_gradient`` and ``own_update``, each (M,)."""
        now = own_parameters(self, self.modalities)
        steps = [
            [p.detach() - q for p, q in zip(now[m], of, strict=True)]
            for m, of in self.watched_parameters.items()
        ]
        size = torch.stack([self._norm(of) for of in self.watched_parameters.values()])
        moved = torch.stack([self._norm(of) for of in steps])
        update = moved / size.clamp(min=torch.finfo(size.dtype).tiny)
        return {**super().series(), **self.watched_gradients, UPDATE: update}

    def _norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """The norm of all together, a scalar on the method's device; 0 of none."""
        parts = [tensor.detach().norm() for tensor in tensors]
        return torch.stack(parts).norm() if parts else next(self.parameters()).new_zeros(())


def watch(method: Plain) -> Plain:
    """The same method, whose series say also what each modality's own parameters are given and how far they move.

    ``own_gradient`` (M,): the norm of the gradient before clipping and before the method changes it. ``own_update``
    (M,): the norm of the step over that of the parameters. Modalities in alphabetical order; of a step's last loss.

    Raises:
        InputError: a method in which no modality has trained parameters of its own.
    """
    if not any(own_parameters(method, method.modalities).values()):
        raise InputError(
            f"keep gradients, {type(method).__name__}",
            "no trained parameters that one modality alone feeds",
            "an encoder for each modality",
            "Leave it out.",
        )
    kind = type(method)
    method.__class__ = type(kind.__name__, (Watched, kind), {})
    return method
