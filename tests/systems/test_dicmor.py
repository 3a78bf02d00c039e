"""DiCMoR: flows carry what is there, and their likelihood in closed form where they are the identity."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from laws import DIMS, TASKS, batch_of, built
from scipy.stats import norm

from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.dicmor import Dicmor
from mmlib.nn.batch import Batch
from mmlib.nn.completion import known

Toy = Callable[..., Bundle]


def made(toy: Toy, task: Task = TASKS["classes"], **options: Any) -> tuple[Dicmor, Batch]:
    bundle = toy(dims=DIMS[3], task=task)
    method = built(Stage("dicmor", "dicmor", options=tuple(options.items())), bundle)
    assert isinstance(method, Dicmor)
    return method.eval(), batch_of(bundle)


def whole(batch: Batch) -> Batch:
    assert batch.complete is not None
    everything = torch.ones_like(batch.observed)
    return dataclasses.replace(batch, features=batch.complete, observed=everything)


def test_a_row_with_everything_is_predicted_without_its_flows(toy: Toy) -> None:
    method, batch = made(toy)
    net = method.backbone
    for given, needed in ((whole(batch), False), (batch, True)):
        method.zero_grad()
        method(given).logits.square().sum().backward()
        for part in (net.flows, net.refiner):
            assert any(p.grad is not None and p.grad.any() for p in part.parameters()) == needed


def test_at_first_what_is_missing_is_the_mean_of_what_is_there(toy: Toy) -> None:
    """Flows start as the identity; without the refiner the completion is then the mean itself."""
    method, batch = made(toy)
    net = method.backbone
    for parameter in net.refiner.second.parameters():
        torch.nn.init.zeros_(parameter)
    latents = net.latents(batch.features).detach().numpy()
    found = net.parts(batch, batch.features).made.detach().numpy()
    for row, seen in enumerate(batch.observed.numpy()):
        expected = latents[row][seen].mean(axis=0)
        np.testing.assert_allclose(found[row], np.tile(expected, (3, 1)), atol=1e-6)


def test_what_is_carried_to_a_modality_has_the_shared_image_there(toy: Toy) -> None:
    method, batch = made(toy)
    net = method.backbone
    for parameter in net.flows.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    latents = net.latents(batch.features)
    only_text = torch.zeros_like(batch.observed)
    only_text[:, 1] = True
    images, _ = net.images(net.carried(latents, only_text))
    shared, _ = net.images(latents)
    for number in range(3):
        torch.testing.assert_close(images[:, number], shared[:, 1], rtol=1e-4, atol=1e-4)


def test_the_prediction_sees_no_labels(toy: Toy) -> None:
    method, batch = made(toy)
    other = dataclasses.replace(batch, labels=(batch.labels + 1) % 3)
    assert torch.equal(method(other).logits, method(batch).logits)


def test_the_likelihood_at_first_is_that_of_normal_latents_around_their_kinds_means(
    toy: Toy,
) -> None:
    method, batch = made(toy)
    torch.nn.init.normal_(method.means)
    division = known(batch, "selfdrop", 1.0)
    truth = method.backbone.latents(division.whole.features)
    values, means = truth.detach().double().numpy(), method.means.detach().double().numpy()
    expected = 0.0
    for m in range(3):
        surprises = [
            -norm.logpdf(values[i, m], means[batch.labels[i]]).sum() / (values.shape[2] * np.log(2))
            for i in range(len(batch))
            if batch.observed[i, m]
        ]
        expected += max(0, float(np.mean(surprises)))
    assert method.surprise(truth, division).item() == pytest.approx(expected, rel=1e-5)


def test_a_likelihood_above_one_costs_nothing(toy: Toy) -> None:
    method, batch = made(toy)
    for m in method.modalities:
        first: Any = method.backbone.flow(m).layers[0]
        torch.nn.init.constant_(first.log_scale, -3.0)  # a scale and shift alone: z nearly 0 ...
    division = known(batch, "selfdrop", 1.0)
    truth = method.backbone.latents(division.whole.features)
    before = method.surprise(truth, division).item()
    for m in method.modalities:
        first = method.backbone.flow(m).layers[0]
        torch.nn.init.constant_(first.log_scale, 3.0)  # ... or stretched, the density of h in 1/e^3
    images, _ = method.backbone.images(1e-4 * truth)
    assert before > 0 and images.abs().max() < 0.1
    assert method.surprise(1e-4 * truth, division).item() == 0


def test_the_recovery_is_asked_for_what_was_dropped_alone(toy: Toy) -> None:
    method, batch = made(toy, likelihood=False, weight=1.0)
    torch.manual_seed(0)
    loss = method.loss(batch)
    torch.manual_seed(0)
    division = known(batch, "selfdrop", 0.5)
    completed = method.backbone.parts(division.given, division.given.features)
    truth = method.backbone.latents(batch.features).detach().numpy()
    gaps = ((completed.made.detach().numpy() - truth) ** 2).mean(axis=2)
    dropped = (batch.observed & ~division.given.observed).numpy()
    assert dropped.any(axis=0).all()
    expected = sum(gaps[dropped[:, m], m].mean() for m in range(3))
    task = method.fused_loss(division.given, completed.fused).item()
    assert loss.item() - task == pytest.approx(expected, rel=1e-4)


def test_complete_rows_are_asked_for_by_a_switch(toy: Toy) -> None:
    method, batch = made(toy, targets="complete")
    assert method.backbone.needs_complete and not made(toy)[0].backbone.needs_complete
    assert method.loss(batch).isfinite()


@pytest.mark.parametrize("task", [Task("binaries", ("x", "y"))])
def test_yes_or_no_questions_train(task: Task, toy: Toy) -> None:
    method, batch = made(toy, task)
    method.loss(batch).backward()
    assert method.means.grad is not None and method.means.grad.any(dim=1).all()


@pytest.mark.parametrize(
    "stage",
    [
        Stage("dicmor", "cubemlp"),
        Stage("dicmor", "dicmor", network=(("hidden", 6),)),
        Stage("dicmor", "dicmor", network=(("couplings", 0),)),
        Stage("dicmor", "dicmor", options=(("targets", "none"),)),
        Stage("dicmor", "dicmor", options=(("dropped", 1.5),)),
        Stage("dicmor", "dicmor", options=(("weight", -1.0),)),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(stage: Stage, toy: Toy) -> None:
    with pytest.raises(InputError):
        built(stage, toy(dims=DIMS[3]))
