"""Dynamic parameter fine-tuning against SciPy, enumeration, quadratic programs and worked examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from mmlib.masks import combinations
from mmlib.methods import dpft

EQUAL = np.full(7, 1 / 7)
SEVEN = [(0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# Eq. 8.


@pytest.mark.parametrize("spread", [0.01, 1.0, 10.0, 300.0])
def test_decoupling_is_the_squared_jensen_shannon_distance_of_softmaxed_features(
    spread: float,
) -> None:
    r = np.random.default_rng(0)
    first, second = r.normal(size=(2, 4, 5, 16)) * spread
    found = dpft.decoupling(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    expected = jensenshannon(softmax(first, axis=-1), softmax(second, axis=-1), axis=-1) ** 2
    assert found.shape == (4, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-14)
    assert found.min() >= 0 and found.max() <= math.log(2) + 1e-12


def test_decoupling_is_symmetric_zero_for_equals_and_log_two_for_strangers() -> None:
    r = np.random.default_rng(1)
    first, second = torch.from_numpy(r.normal(size=(2, 30, 8)))
    torch.testing.assert_close(
        dpft.decoupling(first, second), dpft.decoupling(second, first), atol=1e-15, rtol=0
    )
    assert dpft.decoupling(first, first + 5).abs().max() < 1e-14  # softmax knows no shift
    apart = dpft.decoupling(torch.tensor([[500.0, 0.0]]), torch.tensor([[0.0, 500.0]]))
    assert apart.item() == pytest.approx(math.log(2), rel=1e-6)


def test_decoupling_broadcasts_as_every_adapter_against_one_common_feature() -> None:
    r = np.random.default_rng(2)
    private, common = (
        torch.from_numpy(r.normal(size=(6, 7, 4))),
        torch.from_numpy(r.normal(size=(6, 4))),
    )
    found = dpft.decoupling(private, common[:, None]).numpy()
    for row, number in itertools.product(range(6), range(7)):
        expected = jensenshannon(softmax(private[row, number]), softmax(common[row])) ** 2
        assert found[row, number] == pytest.approx(expected, rel=1e-9)


# Eqs 9 and 10.

CHANGE = np.array([0.30, -0.05, 0.02, -0.60, 0.10, 0.00, -0.20])
RAISED, LOWERED = {5, 2, 1}, {6, 0, 3}  # sizes 0, .02, .05 | .1 | .2, .3, .6


def test_eq10_by_hand_the_three_least_changed_rise_the_middle_stays_the_three_most_changed_fall() -> (
    None
):
    found = dpft.adjusted(EQUAL, CHANGE, 0.1) - EQUAL
    for i in range(7):
        sign = 1 if i in RAISED else -1 if i in LOWERED else 0
        assert found[i] == pytest.approx(sign * (1 / 7) * 0.1 * sigmoid(CHANGE[i]), abs=1e-15)
    assert found[5] == pytest.approx(0.1 / 14)  # of no change at all: half of q_base lambda
    assert found[4] == 0


def test_eq10_signed_ranks_a_fall_of_s_as_the_least_change() -> None:
    found = np.sign(dpft.adjusted(EQUAL, CHANGE, 0.1, signed=True) - EQUAL)
    assert found.tolist() == [-1, 1, -1, 1, -1, 0, 1]  # in order: 3, 6, 1 | 5 | 2, 4, 0


def test_eq10_starts_from_the_shares_given_and_leaves_them_as_they_are() -> None:
    r = np.random.default_rng(3)
    for _ in range(100):
        shares, change, size = r.dirichlet(np.ones(7)), r.normal(size=7), r.uniform(0, 3)
        before = shares.copy()
        by_size = sorted(range(7), key=lambda i: abs(change[i]))
        expected = shares.copy()
        for place, i in enumerate(by_size, start=1):
            step = size / 7 / (1 + math.exp(-change[i]))
            expected[i] += step if place < 4 else -step if place > 4 else 0
        np.testing.assert_allclose(dpft.adjusted(shares, change, size), expected, atol=1e-14)
        assert np.array_equal(shares, before)


def test_eq10_for_two_modalities_raises_one_and_lowers_one() -> None:
    found = dpft.adjusted(np.full(3, 1 / 3), np.array([0.5, -0.1, 0.2]), 0.3) * 3 - 1
    assert found.tolist() == pytest.approx([-0.3 * sigmoid(0.5), 0.3 * sigmoid(-0.1), 0.0])


# F13: the nearest shares within the bounds.


def nearest(shares: np.ndarray, low: float, high: float) -> np.ndarray:
    """The projection as a quadratic program."""
    k = len(shares)
    found = minimize(
        lambda q: ((q - shares) ** 2).sum(),
        np.full(k, 1 / k),
        jac=lambda q: 2 * (q - shares),
        method="SLSQP",
        bounds=[(low / k, high / k)] * k,
        options={"ftol": 1e-14, "maxiter": 500},
        constraints={"type": "eq", "fun": lambda q: q.sum() - 1, "jac": lambda q: np.ones(k)},
    )
    assert found.success
    return np.asarray(found.x)


def gain(shares: np.ndarray, found: np.ndarray, low: float, high: float) -> float:
    """How far one can still walk from ``found`` towards ``shares`` within the bounds: 0 at the projection."""
    k, way = len(shares), shares - found
    best = linprog(-way, A_eq=np.ones((1, k)), b_eq=[1], bounds=[(low / k, high / k)] * k)
    assert best.success
    return float(-best.fun - way @ found)


@pytest.mark.parametrize(
    ("low", "high"), [(0.9, 1.1), (0.8, 1.2), (0.0, 7.0), (0.5, 1.01), (0.0, 100.0), (0.99, 3.0)]
)
def test_bounded_shares_are_those_of_a_quadratic_program_and_keep_what_f13_promises(
    low: float, high: float
) -> None:
    r = np.random.default_rng(4)
    for spread in [0.001, 0.03, 0.5, 20.0] * 8:
        shares = EQUAL + r.normal(size=7) * spread
        found = dpft.bounded(shares, low, high)
        assert found.sum() == pytest.approx(1, abs=1e-12)
        assert found.min() >= low / 7 - 1e-15 and found.max() <= high / 7 + 1e-15
        assert gain(shares, found, low, high) == pytest.approx(0, abs=1e-12 * max(1, spread))
        if spread < 1:
            np.testing.assert_allclose(found, nearest(shares, low, high), atol=2e-7)
        np.testing.assert_allclose(dpft.bounded(found, low, high), found, atol=1e-14)
        assert (np.diff(found[np.argsort(shares)]) >= -1e-15).all()  # nobody overtakes


def test_shares_that_are_within_bounds_stay() -> None:
    shares = np.array([0.93, 1.05, 1.02, 0.98, 1.02, 1.0, 1.0]) / 7
    np.testing.assert_allclose(dpft.bounded(shares, 0.9, 1.1), shares, atol=1e-14)


@pytest.mark.parametrize("count", [3, 7, 15, 31])
@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 1.0), (1.0, 1.1), (0.9, 1.0), (1.0, 2.0), (0.0, 1.0)]
)
def test_bounds_that_leave_no_room_give_equal_shares(count: int, low: float, high: float) -> None:
    shares = np.random.default_rng(5).dirichlet(np.ones(count))
    np.testing.assert_allclose(
        dpft.bounded(shares, low, high), np.full(count, 1 / count), atol=1e-14
    )


def test_steps_of_the_rule_never_leave_the_simplex_or_the_bounds_however_long_it_goes_on() -> None:
    r = np.random.default_rng(6)
    for low, high, size in ((0.9, 1.1, 0.1), (0.8, 1.2, 1.0), (0.0, 7.0, 5.0)):
        shares = EQUAL
        for _ in range(100):
            shares = dpft.bounded(
                dpft.adjusted(shares, r.normal(size=7) * 10.0 ** r.integers(-6, 2), size), low, high
            )
            assert shares.sum() == pytest.approx(1, abs=1e-12)
            assert low / 7 - 1e-15 <= shares.min() and shares.max() <= high / 7 + 1e-15


# G5: the first release.


def test_the_combinations_are_seven_in_binary_order() -> None:
    assert combinations(3).tolist() == [[bool(v) for v in row] for row in SEVEN]
    assert [len(combinations(m)) for m in (1, 2, 3, 4)] == [1, 3, 7, 15]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_kept_is_the_law_of_independent_modalities_without_the_empty_combination(
    count: int,
) -> None:
    keep = np.random.default_rng(count).uniform(0.1, 0.9, count)
    weights = {}
    for held in itertools.product((0, 1), repeat=count):
        weights[held] = math.prod(p if h else 1 - p for p, h in zip(keep, held, strict=True))
    assert sum(weights.values()) == pytest.approx(1)
    nothing = weights.pop((0,) * count)
    patterns = combinations(count)
    found = dpft.kept(keep, patterns)
    for share, row in zip(found, patterns.astype(int).tolist(), strict=True):
        assert share == pytest.approx(weights[tuple(row)] / (1 - nothing))
    marginal = found @ patterns
    np.testing.assert_allclose(marginal, keep / (1 - nothing))


def released(
    keep: list[float], change: list[float], step: float, low: float, high: float
) -> list[float]:
    """As in the public code at c0e14de: combination after combination, each clipped before the next moves."""
    keep = list(keep)
    scale = 1.0
    for i in sorted(range(7), key=lambda i: abs(change[i])):
        for m in range(3):
            moved = keep[m] + (scale if SEVEN[i][m] else -scale) * step
            keep[m] = min(max(moved, low), high)
        scale /= 2
    return keep


def test_the_first_releases_rule_by_a_loop_away_from_the_bounds() -> None:
    r = np.random.default_rng(7)
    for _ in range(100):
        keep, change = r.uniform(0.45, 0.55, 3), r.normal(size=7)
        found = dpft.first_release(keep, change, combinations(3), 0.003, 0.4, 0.6)
        np.testing.assert_allclose(
            found, released(keep.tolist(), change.tolist(), 0.003, 0.4, 0.6), atol=1e-15
        )
        assert not np.array_equal(found, keep)


def test_the_first_releases_rule_by_hand() -> None:
    change = np.array([0.1, 0.7, 0.2, 0.6, 0.3, 0.5, 0.4])  # v, tv, av, atv, at, a, t
    found = dpft.first_release(np.full(3, 0.5), change, combinations(3), 0.064, 0.1, 0.9)
    audio = -64 - 32 + 16 + 8 + 4 + 2 - 1
    text = -64 + 32 - 16 + 8 + 4 - 2 + 1
    vision = 64 + 32 + 16 + 8 - 4 - 2 - 1
    np.testing.assert_allclose(found, 0.5 + np.array([audio, text, vision]) / 1000, atol=1e-15)


def test_the_first_releases_rule_clips_after_each_combination_as_its_code_does() -> None:
    r = np.random.default_rng(8)
    for _ in range(100):
        keep, change = r.choice([0.4, 0.401, 0.5, 0.599, 0.6], 3), r.normal(size=7)
        found = dpft.first_release(keep, change, combinations(3), 0.003, 0.4, 0.6)
        assert found.min() >= 0.4 and found.max() <= 0.6
        np.testing.assert_allclose(
            found, released(keep.tolist(), change.tolist(), 0.003, 0.4, 0.6), atol=1e-15
        )


# G1: the released rule.


def g1(before: list[float], now: list[float]) -> list[float]:
    change = [b - a for a, b in zip(before, now, strict=True)]
    raw = []
    for i in range(len(change)):
        score = sum(change[:i] + change[i + 1 :]) / sum(change)
        raw.append(max(0.0, 0.8 * (1 + math.tan(min(score, 1.5) - 1))))
    return [p / sum(raw) for p in raw]


def test_the_released_rule_by_hand() -> None:
    before, now = np.full(4, 0.5), np.array([0.5, 0.6, 0.7, 0.6])
    scores = (1.0, 0.75, 0.5, 0.75)
    raw = [0.8 * (1 + math.tan(score - 1)) for score in scores]
    assert raw[0] == 0.8
    np.testing.assert_allclose(
        dpft.from_test_accuracies(before, now), np.array(raw) / sum(raw), rtol=1e-12
    )


def test_the_released_rule_caps_scores_and_sets_negative_shares_to_zero() -> None:
    before, now = (
        np.full(3, 0.5),
        np.array([0.3, 0.8, 0.5]),
    )  # scores 3, -2, 1: the first is capped at 1.5
    capped = 0.8 * (1 + math.tan(0.5))
    third, second = 0.8, 0.8 * (1 + math.tan(-3))  # tan repeats: a score of -2 gives a share again
    np.testing.assert_allclose(
        dpft.from_test_accuracies(before, now),
        np.array([capped, second, third]) / (capped + second + third),
        rtol=1e-12,
    )
    found = dpft.from_test_accuracies(
        np.full(3, 0.5), np.array([0.5, 0.6, 0.5])
    )  # score 0: 1 - tan 1 < 0
    np.testing.assert_allclose(found, [0.5, 0.0, 0.5], atol=1e-15)


def test_the_released_rule_by_a_loop_on_random_accuracies() -> None:
    r = np.random.default_rng(9)
    for _ in range(200):
        before, now = r.uniform(0.2, 0.8, size=(2, 7))
        found = dpft.from_test_accuracies(before, now)
        np.testing.assert_allclose(found, g1(before.tolist(), now.tolist()), rtol=1e-6, atol=1e-9)
        assert found.sum() == pytest.approx(1) and found.min() >= 0


def test_without_any_change_in_all_the_released_rule_gives_equal_shares() -> None:
    accuracy = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    np.testing.assert_allclose(dpft.from_test_accuracies(accuracy, accuracy), EQUAL)
    np.testing.assert_allclose(
        dpft.from_test_accuracies(np.array([0.25, 0.5]), np.array([0.5, 0.25])), [0.5, 0.5]
    )


def test_accuracies_that_only_change_places_give_equal_shares_whatever_the_rounding() -> None:
    r = np.random.default_rng(10)
    for _ in range(50):
        right = r.integers(0, 246, 7) / 245
        np.testing.assert_allclose(dpft.from_test_accuracies(right, right[::-1]), EQUAL)
