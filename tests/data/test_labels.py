"""Labels are read as they were meant, or refused with the row; scores without a sign are noticed everywhere."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from small_folder import good_rows, write_folder

from mmlib.data.bundle import Bundle, Task, load_bundle, make_bundle, save_bundle
from mmlib.data.check import check, false_findings, findings
from mmlib.data.labels import constant_warnings, sign_warnings
from mmlib.data.probe import probe
from mmlib.data.readers import read_bundle
from mmlib.errors import InputError

Cli = Callable[[Sequence[str]], int]
SIGNED = [(-2.4, -0.6, 0.8, 1.6)[i % 4] for i in range(24)]
WORDS = [("happy", "sad")[i % 2] for i in range(24)]


def folder(tmp: Path, labels: Sequence[object], toml: str = "") -> Path:
    path = write_folder(
        tmp, [row | {"label": label} for row, label in zip(good_rows(), labels, strict=True)]
    )
    if toml:
        (path / "bundle.toml").write_text(toml)
    return path


def read(tmp: Path, labels: Sequence[object], toml: str = "") -> Bundle:
    return read_bundle("folder", [folder(tmp, labels, toml)])


def one(labels: Sequence[object], cell: str) -> list[object]:
    """The labels with another cell in the eighth row, whose id is d03_1."""
    return [*labels[:7], cell, *labels[8:]]


def scored(labels: Sequence[float], **changes: object) -> Bundle:
    """Twelve utterances: six train, three valid, three test."""
    features = {m: np.random.default_rng(0).normal(size=(12, 2)) for m in ("audio", "text")}
    split = ["train"] * 6 + ["valid"] * 3 + ["test"] * 3
    fields = {
        "task": Task("score", range=(-9, 9)),
        "features": features,
        "labels": np.array(labels, float),
        "split": split,
        "ids": [f"u{i:02d}" for i in range(12)],
    } | changes
    return make_bundle("scored", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", ["", "nan", "-", "1,5", "inf", "good", "−1.5", "N/A"])
@pytest.mark.parametrize("toml", ["", 'task = "score"'])
def test_one_odd_cell_makes_no_score_into_classes(cell: str, toml: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, one(SIGNED, cell), toml)
    assert f"{cell!r} in row 8 (id 'd03_1')" in refused.value.found
    assert "23 of 24 rows are numbers" in refused.value.found


@pytest.mark.parametrize(
    ("cell", "most"),
    [
        ("", "23 of 24 rows are words"),
        ("nan", "23 of 24 rows are words"),
        ("-", "23 of 24 rows are words"),
        ("3", "23 of 24 rows are words"),
        ("sad ", "11 of 24 rows are 'sad'"),
        ("Sad", "11 of 24 rows are 'sad'"),
        ("ｓａｄ", "11 of 24 rows are 'sad'"),
    ],
)
@pytest.mark.parametrize("toml", ["", 'task = "classes"'])
def test_one_odd_cell_makes_no_class_of_its_own(
    cell: str, most: str, toml: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, one(WORDS, cell), toml)
    assert f"{cell!r} in row 8 (id 'd03_1')" in refused.value.found and most in str(refused.value)


def test_a_list_of_classes_says_what_is_meant(tmp_path: Path) -> None:
    bundle = read(tmp_path, one(WORDS, "3"), 'classes = ["sad", "happy", "3"]')
    assert bundle.labels.tolist() == [
        2 if i == 7 else int(word == "happy") for i, word in enumerate(WORDS)
    ]
    with pytest.raises(
        InputError, match=r"'Sad' in row 8 \(id 'd03_1'\); 23 of 24.*Did you mean 'sad'"
    ):
        read(tmp_path / "b", one(WORDS, "Sad"), 'classes = ["sad", "happy"]')


def test_blanks_around_every_name_are_no_part_of_it(tmp_path: Path) -> None:
    assert read(tmp_path, [f" {word}" for word in WORDS]).task.names == ("happy", "sad")


def test_one_class_written_as_two_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'1.0' in row 8"):
        read(tmp_path, one([i % 2 for i in range(24)], "1.0"), 'task = "classes"')


@pytest.mark.parametrize("values", [[0, 1, 2, 3], [1, 2, 3, 4], ["0.0", "1.0"]])
def test_numbers_that_look_like_classes_are_asked_about(
    values: list[object], tmp_path: Path
) -> None:
    labels = [values[i % len(values)] for i in range(24)]
    with pytest.raises(InputError, match=r'task = "classes" .*classes = \[.*task = "score"'):
        read(tmp_path, labels)
    assert len(read(tmp_path, labels, 'task = "classes"').task.names) == len(values)
    assert not read(tmp_path, labels, 'task = "score"').task.signed


@pytest.mark.parametrize("toml", ["", 'task = "score"', "neutral = 1"])
def test_a_constant_score_is_refused(toml: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to learn"):
        read(tmp_path, [2] * 24, toml)


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to learn"):
        read(tmp_path, ["happy"] * 24)


def test_neutral_moves_the_scale(tmp_path: Path) -> None:
    ratings = [1 + i % 7 for i in range(24)]
    moved = read(tmp_path / "a", ratings, "neutral = 4\nrange = [1, 7]")
    by_hand = read(tmp_path / "b", [rating - 4 for rating in ratings])
    assert moved.labels.tolist() == [rating - 4 for rating in ratings] and moved.task.range == (
        -3,
        3,
    )
    assert moved.fingerprint == by_hand.fingerprint and moved.task.signed
    assert "4 of the source is 0 here" in str(check(moved))


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('neutral = "4"', "neutral"),
        ("neutral = nan", "neutral"),
        ("neutral = true", "neutral"),
        ('task = "classes"\nneutral = 4', "classes"),
    ],
)
def test_a_neutral_value_that_is_none_is_refused(toml: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, [1 + i % 7 for i in range(24)], toml)


@pytest.mark.parametrize(
    ("valid", "test", "signed"),
    [
        ([-1, 0, 1], [-2, 1, 1], True),
        ([1, 0, 2], [-1, 1, 1], False),
        ([-1, 1, 1], [1, 1, 2], False),
        ([0, 0, 0], [-1, 1, 1], False),
    ],
)
def test_scores_have_a_sign_where_validation_and_test_have_both(
    valid: list[float], test: list[float], signed: bool, tmp_path: Path
) -> None:
    bundle = scored([-1, 1, -2, 2, 0, 1, *valid, *test])
    save_bundle(bundle, tmp_path / "b")
    assert bundle.task.signed is signed and load_bundle(tmp_path / "b").task.signed is signed
    told = [*sign_warnings(bundle), *constant_warnings(bundle)]
    assert bool(told) is not signed and "signed" not in repr(bundle.task)


def test_with_folds_the_whole_data_decide_on_the_sign() -> None:
    fold = np.arange(12) % 3
    bundle = scored(np.where(fold == 1, 1, (-1) ** (np.arange(12) % 4 > 1)), fold=fold)
    assert bundle.task.signed and bundle.with_fold(1).task.signed


def test_import_and_check_say_what_follows_from_scores_of_one_sign(
    tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder(tmp_path / "in", [1 + i % 5 for i in range(24)], 'task = "score"')
    assert cli(["data", "import", "folder", str(path), "--out", str(tmp_path / "out")]) == 0
    imported = capsys.readouterr().out
    assert cli(["data", "check", str(tmp_path / "out")]) == 0, "what tables then show is true"
    checked = capsys.readouterr().out
    for said in (imported, checked):
        assert "WARNING" in said and "neutral = 4" in said and "no accuracy and no F1" in said
        assert 'task = "classes"' in said


@pytest.mark.parametrize(
    ("mean", "sd", "said"),
    [
        (38, 0.8, "mean 38 and sd 0.8"),
        (-38, 0.8, "mean -38 and sd 0.8"),
        (1985, 15, "mean 1985 and sd 15"),
        (3e6, 6e5, "mean 3e+06 and sd 6e+05"),
        (1962, 761, "mean 1962 and sd 761"),
        (50, 18, "mean 50 and sd 18"),
        (0, 2, ""),
        (4, 1.4, "mean 4 and sd 1.4"),
        (2, 1.4, ""),
    ],
)
def test_scores_far_from_0_for_their_spread_are_warned_of(
    mean: float, sd: float, said: str
) -> None:
    labels = mean + sd * np.tile([-1.0, 1.0], 6)
    bundle = scored(labels, task=Task("score", range=(mean - 9 * sd, mean + 9 * sd)))
    told = [text for text in findings(bundle) if "networks begin at 0" in text]
    assert len(told) == bool(said) and all(said in text for text in told)
    assert false_findings(bundle) == [], "true results, though perhaps of short training"


def test_a_split_of_zeros_alone_is_noticed(tmp_path: Path) -> None:
    labels = [
        0.0 if row["split"] == "valid" else label
        for row, label in zip(good_rows(), SIGNED, strict=True)
    ]
    assert any(
        "all 4 utterances of valid have the score 0. A run refuses it" in text
        for text in findings(read(tmp_path, labels))
    )


def test_the_probe_of_scores_of_one_sign_asks_for_the_half_above_the_median() -> None:
    labels = np.random.default_rng(1).permutation(np.tile([1.0, 2, 4, 5], 3))
    rows = probe(scored(labels))
    assert rows["majority"].between(0.5, 1).all() and rows["held_out"].notna().all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.5])
def test_a_class_number_that_is_none_is_refused(bad: float) -> None:
    labels = np.arange(12) % 2 + 0.0
    labels[4] = bad
    with pytest.raises(InputError, match="'u04'; 11 of 12"):
        scored(labels, task=Task("classes", ("no", "yes")))


def test_a_release_with_a_score_beyond_its_range_is_refused_by_name(tmp_path: Path) -> None:
    def part(name: str, labels: np.ndarray) -> dict[str, object]:
        arrays = {m: np.ones((len(labels), 3, 2), np.float32) for m in ("audio", "text", "vision")}
        return {
            **arrays,
            "regression_labels": labels,
            "id": [f"{name}{i}$_$0" for i in range(len(labels))],
        }

    train = np.array([-1.0, 1, 10 / 3, 2])
    parts = {"train": part("a", train), "valid": part("b", train[:2]), "test": part("c", train[:2])}
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(parts))
    with pytest.raises(InputError, match=r"3\.33.* 'a2\$_\$0'; 7 of 8 are inside.*clip them"):
        read_bundle("mmsa", [tmp_path / "old.pkl"])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_other_programs_give_the_same_bundle(
    separator: str, mark: bytes, end: str, tmp_path: Path
) -> None:
    path = folder(tmp_path, SIGNED)
    plain = read_bundle("folder", [path])
    text = (path / "utterances.csv").read_text().replace(",", separator).replace("\n", end)
    (path / "utterances.csv").write_bytes(mark + text.encode())
    (path / "bundle.toml").write_bytes(mark + b'task = "score"')
    assert read_bundle("folder", [path]).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda text: text.replace("0.8", "0,8").replace(",d", ";d").replace(",train", ";train"),
            "utterances.csv",
        ),
        (lambda text: text.replace(",split", ", split"), "the column ' split'"),
        (lambda text: text.replace("label", "Label"), "the column 'Label'"),
        (lambda text: text.replace("train", "Train", 1), "split in row 1"),
        (lambda text: text + ",,,,,\n", "split in row 25"),
        (lambda text: text.replace("\n", ",more\n").replace("speaker,more", "speaker"), "cells"),
    ],
)
def test_tables_that_cannot_be_told_are_refused(
    change: Callable[[str], str], said: str, tmp_path: Path
) -> None:
    path = folder(tmp_path, SIGNED)
    table = path / "utterances.csv"
    table.write_text(change(table.read_text()))
    with pytest.raises(InputError, match=said):
        read_bundle("folder", [path])


def test_classes_have_any_names_as_the_readme_says(tmp_path: Path) -> None:
    names = ("heureux-é", "怒り", "very angry")
    bundle = read(tmp_path, [names[i % 3] for i in range(24)])
    assert bundle.task.names == tuple(sorted(names))
    text = (Path(__file__).parents[2] / "data/README.md").read_text(encoding="utf-8")
    (sentence,) = [s for s in " ".join(text.split()).split(". ") if s.startswith("Classes may")]
    assert "any names in any script" in sentence and "heureux-é" in sentence and "怒り" in sentence
    assert "bundles and labels have names" not in text
