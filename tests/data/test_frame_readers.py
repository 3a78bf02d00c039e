"""The frame-level pickles of MMSA and MulT: each utterance's frames, lengths, label, split and video."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmlib import masks, paths
from mmlib.data.bundle import Bundle, load_bundle
from mmlib.data.readers import read_bundle
from mmlib.errors import InputError
from mmlib.nn.batch import to_device

Cli = Callable[[Sequence[str]], int]
Content = dict[str, dict[str, Any]]
COUNTS = {"train": 6, "valid": 2, "test": 4}
VIDEOS = {"train": ("b-1", "a_2"), "valid": ("c",), "test": ("e", "d")}


def sequence(number: int, length: int, steps: int, dims: int, front: bool = False) -> np.ndarray:
    """Frames that name their utterance and place, 100 number + place + 1, padded with zeros."""
    array = np.zeros((steps, dims))
    place = slice(steps - length, steps) if front else slice(length)
    array[place] = (100 * number + np.arange(length) + 1)[:, None]
    return array


def length_of(number: int, steps: int) -> int:
    return 1 + (7 * number) % steps


def mmsa(aligned: bool = False, front: bool = False, protocol_bytes: bool = False) -> Content:
    """Utterances numbered 1 to 12 over the splits; the clips of a video run downwards: 2, 1, 0."""
    steps = {"text": 5, "audio": 5 if aligned else 9, "vision": 5 if aligned else 11}
    content: Content = {}
    number = 0
    for split, count in COUNTS.items():
        numbers = range(number + 1, number + count + 1)
        part: dict[str, Any] = {"raw_text": ["words"] * count, "text_bert": np.ones((count, 3, 5))}
        for (modality, longest), dims in zip(steps.items(), (4, 2, 3), strict=True):
            lengths = [length_of(i, longest) for i in numbers]
            part[modality] = np.stack(
                [
                    sequence(i, k, longest, dims, front)
                    for i, k in zip(numbers, lengths, strict=True)
                ]
            ).astype(np.float32)
            if not aligned and modality != "text":
                part[f"{modality}_lengths"] = lengths
        part["regression_labels"] = np.array([(i - 6) / 2 for i in numbers])
        part["classification_labels"] = np.zeros(count)
        videos = VIDEOS[split]
        size = count // len(videos)
        part["id"] = [f"{videos[k // size]}$_${size - 1 - k % size}" for k in range(count)]
        content[split] = part
        number += count
    return content


def iemocap(aligned: bool = True, labels: Sequence[Sequence[int]] | None = None) -> Content:
    """Twelve utterances; by default number i has emotion i modulo 4 alone."""
    content: Content = {}
    number = 0
    for split, count in COUNTS.items():
        numbers = range(number + 1, number + count + 1)
        part: dict[str, Any] = {}
        for modality, longest, dims in (
            ("text", 5, 4),
            ("audio", 5 if aligned else 8, 2),
            ("vision", 5 if aligned else 9, 3),
        ):
            part[modality] = np.stack(
                [sequence(i, length_of(i, longest), longest, dims, True) for i in numbers]
            )
        present = np.array(
            [labels[i - 1] if labels else np.eye(4, dtype=int)[i % 4] for i in numbers]
        )
        part["labels"] = np.stack([1 - present, present], axis=2)
        content[split] = part
        number += count
    return content


def written(folder: Path, content: object, name: str = "file.pkl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


def utterance(bundle: Bundle, name: str) -> tuple[int, dict[str, np.ndarray]]:
    """The row of an utterance and its frames, cut to their length."""
    at = bundle.ids.index(name)
    return at, {m: bundle.features[m][at, : bundle.lengths[m][at]] for m in bundle.modalities}


@pytest.mark.parametrize("front", [False, True], ids=["padded at the end", "padded at the front"])
@pytest.mark.parametrize("option", ["file", "zeros"])
def test_mmsa_unaligned_gives_each_utterance_its_own_frames(
    option: str, front: bool, tmp_path: Path
) -> None:
    bundle = read_bundle("mmsa", [written(tmp_path, mmsa(front=front))], {"lengths": option})
    assert (
        bundle.shapes == {"audio": (9, 2), "text": (5, 4), "vision": (11, 3)} and len(bundle) == 12
    )
    assert bundle.task.kind == "score" and bundle.task.range == (-3.0, 3.0)
    names = [n for split in mmsa().values() for n in split["id"]]
    for number, name in enumerate(names, start=1):
        at, frames = utterance(bundle, name)
        assert bundle.labels[at] == (number - 6) / 2
        for modality, steps in (("audio", 9), ("text", 5), ("vision", 11)):
            wanted = 100 * number + np.arange(length_of(number, steps)) + 1
            np.testing.assert_array_equal(frames[modality][:, 0], wanted)
            assert not bundle.features[modality][at, len(wanted) :].any()
    assert bundle.observed.all()


def test_mmsa_videos_are_dialogues_in_the_order_of_their_clips(tmp_path: Path) -> None:
    bundle = read_bundle("mmsa", [written(tmp_path, mmsa())])
    found = {
        split: [[bundle.ids[r] for r in rows] for rows in bundle.dialogues(split)]
        for split in COUNTS
    }
    assert found == {
        "train": [["a_2$_$0", "a_2$_$1", "a_2$_$2"], ["b-1$_$0", "b-1$_$1", "b-1$_$2"]],
        "valid": [["c$_$0", "c$_$1"]],
        "test": [["d$_$0", "d$_$1"], ["e$_$0", "e$_$1"]],
    }
    assert bundle.labels[bundle.ids.index("b-1$_$2")] == -2.5  # utterance 1
    assert bundle.labels[bundle.ids.index("d$_$0")] == 3  # utterance 12


def test_mmsa_clips_are_ordered_as_numbers(tmp_path: Path) -> None:
    content = mmsa()
    content["train"]["id"] = [f"a$_${clip}" for clip in (10, 9, 2, 100, 1, 0)]
    bundle = read_bundle("mmsa", [written(tmp_path, content)])
    assert [bundle.ids[r].split("$_$")[1] for r in bundle.rows("train")] == [
        "0",
        "1",
        "2",
        "9",
        "10",
        "100",
    ]


def test_mmsa_aligned_frames_stay_aligned(tmp_path: Path) -> None:
    """Silence or a hidden face at either end of an utterance is no padding as long as a word is there."""
    content = mmsa(aligned=True)
    train = content["train"]
    for modality in ("text", "audio", "vision"):
        train[modality][0] = sequence(1, 4, 5, train[modality].shape[2], front=True)
        train[modality][0, 1 if modality != "text" else 0] = (
            0  # the first word has no sound and no face
        )
        train[modality][1] = sequence(2, 3, 5, train[modality].shape[2])
    train["vision"][1, 2] = 0
    bundle = read_bundle("mmsa", [written(tmp_path, content)])
    first, frames = utterance(bundle, "b-1$_$2")
    assert all(bundle.lengths[m][first] == 4 for m in bundle.modalities)
    assert frames["text"][:, 0].tolist() == [101, 102, 103, 104]
    assert frames["audio"][:, 0].tolist() == frames["vision"][:, 0].tolist() == [0, 102, 103, 104]
    second, frames = utterance(bundle, "b-1$_$1")
    assert bundle.lengths["vision"][second] == 3 and frames["vision"][:, 0].tolist() == [
        201,
        202,
        0,
    ]
    assert "not zero" in bundle.notes["lengths"]


def test_mmsa_modalities_of_zeros_alone_are_missing_by_nature(tmp_path: Path) -> None:
    content = mmsa()
    content["train"]["vision"][0] = 0
    content["train"]["vision_lengths"][0] = 0
    for modality in ("text", "audio", "vision"):
        content["test"][modality][1] = 0
    bundle = read_bundle("mmsa", [written(tmp_path, content)])
    at = bundle.ids.index("b-1$_$2")
    assert bundle.observed[at].tolist() == [True, True, False] and bundle.lengths["vision"][at] == 1
    assert bundle.observed[bundle.ids.index("e$_$0")].all() and (~bundle.observed).sum() == 1


def test_mmsa_silence_of_minus_infinity_is_zero_and_counted(tmp_path: Path) -> None:
    content = mmsa()
    content["train"]["audio"][2, 1, 1] = content["valid"]["audio"][0, 0, 0] = -np.inf
    bundle = read_bundle("mmsa", [written(tmp_path, content)], {"task": "mosei"})
    _, frames = utterance(bundle, "b-1$_$0")
    assert frames["audio"][1].tolist() == [302, 0]
    assert [v for k, v in bundle.notes.items() if "infinity" in k] == [2]
    assert bundle.name == "mmsa-mosei" and "CMU Multimodal SDK" in bundle.licence


def test_mmsa_lengths_beyond_the_steps_are_those_of_longer_originals(tmp_path: Path) -> None:
    content = mmsa()
    content["train"]["audio_lengths"] = [900] * 6
    bundle = read_bundle("mmsa", [written(tmp_path, content)])
    assert (bundle.lengths["audio"][bundle.split == 0] == 9).all()
    assert bundle.lengths["audio"][bundle.ids.index("c$_$1")] == length_of(7, 9)


@pytest.mark.parametrize("protocol", [2, 5])
def test_mmsa_takes_arrays_of_any_kind_and_bytes_as_ids(protocol: int, tmp_path: Path) -> None:
    plain, other = mmsa(), mmsa()
    for part in other.values():
        part["id"] = np.array([name.encode() for name in part["id"]], dtype=object)
        part["regression_labels"] = part["regression_labels"][:, None].tolist()
        part["audio_lengths"] = np.array(part["audio_lengths"])
        part["vision"] = part["vision"].astype(np.float64)
    second = tmp_path / "other.pkl"
    second.write_bytes(pickle.dumps(other, protocol))
    first = read_bundle("mmsa", [written(tmp_path, plain)])
    assert read_bundle("mmsa", [second]).fingerprint == first.fingerprint


@pytest.mark.parametrize("aligned", [True, False])
def test_mult_iemocap_gives_four_questions_and_frames(aligned: bool, tmp_path: Path) -> None:
    bundle = read_bundle("mult-iemocap", [written(tmp_path, iemocap(aligned))])
    assert bundle.task.kind == "binaries" and bundle.task.names == (
        "neutral",
        "happy",
        "sad",
        "angry",
    )
    assert (
        [len(bundle.rows(s)) for s in COUNTS]
        == [6, 2, 4]
        == [len(bundle.dialogues(s)) for s in COUNTS]
    )
    for number, name in ((1, "train-00000"), (8, "valid-00001"), (11, "test-00002")):
        at, frames = utterance(bundle, name)
        assert bundle.labels[at].tolist() == [int(k == number % 4) for k in range(4)]
        for modality, steps in (
            ("audio", 5 if aligned else 8),
            ("text", 5),
            ("vision", 5 if aligned else 9),
        ):
            wanted = 100 * number + np.arange(length_of(number, steps)) + 1
            np.testing.assert_array_equal(frames[modality][:, -1], wanted)


NONE, SEVERAL = (0, 0, 0, 0), (1, 0, 1, 0)


def test_mult_iemocap_keeps_none_and_several_as_questions_and_leaves_them_out_as_classes(
    tmp_path: Path,
) -> None:
    labels: list[tuple[int, ...]] = [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)] * 3
    labels[4], labels[9], labels[10] = NONE, SEVERAL, NONE
    path = written(tmp_path, iemocap(labels=labels))
    questions = read_bundle("mult-iemocap", [path])
    assert len(questions) == 12
    assert [
        tuple(questions.labels[questions.ids.index(n)])
        for n in ("train-00004", "test-00001", "test-00003")
    ] == [NONE, SEVERAL, (0, 0, 0, 1)]
    assert (
        questions.notes["utterances without an emotion"],
        questions.notes["utterances with several"],
    ) == (2, 1)
    classes = read_bundle("mult-iemocap", [path], {"task": "classes"})
    assert classes.task.kind == "classes" and len(classes) == 9
    assert set(questions.ids) - set(classes.ids) == {"train-00004", "test-00001", "test-00002"}
    assert "3 utterances" in classes.notes["left out"]
    for name in classes.ids:
        (at, frames), (before, whole) = utterance(classes, name), utterance(questions, name)
        assert questions.labels[before].tolist() == np.eye(4)[classes.labels[at]].tolist()
        assert all(np.array_equal(frames[m], whole[m]) for m in frames)


def change(split: str, key: str, value: Any) -> Callable[[Content], None]:
    def apply(content: Content) -> None:
        content[split][key] = value(content[split][key]) if callable(value) else value

    return apply


def without(split: str, key: str) -> Callable[[Content], None]:
    return lambda content: content[split].pop(key)


def with_hole(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[1, 0, 0] = np.nan
    return array


def longer(lengths: list[int]) -> list[int]:
    return [1, *lengths[1:5], 1]


WRONG: dict[str, tuple[str, Callable[[Content], object], tuple[str, ...]]] = {
    "a split missing": (
        "mmsa",
        lambda c: c.pop("valid"),
        ("keys test, train", "train, valid and test"),
    ),
    "audio missing": ("mmsa", without("test", "audio"), ("test", "'audio' among them")),
    "ids missing": ("mmsa", without("train", "id"), ("train", "'id' among them")),
    "labels missing": (
        "mult-iemocap",
        without("valid", "labels"),
        ("valid", "'labels' among them"),
    ),
    "vectors, not frames": (
        "mmsa",
        change("train", "text", np.ones((6, 4))),
        ("text", "(6, 4)", "(n, t, d)"),
    ),
    "other rows": (
        "mmsa",
        change("test", "vision", lambda a: a[:3]),
        ("test, vision", "(3, 11, 3)", "(4, 11, 3)"),
    ),
    "other dims in a split": (
        "mmsa",
        change("valid", "text", lambda a: a[:, :, :3]),
        ("valid, text", "(2, 5, 3)", "(2, 5, 4)"),
    ),
    "strings for features": (
        "mmsa",
        change("train", "audio", lambda a: a.astype(str)),
        ("train, audio", "<U"),
    ),
    "fewer labels": (
        "mmsa",
        change("test", "regression_labels", np.zeros(3)),
        ("regression_labels", "(3,)", "(4,)"),
    ),
    "labels of words": (
        "mmsa",
        change("test", "regression_labels", ["a"] * 4),
        ("regression_labels", "no numbers"),
    ),
    "labels out of range": (
        "mmsa",
        change("test", "regression_labels", np.full(4, 5.0)),
        ("5.0", "-3.0 to 3.0"),
    ),
    "fewer ids": ("mmsa", change("train", "id", ["a$_$0"]), ("train, id", "1 ids", "6 ids")),
    "ids without a clip": (
        "mmsa",
        change("train", "id", [f"a_{i}" for i in range(6)]),
        ("'a_0'", "$_$"),
    ),
    "a clip that is no number": (
        "mmsa",
        change("train", "id", [f"a$_${i}x" for i in range(6)]),
        ("'a$_$0x'",),
    ),
    "ids in three columns": (
        "mmsa",
        change("train", "id", np.array([["a", "0", "1"]] * 6)),
        ("the id 'a'", "6 ids"),
    ),
    "the same id twice": (
        "mmsa",
        change("train", "id", ["a$_$0"] * 6),
        ("'a$_$0' twice", "unique ids"),
    ),
    "a video in two splits": (
        "mmsa",
        change("valid", "id", ["a_2$_$7", "a_2$_$8"]),
        ("in two splits", "dialogue"),
    ),
    "NaN": ("mmsa", change("train", "text", with_hole), ("text", "NaN", "'train': 1")),
    "lengths that leave frames out": (
        "mmsa",
        change("train", "vision_lengths", longer),
        ("vision_lengths", "leave frames out", "lengths=zeros"),
    ),
    "negative lengths": ("mmsa", change("train", "audio_lengths", [-1] * 6), ("6 lengths", "-1")),
    "fewer lengths": (
        "mmsa",
        change("train", "audio_lengths", [1] * 5),
        ("audio_lengths", "(5,)", "(6,)"),
    ),
    "three emotions": (
        "mult-iemocap",
        change("train", "labels", lambda a: a[:, :3]),
        ("labels", "(6, 3, 2)"),
    ),
    "emotions as one number": (
        "mult-iemocap",
        change("train", "labels", np.zeros((6, 4))),
        ("(6, 4)", "(6, 4, 2)"),
    ),
    "both of two": (
        "mult-iemocap",
        change("test", "labels", np.ones((4, 4, 2))),
        ("row 9", "(1, 0) or (0, 1)"),
    ),
    "shares for labels": (
        "mult-iemocap",
        change("test", "labels", np.full((4, 4, 2), 0.5)),
        ("0.5", "(0, 1)"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_content_is_named(name: str, tmp_path: Path) -> None:
    format, spoil, words = WRONG[name]
    content = mmsa() if format == "mmsa" else iemocap()
    good = written(tmp_path, content, "good.pkl")
    read_bundle(format, [good])
    spoil(content)
    path = written(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_bundle(format, [path])
    assert all(word in str(caught.value) for word in words), str(caught.value)


class Hostile:
    """Pickles as the call that would create a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize(
    ("format", "key"), [("mmsa", "raw_text"), ("mmsa", "id"), ("mult-iemocap", "labels")]
)
def test_hostile_pickles_are_refused_and_nothing_runs(
    format: str, key: str, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    content, marker = (mmsa() if format == "mmsa" else iemocap()), tmp_path / "marker"
    content["test"][key] = [Hostile(marker)]
    path = written(tmp_path, content)
    assert cli(["data", "import", format, str(path), "--out", str(tmp_path / "out")]) == 2
    assert "nothing of it was run" in capsys.readouterr().err
    assert not marker.exists() and not (tmp_path / "out").exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], ("a list", "train, valid and test")),
        ({"train": 1, "valid": 2, "test": 3}, ("keys test, train, valid",)),
        ({"train": {"audio": torch.ones(2)}}, ("torch tensors",)),
        (b"\x80\x04\x95cut", ("truncated or damaged",)),
    ],
)
@pytest.mark.parametrize("format", ["mmsa", "mult-iemocap"])
def test_other_files_are_refused(
    format: str, content: object, words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        read_bundle(format, [written(tmp_path, content)])
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("format", "options", "words"),
    [
        ("mmsa", {"task": "mosie"}, "Did you mean 'mosi'|Did you mean 'mosei'"),
        ("mmsa", {"lengths": "zero"}, "'zeros'"),
        ("mult-iemocap", {"task": "binary"}, "Did you mean 'binaries'"),
        ("mult-iemocap", {"lengths": "x"}, "'lengths'"),
    ],
)
def test_unknown_options_are_refused(
    format: str, options: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        read_bundle(format, [written(tmp_path, mmsa())], options)
    with pytest.raises(InputError, match="no such file"):
        read_bundle(format, [tmp_path / "absent.pkl"])
    with pytest.raises(InputError, match="2 of them"):
        read_bundle(format, [tmp_path, tmp_path])


@pytest.mark.parametrize("format", ["mmsa", "mult-iemocap"])
def test_an_imported_bundle_loads_equal_and_frames_can_be_dropped(
    format: str, tmp_path: Path, cli: Cli
) -> None:
    path = written(tmp_path, mmsa() if format == "mmsa" else iemocap(aligned=False))
    assert (
        cli(["data", "import", format, str(path), "--out", str(tmp_path / "out"), "--name", "mine"])
        == 0
    )
    bundle = load_bundle(tmp_path / "out")
    assert bundle.fingerprint == read_bundle(format, [path]).fingerprint and bundle.name == "mine"
    mask = masks.draw(masks.frames(0.5), bundle, "train", 0)
    resident, rows = to_device(bundle, "train", mask, "cpu"), bundle.rows("train")
    for modality, values in resident.features.items():
        shown = values.numpy().any(axis=2)
        assert np.array_equal(shown, mask.frames[modality])
        assert (shown.sum(axis=1) >= 1).all()
        assert (shown.sum(axis=1) <= bundle.lengths[modality][rows]).all()
    assert sum(int(m.sum()) for m in mask.frames.values()) < sum(
        int(v[rows].sum()) for v in bundle.lengths.values()
    )


def test_real_mmmo_has_frames_of_audio_and_vision_that_can_be_dropped() -> None:
    folder = paths.real_data() / "mmmo-frames"
    if not folder.exists():
        pytest.skip(f"no real data at {folder}")
    bundle = read_bundle("mmmo", [folder])
    assert bundle.shapes == {"audio": (20, 74), "vision": (20, 36)}
    mask = masks.draw(masks.frames(0.9), bundle, "test", 0)
    audit = masks.audit(masks.frames(0.9), bundle, "test", mask)
    assert audit["realised"].between(0.8, 0.95).all()
    features = to_device(bundle, "test", mask, "cpu").features
    rows = bundle.rows("test")
    for modality, values in features.items():
        wanted = np.where(mask.frames[modality][..., None], bundle.features[modality][rows], 0)
        np.testing.assert_array_equal(values.numpy(), wanted)
