"""MMIM: what its bounds are, which of its two losses trains what, and what its entropy remembers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import CLASSES, DIMS, SCORE, batch_of, built, peek
from torch.distributions import Normal

from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.mmim import Mmim, contrast, log_determinants
from mmlib.nn.batch import hide
from mmlib.nn.kinds import kinds

Toy = Callable[..., Bundle]
STAGE = Stage("mmim", "mmim", network=(("dropout", 0.0), ("fusion", 10), ("hidden", 4)))


def method_of(bundle: Bundle, **options: object) -> Mmim:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, Mmim)
    return method


def test_the_contrast_is_never_negative_and_counts_rivals_that_are_there() -> None:
    scores, counts = torch.randn(8, 8), torch.tensor([True] * 5 + [False] * 3)
    expected = [
        math.log(sum(math.exp(scores[i, j]) for j in range(5))) - scores[i, i].item()
        for i in range(5)
    ]
    assert min(expected) > 0
    assert np.isclose(contrast(scores, counts).item(), np.mean(expected), atol=1e-5)
    only = torch.zeros(8, dtype=torch.bool)
    assert contrast(scores, only) == 0
    only[3] = True
    assert contrast(scores, only) == 0


def test_a_scaled_embedding_raises_the_log_determinant_by_twice_its_width_times_the_log() -> None:
    values, counts = torch.randn(40, 4).double(), torch.rand(40, 3).double().round()
    before, after = (log_determinants(x, counts, 0.0) for x in (values, 2.5 * values))
    torch.testing.assert_close(after - before, torch.full((3,), 8 * math.log(2.5)).double())
    for k in range(3):
        rows = values[counts[:, k] == 1].numpy()
        expected = np.log(np.linalg.det(np.cov(rows.T, bias=True)))
        assert np.isclose(before[k].item(), expected)


@pytest.mark.parametrize("task", [CLASSES, SCORE], ids=lambda t: t.kind)
def test_there_is_no_entropy_before_something_is_remembered(task: object, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=task)
    method, batch = method_of(bundle), batch_of(bundle)
    of_kind = kinds(method.task, batch.labels)
    embedded = method.backbone.parts(batch, batch.features).embedded.detach()
    assert method.entropy(embedded, batch.observed, of_kind) == 0
    method.remember(embedded, batch.observed, of_kind)
    expected = 0.0
    for index in (0, 2):  # not the text
        for k in range(of_kind.shape[1]):
            rows = embedded[batch.observed[:, index] & (of_kind[:, k] > 0), index].double()
            rows = torch.cat([rows, rows])[: 2 * len(rows)].numpy()
            sigma = np.cov(rows.T, bias=True) + 1e-3 * np.eye(4)
            expected += np.log(np.linalg.det(sigma)) / (2 * of_kind.shape[1])
    found = method.entropy(embedded, batch.observed, of_kind).item()
    assert len(embedded) <= len(method.past)
    assert np.isclose(found, expected, rtol=1e-3)
    method.start_epoch(peek(bundle))
    assert method.entropy(embedded, batch.observed, of_kind) == 0


def test_it_remembers_the_last_rows(toy: Toy) -> None:
    bundle = toy(dims=DIMS[2], task=SCORE)
    method = method_of(bundle)
    assert len(method.past) == 2 * 4 * 2
    for number in range(1, 4):
        seen = torch.ones(6, 2, dtype=torch.bool)
        method.remember(torch.full((6, 2, 4), float(number)), seen, torch.ones(6, 2))
    assert method.past[:, 0, 0].tolist() == [3.0] * 6 + [2.0] * 6 + [1.0] * 4


def test_the_first_loss_trains_the_bound_and_the_second_all_else(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle, bound=0.5).train()
    for number, loss in enumerate(method.losses(batch_of(bundle))):
        method.zero_grad()
        loss.backward()
        for name, p in method.named_parameters():
            learns = p.grad is not None and bool(p.grad.any())
            assert learns == (("conditional" in name) == (number == 0)), name
    assert number == 1
    (only,) = method_of(bundle, ahead=False, bound=0.0).losses(batch_of(bundle))
    assert only.isfinite()


def test_the_likelihood_is_that_of_a_normal_distribution_over_rows_with_both(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle).eval(), batch_of(bundle)
    network = method.backbone
    embedded = network.parts(batch, batch.features).embedded
    expected = 0.0
    for index, m in ((0, "audio"), (2, "vision")):
        q, rows = network.conditional[m], batch.observed[:, index] & batch.observed[:, 1]
        text = embedded[rows, 1]
        spread = (torch.tanh(q.log_variance(text)) / 2).exp()
        each = Normal(q.mean(text), spread).log_prob(embedded[rows, index]).sum(dim=1)
        expected = expected + each.mean() + 2 * math.log(2 * math.pi)  # 4 wide
    found = method.likelihood(embedded, batch.observed, learns=False)
    torch.testing.assert_close(found, expected)
    alone = hide(batch, torch.tensor([False, True, False]))
    assert method.likelihood(embedded, alone.observed, learns=True) == 0


def test_the_loss_is_made_of_its_terms(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    batch = batch_of(bundle)
    method = method_of(bundle, contrast=0.7, bound=0.0, ahead=False).eval()
    parts = method.backbone.parts(batch, batch.features)
    expected = (parts.fused.logits[:, 0] - batch.labels).abs().mean()
    for index, to in enumerate(method.backbone.maps):
        rows = batch.observed[:, index]
        own, made = parts.embedded[rows, index], to(parts.fused.hidden[rows])
        scores = torch.nn.functional.cosine_similarity(own[:, None], made[None], dim=2)
        expected = expected + 0.7 * torch.nn.functional.cross_entropy(
            scores, torch.arange(len(scores))
        )
    torch.testing.assert_close(method.loss(batch), expected)


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    with pytest.raises(InputError):
        method_of(bundle, contrast=-1.0)
    for network in ((("hidden", 0),), (("fusion", 0),), (("dropout", 1.0),), (("anchor", "x"),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
