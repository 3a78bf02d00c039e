"""MSPs-style: prompts per modality, of present ones alone, kept apart, beside a frozen transformer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, batch_of, built

from mmlib.backbones.msps import MSPs, MSPsConfig, overlap
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.plain import Plain
from mmlib.nn.batch import hide
from mmlib.nn.objectives import task_loss

Toy = Callable[..., Bundle]
FIRST, SECOND = Stage("reference", "msps"), Stage("second_stage", "msps")


def second_stage(bundle: Bundle, **network: object) -> Plain:
    first, second = (
        dataclasses.replace(stage, network=tuple(network.items())) for stage in (FIRST, SECOND)
    )
    return built(second, bundle, seed=1, parent=built(first, bundle))


def net_of(method: Plain) -> MSPs:
    assert isinstance(method.backbone, MSPs)
    return method.backbone


def test_prompts_of_absent_modalities_get_no_gradient_from_the_task(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = second_stage(bundle)
    batch = hide(batch_of(bundle), torch.tensor([True, False, True]))
    task_loss(bundle.task, method(batch).logits, batch.labels).backward()
    gradient = net_of(method).prompts.grad
    assert gradient is not None
    assert (gradient.flatten(1).norm(dim=1) > 0).tolist() == [True, False, True]


def test_there_is_one_block_of_prompts_for_each_modality(toy: Toy) -> None:
    sizes = [net_of(second_stage(toy(dims=DIMS[m]))).prompts.shape[:2] for m in (2, 3, 4)]
    assert sizes == [(2, 4), (3, 4), (4, 4)]


def test_the_penalty_is_the_mean_absolute_cosine_of_two_blocks() -> None:
    torch.manual_seed(0)
    prompts = torch.randn(4, 2, 3)
    flat = prompts.numpy().reshape(4, 6)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    pairs = [abs(unit[i] @ unit[j]) for i in range(4) for j in range(i)]
    assert overlap(prompts).item() == pytest.approx(np.mean(pairs), rel=1e-5)
    assert overlap(torch.eye(4).reshape(4, 2, 2)).item() == 0
    assert overlap(torch.ones(2, 2, 3)).item() == pytest.approx(1)


def test_only_prompts_and_the_last_layer_learn_and_the_penalty_counts(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = second_stage(bundle, orthogonality=10.0), batch_of(toy(dims=DIMS[3]))
    before, started = {n: p.detach().clone() for n, p in method.named_parameters()}, 0.0
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    with torch.no_grad():
        net_of(method).prompts.fill_(0.1).add_(0.05 * torch.randn_like(net_of(method).prompts))
    started = overlap(net_of(method).prompts).item()
    for _ in range(20):
        optimizer.zero_grad()
        method.loss(batch).backward()
        optimizer.step()
    moved = {n for n, p in method.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"backbone.prompts", "backbone.prediction.weight", "backbone.prediction.bias"}
    assert overlap(net_of(method).prompts).item() < started


def test_the_first_stage_has_neither_prompts_nor_penalty(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = built(FIRST, bundle).eval(), batch_of(toy(dims=DIMS[3]))
    plain = task_loss(bundle.task, method(batch).logits, batch.labels)
    torch.testing.assert_close(method.loss(batch), plain)
    before = method(batch).logits
    with torch.no_grad():
        net_of(method).prompts.normal_()
    assert torch.equal(method(batch).logits, before)
    second = second_stage(bundle).eval()
    started = second(batch).logits
    with torch.no_grad():
        net_of(second).prompts.normal_()
    assert not torch.allclose(second(batch).logits, started)


def test_a_second_stage_needs_a_first(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="no first stage"):
        built(SECOND, bundle).loss(batch_of(bundle))


def test_a_runs_own_weights_come_back_whole(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = second_stage(bundle).eval(), batch_of(toy(dims=DIMS[3]))
    again = built(SECOND, bundle, seed=7).eval()
    again.load_state_dict(method.state_dict())
    assert torch.equal(again(batch).logits, method(batch).logits)


@pytest.mark.parametrize(
    "options", [{"hidden": 30}, {"prompts": 0}, {"dropout": 1.0}, {"orthogonality": -1.0}]
)
def test_sizes_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        MSPsConfig(**options)  # type: ignore[arg-type]
