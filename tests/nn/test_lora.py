"""Low-rank adapters against a loop over rows, and the laws of Eq. 1: nothing at B = 0, mergeable, few parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binom, kstest
from torch import Tensor, nn

from mmlib.nn.lora import Adapters

COUNT, INPUTS, OUTPUTS, RANK = 5, 7, 6, 3


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def adapters(count: int = COUNT, scale: float = 1.7, rate: float = 0.0) -> Adapters:
    """With B other than zero."""
    torch.manual_seed(0)
    found = Adapters(count, INPUTS, OUTPUTS, RANK, scale, rate).double()
    nn.init.normal_(found.up)
    return found


@pytest.fixture
def values() -> Tensor:
    return torch.randn(11, INPUTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


NUMBERS = torch.tensor([0, 4, 4, 2, 0, 2, 2, 4, 0, 0, 2])  # adapters 1 and 3 are nobody's
CHOSEN = F.one_hot(NUMBERS, COUNT).float()


def by_row(layer: Adapters, values: Tensor, numbers: list[int]) -> np.ndarray:
    """scale B_k (A_k x), row by row."""
    down, up = array(layer.down), array(layer.up)
    return np.stack(
        [layer.scale * (up[k] @ (down[k] @ x)) for k, x in zip(numbers, array(values), strict=True)]
    )


def test_each_row_takes_its_own_adapter_as_in_a_loop_over_rows(values: Tensor) -> None:
    layer = adapters()
    np.testing.assert_allclose(
        array(layer(values, CHOSEN)), by_row(layer, values, NUMBERS.tolist()), atol=1e-13
    )


def test_every_gives_what_each_adapter_makes_of_each_row(values: Tensor) -> None:
    layer = adapters()
    found = layer.every(values)
    assert found.shape == (11, COUNT, OUTPUTS)
    for number in range(COUNT):
        np.testing.assert_allclose(
            array(found[:, number]), by_row(layer, values, [number] * 11), atol=1e-13
        )


def test_without_a_choice_a_single_adapter_is_taken_and_several_add_up(values: Tensor) -> None:
    one, many = adapters(1), adapters()
    np.testing.assert_allclose(array(one(values)), by_row(one, values, [0] * 11), atol=1e-13)
    np.testing.assert_allclose(
        array(many(values)), array(many.every(values)).sum(axis=1), atol=1e-12
    )


def test_a_merged_weight_does_what_the_map_and_the_adapter_do_side_by_side(values: Tensor) -> None:
    layer, linear = adapters(), nn.Linear(INPUTS, OUTPUTS).double()
    for number in range(COUNT):
        merged = F.linear(values, layer.merged(linear.weight, number), linear.bias)
        expected = array(linear(values)) + by_row(layer, values, [number] * 11)
        np.testing.assert_allclose(array(merged), expected, atol=1e-12)


def test_an_adapter_starts_as_exactly_nothing(values: Tensor) -> None:
    layer, weight = Adapters(COUNT, INPUTS, OUTPUTS, RANK, 3.0), torch.randn(OUTPUTS, INPUTS)
    small = values.float()
    for found in (layer(small, CHOSEN), layer(small), layer.every(small)):
        assert not found.any()
    assert all(torch.equal(layer.merged(weight, k), weight) for k in range(COUNT))


def test_a_starts_as_a_linear_layers_weight_does() -> None:
    torch.manual_seed(0)
    layer, linear = Adapters(7, 256, 8, 40), nn.Linear(256, 280)
    for weight in (layer.down, linear.weight):
        assert weight.abs().max() <= 1 / 16
        assert kstest(array(weight).ravel(), "uniform", args=(-1 / 16, 1 / 8)).pvalue > 1e-4


def test_the_gradient_reaches_the_chosen_adapters_alone_and_is_that_of_the_loop(
    values: Tensor,
) -> None:
    layer = adapters()
    values.requires_grad_(True)
    mix = torch.linspace(-1, 2, 11 * OUTPUTS, dtype=torch.float64).view(11, OUTPUTS)
    rows = [
        layer.scale * layer.up[k] @ (layer.down[k] @ x)
        for k, x in zip(NUMBERS.tolist(), values, strict=True)
    ]
    wanted = [values, layer.down, layer.up]
    ours = torch.autograd.grad((layer(values, CHOSEN) * mix).sum(), wanted)
    theirs = torch.autograd.grad((torch.stack(rows) * mix).sum(), wanted)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, atol=1e-12, rtol=0)
    for gradient in ours[1:]:
        assert [bool(part.any()) for part in gradient] == [True, False, True, False, True]


def test_at_the_start_b_has_a_gradient_and_a_has_none(values: Tensor) -> None:
    layer = Adapters(COUNT, INPUTS, OUTPUTS, RANK).double()
    down, up = torch.autograd.grad(layer(values, CHOSEN).sum(), [layer.down, layer.up])
    assert not down.any() and [bool(part.any()) for part in up] == [True, False, True, False, True]


@pytest.mark.parametrize(("count", "rank"), [(1, 4), (7, 4), (7, 1), (3, 8)])
def test_there_are_rank_times_inputs_and_outputs_parameters_for_each_adapter(
    count: int, rank: int
) -> None:
    layer = Adapters(count, 12, 9, rank)
    assert sum(p.numel() for p in layer.parameters()) == sum(rank * (12 + 9) for _ in range(count))


def test_dropout_falls_on_the_inputs_in_training_alone() -> None:
    torch.manual_seed(0)
    layer = Adapters(1, 400, 400, 400, rate=0.25)
    layer.down.data[0], layer.up.data[0] = torch.eye(400), torch.eye(400)
    ones = torch.ones(30, 400)
    found = layer(ones)
    assert found.unique().tolist() == pytest.approx([0, 4 / 3])
    low, high = binom(found.numel(), 0.75).interval(1 - 1e-9)
    assert low <= int((found > 0).sum()) <= high
    assert torch.equal(layer.every(ones)[:, 0], ones) and torch.equal(layer.eval()(ones), ones)
