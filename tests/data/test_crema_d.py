"""CREMA-D's raw clips: labels, speakers, splits, clips left out, and lists that are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_media import near, sine, write_video, write_wav

from mmlib import paths
from mmlib.data.bundle import SPLITS, Bundle, load_bundle
from mmlib.data.readers import crema_d, crema_d_votes, read_bundle
from mmlib.errors import InputError

Cli = Callable[[Sequence[str]], int]
EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
WORDS = dict(zip(EMOTIONS, ("anger", "Disgust", "fear", "HAPPY", "neutral", "sad"), strict=True))
COLOURS = dict(
    zip(
        EMOTIONS,
        (
            (240, 20, 20),
            (20, 200, 20),
            (20, 20, 240),
            (200, 200, 20),
            (20, 200, 200),
            (128, 128, 128),
        ),
        strict=True,
    )
)
TRAIN = [f"{actor}_IEO_{emotion}_XX" for actor in (1001, 1002, 1005, 1091) for emotion in EMOTIONS]
TEST = [f"1005_TIE_{emotion}_{level}" for emotion in EMOTIONS for level in ("HI", "X")]
OPTIONS = {"size": "16", "jobs": "1"}


def write(folder: Path, labels: str = "word") -> Path:
    """Clips of one colour per emotion; labels: word, code, or none beside the stems."""
    for name in TRAIN + TEST:
        emotion = name.split("_")[2]
        write_wav(
            folder / "AudioWAV" / f"{name}.wav",
            sine(300 * (1 + EMOTIONS.index(emotion)), 0.4, 16000),
            16000,
        )
        write_video(folder / "VideoFlash" / f"{name}.flv", [COLOURS[emotion]] * 3, size=(32, 24))
    for split, names in {"train": TRAIN, "test": TEST}.items():
        beside = {
            "word": lambda e: "," + WORDS[e],
            "code": lambda e: "," + e,
            "none": lambda e: "",
        }[labels]
        text = "\n".join(name + beside(name.split("_")[2]) for name in names[::-1])
        (folder / f"{split}.csv").write_text(text + "\n", encoding="utf-8-sig")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("crema-d"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def copy_of(folder: Path, tmp: Path) -> Path:
    """Another folder with the same clips (links) and lists of its own."""
    (tmp / "in").mkdir()
    for name in ("AudioWAV", "VideoFlash"):
        (tmp / "in" / name).mkdir()
        for path in (folder / name).iterdir():
            (tmp / "in" / name / path.name).symlink_to(path)
    for name in ("train.csv", "test.csv"):
        (tmp / "in" / name).write_bytes((folder / name).read_bytes())
    return tmp / "in"


def names_of(bundle: Bundle, split: str) -> set[str]:
    return {bundle.ids[row] for row in bundle.rows(split)}


def test_shapes_labels_and_speakers(folder: Path, cache: Path) -> None:
    bundle = read_bundle("crema-d", [folder], {**OPTIONS, "cache": str(cache), "frames": "2"})
    assert bundle.shapes == {"audio": (1, 257, 188), "vision": (2, 3, 16, 16)}
    assert (
        bundle.features["audio"].dtype == np.float32 and bundle.features["vision"].dtype == np.uint8
    )
    assert bundle.ids == tuple(sorted(TRAIN + TEST)) and bundle.task.names == EMOTIONS
    actors = {"1001": 0, "1002": 1, "1005": 2, "1091": 3}
    for row, name in enumerate(bundle.ids):
        actor, _, emotion, _ = name.split("_")
        assert (bundle.labels[row], bundle.speaker[row]) == (EMOTIONS.index(emotion), actors[actor])
        assert all(near(frame, COLOURS[emotion]) for frame in bundle.features["vision"][row])
        peak = round(300 * (1 + EMOTIONS.index(emotion)) * 512 / 22050)
        assert set(bundle.features["audio"][row, 0, :, 2:17].argmax(axis=0)) == {peak}
    assert len(set(bundle.dialogue)) == len(bundle) and len(bundle.dialogues("test")) == len(TEST)
    assert bundle.notes["left_out"] == {"count": 0, "first": {}}


def test_validation_is_drawn_as_the_votes_reader_draws_it(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    bundle = read_bundle("crema-d", [folder], {**OPTIONS, "cache": str(cache)})
    columns = {**dict.fromkeys(crema_d_votes.VOTES, 1), **dict.fromkeys(crema_d_votes.MEANS, 1.0)}
    table = [
        {"": view * 100000 + k, "fileName": name, **columns}
        for view in (1, 2)
        for k, name in enumerate(TRAIN + TEST)
    ]
    pd.DataFrame(table).to_csv(tmp_path / "tabulatedVotes.csv", index=False)
    for split in ("train", "test"):
        (tmp_path / f"split_{split}.csv").write_bytes((folder / f"{split}.csv").read_bytes())
    votes = read_bundle("crema-d-votes", [tmp_path])
    assert [names_of(bundle, s) for s in SPLITS] == [names_of(votes, s) for s in SPLITS]
    assert names_of(bundle, "test") == set(TEST) and len(names_of(bundle, "valid")) == 2


def test_a_large_train_list_holds_out_a_tenth_of_each_class(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, list[str]] = {}
    monkeypatch.setattr(
        crema_d,
        "clip_bundle",
        lambda name, task, clips, recipe, labels, split, **rest: seen.update(
            ids=[clip.id for clip in clips], split=split
        ),
    )
    for name in ("AudioWAV", "VideoFlash"):
        (tmp_path / name).mkdir()
    train = [f"{1000 + actor}_IEO_{emotion}_XX" for actor in range(91) for emotion in EMOTIONS]
    for split, names in {"train": train, "test": ["1001_TIE_SAD_X"]}.items():
        (tmp_path / f"{split}.csv").write_text("\n".join(names))
    crema_d.read([tmp_path])
    held = [
        name for name, split in zip(seen["ids"], seen["split"], strict=True) if split == "valid"
    ]
    assert Counter(name.split("_")[2] for name in held) == dict.fromkeys(EMOTIONS, 9)
    first = list(seen["split"])
    (tmp_path / "train.csv").write_text("\n".join(train[::-1]))
    crema_d.read([tmp_path])
    assert seen["split"] == first


@pytest.mark.parametrize("labels", ["code", "none"])
def test_the_label_column_may_be_codes_or_absent(
    folder: Path, cache: Path, tmp_path: Path, labels: str
) -> None:
    expected = read_bundle("crema-d", [folder], {**OPTIONS, "cache": str(cache)})
    other = copy_of(folder, tmp_path)
    for split, names in {"train": TRAIN, "test": TEST}.items():
        rows = [f"{name},{name.split('_')[2]}" if labels == "code" else name for name in names]
        (other / f"{split}.csv").write_text("\n".join(rows))
    found = read_bundle("crema-d", [other], {**OPTIONS, "cache": str(cache)})
    assert found.fingerprint == expected.fingerprint


def test_clips_that_cannot_be_used_are_left_out_and_move_no_other(
    folder: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = read_bundle("crema-d", [folder], {**OPTIONS, "cache": str(cache)})
    other = copy_of(folder, tmp_path)
    gone = {
        "1001_IEO_ANG_XX": "silent",
        "1002_IEO_SAD_XX": "no file VideoFlash/",
        "1005_TIE_DIS_HI": "is empty",
    }
    (other / "AudioWAV" / "1001_IEO_ANG_XX.wav").unlink()
    write_wav(other / "AudioWAV" / "1001_IEO_ANG_XX.wav", np.zeros(16000), 16000)
    (other / "VideoFlash" / "1002_IEO_SAD_XX.flv").unlink()
    (other / "AudioWAV" / "1005_TIE_DIS_HI.wav").unlink()
    (other / "AudioWAV" / "1005_TIE_DIS_HI.wav").touch()
    capsys.readouterr()
    bundle = read_bundle("crema-d", [other], {**OPTIONS, "cache": str(cache)})
    printed = capsys.readouterr().out
    assert (
        set(whole.ids) - set(bundle.ids) == set(gone) and "33 clips decoded, 3 left out" in printed
    )
    assert bundle.notes["left_out"]["count"] == 3
    for name, reason in gone.items():
        assert reason in bundle.notes["left_out"]["first"][name]
        assert f"left out {name}: {bundle.notes['left_out']['first'][name]}" in printed
    rows = [whole.ids.index(name) for name in bundle.ids]
    assert (bundle.split == whole.split[rows]).all() and (
        bundle.speaker == whole.speaker[rows]
    ).all()
    assert all((bundle.features[m] == whole.features[m][rows]).all() for m in bundle.modalities)


def test_the_notes_name_ten_clips_at_most(folder: Path, cache: Path, tmp_path: Path) -> None:
    other = copy_of(folder, tmp_path)
    for name in TRAIN[:11]:
        (other / "VideoFlash" / f"{name}.flv").unlink()
    notes = read_bundle("crema-d", [other], {**OPTIONS, "cache": str(cache)}).notes["left_out"]
    assert notes["count"] == 11 and list(notes["first"]) == sorted(TRAIN[:11])[:10]


def test_import_writes_a_bundle_and_its_cache_beside_it(
    folder: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MMLIB_HOME", str(tmp_path))
    before = sorted(folder.rglob("*"))
    command = [
        "data",
        "import",
        "crema-d",
        str(folder),
        "--option",
        "size=16",
        "--option",
        "jobs=2",
    ]
    assert cli(command) == 0
    bundle = load_bundle(paths.bundles() / "crema-d")
    assert len(bundle) == 36 and bundle.fingerprint in capsys.readouterr().out
    assert len(list((paths.bundles() / ".cache").glob("*.npz"))) == 36
    assert sorted(folder.rglob("*")) == before, "nothing is written into the source folder"
    assert cli(["data", "list"]) == 0
    assert ".cache" not in capsys.readouterr().out


def without(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        if (folder / name).is_file():
            (folder / name).unlink()
        else:
            (folder / name).rename(folder / "elsewhere")

    return change


def row(text: str, name: str = "test.csv") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text + "\n")

    return change


def emptied(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in (folder / "AudioWAV").glob(pattern):
            path.unlink()
            path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")

    return change


def only_blank(folder: Path) -> None:
    (folder / "train.csv").write_text("\n\n")


def binary(folder: Path) -> None:
    (folder / "test.csv").write_bytes(b"\xff\xfe\x00" * 20)


REFUSED: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "no sounds": (without("AudioWAV"), ("AudioWAV", "no such file", "VideoFlash")),
    "no videos": (without("VideoFlash"), ("VideoFlash", "no such file")),
    "no train list": (without("train.csv"), ("train.csv", "no such file")),
    "no test list": (without("test.csv"), ("test.csv", "no such file")),
    "a list of nothing": (only_blank, ("train.csv", "no readable table")),
    "a list that is no text": (binary, ("test.csv",)),
    "a row that is no clip": (
        row("sub/../1001_x"),
        ("test.csv", "'sub/../1001_x' in row 13", "1001_IEO_NEU_XX"),
    ),
    "an unknown emotion": (row("1001_IEO_SUR_XX"), ("test.csv", "'SUR'", "ANG, DIS")),
    "a label that is another": (
        row("1001_IEO_SAD_HI,happy"),
        ("1001_IEO_SAD_HI", "'happy'", "SAD"),
    ),
    "a clip in two lists": (row(TRAIN[3]), (TRAIN[3], "train and test", "Remove")),
    "a split without clips": (
        emptied("1005_TIE_*"),
        ("split test", "none of its 12 clips", "git lfs pull"),
    ),
    "a class without clips": (
        emptied("*_FEA_*"),
        ("class FEA", "none of its 6 clips", "Get the files again"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_folders_are_refused_with_nothing_written(
    name: str,
    folder: Path,
    cache: Path,
    tmp_path: Path,
    cli: Cli,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = copy_of(folder, tmp_path)
    change, words = REFUSED[name]
    change(other)
    options = [
        part
        for key, value in {**OPTIONS, "cache": cache}.items()
        for part in ("--option", f"{key}={value}")
    ]
    assert (
        cli(["data", "import", "crema-d", str(other), "--out", str(tmp_path / "out"), *options])
        == 2
    )
    error = capsys.readouterr().err
    assert all(word in error for word in words), error
    assert "Traceback" not in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["frames=0", "size=-3", "size=big", "jobs=0"])
def test_bad_options_are_refused(option: str, folder: Path, cache: Path) -> None:
    key, value = option.split("=")
    with pytest.raises(InputError, match=f"option {key}: found {value!r}"):
        read_bundle("crema-d", [folder], {**OPTIONS, "cache": str(cache), key: value})
