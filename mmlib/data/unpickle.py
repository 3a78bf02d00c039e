"""A pickle reader that can build arrays and plain containers, and nothing else.

A pickle is a program. Two guards stand in front of it. ``_scan`` walks its opcodes before any of
them runs and refuses every name that is not on the list. The unpickler then resolves the listed
names to functions of this file, which take no arguments that a NumPy array or a plain container
would not have. NumPy's own functions are not called: they trust the sizes and flags in the file,
and crash, or read other memory, where those lie.
"""

from __future__ import annotations

import codecs
import math
import pickle
import pickletools
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import numpy as np

from mmlib.errors import InputError

_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_FORBIDDEN = {
    "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4",
    "NEXT_BUFFER", "READONLY_BUFFER",
}
_KINDS = "biufcSUO"
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset,
          np.ndarray, np.generic)
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_EXPECTED = "a pickle of NumPy arrays, strings, numbers and plain containers"


class _Dtype:
    """Stands for a dtype until its code and byte order are checked."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]
        if any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("a structured dtype")

    def real(self) -> np.dtype[Any]:
        dtype = np.dtype(str(self.code))
        if dtype.kind not in _KINDS or self.order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"the dtype {self.code!r}")
        return dtype if self.order in ("|", "=") else dtype.newbyteorder(">" if self.order == ">" else "<")


class _Array:
    """Stands for an array until the whole pickle is read; ``value`` is the checked array."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran, data = state[-4:]
        self.value = _build(shape, _dtype_of(dtype), "F" if fortran else "C", data)


_NDARRAY = object()
_FACTORY = object()


def _dtype_of(value: Any) -> np.dtype[Any]:
    if not isinstance(value, _Dtype):
        raise pickle.UnpicklingError(f"{type(value).__name__} where a dtype belongs")
    return value.real()


def _build(shape: Any, dtype: np.dtype[Any], order: Literal["C", "F"], data: Any) -> np.ndarray:
    """An array whose data have exactly the size that its shape and dtype ask for."""
    count = math.prod(shape)
    if not all(type(axis) is int and axis >= 0 for axis in shape):
        raise pickle.UnpicklingError("an unusual shape")
    if dtype.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise pickle.UnpicklingError("array data that do not fit their dtype and shape")
        return _objects(data).reshape(shape, order=order)
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | bytearray) or dtype.itemsize == 0 or len(raw) != count * dtype.itemsize:
        raise pickle.UnpicklingError("array data that do not fit their dtype and shape")
    array = np.frombuffer(raw, dtype).astype(dtype.newbyteorder("=")) if count else np.zeros(0, dtype)
    if dtype.kind == "U" and count and array.view(np.uint32).max() > sys.maxunicode:
        raise pickle.UnpicklingError("strings with characters that do not exist")
    return array.reshape(shape, order=order)


def _objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        array[place] = item
    return array


def _reconstruct(subtype: Any, shape: Any, code: Any) -> _Array:
    if subtype is not _NDARRAY or tuple(shape) != (0,):
        raise pickle.UnpicklingError("an unusual array")
    return _Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: str) -> _Array:
    array = _Array()
    array.value = _build(shape, _dtype_of(dtype), "F" if order == "F" else "C", data)
    return array


def _scalar(dtype: Any, data: Any = b"") -> Any:
    real = _dtype_of(dtype)
    raw = data.encode("latin1") if isinstance(data, str) else data
    if real.hasobject or not isinstance(raw, bytes) or len(raw) != real.itemsize:
        raise pickle.UnpicklingError("an unusual NumPy scalar")
    return np.frombuffer(raw, dtype=real)[0] if real.itemsize else real.type()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if codecs.lookup(encoding).name != "iso8859-1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r}")
    return text.encode("latin1")


def _bytearray(data: Any = b"", encoding: str = "latin1") -> bytearray:
    if isinstance(data, str):
        return bytearray(_encode(data, encoding))
    if not isinstance(data, bytes | list):
        raise pickle.UnpicklingError("an unusual bytearray")
    return bytearray(data)


def _bytes() -> bytes:
    return b""


def _defaultdict(factory: Any = None) -> dict[Any, Any]:
    return {}


def _allowed() -> dict[tuple[str, str], Any]:
    """The list. Functions are wrapped anew at each load, so a pickle can alter none of this file's."""
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): _Dtype,
        ("collections", "OrderedDict"): OrderedDict,
        ("collections", "defaultdict"): _wrapped(_defaultdict),
        ("_codecs", "encode"): _wrapped(_encode),
    }
    for core in ("numpy.core", "numpy._core"):
        names[core + ".multiarray", "_reconstruct"] = _wrapped(_reconstruct)
        names[core + ".multiarray", "scalar"] = _wrapped(_scalar)
        names[core + ".numeric", "_frombuffer"] = _wrapped(_frombuffer)
    for builtins in ("builtins", "__builtin__"):
        names |= {
            (builtins, "set"): set, (builtins, "frozenset"): frozenset, (builtins, "complex"): complex,
            (builtins, "bytearray"): _wrapped(_bytearray), (builtins, "bytes"): _wrapped(_bytes),
        }
        names |= {(builtins, factory): _FACTORY for factory in ("list", "dict", "int", "float", "str", "tuple")}
    return names


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return function(*args)

    return call


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._names = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("a persistent id")


def safe_load(path: Path, encoding: str = "latin1") -> Any:
    """What a pickle file holds: NumPy arrays and scalars, strings, numbers, plain containers.

    A ``defaultdict`` arrives as a plain dictionary.

    Raises:
        InputError: no such file; not a pickle, or a truncated one; a file of torch; a pickle that
            names anything else, which is refused before any of it runs.
    """
    if not path.is_file():
        raise InputError(str(path), "no such file", "a pickle file", "Check the path.")
    _refuse_archives(path)
    with path.open("rb") as file:
        _scan(path, file)
        file.seek(0)
        try:
            value = _unwrap(_Unpickler(file, encoding).load(), {})
        except InputError:
            raise
        except Exception as error:  # a damaged pickle can fail in any way
            raise _damaged(path, error) from error
    if type(value) is int and value == _TORCH_MAGIC:
        raise _torch(path)
    return value


def _unwrap(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """The value with arrays in place of what stands for them; ``done`` holds what was unwrapped, by id."""
    if id(value) in done:
        return done[id(value)][1]
    inside = value.value if isinstance(value, _Array) else value
    if inside is None and value is not None:
        raise pickle.UnpicklingError("an array without data")
    if not isinstance(inside, _PLAIN):
        raise pickle.UnpicklingError(f"a {type(inside).__name__} as a value")
    done[id(value)] = (value, inside)
    if isinstance(inside, list):
        inside[:] = [_unwrap(item, done) for item in inside]
    elif isinstance(inside, dict):
        for key in inside:
            inside[key] = _unwrap(inside[key], done)
    elif isinstance(inside, tuple):
        done[id(value)] = (value, tuple(_unwrap(item, done) for item in inside))
    elif isinstance(inside, np.ndarray) and inside.dtype.hasobject:
        flat = _objects([_unwrap(item, done) for item in inside.ravel()])
        done[id(value)] = (value, flat.reshape(inside.shape))
    return done[id(value)][1]


def _refuse_archives(path: Path) -> None:
    if path.stat().st_size == 0:
        raise InputError(str(path), "an empty file", _EXPECTED, "Download or copy the file again.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            torch = any(name.endswith("data.pkl") for name in archive.namelist())
        if torch:
            raise _torch(path)
        raise InputError(str(path), "a zip archive", _EXPECTED, "Unpack it, and give the pickle in it.")


def _scan(path: Path, file: IO[bytes]) -> None:
    """Refuse a pickle by its opcodes. Nothing of it has run.

    The two names of STACK_GLOBAL must be the two strings pushed just before it: what an ordinary
    pickler writes. Anything cleverer is refused, since only running it would tell the names.
    """
    allowed = _allowed()
    size = path.stat().st_size
    memo: dict[Any, str | None] = {}
    recent: list[str | None] = [None, None]
    try:
        argument: Any
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name == "MEMOIZE":
                memo[len(memo)] = recent[1]
            elif name in _PUT:
                if argument > size:
                    raise _refused(path, f"a memo index of {argument} in {size} bytes")
                memo[argument] = recent[1]
            elif name in _STRINGS:
                recent = [recent[1], argument]
            elif name in _GET:
                recent = [recent[1], memo.get(argument)]
            else:
                if name in _FORBIDDEN:
                    raise _refused(path, f"the pickle opcode {name}")
                if name in ("GLOBAL", "STACK_GLOBAL"):
                    _check_name(path, argument.split(" ", 1) if name == "GLOBAL" else recent, allowed)
                recent = [None, None]
    except InputError:
        raise
    except Exception as error:  # genops raises ValueError and others on what is no pickle
        raise _damaged(path, error) from error


def _check_name(path: Path, names: list[Any], allowed: dict[tuple[str, str], Any]) -> None:
    module, name = names
    if module is None or name is None:
        raise _refused(path, "a name hidden from inspection")
    if module.split(".")[0] == "torch":
        raise _torch(path)
    if (module, name) not in allowed:
        raise _refused(path, f"the name {module}.{name}")


def _refused(path: Path, found: str) -> InputError:
    return InputError(str(path), f"{found} in the pickle (nothing of it was run)", _EXPECTED,
                      "Do not open this file elsewhere unless you trust who made it; ask for the arrays as .npy files.")


def _torch(path: Path) -> InputError:
    return InputError(str(path), "a file with torch tensors", _EXPECTED,
                      "Convert the tensors to .npy where they were made: numpy.save(name, tensor.numpy()).")


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(str(path), f"a truncated or damaged pickle ({error})", _EXPECTED,
                      "Download or copy the file again.")
