"""MPLMM: prompts in the place of missing modalities, type prompts that stay zero as released, a frozen transformer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from laws import DIMS, batch_of, built

from mmlib.backbones import build_backbone
from mmlib.backbones.mplmm import MPLMM, CrossBlock, MPLMMConfig
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods import build_method
from mmlib.methods.mplmm import Mplmm, MplmmConfig
from mmlib.nn.batch import Batch, hide

Toy = Callable[..., Bundle]
FIRST, SECOND = Stage("reference", "mplmm"), Stage("mplmm", "mplmm")


def second_stage(bundle: Bundle, variant: str = "paper") -> Mplmm:
    stage = dataclasses.replace(SECOND, variant=variant)
    method = built(stage, bundle, seed=1, parent=built(FIRST, bundle))
    assert isinstance(method, Mplmm)
    return method


def net_of(method: Mplmm) -> MPLMM:
    assert isinstance(method.backbone, MPLMM)
    return method.backbone


def steps(method: Mplmm, batch: Batch, count: int) -> None:
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2, weight_decay=0.1)
    method.train()
    for _ in range(count):
        optimizer.zero_grad()
        method.loss(batch).backward()
        optimizer.step()


def types(method: Mplmm, batch: Batch) -> torch.Tensor:
    net = net_of(method)
    tokens = torch.stack([net.encoders[m](x) for m, x in sorted(batch.features.items())], dim=1)
    return net.prompts(tokens, batch.observed)[1]


@pytest.mark.parametrize(("variant", "moves"), [("paper", True), ("released", False)])
def test_type_prompts_move_unless_both_factors_start_at_zero(
    variant: str, moves: bool, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = second_stage(bundle, variant), batch_of(toy(dims=DIMS[3]))
    assert not types(method, batch).any()
    steps(method, batch, 5)
    assert bool(types(method, batch).any()) == moves
    assert bool(net_of(method).prompts.Q.any()) == moves


def test_only_prompts_input_maps_and_the_last_layer_learn(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = second_stage(bundle), batch_of(toy(dims=DIMS[3]))
    before = {n: p.detach().clone() for n, p in method.named_parameters()}
    steps(method, batch, 3)
    moved = {n.split(".")[1] for n, p in method.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"encoders", "prompts", "prediction"}
    assert not net_of(method).crossings.training and net_of(method).prompts.training


def test_a_missing_modalitys_token_is_made_from_those_that_are_there(toy: Toy) -> None:
    torch.manual_seed(0)
    bundle = toy(dims=DIMS[3])
    prompts = net_of(second_stage(bundle)).prompts
    width = prompts.P.shape[1]
    tokens, seen = torch.randn(1, 3, width), torch.tensor([[True, False, True]])
    whole, _ = prompts(tokens, seen)
    from_one, from_other = (
        F.gelu(prompts.pairs[i](tokens[0, i])[width : 2 * width]) for i in (0, 2)
    )
    given = torch.cat([prompts.generative[1], (from_one + from_other) / 2])
    made = F.gelu(prompts.joined[1](given)) + prompts.missing[1]
    torch.testing.assert_close(whole[0, 1], made)
    torch.testing.assert_close(whole[0, 0], tokens[0, 0] + prompts.present[0])


def test_type_tokens_are_products_of_p_and_the_sum_of_q_and_signals() -> None:
    torch.manual_seed(0)
    net = build_backbone("mplmm", DIMS[3], 3, 1)
    assert isinstance(net, MPLMM)
    prompts = net.prompts
    with torch.no_grad():
        prompts.Q.normal_()
    seen = torch.tensor([[True, False, True]])
    _, made = prompts(torch.randn(1, 3, net.embedding_dim), seen)
    p, q = prompts.P.detach().numpy(), prompts.Q.detach().numpy()
    signals = [prompts.present[0], prompts.missing[1], prompts.present[2]]
    common = sum(s.detach().numpy() @ q[i] for i, s in enumerate(signals))
    expected = np.stack([p[m].T @ common for m in range(3)])
    np.testing.assert_allclose(made[0].detach(), expected, rtol=2e-3, atol=1e-4)


def test_a_missing_modality_still_speaks_through_its_prompts(toy: Toy) -> None:
    """In the first stage it gives zeros, so that what the prompts hold changes nothing there."""
    bundle = toy(dims=DIMS[3])
    method = second_stage(bundle).eval()
    batch = hide(batch_of(bundle), torch.tensor([True, False, True]))
    first = built(FIRST, bundle).eval()
    first.load_state_dict(method.state_dict())
    one, two = first(batch).logits, method(batch).logits
    with torch.no_grad():
        net_of(method).prompts.missing[1] += 1.0
    first.load_state_dict(method.state_dict())
    torch.testing.assert_close(first(batch).logits, one)
    assert not torch.allclose(method(batch).logits, two)


def test_a_target_with_no_other_modality_keeps_its_own_token() -> None:
    torch.manual_seed(0)
    block = CrossBlock(8, 2, 0.0)
    queries, context = torch.randn(4, 1, 8), torch.randn(4, 2, 8)
    seen = torch.zeros(4, 2, dtype=torch.bool)
    inner = block.narrow(F.relu(block.widen(block.second(queries))))
    torch.testing.assert_close(block(queries, context, seen), queries + inner)
    seen[:, 0] = True
    near, far = (
        block(queries, torch.cat([context[:, :1], x], dim=1), seen) for x in torch.randn(2, 4, 1, 8)
    )
    torch.testing.assert_close(near, far)


def test_the_prediction_reads_the_place_of_the_type_token(toy: Toy) -> None:
    """The last place's residual stream starts from the type token: a large one is what the tail gets."""
    method, batch = second_stage(toy(dims=DIMS[3])).eval(), batch_of(toy(dims=DIMS[3]))
    net = net_of(method)
    tokens = torch.randn(len(batch), 3, net.embedding_dim)
    large = torch.full_like(tokens, 1e4) * torch.randn(net.embedding_dim)
    read = net.crossed(tokens, torch.ones_like(batch.observed), large)
    torch.testing.assert_close(read, large, rtol=1e-2, atol=100.0)


def test_other_networks_sizes_and_starts_are_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="MSPs"):
        build_method(
            "mplmm",
            "paper",
            (),
            build_backbone("msps", bundle.dims, 3, 1),
            bundle.task,
            bundle.dims,
        )
    with pytest.raises(InputError, match="types"):
        MplmmConfig(types="ones")
    for options in ({"hidden": 30}, {"layers": 0}, {"dropout": -0.1}):
        with pytest.raises(InputError):
            MPLMMConfig(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no first stage"):
        built(SECOND, bundle).loss(batch_of(bundle))
