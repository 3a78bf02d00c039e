"""The one training loop.

Data stay on the device, batches are index tensors, nothing in a step waits for the device.
Epochs are fixed. After each one the model is evaluated on validation and on test under every
test mask, so that selection on validation, on test or of the last epoch is a question for the
report. A method sees no test data: only this file evaluates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.masks.law import Mask
from mmlib.methods.plain import Peek, Plain
from mmlib.metrics import all_metrics, curve_metrics, merits, to_maximise
from mmlib.nn.batch import Batch, Resident, to_device

EVALUATION_ROWS, EVALUATION_VALUES = 4096, 2**26
MAIN = ""  # in the place of a metric's name: what chooses the epoch of predictions and weights


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
    weights: those of ``best_epoch``, which validation picks; empty unless kept or some masks are not followed. The last
        ones are in the method.
    views: name to (epochs, n, C) outputs of the method's views, as ``valid.NAME`` and ``MASK.NAME``.
    recorded: name to (times, ...) what the method noted before epochs, in ``recorded_at`` (times,).
    memory: the optimizer's state after the last epoch.
    picked: of masks that are not followed, name to epoch to the outputs (n_test, C), for the last epoch and those that
        validation picks by any metric.
    """

    loss: np.ndarray
    valid: np.ndarray
    tests: dict[str, np.ndarray]
    series: dict[str, np.ndarray]
    weights: dict[str, Tensor]
    best_epoch: int
    views: dict[str, np.ndarray] = field(default_factory=dict)
    recorded: dict[str, np.ndarray] = field(default_factory=dict)
    recorded_at: tuple[int, ...] = ()
    memory: dict[str, Tensor] = field(default_factory=dict)
    picked: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)


def pick_device() -> torch.device:
    """CUDA, else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def fit(
    method: Plain,
    bundle: Bundle,
    train_mask: Callable[..., Mask],
    valid_mask: Mask,
    test_masks: Mapping[str, Mask],
    schedule: Schedule,
    seed: int,
    *,
    resampled: bool = False,
    keep_series: bool = False,
    keep_weights: bool = False,
    memory_before: Mapping[str, Tensor] | None = None,
    device: torch.device | None = None,
    unfollowed: Mapping[str, Mask] | None = None,
) -> Fitted:
    """Train a method and evaluate it after every epoch.

    train_mask gives the mask of an epoch, from the method's ``shares`` where it has them; it is asked once unless
    ``resampled``. A method with shares decides them on the epoch before; all others see the epoch to come.
    memory_before: the optimizer's state to start from, as ``Fitted.memory``.
    unfollowed: further test masks, under which only the epochs that validation picks and the last one are evaluated.
    """
    device = device or pick_device()
    method.to(device)
    method.keep_series = keep_series
    train = _TrainSplit(bundle, train_mask, resampled, method.backbone.needs_complete, device)
    splits = _to_evaluate(bundle, valid_mask, test_masks, device)
    loop = _Loop(method, bundle, schedule, seed, train, splits)
    if memory_before:
        remember(loop.optimizer, memory_before)
    truth = bundle.labels[valid_mask.of(bundle.rows("valid"))]
    torch.manual_seed(seed)
    for epoch in range(schedule.epochs):
        loop.train_epoch(epoch)
        loop.evaluate()
        if keep_weights or unfollowed:
            loop.keep_best(epoch, truth, every_metric=bool(unfollowed))
    return loop.finish(unfollowed or {})


class _TrainSplit:
    """The training split under the mask of the epoch, on the device."""

    def __init__(
        self,
        bundle: Bundle,
        train_mask: Callable[..., Mask],
        resampled: bool,
        complete: bool,
        device: torch.device,
    ) -> None:
        self.bundle = bundle
        self.train_mask = train_mask
        self.resampled = resampled
        self.complete = complete
        self.device = device
        self.resident = self._under(train_mask(0))

    def before_look(self, epoch: int, method: Plain) -> None:
        """A method without shares looks at the epoch to come."""
        if self.resampled and epoch and method.shares() is None:
            self.resident = self._under(self.train_mask(epoch))

    def after_look(self, epoch: int, method: Plain) -> None:
        """A method with shares has decided them on the epoch before."""
        if self.resampled and (shares := method.shares()) is not None:
            self.resident = self._under(self.train_mask(epoch, shares))

    def _under(self, mask: Mask) -> Resident:
        return to_device(self.bundle, "train", mask, self.device, self.complete)


class _Loop:
    """One training: what ``fit`` goes through epoch by epoch, and what it has noted so far.

    losses: one per epoch. outputs: (split, view) to one (n, C) per epoch. steps: the series, one per step.
    findings: what the method noted, with the epoch before which it did. best: the best value and its epoch so far on
    validation, by metric, ``MAIN`` for what chooses predictions. weights: by epoch, of those epochs.
    """

    def __init__(
        self,
        method: Plain,
        bundle: Bundle,
        schedule: Schedule,
        seed: int,
        split: _TrainSplit,
        splits: dict[str, list[Batch]],
    ) -> None:
        self.method = method
        self.bundle = bundle
        self.schedule = schedule
        self.seed = seed
        self.split = split
        self.splits = splits
        self.optimizer = make_optimizer(method, schedule)
        self.kept, self.held_out = divide(split.resident.dialogues, method.held_out, seed)
        self.whole = _Whole(bundle, method.leaks, split.device)
        self.losses: list[Tensor] = []
        self.outputs: dict[tuple[str, str], list[Tensor]] = {}
        self.steps: list[dict[str, Tensor]] = []
        self.findings: list[tuple[int, dict[str, Tensor]]] = []
        self.best: dict[str, tuple[float, int]] = {}
        self.weights: dict[int, dict[str, Tensor]] = {}

    def train_epoch(self, epoch: int) -> None:
        """Let the method look, then train it for one epoch."""
        self.split.before_look(epoch, self.method)
        self.findings.append((epoch, self.method.start_epoch(self.peek(epoch))))
        self.split.after_look(epoch, self.method)
        if self.method.resets(epoch):
            self.optimizer = make_optimizer(self.method, self.schedule)
        loss = train_epoch(
            self.method,
            self.split.resident,
            self.optimizer,
            self.schedule,
            self.seed,
            epoch,
            self.steps,
            self.kept,
        )
        self.losses.append(loss)

    def evaluate(self) -> None:
        """Note the outputs on validation and under every test mask that is followed."""
        for split, batches in self.splits.items():
            for view, values in predict(self.method, batches).items():
                self.outputs.setdefault((split, view), []).append(values)

    def keep_best(self, epoch: int, truth: np.ndarray, every_metric: bool) -> None:
        """Keep the weights where this epoch is the best on validation so far, by any metric or by the main one alone.

        truth: labels of validation.
        """
        outputs = self.outputs["valid", ""][-1].cpu().numpy()
        for name, value in _scores(self.bundle.task, outputs, truth, every_metric).items():
            if name not in self.best or value > self.best[name][0]:
                self.best[name] = value, epoch
        wanted = {at for _, at in self.best.values()}
        self.weights = {at: weights for at, weights in self.weights.items() if at in wanted}
        if epoch in wanted:
            self.weights[epoch] = {
                name: value.detach().cpu().clone()
                for name, value in self.method.state_dict().items()
            }

    def peek(self, epoch: int) -> Peek:
        """What the method may look at before an epoch."""
        train = self.split.resident
        return Peek(
            epoch,
            self.schedule.epochs,
            lambda: evaluation_batches(train, self.kept),
            lambda: self.splits["valid"],
            lambda: evaluation_batches(train, self.held_out),
            partial(self._practise, train, epoch),
            self.whole,
        )

    def _practise(self, train: Resident, epoch: int, other: Plain, epochs: int) -> None:
        optimizer = make_optimizer(other, self.schedule)
        for further in range(epochs):
            train_epoch(
                other, train, optimizer, self.schedule, self.seed, epoch + further, [], self.kept
            )

    def finish(self, unfollowed: Mapping[str, Mask]) -> Fitted:
        """Let the method look once more, and give all that the training leaves behind."""
        epochs = self.schedule.epochs
        self.findings.append((epochs, self.method.end_training(self.peek(epochs))))
        picked = {}
        if unfollowed:
            last = {name: value.clone() for name, value in self.method.state_dict().items()}
            by_epoch = {**self.weights, epochs - 1: last}
            picked = _at_epochs(self.method, self.bundle, unfollowed, by_epoch, self.split.device)
        best_epoch = self.best[MAIN][1] if self.best else 0
        return Fitted(
            loss=torch.stack(self.losses).cpu().numpy(),
            series=_stacked(self.steps),
            weights=self.weights.get(best_epoch, {}),
            best_epoch=best_epoch,
            memory=memory(self.optimizer),
            picked=picked,
            **_evaluated(self.outputs),
            **_recorded(self.findings),
        )


def _scores(
    task: Task, outputs: np.ndarray, truth: np.ndarray, every_metric: bool
) -> dict[str, float]:
    """What the choices of an epoch maximise, of one epoch: the main one, and each metric's own."""
    main = {MAIN: float(to_maximise(curve_metrics(task, outputs, truth)))}
    return main | (merits(all_metrics(task, outputs, truth)) if every_metric else {})


def _at_epochs(
    method: Plain,
    bundle: Bundle,
    masks: Mapping[str, Mask],
    weights: Mapping[int, Mapping[str, Tensor]],
    device: torch.device,
) -> dict[str, dict[int, np.ndarray]]:
    """``picked`` of ``Fitted``; weights: by epoch, the last one's last in order of epochs, which the method keeps."""
    picked: dict[str, dict[int, np.ndarray]] = {name: {} for name in masks}
    for epoch, state in sorted(weights.items()):
        method.load_state_dict(state)
        for name, mask in masks.items():
            outputs = predict(method, evaluation_batches(to_device(bundle, "test", mask, device)))
            picked[name][epoch] = outputs[""].cpu().numpy()
    return picked


def _to_evaluate(
    bundle: Bundle, valid_mask: Mask, test_masks: Mapping[str, Mask], device: torch.device
) -> dict[str, list[Batch]]:
    """The batches of validation, and of test by the name of its mask."""
    if "valid" in test_masks:
        raise InputError(
            "test masks", "the name 'valid'", "another name", "Rename it: it stands for the split."
        )
    drawn = [
        ("valid", "valid", valid_mask),
        *((name, "test", mask) for name, mask in test_masks.items()),
    ]
    return {
        name: evaluation_batches(to_device(bundle, split, mask, device))
        for name, split, mask in drawn
    }


def _evaluated(outputs: dict[tuple[str, str], list[Tensor]]) -> dict[str, Any]:
    """``valid``, ``tests`` and ``views`` of ``Fitted``."""
    stacked = {key: torch.stack(values).cpu().numpy() for key, values in outputs.items()}
    plain = {split: values for (split, view), values in stacked.items() if not view}
    return {
        "valid": plain.pop("valid"),
        "tests": plain,
        "views": {f"{split}.{view}": values for (split, view), values in stacked.items() if view},
    }


def _recorded(findings: list[tuple[int, dict[str, Tensor]]]) -> dict[str, Any]:
    """``recorded`` and ``recorded_at`` of ``Fitted``."""
    noted = [(epoch, values) for epoch, values in findings if values]
    return {
        "recorded": _stacked([values for _, values in noted]),
        "recorded_at": tuple(epoch for epoch, _ in noted),
    }


def _stacked(rows: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """Name to (rows, ...), the names of the first row."""
    return {
        name: torch.stack([row[name] for row in rows]).cpu().numpy()
        for name in (rows[0] if rows else {})
    }


def divide(dialogues: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the training dialogues that steps see, and of those held out, each in order."""
    out = np.random.default_rng([seed, dialogues]).permutation(dialogues)[
        : round(share * dialogues)
    ]
    return np.setdiff1d(np.arange(dialogues), out), np.sort(out)


class _Whole:
    """``Peek.whole``: each split is put on the device once, when it is first asked for."""

    def __init__(self, bundle: Bundle, leaks: bool, device: torch.device) -> None:
        self.bundle, self.leaks, self.device = bundle, leaks, device
        self.batches: dict[str, list[Batch]] = {}

    def __call__(self, split: str) -> list[Batch]:
        if split == "test" and not self.leaks:
            raise InputError(
                "peek",
                "the test split",
                "train or valid",
                "A method that looks at test must set leaks.",
            )
        if split not in self.batches:
            mask = Mask(self.bundle.observed[self.bundle.rows(split)])
            self.batches[split] = evaluation_batches(
                to_device(self.bundle, split, mask, self.device)
            )
        return self.batches[split]


def make_optimizer(method: Plain, schedule: Schedule) -> torch.optim.Optimizer:
    """Adam with coupled weight decay, plain SGD as a control (A10), or SGD with momentum 0.9 (ledger 5.1).

    With momentum not fused: that wants every parameter's first step to be the same one, and MLA's are not.
    """
    chosen: dict[str, Any] = {"lr": schedule.lr, "weight_decay": schedule.weight_decay}
    if schedule.optimizer == "momentum":
        return torch.optim.SGD(method.parameters(), momentum=0.9, foreach=True, **chosen)
    kind = torch.optim.Adam if schedule.optimizer == "adam" else torch.optim.SGD
    return kind(method.parameters(), fused=True, **chosen)


def memory(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state on the host, ``PARAMETER.NAME`` to tensor, parameters by number."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value).cpu().clone()
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def remember(optimizer: torch.optim.Optimizer, before: Mapping[str, Tensor]) -> None:
    """Give an optimizer the state that ``memory`` read from another of its kind."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in before.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def train_epoch(
    method: Plain,
    train: Resident,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    seed: int,
    epoch: int,
    steps: list[dict[str, Tensor]],
    dialogues: np.ndarray | None = None,
) -> Tensor:
    """One pass over the dialogues, or some of them, shuffled; returns the mean loss, a scalar on the device."""
    method.train()
    order = np.random.default_rng([seed, epoch]).permutation(
        train.dialogues if dialogues is None else dialogues
    )
    losses = []
    for start in range(0, len(order), schedule.batch):
        losses.append(
            train_step(
                method, train.batch(order[start : start + schedule.batch]), optimizer, schedule.clip
            )
        )
        if method.keep_series:
            steps.append(method.series())
    return torch.stack(losses).mean()


def train_step(
    method: Plain, batch: Batch, optimizer: torch.optim.Optimizer, clip: float
) -> Tensor:
    """For each loss: backward, the method's own change of gradients, clipping, step (D12); returns their sum."""
    taken = []
    for loss in method.losses(batch):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        method.after_backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(method.clipped(), clip)
        optimizer.step()
        taken.append(loss.detach())
    return taken[0] if len(taken) == 1 else torch.stack(taken).sum()


def evaluation_batches(resident: Resident, dialogues: np.ndarray | None = None) -> list[Batch]:
    """The whole split, or some of its dialogues, in order, in batches of a bounded number of utterances and values."""
    chosen = np.arange(resident.dialogues) if dialogues is None else dialogues
    values = sum(x[0].numel() for x in resident.features.values())
    rows = max(1, min(EVALUATION_ROWS, EVALUATION_VALUES // values))
    groups = np.cumsum(np.diff(resident.starts)[chosen]) // rows
    return [resident.batch(chosen[groups == g]) for g in np.unique(groups)]


@torch.no_grad()
def predict(method: Plain, batches: list[Batch]) -> dict[str, Tensor]:
    """Outputs (n, C) of a split in (dialogue, position) order, in evaluation mode: the prediction as "", and views."""
    method.eval()
    parts: dict[str, list[Tensor]] = {}
    for batch in batches:
        fused = method(batch)
        for name, logits in {"": fused.logits, **method.views(fused)}.items():
            parts.setdefault(name, []).append(logits)
    return {name: torch.cat(values) for name, values in parts.items()}
