"""GLoMo: what its segments and experts give, which rows its balance counts, and its size as printed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
import torch
from laws import DIMS, SCORE, batch_of, built
from torch import nn

from mmlib.backbones.glomo import Experts, GLoMo, mixed, segments
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.glomo import Glomo, loads, unevenness
from mmlib.nn.batch import hide
from mmlib.nn.frames import FrameConv

Toy = Callable[..., Bundle]
STAGE = Stage("glomo", "glomo", network=(("dropout", 0.0), ("hidden", 8), ("wide", 16)))


def method_of(bundle: Bundle, **options: object) -> Glomo:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, Glomo)
    return method


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8])
def test_segments_are_torchs_adaptive_ones_and_their_largest_is_that_of_all(frames: int) -> None:
    encoder, values = FrameConv(5, 6, 3), torch.randn(4, frames, 5)
    encoded = torch.relu(encoder(values))
    expected = nn.functional.adaptive_max_pool1d(encoded.transpose(1, 2), 3).transpose(1, 2)
    made = segments(encoder, values, torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(made, expected)
    torch.testing.assert_close(made.amax(dim=1), encoded.amax(dim=1))


def test_a_third_without_a_real_frame_gets_the_largest_of_all() -> None:
    encoder, values = FrameConv(5, 6), torch.randn(3, 6, 5)
    values[:, 2:4] = 0
    made = segments(encoder, values, torch.ones(3, dtype=torch.bool))
    there = torch.relu(encoder(values))[:, [0, 1, 4, 5]]
    torch.testing.assert_close(made[:, 1], there.amax(dim=1))
    torch.testing.assert_close(made[:, 0], there[:, :2].amax(dim=1))


def test_equal_experts_give_what_each_of_them_gives() -> None:
    one = torch.randn(2, 1, 5, 4)
    gates = torch.tensor([0.3, 0.7, 0.0])[None, :, None].expand(2, 3, 5)
    torch.testing.assert_close(mixed(one.expand(-1, 3, -1, -1), gates), one[:, 0])
    two = torch.randn(2, 3, 5, 4)
    by_hand = torch.log(0.3 * two[:, 0].exp() + 0.7 * two[:, 1].exp())
    torch.testing.assert_close(mixed(two, gates), by_hand)


def test_a_row_goes_to_two_experts_whose_gates_add_up_to_one() -> None:
    experts = Experts(3, 12, 4, 5, 2).train()
    nn.init.normal_(experts.noise)
    made, routed = experts(torch.randn(3, 9, 12))
    assert ((routed.gates > 0).sum(dim=2) == 2).all() and made.isfinite().all()
    torch.testing.assert_close(routed.gates.sum(dim=2), torch.ones(3, 9))
    assert not torch.equal(routed.noisy, routed.clean)
    made.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in experts.parameters())
    routed = experts.eval().route(torch.randn(3, 9, 12))
    assert torch.equal(routed.noisy, routed.clean)
    equal = experts.route(torch.zeros(3, 2, 12)).gates  # no score is the largest
    assert ((equal > 0).sum(dim=2) == 2).all()


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_a_load_is_the_chance_to_be_among_the_kept(shift: float) -> None:
    routed = Experts(1, 6, 4, 4, 2).train().route(torch.randn(1, 7, 6))
    made, law = loads(routed, 2, shift), NormalDist(shift)
    for n in range(7):
        for e in range(4):
            others = sorted(routed.noisy[0, n, [k for k in range(4) if k != e]].tolist())
            away = (routed.clean[0, n, e].item() - others[-2]) / routed.noise[0, n, e].item()
            assert math.isclose(made[0, n, e].item(), law.cdf(away), abs_tol=1e-5)
    assert (loads(routed, 4, shift) == 1).all()


def test_the_balance_is_over_the_rows_that_have_a_modality(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method, batch = method_of(bundle, balance=2.0).eval(), batch_of(bundle)
    parts = method.backbone.parts(batch, batch.features)
    total = 0.0
    for m in range(3):
        rows = batch.observed[:, m]
        for each in (parts.routed.gates, loads(parts.routed, 2, 0.0)):
            sums = each[m][rows].detach().sum(dim=0).numpy()
            total += sums.var(ddof=1) / sums.mean() ** 2
    task = (parts.fused.logits[:, 0] - batch.labels).abs().mean().item()
    assert np.isclose(method.loss(batch).item(), task + 2 * total, rtol=1e-4)
    assert unevenness(torch.ones(2, 3)).sum() == 0 and unevenness(torch.zeros(2, 3)).sum() == 0


def test_a_single_modality_has_all_the_weight(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle).eval(), batch_of(bundle)
    alone = hide(batch, torch.tensor([False, True, False]))
    net = method.backbone
    tokens = torch.randn(len(batch), 3, 8)
    weights = net.of_global(tokens, alone.observed)
    rows = alone.observed[:, 1]
    assert (weights[rows][:, 1] == 1).all() and (weights[rows][:, [0, 2]] == 0).all()


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    with pytest.raises(InputError):
        method_of(bundle, balance=-1.0)
    for network in ((("kept", 4),), (("hidden", 3),), (("kernel", 2),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
    assert isinstance(method_of(bundle).backbone, GLoMo)
