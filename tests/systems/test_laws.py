"""What every comparison system keeps: what is missing is not read, rows go their own way, any number of modalities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from laws import DIMS, TASKS, batch_of, chain, filled_in, peek, resident

from mmlib.data.bundle import Bundle
from mmlib.experiments.systems import SYSTEMS, System

Toy = Callable[..., Bundle]
EACH = pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.called)


@EACH
@pytest.mark.parametrize("task", TASKS)
def test_what_is_missing_is_never_read(system: System, task: str, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], task=TASKS[task])
    method = chain(system.stages, bundle)[-1].eval()
    batch = batch_of(bundle, "test")
    other = {m: torch.randn_like(x) * 100 for m, x in batch.features.items()}
    assert not batch.observed.all()
    torch.testing.assert_close(method(filled_in(batch, other)).logits, method(batch).logits)


@EACH
def test_a_dialogues_prediction_does_not_depend_on_what_else_is_in_the_batch(
    system: System, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[3])
    method = chain(system.stages, bundle)[-1].eval()
    held = resident(bundle, "train")
    order = np.random.default_rng(0).permutation(held.dialogues)
    sizes = np.diff(held.starts)
    together = method(held.batch(order)).logits.split(sizes[order].tolist())
    for place, number in enumerate(order):
        alone = method(held.batch([number])).logits
        torch.testing.assert_close(alone, together[place], rtol=1e-4, atol=1e-5)


@EACH
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("task", TASKS)
def test_two_and_four_modalities_train_in_every_stage(
    system: System, count: int, task: str, toy: Toy
) -> None:
    bundle = toy(dims=DIMS[count], task=TASKS[task])
    for method in chain(system.stages, bundle):
        method.train()
        for epoch in range(2):
            looked = peek(bundle, epoch)
            method.start_epoch(looked)
            (batch,) = looked.train()
            for loss in method.losses(batch):
                method.zero_grad()
                loss.backward()
                assert loss.isfinite()
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        assert gradients and all(g.isfinite().all() for g in gradients)


@EACH
def test_rows_with_a_single_modality_give_a_finite_loss(system: System, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    for method in chain(system.stages, bundle):
        method.train()
        looked = peek(bundle)
        method.start_epoch(looked)
        (batch,) = looked.train()
        alone = torch.zeros_like(batch.observed)
        alone[torch.arange(len(alone)), batch.observed.float().argmax(dim=1)] = True
        features = {
            m: x * alone[:, i, None] for i, (m, x) in enumerate(sorted(batch.features.items()))
        }
        # Still rows of the split, for methods that keep something of each.
        lonely = dataclasses.replace(batch, features=features, observed=alone)
        for loss in method.losses(lonely):
            method.zero_grad()
            loss.backward()
            assert loss.isfinite()
            assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in method.parameters())


@pytest.mark.parametrize(
    "system", [s for s in SYSTEMS if frozenset({2}) <= s.takes.forms[0]], ids=lambda s: s.called
)
def test_frames_train_and_padding_changes_nothing(system: System, toy: Toy) -> None:
    bundle = toy(dims=DIMS[3], frames=3)
    for method in chain(system.stages, bundle):
        looked = peek(bundle)
        method.start_epoch(looked)
        (batch,) = looked.train()
        for loss in method.train().losses(batch):
            loss.backward()
            assert loss.isfinite()
        longer = {m: torch.cat([x, 0 * x], dim=1) for m, x in batch.features.items()}
        padded = dataclasses.replace(batch, features=longer)
        method.eval()
        torch.testing.assert_close(method(padded).logits, method(batch).logits)
