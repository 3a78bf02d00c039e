"""Pickles that nobody's pickler wrote: opcodes drawn at random, with the tricks that hostile files use."""

from __future__ import annotations

import pickle
import random
import struct
from collections.abc import Callable, Iterator

import numpy as np

NAMES = (
    "numpy ndarray",
    "numpy dtype",
    "numpy._core.multiarray _reconstruct",
    "numpy.core.multiarray scalar",
    "numpy._core.numeric _frombuffer",
    "builtins set",
    "builtins frozenset",
    "builtins bytearray",
    "builtins complex",
    "collections OrderedDict",
    "collections defaultdict",
    "_codecs encode",
    "builtins list",
    "os mkdir",
    "builtins eval",
    "builtins exec",
    "builtins getattr",
    "subprocess run",
    "pickle loads",
)
CODES = (
    b"f8",
    b"f4",
    b"i8",
    b"u1",
    b"b1",
    b"O8",
    b"U9",
    b"U99999999",
    b"S3",
    b"f8,f8",
    b"V8",
    b"M8[s]",
    b"(9,)f8",
)


def seeds(canary: str) -> Iterator[bytes]:
    """Whole pickles to damage: ordinary ones in every protocol, and calls that would make the canary."""

    class Makes:
        def __reduce__(self) -> tuple[object, ...]:
            import os

            return os.mkdir, (canary,)

    shared = [1.5, "a"]
    good = [
        np.arange(6.0).reshape(2, 3),
        {"a": [shared, shared], "b": {1, 2}, ("c", 1): None},
        [np.float32(1), np.array(["x", None], dtype=object), b"b", 10**30, 1j, bytearray(b"z")],
    ]
    for protocol in range(6):
        yield pickle.dumps(good, protocol)
        yield pickle.dumps([good, Makes()], protocol)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A pickle with some bytes changed, cut out, or doubled."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        place, kind = draw.randrange(len(data)), draw.random()
        if kind < 0.5:
            data[place] = draw.randrange(256)
        elif kind < 0.75:
            del data[place : place + draw.randint(1, 8)]
        else:
            data[place:place] = data[place : place + draw.randint(1, 30)] * draw.randint(1, 9)
        if not data:
            return b"."
    return bytes(data)


def program(draw: random.Random, canary: str) -> bytes:
    """A pickle of up to two hundred opcodes; sizes, shapes and dtypes lie as often as not."""

    def text() -> bytes:
        word = draw.choice(
            [
                b"a",
                b"train",
                canary.encode(),
                draw.choice(CODES),
                b"x" * draw.choice([0, 8, 64, 4096]),
            ]
        )
        return b"X" + struct.pack("<I", len(word)) + word

    def size() -> int:
        return draw.choice([0, 1, 2, 8, 255, 2**16, 2**31 - 1])

    def name() -> bytes:
        return b"c" + draw.choice(NAMES).replace(" ", "\n").encode() + b"\n"

    def whole() -> bytes:
        return b"J" + struct.pack("<i", draw.choice([0, 1, -1, 2, 1000, 2**31 - 1, -(2**31)]))

    def memo(code: bytes) -> bytes:
        return code + bytes([draw.randrange(12)])

    def array() -> bytes:
        shape = b"(" + b"".join(whole() for _ in range(draw.randint(0, 3))) + b"t"
        dtype = (
            b"cnumpy\ndtype\n"
            + b"U"
            + bytes([3])
            + draw.choice([b"f8x", b"i8 ", b"O8|", b"<f8"])
            + b"K\0K\1\x87R"
        )
        data = text()
        return (
            b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R(K\1"
            + shape
            + dtype
            + draw.choice([b"\x88", b"\x89"])
            + data
            + b"tb"
        )

    parts: list[Callable[[], bytes]] = [
        text,
        whole,
        name,
        array,
        lambda: memo(b"q"),
        lambda: memo(b"h"),
        lambda: memo(b"h"),
        lambda: b"\x94",
        lambda: b"2",
        lambda: b"0",
        lambda: b"(",
        lambda: b"(",
        lambda: b"t",
        lambda: b"l",
        lambda: b"e",
        lambda: b"a",
        lambda: b"s",
        lambda: b"u",
        lambda: b"d",
        lambda: b"]",
        lambda: b"}",
        lambda: b")",
        lambda: b"\x85",
        lambda: b"\x86",
        lambda: b"\x87",
        lambda: b"\x8f",
        lambda: b"\x90",
        lambda: b"\x91",
        lambda: b"R",
        lambda: b"R",
        lambda: b"b",
        lambda: b"\x81",
        lambda: b"\x93",
        lambda: b"1",
        lambda: b"N",
        lambda: b"G" + struct.pack(">d", draw.choice([0.0, 1e308, float("nan")])),
        lambda: b"B" + struct.pack("<I", size()),
        lambda: b"\x8b" + struct.pack("<i", draw.choice([9, 2**31 - 1, -1])),
        lambda: b"\x8e" + struct.pack("<Q", draw.choice([3, 2**40, 2**63])),
        lambda: b"I" + b"9" * min(size(), 5000) + b"\n",
        lambda: b"\x95" + struct.pack("<Q", draw.choice([4, 2**62])),
        lambda: b"L" + b"9" * 4500 + b"L\n",
        lambda: b"r" + struct.pack("<I", draw.choice([20, 2**31])),
        lambda: b"V\\u0041\n",
    ]
    body = b"".join(draw.choice(parts)() for _ in range(draw.randint(1, 200)))
    # Many draws start from values that the next opcodes can use, or most would end at the first of them.
    start = (
        b"\x80"
        + bytes([draw.randrange(6)])
        + draw.choice([b"", b"]q\0", b"}q\0", b"(K\1K\2", b"](]q\1"])
    )
    return start + body + draw.choice([b".", b".", b".", b""])


def doubling(draw: random.Random) -> bytes:
    """Containers that hold the one before twice or more, through the memo: small, and endless for whoever walks."""
    depth, width = draw.randint(1, 200), draw.randint(2, 20)
    kind = draw.choice([b"tuple", b"list", b"dict", b"key", b"set", b"frozenset"])
    body = draw.choice([b"K\1", b"N", b"X\3\0\0\0abc"]) + b"q\0"
    for level in range(depth):
        again = b"h" + bytes([level % 250])
        if kind == b"list":
            body += b"(" + again * width + b"l"
        elif kind == b"dict":
            body += b"}(" + b"".join(b"K" + bytes([i]) + again for i in range(width)) + b"u"
        else:
            body += b"(" + again * width + b"t"
        body += b"q" + bytes([(level + 1) % 250])
    last = b"h" + bytes([depth % 250])
    end = {
        b"key": b"}" + last + b"Ns",
        b"set": b"\x8f(" + last + b"\x90",
        b"frozenset": b"(" + last + b"\x91",
    }
    return b"\x80\4" + body + end.get(kind, last) + b"."


def repeated(draw: random.Random) -> bytes:
    """One long string in the memo, and many arrays, bytes or bytearrays made from it."""
    length, count = 2 ** draw.randint(3, 20), draw.randint(1, 6000)
    word = b"X" + struct.pack("<I", length) + b"a" * length + b"q\0"
    dtype = b"cnumpy\ndtype\nU\2f8K\0K\1\x87Rq\1"
    shape = b"J" + struct.pack("<i", length // 8) + b"\x85q\2"
    begin = b"cnumpy._core.multiarray\n_reconstruct\nq\3cnumpy\nndarray\nK\0\x85U\1b\x87q\4R"
    state = b"(K\1h\2h\1\x89h\0tq\5b"
    calls = {
        "array": b"h\3h\4Rh\5b",
        "encode": b"c_codecs\nencode\nh\0\x85R",
        "bytes": b"cbuiltins\nbytearray\nh\0\x85R",
    }
    one = calls[draw.choice(sorted(calls))]
    return b"\x80\2" + word + dtype + shape + begin + state + b"](" + one * count + b"e."
