"""Self-MM: when its made-up labels count, where they stay, and which rows the centres are over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, SCORE, batch_of, built, peek

from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.own_labels import OwnLabels
from mmlib.methods.selfmm import SelfMM, made_label
from mmlib.nn.batch import Batch

Toy = Callable[..., Bundle]


def method_of(bundle: Bundle, backbone: str = "selfmm", method: str = "own_labels") -> SelfMM:
    network = (("dropout", 0.0),)
    made = built(Stage(method, backbone, network=network), bundle).train()
    assert isinstance(made, SelfMM)
    return made


def steps(method: SelfMM, bundle: Bundle, count: int) -> tuple[list[float], Batch]:
    """The losses of some epochs of one step each, without learning."""
    looked, found = peek(bundle), []
    (batch,) = looked.train()
    for epoch in range(count):
        method.start_epoch(dataclasses.replace(looked, epoch=epoch))
        (loss,) = list(method.losses(batch))
        found.append(loss.item())
    return found, batch


@pytest.mark.parametrize("backbone", ["selfmm", "tetfn"])
def test_own_predictions_of_scores_have_no_gradient_in_the_first_epoch(
    backbone: str, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method = method_of(bundle, backbone)
    looked = peek(bundle)
    method.start_epoch(looked)
    (batch,) = looked.train()
    for loss in method.losses(batch):
        loss.backward()
    for name, p in method.named_parameters():
        if "backbone.heads" in name:
            assert p.grad is not None and not p.grad.any(), name
    _, batch = steps(method, bundle, 3)
    method.zero_grad()
    for loss in method.losses(batch):
        loss.backward()
    assert all(
        p.grad is not None and p.grad.any()
        for n, p in method.named_parameters()
        if "heads" in n and n.endswith("last.bias")
    )


def test_with_nothing_missing_it_is_the_method_of_dreams_pre_training(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    found = []
    for name in ("own_labels", "selfmm"):
        method = method_of(bundle, method=name)
        looked = peek(bundle)
        (batch,) = looked.whole("train")
        losses = []
        for epoch in range(4):
            shown = dataclasses.replace(looked, epoch=epoch, train=lambda batch=batch: [batch])
            method.start_epoch(shown)
            losses += [loss.item() for loss in method.losses(batch)]
        found.append(losses)
    assert np.allclose(*found) and len(set(found[0])) > 2


def test_labels_of_missing_modalities_stay_and_are_in_no_centre(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method = method_of(bundle)
    assert isinstance(method, OwnLabels)
    _, batch = steps(method, bundle, 2)
    seen = batch.observed.t()
    own = method.truth.repeat(3, 1)
    assert torch.equal(method.labels[~seen], own[~seen])
    assert not torch.equal(method.labels[seen], own[seen])
    fused = method(batch)
    for i, m in enumerate(method.modalities):
        features = fused.z[m].detach()[seen[i]].numpy()
        truth = batch.labels[seen[i]].numpy()
        apart = [
            np.linalg.norm(features - features[side].mean(0), axis=1)
            for side in (truth < 0, truth > 0)
        ]
        own_delta = (apart[0] - apart[1]) / (apart[1] + 1e-8)
        hidden = fused.hidden.detach().numpy()
        whole = batch.labels.numpy()
        apart = [
            np.linalg.norm(hidden - hidden[side].mean(0), axis=1)[seen[i]]
            for side in (whole < 0, whole > 0)
        ]
        delta = (apart[0] - apart[1]) / (apart[1] + 1e-8)
        made = np.clip(
            own_delta / (delta + 1e-8) * truth / 2 + (truth + own_delta - delta) / 2, -3, 3
        )
        expected = truth / 3 + 2 * made / 3
        np.testing.assert_allclose(
            method.labels[i][seen[i]].numpy(), expected, rtol=1e-3, atol=1e-4
        )


def test_a_modality_that_leans_as_the_fusion_keeps_the_label() -> None:
    truth, delta = torch.tensor([2.0, -1.0, 5.0]), torch.tensor([0.5, -0.2, 1.0])
    expected = torch.tensor([2.0, -1.0, 3.0])
    torch.testing.assert_close(made_label(truth, delta, delta, 3.0), expected)


def test_of_classes_every_prediction_has_the_utterances_label(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = method_of(bundle)
    batch = batch_of(bundle)
    fused = method(batch)
    expected = torch.nn.functional.cross_entropy(fused.logits, batch.labels)
    for i, logits in enumerate(method.backbone.unimodal(fused).values()):
        rows = batch.observed[:, i]
        expected = expected + torch.nn.functional.cross_entropy(logits[rows], batch.labels[rows])
    (loss,) = method.losses(batch)
    torch.testing.assert_close(loss, expected)


def test_scores_of_unknown_rows_are_refused(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=SCORE)
    method = method_of(bundle)
    method.start_epoch(peek(bundle))
    with pytest.raises(InputError, match="keeps no labels"):
        list(method.losses(batch_of(bundle)))
