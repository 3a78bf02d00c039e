"""SMIL: mixtures of centres, and the gradient of its two steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from laws import DIMS, TASKS, batch_of, built, peek
from scipy.optimize import linprog
from torch import Tensor

from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.smil import Smil, centres_of
from mmlib.nn.batch import Batch

Toy = Callable[..., Bundle]


def made(toy: Toy, task: str = "classes", centres: int = 4, **options: Any) -> tuple[Smil, Batch]:
    """The method after its look at the training rows, in double precision, and those rows."""
    bundle = toy(dims=DIMS[3], task=TASKS[task])
    network = (("hidden", 6), ("centres", centres))
    method = built(Stage("smil", "smil", options=tuple(options.items()), network=network), bundle)
    assert isinstance(method, Smil)
    method.start_epoch(peek(bundle))
    batch = batch_of(bundle)
    features = {m: x.double() for m, x in batch.features.items()}
    labels = batch.labels.double() if task == "score" else batch.labels
    layout, speaker = batch.layout, batch.speaker
    return method.double(), Batch(features, batch.observed, labels, speaker, layout)


def test_what_is_missing_lies_between_the_centres(toy: Toy) -> None:
    method, batch = made(toy)
    net = method.backbone.eval()
    told = net.latents(batch, batch.features).sum(dim=1) / batch.observed.sum(dim=1)[:, None]
    for row in net.mixed(told).detach().numpy():
        for value, centres in zip(row, net.centres.numpy(), strict=True):
            conditions = np.vstack([centres.T, np.ones(len(centres))])
            found = linprog(np.zeros(len(centres)), A_eq=conditions, b_eq=np.append(value, 1))
            assert found.status == 0  # shares of 0 or more that add up to 1


def test_a_single_centre_is_the_mean_of_the_rows_that_have_the_modality(toy: Toy) -> None:
    method, batch = made(toy, centres=1)
    net, outputs = method.backbone, []
    for number, m in enumerate(sorted(batch.features)):
        rows = batch.features[m][batch.observed[:, number]]
        outputs.append(net.encoders[m](rows).mean(dim=0))
    completed = net.mixed(torch.randn(5, 6, dtype=torch.float64))
    expected = torch.stack(outputs).expand(5, -1, -1)
    torch.testing.assert_close(completed, expected, rtol=1e-5, atol=1e-6)


def test_fewer_distinct_rows_than_centres_come_again() -> None:
    rows = np.array([[0.0, 1.0], [2.0, 3.0], [0.0, 1.0]])
    found = centres_of(rows, 5)
    assert found.shape == (5, 2)
    assert {tuple(row) for row in found} == {(0.0, 1.0), (2.0, 3.0)}


def test_a_modality_that_no_row_has_keeps_its_centres(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = built(Stage("smil", "smil"), bundle)
    looked = peek(bundle)
    (batch,) = looked.train()
    batch.observed[:, 1] = False
    method.start_epoch(type(looked)(0, 1, lambda: [batch], *[lambda: []] * 2, lambda m, e: None))
    centres = method.backbone.get_buffer("centres")
    assert not centres[1].any() and centres[0].any() and centres[2].any()


def test_what_is_added_is_random_in_training_and_fixed_in_evaluation(toy: Toy) -> None:
    method, batch = made(toy)
    assert torch.equal(method.eval()(batch).logits, method(batch).logits)
    assert not torch.equal(method.train()(batch).logits, method(batch).logits)
    layers = method.eval().backbone.parts(batch, batch.features)
    assert (layers.noisy_joined > layers.joined).all()


def loss_of(method: Smil, batch: Batch) -> Tensor:
    torch.manual_seed(5)
    return method.loss(batch)


@pytest.mark.parametrize("task", TASKS)
def test_of_first_order_the_gradient_is_the_moved_networks_and_the_inner_steps(
    task: str, toy: Toy
) -> None:
    method, batch = made(toy, task, inner_lr=0.1)
    other, _ = made(toy, task, inner_lr=0.1)
    other.load_state_dict(method.state_dict())
    loss_of(method, batch).backward()

    inner = other.fused_loss(batch, other.backbone.present(batch, batch.features))
    own = other.backbone.trained_inside()
    slopes = dict(zip(own, torch.autograd.grad(inner, list(own.values())), strict=True))
    with torch.no_grad():
        for name, parameter in own.items():
            parameter -= 0.1 * slopes[name]
    torch.manual_seed(5)
    x = other.backbone.parts(batch, batch.features)
    added = (x.noisy_joined - x.joined).square().sum() + (x.noisy_inner - x.inner).square().sum()
    outer = other.fused_loss(batch, x.fused) + 0.01 * added / len(batch)
    outer.backward()
    for name, parameter in other.backbone.named_parameters():
        assert parameter.grad is not None
        expected = parameter.grad + slopes.get(name, 0)
        torch.testing.assert_close(method.backbone.get_parameter(name).grad, expected)


def test_of_second_order_the_gradient_is_that_of_the_whole_loss(toy: Toy) -> None:
    slopes = {}
    for second in (True, False):
        method, batch = made(toy, inner_lr=0.3, second_order=second)
        loss_of(method, batch).backward()
        torch.manual_seed(3)
        ways = [torch.randn_like(p) for p in method.backbone.parameters()]
        pairs = zip(method.backbone.parameters(), ways, strict=True)
        slopes[second] = sum((p.grad * way).sum().item() for p, way in pairs if p.grad is not None)
        values = []
        for step in (1e-6, -2e-6):  # forward, and back beyond where it was
            with torch.no_grad():
                for p, way in zip(method.backbone.parameters(), ways, strict=True):
                    p += step * way
            values.append(loss_of(method, batch).item())
        slope = (values[0] - values[1]) / 2e-6
        assert (slopes[second] == pytest.approx(slope, rel=1e-4)) == second


def test_another_network_is_refused(toy: Toy) -> None:
    with pytest.raises(InputError):
        built(Stage("smil", "cubemlp"), toy(dims=DIMS[3]))
    for options in ({"hidden": 0}, {"centres": 0}):
        with pytest.raises(InputError):
            built(Stage("smil", "smil", network=tuple(options.items())), toy(dims=DIMS[3]))
    with pytest.raises(InputError):
        built(Stage("smil", "smil", options=(("inner_lr", -1.0),)), toy(dims=DIMS[3]))
