"""Reading files that others made: regular files alone, no more bytes than are expected, and no deep nesting.

A named pipe or a device under the name of a table would block a reader, or feed it for ever; a small file can unfold
to a large one, or nest so deeply that a parser's recursion ends. Each function here refuses such a file before, or
while, it is read.
"""

from __future__ import annotations

import json
import lzma
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmlib.errors import InputError

JSON_BYTES = 32 * 2**20
TOML_BYTES = 2**18
TOML_DOTS = 300  # in a line: tomllib's time and memory grow with the square of a key's parts
TEXT_BYTES = 64 * 2**20
LINE_BYTES = 2**20
COLUMNS = 10_000
UNFOLDED = 64  # times the compressed size; what this repository writes unfolds to 17 times its size
UNFOLDED_LEAST = 16 * 2**20
UNFOLDED_MOST = 256 * 2**20
XZ_MEMORY = 96 * 2**20  # of the decoder; what this repository writes needs 9 MiB
UNFOLDED_LINE = 32 * 2**20
_BLOCK = 2**20


def regular_file(path: Path, do: str = "Check the path.") -> Path:
    """The path itself, once it is known to lead to a regular file (through links or not).

    Raises:
        InputError: nothing there, or a folder, pipe, socket or device.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = (
            "no such file"
            if isinstance(error, FileNotFoundError)
            else f"no file that can be read ({error})"
        )
        raise InputError(str(path), reason, "an existing one", do) from error
    if not stat.S_ISREG(mode):
        raise InputError(str(path), _kind(mode), "a regular file", "Put the file itself there.")
    return path


def is_regular(path: Path) -> bool:
    """Whether the path leads to a regular file, which can be opened without waiting for anybody."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def read_bounded(path: Path, most: int = TEXT_BYTES) -> bytes:
    """The bytes of a regular file, at most ``most`` of them.

    Raises:
        InputError: what ``regular_file`` raises, a larger file, or one that may not be read.
    """
    regular_file(path)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InputError(
            str(path),
            f"no file that can be read ({error})",
            "a file with read permission",
            "Check its permissions.",
        ) from error
    if len(content) > most:
        raise InputError(
            str(path), f"more than {most:,} bytes", f"at most {most:,}", "Check what the file is."
        )
    return content


def read_text(path: Path, encoding: str = "utf-8-sig", most: int = TEXT_BYTES) -> str:
    """A bounded text file.

    Raises:
        InputError: what ``read_bounded`` raises, or bytes that are no text in that encoding.
    """
    try:
        return read_bounded(path, most).decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            str(path),
            f"no readable text ({error})",
            "a text file in UTF-8",
            "Save or copy the file again.",
        ) from error


def parse_json(text: str | bytes) -> Any:
    """The value of JSON text; nesting that is too deep is a ``ValueError``, as every other fault is."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("values that are nested too deeply") from error


def read_toml(path: Path, expected: str, do: str) -> dict[str, Any]:
    """The table of a TOML file of at most 256 KiB.

    Raises:
        InputError: what ``read_text`` raises, text that is no TOML, or keys or arrays that are nested too deeply.
    """
    text = read_text(path, "utf-8-sig", TOML_BYTES)
    try:
        for number, line in enumerate(text.split("\n"), 1):
            if line.count(".") > TOML_DOTS:
                raise ValueError(f"line {number} has more than {TOML_DOTS} dots")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), f"no readable TOML ({error})", expected, do) from error


def table_file(path: Path) -> Path:
    """The path itself, once it is known to be a regular file whose lines a table can have.

    Raises:
        InputError: what ``regular_file`` raises, a line of more than a mebibyte, or more than ``COLUMNS`` columns in
            the first line.
    """
    regular_file(path)
    try:
        with path.open(encoding="latin1") as file:
            line = file.readline(LINE_BYTES + 1)
            columns = 1 + max(line.count(mark) for mark in ",;\t")
            if columns > COLUMNS:
                raise InputError(
                    str(path),
                    f"{columns:,} or more columns",
                    f"at most {COLUMNS:,}",
                    "Keep features in .npy files, one row an utterance.",
                )
            while line:
                if len(line) > LINE_BYTES:
                    raise InputError(
                        str(path),
                        f"a line of more than {LINE_BYTES:,} bytes",
                        "a line per utterance",
                        "Save or copy the file again.",
                    )
                line = file.readline(LINE_BYTES + 1)
    except OSError as error:
        raise InputError(
            str(path),
            f"no readable table ({error})",
            "a CSV file in UTF-8",
            "Save or copy the file again.",
        ) from error
    return path


def unfolded_lines(path: Path) -> Iterator[bytes]:
    """The lines of an ``.xz`` file, which may unfold to 64 times its size and 16 MiB, and to 256 MiB at most.

    Raises:
        InputError: what ``regular_file`` raises.
        ValueError: a file that unfolds to more, has a line of more than 32 MiB, or goes on after its end.
        OSError, EOFError, lzma.LZMAError: a damaged or truncated file, or one whose decoder needs too much memory.
    """
    size = regular_file(path).stat().st_size
    most = min(UNFOLDED * size + UNFOLDED_LEAST, UNFOLDED_MOST)
    left, rest = most, b""
    for block in _unfolded(path):
        left -= len(block)
        if left < 0:
            raise ValueError(f"unfolds to more than {most:,} bytes")
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
        if len(rest) > UNFOLDED_LINE:
            raise ValueError(f"a line of more than {UNFOLDED_LINE:,} bytes")
    if rest:
        yield rest


def _unfolded(path: Path) -> Iterator[bytes]:
    """What an ``.xz`` file of one stream holds, a mebibyte at most at a time."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
    with path.open("rb") as file:
        while not decoder.eof:
            folded = file.read(_BLOCK) if decoder.needs_input else b""
            if decoder.needs_input and not folded:
                raise EOFError("the file ends before its content does")
            yield decoder.decompress(folded, max_length=_BLOCK)
        if decoder.unused_data or file.read(1):
            raise ValueError("bytes after its end")


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")
