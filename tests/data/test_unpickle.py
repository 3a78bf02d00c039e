"""The restricted unpickler: good pickles load, hostile ones are refused before anything runs."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmlib import paths
from mmlib.data.unpickle import safe_load
from mmlib.errors import InputError

GOOD: dict[str, Any] = {
    "array": np.arange(6.0).reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "objects": np.array(["one", "more"], dtype=object),
    "strings": np.array(["one", "more"]),
    "bytes array": np.array([b"one", b"more"]),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "no axis": np.array(3.0),
    "flag": np.bool_(True),
    "scalar": np.float64(2.5),
    "whole": np.int64(-3),
    "text scalar": np.str_("word"),
    "empty text scalar": np.str_(""),
    "bytes": b"\xff\x00",
    "no bytes": b"",
    "bytearray": bytearray(b"\xfe x"),
    "complex": 1 + 2j,
    "set": {"b", "a"},
    "frozenset": frozenset({1, 2}),
    "ordered": OrderedDict(b=1, a=2),
    "defaultdict": defaultdict(list, a=[1]),
    "plain": [None, True, 10**30, ("é", {"k": [1.5]})],
}


class Reduced:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file.pkl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", GOOD)
def test_what_pickle_loads_safe_load_loads(name: str, protocol: int, tmp_path: Path) -> None:
    content = pickle.dumps(GOOD[name], protocol)
    loaded, expected = safe_load(write(tmp_path, content)), pickle.loads(content)
    if isinstance(expected, np.ndarray | np.generic):
        assert loaded.dtype == expected.dtype.newbyteorder("=")
        assert type(loaded) is type(expected)
        np.testing.assert_array_equal(loaded, expected)
    else:
        assert loaded == expected


def test_python_2_pickle_of_a_latin1_string_and_an_array_loads(tmp_path: Path) -> None:
    # What Python 2's pickle.dumps({'k\xe9': numpy.array([1., 2.])}, 2) writes, names of old NumPy.
    data = struct.pack("<2d", 1.0, 2.0)
    content = (
        b"\x80\x02}q\x00U\x02k\xe9cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x10" + data + b"tbs."
    )
    loaded = safe_load(write(tmp_path, content))
    np.testing.assert_array_equal(loaded["ké"], [1.0, 2.0])


def test_real_gcnet_index_loads() -> None:
    path = paths.real_data() / "gcnet-layout" / "CMUMOSI" / "CMUMOSI_features_raw_2way.pkl"
    if not path.exists():
        pytest.skip(f"no real data at {path}")
    content = safe_load(path)
    assert [len(part) for part in content] == [93, 93, 93, 93, 52, 10, 31]


def hostile(marker: Path) -> dict[str, Any]:
    """Objects whose plain unpickling would create the marker, each by another way."""
    system = Reduced(os.system, f"touch '{marker}'")
    made = Reduced(os.mkdir, str(marker))
    return {
        "os.system": system,
        "builtins.eval": Reduced(builtins.eval, f"__import__('os').mkdir({str(marker)!r})"),
        "a chain of calls": Reduced(getattr, Reduced(__import__, "os"), "system"),
        "inside an object array": np.array(["good", made], dtype=object),
        "as a dictionary's key": {Reduced(os.system, f"touch '{marker}'"): 1},
        "after good content": [np.arange(3), {"a": "b"}, made],
        "nested pickle": Reduced(pickle.loads, pickle.dumps(made)),
    }


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", hostile(Path("marker")))
def test_hostile_pickle_is_refused_and_nothing_ran(
    name: str, protocol: int, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    path = write(tmp_path, pickle.dumps(hostile(marker)[name], protocol))
    with pytest.raises(InputError, match="nothing of it was run"):
        safe_load(path)
    assert not marker.exists()


def test_the_hostile_pickles_would_have_run(tmp_path: Path) -> None:
    for name in ("os.system", "inside an object array", "nested pickle"):
        marker = tmp_path / name
        pickle.loads(pickle.dumps(hostile(marker)[name]))
        assert marker.exists()


RAW = {
    "INST": (b"(S'touch {}'\nios\nsystem\n.", "INST"),
    "OBJ": (b"(cos\nsystem\nX\x01\x00\x00\x00ao.", "os.system"),
    "extension code": (b"\x80\x02\x82\x01.", "EXT1"),
    "persistent id": (b"Pname\n.", "PERSID"),
    "binary persistent id": (b"\x80\x02K\x01Q.", "BINPERSID"),
    "NEWOBJ": (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
    "names from the memo of another value": (
        b"\x80\x04\x8c\x02os\x940\x8c\x06system\x940h\x00h\x01\x93.",
        "os.system",
    ),
    "names under names that were popped": (
        b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x05numpy\x8c\x05dtype00\x93.",
        "os.system",
    ),
    "a name that is no string": (b"\x80\x04K\x01K\x02\x93.", "no string"),
    "a dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", "ndarray.dumps"),
    "a giant memo index": (b"\x80\x02X\x01\x00\x00\x00ar\xff\xff\xff\x7f.", "memo index"),
    "a giant bytearray": (
        b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
        "unusual bytearray",
    ),
    "an array of a giant shape": (
        b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R.",
        "unusual array",
    ),
    "a call of ndarray": (b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.", "not callable"),
    "a structured dtype": (
        b"\x80\x02cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nU\x05f8,f8\x85RU\x01a\x86R.",
        "dtype",
    ),
    "a function as a value": (b"\x80\x02cnumpy\ndtype\n.", "as a value"),
    "an array without data": (
        b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.",
        "without data",
    ),
    "out-of-band buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
}


@pytest.mark.parametrize("name", RAW)
def test_hand_made_opcodes_are_refused(name: str, tmp_path: Path) -> None:
    content, words = RAW[name]
    with pytest.raises(InputError, match=words):
        safe_load(write(tmp_path, content))


def test_object_pointers_in_raw_data_are_refused(tmp_path: Path) -> None:
    """A dtype of objects whose flags deny it would let NumPy take bytes for pointers."""
    content = (
        b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08AAAAAAAAtb."
    )
    with pytest.raises(InputError, match="do not fit their dtype"):
        safe_load(write(tmp_path, content))


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_refused_with_the_way_out(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "features.pt"
    torch.save({"audio": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"torch tensors.*npy"):
        safe_load(path)


def test_pickled_torch_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="torch tensors"):
        safe_load(write(tmp_path, pickle.dumps({"audio": torch.ones(2)})))


def test_hostile_object_in_a_torch_storage_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(
            [torch.ones(2), Reduced(os.system, f"touch '{marker}'")],
            buffer,
            _use_new_zipfile_serialization=zipped,
        )
        with pytest.raises(InputError, match="torch tensors"):
            safe_load(write(tmp_path, buffer.getvalue()))
    assert not marker.exists()


def test_every_truncation_of_a_pickle_is_an_input_error(tmp_path: Path) -> None:
    content = pickle.dumps([np.arange(20.0), {"a", "b"}, np.float64(1)])
    for end in range(len(content) - 1):
        with pytest.raises(InputError, match=str(tmp_path)):
            safe_load(write(tmp_path, content[:end]))


def test_array_data_longer_than_the_shape_are_refused(tmp_path: Path) -> None:
    content = pickle.dumps(np.array(["x", "y"], dtype=object), 2)
    assert content.count(b"K\x01K\x02\x85") == 1
    with pytest.raises(InputError, match="dtype and shape"):
        safe_load(write(tmp_path, content.replace(b"K\x01K\x02\x85", b"K\x01K\x01\x85")))


def test_arrays_inside_every_container_are_arrays_and_stay_shared(tmp_path: Path) -> None:
    array = np.arange(3)
    nested = np.empty(1, dtype=object)
    nested[0] = [array]
    loaded = safe_load(
        write(tmp_path, pickle.dumps([{"k": (array,)}, nested, [array], OrderedDict(a=array)]))
    )
    found = [loaded[0]["k"][0], loaded[1][0][0], loaded[2][0], loaded[3]["a"]]
    assert all(item is found[0] for item in found)
    np.testing.assert_array_equal(found[0], [0, 1, 2])


def test_random_damage_never_raises_anything_else(tmp_path: Path) -> None:
    content = bytearray(
        pickle.dumps([np.arange(20.0), {"a": ["b", np.array(["x", "y"], dtype=object)]}])
    )
    generator = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), size=2):
            damaged[place] = generator.integers(0, 256)
        try:
            safe_load(write(tmp_path, bytes(damaged)))
        except InputError as error:
            assert error.do


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"not a pickle at all", "damaged"),
        (b"PK\x05\x06" + bytes(18), "zip archive"),
    ],
)
def test_what_is_no_pickle_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        safe_load(write(tmp_path, content))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        safe_load(tmp_path / "absent.pkl")


def test_many_small_sets_are_no_large_one(tmp_path: Path) -> None:
    for kind in (set, frozenset):
        path = tmp_path / kind.__name__
        path.write_bytes(pickle.dumps([kind({(1.5, 2)}) for _ in range(3000)], 4))
        assert safe_load(path) == [{(1.5, 2)}] * 3000
