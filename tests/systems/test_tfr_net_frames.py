"""TFR-Net on frames: which frames are reconstructed, what a dropped one is made from, and what the prediction reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, SCORE, batch_of, built

from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.tfr_net_frames import FrameTfrNet
from mmlib.nn.completion import known

Toy = Callable[..., Bundle]
SIZE = (("dropout", 0.0), ("fusion", 7), ("hidden", 8), ("heads", 2), ("layers", 1))
STAGE = Stage("tfr_net_frames", "tfr_net_frames", network=SIZE)


def method_of(bundle: Bundle, **options: object) -> FrameTfrNet:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, FrameTfrNet)
    return method


@pytest.mark.parametrize("targets", ["selfdrop", "complete"])
def test_the_loss_is_over_frames_that_are_known_and_were_not_given(targets: str, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE, frames=4)
    batch = batch_of(bundle)
    method = method_of(bundle, targets=targets, weight=0.5, frames=0.4).eval()
    torch.manual_seed(4)
    found = method.loss(batch).item()
    torch.manual_seed(4)
    division = known(batch, targets, 0.5)
    given = method.fewer(division.given)
    parts = method.backbone.parts(given, given.features)
    expected = (parts.fused.logits[:, 0] - batch.labels).abs().mean().item()
    for m in method.modalities:
        errors = []
        for row in range(len(batch)):
            for step in range(4):
                x = division.whole.features[m][row, step].numpy()
                if x.any() and not given.features[m][row, step].any():
                    gap = np.abs(parts.made[m][row, step].detach().numpy() - x)
                    errors.append(np.where(gap < 1, gap**2 / 2, gap - 0.5).mean())
        assert errors
        expected += 0.5 * np.mean(errors)
    assert np.isclose(found, expected, rtol=1e-4)


def test_training_drops_the_share_of_frames_that_is_asked_for(toy: Toy) -> None:
    bundle = toy(dims=DIMS[2], frames=4)
    batch = batch_of(bundle)
    features = {m: torch.ones(len(batch), 400, x.shape[2]) for m, x in batch.features.items()}
    batch = dataclasses.replace(batch, features=features)
    left = method_of(bundle, frames=0.3).fewer(batch).features["text"]
    assert torch.equal(left.amin(dim=2), left.amax(dim=2))
    assert np.isclose(left.mean().item(), 0.7, atol=0.02)
    none = method_of(bundle, frames=0.0).fewer(batch).features
    torch.testing.assert_close(none, features)


def test_a_dropped_frame_is_made_from_the_frames_that_are_there(toy: Toy) -> None:
    bundle = toy(dims=DIMS[2], frames=4)
    network, batch = method_of(bundle).eval().backbone, batch_of(bundle)
    batch = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    features = {m: torch.randn_like(x) for m, x in batch.features.items()}
    features["text"][:, 1] = 0
    before = network.parts(batch, features).made["text"][:, 1]
    for m, step in (("text", 3), ("audio", 0)):
        other = {k: x.clone() for k, x in features.items()}
        other[m][:, step] = torch.randn_like(other[m][:, step])
        after = network.parts(batch, other).made["text"][:, 1]
        assert ((after - before).abs().amax(dim=1) > 1e-5).all()


def test_the_prediction_reads_neither_generators_nor_dropped_frames(toy: Toy) -> None:
    bundle = toy(dims=DIMS[2], frames=4)
    network, batch = method_of(bundle).eval().backbone, batch_of(bundle)
    before = network(batch, batch.features).logits
    with torch.no_grad():
        for p in network.generators.parameters():
            p.normal_()
    torch.testing.assert_close(network(batch, batch.features).logits, before, rtol=0, atol=0)
    joined, real = torch.randn(2, 5, 4, 16), torch.rand(2, 5, 4) < 0.5
    real[0, 0] = False
    found = network.largest(joined, real)
    assert not found[0, 0].any()
    for m in range(2):
        for row in range(5):
            frames = joined[m, row][real[m, row]]
            if len(frames):
                gates = torch.sigmoid(frames @ network.gates.weight[m] + network.gates.bias[m])
                values = torch.tanh(frames @ network.maps.weight[m] + network.maps.bias[m])
                torch.testing.assert_close(found[m, row], (gates * values).max(dim=0).values)


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], frames=3)
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    for options in ({"targets": "x"}, {"frames": 1.0}):
        with pytest.raises(InputError):
            method_of(bundle, **options)
    for network in ((("hidden", 3),), (("layers", 0),), (("dropout", 1.0),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
