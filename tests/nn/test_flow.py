"""Flows are undone by their inverse, and their densities are those of a change of variables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from mmlib.nn.flow import Flow, bits


def flow(width: int, seed: int = 0, size: float = 0.5) -> Flow:
    """A flow with random weights in every part."""
    torch.manual_seed(seed)
    made = Flow(width, couplings=6, wide=7)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=size)
    return made


@pytest.mark.parametrize("width", [4, 5, 32])
def test_the_inverse_undoes_a_flow(width: int) -> None:
    made, values = flow(width).double(), torch.randn(50, width, dtype=torch.float64)
    images, _ = made(values)
    assert (images - values).abs().max() > 0.5
    torch.testing.assert_close(made.inverse(images), values, rtol=0, atol=1e-6)


def test_the_inverse_undoes_a_flow_of_usual_weights_in_single_precision() -> None:
    torch.manual_seed(0)
    made, values = Flow(64, couplings=6, wide=64), torch.randn(200, 64)
    for layer in made.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.reset_parameters()
    images, _ = made(values)
    assert (images - values).abs().max() > 0.5
    torch.testing.assert_close(made.inverse(images), values, rtol=0, atol=1e-4)


def test_a_flow_starts_as_the_identity() -> None:
    values = torch.randn(9, 6)
    images, log_det = Flow(6, 6, 5)(values)
    assert torch.equal(images, values) and not log_det.any()


@pytest.mark.parametrize("width", [4, 5])
def test_the_determinant_is_that_of_the_jacobian(width: int) -> None:
    made, values = flow(width).double(), torch.randn(6, width, dtype=torch.float64)
    _, log_det = made(values)
    for row, found in zip(values, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: made(x[None])[0][0], row)
        expected = np.linalg.slogdet(jacobian.numpy())[1]
        assert found.item() == pytest.approx(expected, abs=1e-10)


def test_the_density_of_a_flow_adds_up_to_one() -> None:
    made = flow(2, size=0.2).double()
    line = torch.linspace(-12, 12, 481, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    images, log_det = made(grid)
    means = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    density = 2.0 ** (-2 * bits(images, log_det, means))
    assert (density.sum() * (line[1] - line[0]) ** 2).item() == pytest.approx(1, abs=1e-3)


def test_bits_of_the_identity_are_the_normal_distributions() -> None:
    r = np.random.default_rng(0)
    values, means = r.normal(size=(5, 3)), r.normal(size=(5, 3))
    expected = [-multivariate_normal(m).logpdf(x) for x, m in zip(values, means, strict=True)]
    found = bits(torch.from_numpy(values), torch.zeros(5), torch.from_numpy(means))
    np.testing.assert_allclose(found.numpy(), np.array(expected) / (3 * np.log(2)))
