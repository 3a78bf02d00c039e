"""MulT on frames: how far a frame sees, which one is read, and that what lies behind the last one changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, batch_of, built

from mmlib.backbones.mult_frames import FrameMulT
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.nn.crossings import positions, reachable

Toy = Callable[..., Bundle]
SIZE = {"dropout": 0.0, "hidden": 8, "heads": 2, "layers": 2, "memory": 1}


def network_of(bundle: Bundle, **options: object) -> FrameMulT:
    stage = Stage("reference", "mult_frames", network=tuple({**SIZE, **options}.items()))
    network = built(stage, bundle).backbone
    assert isinstance(network, FrameMulT)
    return network.eval()


def test_how_far_a_frame_sees() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 6, (20, 2))
    real = [torch.arange(t) < torch.tensor(lengths[:, [k]]) for k, t in enumerate((5, 6))]
    real[1] &= torch.tensor(generator.random((20, 6)) < 0.8) | (torch.arange(6) == 0)
    found = reachable(*real)
    for row in range(20):
        ends = [int(np.flatnonzero(x[row].numpy()).max()) for x in real]
        for i in range(5):
            for j in range(6):
                expected = bool(real[1][row, j]) and j <= i + abs(ends[0] - ends[1])
                assert bool(found[row, i, j]) == expected
        assert torch.equal(found[row, ends[0]], real[1][row])  # the last one sees all


def test_the_last_source_frame_changes_no_earlier_frame_of_a_target(toy: Toy) -> None:
    bundle = toy(dims=DIMS[2], frames=4)
    network = network_of(bundle)
    values, real = torch.randn(2, 3, 4, 8), torch.ones(2, 3, 4, dtype=torch.bool)
    before = network.crossed(values, real)
    values = values.clone()
    values[1, :, 3] = torch.randn(3, 8)
    after = network.crossed(values, real)
    torch.testing.assert_close(after[0, :, :3], before[0, :, :3])
    assert not torch.allclose(after[0, :, 3], before[0, :, 3], atol=1e-3)


@pytest.mark.parametrize("tokens", [False, True])
def test_modalities_may_have_different_numbers_of_frames(tokens: bool, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], frames=4)
    network, batch = network_of(bundle, tokens=tokens), batch_of(bundle)
    features = dict(batch.features)
    features["audio"] = torch.cat([features["audio"], 0 * features["audio"]], dim=1)
    torch.testing.assert_close(
        network(batch, features).logits, network(batch, batch.features).logits
    )
    features["audio"] = batch.features["audio"][:, :2]
    assert network(batch, features).logits.isfinite().all()


def test_order_counts(toy: Toy) -> None:
    bundle = toy(dims=DIMS[2], frames=4)
    network, batch = network_of(bundle), batch_of(bundle)
    batch = dataclasses.replace(batch, observed=torch.ones_like(batch.observed))
    features = {m: torch.randn_like(x) for m, x in batch.features.items()}
    turned = {m: x[:, [1, 0, 2, 3]] for m, x in features.items()}
    apart = network(batch, features).logits - network(batch, turned).logits
    assert apart.abs().max() > 1e-3
    angles = np.arange(4)[:, None] / 1e4 ** (np.arange(3) / 3)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    made = positions(4, 6, torch.zeros(1)).numpy()
    np.testing.assert_allclose(made, expected, atol=1e-6)
    with pytest.raises(InputError):
        network_of(bundle, memory=0)
