"""The law ``patterns``: one combination of modalities for each dialogue, in given shares; and hiding within a batch."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare

from mmlib import masks
from mmlib.data.bundle import Bundle
from mmlib.data.twins import make_twin
from mmlib.errors import InputError
from mmlib.masks import Mask, combinations, draw, patterns
from mmlib.nn.batch import hide, to_device

Toy = Callable[..., Bundle]
SHARES = np.array([0.05, 0.3, 0.0, 0.1, 0.25, 0.1, 0.2])
ROWS = [(0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]


@pytest.fixture(scope="module")
def big() -> Bundle:
    """420 training dialogues."""
    return make_twin("mosei", "study").bundle


def of_dialogues(mask: Mask, bundle: Bundle, split: str = "train") -> np.ndarray:
    """(dialogues,) place of each dialogue's combination in ``ROWS``; one for all of its utterances."""
    home = bundle.dialogue[bundle.rows(split)]
    found = []
    for number in sorted(set(home.tolist())):
        own = {tuple(int(v) for v in row) for row in mask.utterance[home == number]}
        assert len(own) == 1
        found.append(ROWS.index(own.pop()))
    return np.array(found)


def test_combinations_are_the_binary_numbers_from_one() -> None:
    for count in range(1, 6):
        found = combinations(count)
        assert found.dtype == bool and found.shape == (2**count - 1, count)
        for number, row in enumerate(found, start=1):
            assert "".join("01"[int(v)] for v in row) == format(number, f"0{count}b")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("role", ["mosei", "iemocap6"])
def test_every_utterance_of_a_dialogue_is_in_its_dialogues_combination(
    role: str, split: str
) -> None:
    bundle = make_twin(role, "tiny").bundle
    for step in range(5):
        found = of_dialogues(draw(patterns(), bundle, split, 0, step), bundle, split)
        assert len(found) == len(bundle.dialogues(split))


@pytest.mark.parametrize("shares", [None, SHARES])
def test_the_shares_of_dialogues_are_those_asked_for(
    big: Bundle, shares: np.ndarray | None
) -> None:
    drawn = np.concatenate(
        [of_dialogues(draw(patterns(), big, "train", 0, step, shares), big) for step in range(20)]
    )
    assert len(drawn) == 20 * 420
    wanted = np.full(7, 1 / 7) if shares is None else shares
    counts = np.bincount(drawn, minlength=7)
    for count, share in zip(counts, wanted, strict=True):
        low, high = binom(len(drawn), share).interval(1 - 1e-6)
        assert low <= count <= high
    assert not counts[wanted == 0].any()
    assert chisquare(counts[wanted > 0], len(drawn) * wanted[wanted > 0]).pvalue > 1e-4


def test_one_draw_is_within_binomial_bounds_and_no_quota(big: Bundle) -> None:
    for seed in range(10):
        counts = np.bincount(
            of_dialogues(draw(patterns(), big, "train", seed, 0, SHARES), big), minlength=7
        )
        for count, share in zip(counts, SHARES, strict=True):
            low, high = binom(420, share).interval(1 - 1e-6)
            assert low <= count <= high
    spread = [
        np.bincount(of_dialogues(draw(patterns(), big, "train", seed), big), minlength=7)[0]
        for seed in range(40)
    ]
    assert 0.5 < np.var(spread) / (420 * 6 / 49) < 2


def test_all_or_nothing_shares_are_kept_to_the_letter(big: Bundle) -> None:
    for place in range(7):
        found = of_dialogues(draw(patterns(), big, "train", 3, 1, np.eye(7)[place]), big)
        assert set(found.tolist()) == {place}


def test_no_shares_are_equal_shares(big: Bundle) -> None:
    assert np.array_equal(
        draw(patterns(), big, "train", 1, 2).utterance,
        draw(patterns(), big, "train", 1, 2, np.full(7, 1 / 7)).utterance,
    )


@pytest.mark.parametrize("place", range(7))
def test_raising_one_share_moves_dialogues_towards_that_combination_and_never_past_it(
    big: Bundle, place: int
) -> None:
    before = of_dialogues(draw(patterns(), big, "train", 0, 0, np.full(7, 1 / 7)), big)
    found = []
    for share in (0.2, 0.4, 0.8):
        shares = np.where(np.arange(7) == place, share, (1 - share) / 6)
        after = of_dialogues(draw(patterns(), big, "train", 0, 0, shares), big)
        assert (np.abs(after - place) <= np.abs(before - place)).all()
        assert ((after - place) * (before - place) >= 0).all() and (
            after[before == place] == place
        ).all()
        found.append((after == place).sum())
        before = after
    assert found == sorted(found) and found[0] < found[-1]


def test_the_numbers_behind_two_draws_are_the_same_as_the_inverse_of_their_shares_says(
    big: Bundle,
) -> None:
    """From draws of two combinations at a hundred thresholds the uniform number of each dialogue; it gives any draw."""
    thresholds = np.linspace(0, 1, 101)
    low = np.zeros(420)
    for threshold in thresholds[:-1]:
        shares = np.array([threshold, 0, 0, 0, 0, 0, 1 - threshold])
        low[of_dialogues(draw(patterns(), big, "train", 0, 4, shares), big) == 6] = threshold
    drawn = of_dialogues(draw(patterns(), big, "train", 0, 4, SHARES), big)
    edges = np.cumsum(SHARES)
    for u, found in zip(low, drawn, strict=True):
        assert found in {int((edges <= u + 1e-9).sum()), int((edges <= u + 0.01 - 1e-9).sum())}
    assert np.histogram(low, bins=10, range=(0, 1))[0].min() > 20


def test_a_resampled_draw_is_new_at_every_epoch_and_can_be_drawn_again(big: Bundle) -> None:
    drawn = [draw(patterns(), big, "train", 0, step, SHARES).fingerprint for step in range(4)]
    assert drawn == [
        draw(patterns(), big, "train", 0, step, SHARES).fingerprint for step in range(4)
    ]
    assert len(set(drawn)) == 4
    assert drawn[0] != draw(patterns(), big, "train", 1, 0, SHARES).fingerprint
    fixed = {
        draw(patterns(resampled=False), big, "train", 0, step).fingerprint for step in range(4)
    }
    assert len(fixed) == 1


def test_epochs_and_splits_draw_independently_of_one_another(big: Bundle) -> None:
    first, second = (of_dialogues(draw(patterns(), big, "train", 0, step), big) for step in (0, 1))
    low, high = binom(420, 1 / 7).interval(1 - 1e-6)
    assert low <= (first == second).sum() <= high
    other = of_dialogues(draw(patterns(), big, "test", 0, 0), big, "test")[:420]
    assert low <= (first == other).sum() <= high


@pytest.mark.parametrize(
    "shares",
    [
        np.full(6, 1 / 6),
        np.full(8, 1 / 8),
        np.full(7, 0.2),
        np.full((1, 7), 1 / 7),
        np.zeros(7),
        np.array([-0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.1]),
        np.full(7, np.nan),
        np.array([np.inf, 0, 0, 0, 0, 0, 0]),
    ],
    ids=str,
)
def test_shares_that_are_none_are_errors(shares: np.ndarray) -> None:
    with pytest.raises(InputError, match="shares"):
        draw(patterns(), make_twin("mosei", "tiny").bundle, "train", 0, 0, shares)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_nominal_rate_is_the_mean_over_equal_combinations(toy: Toy, count: int) -> None:
    names = ("audio", "gaze", "text", "vision")[:count]
    held = [row for row in itertools.product((0, 1), repeat=count) if any(row)]
    missing = 1 - np.mean([row[0] for row in held])
    assert masks.nominal_rates(patterns(), names) == pytest.approx(dict.fromkeys(names, missing))
    if count == 3:
        assert missing == pytest.approx(3 / 7)


def test_the_audit_of_a_draw_is_near_the_nominal_rate(big: Bundle) -> None:
    table = masks.audit(patterns(), big, "test", draw(patterns(), big, "test", 0))
    assert (table["nominal"] == table["expected"]).all() and table["nominal"].iloc[
        0
    ] == pytest.approx(3 / 7)
    assert (table["realised"] - 3 / 7).abs().max() < 0.08


def test_what_is_missing_by_nature_stays_missing_and_nobody_is_left_with_nothing(toy: Toy) -> None:
    bundle = toy((3, 5, 1, 4) * 40, lacking=0.4)
    observed = bundle.observed[bundle.rows("train")]
    mask = draw(patterns(), bundle, "train", 0, 0, SHARES).utterance
    assert mask.any(axis=1).all() and not (mask & ~observed).any()


def test_the_law_has_a_name_and_comes_back_from_a_record() -> None:
    for law in (patterns(), patterns(resampled=False)):
        assert masks.law_from_json(json.loads(json.dumps(dataclasses.asdict(law)))) == law
    assert str(patterns()) == "patterns" and patterns().resampled


@pytest.mark.parametrize("frames", [0, 4])
@pytest.mark.parametrize("lacking", [0.0, 0.3])
def test_to_hide_in_a_batch_is_to_mask_on_the_way_to_the_device(
    toy: Toy, frames: int, lacking: float
) -> None:
    bundle = toy(frames=frames, lacking=lacking)
    natural = bundle.observed[bundle.rows("train")]
    resident = to_device(bundle, "train", Mask(natural), "cpu")
    for row in ROWS:
        kept = np.array(row, dtype=bool)
        masked = to_device(bundle, "train", Mask(natural & kept), "cpu")
        for dialogues in ([0], [3, 1], range(resident.dialogues)):
            before = resident.batch(list(dialogues))
            found, expected = hide(before, torch.from_numpy(kept)), masked.batch(list(dialogues))
            assert torch.equal(found.observed, expected.observed) and torch.equal(
                found.labels, expected.labels
            )
            for m in bundle.modalities:
                assert torch.equal(found.features[m], expected.features[m])
            assert torch.equal(before.observed, resident.batch(list(dialogues)).observed)


def test_hiding_keeps_no_trace_of_what_is_not_a_number(toy: Toy) -> None:
    bundle = toy()
    batch = to_device(bundle, "train", draw(masks.complete(), bundle, "train", 0), "cpu").batch(
        [0, 1]
    )
    batch.features["text"].fill_(float("nan"))
    found = hide(batch, torch.tensor([True, False, True]))
    assert not found.features["text"].any() and torch.equal(
        found.features["audio"], batch.features["audio"]
    )
