"""ReconBoost: the first phase's loss as defined, what each phase moves, and when a term changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from separate_tools import (
    TWO,
    array,
    first_batch,
    fitted,
    gradients,
    make,
    peek,
)

from mmlib.data.bundle import Bundle, Task
from mmlib.errors import InputError
from mmlib.fit import make_optimizer, train_step
from mmlib.methods.reconboost import VARIANTS, stage
from mmlib.nn.batch import Batch
from mmlib.runs.spec import Training

Toy = Callable[..., Bundle]
THREE = {"audio": 6, "text": 5, "vision": 4}


@pytest.fixture(params=[TWO, THREE], ids=["two", "three"])
def bundle(request: pytest.FixtureRequest, toy: Toy) -> Bundle:
    return toy((1,) * 80, request.param)


def logits_by_hand(method: Any, batch: Batch) -> dict[str, np.ndarray]:
    """What the shared head makes of each embedding."""
    first, _, last = method.head
    z = method.backbone(batch, batch.features).z
    return {
        m: np.maximum(array(z[m]) @ array(first.weight).T + array(first.bias), 0)
        @ array(last.weight).T
        + array(last.bias)
        for m in method.modalities
    }


def test_the_first_phases_loss_as_defined(bundle: Bundle) -> None:
    method, batch = make(bundle, "reconboost", w1=4.0, w2=2.0, agreement=0.7), first_batch(bundle)
    method.turn = "vision"
    own = logits_by_hand(method, batch)
    truth = np.eye(3)[batch.labels.numpy()]
    log_p = log_softmax(own["vision"], axis=1)
    rest = softmax(sum(own[m] for m in bundle.modalities if m != "vision"), axis=1)
    expected = -4 * np.mean(truth * log_p) + 2 * np.mean(truth * rest * log_p)
    expected += 0.7 * np.mean((np.exp(log_p) - rest) ** 2)
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_the_second_phases_loss_is_that_of_the_scaled_sum_which_predicts(bundle: Bundle) -> None:
    method, batch = make(bundle, "reconboost"), first_batch(bundle)
    method.scale.data.fill_(1.7)
    total: np.ndarray = 1.7 * np.sum(list(logits_by_hand(method, batch).values()), axis=0)
    np.testing.assert_allclose(array(method(batch).logits), total, rtol=1e-4, atol=1e-5)
    expected = -log_softmax(total, axis=1)[np.arange(12), batch.labels.numpy()].mean()
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-5)
    moved = {name for name, _ in method.named_parameters()} - set(gradients(method, batch))
    assert moved == {"backbone.prediction.weight", "backbone.prediction.bias"}


def test_the_first_phase_of_a_modality_moves_its_encoder_and_the_head_alone(
    bundle: Bundle,
) -> None:
    method, batch = make(bundle, "reconboost"), first_batch(bundle)
    schedule = Training(lr=0.1, weight_decay=0.1, optimizer="momentum", clip=0.0)
    optimizer = make_optimizer(method, schedule)
    train_step(method, batch, optimizer, 0.0)  # a second phase, after which all have momentum
    before = {name: p.clone() for name, p in method.named_parameters()}
    method.turn = "audio"
    train_step(method, batch, optimizer, 0.0)
    moved = {name for name, p in method.named_parameters() if not torch.equal(p, before[name])}
    expected = {name for name in before if name.startswith(("head.", "backbone.encoders.audio."))}
    assert moved == expected


def test_without_both_terms_the_first_phase_is_a_cross_entropy_times_w1_over_c(
    bundle: Bundle,
) -> None:
    method, batch = make(bundle, "reconboost", "alternating", w1=3.0), first_batch(bundle)
    method.turn = "audio"
    found = gradients(method, batch)
    method.zero_grad()
    loss = torch.nn.functional.cross_entropy(
        method.head(method.backbone(batch, batch.features).z["audio"]), batch.labels
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert method.loss(batch).item() == pytest.approx(loss.item(), rel=1e-6)  # 3 / 3 classes
    for name, values in method.named_parameters():
        assert (values.grad is None) == (name not in found)
        if values.grad is not None:
            torch.testing.assert_close(found[name], values.grad)


def test_no_clip_counts_less_than_four_fifths_of_another(bundle: Bundle) -> None:
    method = make(bundle, "reconboost", agreement=0.0)
    logits, label = torch.zeros(1, 3), torch.zeros(1, dtype=torch.long)
    for right, expected in ((0.0, 5 / 3), (0.5, 4.5 / 3), (1.0, 4 / 3)):
        rest = torch.tensor([[right, 1 - right, 0.0]])
        found = method.turns_loss(logits, rest, label).item()
        assert found == pytest.approx(expected * np.log(3), rel=1e-6)


def test_the_agreement_term_has_a_gradient_here_and_none_as_released(toy: Toy) -> None:
    bundle = toy((1,) * 80, TWO)
    outcomes = {
        (variant, weight): fitted(
            make(bundle, "reconboost", variant, agreement=weight), bundle, 4
        ).tests["test"]
        for variant in ("paper", "released")
        for weight in (0.0, 2.0)
    }
    assert np.array_equal(outcomes["released", 0.0], outcomes["released", 2.0])
    assert np.array_equal(outcomes["released", 0.0], outcomes["paper", 0.0])
    assert not np.array_equal(outcomes["paper", 0.0], outcomes["paper", 2.0])


@pytest.mark.parametrize(
    ("epochs", "modalities", "cycles"),
    [(4, 2, 50), (9, 2, 50), (9, 2, 1), (40, 2, 50), (100, 2, 50), (20, 3, 2), (7, 3, 5)],
)
def test_phases_come_in_whole_cycles_of_equal_shares(
    epochs: int, modalities: int, cycles: int
) -> None:
    found = [stage(epoch, epochs, modalities, cycles) for epoch in range(epochs)]
    spans = [(of, len(list(group))) for of, group in groupby(found)]
    cycle = [(place, phase) for place in range(modalities) for phase in (0, 1)]
    count, rest = divmod(len(spans), len(cycle))
    assert not rest and [of for of, _ in spans] == cycle * count
    assert count == min(cycles, epochs // len(cycle))
    lengths = [length for _, length in spans]
    assert max(lengths) - min(lengths) <= 1


def test_the_published_schedule_and_one_that_is_too_short_for_a_cycle() -> None:
    found = [stage(epoch, 800, 2, 50) for epoch in range(800)]
    assert {len(list(group)) for _, group in groupby(found)} == {4} and found[-1] == (1, 1)
    assert [stage(epoch, 3, 2, 50) for epoch in range(3)] == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_it_trains_and_records_its_stages(bundle: Bundle, variant: str) -> None:
    found = fitted(make(bundle, "reconboost", variant), bundle, 12)
    count = len(bundle.modalities)
    expected = [stage(epoch, 12, count, 50) for epoch in range(12)]
    assert found.recorded["stage"].tolist() == [list(of) for of in expected]
    joint = [value for value, (_, phase) in zip(found.loss, expected, strict=True) if phase]
    assert joint[-1] < 0.7 * joint[0]


def test_other_tasks_backbones_and_senseless_options_are_refused(toy: Toy) -> None:
    bundle = toy((1,) * 48, TWO)
    with pytest.raises(InputError, match="classification"):
        make(toy((1,) * 48, TWO, task=Task("score", range=(-3.0, 3.0))), "reconboost")
    with pytest.raises(InputError, match="Use concat"):
        make(bundle, "reconboost", kind="mmtm")
    for bad in (
        {"w1": -1.0},
        {"w2": float("nan")},
        {"agreement": -0.1},
        {"cycles": 0},
        {"focal": 1.0},
    ):
        with pytest.raises(InputError, match="reconboost"):
            make(bundle, "reconboost", **bad)
    method = make(bundle, "reconboost")
    method.start_epoch(peek(0, 8))
    assert method.turn == "audio"
    method.start_epoch(peek(7, 8))
    assert method.turn is None
