"""The training loop: what it trains on, how it steps, how it evaluates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmlib import fit as fit_module
from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle
from mmlib.fit import Fitted, fit, make_optimizer, predict, train_step
from mmlib.methods import build_method
from mmlib.methods.plain import Plain
from mmlib.nn.batch import Batch, to_device
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
SIZES = (("hidden", 8), ("graph", 6), ("layers", 2))
LAW = masks.imbalanced({"audio": 0.3, "text": 0.5, "vision": 0.6})
QUICK = Training(epochs=4, batch=3, lr=0.02)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "pick_device", lambda: CPU)


def plain(bundle: Bundle, kind: type[Plain] = Plain, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    backbone = build_backbone(
        "mmgcn", bundle.dims, bundle.task.outputs, bundle.speakers, [*SIZES, *options.items()]
    )
    return kind(backbone, bundle.task, None, bundle.dims)


def masks_of(bundle: Bundle, law: masks.Law = LAW) -> dict[str, masks.Mask]:
    return {split: masks.draw(law, bundle, split, 0) for split in ("train", "valid", "test")}


def run(
    method: Plain, bundle: Bundle, training: Training = QUICK, seed: int = 5, **options: Any
) -> Fitted:
    drawn = masks_of(bundle)
    tests = {"test": drawn["test"]}
    return fit(
        method, bundle, lambda _: drawn["train"], drawn["valid"], tests, training, seed, **options
    )


# What a training may depend on.


def test_corrupting_validation_changes_the_pick_and_nothing_that_was_trained(toy: Toy) -> None:
    bundle = toy()
    features = {
        m: np.where((bundle.split == 1)[:, None], -x, x) for m, x in bundle.features.items()
    }
    one, two = plain(bundle), plain(bundle)
    clean, other = run(one, bundle), run(two, dataclasses.replace(bundle, features=features))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert np.array_equal(clean.tests["test"], other.tests["test"]) and not np.array_equal(
        clean.valid, other.valid
    )


def test_what_the_masks_hide_changes_nothing_anywhere(toy: Toy) -> None:
    bundle, drawn = toy(), masks_of(toy())
    features = {m: x.copy() for m, x in bundle.features.items()}
    for split, mask in drawn.items():
        for index, modality in enumerate(bundle.modalities):
            features[modality][bundle.rows(split)[~mask.utterance[:, index]]] = np.nan
    seen, hidden = (
        run(plain(bundle), b) for b in (bundle, dataclasses.replace(bundle, features=features))
    )
    assert np.array_equal(seen.loss, hidden.loss) and np.array_equal(
        seen.tests["test"], hidden.tests["test"]
    )


# What is trained on, when and how often.


class Watched(Plain):
    """A plain method that notes what it is trained on."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[list[float]] = []
        self.values: list[float] = []

    def loss(self, batch: Batch) -> Tensor:
        assert self.training
        self.seen.append(batch.features["audio"][:, 0].tolist())
        value = super().loss(batch)
        self.values.append(value.item())
        return value


def test_every_epoch_takes_each_dialogue_once_in_a_new_order_set_by_the_seed(toy: Toy) -> None:
    bundle = toy()
    complete = masks_of(bundle, masks.complete())
    everything = sorted(bundle.features["audio"][bundle.rows("train"), 0].tolist())
    orders = []
    for seed in (5, 5, 6):
        method = plain(bundle, Watched)
        found = fit(method, bundle, lambda _: complete["train"], complete["valid"], {}, QUICK, seed)
        steps = 3  # eight dialogues, three at a time
        assert len(method.seen) == QUICK.epochs * steps
        epochs = [
            [v for step in method.seen[e * steps : (e + 1) * steps] for v in step]
            for e in range(QUICK.epochs)
        ]
        assert all(sorted(epoch) == everything for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == QUICK.epochs
        np.testing.assert_allclose(
            found.loss, np.reshape(method.values, (QUICK.epochs, steps)).mean(axis=1), rtol=1e-6
        )
        orders.append(epochs)
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("resampled", [False, True])
def test_a_resampled_train_mask_is_asked_for_every_epoch_and_a_fixed_one_once(
    toy: Toy, resampled: bool
) -> None:
    bundle, asked = toy(), []
    drawn = masks_of(bundle)

    def train_mask(epoch: int) -> masks.Mask:
        asked.append(epoch)
        return masks.draw(masks.shared(0.5, resampled=True), bundle, "train", 0, epoch)

    method = plain(bundle, Watched)
    fit(method, bundle, train_mask, drawn["valid"], {}, QUICK, 5, resampled=resampled)
    assert asked == ([0, 1, 2, 3] if resampled else [0])
    epochs = [
        sorted(v for step in method.seen[e * 3 : (e + 1) * 3] for v in step) for e in range(4)
    ]
    assert len(set(map(tuple, epochs))) == (4 if resampled else 1)


# Optimizers.


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_the_optimizers_steps_equal_the_formulas_with_coupled_weight_decay(kind: str) -> None:
    torch.manual_seed(0)
    layer, lr, decay = nn.Linear(5, 4).double(), 0.03, 0.1
    optimizer = make_optimizer(layer, Training(lr=lr, weight_decay=decay, optimizer=kind))  # type: ignore[arg-type]
    theta = layer.weight.detach().numpy().copy()
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, 6):
        x = torch.randn(7, 5, dtype=torch.float64)
        optimizer.zero_grad()
        layer(x).square().sum().backward()  # type: ignore[no-untyped-call]
        assert layer.weight.grad is not None
        gradient = layer.weight.grad.numpy() + decay * theta
        optimizer.step()
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        adam = (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        theta = theta - lr * (adam if kind == "adam" else gradient)
        np.testing.assert_allclose(layer.weight.detach().numpy(), theta, rtol=1e-10)


class Scaled(Plain):
    """A plain method whose encoder gradients are multiplied by a constant."""

    factor = 1.0

    def after_backward(self) -> None:
        for p in self.backbone.encoders.parameters():  # type: ignore[union-attr]
            p.grad.mul_(self.factor)  # type: ignore[union-attr]


def largest_change(bundle: Bundle, training: Training, eps: float = 1e-300) -> float:
    """By how much scaling the encoders' gradients by 0.37 changes the weights after ten steps."""
    ends = []
    for factor in (1.0, 0.37):
        method = plain(bundle, Scaled, dropout=0.0).double()
        method.factor = factor
        optimizer = make_optimizer(method, training)
        optimizer.param_groups[0]["eps"] = eps
        train = to_device(bundle, "train", masks_of(bundle)["train"], CPU)
        for step in range(10):
            batch = train.batch([step % 8, (step + 3) % 8])
            batch = dataclasses.replace(
                batch, features={m: x.double() for m, x in batch.features.items()}
            )
            train_step(method, batch, optimizer, training.clip)
        ends.append(nn.utils.parameters_to_vector(method.parameters()))
    return (ends[0] - ends[1]).abs().max().item()


def test_a_constant_gradient_scale_changes_nothing_under_adam_and_something_under_sgd(
    toy: Toy,
) -> None:
    bundle, bare = toy(), Training(lr=0.01, weight_decay=0.0, clip=0.0)
    assert largest_change(bundle, bare) < 1e-9
    assert largest_change(bundle, dataclasses.replace(bare, optimizer="sgd")) > 1e-4
    # What makes the difference under Adam after all: weight decay, clipping, epsilon.
    assert largest_change(bundle, dataclasses.replace(bare, weight_decay=0.01)) > 1e-4
    assert largest_change(bundle, dataclasses.replace(bare, clip=0.5)) > 1e-6
    assert largest_change(bundle, bare, eps=1e-2) > 1e-4


@pytest.mark.parametrize("optimizer, same", [("adam", True), ("sgd", False)])
def test_eq21_rho_alone_changes_nothing_under_adam_and_something_under_sgd(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, optimizer: str, same: bool
) -> None:
    make = fit_module.make_optimizer

    def without_epsilon(*arguments: Any) -> torch.optim.Optimizer:
        made = make(*arguments)
        made.param_groups[0]["eps"] = 1e-30
        return made

    monkeypatch.setattr(fit_module, "make_optimizer", without_epsilon)
    bundle, training = (
        toy(),
        Training(epochs=3, batch=3, lr=0.01, weight_decay=0.0, clip=0.0, optimizer=optimizer),
    )
    ends = []
    for rho in (0.7, 1.4):
        torch.manual_seed(0)
        backbone = build_backbone("mmgcn", bundle.dims, 3, 2, SIZES)
        method = build_method("balm", "d", [("rho", rho)], backbone, bundle.task, bundle.dims)
        ends.append(run(method, bundle, training))
    assert np.allclose(ends[0].tests["test"], ends[1].tests["test"], rtol=1e-4, atol=1e-5) == same


def test_clipping_bounds_the_global_norm_and_zero_means_none(toy: Toy) -> None:
    bundle = toy()
    train = to_device(bundle, "train", masks_of(bundle)["train"], CPU)
    norms = {}
    for clip in (0.0, 0.05, 1e6):
        method = plain(bundle, dropout=0.0)
        train_step(method, train.batch([0, 1, 2]), make_optimizer(method, QUICK), clip)
        norms[clip] = float(
            torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None]).norm()
        )
    assert norms[0.05] == pytest.approx(0.05, rel=1e-4) and norms[0.0] == norms[1e6] > 0.05


# Evaluation and selection.


def test_evaluation_is_without_dropout_in_row_order_and_indifferent_to_its_batches(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = toy((3, 5, 1, 4) * 6)
    bundle = dataclasses.replace(
        bundle, position=-bundle.position
    )  # so that ids and positions disagree
    method, resident = plain(bundle), to_device(bundle, "test", masks_of(bundle)["test"], CPU)
    one = fit_module.evaluation_batches(resident)
    monkeypatch.setattr(fit_module, "EVALUATION_ROWS", 5)
    many = fit_module.evaluation_batches(resident)
    assert len(one) == 1 and len(many) > 3
    for batches in (one, many):
        assert (
            torch.cat([b.labels for b in batches]).tolist()
            == bundle.labels[bundle.rows("test")].tolist()
        )
    outputs = predict(method, one)[""]
    assert torch.equal(outputs, predict(method, one)[""]) and not outputs.requires_grad
    torch.testing.assert_close(outputs, predict(method, many)[""], atol=1e-5, rtol=0)


def test_of_epochs_that_validate_alike_the_first_is_kept(toy: Toy) -> None:
    bundle = toy()
    found = run(plain(bundle), bundle, Training(epochs=3, batch=3, lr=0.0), keep_weights=True)
    assert np.array_equal(found.valid[0], found.valid[2]) and found.best_epoch == 0
    assert run(plain(bundle), bundle).weights == {}
