"""TETFN: what the text adds to a source, and which modalities a prediction of its own and the fused one read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from laws import DIMS, batch_of, built

from mmlib.backbones.tetfn import TETFN
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.nn.batch import hide

Toy = Callable[..., Bundle]
SIZE = {"dropout": 0.0, "hidden": 8, "heads": 2, "layers": 1, "own": 5}


def network_of(bundle: Bundle, **options: object) -> TETFN:
    stage = Stage("own_labels", "tetfn", network=tuple({**SIZE, **options}.items()))
    network = built(stage, bundle).backbone
    assert isinstance(network, TETFN)
    return network


def test_sources_are_enhanced_by_the_text_alone(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network, batch = network_of(bundle), batch_of(bundle)
    given = []
    network.crossings.register_forward_pre_hook(lambda _, values: given.append(values))
    network(batch, batch.features)
    targets, sources, allowed = given[0]
    h = {m: network.encoders[m](batch.features[m]) for m in network.modalities}
    text = torch.where(batch.observed[:, 1, None], h["text"], network.absent)
    order = [("audio", "text"), ("audio", "vision"), ("text", "audio"), ("text", "vision")]
    for number, (target, source) in enumerate([*order, ("vision", "audio"), ("vision", "text")]):
        expected = h[source]
        if source != "text":
            expected = expected + network.enhance[source](network.norm(text))
        torch.testing.assert_close(sources[number, :, 0], expected)
        torch.testing.assert_close(targets[number, :, 0], h[target])
        there = batch.observed[:, network.modalities.index(source)]
        assert torch.equal(allowed[number, :, 0, 0], there)


def test_own_predictions_read_their_modality_and_a_missing_target_is_zeros(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network, batch = network_of(bundle), batch_of(bundle)
    network.unimodal(network(batch, batch.features))["audio"].sum().backward()
    for m, encoder in network.encoders.items():
        grads = [p.grad for p in encoder.parameters()]
        assert any(g is not None and bool(g.any()) for g in grads) == (m == "audio")
    assert all(p.grad is None for p in network.crossings.parameters())
    whole = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    alone = hide(whole, torch.tensor([False, False, True]))
    joined = []
    network.tail.register_forward_pre_hook(lambda _, values: joined.append(values[0]))
    network(alone, alone.features)
    assert not joined[0][:, :32].any() and joined[0][:, 32:].any()


def test_a_learned_vector_enhances_where_the_text_is_missing(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network, batch = network_of(bundle), batch_of(bundle)
    whole = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    for kept, learns in ((torch.tensor([True, False, True]), True), (torch.ones(3) > 0, False)):
        network.zero_grad()
        given = hide(whole, kept)
        with torch.no_grad():
            network.absent.normal_()
        network(given, given.features).logits.square().sum().backward()
        assert network.absent.grad is not None and bool(network.absent.grad.any()) == learns


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    assert network_of(toy(dims={"a": 3, "b": 4})).anchor == "a"
    for wrong in ({"heads": 3}, {"own": 0}, {"dropout": 1.0}, {"anchor": "x"}):
        with pytest.raises(InputError):
            network_of(toy(dims=DIMS[3]), **wrong)
