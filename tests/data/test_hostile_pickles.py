"""Generated pickles, read in a child with limits: each ends in seconds, in bounded memory, and runs nothing."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from limited import in_child

from mmlib.data.readers import read_bundle
from mmlib.data.unpickle import safe_load
from mmlib.errors import InputError

COUNT = 2400
READ = """
import random
from pathlib import Path
sys.path.insert(0, "tests/data")
import pickle_programs as programs
from mmlib.data.readers import read_bundle
from mmlib.data.unpickle import safe_load
from mmlib.errors import InputError

folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
canary = str(folder / "canary")
seeds = list(programs.seeds(canary))
path, slowest, loaded = folder / "file.pkl", 0.0, 0
for number in range(first, last):
    draw = random.Random(number)
    kinds = [lambda: programs.damaged(draw.choice(seeds), draw), lambda: programs.program(draw, canary),
             lambda: programs.program(draw, canary), lambda: programs.doubling(draw), lambda: programs.repeated(draw)]
    path.write_bytes(kinds[4 if number % 40 == 4 else min(number % 5, 3)]())
    begun = time.process_time()
    try:
        safe_load(path)
        loaded += 1
    except InputError:
        pass
    try:
        read_bundle(("gcnet", "erc-pickle", "mmsa", "mult-iemocap")[number % 4], [path])
    except InputError:
        pass
    slowest = max(slowest, time.process_time() - begun)
print(json.dumps({"slowest": slowest, "loaded": loaded, "peak": peak()}))
"""


def test_thousands_of_generated_pickles_end_within_bounds_and_run_nothing(tmp_path: Path) -> None:
    """2,400 of them, by four readers in turn, about 30 s; a batch's peak is that of all its pickles and imports."""
    found = [
        in_child(READ, str(tmp_path), str(first), str(first + 800))
        for first in range(0, COUNT, 800)
    ]
    assert max(batch["slowest"] for batch in found) < 5
    assert max(batch["peak"] for batch in found) < 10**9
    assert (
        sum(batch["loaded"] for batch in found) > 50
    )  # some are fit to be read, so the others did reach the machine
    assert not (tmp_path / "canary").exists()


def nested_key(depth: int = 60) -> bytes:
    """A dictionary whose key holds the tuple before twice: 2 ** depth values to hash."""
    return (
        b"\x80\2)q\0"
        + b"".join(b"h" + bytes([i]) + b"2\x86q" + bytes([i + 1]) for i in range(depth))
        + b"}h"
        + bytes([depth])
        + b"Ns."
    )


def nested_list(depth: int = 200) -> bytes:
    return (
        b"\x80\2]q\0"
        + b"".join(b"](h" + bytes([i]) + b"2eq" + bytes([i + 1]) for i in range(depth))
        + b"h"
        + bytes([depth])
        + b"."
    )


def repeated_array(count: int = 5000) -> bytes:
    """Arrays that are all made from one string of a megabyte."""
    word = b"X" + struct.pack("<I", 2**20) + b"a" * 2**20 + b"q\0cnumpy\ndtype\nU\2f8K\0K\1\x87Rq\1"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R(K\1J\0\0\2\0\x85h\1\x89h\0tb"
    return b"\x80\2" + word + b"](" + array * count + b"e."


def colliding_keys(count: int = 60_000) -> bytes:
    """Whole numbers whose hash is 0 in Python: each is compared with all before it."""
    numbers = (i * (2**61 - 1) for i in range(1, count))
    encoded = [n.to_bytes(n.bit_length() // 8 + 1, "little") for n in numbers]
    return b"\x80\2}(" + b"".join(b"\x8a" + bytes([len(n)]) + n + b"N" for n in encoded) + b"u."


def long_axis() -> bytes:
    """An array without numbers and with two thousand million rows."""
    return pickle.dumps(np.zeros((0, 3)), 2).replace(b"K\0K\3\x86", b"J\xff\xff\xff\x7fK\0\x86")


ONES = {
    "a key nested through the memo": nested_key(40),
    "a list nested through the memo": nested_list(),
    "arrays of one string": repeated_array(),
    "keys of one hash": colliding_keys(),
    "a very long empty array": long_axis(),
    "a list in itself": b"\x80\2]q\0h\0a.",
    "levels without end": b"\x80\2" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "announced bytes": b"\x80\4\x8e" + struct.pack("<Q", 2**45) + b"a.",
    "sets of one list": b"\x80\2cbuiltins\nset\nq\0("
    + b"J\x01\x02\x03\x00" * 20_000
    + b"lq\1\x85q\2]("
    + b"h\0h\2R" * 5000
    + b"e.",
}
ONE = """
from pathlib import Path
from mmlib.data.unpickle import safe_load
from mmlib.errors import InputError
begun, before = time.process_time(), peak()
try:
    safe_load(Path(sys.argv[1]))
    found = ""
except InputError as error:
    found = str(error)
print(json.dumps({"found": found, "seconds": time.process_time() - begun, "more": peak() - before}))
"""


@pytest.mark.parametrize("name", ONES)
def test_small_pickles_that_would_never_end_are_refused_at_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(ONES[name])
    found = in_child(ONE, str(path), cpu=20)
    assert "expected a pickle of NumPy arrays" in found["found"]
    assert found["seconds"] < 5 and found["more"] < 4e8


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_that_share_nothing_are_read_however_many(protocol: int, tmp_path: Path) -> None:
    """Four times the constant of the budget, in bytes and in values, with what real files share."""
    silent = np.zeros(1024, dtype=np.float32)
    content = {
        "ids": {f"v{i}": [f"v{i}_{j}" for j in range(20)] for i in range(200)},
        "audio": {f"v{i}": [silent] * 20 for i in range(200)},
        "scores": [[0.5, 1, None]] * 2000,
    }
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    loaded = safe_load(path)
    assert loaded["ids"] == content["ids"] and loaded["scores"] == content["scores"]
    assert all(np.array_equal(array, silent) for row in loaded["audio"].values() for array in row)


def test_a_shared_array_that_readers_would_copy_is_refused(tmp_path: Path) -> None:
    shared = np.zeros((50, 1000))
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(tuple({f"d{i}": shared for i in range(9000)} for _ in range(9))))
    with pytest.raises(InputError, match="unfold"):
        read_bundle("erc-pickle", [path])
