"""Looking more than once: error rates by simulation, and the rules that are used written out by hand."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mmlib.report import looks, stats
from mmlib.report.stats import Comparison

REPETITIONS = 20_000
DECIDED = ("better", "worse")
# Two-sided levels of each look that keep a claim's error at 5 %, at 5 % / 2 and at 5 % / 3.
WHOLE, HALF, THIRD = 0.01602, 0.00767, 0.00501
PATTERN = np.array([-1.5, -1.1, -0.7, -0.4, -0.1, 0.1, 0.4, 0.7, 1.1, 1.5])
PATTERN /= PATTERN.std(ddof=1)  # mean 0, sd 1


def standard_error(share: float, count: int) -> float:
    return math.sqrt(share * (1 - share) / count)


def with_chance(chance: float) -> np.ndarray:
    """Ten values with sd 1 and a mean above 0, whose t test against 0 has this two-sided p value."""
    return PATTERN + scipy_stats.t.isf(chance / 2, 9) / math.sqrt(10)


def t_tests(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of (..., 80) values the mean, its standard error and the two-sided p value at each look, (..., 4) each."""
    parts = [(values[..., :n], n) for n in (10, 20, 40, 80)]
    means = np.stack([part.mean(-1) for part, _ in parts], -1)
    errors = np.stack([part.std(-1, ddof=1) / math.sqrt(n) for part, n in parts], -1)
    degrees = np.array([n - 1 for _, n in parts])
    return means, errors, np.asarray(2 * scipy_stats.t.sf(np.abs(means / errors), degrees))


def critical(level: float) -> np.ndarray:
    """How many standard errors an interval reaches at each look, (4,), two-sided."""
    return np.asarray(scipy_stats.t.isf(level / 2, np.array([9, 19, 39, 79])))


def primary(*values: np.ndarray, margin: float = 1.0) -> list[Any]:
    return looks.primary(values, [margin] * len(values))


def exploratory(*values: np.ndarray, margin: float = 1.0) -> list[Any]:
    return looks.exploratory(values, [margin] * len(values))


def verdicts(comparisons: list[Any]) -> list[str]:
    return [comparison.verdict for comparison in comparisons]


# The levels.


def test_unadjusted_looks_err_in_one_of_seven_and_pococks_level_in_one_of_twenty() -> None:
    rng = np.random.default_rng(0)
    count = 100_000
    steps = rng.normal(size=(count, 4)) * np.sqrt([10, 10, 20, 40])  # seeds that each look adds
    walk = np.abs(np.cumsum(steps, axis=1)) / np.sqrt([10, 20, 40, 80])  # standard normal at each
    smallest = 2 * scipy_stats.norm.sf(walk).min(axis=1)
    unadjusted = float((smallest <= 0.05).mean())
    assert unadjusted == pytest.approx(0.14, abs=0.005)
    assert looks.overall(0.05) == pytest.approx(
        unadjusted, abs=3 * standard_error(unadjusted, count)
    )
    for level in (0.05, 0.05 / 2, 0.05 / 3, 0.1):
        found = float((smallest <= looks.pocock(level)).mean())
        assert found == pytest.approx(level, abs=3 * standard_error(level, count))


def test_the_four_looks_have_these_levels() -> None:
    levels = [looks.pocock(level) for level in (0.05, 0.05 / 2, 0.05 / 3)]
    assert levels == pytest.approx([WHOLE, HALF, THIRD], abs=1e-5)


@pytest.mark.parametrize(("count", "printed"), [(2, 0.0294), (3, 0.0221), (4, 0.0182), (5, 0.0158)])
def test_looks_at_equal_distances_have_the_levels_of_pococks_printed_table(
    count: int, printed: float
) -> None:
    assert looks.pocock(0.05, tuple(range(1, count + 1))) == pytest.approx(printed, abs=5.1e-5)


def test_the_overall_level_agrees_with_scipys_multivariate_normal() -> None:
    seeds = np.array([10, 20, 40, 80])
    together = np.sqrt(np.minimum.outer(seeds, seeds) / np.maximum.outer(seeds, seeds))
    for level in (0.2, 0.05, 0.01, 0.001):
        bound = np.full(4, scipy_stats.norm.isf(level / 2))
        law = scipy_stats.multivariate_normal(cov=together, seed=0)
        assert looks.overall(level) == pytest.approx(
            1 - law.cdf(bound, lower_limit=-bound), abs=2e-5
        )


def test_the_overall_level_rises_with_that_of_a_look_and_lies_between_it_and_four_times_it() -> (
    None
):
    levels = np.geomspace(1e-9, 0.99, 40)
    found = np.array([looks.overall(float(level)) for level in levels])
    assert (np.diff(found) > 0).all()
    assert (levels < found).all() and (found < np.minimum(4 * levels, 1)).all()


def test_one_look_has_the_level_itself() -> None:
    for level in (0.05, 0.05 / 2, 0.05 / 3, 0.1):
        assert looks.overall(level, (80,)) == pytest.approx(level)
        assert looks.pocock(level, (80,)) == pytest.approx(level)


def test_p_values_of_0_and_1_stay_0_and_1() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert looks.overall(0.0) == 0.0 and looks.overall(1.0) == 1.0


def test_seeds_reach_the_looks_that_they_are_enough_for() -> None:
    reached = [looks.reached(seeds) for seeds in (0, 9, 10, 19, 20, 79, 80, 500)]
    some = [(), (), (10,), (10,), (10, 20), (10, 20, 40)]
    assert reached == [*some, (10, 20, 40, 80), (10, 20, 40, 80)]


# Primary claims: the rule, by hand.


def test_holms_rule_by_hand() -> None:
    def decided(*chances: float) -> list[bool]:
        return [v == "better" for v in verdicts(primary(*map(with_chance, chances)))]

    # In order of size against 0.0050, 0.0077, 0.0160, until one is larger.
    assert decided(0.004, 0.007, 0.015) == [True, True, True]
    assert decided(0.015, 0.004, 0.007) == [True, True, True]  # their order does not matter
    assert decided(0.006, 0.0065, 0.007) == [False, False, False]  # 0.006 is above 0.0050
    assert decided(0.009, 0.004, 0.010) == [False, True, False]  # 0.009 is above 0.0077
    assert decided(0.017, 0.007, 0.004) == [False, True, True]  # 0.017 is above 0.0160
    assert decided(0.015) == [True] and decided(0.017) == [False]


def test_intervals_have_the_level_that_holms_rule_gives_to_the_claim() -> None:
    def halves(*chances: float) -> list[float]:
        return [(c.high - c.low) / 2 for c in primary(*map(with_chance, chances))]

    whole, half, third = (
        scipy_stats.t.isf(level / 2, 9) / math.sqrt(10) for level in (WHOLE, HALF, THIRD)
    )
    assert halves(0.015, 0.004, 0.007) == pytest.approx([whole, third, half], abs=1e-4)
    assert halves(0.009, 0.004, 0.010) == pytest.approx([half, third, half], abs=1e-4)
    assert halves(0.006, 0.0065, 0.5) == pytest.approx([third, third, third], abs=1e-4)
    (alone,) = primary(with_chance(0.3))
    assert alone.high - alone.difference == pytest.approx(whole, abs=1e-4)
    # Equivalence is asked at twice the overall level, as a one-sided 5 % on either side.
    narrow = scipy_stats.t.isf(0.033888 / 2, 9) / math.sqrt(10)
    assert looks.overall(0.033888) == pytest.approx(0.1, abs=1e-5)
    assert alone.high90 - alone.difference == pytest.approx(narrow, abs=1e-4)


def test_claims_that_were_declared_and_not_run_count_among_the_primary_ones() -> None:
    nothing, value = np.array([]), with_chance(0.007)
    assert verdicts(primary(value)) == ["better"]  # 0.007 is below 0.0160
    found = primary(nothing, value, nothing)
    assert found[0] is None and found[2] is None
    assert found[1].verdict == "undecided"  # and above 0.0050
    half = scipy_stats.t.isf(THIRD / 2, 9) / math.sqrt(10)
    assert found[1].high - found[1].difference == pytest.approx(half, abs=1e-4)


def test_under_five_seeds_there_is_no_interval_and_before_the_first_look_no_verdict() -> None:
    strong = 5 + PATTERN
    assert primary(strong[:0]) == [None] == exploratory(strong[:0])
    for few in range(1, 5):
        for found in (*primary(strong[:few]), *exploratory(strong[:few])):
            assert found.verdict == "too few seeds" and found.n == few
            assert found.difference == pytest.approx(strong[:few].mean())
            assert np.isnan([found.low, found.high, found.low90, found.high90]).all()
    for some in range(5, 10):
        (found,) = primary(strong[:some])
        assert found.verdict == "undecided" and found.n == some
        assert 0 < found.low < found.difference < found.high  # an interval, though it is above 0
        (near,) = primary(0.01 * PATTERN[:some])
        assert near.verdict == "undecided" and -1 < near.low90 and near.high90 < 1
    assert verdicts(primary(strong)) == ["better"] and verdicts(primary(-strong)) == ["worse"]


def test_claims_are_equivalent_to_nothing_within_the_margin_and_at_a_look() -> None:
    near = 0.01 + 0.3 * PATTERN
    assert verdicts(primary(near, margin=1.0)) == ["equivalent"]
    assert verdicts(primary(near, margin=0.0)) == ["undecided"]  # claims without a margin
    wide = 0.01 + 1.5 * PATTERN  # 0.01 +- 2.5 * 1.5 / sqrt(10)
    assert verdicts(primary(wide, margin=1.0)) == ["undecided"]
    assert verdicts(exploratory(near, margin=1.0)) == ["equivalent"]


def test_values_that_are_all_0_are_equivalent_at_a_look() -> None:
    for margin in (0.0, 1.0):
        assert verdicts(primary(np.zeros(10), np.zeros(80), margin=margin)) == ["equivalent"] * 2
        assert verdicts(primary(np.zeros(9), margin=margin)) == ["undecided"]
        assert verdicts(exploratory(np.zeros(5), margin=margin)) == ["equivalent"]


def test_ten_equal_values_that_are_not_0_are_decided() -> None:
    """Without any effect ten values have one sign with probability 2 ** -9 = 0.002."""
    assert verdicts(exploratory(np.full(10, 0.4))) == ["better"]
    assert verdicts(primary(np.full(9, 0.4))) == ["undecided"]
    assert verdicts(primary(np.full(10, 0.4))) == ["better"]
    assert verdicts(primary(np.full(10, -0.4))) == ["worse"]


def test_five_equal_values_that_are_not_0_are_undecided_as_in_tables() -> None:
    """Without any effect five values have one sign with probability 2 ** -4 = 0.06."""
    same = np.full(5, 0.4)
    assert stats.paired(same, np.zeros(5)).verdict == "undecided"
    assert verdicts(exploratory(same)) == ["undecided"]


def test_differences_that_are_rounding_alone_are_none() -> None:
    scores = 7.3 * np.arange(1, 11)
    for plus in (0.3, 0.31):
        rounding = (scores + plus) - scores - plus
        assert 0 < np.abs(rounding).max() < 1e-13
        assert verdicts(primary(rounding)) == ["equivalent"] == verdicts(exploratory(rounding))
        ahead = 1 + rounding  # ten equal leads of 1, but for rounding
        assert primary(ahead)[0].sd == 0 == exploratory(ahead)[0].sd


def test_the_first_seeds_up_to_the_last_look_are_used() -> None:
    values = np.random.default_rng(5).normal(0.0, 1.0, 79)  # decided at no look
    later = values.copy()
    later[10:] += 100
    for seeds, used in ((10, 10), (15, 10), (19, 10), (20, 20), (39, 20), (40, 40), (79, 40)):
        (found,) = primary(values[:seeds])
        assert found.verdict not in DECIDED and found == primary(values[:used])[0]
        assert found.n == used and found.difference == pytest.approx(values[:used].mean())
    assert primary(later[:15]) == primary(values[:10])


def test_a_claim_that_was_rejected_at_a_look_stays_as_that_look_had_it() -> None:
    """Ten values near 1; of all eighty, or of the first twenty, whose mean is below 0, nothing would be decided."""
    wide = np.concatenate([1 + 0.2 * PATTERN, np.tile(6 * PATTERN, 7)])
    turned = np.concatenate([1 + 0.2 * PATTERN, -1.2 + 3 * PATTERN])
    assert stats.paired(wide, np.zeros(80)).verdict == "undecided"
    assert turned.mean() < 0
    (first,) = primary(wide[:10])
    assert first.verdict == "better" and first.low > 0 and first.n == 10
    for values in (wide[:20], wide[:40], wide, turned):
        assert primary(values) == [first]
    assert verdicts(primary(-wide)) == ["worse"]


# Primary claims: error rates.


def test_the_simulations_below_follow_the_rule() -> None:
    """What ``looks.primary`` says of three claims, from t tests of all looks at once."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(8, 3, 80)) + np.array([0.0, 0.3, 0.6])[None, :, None]
    means, errors, chances = t_tests(values)
    ordered = np.sort(chances.min(axis=-1), axis=-1)
    rejected = np.cumprod(ordered <= [THIRD, HALF, WHOLE], axis=-1).sum(axis=-1)
    for claims, count, mean, error in zip(values, rejected, means, errors, strict=True):
        found = primary(*claims)
        assert sum(f.verdict in DECIDED for f in found) == count
        for f, m, e in zip(found, mean, error, strict=True):
            look = looks.LOOKS.index(f.n)
            assert f.difference == pytest.approx(m[look])
            reach = (f.high - f.difference) / e[look]  # in standard errors
            assert min(abs(reach - critical(level)[look]) for level in (THIRD, HALF, WHOLE)) < 1e-3
    assert set(rejected) >= {1, 2}


def test_stopping_at_the_first_rejection_changes_no_decision() -> None:
    rng = np.random.default_rng(3)
    for _ in range(4):
        claims = list(rng.normal(size=(3, 80)) + np.array([0.0, 0.3, 0.6])[:, None])
        seeds = dict.fromkeys(range(3), 10)
        for look in (10, 20, 40, 80):
            made = primary(*(claims[i][:n] for i, n in seeds.items()))
            going = [i for i, found in enumerate(made) if found.verdict not in DECIDED]
            seeds |= dict.fromkeys(going, min(2 * look, 80))
        stopped = [
            f.verdict in DECIDED for f in primary(*(claims[i][:n] for i, n in seeds.items()))
        ]
        assert stopped == [found.verdict in DECIDED for found in primary(*claims)]


def test_three_true_null_claims_err_together_in_at_most_5_percent() -> None:
    """With an sd that is not known: t tests at levels made for a known one."""
    rng = np.random.default_rng(4)
    _, _, chances = t_tests(rng.normal(0.0, 3.0, (REPETITIONS, 3, 80)))
    smallest = chances.min(axis=(1, 2))
    allowed = 0.05 + 2.5 * standard_error(0.05, REPETITIONS)
    assert (smallest <= THIRD).mean() <= allowed  # Holm's rule rejects anything
    assert (smallest <= WHOLE).mean() > 2 * allowed  # what goes wrong without it
    alone = chances[:, 0].min(axis=-1) <= WHOLE  # one true null claim that is left when others fell
    assert alone.mean() <= allowed


@pytest.mark.parametrize("effect", [0.0, 0.3, 1.0])
def test_the_interval_of_one_claim_covers(effect: float) -> None:
    rng = np.random.default_rng(5)
    means, errors, chances = t_tests(rng.normal(effect, 1.0, (REPETITIONS, 80)))
    covered = np.abs(means - effect) <= critical(WHOLE) * errors
    least = 0.95 - 2.5 * standard_error(0.95, REPETITIONS)
    last = float(covered[:, -1].mean())
    assert last >= least
    assert last == pytest.approx(1 - WHOLE, abs=3 * standard_error(WHOLE, REPETITIONS))
    assert covered.all(axis=1).mean() >= least  # at all looks together
    rejects = chances <= WHOLE
    stop = np.where(rejects.any(axis=1), rejects.argmax(axis=1), 3)
    assert covered[np.arange(REPETITIONS), stop].mean() >= least  # at the first rejection


def test_an_interval_leaves_0_out_exactly_where_the_claim_is_decided_at_the_last_look() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=(300, 3, 80)) + np.array([0.35, -0.45, 0.55])[None, :, None]
    _, _, chances = t_tests(values)
    undecided = values[(chances[:, :, 0] > WHOLE).all(axis=1)]  # at the first of two looks
    seen = []
    for claims in undecided[:25]:
        for found in primary(*claims[:, :20]):
            assert (found.low > 0) == (found.verdict == "better")
            assert (found.high < 0) == (found.verdict == "worse")
            seen.append(found.verdict)
    assert {"better", "worse", "undecided"} <= set(seen)


@pytest.mark.parametrize("sd", [1.0, 2.0, 4.0])
def test_power_lies_between_that_of_one_look_at_the_same_level_and_one_at_5_percent(
    sd: float,
) -> None:
    """One look at 80 seeds at the level of a look has less; one at 5 %, the best unbiased test, has more."""

    def one_look(effect: float, level: float) -> float:
        shift = effect / sd * math.sqrt(80)
        return float(scipy_stats.nct.sf(scipy_stats.t.isf(level / 2, 79), 79, shift))

    rng = np.random.default_rng(7)
    power = {}
    for effect in (0.0, 1.0, 2.0):
        means, _, chances = t_tests(rng.normal(effect, sd, (REPETITIONS, 80)))
        rejects = chances <= WHOLE
        first = rejects.argmax(axis=1)  # at which the claim stops
        above = means[np.arange(REPETITIONS), first] > 0
        power[effect] = float((rejects.any(axis=1) & above).mean())
    for effect in (1.0, 2.0):
        error = 3 * standard_error(power[effect], REPETITIONS)
        low, high = one_look(effect, WHOLE), one_look(effect, 0.05)
        assert low - error <= power[effect] <= high + error + 1e-9
    assert power[0.0] < power[1.0] <= power[2.0]
    assert power[1.0] < power[2.0] or power[1.0] > 0.999
    assert power[2.0] > 0.9 and power[1.0] > 0.4  # also where the sd is 4


def test_the_shares_that_are_called_better_follow_the_rule() -> None:
    """Of a true effect of 1 and an sd of 2, 20 seeds; by ``looks.primary`` itself."""
    values = np.random.default_rng(8).normal(1.0, 2.0, (60, 20))
    found = [primary(claim)[0].verdict for claim in values]
    better = np.zeros(60, dtype=bool)
    for look in (10, 20):
        test = scipy_stats.ttest_1samp(values[:, :look], 0, axis=1, alternative="greater")
        better |= np.asarray(test.pvalue) <= WHOLE / 2
    assert [verdict == "better" for verdict in found] == list(better)
    assert 0.3 < better.mean() < 0.7


# Exploratory claims.


def discovered(chances: list[float], share: float = 0.05) -> list[bool]:
    """Benjamini and Hochberg's rule: of m sorted p values reject up to the last with p <= rank / m * share."""
    ordered = sorted(chances)
    below = [p for rank, p in enumerate(ordered, start=1) if p <= rank / len(ordered) * share]
    return [p <= max(below, default=-1.0) for p in chances]


def test_benjamini_and_hochbergs_own_example_rejects_four_of_fifteen() -> None:
    """The p values of their paper (1995): 0.0095 is below 4 / 15 * 0.05, each larger one above its own bound."""
    small = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    printed = [*small, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    found = exploratory(*map(with_chance, printed), margin=0.0)
    assert verdicts(found) == ["better"] * 4 + ["undecided"] * 11
    half = scipy_stats.t.isf(0.025, 9) / math.sqrt(10)
    assert [c.high - c.difference for c in found] == pytest.approx([half] * 15)  # 95 % each


def test_exploratory_claims_are_decided_as_benjamini_and_hochbergs_rule_has_it() -> None:
    together = [0.03, 0.035, 0.04, 0.045]  # each above 0.05 / 4, all rejected since 0.045 <= 0.05
    assert discovered(together) == [True] * 4
    rng = np.random.default_rng(9)
    families = [together, [0.03, 0.5], [0.02, 0.5], *(rng.beta(0.3, 2.0, (20, 12)).tolist())]
    counts = set()
    for chances in families:
        signs = rng.choice([-1.0, 1.0], len(chances))
        values = [sign * with_chance(p) for sign, p in zip(signs, chances, strict=True)]
        found = exploratory(*values, margin=0.0)
        rule = discovered(chances)
        right = ["better" if sign > 0 else "worse" for sign in signs]
        expected = [r if d else "undecided" for r, d in zip(right, rule, strict=True)]
        assert verdicts(found) == expected
        counts.add(sum(rule))
    assert len(counts) > 4


def test_claims_of_too_few_seeds_are_no_part_of_the_exploratory_family() -> None:
    value, few = with_chance(0.03), with_chance(0.9)[:4]
    found = exploratory(few, value, np.array([]), few)
    assert found[2] is None and verdicts([found[0], found[3]]) == ["too few seeds"] * 2
    assert found[1].verdict == "better"  # 0.03 would be above 0.05 / 4
    assert exploratory() == [] and verdicts(exploratory(few)) == ["too few seeds"]
    assert verdicts(exploratory(value, with_chance(0.9), margin=0.0)) == ["undecided"] * 2


def test_at_most_5_percent_of_what_is_called_decided_is_false() -> None:
    """Of 40 claims with ten seeds each 30 are without effect; ten have one of 1.2 sd."""
    rng = np.random.default_rng(10)
    effects = np.repeat([0.0, 1.2], [30, 10])
    shares, unadjusted, found_true = [], [], []
    for _ in range(60):
        values = rng.normal(effects[:, None], 1.0, (40, 10))
        calls = np.array(verdicts(exploratory(*values)))
        false = (calls == "worse") | ((calls == "better") & (effects == 0))
        true = (calls == "better") & (effects > 0)
        shares.append(false.sum() / max(1, false.sum() + true.sum()))
        found_true.append(true.sum() / 10)
        small = np.asarray(scipy_stats.ttest_1samp(values, 0, axis=1).pvalue) <= 0.05
        unadjusted.append((small & (effects == 0)).sum() / max(1, small.sum()))
    error = float(np.std(shares, ddof=1)) / math.sqrt(60)
    assert np.mean(shares) <= 0.05 + 2.5 * error
    assert np.mean(found_true) > 0.5
    assert np.mean(unadjusted) > 0.1  # what goes wrong without


def test_exploratory_claims_use_all_their_seeds() -> None:
    values = np.random.default_rng(11).normal(0.0, 1.0, 15)
    theirs = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    (found,) = exploratory(values)
    assert isinstance(found, Comparison) and found.n == 15
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
