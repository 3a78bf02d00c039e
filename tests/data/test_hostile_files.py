"""Damaged and hostile files of every other kind: refused in seconds and in bounded memory, without a traceback."""

from __future__ import annotations

import json
import lzma
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from limited import in_child
from small_folder import write_folder

from mmlib.data import manifest
from mmlib.data.bundle import load_bundle, save_bundle
from mmlib.data.readers import read_bundle
from mmlib.errors import InputError
from mmlib.report.artifact import read_manifest
from mmlib.runs.compact import import_records
from mmlib.runs.store import Store

Case = Callable[[Path], list[str]]


def npy(shape: str, descr: str = "'<f8'", data: bytes = b"") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def in_folder(name: str, content: bytes) -> Case:
    """A good folder, one of whose files has this content."""

    def write(tmp: Path) -> list[str]:
        folder = write_folder(tmp / "in")
        (folder / name).write_bytes(content)
        return ["folder", str(folder)]

    return write


def linked(name: str, target: str) -> Case:
    """A good folder, one of whose files is a link to a device, or a named pipe."""

    def write(tmp: Path) -> list[str]:
        folder = write_folder(tmp / "in")
        (folder / name).unlink(missing_ok=True)
        if target == "pipe":
            os.mkfifo(folder / name)
        else:
            (folder / name).symlink_to(target)
        return ["folder", str(folder)]

    return write


def pipe(format: str) -> Case:
    def write(tmp: Path) -> list[str]:
        os.mkfifo(tmp / "file.pkl")
        return [format, str(tmp / "file.pkl")]

    return write


def hdf5(change: Callable[[Path], object]) -> Case:
    """MMMO's nine files, after a change of ``audio_train.h5``."""

    def write(tmp: Path) -> list[str]:
        for split, count in {"train": 4, "valid": 2, "test": 2}.items():
            for stem, shape in {
                "y": (count,),
                "audio": (count, 20, 4),
                "video": (count, 20, 3),
            }.items():
                with h5py.File(tmp / f"{stem}_{split}.h5", "w") as file:
                    file["d1"] = np.full(shape, 2.0)
        change(tmp / "audio_train.h5")
        return ["mmmo", str(tmp)]

    return write


def rewritten(fill: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "w") as file:
            fill(file)

    return change


def external(file: h5py.File) -> None:
    file["d1"] = h5py.ExternalLink("video_train.h5", "d1")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 20, 4), "f8")
    layout[:] = h5py.VirtualSource("audio_valid.h5", "d1", (4, 20, 4))
    file.create_virtual_dataset("d1", layout)


def unallocated(file: h5py.File) -> None:
    file.create_dataset("d1", (4, 20, 10**9), "f8", chunks=(1, 1, 1000), fillvalue=1.0)


def elsewhere(file: h5py.File) -> None:
    file.create_dataset("d1", (4, 20, 4), "f8", external=[("/etc/passwd", 0, 2560)])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:900])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(40, len(data), 37):
        data[place] ^= 0x55
    path.write_bytes(bytes(data))


IMPORTS: dict[str, Case] = {
    "npy of a huge shape": in_folder(
        "audio.npy", npy("(24, 10**9)".replace("10**9", "1000000000"))
    ),
    "npy of a shape beyond any machine": in_folder("audio.npy", npy(f"({2**62}, {2**62})")),
    "npy of long empty axes": in_folder("audio.npy", npy("(1000000000000, 0)")),
    "npy of a negative axis": in_folder("audio.npy", npy("(24, -1)")),
    "npy of objects": in_folder("audio.npy", npy("(24, 1)", "'|O'", b"\x80\x04N.")),
    "npy of a long string type": in_folder("audio.npy", npy("(24,)", "'<U400000000'")),
    "npy cut in its data": in_folder("audio.npy", npy("(24, 4)", data=bytes(24 * 4 * 8 - 1))),
    "npy cut in its header": in_folder("audio.npy", npy("(24, 4)")[:40]),
    "npy with a deep header": in_folder("audio.npy", npy("(" * 4000 + ")" * 4000)),
    "npy that is a zip": in_folder("audio.npy", b"PK\x03\x04" + bytes(60)),
    "deep TOML": in_folder("bundle.toml", b"classes = " + b"[" * 100_000),
    "TOML of long dotted keys": in_folder("bundle.toml", b"a." * 100_000 + b"a = 1"),
    "TOML of many dotted keys": in_folder("bundle.toml", (b"a." * 3000 + b"a = 1\n") * 40),
    "TOML that is no text": in_folder("bundle.toml", bytes(range(128, 256))),
    "a table of ten million columns": in_folder("utterances.csv", b"a," * 10**7 + b"b\n"),
    "a table of 50,000 columns": in_folder("utterances.csv", b"a," * 50_000 + b"b\n"),
    "a table with one very long row": in_folder(
        "utterances.csv", b"id,split,label\n" + b"1," * 10**7 + b"\n"
    ),
    "the table is endless": linked("utterances.csv", "/dev/zero"),
    "the table is a pipe": linked("utterances.csv", "pipe"),
    "an array is endless": linked("audio.npy", "/dev/zero"),
    "an array is a pipe": linked("audio.npy", "pipe"),
    "the settings are endless": linked("bundle.toml", "/dev/zero"),
    "the settings are a pipe": linked("bundle.toml", "pipe"),
    "a pickle is a pipe": pipe("mmsa"),
    "an index is a pipe": pipe("erc-pickle"),
    "HDF5 with an external link": hdf5(rewritten(external)),
    "HDF5 with virtual numbers": hdf5(rewritten(virtual)),
    "HDF5 with numbers in another file": hdf5(rewritten(elsewhere)),
    "HDF5 of a huge shape without data": hdf5(rewritten(unallocated)),
    "HDF5 without numbers": hdf5(
        rewritten(lambda file: file.create_dataset("d1", data=h5py.Empty("f8")))
    ),
    "HDF5 of text": hdf5(rewritten(lambda file: file.create_dataset("d1", data=["a"] * 4))),
    "HDF5 cut short": hdf5(cut),
    "HDF5 with changed bytes": hdf5(flipped),
    "HDF5 that is text": hdf5(lambda path: path.write_text("numbers")),
    "HDF5 that is a pipe": hdf5(lambda path: (path.unlink(), os.mkfifo(path))),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_import_refuses_within_bounds(name: str, tmp_path: Path) -> None:
    """Each in the test's own process; time and memory of the heaviest are measured below."""
    arguments = IMPORTS[name](tmp_path)
    with pytest.raises(InputError) as caught:
        read_bundle(arguments[0], [Path(a) for a in arguments[1:]])
    assert caught.value.found and caught.value.do and len(str(caught.value)) < 3000


HEAVY = (
    "npy of a huge shape",
    "npy of a long string type",
    "TOML of many dotted keys",
    "the table is endless",
    "a table of ten million columns",
    "a table with one very long row",
    "HDF5 of a huge shape without data",
)
IMPORT_ALL = """
import contextlib, io
from pathlib import Path
from mmlib.cli import main
from mmlib.data.readers import read_bundle
results = {}
for name, arguments in json.loads(sys.argv[1]).items():
    begun, before, said = time.process_time(), peak(), io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(["data", "import", *arguments, "--out", sys.argv[2]])
    results[name] = [code, time.process_time() - begun, peak() - before, said.getvalue()]
print(json.dumps(results))
"""


def test_the_heaviest_files_take_little_time_and_memory_and_write_nothing(tmp_path: Path) -> None:
    """One child with 1 GB for all of them; about 10 s."""
    arguments = {}
    for place, name in enumerate(HEAVY):
        (tmp_path / str(place)).mkdir()
        arguments[name] = IMPORTS[name](tmp_path / str(place))
    found = in_child(IMPORT_ALL, json.dumps(arguments), str(tmp_path / "out"))
    for name, (code, seconds, more, said) in found.items():
        assert code == 2 and "Traceback" not in said, (name, said)
        assert seconds < 5 and more < 5e8, (name, seconds, more)
    assert not (tmp_path / "out").exists()


def whole_bundle(tmp: Path) -> Path:
    save_bundle(read_bundle("folder", [write_folder(tmp / "in")]), tmp / "b")
    return tmp / "b"


HEADS = {
    "name": 5,
    "task": [],
    "ids": "abc",
    "source": None,
    "licence": 1,
    "notes": [],
    "fingerprint": 0,
    "format": "1",
}
TASKS = {"kind": "odd", "names": [1, 2], "range": [1]}


@pytest.mark.parametrize("key", [*HEADS, *TASKS])
@pytest.mark.parametrize("lacking", [True, False])
def test_a_bundle_head_with_a_field_of_another_kind_is_refused(
    key: str, lacking: bool, tmp_path: Path
) -> None:
    path = whole_bundle(tmp_path) / "bundle.json"
    head = json.loads(path.read_text())
    part, values = (head, HEADS) if key in HEADS else (head["task"], TASKS)
    del part[key]
    part.update({} if lacking else {key: values[key]})
    path.write_text(json.dumps(head))
    with pytest.raises(InputError) as caught:
        load_bundle(path.parent)
    assert caught.value.do


BUNDLES: dict[str, tuple[str, bytes]] = {
    "deep JSON": ("bundle.json", b"[" * 10**6),
    "a list": ("bundle.json", b"[]"),
    "a number": ("bundle.json", b"1"),
    "no text": ("bundle.json", b"\xff\xfe\x00"),
    "nothing": ("bundle.json", b""),
    "a header of 2^63 bytes": ("bundle.safetensors", struct.pack("<Q", 2**63) + b"{}"),
    "a tensor beyond the end": (
        "bundle.safetensors",
        struct.pack("<Q", 64)
        + json.dumps({"labels": {"dtype": "I64", "shape": [9], "data_offsets": [0, 72]}})
        .encode()
        .ljust(64),
    ),
    "no tensors": ("bundle.safetensors", struct.pack("<Q", 8) + b"{}      "),
    "tensors of another type": (
        "bundle.safetensors",
        struct.pack("<Q", 64)
        + json.dumps({"labels": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}})
        .encode()
        .ljust(64)
        + b"\0\0",
    ),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_damaged_bundle_is_refused(name: str, tmp_path: Path) -> None:
    folder = whole_bundle(tmp_path)
    file, content = BUNDLES[name]
    (folder / file).write_bytes(content)
    with pytest.raises(InputError):
        load_bundle(folder)


@pytest.mark.parametrize("file", ["bundle.json", "bundle.safetensors"])
def test_a_bundle_with_a_pipe_in_it_is_refused(file: str, tmp_path: Path) -> None:
    folder = whole_bundle(tmp_path)
    (folder / file).unlink()
    os.mkfifo(folder / file)
    with pytest.raises(InputError):
        load_bundle(folder)


ENTRY = {
    "id": "table1",
    "paper": "balm",
    "collection": "mine",
    "kind": "table",
    "title": "T",
    "caption": "C",
    "source": "S",
    "status": "regenerated",
    "rows_built": 1,
    "rows_in_paper": None,
    "files": ["figures/mine/balm/a.csv"],
    "local": ["figures/mine/balm/a.svg"],
    "runs": 1,
    "run_ids": [],
    "run_ids_hash": "",
    "seeds": [0],
    "profile": "quick",
    "selection": "valid",
    "fingerprint": "0",
    "notes": [],
}
OTHER = {
    "rows_built": "1",
    "rows_in_paper": [],
    "files": ["../../etc/passwd"],
    "runs": None,
    "run_ids": "a",
    "seeds": ["a"],
    "notes": {},
    "collection": "../x",
    "paper": "a/b",
    "id": "",
}


def test_a_manifest_entry_with_every_field_is_read(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "manifest.json").write_text(json.dumps([ENTRY]))
    assert read_manifest(tmp_path / "figures" / "manifest.json") == [ENTRY]


@pytest.mark.parametrize(
    ("key", "lacking"),
    [
        (key, lacking)
        for key in ENTRY
        for lacking in (True, False)
        if (key, lacking) != ("local", True)  # manifests made before there were such files
    ],
)
def test_a_manifest_entry_that_lacks_a_field_or_has_another_kind_is_refused(
    key: str, lacking: bool, tmp_path: Path
) -> None:
    entry = {k: v for k, v in ENTRY.items() if k != key} | (
        {} if lacking else {key: OTHER.get(key, 7)}
    )
    (tmp_path / "manifest.json").write_text(json.dumps([entry]))
    with pytest.raises(InputError, match="run the notebooks again"):
        read_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize("content", ["{}", "3", "[[]]", "[3]", "[" * 10**5, "", "\x00"])
def test_a_manifest_of_another_form_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match="no list of artifacts"):
        read_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    "content",
    [
        "role = 1",
        "bundle = []",
        "[role.x]\ntask = 3",
        "[role.x]\ntask = 'score'\nclasses = 'a'\nframes = true\npaper = []",
        "[role.x]\ntask = 'score'\nclasses = 0\nframes = true\npaper = [{ name = 'a' }]",
        "[bundle.x]\nroles = 'a'",
        "[bundle.x]\nfingerprint = 3\nroles = []\nsource = ''\nlicence = ''",
        "a = " + "[" * 10**5,
    ],
)
def test_a_data_manifest_of_another_form_is_refused(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.toml").write_text(content)
    monkeypatch.setattr(manifest.paths, "root", lambda: tmp_path)
    with pytest.raises(InputError, match="Restore it"):
        manifest.load_manifest()


RECORDS: dict[str, bytes] = {
    "no xz": b"text",
    "nothing": b"",
    "an empty archive": lzma.compress(b""),
    "cut": lzma.compress(b"{}" * 99)[:20],
    "no head": lzma.compress(b"[]\n"),
    "a head without runs": lzma.compress(b'{"format":1}\n'),
    "runs that are text": lzma.compress(b'{"format":1,"runs":"2"}\n'),
    "a record without an id": lzma.compress(
        b'{"format":2,"content":"","runs":1}\n{"record":{},"left_out":[]}\n{}\n'
    ),
    "a record that is a list": lzma.compress(
        b'{"format":2,"content":"","runs":1}\n{"record":[],"left_out":[]}\n{}\n'
    ),
    "deep JSON": lzma.compress(b'{"format":2,"content":"","runs":1}\n' + b"[" * 10**6 + b"\n{}\n"),
    "arrays that lack data": lzma.compress(
        b'{"format":2,"content":"","runs":1}\n{"record":{"id":"aa-b","status":"done","spec":{},"curves":{}},"left_out":[]}\n'
        b'{"predictions.a":{"dtype":"float16","shape":[1000000000000]}}\n'
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_of_another_form_are_refused_and_nothing_is_written(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "records.jsonl.xz").write_bytes(RECORDS[name])
    with pytest.raises(InputError, match="export_records"):
        import_records(Store(tmp_path / "runs"), tmp_path / "records.jsonl.xz")
    assert not (tmp_path / "runs").exists()


BOMB = """
from pathlib import Path
from mmlib.errors import InputError
from mmlib.runs.compact import import_records
from mmlib.runs.store import Store
begun, before, found = time.process_time(), peak(), []
for path in sys.argv[2:]:
    try:
        import_records(Store(Path(sys.argv[1])), Path(path))
    except InputError as error:
        found.append(str(error))
print(json.dumps({"found": found, "seconds": time.process_time() - begun, "more": peak() - before}))
"""


def with_dictionary_of_a_gigabyte(archive: bytes) -> bytes:
    """An .xz file whose block header asks the decoder for 1 GiB (36 in the size's code), with the sum that fits."""
    start, size = 12, 4 * (archive[12] + 1)
    header = bytearray(archive[start : start + size])
    assert header[2:4] == b"\x21\x01"  # LZMA2, whose one byte of properties follows
    header[4] = 36
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
    return archive[:start] + bytes(header) + archive[start + size :]


def test_archives_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    """A line without end, lines without end, archives in one another's wake, a decoder of a gigabyte."""
    head = b'{"format":2,"content":"","runs":100000000}\n'
    line = b'{"record":{"id":"a","status":"done","spec":{},"curves":{}},"left_out":[]}\n'
    bombs = {
        "line": lzma.compress(head + b" " * 6 * 10**7),
        "lines": lzma.compress(head + line * 5 * 10**5),
        "members": lzma.compress(head) + lzma.compress(b"\n" * 2 * 10**7) * 50,
        "dictionary": with_dictionary_of_a_gigabyte(lzma.compress(head)),
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
    found = in_child(BOMB, str(tmp_path / "runs"), *(str(tmp_path / name) for name in bombs))
    assert len(found["found"]) == 4 and found["seconds"] < 15 and found["more"] < 8e8
    assert not (tmp_path / "runs").exists()


def test_a_record_that_is_a_pipe_or_too_deep_counts_as_absent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "aa").mkdir()
    os.mkfifo(tmp_path / "aa" / "aa-1.json")
    (tmp_path / "aa" / "aa-2.json").write_text("[" * 10**6)
    assert store.get("aa-1") is None and store.get("aa-2") is None and store.ids() == []


def test_hdf5_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    """100 damages of one file, about 3 s."""
    arguments = hdf5(lambda path: None)(tmp_path)
    path = tmp_path / "audio_train.h5"
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(whole)
        for place in draw.integers(
            0, len(data) - 2560, size=4
        ):  # the numbers themselves stand at the end
            data[place] = draw.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            read_bundle(arguments[0], [tmp_path])
        except InputError as error:
            assert error.do
