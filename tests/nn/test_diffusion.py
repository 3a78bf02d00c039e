"""The diffusion's noise, its sampler on distributions whose score is known, and the score network by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from mmlib.nn.diffusion import FIRST, FREQUENCIES, SIGMA, ScoreNet, denoising, sample, spread


@pytest.mark.parametrize("time", [FIRST, 0.3, 1.0])
def test_the_noises_variance_is_what_the_diffusion_has_added(time: float) -> None:
    added, _ = quad(lambda t: SIGMA ** (2 * t), 0, time)
    found = spread(torch.tensor(time, dtype=torch.float64)).item()
    assert found == pytest.approx(math.sqrt(added))


def test_the_noise_at_the_end() -> None:
    assert spread(torch.tensor(1.0)).item() == pytest.approx(math.sqrt(624 / (2 * math.log(25))))


@pytest.mark.parametrize("mean, deviation", [(0.0, 1.0), (2.0, 0.5)])
def test_draws_by_the_true_score_of_a_normal_distribution_are_of_it(
    mean: float, deviation: float
) -> None:
    torch.manual_seed(0)

    def score(values: Tensor, time: Tensor) -> Tensor:
        return (mean - values) / (deviation**2 + spread(time) ** 2)

    draws = sample(score, lambda step: torch.randn(20_000), steps=100)
    assert draws.mean().item() == pytest.approx(mean, abs=0.2)
    assert draws.var().item() == pytest.approx(deviation**2, rel=0.15)


def test_a_single_step_starts_from_noise_and_ends_without() -> None:
    start = torch.tensor([0.5, -1.0], dtype=torch.float64)
    asked: list[int] = []

    def noise(step: int) -> Tensor:
        asked.append(step)
        return start

    found = sample(lambda values, time: -values, noise, steps=1)
    deviation = math.sqrt(624 / (2 * math.log(25)))
    pull = 25.0**2 * (1 - FIRST)
    np.testing.assert_allclose(found.numpy(), deviation * start.numpy() * (1 - pull))
    assert asked == [0]


def test_matching_is_zero_at_the_score_of_what_was_noised_alone() -> None:
    noise, time = torch.randn(4, 3), torch.tensor([[0.1], [0.4], [0.7], [1.0]])
    score = -noise / spread(time)
    torch.testing.assert_close(denoising(score, noise, time), torch.zeros(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(denoising(0 * score, noise, time), noise.square().mean(dim=1))


def test_the_score_network_is_a_perceptron_of_all_that_it_is_given() -> None:
    torch.manual_seed(0)
    net = ScoreNet(2, 3, 5).double()
    values, given = (torch.randn(2, 4, 3, dtype=torch.float64) for _ in range(2))
    time = torch.rand(2, 4, 1, dtype=torch.float64)
    found = net(values, net.context(given), time).detach().numpy()
    for m in range(2):
        angles = time[m].numpy() * np.pi / 2 * 2.0 ** np.arange(FREQUENCIES)
        deviation = np.sqrt((25 ** (2 * time[m].numpy()) - 1) / (2 * np.log(25)))
        scaled = values[m].numpy() / np.sqrt(1 + deviation**2)
        entered = np.concatenate([scaled, given[m], np.sin(angles), np.cos(angles)], axis=1)
        layers = (net.enter, net.context, net.clock)
        weight = np.concatenate([x.weight[m].detach().numpy() for x in layers])
        bias = sum(x.bias[m].detach().numpy() for x in layers)
        inner = np.maximum(entered @ weight + bias, 0)
        inner = np.maximum(inner @ array(net.middle.weight[m]) + array(net.middle.bias[m]), 0)
        score = inner @ array(net.leave.weight[m]) + array(net.leave.bias[m])
        expected = score / deviation - values[m].numpy() / (1 + deviation**2)
        np.testing.assert_allclose(found[m], expected, rtol=1e-5)


def array(values: Tensor) -> np.ndarray:
    return values.detach().numpy()


def test_a_network_that_adds_nothing_draws_from_the_standard_normal_distribution() -> None:
    torch.manual_seed(0)
    net = ScoreNet(2, 3, 5)
    for parameter in net.leave.parameters():
        torch.nn.init.zeros_(parameter)
    context = net.context(torch.randn(2, 9000, 3))
    draws = sample(
        lambda values, time: net(values, context, time.expand(2, 1, 1)),
        lambda step: torch.randn(2, 9000, 3),
        steps=100,
    )
    assert draws.var(dim=1).mean().item() == pytest.approx(1, rel=0.15)
