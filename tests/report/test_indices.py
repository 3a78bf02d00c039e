"""Indices of equity and learning: their laws, and values computed another way."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mmlib.nn import shapley
from mmlib.report.indices import (
    contributions,
    equity,
    expected_contributions,
    jain,
    learning,
    scores,
    spread,
)

NAMES = ("audio", "text", "vision")
SUBSETS = [frozenset(names) for size in range(4) for names in itertools.combinations(NAMES, size)]


def game(seed: int) -> dict[frozenset[str], float]:
    """Any worths of all combinations."""
    return dict(zip(SUBSETS, np.random.default_rng(seed).normal(50, 10, 8).tolist(), strict=True))


def test_contributions_are_the_shapley_values_of_the_weighted_sum_over_subsets() -> None:
    worth = game(0)
    plan = shapley.exact_plan(3)
    payoffs = torch.tensor(
        [[worth[frozenset(np.array(NAMES)[row.numpy()].tolist())]] for row in plan.subsets]
    )
    expected = shapley.shapley(plan, payoffs)[0]
    assert list(contributions(worth).values()) == pytest.approx(expected.tolist(), abs=1e-4)


def test_contributions_sum_to_what_all_are_worth_beyond_nothing() -> None:
    worth = game(1)
    total = sum(contributions(worth).values())
    assert total == pytest.approx(worth[frozenset(NAMES)] - worth[frozenset()], abs=1e-9)


def test_expected_contributions_sum_to_the_expected_worth_beyond_nothing() -> None:
    worth, r = game(2), np.random.default_rng(3)
    chances = dict(zip(SUBSETS[1:], r.dirichlet(np.ones(7)).tolist(), strict=True))
    expected = sum(chance * worth[shown] for shown, chance in chances.items()) - worth[frozenset()]
    assert sum(expected_contributions(worth, chances).values()) == pytest.approx(expected)
    sure = dict.fromkeys(SUBSETS[1:], 0.0) | {frozenset(NAMES): 1.0}
    assert expected_contributions(worth, sure) == pytest.approx(contributions(worth))


@pytest.mark.parametrize("index", [equity, jain])
def test_equal_contributions_are_fair_and_a_single_contributor_is_not(index: object) -> None:
    assert callable(index)
    assert index([4.0, 4.0, 4.0]) == pytest.approx(1)
    assert index([4.0, 0.0, 0.0]) == index([4.0, -3.0, 0.0]) == pytest.approx(0)
    assert index([1.0, 2.0, 3.0]) == pytest.approx(index([10.0, 20.0, 30.0]))
    assert math.isnan(index([-1.0, 0.0, -2.0])), "nothing contributes: undefined, not fair"
    assert 0 < index([1.0, 2.0, 3.0]) < 1


def test_equity_of_two_of_three_is_a_ratio_of_logarithms() -> None:
    assert equity([5.0, 5.0, 0.0]) == pytest.approx(math.log(2) / math.log(3))
    assert jain([5.0, 5.0, 0.0]) == pytest.approx((2 / 3 - 1 / 3) / (2 / 3))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_one_frozen_branch_of_equal_ones_and_all_frozen_but_one(count: int) -> None:
    norms = np.tile(np.random.default_rng(0).random((7, 1)), count)
    assert learning(norms) == pytest.approx(0)
    one = norms * (np.arange(count) > 0)
    assert learning(one) == pytest.approx(math.sqrt(1 / (count - 1)))
    alone = norms * (np.arange(count) == 0)
    assert learning(alone) == pytest.approx(math.sqrt(count - 1))


def test_the_size_of_the_loss_does_not_matter_and_still_steps_count_for_nothing() -> None:
    norms = np.random.default_rng(1).random((9, 3))
    by_hand = np.mean([math.sqrt(np.mean((x - x.mean()) ** 2)) / x.mean() for x in norms])
    assert learning(norms) == pytest.approx(by_hand)
    assert learning(100 * norms) == pytest.approx(by_hand)
    assert learning(np.vstack([norms, np.zeros((2, 3))])) == pytest.approx(by_hand)
    assert math.isnan(learning(np.zeros((4, 3))))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6, 0.9])
def test_rates_alone_unbalance_the_index_and_the_correction_takes_it_away(rate: float) -> None:
    norms = np.ones((5, 3)) * [1 - rate, 1.0, 1.0]  # exchangeable branches, one less often there
    raw = norms[0].std() / norms[0].mean()
    assert learning(norms) == pytest.approx(raw)
    assert learning(norms, (rate, 0.0, 0.0)) == pytest.approx(0)


def test_the_spread_is_the_log_of_the_largest_over_the_smallest() -> None:
    assert spread(np.array([[1.0, math.e], [math.e, 1.0], [0.0, 1.0]])) == pytest.approx(1)


def test_scores_are_those_of_the_conditions() -> None:
    found = scores(80.0, [60.0, 40.0, 50.0], {0.5: 60.0, 0.2: 70.0})
    assert (found.complete, found.mean, found.worst, found.drop) == (80, 50, 40, 30)
    area = (0.2 * (80 + 70) / 2 + 0.3 * (70 + 60) / 2) / 0.5
    assert found.area == pytest.approx(area)
    flat = scores(70.0, [70.0], {0.3: 70.0, 0.6: 70.0})
    assert flat.area == pytest.approx(70) and flat.drop == 0
    bare = scores(70.0, [], {})
    assert math.isnan(bare.mean) and math.isnan(bare.area)
