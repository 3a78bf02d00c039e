"""A reading of ConKI: what its adapters add, and which vectors its contrast draws together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from laws import DIMS, SCORE, batch_of, built, chain
from torch import nn

from mmlib.backbones.conki import Adapted, Bottleneck, ConKI
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.conki import Conki, contrast

Toy = Callable[..., Bundle]
SIZE = (("dropout", 0.0), ("hidden", 6))
FIRST = Stage("unimodal", "conki", network=SIZE)
SECOND = Stage("conki", "conki", "style", network=SIZE)


def method_of(bundle: Bundle, **options: object) -> Conki:
    stage = dataclasses.replace(SECOND, options=tuple(options.items()))
    method = chain([FIRST, stage], bundle)[-1]
    assert isinstance(method, Conki)
    return method


def by_hand(g: np.ndarray, s: np.ndarray, seen: np.ndarray, label: np.ndarray) -> float:
    vectors = [
        (kind, label[i], x[i, m] / np.linalg.norm(x[i, m]))
        for kind, x in enumerate((g, s))
        for i, m in np.argwhere(seen)
    ]
    losses = []
    for a, (kind, y, v) in enumerate(vectors):
        alike = [
            w @ v / 0.1 for b, (k, z, w) in enumerate(vectors) if b != a and (k, z) == (kind, y)
        ]
        unlike = [w @ v / 0.1 for k, _, w in vectors if k != kind]
        total = math.log(sum(map(math.exp, alike + unlike)))
        if alike:
            losses.append(total - float(np.mean(alike)))
    return float(np.mean(losses))


def test_an_adapter_whose_way_up_is_zero_gives_what_it_is_given() -> None:
    encoder, values = Adapted(5, 6), torch.randn(4, 5)
    for adapter in encoder.adapters:
        nn.init.zeros_(cast(Bottleneck, adapter).up.weight)
        nn.init.zeros_(cast(Bottleneck, adapter).up.bias)
    first = encoder.first(values)
    general = torch.relu(encoder.second(first))
    torch.testing.assert_close(encoder(values), torch.cat([general, first + general], dim=1))


def test_the_contrast_by_hand() -> None:
    g, s = torch.randn(7, 3, 4), torch.randn(7, 3, 4)
    seen, label = torch.rand(7, 3) < 0.7, torch.tensor([0, 0, 1, 1, 1, 2, 2])
    seen[5:, :] = torch.tensor([[False, True, False], [False, False, False]])  # alone in its label
    same = label[:, None] == label
    expected = by_hand(g.numpy(), s.numpy(), seen.numpy(), label.numpy())
    assert np.isclose(contrast(g, s, seen, same).item(), expected, rtol=1e-5)
    assert contrast(g, s, seen & False, same) == 0


def test_the_contrast_depends_on_directions_and_on_what_is_there_alone() -> None:
    g, s, seen = torch.randn(6, 3, 4), torch.randn(6, 3, 4), torch.rand(6, 3) < 0.7
    same = torch.eye(6, dtype=torch.bool)
    before = contrast(g, s, seen, same)
    a, b = (x * torch.rand(6, 3, 1).add(0.1) for x in (g, s))
    torch.testing.assert_close(contrast(a, b, seen, same), before)
    a, b = (torch.where(seen[:, :, None], x, torch.randn_like(x)) for x in (g, s))
    torch.testing.assert_close(contrast(a, b, seen, same), before)


def test_the_second_stage_starts_from_encoders_and_adapters_that_learned_alone(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    first, second = chain([FIRST, SECOND], bundle)
    for name, value in first.backbone.state_dict().items():
        assert torch.equal(value, second.backbone.state_dict()[name])
    batch = batch_of(bundle)
    first.loss(batch).backward()
    net = cast(ConKI, first.backbone)
    assert net.joint.weight.grad is None
    for m in DIMS[3]:
        adapter = cast(Bottleneck, cast(Adapted, net.encoders[m]).adapters[0])
        assert adapter.up.weight.grad is not None and adapter.up.weight.grad.any()


def test_the_loss_by_hand(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method, batch = method_of(bundle, contrast=2.0).eval(), batch_of(bundle)
    parts = method.backbone.parts(batch, batch.features)
    g, s = (x.detach().double().numpy() for x in parts[1:])
    label = np.floor(batch.labels.numpy() + 0.5)
    pulled = by_hand(g, s, batch.observed.numpy(), label)
    task = (parts.fused.logits[:, 0] - batch.labels).abs().mean().item()
    assert np.isclose(method.loss(batch).item(), task + 2 * pulled, rtol=1e-4)


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(SECOND, backbone="cubemlp", network=()), bundle)
    with pytest.raises(InputError):
        method_of(bundle, contrast=-1.0)
    with pytest.raises(InputError):
        built(dataclasses.replace(FIRST, network=(("hidden", 0),)), bundle)
