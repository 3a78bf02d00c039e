"""What two or more readers need: files that must exist, arrays without pickles, held-out groups."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmlib.data.bounded import regular_file, table_file
from mmlib.errors import InputError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = 0.1
EMPTY = 2**27
UNREADABLE = (  # what numpy.load raises of a damaged file
    ArithmeticError,
    ValueError,
    EOFError,
    MemoryError,
    OSError,
    RecursionError,
    SyntaxError,
    TypeError,
    zipfile.BadZipFile,
)
EMOTIONS = ("hap", "sad", "neu", "ang", "exc", "fru")


def one_path(paths: Sequence[Path], expected: str) -> Path:
    """The only path given.

    Raises:
        InputError: none or several.
    """
    if len(paths) != 1:
        raise InputError("the paths", f"{len(paths)} of them", expected, "Give that one path.")
    return paths[0]


def existing(path: Path, do: str = "Check the path.") -> Path:
    """The path itself, once it is known to exist."""
    if not path.exists():
        raise InputError(str(path), "no such file or folder", "an existing one", do)
    return path


def choice(option: str, value: str, choices: Sequence[str]) -> str:
    """The value itself, once it is known to be one of ``choices``."""
    if value not in choices:
        raise unknown_name(f"option {option}", value, choices)
    return value


def load_npy(path: Path, mapped: bool = False) -> np.ndarray:
    """A numeric array of an ``.npy`` file, never a pickled one.

    mapped: leave what is not written to in the file, which must stay as it is as long as the array is needed.

    Raises:
        InputError: no such file, object arrays, a truncated file or one whose header asks for more than it holds,
            or entries that are no real numbers.
    """
    regular_file(path)
    try:
        _check_size(path)
        with path.open("rb") as file:
            array = np.load(path if mapped else file, "c" if mapped else None, allow_pickle=False)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise InputError(
            str(path),
            f"dtype {getattr(array, 'dtype', 'of an archive')}",
            "real numbers",
            "Save the array as float32.",
        )
    return array.view(np.ndarray)


def _unreadable(path: Path, error: Exception) -> InputError:
    long_header = "Header info length" in str(
        error
    )  # of which NumPy says that pickles might be allowed, too
    objects = ("allow_pickle", "Object arrays", "Python objects")
    if not long_header and any(words in str(error) for words in objects):
        return InputError(
            str(path),
            "an object array (a pickle)",
            "an array of numbers of one shape",
            "Save it again with numeric dtype; ragged rows: pad them and give lengths.",
        )
    return InputError(
        str(path),
        f"no readable .npy file ({str(error)[:200]})",
        "an array that numpy.save wrote",
        "Save or copy the file again.",
    )


def _check_size(path: Path) -> None:
    """Refuse an ``.npy`` header that asks for more bytes than the file has, before memory is set aside for them."""
    with path.open("rb") as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            return  # whatever it is, ``numpy.load`` says so
        file.seek(0)
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        here = path.stat().st_size - file.tell()
    needed = math.prod(max(axis, 1) for axis in shape) * dtype.itemsize
    # An array without entries may yet have more rows than fit a machine.
    most = EMPTY if 0 in shape else here
    if not dtype.hasobject and (needed > most or min(shape, default=0) < 0):
        raise ValueError(
            f"a header that asks for {dtype} of shape {shape}, and {here:,} bytes after it"
        )
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize < here:
        raise ValueError(f"{here - math.prod(shape) * dtype.itemsize:,} bytes after its array")


def single(array: np.ndarray) -> np.ndarray:
    """float32, as bundles keep it (images stay uint8); what it cannot hold becomes infinite, and is refused later."""
    with np.errstate(over="ignore"):
        return array if array.dtype == np.uint8 else np.asarray(array).astype(np.float32)


def read_csv(path: Path, **options: object) -> pd.DataFrame:
    """A CSV file, or an InputError that names it."""
    import pandas as pd

    table_file(path)
    try:
        frame: pd.DataFrame = pd.read_csv(path, **options)  # type: ignore[call-overload]
    except (ValueError, MemoryError, OSError, pd.errors.ParserError) as error:
        raise InputError(
            str(path),
            f"no readable table ({error})",
            "a CSV file in UTF-8",
            "Save it as UTF-8 text with a comma between cells, or copy the file again.",
        ) from error
    return frame


def need_columns(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise where a column is missing."""
    lacking = [c for c in columns if c not in frame.columns]
    if lacking:
        raise InputError(
            str(path),
            f"columns {', '.join(map(str, frame.columns))}",
            f"a column {lacking[0]!r} among them",
            "Add or rename the column.",
        )


def numbers(where: str, values: Sequence[object]) -> np.ndarray:
    """Values as float64; names the first that is no number."""
    import pandas as pd

    parsed = pd.to_numeric(pd.Series(list(values)), errors="coerce")
    if parsed.isna().any():
        row = int(np.flatnonzero(parsed.isna())[0])
        raise InputError(
            where, f"{values[row]!r} in row {row + 1}", "a number", "Correct the entry."
        )
    return parsed.to_numpy(dtype=np.float64)


def floats(path: Path, table: pd.DataFrame) -> np.ndarray:
    """A table of strings as float64, empty cells as NaN. Parsed by Python: pandas' parsers differ in the last bit."""
    try:
        return table.to_numpy(dtype=object).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            str(path), f"an entry that is no number ({error})", "numbers", "Copy the file again."
        ) from error


def hold_out(groups: Sequence[str], rate: float = HELD_OUT) -> set[str]:
    """A share of the distinct groups, at least one, at most all but one.

    Drawn from the *sorted* names with a fixed generator, so the same names give the same groups.

    Raises:
        InputError: fewer than two groups.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise InputError(
            "the train split",
            f"{len(names)} dialogue",
            "two or more, to hold one out for validation",
            "Add data, or mark some of it as valid.",
        )
    count = min(max(round(rate * len(names)), 1), len(names) - 1)
    return {names[i] for i in np.random.default_rng(0).permutation(len(names))[:count]}


def hold_out_by_class(
    ids: Sequence[str], labels: Sequence[object], rate: float = HELD_OUT
) -> set[str]:
    """The same for single utterances, a share of each class; a class of one utterance stays whole."""
    by_class: dict[str, list[str]] = {}
    for name, label in zip(ids, labels, strict=True):
        by_class.setdefault(str(label), []).append(name)
    chosen: set[str] = set()
    for label in sorted(by_class):
        if round(rate * len(by_class[label])) and len(by_class[label]) > 1:
            chosen |= hold_out(by_class[label], rate)
    return chosen or hold_out(ids, rate)


def one_each(where: str, sets: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Dialogue to split, from the dialogues of each split.

    Raises:
        InputError: a dialogue in two splits.
    """
    split: dict[str, str] = {}
    for name, dialogues in sets.items():
        for dialogue in sorted(dialogues):
            if split.setdefault(dialogue, name) != name:
                raise InputError(
                    where,
                    f"the dialogue {dialogue!r} in {split[dialogue]} and {name}",
                    "each dialogue in one split",
                    "Remove it from one of them.",
                )
    return split
