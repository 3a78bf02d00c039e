"""The task loss with focal factor and class weights (D13, D14) against NumPy and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from torch import Tensor

from mmlib.data.bundle import Task
from mmlib.nn.objectives import TaskLoss

FOUR = Task("classes", ("a", "b", "c", "d"))
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 7.0], dtype=torch.float64)
N = 23


@pytest.fixture()
def logits() -> Tensor:
    return torch.from_numpy(
        np.random.default_rng(0).normal(size=(N, 4), scale=2.0)
    ).requires_grad_()


@pytest.fixture()
def labels() -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 4, N))


def numpy_loss(
    logits: Tensor, labels: Tensor, focal: float, weights: Tensor | None, normalised: bool
) -> float:
    """Sum of w_y (1 - p_y)^focal (-log p_y) over the batch's size, or over the sum of its weights."""
    total, divisor = 0.0, 0.0
    probabilities = softmax(logits.detach().numpy(), axis=1)
    for row, label in enumerate(labels.tolist()):
        weight = 1.0 if weights is None else float(weights[label])
        p = probabilities[row, label]
        total += weight * (1 - p) ** focal * -np.log(p)
        divisor += weight if normalised else 1.0
    return total / divisor


CASES = [
    (focal, weights, normalised)
    for focal in (0.0, 0.5, 2.0)
    for weights in (None, WEIGHTS)
    for normalised in (False, True)
]


@pytest.mark.parametrize(
    "focal, weights, normalised",
    CASES,
    ids=lambda v: "weights" if isinstance(v, Tensor) else str(v),
)
def test_loss_is_the_weighted_focal_cross_entropy(
    logits: Tensor, labels: Tensor, focal: float, weights: Tensor | None, normalised: bool
) -> None:
    found = TaskLoss(FOUR, focal, weights, normalised)(logits, labels)
    assert found.item() == pytest.approx(
        numpy_loss(logits, labels, focal, weights, normalised), rel=1e-12
    )


@pytest.mark.parametrize(
    "focal, weights, normalised",
    CASES,
    ids=lambda v: "weights" if isinstance(v, Tensor) else str(v),
)
def test_residual_is_n_times_the_gradient_with_the_factors_held_constant(
    logits: Tensor, labels: Tensor, focal: float, weights: Tensor | None, normalised: bool
) -> None:
    surprise = -logits.log_softmax(dim=1)[torch.arange(N), labels]
    factor = (1 - (-surprise).exp().detach()) ** focal
    own = torch.ones(N, dtype=torch.float64) if weights is None else weights[labels]
    by_hand = (own * factor * surprise).sum() / (own.sum() if normalised else N)
    (expected,) = torch.autograd.grad(N * by_hand, logits)
    criterion = TaskLoss(FOUR, focal, weights, normalised)
    torch.testing.assert_close(
        criterion.residual(logits.detach(), labels), expected, atol=1e-12, rtol=0
    )
    (found,) = torch.autograd.grad(N * criterion(logits, labels), logits)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_the_focal_factor_sends_no_gradient(logits: Tensor, labels: Tensor) -> None:
    p = logits.softmax(dim=1)[torch.arange(N), labels]
    (through,) = torch.autograd.grad(((1 - p) ** 2 * -p.log()).mean(), logits)
    (found,) = torch.autograd.grad(TaskLoss(FOUR, 2.0)(logits, labels), logits)
    assert not torch.allclose(found, through, atol=1e-3)


def test_residual_lets_a_gradient_through_its_logits_but_not_through_the_factors(
    logits: Tensor, labels: Tensor
) -> None:
    mix = torch.from_numpy(np.random.default_rng(2).normal(size=(N, 4)))
    (found,) = torch.autograd.grad(
        (TaskLoss(FOUR, 0.5, WEIGHTS).residual(logits, labels) * mix).sum(), logits
    )
    p = softmax(logits.detach().numpy(), axis=1)
    mine = p[np.arange(N), labels.numpy()]
    share = WEIGHTS.numpy()[labels.numpy()] * np.sqrt(1 - mine)
    inner = (p * mix.numpy()).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        found.numpy(), share[:, None] * p * (mix.numpy() - inner), atol=1e-12, rtol=0
    )


def test_without_focal_factor_and_weights_it_is_cross_entropy_exactly(
    logits: Tensor, labels: Tensor
) -> None:
    single = logits.detach().float()
    assert torch.equal(TaskLoss(FOUR)(single, labels), F.cross_entropy(single, labels))
    assert torch.equal(
        TaskLoss(FOUR, normalised=True)(single, labels), F.cross_entropy(single, labels)
    )


def test_normalised_weights_are_torchs_and_equal_ones_change_nothing(
    logits: Tensor, labels: Tensor
) -> None:
    found = TaskLoss(FOUR, 0.0, WEIGHTS, True)(logits, labels)
    torch.testing.assert_close(
        found, F.cross_entropy(logits, labels, weight=WEIGHTS), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(
        TaskLoss(FOUR, 0.0, 3 * WEIGHTS, True)(logits, labels), found, atol=1e-12, rtol=0
    )
    tripled = TaskLoss(FOUR, 0.0, 3 * WEIGHTS)(logits, labels)
    torch.testing.assert_close(
        tripled, 3 * TaskLoss(FOUR, 0.0, WEIGHTS)(logits, labels), atol=1e-12, rtol=0
    )


def test_a_sure_prediction_has_a_finite_loss_and_gradient() -> None:
    logits = torch.tensor([[80.0, 0.0, 0.0, 0.0], [0.0, 80.0, 0.0, 0.0]], requires_grad=True)
    loss = TaskLoss(FOUR, 0.5, WEIGHTS.float())(logits, torch.tensor([0, 0]))
    loss.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    assert loss.item() == pytest.approx(
        0.5 * 80 / 2, rel=1e-6
    )  # the sure and right one costs nothing


@pytest.mark.parametrize("kind", ["score", "binaries"])
def test_scores_and_binaries_ignore_focal_factor_and_weights(logits: Tensor, kind: str) -> None:
    r = np.random.default_rng(3)
    if kind == "score":
        task, values, labels = (
            Task("score", range=(-3.0, 3.0)),
            logits[:, :1],
            torch.from_numpy(r.normal(size=N)),
        )
        expected = np.mean((values.detach().numpy()[:, 0] - labels.numpy()) ** 2)
    else:
        task, values, labels = (
            Task("binaries", ("x", "y")),
            logits,
            torch.from_numpy(r.integers(0, 2, (N, 2))),
        )
        p = softmax(values.detach().numpy().reshape(N, 2, 2), axis=2)
        expected = -np.log(np.take_along_axis(p, labels.numpy()[..., None], axis=2)).mean()
    criterion = TaskLoss(task, 2.0, WEIGHTS, True)
    assert criterion(values, labels).item() == pytest.approx(expected, rel=1e-12)
    (slope,) = torch.autograd.grad(N * criterion(values, labels), values)
    torch.testing.assert_close(
        criterion.residual(values.detach(), labels), slope, atol=1e-12, rtol=0
    )


def test_weights_move_with_the_module_and_stay_out_of_its_state() -> None:
    criterion = TaskLoss(FOUR, 0.5, WEIGHTS.float()).double()
    assert criterion.weights is not None and criterion.weights.dtype == torch.float64
    assert not criterion.state_dict() and not list(criterion.parameters())
