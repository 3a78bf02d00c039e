"""A test split of few dialogues and speakers says nothing of others, and the check says so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mmlib.data.bundle import Bundle, Task, make_bundle
from mmlib.data.check import check
from mmlib.data.groups import ENOUGH, NAMES, few_tested
from mmlib.runs import clusters

N, TESTED = 200, 40


def spoken(speakers: int, dialogues: int = 0, **more: object) -> Bundle:
    """200 utterances, the last 40 of them test, by so many speakers and in so many dialogues, if any."""
    chance = np.random.default_rng(0)
    tested = np.arange(N) >= N - TESTED
    turn = np.arange(N) % TESTED
    label = chance.integers(0, 2, N)
    return make_bundle(
        "spoken",
        Task("classes", ("no", "yes")),
        {m: chance.normal(size=(N, 4)) + label[:, None] for m in ("audio", "text")},
        label,
        np.where(tested, 2, np.arange(N) % 5 == 0),
        [f"u{i:03d}" for i in range(N)],
        dialogue=np.where(tested, turn % dialogues, 100 + np.arange(N)) if dialogues else None,
        speaker=np.where(tested, turn % speakers, 50 + np.arange(N) // 20),
        **more,
    )


@pytest.mark.parametrize("speakers", [1, 2, 4])
def test_few_speakers_are_counted_and_warned_of(speakers: int) -> None:
    bundle = spoken(speakers)
    assert few_tested(bundle) == {"speakers": speakers}
    assert clusters.of_test(bundle).kind == "utterances", "nothing else is left to draw from"
    (told,) = [w for w in check(bundle).stated if "the test split of spoken has" in w]
    words = "1 speaker." if speakers == 1 else f"{speakers} speakers."
    assert words in told and "say nothing of others" in told


@pytest.mark.parametrize(("speakers", "dialogues"), [(ENOUGH, 0), (2, ENOUGH), (9, 2), (40, 0)])
def test_enough_of_either_or_nobody_twice_is_not_warned_of(speakers: int, dialogues: int) -> None:
    bundle = spoken(speakers, dialogues)
    assert few_tested(bundle) == {}
    assert not any("the test split" in warning for warning in check(bundle).stated)


def test_dialogues_and_speakers_are_both_named() -> None:
    told = " ".join(check(spoken(3, 2)).stated)
    assert "the test split of spoken has 2 dialogues and 3 speakers." in told


def test_a_single_speaker_of_all_data_counts_where_the_data_name_one() -> None:
    bundle = dataclasses.replace(spoken(1), speaker=np.zeros(N, dtype=np.int64))
    assert few_tested(bundle) == {}, "no speaker is stated"
    assert few_tested(dataclasses.replace(bundle, notes={NAMES: ["anna"]})) == {"speakers": 1}


def test_of_folds_each_is_a_test_split() -> None:
    fold = np.arange(N) // 50  # four, of 2 or 3 speakers each
    speaker = np.arange(N) // 20
    bundle = dataclasses.replace(spoken(1), speaker=speaker, fold=fold)
    assert few_tested(bundle) == {"speakers": len(np.unique(speaker[:50]))}
    assert any("a fold of spoken has 3 speakers." in w for w in check(bundle).stated)
    assert few_tested(dataclasses.replace(bundle, speaker=np.arange(N) // 7)) == {}
