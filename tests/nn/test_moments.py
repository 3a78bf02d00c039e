"""The moment discrepancy by NumPy on the rows that count, and what leaves it as it is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from mmlib.nn.moments import discrepancy


def apart(x: np.ndarray, y: np.ndarray, orders: int) -> float:
    total = np.linalg.norm(x.mean(0) - y.mean(0))
    for k in range(2, orders + 1):
        total += np.linalg.norm(((x - x.mean(0)) ** k).mean(0) - ((y - y.mean(0)) ** k).mean(0))
    return float(total)


def test_it_is_the_mean_over_pairs_of_each_ones_own_rows() -> None:
    torch.manual_seed(0)
    values, observed = torch.randn(30, 4, 6).double(), torch.rand(30, 4) < 0.6
    observed[:, 3] = False  # in no pair
    rows = [values[:, i].numpy()[observed[:, i].numpy()] for i in range(3)]
    for orders in (1, 2, 5):
        expected = np.mean([apart(rows[i], rows[j], orders) for i, j in combinations(range(3), 2)])
        assert np.isclose(discrepancy(values, observed, orders).item(), expected)


def test_order_of_rows_and_a_common_shift_do_not_matter() -> None:
    torch.manual_seed(0)
    values = torch.randn(40, 2, 5).double()
    observed = torch.ones(40, 2, dtype=torch.bool)
    before = discrepancy(values, observed)
    mixed = torch.stack([values[:, 0], values[torch.randperm(40), 1]], dim=1)
    torch.testing.assert_close(discrepancy(mixed, observed), before)
    torch.testing.assert_close(discrepancy(values + 3, observed), before)
    same = torch.stack([values[:, 0], values[torch.randperm(40), 0]], dim=1)
    assert discrepancy(same, observed) < 1e-12 < before


def test_without_a_pair_it_is_0_with_finite_gradients() -> None:
    for row in ([True, False], [False, False], [True, True]):
        values = torch.ones(3, 1, 1) * torch.tensor([[1.0], [2.0]])  # without spread: norms of 0
        values.requires_grad_()
        distance = discrepancy(values, torch.tensor([row] * 3))
        (gradient,) = torch.autograd.grad(distance, values)
        assert gradient.isfinite().all()
        assert distance.item() == (1 if all(row) else 0)
