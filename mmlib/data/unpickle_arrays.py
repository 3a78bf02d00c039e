"""What a pickle may call: stand-ins for NumPy's and Python's own functions that trust nothing in the file.

NumPy's functions are not called: they take the sizes and flags in the file as they are, and crash, or read other
memory, where those lie. Whatever is made here is charged to the load's ``Budget`` before it is made.
"""

from __future__ import annotations

import math
import pickle
import re
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

_CODE = re.compile(r"[<>=|]?[biufcSUO]\d{0,9}")
_AXES = 32
_LONGEST_AXIS = 2**47
_NAME = 60  # characters of a file's own words in a message
_WORD = 8  # bytes that a number counts as at least: readers convert to float64
_LATIN1 = ("latin1", "latin-1", "iso-8859-1", "iso8859-1")
_KEY_LENGTH = 64
_KEY_BITS = 1024
_SAME_HASH = 1000
_SMALL = 2**31


class Refused(pickle.UnpicklingError):
    """A pickle that is whole, and asks for more than it may."""


class Budget:
    """What a pickle of ``size`` bytes may build, and unfold to for whoever walks what it holds.

    ``bytes`` are at most 16 times the file's and 128 MiB, ``values`` at most four times its bytes and a million.
    A file that shares nothing stays far below both, however large it is.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.bytes = 16 * size + 2**27
        self.values = 4 * size + 2**20
        self._built = 0
        self._hashes: Counter[tuple[int, int]] = Counter()

    def charge(self, size: int) -> None:
        """Count bytes that are about to be built.

        Raises:
            Refused: more than the file may build.
        """
        self._built += size
        if self._built > self.bytes:
            raise Refused(f"more than {self.bytes:,} bytes to build, too many for the file's size")

    def walked(self, size: int, values: int) -> None:
        """Hold a part of the result to the budget, as a walk through it would see it.

        Raises:
            Refused: more than a walk may see.
        """
        if size > self.bytes or values > self.values:
            raise Refused(
                f"shared parts that unfold to more than {self.bytes:,} bytes or "
                f"{self.values:,} values, too many for the file's size"
            )

    def key(self, key: Any, container: object) -> None:
        """Hold a dictionary's key or a set's member to what is hashed at once: an atom, or a flat tuple of atoms.

        container: kept by whoever calls as long as it may get more of them.

        Raises:
            Refused: another key, or more than a thousand numbers or tuples of one hash in one container.
        """
        self._count(key, id(container), self._hashes)

    def keys_of_one(self, keys: Sequence[Any]) -> None:
        """Hold all members of a container that is made at once as ``key`` does.

        Raises:
            Refused: as ``key``.
        """
        hashes: Counter[tuple[int, int]] = Counter()
        for key in keys:
            self._count(key, 0, hashes)

    def _count(self, key: Any, container: int, hashes: Counter[tuple[int, int]]) -> None:
        if type(key) is str or type(key) is int and abs(key) < _SMALL:
            return
        parts = key if type(key) is tuple else (key,)
        if len(parts) > _KEY_LENGTH or not all(map(_is_atom, parts)):
            raise Refused("a key that is neither a string or number nor a short tuple of them")
        place = (container, hash(key))
        hashes[place] += 1
        if hashes[place] > _SAME_HASH:  # Python compares each with all that are there
            raise Refused(f"more than {_SAME_HASH} keys of one hash")


def _is_atom(value: Any) -> bool:
    if type(value) is int:
        return value.bit_length() <= _KEY_BITS
    return (
        value is None
        or isinstance(value, bool | float | str | bytes)
        or isinstance(value, np.generic)
        and value.dtype.kind in "biufSU"
    )


class Dtype:
    """Stands for a dtype until its code and byte order are checked."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        self.code, self.order = code, "="

    def build(self, state: Any) -> None:
        """Take over the byte order.

        Raises:
            UnpicklingError: fields or subarrays.
        """
        _need(type(state) is tuple and len(state) >= 5, "an unusual dtype")
        if any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("a structured dtype")
        self.order = state[1]

    def real(self) -> np.dtype[Any]:
        """The dtype of numbers, strings or objects."""
        if (
            not isinstance(self.code, str)
            or not _CODE.fullmatch(self.code)
            or self.order not in ("<", ">", "=", "|")
        ):
            raise pickle.UnpicklingError(f"the dtype {str(self.code)[:_NAME]!r}")
        dtype = np.dtype(self.code)
        return (
            dtype
            if self.order in ("|", "=")
            else dtype.newbyteorder(">" if self.order == ">" else "<")
        )


class Array:
    """Stands for an array until the whole pickle is read; ``value`` is the checked array."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Make the array of (version, shape, dtype, whether columns come first, data)."""
        _need(type(state) is tuple and len(state) in (4, 5), "an unusual array")
        shape, dtype, fortran, data = state[-4:]
        self.value = _build(
            self.budget,
            shape,
            _dtype_of(dtype),
            "F" if fortran is True or fortran == 1 else "C",
            data,
        )


class Name:
    """A name of the list, resolved: ``call`` is what REDUCE may call, None where nothing may."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any] | None = None) -> None:
        self.call = call


def names_for(budget: Budget) -> dict[tuple[str, str], Name]:
    """The list of names, for one load."""
    ndarray = Name()
    names: dict[tuple[str, str], Name] = {
        ("numpy", "ndarray"): ndarray,
        ("numpy", "dtype"): Name(lambda *args: _charged(budget, 200, Dtype(*args))),
        ("collections", "OrderedDict"): Name(lambda *args: _ordered(budget, *args)),
        ("collections", "defaultdict"): Name(lambda factory=None: _charged(budget, 64, {})),
        ("_codecs", "encode"): Name(lambda *args: _encode(budget, *args)),
    }
    for core in ("numpy.core", "numpy._core"):
        names[core + ".multiarray", "_reconstruct"] = Name(
            lambda *args: _reconstruct(budget, ndarray, *args)
        )
        names[core + ".multiarray", "scalar"] = Name(lambda *args: _scalar(budget, *args))
        names[core + ".numeric", "_frombuffer"] = Name(lambda *args: _frombuffer(budget, *args))
    for builtins in ("builtins", "__builtin__"):
        names |= {
            (builtins, "set"): Name(lambda *args: set(_members(budget, *args))),
            (builtins, "frozenset"): Name(lambda *args: frozenset(_members(budget, *args))),
            (builtins, "complex"): Name(_complex),
            (builtins, "bytes"): Name(lambda: b""),
            (builtins, "bytearray"): Name(lambda *args: _bytearray(budget, *args)),
        }
        names |= {
            (builtins, factory): Name()
            for factory in ("list", "dict", "int", "float", "str", "tuple")
        }
    return names


def extent(array: np.ndarray) -> int:
    """The bytes that an array counts as: at least eight a number, and its longer axes where another is empty."""
    return math.prod(max(axis, 1) for axis in array.shape) * max(array.itemsize, _WORD)


def _need(condition: bool, words: str) -> None:
    if not condition:
        raise pickle.UnpicklingError(words)


def _charged(budget: Budget, size: int, value: Any) -> Any:
    budget.charge(size)
    return value


def _dtype_of(value: Any) -> np.dtype[Any]:
    if not isinstance(value, Dtype):
        raise pickle.UnpicklingError(f"{type(value).__name__} where a dtype belongs")
    return value.real()


def _build(
    budget: Budget, shape: Any, dtype: np.dtype[Any], order: Literal["C", "F"], data: Any
) -> np.ndarray:
    """An array whose data have exactly the size that its shape and dtype ask for."""
    _need(type(shape) is tuple and len(shape) <= _AXES, "an unusual shape")
    _need(
        all(type(axis) is int and 0 <= axis < _LONGEST_AXIS for axis in shape), "an unusual shape"
    )
    count = math.prod(shape)
    budget.charge(math.prod(max(axis, 1) for axis in shape) * max(dtype.itemsize, _WORD))
    if dtype.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise pickle.UnpicklingError("array data that do not fit their dtype and shape")
        return objects(data).reshape(shape, order=order)
    if (
        not isinstance(data, str | bytes | bytearray)
        or dtype.itemsize == 0
        or len(data) != count * dtype.itemsize
    ):
        raise pickle.UnpicklingError("array data that do not fit their dtype and shape")
    raw = data.encode("latin1") if isinstance(data, str) else data
    array = (
        np.frombuffer(raw, dtype).astype(dtype.newbyteorder("=")) if count else np.zeros(0, dtype)
    )
    if dtype.kind == "U" and count and array.view(np.uint32).max() > sys.maxunicode:
        raise pickle.UnpicklingError("strings with characters that do not exist")
    return array.reshape(shape, order=order)


def objects(items: list[Any]) -> np.ndarray:
    """A list as an (n,) array of objects, whatever these are."""
    array = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        array[place] = item
    return array


def _reconstruct(budget: Budget, ndarray: Name, subtype: Any, shape: Any, code: Any) -> Array:
    if subtype is not ndarray or type(shape) is not tuple or shape != (0,):
        raise pickle.UnpicklingError("an unusual array")
    budget.charge(300)
    return Array(budget)


def _frombuffer(budget: Budget, data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    array = Array(budget)
    array.value = _build(budget, shape, _dtype_of(dtype), "F" if order == "F" else "C", data)
    return array


def _scalar(budget: Budget, dtype: Any, data: Any = b"") -> Any:
    real = _dtype_of(dtype)
    if real.hasobject or not isinstance(data, str | bytes) or len(data) != real.itemsize:
        raise pickle.UnpicklingError("an unusual NumPy scalar")
    budget.charge(64 + len(data))
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype=real)[0] if real.itemsize else real.type()


def _encode(budget: Budget, text: Any, encoding: Any = "latin1") -> bytes:
    _need(isinstance(text, str) and isinstance(encoding, str), "an unusual encoding")
    if encoding not in _LATIN1:
        raise pickle.UnpicklingError(f"the encoding {encoding[:_NAME]!r}")
    budget.charge(len(text))
    data: bytes = text.encode("latin1")
    return data


def _bytearray(budget: Budget, data: Any = b"", encoding: Any = "latin1") -> bytearray:
    if isinstance(data, str):
        data = _encode(budget, data, encoding)
    if not isinstance(data, bytes | list):
        raise pickle.UnpicklingError("an unusual bytearray")
    budget.charge(64 + len(data))
    return bytearray(data)


def _complex(real: Any = 0.0, imag: Any = 0.0) -> complex:
    _need(type(real) is float and type(imag) is float, "an unusual complex number")
    return complex(real, imag)


def _members(budget: Budget, items: Any = ()) -> Any:
    _need(type(items) in (list, tuple), "an unusual set")
    budget.charge(216 + 64 * len(items))
    for item in items:
        budget.key(item, items)
    return items


def _ordered(budget: Budget, pairs: Any = ()) -> OrderedDict[Any, Any]:
    _need(type(pairs) in (list, tuple), "an unusual OrderedDict")
    budget.charge(500 + 100 * len(pairs))
    for pair in pairs:
        _need(type(pair) in (list, tuple) and len(pair) == 2, "an unusual OrderedDict")
        budget.key(pair[0], pairs)
    return OrderedDict(tuple(pair) for pair in pairs)
