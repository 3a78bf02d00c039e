"""IMDer: draws that depend on nothing but what is there, and what its further losses are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from laws import DIMS, batch_of, built, resident
from torch import Tensor

from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.experiments.rows import Stage
from mmlib.methods.imder import Imder
from mmlib.nn.batch import Batch, hide
from mmlib.nn.completion import known

Toy = Callable[..., Bundle]


def made(toy: Toy, **options: Any) -> tuple[Imder, Batch]:
    bundle = toy(dims=DIMS[3])
    stage = Stage("imder", "imder", options=tuple(options.items()), network=(("steps", 10),))
    method = built(stage, bundle)
    assert isinstance(method, Imder)
    return method.eval(), batch_of(bundle)


def test_in_evaluation_chance_and_batch_mates_have_no_part(toy: Toy) -> None:
    bundle = toy(dims=DIMS[3])
    method = built(Stage("imder", "imder"), bundle).eval()
    again = built(Stage("imder", "imder"), bundle, seed=1).eval()
    again.load_state_dict(method.state_dict())
    held = resident(bundle)
    torch.manual_seed(1)
    together = method(held.batch(range(held.dialogues))).logits
    torch.manual_seed(2)
    alone = torch.cat([again(held.batch([i])).logits for i in range(held.dialogues)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_in_training_each_row_is_drawn_anew(toy: Toy) -> None:
    method, _ = made(toy)
    net, condition = method.backbone.train(), torch.zeros(2, 32)
    first, second = net.drawn(condition), net.drawn(condition)
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])


def test_draws_follow_the_condition(toy: Toy) -> None:
    """With a score that pulls to a line of the condition, the draw is near it."""
    method, _ = made(toy)
    net = method.backbone

    class Known(torch.nn.Module):
        def context(self, given: Tensor) -> Tensor:
            return 3 * given

        def forward(self, values: Tensor, context: Tensor, time: Tensor) -> Tensor:
            variance = 0.01 + (25 ** (2 * time) - 1) / (2 * np.log(25))
            return (context - values) / variance

    net.score, net.config = Known(), type(net.config)(steps=100)  # type: ignore[assignment]
    net.noise = torch.randn(100, 3, 1, 32)
    condition = torch.randn(4, 32)
    drawn = net.drawn(condition)
    assert (drawn - 3 * condition[:, None]).abs().mean() < 0.5


def test_no_gradient_goes_through_the_draws(toy: Toy) -> None:
    method, batch = made(toy)
    method(batch).logits.sum().backward()
    net = method.backbone
    assert all(p.grad is None for p in [*net.score.parameters(), *net.condition.parameters()])
    assert all(p.grad is not None for p in net.refiner.parameters())
    method.train().loss(batch).backward()
    assert all(p.grad is not None for p in [*net.score.parameters(), *net.condition.parameters()])


def test_matching_is_a_mean_over_what_was_dropped_for_each_modality(toy: Toy) -> None:
    method, batch = made(toy)
    net, division = method.backbone, known(batch, "selfdrop", 1.0)
    truth, condition = torch.randn(len(batch), 3, 32), torch.randn(len(batch), 32)
    torch.manual_seed(4)
    found = method.matching(truth, condition, division).item()
    torch.manual_seed(4)
    time = 1e-3 + (1 - 1e-3) * torch.rand(3, len(batch), 1)
    noise = torch.randn(3, len(batch), 32)
    deviation = ((25 ** (2 * time) - 1) / (2 * np.log(25))).sqrt()
    expected = 0.0
    for m in range(3):
        each = []
        for row in range(len(batch)):
            if batch.observed[row, m] and not division.given.observed[row, m]:
                given = condition[row].expand(3, 1, -1)
                values = (truth[row, m] + deviation[m, row] * noise[m, row]).expand(3, 1, -1)
                score = net.score(values, net.score.context(given), time[m, row].expand(3, 1, 1))
                gap = deviation[m, row] * score[m, 0] + noise[m, row]
                each.append(gap.square().mean().item())
        expected += float(np.mean(each))
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_condition_is_noised_by_a_switch(toy: Toy) -> None:
    values = []
    for noisy in (False, True):
        method, batch = made(toy, noisy_condition=noisy)
        asked: list[Tensor] = []
        layer = method.backbone.score.context
        layer.register_forward_pre_hook(lambda module, given, asked=asked: asked.append(given[0]))
        truth, condition = torch.randn(len(batch), 3, 32), torch.ones(len(batch), 32)
        method.matching(truth, condition, known(batch, "selfdrop", 1.0))
        values.append(asked[0])
    assert (values[0] == 1).all() and values[1].std() > 1


def test_rows_with_one_modality_have_the_task_loss_alone(toy: Toy) -> None:
    method, batch = made(toy)
    alone = hide(batch, torch.nn.functional.one_hot(batch.observed.int().argmax(dim=1), 3).bool())
    torch.testing.assert_close(method.loss(alone), method.fused_loss(alone, method(alone)))


def test_complete_rows_are_asked_for_by_a_switch(toy: Toy) -> None:
    method, batch = made(toy, targets="complete")
    assert method.backbone.needs_complete and method.loss(batch).isfinite()


@pytest.mark.parametrize(
    "stage",
    [
        Stage("imder", "cubemlp"),
        Stage("imder", "imder", network=(("steps", 0),)),
        Stage("imder", "imder", network=(("dropout", 1.0),)),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(stage: Stage, toy: Toy) -> None:
    with pytest.raises(InputError):
        built(stage, toy(dims=DIMS[3]))
