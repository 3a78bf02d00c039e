"""What methods ask for in which every modality also predicts by itself: an embedding of its own, classes, a head."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mmlib.backbones.concat import Concat
from mmlib.errors import InputError
from mmlib.methods.plain import Plain


def needs_separate_embeddings(method: Plain) -> None:
    """Raise InputError for a backbone other than ``concat``: there z^m depends on encoder m alone."""
    if not isinstance(method.backbone, Concat):
        raise InputError(
            type(method).__name__,
            f"the backbone {type(method.backbone).__name__}",
            "one whose embeddings come from one modality each",
            "Use concat.",
        )


def needs_classes(method: Plain) -> None:
    """Raise InputError for another task than classes."""
    if method.task.kind != "classes":
        raise InputError(
            type(method).__name__, f"task {method.task.kind}", "classes", "Choose a classification."
        )


def linear_heads(method: Plain, bias: bool = True) -> nn.ModuleDict:
    """A linear layer from each modality's embedding to the task's outputs, Xavier-normal weights, zero biases."""
    heads = nn.ModuleDict(
        {
            m: nn.Linear(method.backbone.embedding_dim, method.task.outputs, bias)
            for m in method.modalities
        }
    )
    for name, values in heads.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(values)
        else:
            nn.init.xavier_normal_(values)
    return heads


def own_logits(heads: nn.ModuleDict, z: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Modality to (n, C); z: modality to (n, d)."""
    return {m: head(z[m]) for m, head in heads.items()}
