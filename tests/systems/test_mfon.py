"""MFON: what its contrast cannot fall below, when it agrees with its teachers, and where these play a part."""

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

from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.mfon import Mfon, contrast, divergence
from mmlib.nn.batch import hide
from mmlib.nn.crossings import CrossLayer

Toy = Callable[..., Bundle]
SIZE = (("dropout", 0.0), ("entering", 0.0), ("hidden", 8), ("heads", 2))
FIRST, SECOND = Stage("unimodal", "mfon", network=SIZE), Stage("mfon", "mfon", network=SIZE)


def method_of(bundle: Bundle, **options: object) -> Mfon:
    stage = dataclasses.replace(SECOND, options=tuple(options.items()))
    method = chain([FIRST, stage], bundle)[-1]
    assert isinstance(method, Mfon)
    return method


def test_the_contrast_stays_above_a_bound_without_a_temperature() -> None:
    n = 32
    bound = math.log(1 + (n - 1) * math.exp(-2))
    assert math.isclose(bound, 1.65, abs_tol=0.01)
    counts = torch.ones(n, dtype=torch.bool)
    best = (
        2 * torch.eye(n) - 1
    )  # every row as near to its own, and as far from others, as cosines go
    assert math.isclose(contrast(best, counts).item(), bound, rel_tol=1e-5)
    for _ in range(5):
        scores = torch.rand(n, n) * 2 - 1
        assert contrast(scores, counts) > bound


def test_a_constant_difference_is_agreement_with_a_teacher() -> None:
    wanted, made = torch.randn(6, 2, 8).double(), torch.randn(6, 2, 8).double()
    assert (divergence(wanted, wanted + 3.0).abs() < 1e-12).all()
    laws = [torch.distributions.Categorical(logits=x) for x in (wanted, made)]
    expected = torch.distributions.kl_divergence(*laws)
    torch.testing.assert_close(divergence(wanted, made), expected)
    assert (expected > 0).all()


def test_teachers_stay_and_play_no_part_in_a_prediction(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle), batch_of(bundle)
    method.train().loss(batch).backward()
    assert all(p.grad is None for p in method.net.teachers.parameters())
    assert not any(module.training for module in method.net.teachers.modules())
    before = method.eval()(batch).logits
    with torch.no_grad():
        for p in method.net.teachers.parameters():
            p.normal_()
    assert torch.equal(method(batch).logits, before)


def test_the_loss_by_hand(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method, batch = method_of(bundle, teachers=2.0, contrast=3.0).eval(), batch_of(bundle)
    parts, seen = method.net.parts(batch, batch.features), batch.observed.numpy()
    taught = method.net.taught(batch.features)
    far = pulled = 0.0
    for place, (m, column) in enumerate((("audio", 0), ("vision", 2))):
        x = parts.crossed[:, place].detach()
        wanted = taught[m].detach()[seen[:, column]].softmax(1).numpy()
        made = x[seen[:, column]].softmax(1).numpy()
        far += float(np.mean((wanted * np.log(wanted / made)).sum(1)))
        both = seen[:, column] & seen[:, 1]
        a, b = (v.detach().numpy()[both] for v in (x, parts.text))
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
        pulled += float(np.mean(np.log(np.exp(a @ b.T).sum(1)) - (a * b).sum(1)))
    task = ((parts.fused.logits[:, 0] - batch.labels) ** 2).mean().item()
    assert np.isclose(method.loss(batch).item(), task + 2 * far + 3 * pulled, rtol=1e-4)


def test_a_look_at_one_frame_is_a_map_of_it(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle, teachers=0.0, contrast=0.0), batch_of(bundle)
    method.loss(batch).backward()
    for layer in cast(list[CrossLayer], list(method.net.cross.layers)):
        for p in (layer.query.weight, layer.key.weight):
            assert p.grad is not None and p.grad.abs().max() < 1e-7
        assert layer.value.weight.grad is not None and layer.value.weight.grad.any()


def test_without_the_text_a_learned_vector_looks(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle).eval(), batch_of(bundle)
    nn.init.normal_(method.net.absent)
    without = hide(batch, torch.tensor([True, False, True]))
    parts = method.net.parts(without, without.features)
    torch.testing.assert_close(parts.text, method.net.absent.expand_as(parts.text))
    assert not parts.crossed[~without.observed[:, [0, 2]]].any()


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(SECOND, backbone="mce", network=()), bundle)
    with pytest.raises(InputError, match="no first stage"):
        built(SECOND, bundle).loss(batch_of(bundle))
    with pytest.raises(InputError):
        method_of(bundle, contrast=-1.0)
    for network in ((("hidden", 3),), (("layers", 0),), (("entering", 1.0),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(FIRST, network=network), bundle)
