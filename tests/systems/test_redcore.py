"""RedCore: which rows its terms are over, what stands for a missing modality, and how its weights move."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from laws import DIMS, TASKS, batch_of, built
from torch.distributions import Normal, kl_divergence

from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.redcore import RedCoreTraining, from_normal, moved
from mmlib.nn.batch import hide

Toy = Callable[..., Bundle]
STAGE = Stage("redcore", "redcore", network=(("dropout", 0.0), ("hidden", 12)))


def method_of(bundle: Bundle, **options: object) -> RedCoreTraining:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, RedCoreTraining)
    return method


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_by_hand(task: str, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=TASKS[task])
    batch = batch_of(bundle)
    method = method_of(bundle, divergence=0.3).eval()
    beta = torch.tensor([0.8, 0.6, 0.3])
    method.beta = beta
    network = method.backbone
    parts = network.parts(batch, batch.features)
    expected = 0.0
    for i, m in enumerate(method.modalities):
        tasks, apart, gaps = [], [], []
        for row in range(len(batch)):
            if not batch.observed[row, i]:
                continue
            logits = network.heads[m](parts.fused.z[m][[row]])
            label = batch.labels[[row]]
            tasks.append(
                F.cross_entropy(logits, label)
                if task == "classes"
                else (logits[:, 0] - label).abs().mean()
            )
            spread = (parts.log_variance[row, i] / 2).exp()
            apart.append(kl_divergence(Normal(parts.mean[row, i], spread), Normal(0, 1)).sum())
            if batch.observed[row].sum() > 1:
                gaps.append((parts.made[row, i] - parts.mean[row, i]).square().mean())
        means = [torch.stack(x).mean() for x in (tasks, apart, gaps)]
        expected = expected + means[0] + 0.3 * means[1] + 4 * beta[i] * means[2]
    joint = parts.fused.logits
    expected = expected + (
        F.cross_entropy(joint, batch.labels)
        if task == "classes"
        else (joint[:, 0] - batch.labels).abs().mean()
    )
    torch.testing.assert_close(method.loss(batch), expected)


def test_what_is_missing_is_made_from_the_others_alone(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network = method_of(bundle).eval().backbone
    batch = hide(batch_of(bundle), torch.tensor([True, False, True]))
    parts = network.parts(batch, batch.features)
    zeros = torch.zeros(len(batch), 12)
    means = [
        network.encoders[m](batch.features[m])[0] * batch.observed[:, [i]]
        for i, m in enumerate(network.modalities)
    ]
    made = network.makers["text"](torch.cat([means[0], means[2]], dim=1)).made
    torch.testing.assert_close(parts.fused.z["text"], made)
    made = network.makers["audio"](torch.cat([zeros, means[2]], dim=1)).made
    torch.testing.assert_close(parts.made[:, 0], made)
    there = batch.observed[:, [0]]
    torch.testing.assert_close(parts.fused.z["audio"], torch.where(there, means[0], made))


def test_embeddings_are_drawn_in_training(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network, batch = method_of(bundle).backbone, batch_of(bundle)
    with torch.no_grad():
        torch.manual_seed(0)
        draws = torch.stack([network.train().parts(batch, batch.features).own for _ in range(400)])
        parts = network.eval().parts(batch, batch.features)
    seen = batch.observed[:, :, None]
    torch.testing.assert_close(parts.own, torch.where(seen, parts.mean, 0))
    spread = torch.where(seen, (parts.log_variance / 2).exp(), 0)
    assert ((draws.mean(dim=0) - parts.own).abs() <= 5 * spread / 20).all()
    torch.testing.assert_close(draws.std(dim=0), spread, rtol=0.25, atol=1e-6)


@pytest.mark.parametrize("attached", [False, True])
def test_targets_learn_only_where_attached(attached: bool, toy: Toy) -> None:
    bundle = toy(dims=DIMS[2])
    method, batch = method_of(bundle, attached=attached).eval(), batch_of(bundle)
    parts = method.backbone.parts(batch, batch.features)
    pull = torch.autograd.grad(method.gaps(parts)[:, 0].sum(), parts.own)[0]
    other = torch.autograd.grad(
        (method.backbone.make(0, parts.own) - parts.own[:, 0].detach()).square().mean(dim=1).sum(),
        parts.own,
    )[0]
    assert torch.allclose(pull, other) != attached


def test_equal_errors_leave_the_direction_of_the_weights() -> None:
    beta = torch.tensor([0.6, 0.7, 0.4])
    beta = beta / beta.norm()
    known = torch.tensor([True, True, True])
    torch.testing.assert_close(moved(beta, torch.full((3,), 2.0), known, 0.5), beta)
    torch.testing.assert_close(moved(beta, torch.zeros(3), known, 0.5), beta)


def test_the_weights_follow_the_advantages() -> None:
    beta, means = np.array([0.5, 0.7, 0.3, 0.4]), np.array([1.0, 4.0, 2.5, 99.0])
    advantage = (7.5 / 3 - means) / (7.5 / 3)
    advantage[3] = 0  # not known
    expected = np.maximum(0.1, beta - 0.8 * advantage)
    assert expected[0] == 0.1 and expected[1] > 0.7
    found = moved(
        torch.tensor(beta), torch.tensor(means), torch.tensor([True, True, True, False]), 0.8
    )
    np.testing.assert_allclose(found.numpy(), expected / np.linalg.norm(expected))


def test_running_errors_keep_what_a_batch_does_not_show(toy: Toy) -> None:
    method = method_of(toy(dims=DIMS[3]), memory=0.5, step=0.0).train()
    steps = [([1.0, 2.0, 0.0], [1, 1, 0]), ([3.0, 0.0, 5.0], [1, 0, 1])]
    for errors, known in steps:
        method.follow(torch.tensor(errors), torch.tensor(known).bool())
    means = method.errors / method.known
    torch.testing.assert_close(means, torch.tensor([(0.5 * 1 + 3) / 1.5, 2.0, 5.0]))


def test_weights_move_in_training_alone_and_come_back_with_a_run(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle, step=0.5), batch_of(bundle)
    method.eval().loss(batch)
    torch.testing.assert_close(method.beta, torch.full((3,), 3**-0.5))
    method.train().loss(batch)
    assert method.beta.std() > 0 and torch.isclose(method.beta.norm(), torch.tensor(1.0))
    again = method_of(bundle)
    again.load_state_dict(method.state_dict())
    torch.testing.assert_close(again.beta, method.beta)
    torch.testing.assert_close(method.known, torch.full((3,), 0.1))
    method.loss(hide(batch, torch.tensor([True, False, False])))  # nothing to complete
    torch.testing.assert_close(method.known, torch.full((3,), 0.1))


def test_without_a_step_the_weights_stay_equal(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle, step=0.0).train()
    method.loss(batch_of(bundle))
    assert method.errors.std() > 0
    torch.testing.assert_close(method.beta, torch.full((3,), 3**-0.5))


def test_the_divergence_is_torchs() -> None:
    mean, log_variance = torch.randn(5, 7), torch.randn(5, 7)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0, 1)).sum(dim=1)
    torch.testing.assert_close(from_normal(mean, log_variance), expected)


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    for options in ({"memory": 1.0}, {"step": -1.0}, {"completion": -1.0}):
        with pytest.raises(InputError):
            method_of(bundle, **options)
    for network in ((("hidden", 0),), (("blocks", 0),), (("dropout", 1.0),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
