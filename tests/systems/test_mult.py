"""MulT: what its queries learn, what a source of zeros adds, and what a pair's layers are by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from laws import DIMS, batch_of, built

from mmlib.backbones.mult import MulT
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.nn.batch import hide
from mmlib.nn.crossings import Crossings, pairs

Toy = Callable[..., Bundle]
SIZE = {"dropout": 0.0, "hidden": 8, "heads": 2, "layers": 2}


def network_of(bundle: Bundle, **options: object) -> MulT:
    stage = Stage("reference", "mult", network=tuple({**SIZE, **options}.items()))
    network = built(stage, bundle).backbone
    assert isinstance(network, MulT)
    return network


@pytest.mark.parametrize(
    ("count", "tokens", "asks"), [(3, False, False), (2, True, False), (3, True, True)]
)
def test_queries_and_keys_learn_where_there_is_more_than_one_key(
    count: int, tokens: bool, asks: bool, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[count])
    network, batch = network_of(bundle, tokens=tokens), batch_of(bundle)
    network(batch, batch.features).logits.square().sum().backward()
    for name, p in network.named_parameters():
        if ".query." in name or ".key." in name:
            assert p.grad is not None and bool(p.grad.any()) == asks, name
        elif ".value." in name:
            assert p.grad is not None and p.grad.any(), name


def test_a_source_of_zeros_adds_the_same_to_every_row(toy: Toy) -> None:
    bundle = toy(dims=DIMS[2])
    network = network_of(bundle, layers=1)
    batch = batch_of(bundle)
    whole = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    features = {**batch.features, "text": torch.zeros_like(batch.features["text"])}
    (layer,) = network.crossings.layers
    with torch.no_grad():
        for p in (layer.first.weight, layer.first.bias, layer.narrow.weight, layer.narrow.bias):
            p.normal_()
        layer.narrow.weight.zero_()
        layer.narrow.bias.zero_()
        network.crossings.norm = torch.nn.Identity()
        read = network(whole, features).z["audio"]
        own = network.encoders["audio"](batch.features["audio"]) * 8**0.5
        added = read - own
    told = layer.first.bias[0] @ layer.value.weight[0] + layer.value.bias[0, 0]
    constant = told @ layer.out.weight[0] + layer.out.bias[0, 0]
    torch.testing.assert_close(added, constant.expand_as(added))


def test_a_pairs_layers_are_pytorchs(toy: Toy) -> None:
    """torch's attention and norms, group by group and row by row, with the keys that a query may see."""
    crossings = Crossings(3, 8, 2, 2, 0.0)
    for p in crossings.parameters():
        p.data.normal_(std=0.3)
    targets, sources = torch.randn(3, 4, 5, 8), torch.randn(3, 4, 6, 8)
    allowed = torch.rand(3, 4, 5, 6) < 0.5
    allowed[..., 0] = True
    found = crossings(targets, sources, allowed)
    for g in range(3):
        z, source = targets[g], sources[g]
        for layer in crossings.layers:
            names = (layer.first.weight[g], layer.first.bias[g])
            asked, told = (F.layer_norm(x, (8,), *names) for x in (z, source))
            weights = [getattr(layer, n).weight[g].t() for n in ("query", "key", "value", "out")]
            biases = [getattr(layer, n).bias[g, 0] for n in ("query", "key", "value", "out")]
            attended, _ = F.multi_head_attention_forward(
                asked.transpose(0, 1),
                told.transpose(0, 1),
                told.transpose(0, 1),
                8,
                2,
                torch.cat(weights[:3]),
                torch.cat(biases[:3]),
                None,
                None,
                False,
                0.0,
                weights[3],
                biases[3],
                attn_mask=~allowed[g].repeat_interleave(2, dim=0),
            )
            z = z + attended.transpose(0, 1)
            normed = F.layer_norm(z, (8,), layer.second.weight[g], layer.second.bias[g])
            inner = F.relu(normed @ layer.widen.weight[g] + layer.widen.bias[g, 0])
            z = z + inner @ layer.narrow.weight[g] + layer.narrow.bias[g, 0]
        expected = F.layer_norm(z, (8,), crossings.norm.weight[g], crossings.norm.bias[g])
        torch.testing.assert_close(found[g], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [False, True])
def test_a_missing_source_updates_nothing_and_a_missing_target_is_zeros(
    tokens: bool, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[2])
    network, batch = network_of(bundle, tokens=tokens), batch_of(bundle)
    whole = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    alone = hide(whole, torch.tensor([True, False]))
    z = network(alone, alone.features).z
    assert not z["text"].any()
    values = network.encoders["audio"](batch.features["audio"])[None, :, None] * 8**0.5
    targets = values.expand(2, -1, -1, -1)
    nothing = torch.zeros(2, len(batch), 1, 1, dtype=torch.bool)
    crossed = network.crossings(targets, torch.randn_like(targets), nothing)
    torch.testing.assert_close(z["audio"], crossed[0, :, 0])


def test_pairs_of_one_target_stand_together() -> None:
    assert pairs(3) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    for wrong in ({"heads": 3}, {"layers": 0}, {"dropout": 1.0}, {"hidden": 0}):
        with pytest.raises(InputError):
            network_of(toy(dims=DIMS[3]), **wrong)
