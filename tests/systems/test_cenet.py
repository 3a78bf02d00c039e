"""CENET: what the text is without its shift, when its attention asks anything, and what stands for a missing text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, batch_of, built

from mmlib.backbones.cenet import CENET
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.nn.batch import hide

Toy = Callable[..., Bundle]


def network_of(bundle: Bundle, **options: object) -> CENET:
    given = {"dropout": 0.0, "hidden": 6, **options}
    network = built(Stage("reference", "cenet", network=tuple(given.items())), bundle).backbone
    assert isinstance(network, CENET)
    return network


@pytest.mark.parametrize("frames", [0, 4])
def test_without_a_shift_the_prediction_is_that_of_the_text(frames: int, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], frames=frames)
    network, batch = network_of(bundle).eval(), batch_of(bundle)
    batch = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    other = {m: torch.randn_like(x) if m != "text" else x for m, x in batch.features.items()}
    assert not torch.allclose(
        network(batch, other).logits, network(batch, batch.features).logits, atol=1e-4
    )
    with torch.no_grad():
        network.shift.weight.zero_()
        network.shift.bias.zero_()
    torch.testing.assert_close(network(batch, other).logits, network(batch, batch.features).logits)


@pytest.mark.parametrize(("frames", "asks"), [(0, False), (4, True)])
def test_queries_and_keys_learn_over_frames_alone(frames: int, asks: bool, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], frames=frames)
    network, batch = network_of(bundle), batch_of(bundle)
    network(batch, batch.features).logits.square().sum().backward()
    for m in ("audio", "vision"):
        query, told = network.query[m].weight.grad, network.told[m].weight.grad
        assert query is not None and told is not None
        assert bool(query.any()) == asks == bool(told[:6].any())
        assert told[6:].any()


def test_the_attention_by_hand(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network = network_of(bundle, sharpness=0.5)
    text, context = torch.randn(2, 3, 6), torch.randn(2, 4, 6)
    seen = torch.tensor([[True, True, False, True], [False] * 4])
    found = network.found("audio", text, context, seen).detach().numpy()
    layer, asked = network.told["audio"], network.query["audio"](text)
    key, value = layer(context)[..., :6], layer(context)[..., 6:]
    for step in range(3):
        weights = [
            math.exp(0.5 * (asked[0, step] @ key[0, k]).item()) if seen[0, k] else 0
            for k in range(4)
        ]
        expected = sum(w * value[0, k].detach().numpy() for k, w in enumerate(weights))
        np.testing.assert_allclose(found[0, step], expected / sum(weights), atol=1e-5)
    assert np.isfinite(found[1]).all()


def test_a_missing_text_is_a_vector_that_learns_and_another_modality_leaves_the_shift(
    toy: Toy,
) -> None:
    bundle = toy(dims=DIMS[3])
    network = network_of(bundle)
    batch = batch_of(bundle)
    batch = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    gone = hide(batch, torch.tensor([True, False, True]))
    network(gone, gone.features).logits.square().sum().backward()
    assert network.absent.grad is not None and network.absent.grad.any()
    network.zero_grad()
    gone = hide(batch, torch.tensor([False, True, True]))
    network(gone, gone.features).logits.square().sum().backward()
    gradient = network.shift.weight.grad
    assert gradient is not None and not gradient[:, :6].any() and gradient[:, 6:].any()
    assert not network.absent.grad.any()


def test_the_anchor_is_the_first_modality_where_there_is_no_text(toy: Toy) -> None:
    assert network_of(toy(dims={"a": 3, "b": 4})).anchor == "a"
    assert network_of(toy(dims=DIMS[3]), anchor="vision").others == ("audio", "text")
    for wrong in ({"anchor": "x"}, {"layers": 0}, {"hidden": 0}, {"dropout": 1.0}):
        with pytest.raises(InputError):
            network_of(toy(dims=DIMS[3]), **wrong)
