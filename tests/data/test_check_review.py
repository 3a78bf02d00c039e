"""What a reviewer asks of data: shared speakers, leaks, dead and missing modalities, absent classes, ties, copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_folder import good_rows, write_folder

from mmlib.data.bundle import Bundle, Task, make_bundle, save_bundle
from mmlib.data.check import Report, check
from mmlib.data.copies import copies
from mmlib.data.groups import groups_of, speaker_kind
from mmlib.data.labels import absent_warnings
from mmlib.data.probe import probe

Cli = Callable[[Sequence[str]], int]
N = 600
SPLIT = np.repeat([0, 1, 2], [400, 80, 120])
GENERATOR = np.random.default_rng(4)
LABEL = GENERATOR.integers(0, 2, N)
NOISE = {m: GENERATOR.normal(size=(N, 3)) for m in ("audio", "text")}


def made(**changes: Any) -> Bundle:
    """600 utterances that stand alone, two classes; text says something of them, audio nothing."""
    text = NOISE["text"] + 0.6 * (2 * LABEL[:, None] - 1)
    fields: dict[str, Any] = {
        "task": Task("classes", ("no", "yes")),
        "features": {"audio": NOISE["audio"], "text": text},
        "labels": LABEL,
        "split": SPLIT,
        "ids": [f"u{i:03d}" for i in range(N)],
    }
    return make_bundle("made", **(fields | changes))


def with_leak(**changes: Any) -> Bundle:
    """The same; of train alone, text says far more."""
    text = NOISE["text"] + np.where(SPLIT == 0, 3, 0.1)[:, None] * (2 * LABEL[:, None] - 1)
    return made(features={"audio": NOISE["audio"], "text": text}, **changes)


def warned(report: Report, words: str) -> bool:
    return any(words in line for line in report.warnings)


# Twenty speakers: every one in one split, five of them in test, or dealt out to all.
APART = np.concatenate(
    [np.arange(400) % 11, 11 + np.arange(80) % 4, 15 + np.arange(120) % 5]
).tolist()
DEALT = (np.arange(N) % 20).tolist()


def speaker_tells_label(speaker: Sequence[int]) -> Bundle:
    """Text names the speaker, and each speaker has one label: a probe knows those that it has met, and no others."""
    numbers = np.array(speaker)
    text = np.eye(20)[numbers] + 0.01 * np.random.default_rng(0).normal(size=(N, 20))
    features = {"audio": NOISE["audio"], "text": text}
    label = np.random.default_rng(2).permutation(np.arange(20) % 2)[numbers]
    return made(features=features, labels=label, speaker=speaker)


def test_speakers_in_one_split_each_are_no_leak_of_the_features() -> None:
    bundle = speaker_tells_label(APART)
    row = probe(bundle).set_index("inputs").loc["text"]
    assert row["known"] > 0.95 and row["cv"] < 0.7 and row["held_out"] < 0.7
    report = check(bundle)
    assert report.ok and not warned(report, "extractor") and not warned(report, "speakers")
    assert any(line == "speakers: each in one split" for line in report.lines)


def test_speakers_in_several_splits_are_named_and_the_extractor_is_not_blamed() -> None:
    report = check(speaker_tells_label(DEALT))
    assert report.ok and not warned(report, "extractor")
    assert warned(report, "20 of 20 speakers of made are in both train and test")
    assert warned(report, "those of u000, u001, u002, u003, u004 and 15 more")


def test_a_leak_is_reported_where_speakers_are_apart_and_left_open_where_they_are_shared() -> None:
    apart, shared = check(with_leak(speaker=APART)), check(with_leak(speaker=DEALT))
    assert not apart.ok and "held-out dialogues and speakers" in apart.false[0]
    assert shared.ok and not warned(shared, "extractor")
    assert any("the cause cannot be told" in line for line in shared.stated)


def test_a_leak_is_reported_on_the_speakers_that_train_lacks_where_some_are_shared() -> None:
    speaker = np.array(APART)
    speaker[400:420] = 0
    report = check(with_leak(speaker=speaker.tolist()))
    assert not report.ok and warned(report, "1 of 20 speakers of made are in both train and valid")


def test_speakers_whom_most_dialogues_have_all_of_are_parts_and_not_shared_people() -> None:
    dialogue = (np.arange(N) // 4).tolist()
    parts = made(dialogue=dialogue, speaker=(np.arange(N) % 2).tolist())
    assert speaker_kind(parts) == "parts" and not warned(check(parts), "speakers")
    assert speaker_kind(made()) == "not stated"
    assert speaker_kind(made(speaker=APART)) == "people"


def test_groups_are_the_dialogues_that_a_chain_of_speakers_links() -> None:
    generator = np.random.default_rng(1)
    dialogue, speaker = generator.integers(0, 40, 60), generator.integers(0, 45, 60)
    label = np.arange(60)
    for _ in range(60):  # the least label of dialogue and speaker spreads until nothing changes
        for names in (dialogue, speaker):
            label = np.array([label[names == name].min() for name in names])
    groups = groups_of(dialogue, speaker)
    assert (np.equal.outer(groups, groups) == np.equal.outer(label, label)).all()


def test_names_of_speakers_come_from_the_folder(
    tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"speaker": f"person{i % 5}"} for i, row in enumerate(good_rows())]
    folder = write_folder(tmp_path / "in", rows)
    assert cli(["data", "import", "folder", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert cli(["data", "check", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "are in both train and test: person0, person1, person2, person3" in text
    assert "note, speakers" not in text


def test_speakers_of_several_folds_are_warned_of_and_splits_then_are_not() -> None:
    fold = (np.arange(N) % 4).tolist()
    own = np.arange(N) % 4 + 4 * (np.arange(N) // 40)
    assert not warned(check(made(fold=fold, speaker=own.tolist())), "speakers")
    own[own % 4 == 3] = 0
    assert warned(check(made(fold=fold, speaker=own.tolist())), "in more than one fold")


def test_a_modality_at_or_below_the_majority_is_named_and_is_no_false_result() -> None:
    label = (np.arange(N) % 10 < 7).astype(int)  # the larger class is 70 %, which noise never beats
    text = NOISE["text"] + 2 * (2 * label[:, None] - 1)
    report = check(made(labels=label, features={"audio": NOISE["audio"], "text": text}))
    (line,) = report.stated
    assert report.ok and "audio (" in line and "text (" not in line and "70.0%" in line


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_modality_makes_results_false(value: float) -> None:
    still = np.tile(value * np.array([1.0, 2, 3]), (N, 1))
    report = check(made(features={"audio": still, "text": NOISE["text"]}))
    assert not report.ok and "the same in all of train" in report.false[0]


def test_a_class_that_a_split_lacks_is_named() -> None:
    label = np.where(SPLIT == 2, 0, np.arange(N) % 3)
    label[SPLIT == 2] = np.arange(120) % 2
    task = Task("classes", ("a", "b", "c"))
    (line,) = absent_warnings(made(labels=label, task=task))
    assert "test of made has no utterance of c." in line
    assert check(made(labels=label, task=task)).ok
    train, valid = (sum(i % 3 == 2 for i in part) for part in (range(400), range(400, 480)))
    expected = ["class", "c", str(train), str(valid), "0"]
    assert any(line.split() == expected for line in check(made(labels=label, task=task)).lines)


def test_a_binary_label_that_is_never_or_always_true_in_a_split_is_named() -> None:
    answers = np.stack([np.where(SPLIT == 1, 0, LABEL), np.where(SPLIT == 2, 1, LABEL)], axis=1)
    lines = absent_warnings(made(labels=answers, task=Task("binaries", ("a", "b"))))
    assert ["no utterance of a." in lines[0], "no utterance of other than b." in lines[1]] == [
        True,
        True,
    ]


def test_with_folds_a_class_is_looked_for_in_each() -> None:
    fold = np.arange(N) % 4
    label = np.where(fold == 2, 0, LABEL)
    label[np.flatnonzero(fold == 2)[:2]] = 0
    lines = absent_warnings(made(labels=label, fold=fold.tolist()))
    assert len(lines) == 1 and "fold 2 of made has no utterance of yes." in lines[0]


def observed(audio: np.ndarray) -> np.ndarray:
    """(600, 2): whether audio is there; text always is."""
    return np.stack([audio, np.ones(N, dtype=bool)], axis=1)


def test_rows_that_data_lack_are_counted_by_modality_and_split() -> None:
    has = np.arange(N) % 4 > 0  # 100 of 400, 20 of 80 and 30 of 120 are missing
    lines = check(made(observed=observed(has))).lines
    expected = ["audio", "100", "(25%)", "20", "(25%)", "30", "(25%)", "0"]
    assert any(line.split() == expected for line in lines)
    assert "450 of 600 utterances have every modality." in lines


def test_a_modality_that_train_lacks_makes_results_false_and_one_that_test_lacks_is_named() -> None:
    train, test = (
        check(made(observed=observed(SPLIT > 0))),
        check(made(observed=observed(SPLIT < 2))),
    )
    assert not train.ok and "no utterance of train of made has audio" in train.false[0]
    assert test.ok and warned(test, "no utterance of test of made has audio")


def test_missing_that_differs_between_train_and_test_or_goes_with_the_label_is_named() -> None:
    generator = np.random.default_rng(3)
    draws = generator.random(N)
    report = check(made(observed=observed(draws > 0.3)))
    assert not warned(report, "lack") and not warned(report, "goes with its label")
    uneven = check(made(observed=observed(draws > np.where(SPLIT == 2, 0.6, 0.1))))
    assert warned(uneven, "of test of made lack audio") and uneven.ok
    telling = check(made(observed=observed(draws > np.where(LABEL == 1, 0.7, 0.2))))
    assert warned(telling, "goes with its label") and telling.ok
    scores = LABEL * 2.0 - 1 + 0.1 * NOISE["text"][:, 0]
    of_scores = made(
        labels=scores,
        task=Task("score", range=(-2, 2)),
        observed=observed(draws > np.where(LABEL == 1, 0.7, 0.2)),
    )
    assert warned(check(of_scores), "goes with its label")


def test_a_probe_of_one_modality_asks_only_the_utterances_that_have_it() -> None:
    has = np.random.default_rng(5).random(N) < 0.3
    both = made(observed=observed(has))
    strong = {"audio": NOISE["audio"] + 4 * (2 * LABEL[:, None] - 1), "text": NOISE["text"]}
    row = probe(dataclasses.replace(both, features=strong)).set_index("inputs").loc["audio"]
    assert row["held_out"] > 0.97


def test_a_few_rows_of_zeros_are_counted_and_many_are_warned_of_without_a_false_result() -> None:
    few, many = NOISE["audio"].copy(), NOISE["audio"].copy()
    few[:7] = 0
    many[:60] = 0
    one = check(made(features={"audio": few, "text": NOISE["text"]}))
    assert any(line.split() == ["audio", *["0", "(0%)"] * 3, "7"] for line in one.lines)
    assert not warned(one, "zeros alone")
    report = check(made(features={"audio": many, "text": NOISE["text"]}))
    assert warned(report, "60 of 600 rows of audio") and report.ok


def test_utterances_of_train_that_stand_in_test_again_make_results_false() -> None:
    features = {m: array.copy() for m, array in NOISE.items()}
    for array in features.values():
        array[500:510] = array[100:110]
    report = check(made(features=features))
    assert not report.ok and "are in train as well" in report.false[0]
    assert copies(made(features=features)).held_out.tolist() == list(range(500, 510))
    features["audio"][500:510] += 1e-3  # not the same utterance any more
    assert check(made(features=features)).ok


def test_features_of_few_values_that_repeat_inside_train_too_are_no_copies() -> None:
    votes = {m: np.round(array[:, :2]) for m, array in NOISE.items()}
    assert len(copies(made(features=votes)).held_out) > 6 and check(made(features=votes)).ok


RATINGS = [1 + i * 5 % 7 for i in range(24)]


@pytest.mark.parametrize("neutral", [False, True])
def test_ratings_of_1_to_7_with_and_without_a_neutral_value(
    neutral: bool, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"label": label} for row, label in zip(good_rows(), RATINGS, strict=True)]
    folder = write_folder(tmp_path / "in", rows)
    toml = "neutral = 4" if neutral else 'task = "score"'
    (folder / "bundle.toml").write_text(toml)
    assert cli(["data", "import", "folder", str(folder), "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert cli(["data", "check", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    ties = 100 * np.mean(np.array(RATINGS[:16]) == 4)
    assert (f"exactly neutral (0): {ties:.1f}% of train" in text) is neutral
    assert ("If another value is neutral" in text) is not neutral


HEADINGS = (
    "Counts",
    "Modalities",
    "Missing in the data",
    "Leaks and signal",
    "The papers' data",
    "Notebooks",
    "Warnings",
)


def test_the_page_has_its_headings_in_order_and_warnings_last(
    tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    save_bundle(made(speaker=DEALT), tmp_path / "b")
    assert cli(["data", "check", str(tmp_path / "b")]) == 0
    lines = capsys.readouterr().out.splitlines()
    headings = [
        line.split(":")[0]
        for before, line in zip(["", *lines], lines, strict=False)
        if not before and line
    ][1:]
    assert tuple(headings) == HEADINGS
    assert all("WARNING" not in line for line in lines[: lines.index("Notebooks")])
