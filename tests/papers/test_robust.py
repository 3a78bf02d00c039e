"""Which row stands a change of law: cost and reach by hand, verdicts only where there are seeds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mmlib.papers.side_by_side import robust

LAWS = ("a", "b", "c")
SHARE = "weighted F1 (%)"


def made_up(seeds: int, rows: tuple[str, ...] = ("steady", "fitted", "weak")) -> pd.DataFrame:
    """Rows of which one loses nothing, one much but from high up, and one is low everywhere."""
    r, lines = np.random.default_rng(1), []
    gains = {"steady": (70.0, 0.0), "fitted": (68.0, 8.0), "weak": (50.0, 0.5)}
    for row in rows:
        level, own = gains[row]
        for training in LAWS:
            for setting in LAWS:
                for seed in range(seeds):
                    value = level + own * (training == setting) + 0.1 * r.normal()
                    lines.append((row, training, setting, seed, value))
    return pd.DataFrame(lines, columns=["row", "training", "setting", "seed", SHARE])


def test_cost_is_the_diagonal_minus_what_other_laws_of_training_give() -> None:
    frame = made_up(2)
    found = robust.by_seed(frame, SHARE)
    for (row, seed), line in found.iterrows():
        of = frame[(frame["row"] == row) & (frame["seed"] == seed)]
        same = of["training"] == of["setting"]
        assert line["reached"] == pytest.approx(of.loc[~same, SHARE].mean())
        # As many pairs for each law of the test, so that means of means are means.
        assert line["cost"] == pytest.approx(of.loc[same, SHARE].mean() - line["reached"])


def test_a_row_without_all_pairs_of_laws_has_no_cost() -> None:
    frame = made_up(1)
    gone = (frame["row"] == "weak") & (frame["training"] == "a") & (frame["setting"] == "c")
    assert set(robust.by_seed(frame[~gone], SHARE).index) == {("steady", 0), ("fitted", 0)}


def test_the_finding_names_who_loses_least_and_who_reaches_most_with_intervals() -> None:
    (told,) = robust.told(made_up(6), SHARE, "points")
    reached = robust.by_seed(made_up(6), SHARE)["reached"].unstack("row")
    apart, one = reached["steady"] - reached["fitted"], reached["steady"]
    half = scipy_stats.t.ppf(1 - 0.025 / 2, 5) * apart.std() / math.sqrt(6)
    ends = f"{apart.mean():+.2f} [{apart.mean() - half:.2f}, {apart.mean() + half:.2f}]"
    low, high = scipy_stats.t.interval(0.95, 5, one.mean(), one.std() / math.sqrt(6))
    level = f"{one.mean():.1f} [{low:.1f}, {high:.1f}]"
    assert f"that of training by steady, {level} ({ends} against fitted, the next: decided" in told
    assert "in points: least for steady, " in told and "; most for fitted, " in told
    assert told.count("decided against 2 of 2") == 2 and "the 2 others" in told


def test_what_differs_by_chance_alone_is_not_decided() -> None:
    frame = made_up(6, ("steady",))
    twin = frame.assign(
        row="twin", **{SHARE: made_up(6, ("steady", "steady"))[SHARE][-len(frame) :].to_numpy()}
    )
    (told,) = robust.told(pd.concat([frame, twin]), SHARE, "points")
    assert "decided against 0 of 1" in told and "the next: decided" not in told


def test_rows_of_few_seeds_are_named_and_take_no_part_and_few_seeds_decide_nothing() -> None:
    mixed = pd.concat([made_up(6, ("steady", "weak")), made_up(1, ("fitted",))])
    (told,) = robust.told(mixed, SHARE, "points")
    assert "Too few seeds (1 seed): fitted." in told and "most for weak" in told
    (few,) = robust.told(made_up(2), SHARE, "points")
    assert "2 seeds decide nothing." in few and "[" not in few
    assert "1 seed decides nothing." in robust.told(made_up(1), SHARE, "points")[0]
    assert robust.told(made_up(6, ("weak",)), SHARE, "points") == ()
