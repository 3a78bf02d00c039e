"""MCTN: which modality a prediction reads, what its translations are held against, and over which rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, SCORE, batch_of, built, peek

from mmlib.backbones.mctn import first_of
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.mctn import Mctn
from mmlib.nn.batch import hide

Toy = Callable[..., Bundle]
STAGE = Stage("mctn", "mctn", network=(("dropout", 0.0), ("hidden", 8)))


def method_of(bundle: Bundle, **options: object) -> Mctn:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, Mctn)
    return method


@pytest.mark.parametrize("present", ["text", "audio", "vision"])
def test_a_prediction_reads_the_first_modality_that_a_row_has(present: str, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network, batch = method_of(bundle).eval().backbone, batch_of(bundle)
    assert network.order == ("text", "audio", "vision")
    behind = network.order[network.order.index(present) :]
    kept = torch.tensor([m in behind for m in network.modalities])
    whole = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    given = hide(whole, kept)
    before = network(given, given.features).logits
    other = {m: x if m == present else torch.randn_like(x) for m, x in given.features.items()}
    torch.testing.assert_close(network(given, other).logits, before, rtol=0, atol=0)
    other[present] = other[present] + 1
    assert not torch.allclose(network(given, other).logits, before, atol=1e-4)


def test_the_chain_by_hand(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network, batch = method_of(bundle).eval().backbone, batch_of(bundle)
    read = network.parts(batch, batch.features).reads["audio"]
    chain = network.chains["audio"]
    assert chain.targets == ["text", "vision"]
    first = network.encoders["audio"](batch.features["audio"])
    text = chain.into["text"](first)
    torch.testing.assert_close(read.made["text"], text)
    torch.testing.assert_close(read.back, chain.back(text))
    last = chain.steps[0](first)
    torch.testing.assert_close(read.made["vision"], chain.into["vision"](last))
    torch.testing.assert_close(read.logits, chain.head(last))


@pytest.mark.parametrize("frames", [0, 3])
def test_the_loss_is_made_of_its_terms(frames: int, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE, frames=frames)
    method = method_of(bundle, weight=0.4).eval()
    looked = peek(bundle)
    method.start_epoch(looked)
    (batch,) = looked.train()
    truth = {}
    for i, m in enumerate(method.modalities):
        x = batch.features[m].numpy()
        if frames:
            real = (x != 0).any(axis=2)
            x = x.sum(axis=1) / np.maximum(real.sum(axis=1, keepdims=True), 1)
        there = x[batch.observed[:, i].numpy()]
        truth[m] = (x - there.mean(axis=0)) / there.std(axis=0)
        seen = truth[m][batch.observed[:, i].numpy()]
        np.testing.assert_allclose(seen.std(axis=0), 1, rtol=1e-4)
    parts = method.backbone.parts(batch, batch.features)
    seen = dict(zip(method.modalities, batch.observed.numpy().T, strict=True))
    expected = 0.0
    for source, read in parts.reads.items():
        gap = np.abs(read.logits[:, 0].detach().numpy() - batch.labels.numpy())
        expected += gap[seen[source]].mean() / 3
        back = (read.back.detach().numpy() - truth[source])[seen[source]]
        expected += 0.4 * (back**2).mean() / 3
        for m, made in read.made.items():
            rows = seen[source] & seen[m]
            expected += 0.4 * ((made.detach().numpy() - truth[m])[rows] ** 2).mean() / 3
    assert np.isclose(method.loss(batch).item(), expected, rtol=1e-4)


def test_a_source_learns_from_the_rows_that_have_it(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle)
    alone = hide(batch_of(bundle), torch.tensor([True, False, False]))
    method.loss(alone).backward()
    for m in method.modalities:
        chain = method.backbone.chains[m]
        learns = bool(chain.head.weight.grad.any())
        assert learns == (m == "audio")
        for to in chain.into.values():
            first = m == "audio" and to is chain.into["text"]  # by the way back
            assert bool(to.weight.grad.any()) == first


def test_the_first_that_is_there() -> None:
    values = [torch.full((4, 1), float(k)) for k in range(3)]
    there = [torch.tensor(x) > 0 for x in ([1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0])]
    assert first_of(values, there)[:, 0].tolist() == [0.0, 1.0, 2.0, 0.0]


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    with pytest.raises(InputError):
        method_of(bundle, weight=-1.0)
    for network in ((("hidden", 0),), (("dropout", 1.0),), (("anchor", "x"),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
