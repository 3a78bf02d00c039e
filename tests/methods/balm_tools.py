"""What the tests of BALM share: small methods, batches, gradients by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task
from mmlib.methods import build_method
from mmlib.methods.balm import Balm
from mmlib.methods.plain import Plain
from mmlib.nn.batch import Batch, to_device

Toy = Callable[..., Bundle]
SCORE, PAIRS = Task("score", range=(-3.0, 3.0)), Task("binaries", ("joy", "fear"))
FOUR = {"audio": 6, "gaze": 3, "text": 5, "vision": 4}


def make(
    bundle: Bundle,
    variant: str = "paper",
    method: str = "balm",
    dropout: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> Any:
    torch.manual_seed(seed)
    sizes = {"hidden": 8, "graph": 6, "layers": 2, "dropout": dropout}
    backbone = build_backbone(
        "mmgcn", bundle.dims, bundle.task.outputs, bundle.speakers, sizes.items()
    )
    return build_method(method, variant, options.items(), backbone, bundle.task, bundle.dims)


def batches(bundle: Bundle, law: masks.Law | None = None) -> Iterator[Batch]:
    """Pairs of training dialogues, without end."""
    resident = to_device(
        bundle, "train", masks.draw(law or masks.shared(0.4), bundle, "train", 0), "cpu"
    )
    while True:
        for start in range(0, resident.dialogues - 1, 2):
            yield resident.batch([start, start + 1])


def gradients(method: Plain, batch: Batch, after: bool = True) -> dict[str, Tensor]:
    method.zero_grad()
    method.loss(batch).backward()  # type: ignore[no-untyped-call]
    if after:
        method.after_backward()
    return {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}


def probabilities(balm: Balm, batch: Batch) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Fused and unimodal class distributions, (n, C) each, in double precision."""
    with torch.no_grad():
        fused = balm(batch)
        heads = {m: balm.heads[m](fused.z[m])[1].double().numpy() for m in balm.modalities}
    return softmax(fused.logits.double().numpy(), axis=1), {
        m: softmax(x, axis=1) for m, x in heads.items()
    }


def unlike(a: dict[str, Tensor], b: dict[str, Tensor]) -> set[str]:
    return {k for k in a if not torch.equal(a[k], b[k])}


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def kl_by_scipy(balm: Balm, batch: Batch) -> np.ndarray:
    fused, heads = probabilities(balm, batch)
    return np.array(
        [
            np.mean([entropy(u, f) for u, f in zip(heads[m], fused, strict=True)])
            for m in balm.modalities
        ]
    )
