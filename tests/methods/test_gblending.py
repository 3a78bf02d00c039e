"""Gradient blending: the weights' laws, and that estimating them leaves the training as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from balm_tools import array, gradients
from scipy.special import log_softmax
from torch import Tensor

from mmlib import masks
from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.fit import divide, fit, make_optimizer, train_epoch
from mmlib.methods import build_method
from mmlib.methods.gblending import VARIANTS, GBlending, GBlendingConfig, blend, progress
from mmlib.methods.plain import Peek, Plain
from mmlib.nn.batch import Batch, to_device
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
DIMS = {"audio": 6, "vision": 5}
TRAINING = Training(epochs=4, batch=8, lr=0.05, weight_decay=1e-4, optimizer="momentum", clip=0.0)


def make(bundle: Bundle, variant: str = "paper", dropout: float = 0.0, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"encoder": "mlp", "hidden": 8, "dropout": dropout}
    backbone = build_backbone(
        "concat", bundle.dims, bundle.task.outputs, bundle.speakers, sizes.items()
    )
    return build_method("gblending", variant, options.items(), backbone, bundle.task, bundle.dims)


@pytest.fixture
def bundle(toy: Toy) -> Bundle:
    return toy((1,) * 80, DIMS)


def run(method: Plain, bundle: Bundle) -> Any:
    drawn = {
        split: masks.draw(masks.complete(), bundle, split, 0)
        for split in ("train", "valid", "test")
    }
    return fit(
        method,
        bundle,
        lambda _: drawn["train"],
        drawn["valid"],
        {"test": drawn["test"]},
        TRAINING,
        0,
        device=torch.device("cpu"),
    )


def losses(method: Any, batch: Batch) -> np.ndarray:
    """Each source's mean loss by numpy, in evaluation mode."""
    method.eval()
    with torch.no_grad():
        fused = method(batch)
    y, logits = batch.labels.numpy(), [array(fused.logits)]
    for m in ("vision", "audio"):
        head = method.heads[m]
        logits.insert(0, array(fused.z[m]) @ array(head.weight).T + array(head.bias))
    return np.array(
        [-log_softmax(values, axis=1)[np.arange(len(y)), y].mean() for values in logits]
    )


def test_weights_are_gains_over_squared_overfitting_and_sum_to_1() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        before, after = random.uniform(0.5, 2, (2, 3)), random.uniform(0.1, 2, (2, 3))
        gain, overfitting = progress(torch.from_numpy(before), torch.from_numpy(after))
        (train, held), (train_end, held_end) = before, after
        np.testing.assert_allclose(gain, held - held_end)
        np.testing.assert_allclose(overfitting, (held_end - train_end) - (held - train))
        for absolute in (False, True):
            counted = abs(held - held_end) if absolute else np.maximum(held - held_end, 0)
            raw = counted / np.maximum(abs(overfitting.numpy()), 0.01) ** 2
            found = blend(gain, overfitting, 0.01, absolute).numpy()
            np.testing.assert_allclose(found, raw / raw.sum() if raw.any() else np.full(3, 1 / 3))
            assert found.sum() == pytest.approx(1) and (found >= 0).all()


def test_laws_of_the_weights() -> None:
    same, gain, overfitting = (
        torch.full((3,), 0.3),
        torch.tensor([0.3, 0.5, 0.2]),
        torch.tensor([0.4, 0.1, -0.7]),
    )
    assert blend(same, same, 0.01).tolist() == pytest.approx([1 / 3] * 3)
    once, twice = (
        blend(gain, overfitting, 0.01),
        blend(gain, overfitting * torch.tensor([2, 1, 1]), 0.01),
    )
    assert (twice[0] / twice[1]).item() == pytest.approx((once[0] / once[1]).item() / 4)
    torch.testing.assert_close(blend(7 * gain, 7 * overfitting, 7 * 0.01), once)
    assert blend(-gain, overfitting, 0.01).tolist() == pytest.approx([1 / 3] * 3)
    assert blend(gain * torch.tensor([-1, 1, 1]), overfitting, 0.01)[0] == 0
    assert torch.isfinite(blend(gain, torch.zeros(3), 0.01)).all()
    torch.testing.assert_close(blend(-gain, overfitting, 0.01, absolute=True), once)


def test_the_loss_is_the_weighted_sum_and_prediction_the_joint_heads(bundle: Bundle) -> None:
    method = make(bundle)
    method.weights = torch.tensor([0.2, 0.7, 0.1])
    batch = to_device(
        bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu"
    ).batch(range(20))
    assert method.loss(batch).item() == pytest.approx(
        losses(method, batch) @ [0.2, 0.7, 0.1], rel=1e-5
    )
    assert torch.equal(method(batch).logits, method.backbone(batch, batch.features).logits)
    method.only = 1
    assert set(gradients(method, batch)) == {
        k for k, _ in method.named_parameters() if "vision" in k
    }


def test_the_estimate_by_hand_and_it_disturbs_neither_model_nor_random_state(
    bundle: Bundle,
) -> None:
    method = make(bundle, dropout=0.3, super_epoch=0.5, floor=0.04)
    resident = to_device(bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu")
    kept, held = divide(resident.dialogues, 0.1, 0)
    assert len(held) == 4
    sides = [resident.batch(kept), resident.batch(held)]

    def train(other: Plain, epochs: int) -> None:
        optimizer = make_optimizer(other, TRAINING)
        for epoch in range(epochs):
            train_epoch(
                other, resident, optimizer, TRAINING, seed=0, epoch=epoch, steps=[], dialogues=kept
            )

    start = np.array([losses(method, side) for side in sides])
    gain, overfitting = np.zeros(3), np.zeros(3)
    for k in range(3):
        other = copy.deepcopy(method)
        other.only = k
        torch.manual_seed(11)
        train(other, 2)
        end = np.array([losses(other, side) for side in sides])
        gain[k] = start[1, k] - end[1, k]
        overfitting[k] = end[1, k] - end[0, k] - start[1, k] + start[0, k]
    raw = np.maximum(gain, 0) / np.maximum(abs(overfitting), 0.04 * start[1].mean()) ** 2
    assert len({0.04 * start[1].mean() > abs(change) for change in overfitting}) == 2
    before = {name: value.clone() for name, value in method.state_dict().items()}
    torch.manual_seed(11)
    following = torch.rand(3)
    torch.manual_seed(11)
    found = method.start_epoch(
        Peek(
            0,
            4,
            lambda: [resident.batch(kept[:30]), resident.batch(kept[30:])],
            list,
            lambda: [resident.batch(held)],
            train,
        )
    )
    assert torch.equal(torch.rand(3), following)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    np.testing.assert_allclose(found["gain"], gain, atol=1e-5)
    np.testing.assert_allclose(found["overfitting"], overfitting, atol=1e-5)
    np.testing.assert_allclose(method.weights, raw / raw.sum(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "variant, super_epoch, expected",
    [
        ("paper", 0.4, {0: 2, 2: 2, 4: 1}),
        ("paper", 0.01, dict.fromkeys(range(5), 1)),
        ("offline", 0.4, {0: 5}),
    ],
)
def test_every_super_epoch_practises_for_its_length(
    bundle: Bundle, variant: str, super_epoch: float, expected: dict[int, int]
) -> None:
    method, asked = make(bundle, variant, super_epoch=super_epoch), []
    batches = [
        to_device(bundle, "train", masks.draw(masks.complete(), bundle, "train", 0), "cpu").batch(
            [0, 1]
        )
    ]
    for epoch in range(5):

        def note(other: Any, epochs: int, epoch: int = epoch) -> None:
            asked.append((epoch, other.only, epochs))

        method.start_epoch(Peek(epoch, 5, lambda: batches, list, lambda: batches, note))
    assert asked == [
        (epoch, source, epochs) for epoch, epochs in expected.items() for source in range(3)
    ]


class Watched(GBlending):
    """Notes the clips of its steps, and of those of its copies."""

    seen: set[float] = set()  # noqa: RUF012

    def loss(self, batch: Batch) -> Tensor:
        self.seen.update(batch.features["audio"][:, 0].tolist())
        return super().loss(batch)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_it_trains_without_the_clips_that_it_holds_out(bundle: Bundle, variant: str) -> None:
    made = make(bundle, variant, held_out=0.25)
    method = Watched(made.backbone, bundle.task, made.config, bundle.dims)
    Watched.seen = set()
    fitted = run(method, bundle)
    everything = bundle.features["audio"][bundle.rows("train"), 0]
    _, held = divide(len(everything), 0.25, 0)
    assert Watched.seen == set(np.delete(everything, held).tolist()) and len(held) == 10
    weights = fitted.recorded["weights"]
    assert weights.shape == (1 if variant == "offline" else 4, 3)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert set(fitted.views) == {"valid.audio", "valid.vision", "test.audio", "test.vision"}
    assert fitted.loss[-1] < fitted.loss[0]


def test_options_that_make_no_sense_and_too_few_clips_raise(toy: Toy) -> None:
    for bad in ({"held_out": 0.0}, {"super_epoch": 0.0}, {"floor": 0.0}, {"floor": 1.0}):
        with pytest.raises(InputError):
            GBlendingConfig(**bad)  # type: ignore[arg-type]
    small = toy((1,) * 12, DIMS)
    with pytest.raises(InputError, match="Raise held_out"):
        run(make(small, held_out=0.01), small)
