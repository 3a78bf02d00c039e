"""AVE's raw clips: classes, events, videos that the lists name twice, clips left out, and lists that are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from test_media import BLUE, GREEN, RED, near, shorten, sine, write_video

from mmlib.data.bundle import Bundle, load_bundle
from mmlib.data.readers import read_bundle
from mmlib.errors import InputError

Cli = Callable[[Sequence[str]], int]
HEAD = "Category&VideoID&Quality&StartTime&EndTime\n"
FILES = {"train": "trainSet.txt", "valid": "valSet.txt", "test": "testSet.txt"}
CLASSES = ("Church bell", "Flute", "Frying (food)", "Race car, auto racing")
ROWS = {
    split: [(name, f"{'-_' * k}{split[:2]}{k}", 2, 4) for k, name in enumerate(CLASSES)]
    for split in FILES
}
OPTIONS = {"size": "16", "jobs": "1", "seconds": "2"}


def lists(
    folder: Path, rows: Mapping[str, Sequence[tuple[str, str, float, float]]], head: str = HEAD
) -> None:
    """Annotations.txt and the three lists."""
    lines = {
        split: [f"{c}&{v}&good&{a:g}&{b:g}" for c, v, a, b in part] for split, part in rows.items()
    }
    for split, part in lines.items():
        (folder / FILES[split]).write_text("\n".join(part) + "\n", encoding="utf-8")
    everything = "\n".join(line for part in lines.values() for line in part)
    (folder / "Annotations.txt").write_text(head + everything + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 6 s: 500 Hz and red, then 2,000 Hz and green from 2 to 4 s, then 4,000 Hz and blue."""
    path = tmp_path_factory.mktemp("ave")
    samples = np.concatenate([sine(hertz, 2, 44100) for hertz in (500, 2000, 4000)])
    one = write_video(
        path / "AVE" / "one.mp4",
        [RED] * 10 + [GREEN] * 10 + [BLUE] * 10,
        5,
        samples=np.stack([samples, samples]),
        rate=44100,
    )
    for part in ROWS.values():
        for _, video, _, _ in part:
            (path / "AVE" / f"{video}.mp4").write_bytes(one.read_bytes())
    lists(path, ROWS)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def copy_of(
    folder: Path, tmp: Path, rows: Mapping[str, Sequence[tuple[str, str, float, float]]] = ROWS
) -> Path:
    """Another folder with the same clips (links) and lists of its own."""
    (tmp / "in" / "AVE").mkdir(parents=True)
    for path in (folder / "AVE").iterdir():
        (tmp / "in" / "AVE" / path.name).symlink_to(path)
    lists(tmp / "in", rows)
    return tmp / "in"


def imported(folder: Path, cache: Path, **options: str) -> Bundle:
    return read_bundle("ave", [folder], {**OPTIONS, "cache": str(cache), **options})


def peaks(bundle: Bundle) -> set[int]:
    inner = bundle.features["audio"][:, 0, :, 5:-5]
    return set(inner.argmax(axis=1).ravel().tolist())


def test_the_default_shapes_are_those_of_the_docstring(folder: Path, tmp_path: Path) -> None:
    rows = {split: part[:2] for split, part in ROWS.items()}
    bundle = read_bundle(
        "ave", [copy_of(folder, tmp_path, rows)], {"cache": str(tmp_path / "cache"), "jobs": "1"}
    )
    assert bundle.shapes == {"audio": (1, 257, 625), "vision": (3, 3, 224, 224)}
    assert bundle.dims == {"audio": 1, "vision": 3}


def test_events_are_cut_out_of_sound_and_pictures(folder: Path, cache: Path) -> None:
    bundle = imported(folder, cache)
    assert bundle.shapes == {"audio": (1, 257, 2 * 22050 // 353 + 1), "vision": (3, 3, 16, 16)}
    assert peaks(bundle) == {round(2000 * 512 / 22050)}
    assert all(near(frame, GREEN) for frames in bundle.features["vision"] for frame in frames)


def test_whole_clips_on_demand(folder: Path, cache: Path) -> None:
    bundle = imported(
        folder, cache, event="whole", seconds="6", rate="16000", hop="200", frames="6"
    )
    assert bundle.shapes == {"audio": (1, 257, 6 * 16000 // 200 + 1), "vision": (6, 3, 16, 16)}
    assert {round(hertz * 512 / 16000) for hertz in (500, 2000, 4000)} <= peaks(bundle)
    for frames in bundle.features["vision"]:
        assert [
            near(f, c) for f, c in zip(frames, (RED, RED, GREEN, GREEN, BLUE, BLUE), strict=True)
        ] == [True] * 6


def test_labels_splits_and_ids(folder: Path, cache: Path) -> None:
    bundle = imported(folder, cache)
    assert bundle.task.names == CLASSES and bundle.ids == tuple(
        sorted(v for p in ROWS.values() for _, v, _, _ in p)
    )
    for split, part in ROWS.items():
        assert {(CLASSES[bundle.labels[r]], bundle.ids[r]) for r in bundle.rows(split)} == {
            (c, v) for c, v, *_ in part
        }
    assert len(set(bundle.dialogue)) == len(bundle) == 12


def test_lists_without_a_line_of_names_and_with_one_are_the_same(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    other = copy_of(folder, tmp_path)
    lists(other, ROWS, head="")
    for name in FILES.values():
        (other / name).write_text(HEAD + (other / name).read_text(), encoding="utf-8-sig")
    assert imported(other, cache).fingerprint == imported(folder, cache).fingerprint


def test_an_event_that_ends_where_it_begins_takes_the_whole_clip(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    rows = {split: [(c, v, 0, 0) for c, v, *_ in part] for split, part in ROWS.items()}
    found = imported(copy_of(folder, tmp_path, rows), cache)
    assert found.fingerprint == imported(folder, cache, event="whole").fingerprint


def test_a_video_of_two_categories_stands_once_and_test_goes_first(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    test, valid, train = ROWS["test"][0][1], ROWS["valid"][1][1], ROWS["train"][2][1]
    more = [("Flute", test, 0, 2), ("Frying (food)", valid, 0, 2), ("Flute", train, 0, 2)]
    other = copy_of(folder, tmp_path, {**ROWS, "train": [*ROWS["train"], *more]})
    first = imported(other, cache)
    assert first.fingerprint == imported(folder, cache).fingerprint
    assert first.notes["repeats"] == {
        "rule": "first",
        "dropped": 3,
        "first": [f"{c}&{v}" for c, v, *_ in more],
    }
    kept = imported(other, cache, repeats="keep")
    assert [len(kept.rows(s)) for s in ("train", "valid", "test")] == [7, 4, 4]
    both = {f"{test} {name}": name for name in ("Church bell", "Flute")}
    assert {
        i: CLASSES[k] for i, k in zip(kept.ids, kept.labels, strict=True) if i.startswith(test)
    } == both
    assert kept.notes["repeats"]["dropped"] == 0 and kept.notes["left_out"]["count"] == 0
    red = kept.features["vision"][kept.ids.index(f"{test} Flute")]
    assert near(red[0], RED) and near(
        kept.features["vision"][kept.ids.index(f"{test} Church bell")][0], GREEN
    )


def test_the_same_row_twice_in_a_list_counts_once(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    other = copy_of(folder, tmp_path, {**ROWS, "train": [*ROWS["train"], ROWS["train"][0]]})
    for repeats in ("first", "keep"):
        found = imported(other, cache, repeats=repeats)
        assert found.fingerprint == imported(folder, cache).fingerprint
        assert found.notes["repeats"]["dropped"] == 1


def test_clips_that_cannot_be_used_are_left_out(folder: Path, cache: Path, tmp_path: Path) -> None:
    more = [("Flute", name, 2, 4) for name in ("absent", "cut", "mute", "deaf", "still")] + [
        ("Flute", "late", 8, 9)
    ]
    other = copy_of(folder, tmp_path, {**ROWS, "train": [*ROWS["train"], *more]})
    one = folder / "AVE" / "one.mp4"
    for name in ("cut", "late"):
        (other / "AVE" / f"{name}.mp4").write_bytes(one.read_bytes())
    shorten(other / "AVE" / "cut.mp4", 0.5)
    write_video(other / "AVE" / "mute.mp4", [RED] * 30, 5, samples=np.zeros(6 * 22050))
    write_video(other / "AVE" / "deaf.mp4", [RED] * 30, 5)
    write_video(other / "AVE" / "still.mp4", [], samples=sine(500, 6, 22050))
    found = imported(other, cache)
    assert found.fingerprint == imported(folder, cache).fingerprint
    reasons = found.notes["left_out"]["first"]
    expected = {
        "absent": "no file AVE/absent.mp4",
        "cut": "cannot be decoded",
        "mute": "silent",
        "deaf": "has no audio",
        "still": "has no video",
        "late": "from 8 to 9 s lies beyond the end",
    }
    assert found.notes["left_out"]["count"] == len(expected) and set(reasons) == set(expected)
    assert all(reason in reasons[name] for name, reason in expected.items())


def test_import_writes_a_bundle_that_loads(
    folder: Path, cache: Path, tmp_path: Path, cli: Cli
) -> None:
    options = [
        part
        for key, value in {**OPTIONS, "cache": cache}.items()
        for part in ("--option", f"{key}={value}")
    ]
    assert (
        cli(["data", "import", "ave", str(folder), "--out", str(tmp_path / "out"), *options]) == 0
    )
    loaded = load_bundle(tmp_path / "out")
    assert (
        loaded.fingerprint == imported(folder, cache).fingerprint and loaded.notes["event"] == "cut"
    )


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).rename(folder / "elsewhere")


def row(text: str, name: str = "trainSet.txt") -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text + "\n")

    return change


def blank(folder: Path) -> None:
    (folder / "valSet.txt").write_text(HEAD + "\n")


def binary(folder: Path) -> None:
    (folder / "testSet.txt").write_bytes(b"\xff\xfe\x00")


def gone(names: Sequence[str]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / "AVE" / f"{name}.mp4").unlink()

    return change


REFUSED: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no clips": (without("AVE"), ("AVE", "no such file", "Annotations.txt")),
    "no annotations": (without("Annotations.txt"), ("Annotations.txt", "no such file")),
    "no train list": (without("trainSet.txt"), ("trainSet.txt", "no such file")),
    "no test list": (without("testSet.txt"), ("testSet.txt", "no such file")),
    "a list of nothing": (blank, ("valSet.txt", "no rows")),
    "a list that is no text": (binary, ("testSet.txt", "no readable text")),
    "a row of four fields": (
        row("Flute&x&good&0"),
        ("trainSet.txt, row 5", "'Flute&x&good&0'", "EndTime"),
    ),
    "a row without a video": (row("Flute&&good&0&1"), ("trainSet.txt, row 5", "VideoID")),
    "a video elsewhere": (
        row("Flute&../../x&good&0&1"),
        ("trainSet.txt, row 5", "'../../x'", "a file in AVE/"),
    ),
    "a time that is none": (
        row("Flute&x&good&0&end"),
        ("trainSet.txt, EndTime", "'end' in row 5", "a number"),
    ),
    "an unknown category": (
        row("Flutes&x&good&0&1"),
        ("trainSet.txt, category of x", "Did you mean 'Flute'?"),
    ),
    "an event in two lists": (
        row("Flute&" + ROWS["test"][1][1] + "&good&0&1"),
        ("trainSet.txt", "Flute&-_te1", "testSet.txt", "Remove it from one"),
    ),
    "a split without clips": (
        gone([v for _, v, *_ in ROWS["valid"]]),
        ("split valid", "none of its 4 clips"),
    ),
    "a class without clips": (
        gone([ROWS[split][3][1] for split in FILES]),
        ("class Race car", "none of its 3"),
    ),
    "a class absent from train": (gone([ROWS["train"][0][1]]), ("no 'Church bell' in train",)),
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
    assert cli(["data", "import", "ave", str(other), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words), error
    assert "Traceback" not in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("frames=0", "whole number of 1 or more"),
        ("seconds=1.5", "whole number"),
        ("rate=900", "1000 or more"),
        ("hop=x", "whole number"),
        ("event=crop", "'crop'.*one of cut, whole"),
        ("repeats=all", "one of first, keep"),
        ("sise=16", "Did you mean 'size'"),
    ],
)
def test_bad_options_are_refused(option: str, words: str, folder: Path, cache: Path) -> None:
    key, value = option.split("=")
    with pytest.raises(InputError, match=words):
        imported(folder, cache, **{key: value})
