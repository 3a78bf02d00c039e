"""DMD: what its edges sum to, who learns in a distillation, and each of its losses by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from laws import DIMS, SCORE, TASKS, batch_of, built

from mmlib.backbones.dmd import Branch, prior
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.dmd import Dmd, distilled, drawn, margin, pushed
from mmlib.nn.batch import hide
from mmlib.nn.crossings import pairs

Toy = Callable[..., Bundle]
STAGE = Stage("dmd", "dmd", network=(("dropout", 0.0), ("heads", 2), ("hidden", 8)))


def method_of(bundle: Bundle, **options: object) -> Dmd:
    method = built(dataclasses.replace(STAGE, options=tuple(options.items())), bundle)
    assert isinstance(method, Dmd)
    return method


def test_edges_sum_to_1_over_the_pairs_that_a_row_has(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method, batch = method_of(bundle), batch_of(bundle)
    parts = method.backbone.parts(batch, batch.features)
    for branch in (parts.alike, parts.unlike):
        for row, seen in enumerate(batch.observed.tolist()):
            there = [seen[j] and seen[k] for j, k in pairs(3)]
            edges = branch.edges[row].tolist()
            assert np.isclose(sum(edges), float(any(there)), atol=1e-6)
            assert all((e > 0) == t for e, t in zip(edges, there, strict=True))
    assert pairs(3)[4] == (2, 0)
    scores = [
        method.backbone.alike.edge(
            torch.cat([parts.alike.states[:, j], parts.alike.states[:, k]], dim=1)
        )[:, 0]
        / 8
        for j, k in pairs(3)
    ]
    whole = batch.observed.all(dim=1)
    expected = torch.stack(scores, dim=1).softmax(dim=1)[whole, 4]
    torch.testing.assert_close(parts.alike.edges[whole, 4], expected)


def test_who_teaches_at_first() -> None:
    names = ("audio", "text", "vision")
    learns = [(names[j], names[k]) for j, k in pairs(3)]
    high = np.exp(4) / (2 * np.exp(4) + 4)
    for unlike, taught in ((False, 2), (True, 3)):
        found = dict(zip(learns, prior(names, unlike).tolist(), strict=True))
        favoured = {pair for pair, share in found.items() if share > 0.1}
        assert favoured >= {("audio", "text"), ("vision", "text")} and len(favoured) == taught
        assert (("vision", "audio") in favoured) == unlike
    assert np.isclose(prior(names, False).max().item(), high)
    torch.testing.assert_close(prior(("a", "b"), True), torch.full((2,), 0.5))


def test_only_the_pupil_learns_in_a_distillation() -> None:
    logits = torch.randn(6, 2, 3).requires_grad_()
    edges, even = torch.tensor([[1.0, 0.0]]).expand(6, -1), torch.tensor([0.5, 0.5])
    branch = Branch(torch.randn(6, 2, 4), logits, edges, even)
    seen = torch.ones(6, 2, dtype=torch.bool)
    loss = distilled(branch, seen)
    gaps = (logits[:, 0] - logits[:, 1]).abs().mean(dim=1)
    torch.testing.assert_close(loss, (1 + 0.5 + 0.5) * gaps.mean() + 10 * 0.5)
    loss.backward()
    assert logits.grad is not None
    sign = (logits[:, 0] - logits[:, 1]).sign().detach() / 18
    torch.testing.assert_close(logits.grad[:, 0], 1.5 * sign)  # edge (0, 1) and its prior
    torch.testing.assert_close(logits.grad[:, 1], -0.5 * sign)
    alone = torch.tensor([[True, False]]).expand(6, -1)
    assert distilled(branch._replace(edges=0 * edges), alone) == 0


def test_the_released_distillation_of_states_pushes_them_apart() -> None:
    states = torch.rand(5, 2, 3).requires_grad_()
    edges = torch.tensor([[0.3, 0.7]]).expand(5, -1)
    branch = Branch(states, torch.zeros(5, 2, 1), edges, torch.tensor([0.5, 0.5]))
    loss = pushed(branch, torch.ones(5, 2, dtype=torch.bool))
    before = F.cosine_similarity(states[:, 0], states[:, 1], dim=1)
    torch.testing.assert_close(loss, before.mean())
    (pull,) = torch.autograd.grad(loss, states)
    moved = (states - 0.1 * pull).detach()
    assert (F.cosine_similarity(moved[:, 0], moved[:, 1], dim=1) < before).all()


@pytest.mark.parametrize("task", TASKS)
def test_the_margin_compares_another_modality_of_the_label_with_another_label(
    task: str, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[3], task=TASKS[task])
    batch = batch_of(bundle)
    shared = torch.randn(len(batch), 3, 4)
    unit = F.normalize(shared, dim=2).numpy()
    label = batch.labels.round() if task == "score" else batch.labels
    torch.manual_seed(0)
    found = torch.stack([margin(bundle.task, shared, batch, 0.5) for _ in range(1500)]).mean()
    places = [(i, m) for i in range(len(batch)) for m in range(3) if batch.observed[i, m]]
    total = []
    for i, m in places:
        like = [unit[i, m] @ unit[j, o] for j, o in places if o != m and label[j] == label[i]]
        other = [
            (unit[i, m] @ unit[k, o], abs(float(batch.labels[i] - batch.labels[k])))
            for k, o in places
            if label[k] != label[i]
        ]
        if like and other:
            total.append(
                np.mean(
                    [
                        max(0, 0.5 * (far if task == "score" else 1) - near + away)
                        for near in like
                        for away, far in other
                    ]
                )
            )
    assert np.isclose(found.item(), np.mean(total), rtol=0.02)
    few = torch.zeros(4, 4, dtype=torch.bool)
    few[2, 3] = True
    assert drawn(few)[2] == 3


def test_the_loss_is_made_of_its_terms(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    batch = batch_of(bundle)
    method = method_of(bundle, margin=0.0, distilled=0.0, apart=0.5).eval()
    parts = method.backbone.parts(batch, batch.features)
    seen, truth = batch.observed, batch.labels
    expected = sum((x[:, 0] - truth).abs().mean() for x in (parts.fused.logits, parts.joint))
    for m in range(3):
        for branch in (parts.alike, parts.unlike):
            gaps = (branch.logits[:, m, 0] - truth).abs()
            expected = expected + gaps[seen[:, m]].mean()
    s, c, x = parts.own[seen], parts.shared[seen], parts.embedded[seen]
    expected = expected + 0.5 * ((s - parts.again[seen]) ** 2).mean()
    expected = expected + 0.5 * ((x - parts.made[seen]) ** 2).mean()
    expected = expected + 0.05 * F.cosine_similarity(s, c, dim=1).clamp(min=0).mean()
    torch.manual_seed(1)
    ranked = margin(bundle.task, parts.shared, batch, 0.0)
    torch.manual_seed(1)
    torch.testing.assert_close(method.loss(batch), expected + 0.05 * ranked)


def test_rows_with_one_modality_have_no_pair(toy: Toy) -> None:
    bundle = toy(dims=DIMS[2])
    batch = hide(batch_of(bundle), torch.tensor([True, False]))
    method = method_of(bundle)
    parts = method.backbone.parts(batch, batch.features)
    assert not parts.alike.edges.any() and distilled(parts.unlike, batch.observed) == 0
    assert margin(bundle.task, parts.shared, batch, 0.15) == 0


def test_what_does_not_fit_is_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    with pytest.raises(InputError, match="its own network"):
        built(dataclasses.replace(STAGE, backbone="cubemlp", network=()), bundle)
    with pytest.raises(InputError):
        method_of(bundle, margin=-1.0)
    for network in ((("hidden", 3),), (("dropout", 1.0),)):
        with pytest.raises(InputError):
            built(dataclasses.replace(STAGE, network=network), bundle)
