"""What the tests of methods with a prediction of each modality share: small methods, a batch, gradients, trainings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle
from mmlib.fit import Fitted, fit
from mmlib.methods import build_method
from mmlib.methods.plain import Peek, Plain
from mmlib.nn.batch import Batch, to_device
from mmlib.runs.spec import Training

TWO = {"audio": 6, "vision": 5}


def make(
    bundle: Bundle,
    method: str,
    variant: str = "paper",
    kind: str = "concat",
    **options: Any,
) -> Any:
    torch.manual_seed(0)
    sizes = {"encoder": "mlp", "hidden": 8} if kind in ("concat", "mmtm") else {}
    backbone = build_backbone(
        kind, bundle.dims, bundle.task.outputs, bundle.speakers, sizes.items()
    )
    return build_method(method, variant, options.items(), backbone, bundle.task, bundle.dims)


def first_batch(bundle: Bundle, count: int = 12) -> Batch:
    drawn = masks.draw(masks.complete(), bundle, "train", 0)
    return to_device(bundle, "train", drawn, "cpu").batch(range(count))


def gradients(method: Plain, batch: Batch) -> dict[str, Tensor]:
    """By name, of the parameters that have one."""
    method.zero_grad()
    method.loss(batch).backward()  # type: ignore[no-untyped-call]
    method.after_backward()
    return {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}


def fitted(method: Plain, bundle: Bundle, epochs: int = 8, **more: Any) -> Fitted:
    drawn = {s: masks.draw(masks.complete(), bundle, s, 0) for s in ("train", "valid", "test")}
    schedule = Training(
        epochs=epochs, batch=8, lr=0.05, weight_decay=1e-4, optimizer="momentum", clip=0.0
    )
    return fit(
        method,
        bundle,
        lambda _: drawn["train"],
        drawn["valid"],
        {"test": drawn["test"]},
        schedule,
        5,
        **more,
    )


def cross_entropies(bundle: Bundle, outputs: np.ndarray) -> np.ndarray:
    """Of validation after each epoch, (epochs,), by SciPy; outputs (epochs, n, C)."""
    truth = bundle.labels[bundle.rows("valid")]
    return -log_softmax(outputs, axis=2)[:, np.arange(len(truth)), truth].mean(axis=1)


def peek(epoch: int, epochs: int) -> Peek:
    return Peek(epoch, epochs, list, list, list, lambda method, epochs: None)


def array(values: Tensor) -> np.ndarray:
    return values.detach().double().numpy()
