"""A pickle reader that can build arrays and plain containers, and nothing else.

A pickle is a program for a small machine. The machine here knows the opcodes that plain data need; a name is resolved
to a function of ``unpickle_arrays`` or refused, so nothing of the file's own choice is ever called. A file is also
refused where it would build, or unfold to, far more than its size:

* Arrays, containers and copies may take 16 times the file's bytes and 128 MiB (``Budget``).
* The result is walked once more with each shared part counted wherever it stands, as a reader will meet it, and a
  number in an array as eight bytes. That may give the same number of bytes, four times the file's bytes and a
  million values, and 50 levels; a container that holds itself is refused.
* Keys of dictionaries and members of sets are strings, numbers, bytes, None, or flat tuples of at most 64 of these.
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmlib.data.bounded import regular_file
from mmlib.data.unpickle_arrays import (
    Array,
    Budget,
    Dtype,
    Name,
    Refused,
    extent,
    names_for,
    objects,
)
from mmlib.errors import InputError

_VALUES = {
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG",
    "LONG1",
    "LONG4",
    "FLOAT",
    "BINFLOAT",
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_IGNORED = {"PROTO", "FRAME"}
_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    list,
    tuple,
    dict,
    set,
    frozenset,
    np.ndarray,
    np.generic,
)
_LEVELS = 50
_ABSENT = object()
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_EXPECTED = "a pickle of NumPy arrays, strings, numbers and plain containers"


def safe_load(path: Path) -> Any:
    """What a pickle file holds: NumPy arrays and scalars, strings, numbers, plain containers.

    A ``defaultdict`` arrives as a plain dictionary.

    Raises:
        InputError: no such file, or no regular one; not a pickle, or a truncated one; a file of torch; a pickle that
            names anything else, whose code does not run; one that unfolds to far more than its size.
    """
    regular_file(path)
    size = path.stat().st_size
    _refuse_archives(path, size)
    budget = Budget(size)
    try:
        # A map reads no further than the file's end, whatever size an opcode announces.
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            value = _Machine(budget, path).run(content)
        value = _Walk(budget).unwrapped(value, 0)[2]
    except InputError:
        raise
    except Refused as error:
        raise InputError(
            str(path),
            f"a pickle with {error}",
            _EXPECTED,
            "Ask who made it for the arrays as .npy files.",
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise _damaged(path, error) from error
    if type(value) is int and value == _TORCH_MAGIC:
        raise _torch(path)
    return value


class _Machine:
    """The stack, the marks in it and the memo of one load; an opcode's method takes its argument."""

    def __init__(self, budget: Budget, path: Path) -> None:
        self.budget, self.path = budget, path
        self.names = names_for(budget)
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self.kept = 0
        self.steps: dict[str, Callable[[Any], None]] = {
            "POP": self.pop,
            "POP_MARK": lambda _: self.since_mark().clear(),
            "DUP": lambda _: self.push(self.stack[-1]),
            "MARK": lambda _: self.marks.append(len(self.stack)),
            "MEMOIZE": lambda _: self.put(self.kept),
            "EMPTY_LIST": lambda _: self.made([], 64),
            "EMPTY_TUPLE": lambda _: self.push(()),
            "EMPTY_DICT": lambda _: self.made({}, 64),
            "EMPTY_SET": lambda _: self.made(set(), 216),
            "LIST": lambda _: self.made(self.since_mark(), 64),
            "TUPLE": lambda _: self.made(tuple(self.since_mark()), 64),
            "TUPLE1": lambda _: self.last(1),
            "TUPLE2": lambda _: self.last(2),
            "TUPLE3": lambda _: self.last(3),
            "DICT": self.dict,
            "FROZENSET": self.frozenset,
            "ADDITEMS": self.additems,
            "APPEND": lambda _: self.extend([self.stack.pop()]),
            "APPENDS": lambda _: self.extend(self.since_mark()),
            "SETITEM": self.setitem,
            "SETITEMS": lambda _: self.update(self.since_mark()),
            "GLOBAL": lambda names: self.name(*names.split(" ", 1)),
            "STACK_GLOBAL": self.stack_global,
            "REDUCE": self.reduce,
            "BUILD": self.build,
        }

    def run(self, content: mmap.mmap) -> Any:
        """The value that the pickle leaves on the stack."""
        push, steps = self.stack.append, self.steps
        argument: Any
        for opcode, argument, _ in pickletools.genops(content):  # type: ignore[arg-type]
            name = opcode.name
            if name in _VALUES:
                push(argument)
            elif name in _GET:
                push(self.get(argument))
            elif name in steps:
                steps[name](argument)
            elif name in _CONSTANTS:
                push(_CONSTANTS[name])
            elif name in _PUT:
                self.put(argument)
            elif name == "STOP":
                return self.stack.pop()
            elif name not in _IGNORED:
                raise _refused(self.path, f"the pickle opcode {name}")
        raise pickle.UnpicklingError("no end")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def made(self, value: Any, size: int) -> None:
        self.budget.charge(size)
        self.stack.append(value)

    def put(self, index: int) -> None:
        memo, value = self.memo, self.stack[-1]
        if index == len(memo):  # what picklers write
            memo.append(value)
        else:
            if not 0 <= index <= self.budget.size:
                raise Refused(f"a memo index of {index} in {self.budget.size} bytes")
            memo.extend([_ABSENT] * (index + 1 - len(memo)))
            memo[index] = value
        self.kept += 1

    def get(self, index: int) -> Any:
        value = self.memo[index] if 0 <= index < len(self.memo) else _ABSENT
        if value is _ABSENT:
            raise pickle.UnpicklingError(f"nothing under the memo index {index}")
        return value

    def pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def since_mark(self) -> list[Any]:
        """The values above the last mark, off the stack."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def last(self, count: int) -> None:
        if len(self.stack) < count:
            raise pickle.UnpicklingError("too few values on the stack")
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.made(values, 48)

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise pickle.UnpicklingError(f"items for a {type(target).__name__}")
        target.extend(values)

    def update(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise pickle.UnpicklingError(
                f"{len(pairs)} keys and values for a {type(target).__name__}"
            )
        self.budget.charge(50 * len(pairs))
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self.budget.key(key, target)
            target[key] = value

    def setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def dict(self, _: Any) -> None:
        pairs = self.since_mark()
        self.made({}, 64)
        self.update(pairs)

    def additems(self, _: Any) -> None:
        values, target = self.since_mark(), self.stack[-1]
        if type(target) is not set:
            raise pickle.UnpicklingError(f"members for a {type(target).__name__}")
        self.budget.charge(64 * len(values))
        for value in values:
            self.budget.key(value, target)
            target.add(value)

    def frozenset(self, _: Any) -> None:
        values = self.since_mark()
        self.budget.keys_of_one(values)
        self.made(frozenset(values), 216 + 64 * len(values))

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise _refused(self.path, "a name that is no string")
        self.name(module, name)

    def name(self, module: str, name: str) -> None:
        if module.split(".", 1)[0] == "torch":
            raise _torch(self.path)
        if (module, name) not in self.names:
            raise _refused(self.path, f"the name {module[:60]}.{name[:60]}")
        self.push(self.names[module, name])

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or function.call is None or type(arguments) is not tuple:
            raise pickle.UnpicklingError(f"a {type(function).__name__} that is not callable")
        if len(arguments) > 4:
            raise pickle.UnpicklingError(f"{len(arguments)} arguments of a call")
        self.push(function.call(*arguments))

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Array | Dtype):
            raise pickle.UnpicklingError(f"a state for a {type(target).__name__}")
        target.build(state)


class _Walk:
    """The result once more, as a reader sees it: shared parts counted at every place, stand-ins replaced by arrays."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.done: dict[int, tuple[Any, tuple[int, int, Any]]] = {}
        self.open: set[int] = set()

    def unwrapped(self, value: Any, level: int) -> tuple[int, int, Any]:
        """The bytes and the number of values that a walk sees, and the value without stand-ins."""
        kind = type(value)
        if kind in (str, bytes, bytearray):
            return len(value), 1, value
        if kind in (int, float, bool, type(None)):
            return 0, 1, value
        earlier = self.done.get(id(value))
        if earlier is not None:
            return earlier[1]
        if id(value) in self.open or level > _LEVELS:
            raise Refused(
                "a container inside itself"
                if id(value) in self.open
                else f"containers in more than {_LEVELS} levels"
            )
        self.open.add(id(value))
        size, count, inside = self.inside(value, level)
        self.open.discard(id(value))
        self.budget.walked(size, count)
        self.done[id(value)] = value, (size, count, inside)
        return size, count, inside

    def inside(self, value: Any, level: int) -> tuple[int, int, Any]:
        if isinstance(value, Array) and value.value is None:
            raise pickle.UnpicklingError("an array without data")
        inside = value.value if isinstance(value, Array) else value
        if not isinstance(inside, _PLAIN):
            raise pickle.UnpicklingError(f"a {type(inside).__name__.lower()} as a value")
        if isinstance(inside, np.ndarray):
            size = extent(inside)
            if not inside.dtype.hasobject:
                return size, 1, inside
            size, count, items = self.parts(list(inside.ravel()), level, size)
            return size, count, objects(items).reshape(inside.shape)
        if isinstance(inside, dict):
            keys = self.parts(list(inside), level, 0)
            size, count, items = self.parts(list(inside.values()), level, keys[0])
            inside.update(zip(list(inside), items, strict=True))
            return size, count + keys[1], inside
        if isinstance(inside, list | tuple | set | frozenset):
            size, count, items = self.parts(list(inside), level, 0)
            if isinstance(inside, list):
                inside[:] = items
            return size, count, tuple(items) if isinstance(inside, tuple) else inside
        return getattr(inside, "nbytes", 0), 1, inside

    def parts(self, items: list[Any], level: int, size: int) -> tuple[int, int, list[Any]]:
        """The sums of the items' bytes, from ``size`` on, and values, and the items without stand-ins."""
        count, replaced = 1, []
        for item in items:
            more, values, inside = self.unwrapped(item, level + 1)
            size, count = size + more, count + values
            replaced.append(inside)
        return size, count, replaced


def _refuse_archives(path: Path, size: int) -> None:
    if size == 0:
        raise InputError(str(path), "an empty file", _EXPECTED, "Download or copy the file again.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            torch = any(name.endswith("data.pkl") for name in archive.namelist())
        if torch:
            raise _torch(path)
        raise InputError(
            str(path), "a zip archive", _EXPECTED, "Unpack it, and give the pickle in it."
        )


def _refused(path: Path, content: str) -> InputError:
    return InputError(
        str(path),
        f"{content} in the pickle (nothing of it was run)",
        _EXPECTED,
        "Do not open this file elsewhere unless you trust who made it; ask for the arrays as .npy files.",
    )


def _torch(path: Path) -> InputError:
    return InputError(
        str(path),
        "a file with torch tensors",
        _EXPECTED,
        "Convert the tensors to .npy where they were made: numpy.save(name, tensor.numpy()).",
    )


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        str(path),
        f"a truncated or damaged pickle ({str(error)[:200]})",
        _EXPECTED,
        "Download or copy the file again.",
    )
