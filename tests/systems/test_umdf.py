"""A reading of UMDF: two views that learn from each other alike, and a gate that only raises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import CLASSES, DIMS, SCORE, batch_of, built

from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.umdf import Umdf, learned
from mmlib.nn.batch import hide
from mmlib.nn.completion import Known, known

Toy = Callable[..., Bundle]
BINARIES = Task("binaries", ("p", "q"))
STAGE = Stage("umdf", "umdf", "style", network=(("dropout", 0.0), ("hidden", 8), ("heads", 2)))
TASKS = pytest.mark.parametrize("task", [CLASSES, SCORE, BINARIES], ids=lambda t: t.kind)


def method_of(bundle: Bundle, **options: object) -> Umdf:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, Umdf)
    return method.eval()


@TASKS
def test_two_views_that_are_the_same_have_nothing_to_learn(task: Task, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=task)
    method, batch = method_of(bundle), batch_of(bundle)
    same = Known(batch, batch, batch.observed & False)
    torch.testing.assert_close(method.divided_loss(same), method.fused_loss(batch, method(batch)))


@TASKS
def test_the_views_may_change_places(task: Task, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=task)
    method, division = method_of(bundle), known(batch_of(bundle), "selfdrop")
    turned = Known(division.whole, division.given, division.wanted)
    losses, gradients = [], []
    for each in (division, turned):
        loss = method.divided_loss(each)
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss, method.backbone.prediction.weight)[0])
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


@TASKS
def test_what_is_learned_by_hand_and_by_the_student_alone(task: Task, toy: Toy) -> None:
    outputs = task.outputs
    teacher, student = (torch.randn(6, outputs).requires_grad_() for _ in range(2))
    made = learned(task, teacher, student)
    made.backward()
    assert teacher.grad is None and student.grad is not None and student.grad.any()
    if task.kind == "score":
        expected = ((teacher - student) ** 2).mean()
    else:
        pairs = (
            x.reshape(-1, 2 if task.kind == "binaries" else outputs) for x in (teacher, student)
        )
        laws = [torch.distributions.Categorical(logits=x) for x in pairs]
        expected = torch.distributions.kl_divergence(*laws).mean()
    torch.testing.assert_close(made, expected)


def test_every_row_with_two_modalities_is_seen_with_less(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method, batch = method_of(bundle, weight=2.0), batch_of(bundle)
    torch.manual_seed(5)
    loss = method.loss(batch)
    torch.manual_seed(5)
    division = known(batch, "selfdrop", 1.0)
    several = batch.observed.sum(dim=1) > 1
    assert torch.equal(division.given.observed.sum(1) < batch.observed.sum(1), several)
    y = batch.labels.numpy()
    less, more = (method(x).logits[:, 0].detach().numpy() for x in division[:2])
    task = (np.abs(less - y).mean() + np.abs(more - y).mean()) / 2
    assert np.isclose(loss.item(), task + 2 * 2 * ((less - more) ** 2).mean(), rtol=1e-4)


def test_the_gate_raises_and_weights_are_of_what_is_there(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle), batch_of(bundle)
    parts = method.backbone.parts(batch, batch.features)
    ratio = parts.raised / parts.mixed
    assert ((ratio > 1) & (ratio < 2)).all()
    assert torch.equal(parts.weights > 0, batch.observed)
    torch.testing.assert_close(parts.weights.sum(dim=1), torch.ones(len(batch)))
    alone = hide(batch, torch.tensor([False, False, True]))
    parts = method.backbone.parts(alone, alone.features)
    rows = alone.observed[:, 2]
    torch.testing.assert_close(parts.fused.hidden[rows], parts.raised[rows, 2])


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    for options in ({"weight": -1.0}, {"targets": "all"}):
        with pytest.raises(InputError):
            method_of(bundle, **options)
    for network in ((("heads", 3),), (("layers", 0),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
