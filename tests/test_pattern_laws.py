"""Laws of patterns at a share of incomplete rows, and stretches of missing frames: counts, rates and what they say."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from mmlib import masks
from mmlib.data.bundle import Bundle
from mmlib.errors import InputError
from mmlib.masks import draw

Toy = Callable[..., Bundle]
LETTERS = ("audio", "text", "vision", "wrist")


def wide(toy: Toy, count: int, n: int = 3000) -> Bundle:
    return toy((2, 2, 2, n), dict.fromkeys(LETTERS[:count], 1))


def tally(mask: np.ndarray) -> Counter[tuple[int, ...]]:
    return Counter(tuple(map(int, row)) for row in mask)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("make", [masks.keep_one, masks.coins, masks.fixed_subsets])
def test_exactly_the_share_is_incomplete_and_nothing_is_lost_whole(
    toy: Toy, make: Callable[[float], masks.Law], count: int
) -> None:
    for share in (0.0, 0.6, 1.0):
        mask = draw(make(share), wide(toy, count), "test", 1).utterance
        assert (~mask.all(axis=1)).sum() == share * 3000
        assert mask.any(axis=1).all()


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("make", [masks.keep_one, masks.coins, masks.fixed_subsets])
def test_realised_rates_are_near_the_nominal_ones(
    toy: Toy, make: Callable[[float], masks.Law], count: int
) -> None:
    bundle = wide(toy, count)
    table = masks.audit(make(0.6), bundle, "test", draw(make(0.6), bundle, "test", 0))
    assert (abs(table.realised - table.nominal) < 5 / (2 * math.sqrt(3000))).all()


def test_keep_one_keeps_each_modality_as_often(toy: Toy) -> None:
    """BEYOND's realised rate for a share of 0.6 of three modalities is 0.40."""
    seen = tally(draw(masks.keep_one(0.6), wide(toy, 3), "test", 0).utterance)
    assert set(seen) == {(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)}
    assert all(abs(seen[e] - 600) < 5 * math.sqrt(400) for e in seen if sum(e) == 1)
    assert masks.nominal_rates(masks.keep_one(0.6), LETTERS[:3])["text"] == pytest.approx(0.4)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_coins_give_the_patterns_that_counting_all_throws_gives(toy: Toy, count: int) -> None:
    expected: dict[tuple[int, ...], float] = {}
    for throw in itertools.product((0, 1), repeat=count):
        turned = [throw]
        if len(set(throw)) == 1:
            turned = [(*throw[:i], 1 - throw[i], *throw[i + 1 :]) for i in range(count)]
        for pattern in turned:
            expected[pattern] = expected.get(pattern, 0) + 1 / 2**count / len(turned)
    assert len(expected) == 2**count - 2
    assert (len({round(p, 9) for p in expected.values()}) == 1) == (
        count <= 3
    )  # uniform up to three
    seen = tally(draw(masks.coins(1.0), wide(toy, count), "test", 0).utterance)
    assert set(seen) == set(expected)
    for pattern, p in expected.items():
        assert abs(seen[pattern] - 3000 * p) < 5 * math.sqrt(3000 * p * (1 - p))


def test_fixed_subsets_lose_the_first_of_an_order_in_every_split_and_seed(toy: Toy) -> None:
    order = ("vision", "audio", "text")
    law = masks.fixed_subsets(0.5, order)
    bundle = toy((60, 60, 60, 60) * 5)
    for split, seed in itertools.product(("train", "valid", "test"), (0, 1)):
        mask = draw(law, bundle, split, seed).utterance
        assert set(tally(mask)) == {(1, 1, 1), (1, 1, 0), (0, 1, 0)}
    nominal = masks.nominal_rates(law, bundle.modalities)
    assert nominal == pytest.approx({"vision": 0.5, "audio": 0.25, "text": 0.0})
    with pytest.raises(InputError, match="order"):
        draw(masks.fixed_subsets(0.5, ("audio",)), bundle, "test", 0)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_segment_is_one_run_of_exactly_so_many_frames(toy: Toy, rate: float) -> None:
    bundle = toy((5, 5, 5, 300), frames=20)
    mask = draw(masks.segment(rate), bundle, "test", 1)
    assert mask.utterance.all()
    for modality, kept in mask.frames.items():
        for row, length in zip(kept, bundle.lengths[modality][bundle.rows("test")], strict=True):
            lost = min(-(-round(rate * 100) * int(length) // 100), int(length) - 1)
            assert row[:length].sum() == length - lost and not row[length:].any()
            ends = np.diff(np.r_[1, row[:length].astype(int), 1])
            assert (ends == -1).sum() == (lost > 0)  # one run


def test_a_segment_begins_anywhere_as_often_so_that_ends_are_covered_less(toy: Toy) -> None:
    bundle = toy((2, 2, 2, 6000), {"audio": 1, "text": 1}, frames=10)
    bundle = dataclasses.replace(
        bundle, lengths={m: np.full(len(bundle), 10) for m in bundle.modalities}
    )
    kept = draw(masks.segment(0.4), bundle, "test", 0).frames
    audio, text = (np.argmin(kept[m], axis=1) for m in ("audio", "text"))
    for start in (audio, text):
        counts = np.bincount(start, minlength=7)
        assert len(counts) == 7 and (abs(counts - 6000 / 7) < 5 * math.sqrt(6000 / 7)).all()
    assert abs(np.corrcoef(audio, text)[0, 1]) < 5 / math.sqrt(6000)
    covered = 1 - kept["audio"].mean(axis=0)
    assert covered == pytest.approx([k / 7 for k in (1, 2, 3, 4, 4, 4, 4, 3, 2, 1)], abs=0.035)
    independent = 1 - draw(masks.frames(0.4), bundle, "test", 0).frames["audio"].mean(axis=0)
    assert np.ptp(independent) < 0.06


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda b: masks.segment(1.0), "missing rate"),
        (lambda b: draw(masks.segment(0.5), b, "test", 0), "frames"),
        (lambda b: masks.keep_one(1.1), "share"),
        (lambda b: masks.coins(-0.1), "share"),
    ],
)
def test_a_law_of_patterns_that_makes_no_sense_raises(
    toy: Toy, make: Callable[[Bundle], object], word: str
) -> None:
    with pytest.raises(InputError, match=word):
        make(toy())
