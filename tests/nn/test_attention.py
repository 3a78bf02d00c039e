"""Attention against a loop over dialogues, heads and queries, and against torch's own where nothing is hidden."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from scipy.stats import binom, norm
from torch import Tensor, nn

from mmlib.nn.attention import Attention, Block, Expert, Tail, attend

SIZES = [
    (1, 1, 1, 4, 1),
    (3, 5, 5, 6, 2),
    (4, 2, 7, 8, 4),
    (2, 6, 3, 9, 3),
]  # dialogues, queries, keys, width, heads


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def given(
    dialogues: int, queries: int, keys: int, width: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values and what is seen of them; the last dialogue of several has nothing to see."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((dialogues, queries, width), (dialogues, keys, width), (dialogues, keys, width))
    query, key, value = (
        2 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    )
    seen = torch.rand(dialogues, keys, generator=generator) < 0.6
    seen[:, 0] = True
    seen[dialogues - 1] &= dialogues == 1
    return query, key, value, seen


def by_loop(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, seen: np.ndarray, heads: int
) -> np.ndarray:
    """One query, one head at a time, over the keys that are seen and no others."""
    found, size = np.zeros_like(query), query.shape[2] // heads
    for dialogue in range(len(query)):
        keys = [k for k in range(key.shape[1]) if seen[dialogue, k]]
        for place in range(query.shape[1]):
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                if keys:
                    scores = [
                        key[dialogue, k, own] @ query[dialogue, place, own] / math.sqrt(size)
                        for k in keys
                    ]
                    found[dialogue, place, own] = softmax(scores) @ value[dialogue, keys, own]
    return found


def mlp(x: np.ndarray, first: nn.Linear, second: nn.Linear) -> np.ndarray:
    inner = x @ array(first.weight).T + array(first.bias)
    return np.asarray(inner * norm.cdf(inner) @ array(second.weight).T + array(second.bias))


def block_by_loop(block: Block, values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """x + a + MLP(a) (BASELINES_MM section 3)."""
    maps = [block.attention.query, block.attention.key, block.attention.value]
    query, key, value = (values @ array(m.weight).T + array(m.bias) for m in maps)
    told = by_loop(query, key, value, seen, block.attention.heads)
    return np.asarray(values + told + mlp(told, block.first, block.second))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_attention_is_that_of_a_loop_over_queries_and_their_seen_keys(
    sizes: tuple[int, ...],
) -> None:
    *shape, heads = sizes
    query, key, value, seen = given(*shape)
    expected = by_loop(array(query), array(key), array(value), seen.numpy(), heads)
    np.testing.assert_allclose(array(attend(query, key, value, seen, heads)), expected, atol=1e-13)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_attention_and_its_gradients_are_torchs_own_where_every_key_is_seen(
    sizes: tuple[int, ...],
) -> None:
    *shape, heads = sizes
    query, key, value, seen = given(*shape)
    inputs = [x.requires_grad_(True) for x in (query, key, value)]
    split = [x.unflatten(2, (heads, -1)).transpose(1, 2) for x in inputs]
    theirs = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
    ours = attend(*inputs, torch.ones_like(seen), heads)
    torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=0)
    mix = torch.linspace(-1, 2, ours.numel(), dtype=torch.float64).view_as(ours)
    for own, other in zip(
        *(torch.autograd.grad((x * mix).sum(), inputs) for x in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(own, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("huge", [1e3, -1e9, 1e18])
def test_what_is_hidden_has_no_influence_and_no_gradient_however_large(huge: float) -> None:
    query, key, value, seen = (x.float() if x.is_floating_point() else x for x in given(4, 3, 6, 8))
    before = attend(query, key, value, seen, 2)
    key, value = (
        torch.where(seen[..., None], x, huge * torch.ones(())).requires_grad_(True)
        for x in (key, value)
    )
    after = attend(query, key, value, seen, 2)
    assert torch.equal(before, after) and (~seen).any()
    for gradient in torch.autograd.grad(after.square().sum(), [key, value]):
        assert gradient.isfinite().all() and not gradient[~seen].any() and gradient[seen].any()


@pytest.mark.parametrize("size", [1e2, 1e5])
def test_a_hidden_key_never_outweighs_a_seen_one_however_unlike_the_query_that_is(
    size: float,
) -> None:
    query, key = size * torch.ones(1, 1, 4), -size * torch.ones(1, 2, 4)
    found = attend(
        query, key, torch.tensor([[[1.0] * 4, [7.0] * 4]]), torch.tensor([[True, False]]), 1
    )
    assert found.flatten().tolist() == [1.0] * 4


def test_a_query_without_any_key_gets_zeros_and_finite_gradients() -> None:
    query, key, value, _ = given(3, 4, 5, 6)
    inputs = [x.requires_grad_(True) for x in (query, key, value)]
    seen = torch.tensor([True, False, True])[:, None].expand(3, 5)
    found = attend(*inputs, seen, 2)
    assert not found[1].any() and found[0].all() and found[2].all()
    for gradient in torch.autograd.grad(found.exp().sum(), inputs):
        assert gradient.isfinite().all() and not gradient[1].any() and gradient[0].any()


def test_a_single_seen_key_tells_its_value_to_every_query() -> None:
    query, key, value, _ = given(2, 4, 5, 6)
    seen = F.one_hot(torch.tensor([3, 0]), 5).bool()
    found = attend(query, key, value, seen, 3)
    torch.testing.assert_close(
        found, torch.stack([value[0, 3], value[1, 0]])[:, None].expand(2, 4, 6)
    )


def test_the_attention_layer_maps_by_three_biased_linear_layers_and_has_no_output_map() -> None:
    torch.manual_seed(0)
    layer = Attention(6, 2).double()
    assert sum(p.numel() for p in layer.parameters()) == 3 * (6 * 6 + 6)
    asks, told, _, seen = given(3, 4, 5, 6)
    query = array(asks) @ array(layer.query.weight).T + array(layer.query.bias)
    key, value = (array(told) @ array(m.weight).T + array(m.bias) for m in (layer.key, layer.value))
    expected = by_loop(query, key, value, seen.numpy(), 2)
    np.testing.assert_allclose(array(layer(asks, told, seen)), expected, atol=1e-13)


def test_a_block_and_an_expert_are_those_of_the_loop() -> None:
    torch.manual_seed(1)
    expert = Expert(8, 3, 2, 0.5).double().eval()
    assert sum(p.numel() for p in expert.parameters()) == 3 * 5 * (8 * 8 + 8)
    values, _, _, seen = given(4, 5, 5, 8)
    expected = array(values)
    for block in expert.blocks:
        assert isinstance(block, Block)
        before, expected = expected, block_by_loop(block, expected, seen.numpy())
        np.testing.assert_allclose(
            array(block(torch.from_numpy(before), seen)), expected, atol=1e-12
        )
    np.testing.assert_allclose(array(expert(values, seen)), expected, atol=1e-12)
    unheard = values[3] + torch.from_numpy(
        mlp(np.zeros((1, 8)), expert.blocks[0].first, expert.blocks[0].second)
    )
    torch.testing.assert_close(expert.blocks[0](values, seen)[3], unheard)


def test_more_padding_and_another_order_change_no_utterance_of_an_expert() -> None:
    torch.manual_seed(2)
    expert = Expert(8, 3, 2, 0.0).double()
    values, _, _, seen = given(3, 5, 5, 8)
    found = expert(values, seen)
    wide = expert(F.pad(values, (0, 0, 0, 4), value=1e6), F.pad(seen, (0, 4)))
    torch.testing.assert_close(wide[:, :5], found, atol=1e-12, rtol=0)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        expert(values[:, order], seen[:, order]), found[:, order], atol=1e-12, rtol=0
    )


def test_dropout_falls_on_both_layers_of_the_mlp_and_on_nothing_else() -> None:
    torch.manual_seed(3)
    block, values = Block(50, 2, 0.25), torch.randn(8, 10, 50)
    seen = torch.ones(8, 10, dtype=torch.bool)
    told = values + block.attention(values, values, seen)
    for linear, weight, bias in (
        (block.first, torch.zeros(50, 50), 2.0),
        (block.second, torch.eye(50), 0.0),
    ):
        linear.weight.data, linear.bias.data = weight, torch.full((50,), bias)
    rest = (block(values, seen) - told).detach()
    full = 2 * norm.cdf(2) / 0.75**2
    assert ((rest.abs() < 1e-4) | ((rest - full).abs() < 1e-4)).all()
    low, high = binom(rest.numel(), 0.75**2).interval(1 - 1e-9)
    assert low <= int((rest.abs() > 1).sum()) <= high
    block.eval()
    torch.testing.assert_close(
        block(values, seen) - told, torch.full_like(told, 2 * norm.cdf(2)), atol=1e-5, rtol=0
    )


def test_the_tail_adds_a_rectified_map_which_alone_drops_out() -> None:
    torch.manual_seed(4)
    tail, joined = Tail(6, 0.5), torch.randn(200, 6)
    extra = np.maximum(array(joined) @ array(tail.linear.weight).T + array(tail.linear.bias), 0)
    np.testing.assert_allclose(array(tail.eval()(joined)), array(joined) + extra, atol=1e-6)
    rest = array(tail.train()(joined)) - array(joined)
    on = np.abs(rest) > 1e-5
    np.testing.assert_allclose(rest[on], 2 * extra[on], atol=1e-5)
    low, high = binom(int((extra > 1e-4).sum()), 0.5).interval(1 - 1e-9)
    assert low <= int((on & (extra > 1e-4)).sum()) <= high
