"""Contributions: the laws of Shapley values, Eqs 1-4 of DREAM by enumerating orders, and how sampling converges."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mmlib.data.bundle import Task
from mmlib.errors import InputError
from mmlib.nn import shapley
from mmlib.nn.shapley import exact_plan, sampled_plan

CLASSES, SCORE = Task("classes", ("a", "b", "c")), Task("score", range=(-3.0, 3.0))
FOUR = Task("binaries", ("neutral", "happy", "sad", "angry"))
Step = Callable[[frozenset[int], frozenset[int]], np.ndarray]


def numbered(count: int) -> dict[frozenset[int], int]:
    """Subset to its number in an exact plan, which counts in binary, the first modality's place the highest."""
    return {
        frozenset(i for i in range(count) if code >> (count - 1 - i) & 1): code
        for code in range(2**count)
    }


def over_orders(count: int, step: Step) -> np.ndarray:
    """(n, M): for each modality the mean of ``step`` over all orders in which modalities come in, one by one."""
    found: list[list[np.ndarray]] = [[] for _ in range(count)]
    for order in itertools.permutations(range(count)):
        inside: frozenset[int] = frozenset()
        for i in order:
            found[i].append(step(inside, inside | {i}))
            inside = inside | {i}
    return np.stack([np.mean(values, axis=0) for values in found], axis=1)


def random_decisions(count: int, n: int = 40, several: int = 1, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (2**count, n, several)))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_values_are_those_of_enumerating_all_orders(count: int) -> None:
    n = 40 if count < 6 else 3
    payoffs, at = torch.randn(2**count, n, dtype=torch.float64), numbered(count)
    value = {s: payoffs[k].numpy() for s, k in at.items()}
    expected = over_orders(count, lambda before, after: value[after] - value[before])
    np.testing.assert_allclose(
        shapley.shapley(exact_plan(count), payoffs).numpy(), expected, atol=1e-6
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_pss_is_how_often_a_modality_changes_the_decision_over_all_orders(count: int) -> None:
    decided, at = random_decisions(count), numbered(count)
    told = {s: decided[k, :, 0].numpy() for s, k in at.items()}
    expected = over_orders(count, lambda before, after: (told[after] != told[before]).astype(float))
    found = shapley.pss(exact_plan(count), decided).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.min() >= 0 and found.max() <= 1 + 1e-6 and len(np.unique(found.round(5))) > 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_pas_is_the_mean_gain_in_size_where_right_over_all_orders(count: int) -> None:
    decided, at = random_decisions(count), numbered(count)
    truth = torch.from_numpy(np.random.default_rng(1).integers(0, 3, (40, 1)))
    value = {s: len(s) * (decided[k, :, 0] == truth[:, 0]).numpy() for s, k in at.items()}
    expected = over_orders(count, lambda before, after: value[after] - value[before])
    np.testing.assert_allclose(
        shapley.pas(exact_plan(count), decided, truth).numpy(), expected, atol=1e-5
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_efficiency_values_sum_to_what_all_gain_over_nothing(count: int) -> None:
    plan, payoffs = exact_plan(count), torch.randn(2**count, 30)
    torch.testing.assert_close(
        shapley.shapley(plan, payoffs).sum(dim=1), payoffs[-1] - payoffs[0], rtol=0, atol=1e-5
    )
    decided, truth = random_decisions(count), torch.zeros(40, 1, dtype=torch.long)
    right = (decided[-1] == truth)[:, 0]
    assert right.any() and not right.all()
    torch.testing.assert_close(
        shapley.pas(plan, decided, truth).sum(dim=1), count * right.float(), rtol=0, atol=1e-5
    )


def test_symmetry_modalities_that_do_the_same_get_the_same() -> None:
    count, at = 4, numbered(4)
    payoffs, decided = torch.randn(16, 20), random_decisions(4, 20)

    def swapped(subset: frozenset[int]) -> frozenset[int]:
        return frozenset({0: 2, 2: 0}.get(i, i) for i in subset)

    for subset, code in at.items():  # make modalities 0 and 2 exchangeable
        other = at[swapped(subset)]
        payoffs[other], decided[other] = payoffs[code], decided[code]
    plan, truth = exact_plan(count), torch.ones(20, 1, dtype=torch.long)
    for found in (
        shapley.shapley(plan, payoffs),
        shapley.pss(plan, decided),
        shapley.pas(plan, decided, truth),
    ):
        torch.testing.assert_close(found[:, 0], found[:, 2])
        assert not torch.allclose(found[:, 0], found[:, 1])


@pytest.mark.parametrize("plan", [exact_plan(4), sampled_plan(4, 30)], ids=["exact", "sampled"])
def test_null_player_what_changes_nothing_has_exactly_nothing(plan: shapley.Plan) -> None:
    whole = random_decisions(4, 50, several=4)
    subsets, places = plan.subsets.clone(), 2 ** torch.arange(3, -1, -1)
    subsets[:, 1] = False  # modality 1 is not looked at
    decided = whole[(subsets * places).sum(dim=1)]
    payoffs = decided[:, :, 0].float()
    assert torch.equal(shapley.pss(plan, decided)[:, 1], torch.zeros(50))
    assert torch.equal(shapley.pss(plan, decided, together=True)[:, 1], torch.zeros(50))
    assert torch.equal(shapley.shapley(plan, payoffs)[:, 1], torch.zeros(50))
    assert (shapley.pss(plan, decided)[:, [0, 2, 3]] > 0).any(dim=0).all()


def test_the_weights_of_three_modalities_are_the_ledgers() -> None:
    plan = exact_plan(3)
    sizes = plan.subsets.sum(dim=1)[plan.without]
    expected = {0: 1 / 3, 1: 1 / 6, 2: 1 / 3}
    for size, weight in zip(sizes.flatten().tolist(), plan.weights.flatten().tolist(), strict=True):
        assert weight == pytest.approx(expected[size])
    assert torch.equal(
        plan.subsets[plan.joined] ^ plan.subsets[plan.without],
        torch.eye(3, dtype=torch.bool)[:, None].expand(3, 4, 3),
    )
    every = shapley.pss(
        plan, torch.from_numpy(np.array(list(itertools.product((0, 1), repeat=8))).T[:, :, None])
    )
    sixths = (6 * every).round()
    torch.testing.assert_close(6 * every, sixths, rtol=0, atol=1e-5)
    assert set(sixths.flatten().tolist()) == {0, 1, 2, 3, 4, 5, 6}


def test_several_decisions_count_as_the_share_that_change_or_as_whether_any_does() -> None:
    plan, decided = exact_plan(3), random_decisions(3, 60, several=4)
    apart = torch.stack([shapley.pss(plan, decided[:, :, k : k + 1]) for k in range(4)])
    torch.testing.assert_close(shapley.pss(plan, decided), apart.mean(dim=0))
    at = numbered(3)
    expected = over_orders(
        3, lambda b, a: (decided[at[a]] != decided[at[b]]).any(dim=1).double().numpy()
    )
    np.testing.assert_allclose(
        shapley.pss(plan, decided, together=True).numpy(), expected, atol=1e-6
    )
    truth = torch.from_numpy(np.random.default_rng(2).integers(0, 3, (60, 4)))
    each = torch.stack(
        [shapley.pas(plan, decided[:, :, k : k + 1], truth[:, k : k + 1]) for k in range(4)]
    )
    torch.testing.assert_close(shapley.pas(plan, decided, truth), each.mean(dim=0))


def test_sampling_nears_the_exact_value_and_its_standard_error_says_how_near() -> None:
    payoffs = torch.randn(2**5, 1, dtype=torch.float64)
    exact = shapley.shapley(exact_plan(5), payoffs)[0]
    codes = 2 ** torch.arange(4, -1, -1)
    covered, wrong = [], {25: [], 400: []}
    for seed in range(200):
        for orders in (25, 400):
            plan = sampled_plan(5, orders, seed)
            marginals = shapley.gains(plan, payoffs[(plan.subsets * codes).sum(dim=1)])
            found, error = shapley.average(plan, marginals)[0], shapley.standard_error(marginals)[0]
            wrong[orders].append((found - exact).numpy())
            if orders == 400:
                covered.append(((found - exact).abs() <= 1.96 * error).numpy())
    assert 0.92 < np.mean(covered) < 0.98
    ratio = np.std(wrong[25]) / np.std(wrong[400])
    assert 3.2 < ratio < 4.8  # the root of 16
    assert np.abs(np.mean(wrong[400], axis=0)).max() < 4 * np.std(wrong[400]) / 200**0.5


def test_a_sampled_plan_takes_one_step_of_each_modality_in_every_order_and_stays_efficient() -> (
    None
):
    count, orders = 9, 20
    plan = sampled_plan(count, orders, 3)
    size = plan.subsets.sum(dim=1)
    assert plan.without.shape == plan.joined.shape == (count, orders)
    assert (size[plan.without].sort(dim=0).values == torch.arange(count)[:, None]).all()
    changed = plan.subsets[plan.joined] ^ plan.subsets[plan.without]
    assert torch.equal(
        changed, torch.eye(count, dtype=torch.bool)[:, None].expand(count, orders, count)
    )
    assert (
        not plan.subsets[0].any()
        and plan.subsets[-1].all()
        and len(plan.subsets.unique(dim=0)) == len(plan.subsets)
    )
    payoffs = torch.randn(len(plan.subsets), 7, dtype=torch.float64)
    torch.testing.assert_close(
        shapley.shapley(plan, payoffs).sum(dim=1), payoffs[-1] - payoffs[0], atol=1e-5, rtol=0
    )


def test_the_standard_error_is_the_sample_deviation_over_the_root_of_the_orders() -> None:
    marginals = torch.randn(3, 12, 5, dtype=torch.float64)
    expected = np.std(marginals.numpy(), axis=1, ddof=1).T / 12**0.5
    np.testing.assert_allclose(shapley.standard_error(marginals).numpy(), expected)


def test_beyond_six_modalities_plans_are_sampled_and_always_the_same() -> None:
    assert len(shapley.make_plan(6, 10).subsets) == 64
    one, two = shapley.make_plan(7, 10), shapley.make_plan(7, 10)
    assert len(one.subsets) <= 10 * 6 + 2 and all(
        torch.equal(a, b) for a, b in zip(one, two, strict=True)
    )
    with pytest.raises(InputError):
        exact_plan(7)
    for count, orders in ((0, 5), (63, 5), (3, 1)):
        with pytest.raises(InputError):
            sampled_plan(count, orders)
    with pytest.raises(InputError):
        exact_plan(0)


def test_decisions_are_the_likeliest_class_each_emotions_own_and_a_scores_sign() -> None:
    logits = torch.randn(5, 4, 3)
    assert torch.equal(
        shapley.decisions(CLASSES, logits)[2, 1],
        torch.tensor([int(np.argmax(logits[2, 1].numpy()))]),
    )
    pairs = torch.randn(5, 4, 8)
    found = shapley.decisions(FOUR, pairs)
    for s, n, k in itertools.product(range(5), range(4), range(4)):
        assert found[s, n, k] == int(pairs[s, n, 2 * k + 1] > pairs[s, n, 2 * k])
    scores = torch.tensor([-9.0, -2.4, -0.5, 0.0, 0.2, 1.4, 2.6, 7.0])[:, None]
    assert shapley.decisions(SCORE, scores)[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert shapley.decisions(SCORE, scores, "seven")[:, 0].tolist() == [-3, -2, 0, 0, 0, 1, 3, 3]
    with pytest.raises(InputError):
        shapley.decisions(SCORE, scores, "signs")


def test_truths_are_labels_in_the_shape_and_words_of_decisions() -> None:
    assert torch.equal(shapley.truths(CLASSES, torch.tensor([2, 0])), torch.tensor([[2], [0]]))
    labels = torch.randint(2, (5, 4))
    assert torch.equal(shapley.truths(FOUR, labels), labels)
    scores = torch.tensor([-1.6, 0.0, 0.4])
    assert torch.equal(shapley.truths(SCORE, scores), torch.tensor([[0], [0], [1]]))
    assert torch.equal(shapley.truths(SCORE, scores, "seven"), torch.tensor([[-2], [0], [0]]))
