"""The cascade by hand, its published size, and the two ways in which a block is fed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmlib.nn.cascade import Cascade, widths
from mmlib.nn.trunk import Trunk


def by_hand(layers: list[nn.Linear], x: np.ndarray, slope: float) -> np.ndarray:
    """Linear layers with a (leaky) ReLU between."""
    for number, layer in enumerate(layers):
        x = x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
        if number + 1 < len(layers):
            x = np.where(x > 0, x, slope * x)
    return x


def linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def test_the_published_widths() -> None:
    assert widths(384) == (256, 128, 64)
    cascade = Cascade(384, 5, 384)
    assert cascade.code_dim == 320
    one = sum((a + 1) * b for a, b in [(384, 256), (256, 128), (128, 64)])
    one += sum((a + 1) * b for a, b in [(64, 128), (128, 256), (256, 384)])
    assert sum(p.numel() for p in cascade.parameters()) == 5 * one + 2 * 385 * 384


@pytest.mark.parametrize("steered", [False, True])
def test_inputs_add_up_or_are_steered(steered: bool) -> None:
    torch.manual_seed(0)
    cascade = Cascade(12, 3, 7)
    values, steer = torch.randn(4, 12), torch.randn(4, 12)
    x, s = values.double().numpy(), steer.double().numpy()
    entered, codes = x + s if steered else x, []
    for block in cascade.blocks:
        encoder, decoder = block.encode, block.decode
        codes.append(by_hand(linears(encoder), entered, 0.01))
        output = by_hand(linears(decoder), codes[-1], 0.0)
        left = output if steered else entered + output
        entered = output + s if steered else left
    made = by_hand([cascade.first, cascade.last], left, 0.0)
    found = cascade(values, steer if steered else None)
    np.testing.assert_allclose(found.codes.detach().numpy(), np.hstack(codes), atol=1e-5)
    np.testing.assert_allclose(found.made.detach().numpy(), made, atol=1e-5)


def test_no_steering_is_another_cascade_than_steering_by_zeros() -> None:
    torch.manual_seed(0)
    cascade = Cascade(12, 3, 12)
    values = torch.randn(4, 12)
    zeros = cascade(values, torch.zeros(4, 12))
    output: Tensor = values
    for block in cascade.blocks:  # inputs are h, o_1, o_2
        _, output = block(output)
    torch.testing.assert_close(zeros.made, cascade.last(cascade.first(output).relu()))
    assert (zeros.made - cascade(values).made).abs().max() > 1e-3


def test_a_trunk_drops_in_training_alone() -> None:
    torch.manual_seed(0)
    trunk, values = Trunk(6, 200, 0.5).eval(), torch.randn(3, 6)
    expected = by_hand([trunk.first, trunk.second], values.double().numpy(), 0.0).clip(min=0)
    np.testing.assert_allclose(trunk(values).detach().numpy(), expected, atol=1e-6)
    assert (trunk.train()(values) == 0).float().mean() > (expected == 0).mean() + 0.1
