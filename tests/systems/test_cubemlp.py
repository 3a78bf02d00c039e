"""CubeMLP: what a block is where it does nothing, what the order of modalities is to it, and what stands for a gap."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, batch_of
from torch import nn

from mmlib.backbones.cubemlp import CubeMLP, CubeMLPConfig, Mix
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError

Toy = Callable[..., Bundle]


@pytest.mark.parametrize("axis", [1, 2])
def test_a_block_whose_perceptron_gives_nothing_and_whose_map_is_the_identity_changes_nothing(
    axis: int,
) -> None:
    cube = torch.randn(7, 4, 4)
    block = Mix(4, 4, 0.0, axis)
    nn.init.eye_(block.straight.weight)
    nn.init.zeros_(block.second.weight)
    nn.init.zeros_(block.second.bias)
    torch.testing.assert_close(block(cube), cube)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_block_is_the_formula_along_its_axis(axis: int) -> None:
    cube = torch.randn(5, 3, 6).double()
    size = cube.shape[axis]
    block = Mix(size, 2, 0.5, axis).double().eval()
    values = {name: p.detach().numpy() for name, p in block.named_parameters()}
    rows = np.moveaxis(cube.numpy(), axis, -1)
    normed = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
    inner = normed @ values["first.weight"].T + values["first.bias"]
    gelu = torch.nn.functional.gelu(torch.from_numpy(inner)).numpy()
    expected = rows @ values["straight.weight"].T
    expected += gelu @ values["second.weight"].T + values["second.bias"]
    made = np.moveaxis(block(cube).detach().numpy(), axis, -1)
    np.testing.assert_allclose(made, expected, atol=1e-12)


def test_the_order_of_modalities_plays_no_part_once_weights_follow_it(toy: Toy) -> None:
    bundle = toy(dims={"a": 5, "b": 5, "c": 5})
    batch = batch_of(bundle)
    torch.manual_seed(0)
    network = CubeMLP(bundle.dims, 3, 2, CubeMLPConfig(hidden=8, narrow=4)).eval()
    before = network(batch, batch.features).logits
    turn = torch.tensor([2, 0, 1])  # the modality that comes to stand at each place
    names = sorted(bundle.dims)
    moved = {names[i]: batch.features[names[j]] for i, j in enumerate(turn.tolist())}
    state = {name: values.clone() for name, values in network.state_dict().items()}
    turned = dict(state)
    for i, j in enumerate(turn.tolist()):
        for key in [k for k in state if k.startswith(f"encoders.{names[i]}.")]:
            turned[key] = state[key.replace(f".{names[i]}.", f".{names[j]}.")]
    for place in (0, 2):  # the blocks along the modalities
        start = f"blocks.{place}"
        for key in ("norm.weight", "norm.bias", "second.bias"):
            turned[f"{start}.{key}"] = state[f"{start}.{key}"][turn]
        turned[f"{start}.straight.weight"] = state[f"{start}.straight.weight"][turn][:, turn]
        turned[f"{start}.first.weight"] = state[f"{start}.first.weight"][:, turn]
        turned[f"{start}.second.weight"] = state[f"{start}.second.weight"][turn]
    head = state["prediction.weight"].unflatten(1, (3, 4))
    turned["prediction.weight"] = head[:, turn].flatten(1)
    network.load_state_dict(turned)
    again = dataclasses.replace(batch, features=moved, observed=batch.observed[:, turn])
    torch.testing.assert_close(network(again, moved).logits, before)


def test_a_missing_modality_is_zeros_or_a_token_that_learns(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    batch = batch_of(bundle)
    zero = CubeMLP(bundle.dims, 3, 2, CubeMLPConfig())
    assert not zero.token.requires_grad and not zero.token.any()
    token = CubeMLP(bundle.dims, 3, 2, CubeMLPConfig(absent="token"))
    token(batch, batch.features).logits.sum().backward()
    assert token.token.grad is not None and token.token.grad.abs().sum(dim=1).min() > 0
    with pytest.raises(InputError, match="Did you mean 'token'"):
        CubeMLPConfig(absent="tokens")
