"""Bad input: one message with what was found, what was expected and what to do; nothing written."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_folder import good_rows, write_folder

from mmlib import masks
from mmlib.data.bundle import Bundle, Task, load_bundle, make_bundle, save_bundle
from mmlib.data.check import check
from mmlib.data.readers import read_bundle
from mmlib.errors import InputError
from mmlib.runs.spec import RunSpec, Training

Cli = Callable[[Sequence[str]], int]
Rows = list[dict[str, Any]]


class Hostile:
    """Pickles as the call that would create a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def changed(change: Callable[[Rows], object]) -> Callable[[Path], list[str]]:
    """A folder whose table is changed in place by ``change``."""

    def write(tmp: Path) -> list[str]:
        rows = good_rows()
        change(rows)
        return ["folder", str(write_folder(tmp / "in", rows))]

    return write


def one_class_by_fold(rows: Rows) -> None:
    """Four folds; only the last has the label no."""
    for i, row in enumerate(rows):
        row["fold"] = i // 2 % 4
        row["label"] = "no" if row["fold"] == 3 else "yes"


def every(column: str, value: Callable[[int, dict[str, Any]], Any]) -> Callable[[Path], list[str]]:
    """A folder whose column is computed anew from row number and row."""
    return changed(lambda rows: [row.update({column: value(i, row)}) for i, row in enumerate(rows)])


def arrays(**files: np.ndarray | None) -> Callable[[Path], list[str]]:
    return lambda tmp: ["folder", str(write_folder(tmp / "in", **files))]


def extra(name: str, text: str) -> Callable[[Path], list[str]]:
    """A good folder with one more file."""

    def write(tmp: Path) -> list[str]:
        folder = write_folder(tmp / "in")
        (folder / name).write_text(text)
        return ["folder", str(folder)]

    return write


def options(*pairs: str) -> Callable[[Path], list[str]]:
    """A good folder without a valid split, imported with options."""

    def write(tmp: Path) -> list[str]:
        rows = [r | {"split": r["split"].replace("valid", "train")} for r in good_rows()]
        return [
            "folder",
            str(write_folder(tmp / "in", rows)),
            *[a for pair in pairs for a in ("--option", pair)],
        ]

    return write


def pickled(format: str, content: Any, *arguments: str) -> Callable[[Path], list[str]]:
    def write(tmp: Path) -> list[str]:
        (tmp / "file.pkl").write_bytes(
            content if isinstance(content, bytes) else pickle.dumps(content)
        )
        return [format, str(tmp / "file.pkl"), *arguments]

    return write


def truncated_npy(tmp: Path) -> list[str]:
    folder = write_folder(tmp / "in")
    data = (folder / "audio.npy").read_bytes()
    (folder / "audio.npy").write_bytes(data[:-100])
    return ["folder", str(folder)]


def longer_npy(tmp: Path) -> list[str]:
    write_folder(tmp / "data")
    with (tmp / "data" / "audio.npy").open("ab") as file:
        file.write(bytes(8))
    return ["folder", str(tmp / "data")]


def long_header(tmp: Path) -> list[str]:
    write_folder(tmp / "data")
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (24, 4), }" + 20_000 * b" " + b"\n"
    content = b"\x93NUMPY\x02\x00" + len(head).to_bytes(4, "little") + head + bytes(24 * 4 * 8)
    (tmp / "data" / "audio.npy").write_bytes(content)
    return ["folder", str(tmp / "data")]


def dangling_settings(tmp: Path) -> list[str]:
    write_folder(tmp / "data")
    (tmp / "data" / "bundle.toml").symlink_to(tmp / "absent.toml")
    return ["folder", str(tmp / "data")]


def no_table(tmp: Path) -> list[str]:
    folder = write_folder(tmp / "in")
    (folder / "utterances.csv").unlink()
    return ["folder", str(folder)]


def other_files_in_out(tmp: Path) -> list[str]:
    (tmp / "taken").mkdir()
    (tmp / "taken" / "thesis.tex").write_text("precious")
    return ["folder", str(write_folder(tmp / "in")), "--out", str(tmp / "taken")]


def out_is_a_file(tmp: Path) -> list[str]:
    (tmp / "taken").write_text("precious")
    return ["folder", str(write_folder(tmp / "in")), "--out", str(tmp / "taken")]


def mmmo(change: str) -> Callable[[Path], list[str]]:
    def write(tmp: Path) -> list[str]:
        for split, count in {"train": 4, "valid": 2, "test": 2}.items():
            for stem, shape in {
                "y": (count,),
                "audio": (count, 20, 4),
                "video": (count, 20, 3),
            }.items():
                with h5py.File(tmp / f"{stem}_{split}.h5", "w") as file:
                    wide = (
                        (count, 20, 5)
                        if change == "dims" and stem + split == "audiotest"
                        else shape
                    )
                    high = change == "scores" and stem == "y"
                    key = "d2" if change == "key" and stem + split == "videovalid" else "d1"
                    file[key] = np.full(wide, 7.0 if high else 2.0)
                    if stem == "y" and not high:
                        file[key][0] = 4.0
        if change == "truncated":
            path = tmp / "y_train.h5"
            path.write_bytes(path.read_bytes()[:50])
        return ["mmmo", str(tmp)]

    return write


def gcnet(change: str) -> Callable[[Path], list[str]]:
    def write(tmp: Path) -> list[str]:
        videos = ["v1", "v2", "v3"]
        scores = {v: [k - 1.0] for k, v in enumerate(videos)}
        index: list[Any] = [
            {v: [f"{v}_0"] for v in videos},
            scores,
            {v: [""] for v in videos},
            {v: ["words"] for v in videos},
            {"v1"},
            {"v2"},
            {"v3"},
        ]
        index[5] |= {"v1"} if change == "split" else set()
        index[1]["v2"] = [1.0, 2.0] if change == "counts" else index[1]["v2"]
        (tmp / "X_features_raw_2way.pkl").write_bytes(pickle.dumps(index))
        for modality in ("a", "t", "v"):
            (tmp / "features" / modality).mkdir(parents=True)
            for video in videos:
                width = 3 if change == "dims" and modality == "t" and video == "v3" else 2
                np.save(tmp / "features" / modality / f"{video}_0.npy", np.ones(width))
        if change == "file":
            (tmp / "features" / "v" / "v2_0.npy").unlink()
        name = "tt" if change == "name" else "t"
        return [
            "gcnet",
            str(tmp),
            "--option",
            "audio=a",
            "--option",
            f"text={name}",
            "--option",
            "vision=v",
        ]

    return write


def erc(change: str) -> Callable[[Path], list[str]]:
    names = [f"d{k}" for k in range(6)]
    rows = {n: np.ones((2, 3)) for n in names}
    labels = {n: [0, 9 if change == "label" else 1] for n in names}
    parts: list[Any] = [
        {n: [f"{n}_0", f"{n}_1"] for n in names},
        {n: ["M", "F"] for n in names},
        labels,
        rows,
        {**rows, "d3": np.ones((3, 3))} if change == "rows" else rows,
        rows,
        {},
        set(names[:4]),
        set(names[4:]),
    ]
    if change == "numbers":
        parts[1] = dict.fromkeys(names, 3)
    if change == "order":
        parts[2], parts[7] = parts[7], parts[2]
    if change == "split":
        parts[8] = {"d1", "d5"}
    if change == "length":
        parts = parts[:7]
    return pickled(
        "erc-pickle", tuple(parts), *(["--option", "fields=txt:3"] if change == "field" else [])
    )


def score_of_five(tmp: Path, span: str = "[-3, 3]", more: str = "") -> list[str]:
    folder = write_folder(
        tmp / "in", [r | {"label": 5 if i == 7 else 1} for i, r in enumerate(good_rows())]
    )
    (folder / "bundle.toml").write_text(f'task = "score"\nrange = {span}\n{more}')
    return ["folder", str(folder)]


def repeat_id(rows: Rows) -> None:
    rows[1]["id"] = rows[0]["id"]


def twice_in_splits(rows: Rows) -> None:
    rows[-1]["id"] = rows[0]["id"]


def last_label(value: object) -> Callable[[Path], list[str]]:
    return changed(lambda rows: rows[-1].update(label=value))


def without(column: str) -> Callable[[Path], list[str]]:
    return changed(lambda rows: [row.pop(column) for row in rows])


def renamed(column: str, name: str) -> Callable[[Path], list[str]]:
    return changed(lambda rows: [row.update({name: row.pop(column)}) for row in rows])


def holes(value: float) -> np.ndarray:
    array = np.ones((24, 4))
    array[[2, 3, 17], 1] = value
    return array


OBJECTS = np.array([[1.0], [1.0, 2.0]] * 12, dtype=object)
FRAMES = np.ones((24, 5, 2))
NOT_A_PICKLE = b"\x80\x04\x95garbage"

IMPORTS: dict[str, tuple[Callable[[Path], list[str]], tuple[str, ...]]] = {
    "missing folder": (
        lambda tmp: ["folder", str(tmp / "absent")],
        ("utterances.csv", "no such file", "Check"),
    ),
    "missing table": (no_table, ("utterances.csv", "no such file")),
    "two folders where one is read": (
        lambda tmp: ["folder", str(tmp), str(tmp)],
        ("2 of them", "Give that one path"),
    ),
    "unknown format": (lambda tmp: ["foldr", str(tmp)], ("'foldr'", "Did you mean 'folder'?")),
    "unknown option": (options("vald=0.2"), ("'vald'", "Did you mean 'valid'?")),
    "option of a format without any": (
        lambda tmp: ["mmmo", str(tmp), "--option", "split=x"],
        ("no options", "Leave"),
    ),
    "option without a value": (options("valid"), ("'valid'", "KEY=VALUE")),
    "share of valid above one": (options("valid=1.5"), ("1.5", "between 0 and 1")),
    "share of valid that is no number": (options("valid=many"), ("'many'", "a number")),
    "bad bundle name": (
        lambda tmp: [*options()(tmp), "--name", "a/b"],
        ("'a/b'", "letters, digits"),
    ),
    "out folder with other files": (other_files_in_out, ("other files", "Choose another --out")),
    "out folder that is a file": (out_is_a_file, ("a file", "Choose another --out")),
    "column missing": (without("label"), ("'label'", "Add or rename")),
    "column misspelt": (renamed("dialogue", "dialog"), ("'dialog'", "Did you mean 'dialogue'?")),
    "split misspelt": (
        every("split", lambda i, r: r["split"] + "ing" if i == 0 else r["split"]),
        ("'training'", "Did you mean 'train'?"),
    ),
    "no test split": (
        every("split", lambda i, r: "train" if i < 20 else "valid"),
        ("empty test split", "Mark some"),
    ),
    "one dialogue to make valid from": (
        every("split", lambda i, r: "train" if i < 2 else "test"),
        ("1 dialogue", "two"),
    ),
    "the same id twice": (changed(repeat_id), ("'d00_0' twice", "unique ids")),
    "an utterance in two splits": (
        changed(twice_in_splits),
        ("'d00_0'", "test and train", "Remove one"),
    ),
    "a dialogue across splits": (
        every("split", lambda i, r: {1: "test", 20: "valid"}.get(i, "train")),
        ("in two splits", "whole dialogues"),
    ),
    "two folds": (
        every("fold", lambda i, r: i // 2 % 2),
        ("2 folds", "three or more", "leave the fold out"),
    ),
    "a dialogue in two folds": (
        every("fold", lambda i, r: i % 3),
        ("in two folds", "whole dialogues"),
    ),
    "a class in one fold alone": (
        changed(one_class_by_fold),
        ("fold 2", "no 'no' in train", "Move some"),
    ),
    "a class absent from train": (last_label("maybe"), ("no 'maybe' in train", "Move some")),
    "a class that the settings lack": (
        extra("bundle.toml", 'classes = ["no", "yes?"]'),
        ("'yes'", "Did you mean 'yes?'"),
    ),
    "a score that is no number": (
        extra("bundle.toml", 'task = "score"'),
        ("'no'", "row 1", "a number"),
    ),
    "a score out of its range": (score_of_five, ("'5' in row 8", "23 of 24", "-3 to 3")),
    "a range that is none": (
        lambda tmp: score_of_five(tmp, "[3]"),
        ("[3]", "two numbers", "range = [-3, 3]"),
    ),
    "class names that are no list": (
        extra("bundle.toml", 'classes = "no"'),
        ("'no'", "list of different names"),
    ),
    "a position that is no whole number": (
        every("position", lambda i, r: 0.5),
        ("0.5", "whole numbers"),
    ),
    "two utterances at one position of a dialogue": (
        every("position", lambda i, r: min(i, 2)),
        ("2 in rows", "d01", "each position once", "leave the column out"),
    ),
    "settings misspelt": (
        extra("bundle.toml", 'license = "CC0"'),
        ("'license'", "Did you mean 'licence'?"),
    ),
    "settings that are no TOML": (
        extra("bundle.toml", "task: score"),
        ("TOML", "Correct the file"),
    ),
    "unknown task": (
        extra("bundle.toml", 'task = "class"'),
        ("'class'", "Did you mean 'classes'?"),
    ),
    "wrong number of rows": (arrays(audio=np.ones((23, 4))), ("(23, 4)", "24 rows", "same order")),
    "features without dims": (arrays(audio=np.ones(24)), ("(24,)", "(n, d) or (n, t, d)")),
    "features of no width": (arrays(audio=np.ones((24, 0))), ("(24, 0)", "d of 1 or more")),
    "features that are strings": (arrays(audio=np.array([["x"]] * 24)), ("dtype <U1", "float32")),
    "complex features": (arrays(audio=np.ones((24, 2)) * 1j), ("complex128", "real numbers")),
    "ragged object array": (arrays(audio=OBJECTS), ("object array (a pickle)", "pad them")),
    "one modality": (arrays(audio=None), ("1 modality", "two or more")),
    "NaN in features": (
        arrays(audio=holes(np.nan)),
        ("audio", "3 utterances", "'train': 2", "'valid': 1", "'test': 0"),
    ),
    "infinite features": (arrays(text=holes(np.inf)), ("text", "infinite", "finite numbers")),
    "features beyond float32": (arrays(audio=holes(1e300)), ("infinite", "3 utterances")),
    "bytes after an array": (longer_npy, ("8 bytes after its array", "copy the file again")),
    "an array with a long header": (long_header, ("no readable .npy", "Header info length")),
    "settings that lead nowhere": (dangling_settings, ("bundle.toml", "no such file")),
    "a neutral value of 400 digits": (
        lambda tmp: score_of_five(tmp, "[-9, 9]", f"neutral = {10**400}"),
        ("neutral", "neither positive nor negative"),
    ),
    "a range of 400 digits": (
        lambda tmp: score_of_five(tmp, f"[0, {10**400}]"),
        ("range", "two numbers"),
    ),
    "a label beyond float32": (
        every("label", lambda i, r: 1e39 if i == 2 else i / 7),
        ("'1e+39' in row 3", "at most 1e+30"),
    ),
    "scores that float32 cannot tell apart": (
        every("label", lambda i, r: f"{10**9 + i / 1000:.3f}"),
        ("'1000000000.001' in row 2", "equals '1000000000.000'", "neutral in bundle.toml"),
    ),
    "a class with a line break": (
        every("label", lambda i, r: "no\nway" if i % 2 else "yes"),
        ("'no\\nway'", "in row 2", "in one line"),
    ),
    "a class of a whole text": (
        every("label", lambda i, r: 5000 * "a" if i % 2 else "yes"),
        ("5,000 characters, in row 2", "at most 250"),
    ),
    "classes that look the same": (
        every("label", lambda i, r: "yes\u200b" if i == 3 else ("no", "yes")[i % 2]),
        ("in row 4", "11 of 24 rows are 'yes'", "one spelling"),
    ),
    "classes of which one has a Cyrillic letter": (
        every("label", lambda i, r: "n\u043e" if i == 2 else ("no", "yes")[i % 2]),
        ("in row 3", "11 of 24 rows are 'no', which looks alike", "CYRILLIC SMALL LETTER O"),
    ),
    "truncated array": (truncated_npy, ("audio.npy", "no readable .npy", "copy the file again")),
    "lengths out of range": (
        arrays(audio=FRAMES, audio_lengths=np.full(24, 9)),
        ("9 to 9", "1 to 5"),
    ),
    "lengths of zero": (arrays(audio=FRAMES, audio_lengths=np.arange(24)), ("0 to 23", "1 to 5")),
    "lengths that are no integers": (
        arrays(audio=FRAMES, audio_lengths=np.full(24, 2.5)),
        ("float64", "integers"),
    ),
    "lengths of no modality": (
        arrays(voice_lengths=np.full(24, 2)),
        ("voice_lengths.npy", "voice.npy"),
    ),
    "observed that is no flag": (
        arrays(audio_observed=np.full(24, 2)),
        ("audio_observed", "true or false"),
    ),
    "nothing observed": (
        arrays(audio_observed=np.arange(24) > 0, text_observed=np.arange(24) > 0),
        ("'d00_0' with no modality observed", "Remove the utterances"),
    ),
    "hostile pickle": (
        lambda tmp: pickled("erc-pickle", Hostile(tmp / "marker"))(tmp),
        ("mkdir", "nothing of it was run"),
    ),
    "truncated pickle": (
        pickled("erc-pickle", NOT_A_PICKLE),
        ("truncated or damaged", "Download or copy"),
    ),
    "missing pickle": (lambda tmp: ["erc-pickle", str(tmp / "absent.pkl")], ("no such file",)),
    "pickle of another layout": (
        pickled("erc-pickle", {"a": 1}),
        ("a dict", "tuple of dictionaries"),
    ),
    "dialogue pickle of seven parts": (erc("length"), ("7 parts", "fields=")),
    "dialogue pickle in another order": (erc("order"), ("labels is a set", "labels as a dict")),
    "dialogue pickle with unequal rows": (erc("rows"), ("(3, 3)", "'d3'", "one row per label")),
    "dialogue pickle of numbers where lists belong": (
        erc("numbers"),
        ("cannot take", "data/README.md"),
    ),
    "dialogue pickle with a label out of range": (erc("label"), ("0 to 9", "0 to 5")),
    "dialogue pickle with a dialogue in two splits": (
        erc("split"),
        ("'d1' in train and test", "Remove it"),
    ),
    "dialogue pickle with an unknown field": (erc("field"), ("'txt'", "Did you mean 'text'?")),
    "unknown split of MOSI": (
        lambda tmp: ["bclstm-mosi", str(tmp), "--option", "split=leak"],
        ("'leak'", "Did you mean 'leaky'?"),
    ),
    "MOSI without the pickle": (
        lambda tmp: ["bclstm-mosi", str(tmp)],
        ("1 folders and 0 files", "Give both"),
    ),
    "gcnet with an unknown feature folder": (gcnet("name"), ("'tt'", "Did you mean 't'?")),
    "gcnet without a file": (gcnet("file"), ("1 of 3", "'v2_0'")),
    "gcnet with unequal dims": (gcnet("dims"), ("2 and 3 dims", "one extractor")),
    "gcnet with a video in two splits": (gcnet("split"), ("'v1' in train and valid", "Remove it")),
    "gcnet with unequal counts": (gcnet("counts"), ("[1, 2, 1]", "'v2'")),
    "h5 without the key": (mmmo("key"), ("video_valid.h5", "d2", "'d1'")),
    "h5 truncated": (mmmo("truncated"), ("y_train.h5", "HDF5")),
    "h5 of other dims": (mmmo("dims"), ("audio_test.h5", "(2, 20, 5)", "(2, 20, 4)")),
    "h5 with scores out of range": (mmmo("scores"), ("from 7 to 7", "1 to 5")),
    "crema-d without its files": (
        lambda tmp: ["crema-d-votes", str(tmp)],
        ("split_train.csv", "no such file"),
    ),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_import_refuses(
    name: str, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    case, words = IMPORTS[name]
    arguments = case(tmp_path)
    out = tmp_path / "out"
    if "--out" not in arguments:
        arguments += ["--out", str(out)]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert cli(["data", "import", *arguments]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert "found" in message and "expected" in message
    for word in words:
        assert word in message
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert not out.exists() and not (tmp_path / "marker").exists()


def test_the_unchanged_folder_imports(tmp_path: Path, cli: Cli) -> None:
    for name, arguments in {
        "a": options()(tmp_path / "a"),
        "b": mmmo("")(_made(tmp_path / "b")),
        "c": gcnet("")(_made(tmp_path / "c")),
        "d": erc("")(_made(tmp_path / "d")),
    }.items():
        assert cli(["data", "import", *arguments, "--out", str(tmp_path / f"out-{name}")]) == 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


COMMANDS = {
    "check of an unknown bundle": (["check", "twin-of-nothing"], ("'twin-of-nothing'", "expected")),
    "check of an unknown twin": (["check", "twin:mosii@tiny"], ("'mosii'", "Did you mean")),
    "check with an unknown role": (
        ["check", "twin:mosi@tiny", "--role", "moosi"],
        ("'moosi'", "Did you mean 'mosi'?"),
    ),
    "twin of an unknown role": (["twin", "iemocap7"], ("'iemocap7'", "Did you mean 'iemocap")),
    "twin of an unknown size": (
        ["twin", "mosi", "--size", "smokey"],
        ("'smokey'", "Did you mean 'smoke'?"),
    ),
    "unknown command": (["imports"], ("imports",)),
    "import without a path": (["import", "folder"], ("PATH",)),
    "unknown flag": (["import", "folder", "x", "--nam", "y"], ("--nam",)),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_data_command_refuses(
    name: str,
    tmp_path: Path,
    cli: Cli,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MMLIB_HOME", str(tmp_path))
    arguments, words = COMMANDS[name]
    assert cli(["data", *arguments]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message and all(word in message for word in words)
    assert not list(tmp_path.iterdir())


def bundle(**changes: Any) -> Bundle:
    """A small good bundle, fields replaced before it is checked."""
    generator = np.random.default_rng(0)
    fields: dict[str, Any] = {
        "name": "small",
        "task": Task("classes", ("no", "yes")),
        "features": {
            "audio": generator.normal(size=(12, 3)),
            "text": generator.normal(size=(12, 2)),
        },
        "labels": np.arange(12) % 2,
        "split": ["train"] * 6 + ["valid"] * 3 + ["test"] * 3,
        "ids": [f"u{i:02d}" for i in range(12)],
    }
    return make_bundle(**(fields | changes))


def saved(tmp: Path) -> Path:
    save_bundle(bundle(), tmp / "b")
    return tmp / "b"


def load_damaged(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def run(tmp: Path) -> object:
        path = saved(tmp) / name
        path.write_bytes(change(path.read_bytes()))
        return load_bundle(tmp / "b")

    return run


def head(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda text: json.dumps(json.loads(text) | changes).encode()


def fewer(text: bytes) -> bytes:
    return json.dumps({k: v for k, v in json.loads(text).items() if k != "ids"}).encode()


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


SCORE = Task("score", range=(-3.0, 3.0))
CALLS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no bundle there": (lambda tmp: load_bundle(tmp), ("no bundle.json", "mmlib data import")),
    "bundle.json is no JSON": (
        load_damaged("bundle.json", lambda b: b[:-20]),
        ("damaged bundle", "Import the data"),
    ),
    "bundle.json lacks a key": (load_damaged("bundle.json", fewer), ("damaged", "ids")),
    "bundle of another format": (
        load_damaged("bundle.json", head(format=99)),
        ("format 99", "format 1"),
    ),
    "safetensors truncated": (
        load_damaged("bundle.safetensors", lambda b: b[:-9]),
        ("damaged", "Import"),
    ),
    "safetensors empty": (load_damaged("bundle.safetensors", lambda b: b""), ("damaged", "Import")),
    "safetensors missing": (
        lambda tmp: ((saved(tmp) / "bundle.safetensors").unlink(), load_bundle(tmp / "b")),
        ("damaged",),
    ),
    "a byte of the arrays changed": (
        load_damaged("bundle.safetensors", flipped),
        ("fingerprint", "have changed"),
    ),
    "scores out of range": (
        lambda tmp: bundle(task=SCORE, labels=np.linspace(-3, 4, 12)),
        ("-3.0 to 4.0", "to 3.0"),
    ),
    "scores that are NaN": (
        lambda tmp: bundle(task=SCORE, labels=np.full(12, np.nan)),
        ("nan", "Correct the labels"),
    ),
    "class numbers out of range": (
        lambda tmp: bundle(labels=np.arange(12) % 3),
        ("0 to 2", "0 to 1"),
    ),
    "negative class numbers": (
        lambda tmp: bundle(labels=np.arange(12) % 2 - 1),
        ("-1 to 0", "0 to 1"),
    ),
    "unequal rows": (lambda tmp: bundle(labels=np.arange(11) % 2), ("11 rows", "12 rows")),
    "unknown split name": (
        lambda tmp: bundle(split=["train"] * 11 + ["tests"]),
        ("'tests'", "'test'"),
    ),
    "score without a range": (lambda tmp: Task("score"), ("without a range", "Give the range")),
    "unknown task kind": (lambda tmp: Task("scores", range=(0, 1)), ("'scores'", "'score'")),  # type: ignore[arg-type]
    "unknown modality": (lambda tmp: bundle().only(["audoi"]), ("'audoi'", "'audio'")),
    "unknown split asked for": (
        lambda tmp: bundle().rows("validation"),
        ("'validation'", "'valid'"),
    ),
    "fold of a bundle without folds": (lambda tmp: bundle().with_fold(0), ("no folds", "fold")),
    "fold out of range": (lambda tmp: bundle(fold=np.arange(12) % 3).with_fold(3), ("3", "0 to 2")),
    "missing rate of one": (lambda tmp: masks.shared(1.0), ("1.0", "[0, 1)")),
    "negative missing rate": (
        lambda tmp: masks.imbalanced({"audio": -0.1, "text": 0.5}),
        ("-0.1", "[0, 1)"),
    ),
    "missing rate that is NaN": (lambda tmp: masks.frames(float("nan")), ("nan", "[0, 1")),
    "nothing stays observed": (lambda tmp: masks.subset([]), ("no modality", "at least one")),
    "unknown mask law": (
        lambda tmp: masks.law_from_json({"kind": "imbalance"}),
        ("'imbalance'", "'imbalanced'"),
    ),
    "unknown mask layout": (
        lambda tmp: masks.imbalanced({"audio": 0.1}, "release"),  # type: ignore[arg-type]
        ("'release'", "'released'"),
    ),
    "mask law of a modality that is not there": (
        lambda tmp: masks.draw(masks.subset(["vision"]), bundle(), "train", 0),
        ("'vision'", "audio, text"),
    ),
    "mask law without a rate for each": (
        lambda tmp: masks.draw(masks.imbalanced({"audio": 0.5}), bundle(), "train", 0),
        ("1 modalities", "Name every"),
    ),
    "frame law without frames": (
        lambda tmp: masks.draw(masks.frames(0.5), bundle(), "train", 0),
        ("without frames",),
    ),
    "unknown keep of a run": (
        lambda tmp: RunSpec("b", 0, keep=("weight",)),
        ("'weight'", "'weights'"),
    ),
    "run without a test mask": (
        lambda tmp: RunSpec("b", 0, eval_masks=()),
        ("no test mask", "eval_masks"),
    ),
    "unknown optimizer": (lambda tmp: Training(optimizer="adamw"), ("'adamw'", "'adam'")),
    "no epochs": (lambda tmp: Training(epochs=0), ("epochs", "1 or more")),
    "unknown role of a check": (lambda tmp: check(bundle(), "crema"), ("'crema'", "'crema-d'")),
    "no path at all": (lambda tmp: read_bundle("folder", []), ("0 of them", "Give")),
}


@pytest.mark.parametrize("name", CALLS)
def test_call_refuses(name: str, tmp_path: Path) -> None:
    call, words = CALLS[name]
    with pytest.raises(InputError) as caught:
        call(tmp_path)
    error = caught.value
    assert error.found and error.expected and error.do
    for word in words:
        assert word in str(error)


def test_a_refused_save_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="other files"):
        save_bundle(dataclasses.replace(bundle(), name="other"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
