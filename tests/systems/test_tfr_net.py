"""TFR-Net: what is reconstructed, what the prediction does not read, and what its gates let through."""

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
from mmlib.methods.tfr_net import TfrNet
from mmlib.nn.batch import hide
from mmlib.nn.completion import known

Toy = Callable[..., Bundle]
SIZE = (("dropout", 0.0), ("fusion", 7), ("hidden", 8), ("heads", 2), ("layers", 1))
STAGE = Stage("tfr_net", "tfr_net", network=SIZE)


def method_of(bundle: Bundle, **options: object) -> TfrNet:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, TfrNet)
    return method


def test_the_prediction_does_not_read_the_generators(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle).eval(), batch_of(bundle)
    before = method(batch).logits
    with torch.no_grad():
        for p in method.backbone.generators.parameters():
            p.normal_()
    torch.testing.assert_close(method(batch).logits, before, rtol=0, atol=0)


def test_nothing_hidden_gives_nothing_to_reconstruct(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    batch = batch_of(bundle)
    values = []
    for weight in (0.0, 3.0):
        method = method_of(bundle, weight=weight, dropped=0.0).eval()
        values.append(method.loss(batch).item())
    assert values[0] == values[1]


@pytest.mark.parametrize("targets", ["selfdrop", "complete"])
@pytest.mark.parametrize("frames", [0, 3])
def test_the_loss_is_made_of_its_terms(targets: str, frames: int, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE, frames=frames)
    batch = batch_of(bundle)
    method = method_of(bundle, targets=targets, weight=0.5).eval()
    assert method.backbone.needs_complete == (targets == "complete")
    torch.manual_seed(4)
    found = method.loss(batch).item()
    torch.manual_seed(4)
    division = known(batch, targets, 0.5)
    parts = method.backbone.parts(division.given, division.given.features)
    expected = (parts.fused.logits[:, 0] - batch.labels).abs().mean().item()
    for i, m in enumerate(method.modalities):
        errors = []
        for row in range(len(batch)):
            if division.wanted[row, i]:
                x = division.whole.features[m][row].numpy()
                if frames:
                    x = x[(x != 0).any(axis=1)].mean(axis=0)
                gap = np.abs(parts.made[m][row].detach().numpy() - x)
                errors.append(np.where(gap < 1, gap**2 / 2, gap - 0.5).mean())
        expected += 0.5 * np.mean(errors) if errors else 0.0
    assert np.isclose(found, expected, rtol=1e-4)


def test_gates_let_the_largest_value_of_what_is_there_through(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network, batch = method_of(bundle).backbone, batch_of(bundle)
    joined = torch.randn(len(batch), 3, 16)
    found = network.largest(joined, batch.observed).detach()
    for row, seen in enumerate(batch.observed.tolist()):
        each = [
            torch.sigmoid(network.gates[i](joined[row, i]))
            * torch.tanh(network.maps[i](joined[row, i]))
            for i in range(3)
            if seen[i]
        ]
        torch.testing.assert_close(found[row], torch.stack(each).max(dim=0).values.detach())
    assert not network.largest(joined, torch.zeros_like(batch.observed)).any()


def test_what_is_made_of_a_missing_modality_depends_on_the_others(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    network = method_of(bundle).eval().backbone
    batch = batch_of(bundle)
    whole = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    gone = hide(whole, torch.tensor([True, False, True]))
    parts = network.parts(gone, gone.features)
    assert parts.made["text"].std(dim=0).min() > 1e-4
    assert not parts.fused.z["text"][:, :8].any()
    lonely = hide(whole, torch.tensor([False, False, True]))
    other = network.parts(lonely, lonely.features).made["text"]
    assert not torch.allclose(other, parts.made["text"], atol=1e-4)


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    with pytest.raises(InputError):
        method_of(bundle, targets="x")
    for network in ((("hidden", 3),), (("layers", 0),), (("dropout", 1.0),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
