"""Masks: exact counts, the stated laws by simulation, and what no protocol may do."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chi2, entropy

from mmlib import masks
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.masks import Law, audit, draw

Toy = Callable[..., Bundle]
RATES = {"audio": 0.5, "text": 0.7, "vision": 0.3}
UTTERANCE_LAWS = [
    masks.complete(),
    masks.subset(["text"]),
    masks.subset(["audio", "vision"]),
    masks.random_missing(),
    masks.random_missing(resampled=True),
    masks.shared(0.9),
    masks.shared(0.5, resampled=True),
    masks.imbalanced(RATES),
    masks.imbalanced(RATES, "released"),
]
FRAME_LAWS = [
    masks.frames(0.0),
    masks.frames(0.9),
    masks.frames(1.0),
    masks.frames(0.5, resampled=True),
    masks.random_frames(),
    masks.random_frames(resampled=False),
    masks.mix(0.0),
    masks.mix(0.6),
    masks.mix(1.0),
]


@pytest.fixture(scope="module")
def wide(toy: Toy) -> Bundle:
    """4,000 utterances in every split."""
    return toy((40, 40, 40, 40) * 100, {"audio": 1, "text": 1, "vision": 1})


def tenths(n: int, rates: tuple[int, ...]) -> dict[tuple[int, ...], int]:
    """Eq. 36 for rates in tenths, in whole numbers: no rounding anywhere."""
    counts = {}
    for pattern in itertools.product((0, 1), repeat=len(rates)):
        share = 1
        for seen, rate in zip(pattern, rates, strict=True):
            share *= 10 - rate if seen else rate
        counts[pattern] = n * share // 10 ** len(rates)
    del counts[(0,) * len(rates)]
    left = n - sum(counts.values())
    for turn in range(left):
        single = [0] * len(rates)
        single[turn % len(rates)] = 1
        counts[tuple(single)] += 1
    return counts


def tally(mask: np.ndarray) -> dict[tuple[int, ...], int]:
    return dict(Counter(tuple(int(v) for v in row) for row in mask))


# The equations of BALM.


@pytest.mark.parametrize("rate, count", [(0.0, 3), (0.3, 3), (0.5, 2), (0.7, 4)])
def test_eq01_shared_distribution_is_binomial_without_the_all_missing_pattern(
    rate: float, count: int
) -> None:
    found = masks.pattern_distribution([rate] * count)
    assert len(found) == 2**count - 1
    for seen in range(1, count + 1):
        mass = sum(p for e, p in found.items() if sum(e) == seen)
        binomial = math.comb(count, seen) * (1 - rate) ** seen * rate ** (count - seen)
        assert mass == pytest.approx(binomial / (1 - rate**count))


def test_eq01_drawn_patterns_have_the_frequencies_of_independent_loss_with_one_restored(
    wide: Bundle,
) -> None:
    rate, n = 0.6, 4000
    seen = tally(draw(masks.shared(rate), wide, "test", 5).utterance)
    for pattern in itertools.product((0, 1), repeat=3):
        p = (1 - rate) ** sum(pattern) * rate ** (3 - sum(pattern)) if any(pattern) else 0.0
        if sum(pattern) == 1:
            p += rate**3 / 3
        assert abs(seen.get(pattern, 0) - n * p) <= 5 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("rate", [0.3, 0.7])
def test_eq02_mean_and_variance_of_the_realised_rate_with_restoration(
    toy: Toy, rate: float
) -> None:
    bundle, draws = toy((20, 20, 20, 20)), 800
    realised = np.array(
        [
            1 - draw(masks.shared(rate), bundle, "test", s).utterance.mean(axis=0)
            for s in range(draws)
        ]
    )
    q = rate - rate**3 / 3  # A2: one in three of the all-missing utterances gets the modality back
    variance = q * (1 - q) / 20
    assert np.all(abs(realised.mean(axis=0) - q) < 5 * math.sqrt(variance / draws))
    low, high = (float(chi2.ppf(p, draws - 1)) / (draws - 1) for p in (1e-5, 1 - 1e-5))
    ratio = realised.var(axis=0, ddof=1) / variance
    assert np.all((low < ratio) & (ratio < high))


def test_eq03_imbalanced_distribution_is_the_independent_one_given_that_something_stays() -> None:
    random = np.random.default_rng(0)
    for count in (2, 3, 4):
        for _ in range(20):
            exact = [Fraction(int(r), 100) for r in random.integers(0, 100, count)]
            weight = {
                e: math.prod((1 - r) if s else r for s, r in zip(e, exact, strict=True))
                for e in itertools.product((0, 1), repeat=count)
            }
            total = 1 - weight.pop((0,) * count)
            found = masks.pattern_distribution([float(r) for r in exact])
            assert sum(found.values()) == pytest.approx(1)
            assert found == pytest.approx({e: float(w / total) for e, w in weight.items()})


@pytest.mark.parametrize(
    "rates", [(0.3, 0.5, 0.7), (0.1, 0.1, 0.9), (0.0, 0.6), (0.2, 0.4, 0.6, 0.8)]
)
def test_eq04_imbalance_is_the_kl_to_the_mean_rate_as_scipy_has_it(
    rates: tuple[float, ...],
) -> None:
    patterns = [e for e in itertools.product((0, 1), repeat=len(rates)) if any(e)]
    mean = sum(rates) / len(rates)

    def law(values: list[float]) -> list[float]:
        return [
            float(np.prod([1 - r if s else r for s, r in zip(e, values, strict=True)]))
            for e in patterns
        ]

    assert masks.imbalance(rates) == pytest.approx(
        entropy(law(list(rates)), law([mean] * len(rates)))
    )
    assert masks.imbalance(rates) > 0
    assert masks.imbalance([mean] * len(rates)) == pytest.approx(0, abs=1e-12)
    assert masks.imbalance(rates) == pytest.approx(masks.imbalance(rates[::-1]))


def test_eq05_eq06_branch_loss_and_gradient_shrink_with_the_share_that_has_the_modality(
    toy: Toy,
) -> None:
    bundle, draws = toy((10, 10, 10, 10)), 1500
    law = masks.imbalanced({"audio": 0.2, "text": 0.5, "vision": 0.8})
    rows = bundle.rows("test")
    seen = np.array([draw(law, bundle, "test", s).utterance for s in range(draws)])  # (draws, n, M)
    for index, modality in enumerate(bundle.modalities):
        x, y = bundle.features[modality][rows].astype(float), bundle.labels[rows]
        weight = np.linspace(-1, 1, x.shape[1] * 3).reshape(-1, 3)
        odds = np.exp(x @ weight)
        p = odds / odds.sum(axis=1, keepdims=True)
        losses = -np.log(p[np.arange(len(y)), y])
        gradients = (x[:, :, None] * (p - np.eye(3)[y])[:, None, :]).reshape(len(y), -1)
        share = 1 - audit(law, bundle, "test", masks.Mask(seen[0])).realised[index]
        for each in (
            losses[:, None],
            gradients,
        ):  # n values of the loss, then of each partial derivative
            masked = seen[:, :, index] @ each / len(y)
            error = 5 * masked.std(axis=0, ddof=1) / math.sqrt(draws)
            assert np.all(abs(masked.mean(axis=0) - share * each.mean(axis=0)) < error + 1e-9)


def test_eq36_counts_are_exact_where_floating_point_products_lose_one() -> None:
    assert math.floor(1000 * (0.7 * (1 - 0.2) * 0.1)) == 55  # the trap: 56 in whole numbers
    assert (
        masks.pattern_counts(1000, [0.7, 0.2, 0.1])[0, 1, 0] == 56 + 5
    )  # and 14 all-missing ones go 5, 5, 4
    for order in itertools.permutations((1, 2, 7)):
        for n in (10, 50, 100, 1000):
            assert masks.pattern_counts(n, [r / 10 for r in order]) == tenths(n, order)
    exact = masks.pattern_counts(1000, [0.5, 0.7, 0.3])
    assert [exact[e] for e in ((1, 1, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1))] == [105, 45, 245, 105]
    assert [exact[e] for e in ((1, 0, 0), (0, 1, 0), (0, 0, 1))] == [105 + 35, 45 + 35, 245 + 35]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_eq36_counts_equal_whole_number_arithmetic_for_any_n_and_rates(count: int) -> None:
    random = np.random.default_rng(count)
    for n in [*range(1, 41), 997, 5810]:
        rates = tuple(int(r) for r in random.integers(0, 10, count))
        found = masks.pattern_counts(n, [r / 10 for r in rates])
        assert found == tenths(n, rates)
        assert sum(found.values()) == n and (0,) * count not in found


def test_eq36_realised_rate_keeps_the_papers_bound_plus_the_rounding_term() -> None:
    random = np.random.default_rng(1)
    for _ in range(400):
        count, n = int(random.integers(2, 5)), int(random.integers(1, 300))
        rates = [round(float(r), 3) for r in random.random(count) * 0.999]
        rounding = (2 ** (count - 1) * (count - 1) / count + 1) / n
        assert masks.rate_bound(n, rates) == pytest.approx(np.prod(rates) / count + rounding)
        counts = masks.pattern_counts(n, rates)
        for m, rate in enumerate(rates):
            realised = sum(c for e, c in counts.items() if not e[m]) / n
            assert abs(realised - rate) <= np.prod(rates) / count + rounding


def test_eq36_where_every_share_is_whole_the_error_is_exactly_the_papers_bound() -> None:
    for rates in ((0.5, 0.7, 0.3), (0.9, 0.6, 0.6), (0.1, 0.2, 0.7)):
        counts = masks.pattern_counts(3000, rates)
        for m, rate in enumerate(rates):
            realised = sum(c for e, c in counts.items() if not e[m]) / 3000
            assert rate - realised == pytest.approx(math.prod(rates) / 3, abs=1e-12)
    for rates, real in (
        ((0.9, 0.6, 0.6), 0.792),
        ((0.5, 0.7, 0.3), 0.665),
    ):  # the ledger's own examples
        lost = sum(
            c for e, c in masks.pattern_counts(3000, rates).items() if not e[int(np.argmax(rates))]
        )
        assert lost / 3000 == pytest.approx(real)


def test_eq36_a_drawn_mask_holds_the_counts_and_rates_follow_the_names(toy: Toy) -> None:
    bundle = toy((3, 5, 1, 40))
    for layout in ("paper", "released"):
        for values in itertools.permutations((3, 5, 7)):
            vision, audio, text = values
            law = masks.imbalanced(
                {"vision": vision / 10, "audio": audio / 10, "text": text / 10}, layout
            )
            found = tally(draw(law, bundle, "test", 0).utterance)
            assert found == {e: c for e, c in tenths(40, (audio, text, vision)).items() if c}


def test_eq37_eq38_eq39_the_shared_rate_of_a_mask_is_the_mean_of_its_modalities_rates(
    toy: Toy,
) -> None:
    bundle = toy((3, 5, 1, 40))
    law = masks.imbalanced(RATES)
    mask = draw(law, bundle, "test", 3)
    missing, each = 0, []
    for m in range(3):
        lost = sum(not mask.utterance[i, m] for i in range(40))
        missing += lost
        each.append(lost / 40)
    assert list(audit(law, bundle, "test", mask).realised) == pytest.approx(each)
    assert masks.equivalent_shared_rate(each) == pytest.approx(missing / (3 * 40))
    assert masks.equivalent_shared_rate([0.3, 0.5, 0.7]) == pytest.approx(0.5)


# What every protocol keeps to.


@pytest.mark.parametrize(
    "law", UTTERANCE_LAWS + FRAME_LAWS, ids=lambda law: f"{law}{'*' * law.resampled}"
)
@pytest.mark.parametrize("lacking", [0.0, 0.4])
def test_every_utterance_keeps_a_modality_and_nature_stays_missing(
    toy: Toy, law: Law, lacking: float
) -> None:
    bundle = toy((3, 50, 1, 4, 5, 60, 7, 8), frames=3 * (law in FRAME_LAWS), lacking=lacking)
    bundle = dataclasses.replace(
        bundle, position=-bundle.position
    )  # so that ids and positions disagree
    for split in ("train", "valid", "test"):
        rows = bundle.rows(split)
        mask = draw(law, bundle, split, 7)
        assert mask.utterance.shape == (len(rows), 3) and mask.utterance.dtype == bool
        assert mask.of(mask.utterance).any(axis=1).all()
        assert not (mask.utterance & ~bundle.observed[rows]).any()
        assert set(mask.frames) == (set(bundle.modalities) if law in FRAME_LAWS else set())
        for modality, kept in mask.frames.items():
            exists = np.array(
                [[t < length for t in range(3)] for length in bundle.lengths[modality][rows]]
            )
            assert kept.any(axis=1).all() and not (kept & ~exists).any()


@pytest.mark.parametrize("names", [("text",), ("audio", "vision")], ids="+".join)
def test_a_fixed_subset_gives_nothing_back_and_leaves_out_the_utterances_that_lack_all_of_it(
    toy: Toy, names: tuple[str, ...]
) -> None:
    bundle = toy((3, 50, 40, 50, 5, 60, 70, 80), lacking=0.5)
    for split in ("train", "valid", "test"):
        rows = bundle.rows(split)
        mask = draw(masks.subset(names), bundle, split, 7)
        has = {name: bundle.observed[rows, bundle.modalities.index(name)] for name in names}
        for name in bundle.modalities:
            seen = mask.utterance[:, bundle.modalities.index(name)]
            assert (seen == has.get(name, np.zeros(len(rows), bool))).all()
        either = np.array([any(has[name][row] for name in names) for row in range(len(rows))])
        assert 0 < either.sum() < len(rows)
        assert mask.kept is not None and (mask.kept == either).all()
        assert (mask.of(rows) == rows[either]).all()


def test_a_fixed_subset_of_what_all_utterances_have_leaves_none_out(toy: Toy) -> None:
    assert draw(masks.subset(["text"]), toy(), "test", 0).kept is None
    lacking = toy((3, 50, 1, 4), lacking=0.4)
    observed = lacking.observed.copy()
    observed[:, lacking.modalities.index("text")] = True
    assert (
        draw(
            masks.subset(["text"]), dataclasses.replace(lacking, observed=observed), "test", 0
        ).kept
        is None
    )


def test_a_fixed_subset_that_no_utterance_has_is_refused(toy: Toy) -> None:
    bundle = toy((3, 50, 1, 4), lacking=0.4)
    observed = bundle.observed.copy()
    observed[:, bundle.modalities.index("vision")] = False
    observed[:, bundle.modalities.index("audio")] = True
    dead = dataclasses.replace(bundle, observed=observed)
    with pytest.raises(InputError, match=r"vision.*no test utterance"):
        draw(masks.subset(["vision"]), dead, "test", 0)


def test_complete_subset_and_random_hide_what_they_say(toy: Toy) -> None:
    bundle = toy((3, 5, 1, 40))
    assert draw(masks.complete(), bundle, "test", 0).utterance.all()
    assert (
        draw(masks.subset(["vision", "audio"]), bundle, "test", 0).utterance == [True, False, True]
    ).all()
    assert masks.subset(["vision", "audio"]) == masks.subset(["audio", "vision"])
    pair = bundle.only(["audio", "text"])
    assert (draw(masks.random_missing(), pair, "test", 0).utterance.sum(axis=1) == 1).all()


def test_random_missing_is_one_or_two_of_three_and_each_modality_alike(wide: Bundle) -> None:
    seen = tally(draw(masks.random_missing(), wide, "test", 1).utterance)
    assert set(seen) == {(1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)}
    assert all(abs(count - 4000 / 6) < 5 * math.sqrt(4000 * 5 / 36) for count in seen.values())


def test_frames_are_dropped_at_the_rate_among_those_that_exist(toy: Toy) -> None:
    bundle, rate = toy((5, 5, 5, 100), frames=20), 0.4
    law = masks.frames(rate)
    mask = draw(law, bundle, "test", 2)
    table = audit(law, bundle, "test", mask)
    for index, modality in enumerate(bundle.modalities):
        sizes = bundle.lengths[modality][bundle.rows("test")]
        dropped = sum(
            int(s) - int(k.sum()) for s, k in zip(sizes, mask.frames[modality], strict=True)
        )
        assert table.realised[index] == pytest.approx(dropped / sizes.sum())
        expected = (sizes * rate - rate**sizes).sum()  # one frame comes back where all were dropped
        assert abs(dropped - expected) < 5 * math.sqrt(sizes.sum() * rate * (1 - rate))
    full = draw(masks.frames(1.0), bundle, "test", 2)
    assert all((kept.sum(axis=1) == 1).all() for kept in full.frames.values())


def test_random_frames_spare_one_half_and_drop_the_rest_at_uniform_rates_of_their_own(
    toy: Toy,
) -> None:
    """EBMC E23: a rate of 0 with probability 1/2, else uniform; k of n dropped is then equally likely for all k."""
    steps, n = 40, 4000
    bundle = toy((2, 2, 2, n), {"audio": 1, "text": 1}, frames=steps)
    bundle = dataclasses.replace(
        bundle, lengths={m: np.full(len(bundle), steps) for m in bundle.modalities}
    )
    law = masks.random_frames()
    mask = draw(law, bundle, "test", 1)
    lost = {m: steps - kept.sum(axis=1) for m, kept in mask.frames.items()}
    assert mask.utterance.all()
    for values in lost.values():
        each = 1 / (2 * (steps + 1))  # a uniform rate's share of any number dropped, 0 .. steps
        expected = np.full(steps, each) + np.where(np.arange(steps) == 0, 1 / 2, 0)
        expected[-1] += each  # where all were dropped one came back
        found = np.bincount(values, minlength=steps)
        assert chi2.sf(((found - n * expected) ** 2 / (n * expected)).sum(), steps - 1) > 1e-4
    audio, text = (values == 0 for values in lost.values())
    assert abs(np.corrcoef(audio, text)[0, 1]) < 5 / math.sqrt(n)
    table = audit(law, bundle, "test", mask)
    assert list(table.nominal) == list(table.expected) == [0.25, 0.25]
    assert list(table.realised) == pytest.approx(
        [lost[m].mean() / steps for m in ("audio", "text")]
    )
    assert all(
        abs(r - 0.25) < 5 * math.sqrt(0.11 / n) for r in table.realised
    )  # the rate's variance is 5/48


def test_mix_counts_are_rounded_by_largest_remainder(toy: Toy) -> None:
    # 7 utterances at 0.6: 1.68 lack modalities, 1.68 frames, 0.84 both, 2.8 nothing.
    assert masks.largest_remainder(7, [0.24, 0.24, 0.12, 0.4]) == [2, 1, 1, 3]
    bundle = toy((3, 5, 1, 7), frames=60)
    bundle = dataclasses.replace(
        bundle, lengths={m: np.full(len(bundle), 60) for m in bundle.modalities}
    )
    mask = draw(masks.mix(0.6), bundle, "test", 0)
    lacks = ~mask.utterance.all(axis=1)
    drops = np.array([any(not kept[i].all() for kept in mask.frames.values()) for i in range(7)])
    assert [
        int(v.sum()) for v in (lacks & ~drops, drops & ~lacks, lacks & drops, ~lacks & ~drops)
    ] == [2, 1, 1, 3]


def test_largest_remainder_sums_to_n_and_moves_no_count_by_one() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        n, shares = (
            int(random.integers(0, 200)),
            random.dirichlet(np.ones(int(random.integers(1, 6)))),
        )
        counts = masks.largest_remainder(n, list(shares))
        assert sum(counts) == n and all(
            abs(c - n * s) < 1 for c, s in zip(counts, shares, strict=True)
        )


def test_audit_names_the_rate_the_expected_rate_and_the_realised_one(toy: Toy) -> None:
    bundle = toy((3, 5, 1, 40))
    table = audit(
        masks.imbalanced(RATES), bundle, "test", draw(masks.imbalanced(RATES), bundle, "test", 0)
    )
    assert list(table.modality) == ["audio", "text", "vision"] and list(table.nominal) == [
        0.5,
        0.7,
        0.3,
    ]
    assert list(table.expected) == pytest.approx([0.465, 0.665, 0.265])
    for law, nominal, expected in (
        (masks.shared(0.5), 0.5, 0.5 - 0.125 / 3),
        (masks.random_missing(), 0.5, 0.5),
        (masks.complete(), 0.0, 0.0),
    ):
        table = audit(law, bundle, "test", draw(law, bundle, "test", 0))
        assert list(table.nominal) == pytest.approx([nominal] * 3)
        assert list(table.expected) == pytest.approx([expected] * 3)
    table = audit(
        masks.subset(["text"]), bundle, "test", draw(masks.subset(["text"]), bundle, "test", 0)
    )
    assert list(table.realised) == list(table.nominal) == list(table.expected) == [1.0, 0.0, 1.0]


def test_nominal_rates_of_mix_and_random_are_what_draws_average_to(toy: Toy) -> None:
    bundle, law = toy((5, 5, 5, 400), frames=2), masks.mix(0.5)
    realised = np.mean(
        [1 - draw(law, bundle, "test", s).utterance.mean(axis=0) for s in range(40)], axis=0
    )
    assert list(masks.nominal_rates(law, bundle.modalities).values()) == pytest.approx(
        list(realised), abs=0.01
    )
    assert masks.nominal_rates(masks.random_missing(), ("audio", "text")) == {
        "audio": 0.5,
        "text": 0.5,
    }


# Order, seeds and steps.


@pytest.mark.parametrize(
    ("law", "fingerprint"),
    [
        (masks.frames(0.5), "1f2513f852ad8653"),
        (masks.frames(0.5, True), "61b97ad8e7056962"),
        (masks.mix(0.6), "b2f717cd00429170"),
        (masks.shared(0.5), "28828e99b2907c4c"),
        (masks.random_missing(True), "51d6939aafafbe83"),
        (masks.patterns(), "1c87551d1b4e9e20"),
    ],
    ids=lambda part: str(part),
)
def test_draws_are_those_of_committed_results_whatever_laws_come_after(
    toy: Toy, law: Law, fingerprint: str
) -> None:
    assert draw(law, toy((3, 5, 1, 6), frames=4), "test", 3, 2).fingerprint == fingerprint


def test_released_layout_deals_blocks_of_one_pattern_in_order_and_ignores_the_seed(
    toy: Toy,
) -> None:
    bundle = toy((3, 5, 1, 10) * 5)
    law = masks.imbalanced(RATES, "released")
    mask = draw(law, bundle, "test", 0)
    runs = [pattern for pattern, _ in itertools.groupby(map(tuple, mask.utterance))]
    assert len(runs) == len(set(runs)) == 7
    assert draw(law, bundle, "test", 99).fingerprint == mask.fingerprint
    by_dialogue = np.split(mask.utterance, 5)
    assert sum(len(np.unique(block, axis=0)) == 1 for block in by_dialogue) >= 1
    assert draw(masks.imbalanced(RATES), bundle, "test", 0).fingerprint != mask.fingerprint


@pytest.mark.parametrize(
    "law", UTTERANCE_LAWS + FRAME_LAWS, ids=lambda law: f"{law}{'*' * law.resampled}"
)
def test_a_mask_does_not_depend_on_the_order_of_the_file(toy: Toy, law: Law) -> None:
    lengths, frames = (3, 5, 1, 4, 6, 7, 2, 9), 4 * (law in FRAME_LAWS)
    shuffled = np.random.default_rng(3).permutation(sum(lengths))
    one, two = (
        toy(lengths, frames=frames, lacking=0.2),
        toy(lengths, frames=frames, lacking=0.2, order=shuffled),
    )
    assert one.fingerprint == two.fingerprint
    for split in ("train", "valid", "test"):
        assert draw(law, one, split, 4).fingerprint == draw(law, two, split, 4).fingerprint


@pytest.mark.parametrize(
    "law", [masks.shared(0.5), masks.random_missing(), masks.imbalanced(RATES)], ids=str
)
def test_seeds_and_splits_give_independent_masks(wide: Bundle, law: Law) -> None:
    splits = dataclasses.replace(
        wide,
        split=(wide.split * 0 + np.arange(len(wide)) // 4000 % 3).astype(np.int8),
        dialogue=np.arange(len(wide)),
    )
    first = draw(law, splits, "valid", 0).utterance
    assert (draw(law, splits, "valid", 0).utterance == first).all()
    n = len(first)
    for other in (
        draw(law, splits, "valid", 1).utterance,
        draw(law, splits, "test", 0).utterance[:n],
    ):
        for m in range(3):
            correlation = np.corrcoef(first[:, m], other[:, m])[0, 1]
            assert abs(correlation) < 5 / math.sqrt(n)


def test_a_test_mask_does_not_depend_on_how_many_utterances_train_has(toy: Toy) -> None:
    small, large = toy((3, 5, 1, 40)), toy((30, 5, 10, 40))
    for law in (masks.shared(0.5), masks.imbalanced(RATES), masks.random_missing()):
        assert draw(law, small, "test", 0).fingerprint == draw(law, large, "test", 0).fingerprint


def test_each_modality_has_a_generator_of_its_own_so_that_later_utterances_change_no_earlier_cell(
    toy: Toy,
) -> None:
    short, long = (
        draw(masks.shared(0.3), toy((3, 5, 1, n)), "test", 0).utterance for n in (40, 60)
    )
    drawn = short.sum(axis=1) > 1  # utterances with one modality may have had it restored
    assert drawn.sum() > 20 and (short[drawn] == long[:40][drawn]).all()


def test_resampled_masks_can_be_drawn_again_by_step_and_fixed_ones_know_no_step(toy: Toy) -> None:
    bundle = toy((3, 5, 1, 40), frames=5)
    for build in (
        lambda r: masks.shared(0.5, r),
        masks.random_missing,
        lambda r: masks.frames(0.5, r),
        masks.random_frames,
    ):
        fixed, anew = build(False), build(True)
        prints = [draw(anew, bundle, "train", 0, step).fingerprint for step in range(20)]
        assert len(set(prints)) == 20
        assert all(
            draw(anew, bundle, "train", 0, step).fingerprint == prints[step] for step in (19, 7, 0)
        )
        assert (
            draw(fixed, bundle, "train", 0, 5).fingerprint
            == draw(fixed, bundle, "train", 0).fingerprint
        )
        assert draw(fixed, bundle, "train", 0).fingerprint not in prints


def test_a_fingerprint_sees_every_cell_and_frame(toy: Toy) -> None:
    mask = draw(masks.frames(0.5), toy((3, 5, 1, 4), frames=4), "test", 0)
    seen = {mask.fingerprint}
    for cell in np.ndindex(mask.utterance.shape):
        flipped = mask.utterance.copy()
        flipped[cell] ^= True
        seen.add(masks.Mask(flipped, mask.frames).fingerprint)
    for modality, kept in mask.frames.items():
        flipped = kept.copy()
        flipped[1, 2] ^= True
        seen.add(masks.Mask(mask.utterance, {**mask.frames, modality: flipped}).fingerprint)
    assert len(seen) == 1 + 12 + 3


# Laws as data, and bad input.


@pytest.mark.parametrize(
    "law", UTTERANCE_LAWS + FRAME_LAWS, ids=lambda law: f"{law}{'*' * law.resampled}"
)
def test_a_law_survives_json(law: Law) -> None:
    assert masks.law_from_json(json.loads(json.dumps(dataclasses.asdict(law)))) == law


@pytest.mark.parametrize(
    "make",
    [
        lambda: masks.law_from_json({"kind": "sharde"}),
        lambda: masks.law_from_json({"kind": "shared", "rate": 1.0}),
        lambda: Law("mix", rate=1.5),
        lambda: masks.shared(1.0),
        lambda: masks.shared(-0.1),
        lambda: masks.shared(math.nan),
        lambda: masks.imbalanced({"audio": 0.5, "text": 1.0}),
        lambda: masks.frames(1.5),
        lambda: masks.subset([]),
        lambda: masks.imbalanced(RATES, "blocks"),  # type: ignore[arg-type]
        lambda: masks.law_from_json({"kind": "shared", "rat": 0.5}),
    ],
)
def test_a_law_that_makes_no_sense_raises(make: Callable[[], Law]) -> None:
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize(
    "law, word",
    [
        (masks.subset(["smell"]), "smell"),
        (masks.imbalanced({**RATES, "smell": 0.1}), "smell"),
        (masks.imbalanced({"audio": 0.5, "text": 0.5}), "2 modalities"),
        (masks.frames(0.5), "frames"),
        (masks.mix(0.5), "frames"),
        (masks.random_frames(), "frames"),
        (Law("sharde"), "shared"),
    ],
)
def test_a_law_that_does_not_fit_the_bundle_raises_and_names_what_is_wrong(
    toy: Toy, law: Law, word: str
) -> None:
    with pytest.raises(InputError, match=word):
        draw(law, toy(), "test", 0)
