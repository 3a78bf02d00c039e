"""The one training loop.

Data stay on the device, batches are index tensors, nothing in a step waits for the device.
Epochs are fixed. After each one the model is evaluated on validation and on test under every
test mask, so that selection on validation, on test or of the last epoch is a question for the
report. A method sees no test data: only this file evaluates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mmlib.data.bundle import Bundle
from mmlib.masks import Mask
from mmlib.methods.plain import Plain
from mmlib.metrics import SELECTION_METRIC, curve_metrics
from mmlib.nn.batch import Batch, Resident, to_device

EVALUATION_ROWS = 4096


class Schedule(Protocol):
    """What ``fit`` needs to know of a training (``runs.spec.Training`` has it)."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def clip(self) -> float: ...


@dataclass(frozen=True)
class Fitted:
    """What a training leaves behind.

    loss: (epochs,) mean training loss.
    valid: (epochs, n_valid, C) outputs; tests: mask name to (epochs, n_test, C).
    series: name to (steps, M), empty unless kept.
    weights: those of ``best_epoch``, which validation picks; empty unless kept. The last ones are in the method.
    """

    loss: np.ndarray
    valid: np.ndarray
    tests: dict[str, np.ndarray]
    series: dict[str, np.ndarray]
    weights: dict[str, Tensor]
    best_epoch: int


def pick_device() -> torch.device:
    """CUDA, else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def fit(method: Plain, bundle: Bundle, train_mask: Callable[[int], Mask], valid_mask: Mask,
        test_masks: Mapping[str, Mask], schedule: Schedule, seed: int, *,
        resampled: bool = False, keep_series: bool = False, keep_weights: bool = False,
        device: torch.device | None = None) -> Fitted:
    """Train a method and evaluate it after every epoch.

    train_mask gives the mask of an epoch; it is asked once unless ``resampled``.
    """
    device = device or pick_device()
    method.to(device)
    method.keep_series = keep_series
    complete = method.backbone.needs_complete
    train = to_device(bundle, "train", train_mask(0), device, complete)
    valid = evaluation_batches(to_device(bundle, "valid", valid_mask, device))
    tests = {name: evaluation_batches(to_device(bundle, "test", mask, device)) for name, mask in test_masks.items()}
    optimizer = make_optimizer(method, schedule)
    truth = bundle.labels[bundle.rows("valid")]
    losses: list[Tensor] = []
    valid_outputs: list[Tensor] = []
    steps: list[dict[str, Tensor]] = []
    test_outputs: dict[str, list[Tensor]] = {name: [] for name in tests}
    best, best_epoch, weights = -np.inf, 0, {}
    torch.manual_seed(seed)
    for epoch in range(schedule.epochs):
        if resampled and epoch:
            train = to_device(bundle, "train", train_mask(epoch), device, complete)
        losses.append(train_epoch(method, train, optimizer, schedule, seed, epoch, steps))
        valid_outputs.append(predict(method, valid))
        for name, batches in tests.items():
            test_outputs[name].append(predict(method, batches))
        if keep_weights:
            score = curve_metrics(bundle.task, valid_outputs[-1].cpu().numpy(), truth)[SELECTION_METRIC]
            if score > best:
                best, best_epoch = score, epoch
                weights = {k: v.detach().cpu().clone() for k, v in method.state_dict().items()}
    return Fitted(
        loss=torch.stack(losses).cpu().numpy(),
        valid=torch.stack(valid_outputs).cpu().numpy(),
        tests={name: torch.stack(outputs).cpu().numpy() for name, outputs in test_outputs.items()},
        series={key: torch.stack([s[key] for s in steps]).cpu().numpy() for key in (steps[0] if steps else {})},
        weights=weights, best_epoch=best_epoch,
    )


def make_optimizer(method: Plain, schedule: Schedule) -> torch.optim.Optimizer:
    """Adam with coupled weight decay, or plain SGD as a control (A10)."""
    kind = torch.optim.Adam if schedule.optimizer == "adam" else torch.optim.SGD
    return kind(method.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay, fused=True)


def train_epoch(method: Plain, train: Resident, optimizer: torch.optim.Optimizer, schedule: Schedule,
                seed: int, epoch: int, steps: list[dict[str, Tensor]]) -> Tensor:
    """One pass over the shuffled dialogues; returns the mean loss, a scalar on the device."""
    method.train()
    order = np.random.default_rng([seed, epoch]).permutation(train.dialogues)
    losses = []
    for start in range(0, len(order), schedule.batch):
        losses.append(train_step(method, train.batch(order[start:start + schedule.batch]), optimizer, schedule.clip))
        if method.keep_series:
            steps.append(method.series())
    return torch.stack(losses).mean()


def train_step(method: Plain, batch: Batch, optimizer: torch.optim.Optimizer, clip: float) -> Tensor:
    """Loss, backward, the method's own change of gradients, clipping, step (D12); returns the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss = method.loss(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    method.after_backward()
    if clip:
        torch.nn.utils.clip_grad_norm_(method.clipped(), clip)
    optimizer.step()
    return loss.detach()


def evaluation_batches(resident: Resident) -> list[Batch]:
    """The whole split in order, in batches of a bounded number of utterances."""
    sizes = np.diff(resident.starts)
    groups = np.cumsum(sizes) // EVALUATION_ROWS
    return [resident.batch(np.flatnonzero(groups == g)) for g in np.unique(groups)]


@torch.no_grad()
def predict(method: Plain, batches: list[Batch]) -> Tensor:
    """Outputs (n, C) of a split in (dialogue, position) order, in evaluation mode."""
    method.eval()
    return torch.cat([method(batch).logits for batch in batches])
