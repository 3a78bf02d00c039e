"""ConFEDE: which rows are looked up, what the contrast reads of them, and what its second stage leaves alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from laws import CLASSES, DIMS, SCORE, batch_of, built, chain, peek
from torch import Tensor

from mmlib.backbones.confede import Images
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.confede import Confede, contrast, retrieved, standard
from mmlib.nn.encoder import Encoder
from mmlib.nn.objectives import each_loss

Toy = Callable[..., Bundle]
SIZE = (("dropout", 0.0), ("hidden", 8))
FIRST, SECOND = (
    Stage("unimodal", "confede", network=SIZE),
    Stage("confede", "confede", network=SIZE),
)


def method_of(bundle: Bundle, **options: object) -> Confede:
    stage = dataclasses.replace(SECOND, options=tuple(options.items()))
    method = chain([FIRST, stage], bundle)[-1]
    assert isinstance(method, Confede)
    return method


def made(n: int = 5, half: int = 3) -> tuple[Images, Tensor]:
    there = torch.rand(n, 7, 3) < 0.7
    return Images(torch.randn(n, 7, 3, half), torch.randn(n, 7, 3, half)), there


def by_hand(images: Images, there: Tensor, t: int) -> float:
    s, d = (x.detach().double().numpy() for x in images)
    losses = []

    def e(a: np.ndarray, b: np.ndarray) -> float:
        return math.exp(a @ b / np.linalg.norm(a) / np.linalg.norm(b) / 0.5)

    for i in range(len(s)):
        for k in range(7):
            for m in range(3):
                if not there[i, k, m] or (k > 0 and m != t):
                    continue
                mine = s[i, k, m]
                positives, rivals = [], []
                if k == 0:
                    positives += [e(mine, s[i, j, m]) for j in (1, 2) if there[i, j, m]]
                    rivals += [e(mine, s[i, j, m]) for j in (3, 4, 5, 6) if there[i, j, m]]
                if m == t:
                    positives += [
                        e(mine, s[i, k, o]) for o in range(3) if o != t and there[i, k, o]
                    ]
                    rivals += [e(mine, d[i, k, o]) for o in range(3) if there[i, k, o]]
                losses += [-math.log(p / (p + sum(rivals))) for p in positives]
    return float(np.mean(losses))


def test_the_contrast_by_hand() -> None:
    for t in range(3):
        images, there = made()
        assert np.isclose(contrast(images, there, t).item(), by_hand(images, there, t), atol=1e-5)
    assert contrast(images, torch.zeros_like(there), 0) == 0


def test_the_contrast_depends_on_directions_alone() -> None:
    images, there = made()
    scaled = Images(*(x * torch.rand(5, 7, 3, 1).add(0.1) for x in images))
    torch.testing.assert_close(contrast(scaled, there, 1), contrast(images, there, 1))


def test_own_parts_enter_as_rivals_of_the_text_alone() -> None:
    images, there = made()
    apart = images.apart.requires_grad_()
    there[:, :, 1] = False
    contrast(Images(images.alike, apart), there, 1).backward()
    assert apart.grad is not None and not apart.grad.any()
    there[:] = True
    contrast(Images(images.alike, apart), there, 1).backward()
    assert bool((apart.grad != 0).any(dim=3).all())


@pytest.mark.parametrize("ranks", [False, True])
def test_rows_are_looked_up_by_label_and_likeness(ranks: bool) -> None:
    r = np.random.default_rng(0)
    seen, label = r.random((20, 2)) < 0.8, r.integers(0, 3, 20)
    seen[np.arange(20), r.integers(0, 2, 20)] = True
    values = [r.normal(size=(20, d)) * seen[:, i, None] for i, d in enumerate((4, 5))]
    others, there = retrieved(
        [torch.tensor(x).float() for x in values], torch.tensor(seen), torch.eye(3)[label], ranks
    )
    for i in range(20):
        cosine = np.full(20, -np.inf)
        for j in range(20):
            both = [m for m in range(2) if seen[i, m] and seen[j, m]]
            if both:
                x, y = (np.concatenate([values[m][k] for m in both]) for k in (i, j))
                cosine[j] = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        known = [j for j in range(20) if j != i and np.isfinite(cosine[j])]
        same = sorted((j for j in known if label[j] == label[i]), key=lambda j: -cosine[j])
        other = sorted((j for j in known if label[j] != label[i]), key=lambda j: -cosine[j])
        expected = [*same[:2], *other[:-3:-1], *other[:2]]
        if ranks:
            zeros = np.where(np.isfinite(cosine), cosine, 0)  # rows with nothing in common
            zeros[i] = np.inf
            order = np.argsort(-zeros, kind="stable").tolist()
            expected = [order.index(j) for j in expected]
        assert there[i].all() and others[i].tolist() == expected


def test_where_rows_of_a_label_are_few_fewer_count() -> None:
    label = torch.tensor([0, 0, 1, 1, 1])
    values, seen = [torch.randn(5, 3)], torch.ones(5, 1, dtype=torch.bool)
    there = retrieved(values, seen, torch.eye(2)[label], False)[1]
    assert there[:2, :2].sum(dim=1).tolist() == [1, 1] and there[2:, :2].all()
    whole = standard(values[0], seen[:, 0])
    torch.testing.assert_close(whole.mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(whole.std(dim=0, unbiased=False), torch.ones(3))


@pytest.mark.parametrize("task", [CLASSES, SCORE], ids=lambda t: t.kind)
def test_the_loss_by_hand(task: object, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=task)
    method = method_of(bundle, contrast=0.5, alone=2.0).eval()
    looked = peek(bundle)
    method.start_epoch(looked)
    (batch,) = looked.train()
    parts, stored = method.net.parts(batch, batch.features), method.stored
    assert stored is not None
    where = torch.cat([torch.arange(len(batch))[:, None], stored.others], dim=1)
    images = Images(*(x[where] for x in parts.images))
    there = batch.observed[where] & torch.cat([where[:, :1] >= 0, stored.there], 1)[:, :, None]
    pulled = by_hand(images, there, 1)
    alone = [
        each_loss(method.task, parts.alone[:, k], batch.labels)[batch.observed[:, k % 3]]
        for k in range(6)
    ]
    expected = method.fused_loss(batch, parts.fused) + 0.5 * pulled + 2 * torch.cat(alone).mean()
    torch.testing.assert_close(method.loss(batch), expected, rtol=1e-4, atol=1e-5)


def test_the_texts_encoder_stays_as_the_first_stage_left_it(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, looked = method_of(bundle), peek(bundle)
    method.start_epoch(looked)
    method.loss(looked.train()[0]).backward()
    encoders = {m: cast(Encoder, x) for m, x in method.net.encoders.items()}
    learnt = {m: x.conv.linear.weight.grad is not None for m, x in encoders.items()}
    assert learnt == {"audio": True, "text": False, "vision": True}


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(SECOND, backbone="mce", network=()), bundle)
    with pytest.raises(InputError, match="no first stage"):
        built(SECOND, bundle).loss(batch_of(bundle))
    with pytest.raises(InputError, match="looked up nothing"):
        method_of(bundle).loss(batch_of(bundle))
    for options in ({"contrast": -1.0}, {"found": "neighbours"}):
        with pytest.raises(InputError):
            method_of(bundle, **options)
    with pytest.raises(InputError):
        built(dataclasses.replace(FIRST, network=(("hidden", 0),)), bundle)
