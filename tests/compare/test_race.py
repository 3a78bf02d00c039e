"""Successive elimination: its error rate by simulation, and its rule on small tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmlib.compare.race import LEVEL, LOOKS, beaten, standing
from mmlib.errors import InputError


def raced(means: list[float], sd: float, shared: float, trials: int, seed: int) -> list[bool]:
    """Whether the first contender, truly the best, is still in at the end; values share a part by seed."""
    generator = np.random.default_rng(seed)
    kept = []
    for _ in range(trials):
        common = generator.normal(0, shared, (LOOKS[-1], 1))
        values = np.array(means) + common + generator.normal(0, sd, (LOOKS[-1], len(means)))
        table = pd.DataFrame(values, columns=[f"c{i}" for i in range(len(means))])
        kept.append("c0" in standing(table).open)
    return kept


@pytest.mark.parametrize("means", [[0.0] * 8, [0.0] + [-0.3] * 7, [0.0, -0.1, -1.0, -3.0, -9.0]])
@pytest.mark.parametrize("shared", [0.0, 3.0])
def test_the_truly_best_contender_is_kept_in_95_percent_of_races(
    means: list[float], shared: float
) -> None:
    kept = raced(means, 2.0, shared, 200, seed=1)
    chance = 3 * np.sqrt(LEVEL * (1 - LEVEL) / len(kept))
    assert np.mean(kept) >= 1 - LEVEL - chance


def test_a_lead_of_three_points_at_a_deviation_of_two_ends_the_race_with_the_best_alone() -> None:
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(0, 2, (80, 6)) - [0, 3, 3, 3, 3, 3])
    made = standing(table.set_axis(list("abcdef"), axis=1))
    assert made.open == ("a",)
    assert {by for _, by in made.out.values()} == {"a"}
    assert all(look in LOOKS for look, _ in made.out.values())


def test_who_is_out_needs_no_more_seeds() -> None:
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(0, 1, (80, 3)) - [0, 0.1, 50], columns=list("abc"))
    full = standing(table)
    assert full.out["c"] == (5, full.out["c"][1])
    stopped = table.copy()
    stopped.loc[5:, "c"] = np.nan
    assert standing(stopped) == full


def test_before_the_first_look_all_are_in() -> None:
    table = pd.DataFrame({"a": [9.0] * 4, "b": [1.0, 1.1, 1.2, 1.0]})
    assert standing(table).open == ("a", "b") and not standing(table).out


def test_a_look_waits_for_all_that_are_still_in() -> None:
    table = pd.DataFrame({"a": [9.0, 9.5] * 5, "b": [1.0, 2.0] * 3 + [np.nan] * 4})
    assert standing(table).out == {"b": (5, "a")}
    close = pd.DataFrame({"a": [1.0, 9.0] * 5, "b": [9.0, 1.0] * 3 + [np.nan] * 4})
    assert set(standing(close).open) == {"a", "b"}


def test_equal_values_are_no_lead_and_a_constant_difference_is_one() -> None:
    values = np.array([[5.0, 5.0, 4.0], [6.0, 6.0, 5.0], [7.0, 7.0, 6.0]])
    assert set(beaten(values, 2)) == {2}


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        beaten(np.array([[1.0, 1.0], [np.nan, 2.0]]), 1)


def test_no_one_leaves_before_all_have_the_first_looks_seeds() -> None:
    table = pd.DataFrame(
        {"a": [9.0, 9.1] * 5, "b": [1.0, 2.0] * 5, "late": [5.0] * 3 + [np.nan] * 7}
    )
    assert set(standing(table).open) == {"a", "b", "late"} and not standing(table).out
    never = table.assign(late=np.nan)
    assert set(standing(never).open) == {"a", "b", "late"}


def test_the_best_is_named_by_all_seeds_that_those_who_are_in_share() -> None:
    """After the look at five seeds three further ones, of which the third is not everybody's."""
    first, second = [3.0, 1.0, 2.0, 3.0, 2.0], [2.0, 2.0, 2.0, 2.0, 2.0]
    values = pd.DataFrame(
        {"a": [*first, 0.0, 0.0, 99.0], "b": [*second, 2.0, 2.0, np.nan]}, dtype=float
    )
    assert standing(values[:5], (5, 10)).best == "a"
    now = standing(values, (5, 10))
    assert now.best == "b" and now.open == ("b", "a"), "a mean of 11/7 and one of 2"
