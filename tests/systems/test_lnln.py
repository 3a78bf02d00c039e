"""LNLN: when the stand-in for the text counts, whose gradient is turned round, and what its losses are held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from laws import DIMS, SCORE, batch_of, built
from torch import nn

from mmlib.backbones.lnln import LNLN
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.lnln import Lnln
from mmlib.nn.batch import hide
from mmlib.nn.completion import known

Toy = Callable[..., Bundle]
SIZE = (("dropout", 0.0), ("hidden", 8), ("heads", 2), ("layers", 1), ("depth", 1), ("tokens", 3))
STAGE = Stage("lnln", "lnln", network=SIZE)


def method_of(bundle: Bundle, turned: bool = False, **options: object) -> Lnln:
    network = (*SIZE, ("turned", turned))
    stage = dataclasses.replace(STAGE, network=network, options=tuple(options.items()))
    method = built(stage, bundle)
    assert isinstance(method, Lnln)
    return method


def fixed_completeness(network: LNLN, logit: float) -> None:
    last = network.completeness[2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, logit)


@pytest.mark.parametrize(("logit", "counts"), [(50.0, False), (-50.0, True)])
def test_the_stand_in_counts_where_the_text_is_not_complete(
    logit: float, counts: bool, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[3])
    network, batch = method_of(bundle).eval().backbone, batch_of(bundle)
    fixed_completeness(network, logit)
    before = network(batch, batch.features).logits
    with torch.no_grad():
        for p in network.proxy.parameters():
            p.normal_()
    assert torch.allclose(network(batch, batch.features).logits, before) != counts
    parts = network.parts(batch, batch.features)
    text = network.embed(batch, batch.features)["text"]
    if not counts:
        torch.testing.assert_close(parts.text, text)


@pytest.mark.parametrize("turned", [False, True])
def test_the_tasks_gradient_of_the_stand_in_is_turned_round_where_released(
    turned: bool, toy: Toy
) -> None:
    """By finite differences in a random direction."""
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle, turned).eval().double(), batch_of(bundle)
    features = {m: x.double() for m, x in batch.features.items()}
    network = method.backbone
    weight = network.proxy.first
    direction = torch.randn_like(weight)

    def task() -> torch.Tensor:
        return F.cross_entropy(network(batch, features).logits, batch.labels)

    (gradient,) = torch.autograd.grad(task(), weight)
    values = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight += step * direction
            values.append(task().item())
            weight -= step * direction
    slope = (values[0] - values[1]) / 2e-5
    assert abs(slope) > 1e-6
    found = (gradient * direction).sum().item()
    assert np.isclose(found, -slope if turned else slope, rtol=1e-4)


def test_the_discriminator_learns_to_tell_and_the_stand_in_to_deceive(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle).eval(), batch_of(bundle)
    network = method.backbone
    seen = batch.observed

    def told() -> torch.Tensor:
        parts = network.parts(batch, batch.features)
        truth = torch.stack(list(network.embed(batch, batch.features).values()), dim=1)
        return method.told_apart(parts, truth, seen)

    for part, sign in ((network.proxy, 1), (method.discriminator, -1)):
        before = told()
        weights = list(part.parameters())
        pulls = torch.autograd.grad(before, weights, allow_unused=True)
        with torch.no_grad():
            for p, g in zip(weights, pulls, strict=True):
                if g is not None:
                    p -= 1e-2 * g
        assert sign * (told() - before).item() > 0
    parts = network.parts(batch, batch.features)
    logits = method.discriminator(parts.text).log_softmax(dim=2)[..., 1]
    text = network.embed(batch, batch.features)["text"][seen[:, 1]]
    own = method.discriminator(text).log_softmax(dim=2)[..., 0]
    torch.testing.assert_close(told(), -(logits.mean() + own.mean()) / 2)


@pytest.mark.parametrize("targets", ["selfdrop", "complete"])
def test_the_loss_is_made_of_its_terms(targets: str, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    batch = batch_of(bundle)
    method = method_of(bundle, targets=targets, adversary=0.0, weight=0.5, completeness=2.0).eval()
    network = method.backbone
    assert network.needs_complete == (targets == "complete")
    torch.manual_seed(4)
    found = method.loss(batch)
    torch.manual_seed(4)
    division = known(batch, targets, 0.5)
    parts = network.parts(division.given, division.given.features)
    expected = ((parts.fused.logits[:, 0] - batch.labels) ** 2).mean()
    there = division.given.observed[:, 1].float()
    made = network.remade(parts.tokens, division.given.observed)
    expected = expected + 2 * ((parts.complete[:, 0] - there) ** 2).mean()
    gaps = []
    for i, m in enumerate(network.modalities):
        for row in range(len(batch)):
            if division.wanted[row, i]:
                x = division.whole.features[m][[row]]
                truth = network.encoders[m](x, torch.tensor([True]))[0]
                gaps.append(((made[row, i] - truth) ** 2).mean())
    assert len(gaps) > 3
    torch.testing.assert_close(found, expected + 0.5 * torch.stack(gaps).mean())


def test_noise_takes_a_share_of_the_texts_coordinates_and_says_which(toy: Toy) -> None:
    bundle = toy(dims={"audio": 6, "text": 400})
    method, batch = method_of(bundle, noise=0.6), batch_of(bundle)
    batch = dataclasses.replace(batch, features={m: x + 9 for m, x in batch.features.items()})
    batch = hide(batch, torch.ones(2) > 0)
    noised, complete = method.noised(batch)
    torch.testing.assert_close(noised.features["audio"], batch.features["audio"])
    left = (noised.features["text"] != 0).float().mean(dim=1)
    assert (left - complete).abs().max() < 0.12
    assert not complete[~batch.observed[:, 1]].any()
    there = complete[batch.observed[:, 1]]
    assert (there == 1).any() and (there < 0.8).any()
    same, whole = method_of(bundle).noised(batch)
    assert same is batch and torch.equal(whole, batch.observed[:, 1].float())


@pytest.mark.parametrize("attached", [True, False])
def test_true_tokens_learn_from_the_reconstruction_where_attached(attached: bool, toy: Toy) -> None:
    bundle = toy(dims=DIMS[2], lacking=0.0)
    options = {"adversary": 0.0, "completeness": 0.0, "targets": "complete", "attached": attached}
    method = method_of(bundle, **options)
    batch = hide(batch_of(bundle), torch.tensor([False, True]))
    method.loss(batch).backward()
    gradient = method.backbone.encoders["audio"].encoder.conv.linear.weight.grad
    assert (gradient is not None and bool(gradient.any())) == attached


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    with pytest.raises(InputError):
        method_of(bundle, noise=-1.0)
    for network in ((("hidden", 3),), (("layers", 0),), (("dropout", 1.0),), (("anchor", "x"),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
