"""EUAR: what its gates add up to, what its experts are held to, and what the released reading leaves untaught."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import CLASSES, DIMS, SCORE, batch_of, built

from mmlib.backbones.euar import EUAR, Parts
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.euar import Euar, balance, divergence, uncertainty
from mmlib.nn.backbone import Fused

Toy = Callable[..., Bundle]
STAGE = Stage("euar", "euar", network=(("hidden", 8),))
RELEASED = (("hidden", 8), ("across", "batch"), ("drawn", False))


def method_of(bundle: Bundle, network: object = STAGE.network, **options: object) -> Euar:
    stage = dataclasses.replace(STAGE, options=tuple(options.items()), network=network)  # type: ignore[arg-type]
    method = built(stage, bundle)
    assert isinstance(method, Euar)
    return method


@pytest.mark.parametrize("drawn", [False, True])
def test_the_task_teaches_variances_only_where_experts_give_draws(drawn: bool, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle, (("hidden", 8), ("drawn", drawn)), experts=0.0).train()
    method.loss(batch_of(bundle)).backward()
    gradient = method.backbone.log_variance.weight.grad
    assert (gradient is not None and bool(gradient.any())) is drawn


def test_a_row_keeps_three_gates_that_add_up_to_one(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle).eval(), batch_of(bundle)
    parts, seen = method.backbone.parts(batch, batch.features), batch.observed.t()
    assert ((parts.gates > 0).sum(dim=2) == 3 * seen).all()
    torch.testing.assert_close(parts.gates.sum(dim=2), seen.float())
    ordered = parts.gates[seen].sort(dim=1).indices, parts.shares[seen].sort(dim=1).indices
    assert torch.equal(*ordered)


def test_released_gates_of_an_expert_add_up_to_the_rows_and_depend_on_them(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    net, batch = method_of(bundle, RELEASED).eval().backbone, batch_of(bundle)
    parts, seen = net.parts(batch, batch.features), batch.observed.t()
    used = (parts.gates > 0).any(dim=1)
    rows = seen.sum(dim=1, keepdim=True).expand(-1, 4).float()
    torch.testing.assert_close(parts.gates.sum(dim=1), torch.where(used, rows, 0.0))
    shares = parts.shares[:1, :1]
    alone = net.gates(shares, torch.ones(1, 1, 1, dtype=torch.bool))
    assert sorted(alone.flatten().tolist()) == pytest.approx([0, 1, 1, 1])


def test_the_balance_of_even_experts_is_the_number_that_is_kept() -> None:
    shares = torch.full((2, 8, 4), 0.25)
    gates = torch.ones(2, 8, 4)
    gates[:, torch.arange(8), torch.arange(8) % 4] = 0
    empty = torch.zeros(0)
    parts = Parts(Fused({}, empty, empty), shares, gates, empty, empty)
    torch.testing.assert_close(
        balance(parts, torch.ones(2, 8, dtype=torch.bool)), torch.full((2,), 3.0)
    )


@pytest.mark.parametrize("network", [STAGE.network, RELEASED], ids=["own", "released"])
@pytest.mark.parametrize("task", [CLASSES, SCORE], ids=lambda t: t.kind)
def test_the_terms_by_hand(network: object, task: object, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=task)
    method = method_of(bundle, network, experts=0.5).eval()
    batch = batch_of(bundle)
    parts, seen = method.backbone.parts(batch, batch.features), batch.observed
    p, g, mean, log_variance = (x.detach().double().numpy() for x in parts[1:])
    total = 0.0
    for m in range(3):
        rows = np.flatnonzero(seen[:, m].numpy())
        going = (g[m, rows] > 0).mean(axis=0)
        even = 16 * np.mean(going * p[m, rows].mean(axis=0))
        laws = torch.distributions.Normal(
            torch.tensor(mean[m][:, rows]), torch.tensor(np.exp(log_variance[m][:, rows] / 2))
        )
        standard = torch.distributions.Normal(0.0, 1.0)
        far = torch.distributions.kl_divergence(laws, standard).sum(dim=2).mean().item()
        unsure = np.mean([sum(g[m, i] * np.exp(log_variance[m][:, i]).sum(axis=1)) for i in rows])
        made = [x(parts, seen.t())[m].item() for x in (balance, divergence, uncertainty)]
        np.testing.assert_allclose(made, [even, far, unsure], rtol=1e-4)
        total += even + far + unsure
    expected = 10 * method.fused_loss(batch, parts.fused).item() + 0.5 * total
    assert np.isclose(method.loss(batch).item(), expected, rtol=1e-4)


def test_a_prediction_is_made_of_means(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle), batch_of(bundle)
    with torch.no_grad():
        drawn = [method.train()(batch).logits for _ in range(2)]
        assert not torch.equal(*drawn)
        assert torch.equal(*[method.eval()(batch).logits for _ in range(2)])


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    with pytest.raises(InputError):
        method_of(bundle, experts=-1.0)
    for network in ((("kept", 5),), (("across", "epoch"),), (("hidden", 0),)):
        with pytest.raises(InputError):
            method_of(bundle, network)
    assert isinstance(method_of(bundle).backbone, EUAR)
