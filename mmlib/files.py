"""How files are written: whole or not at all, with a clear message where they cannot be."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmlib.errors import InputError

TEMPORARY = ".partial"
LEFTOVER_SECONDS = 3600
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_TRIES = 100


@contextmanager
def explained(path: Path, error: type[InputError] = InputError) -> Iterator[None]:
    """Whatever the system refuses inside becomes one message: the path, the system's reason, what to do.

    Raises:
        InputError: (or ``error``) in the place of any ``OSError``.
    """
    try:
        yield
    except OSError as cause:
        raise error(
            str(path),
            f"{type(cause).__name__}: {cause}",
            "a place that can be written",
            "Check the path, its permissions and the free space, then give the same command again.",
        ) from cause


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, for the body to write; afterwards it takes the place of ``path`` at once.

    The folder is made where it lacks. Where the body fails, ``path`` stays as it was, and no new folder stays. Errors
    of the system pass.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}"
    made = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()
        if made:
            with suppress(OSError):  # it is not empty, as it should not be
                path.parent.rmdir()


def write(path: Path, data: bytes, error: type[InputError] = InputError) -> None:
    """Write a file so that it is whole, or as it was before, whatever happens in between.

    Raises:
        InputError: (or ``error``) it cannot be written.
    """
    with explained(path, error), replacing(path) as temporary:
        temporary.write_bytes(data)


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes whenever a file does; None where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def remove_old(folder: Path, pattern: str = f"*{TEMPORARY}") -> None:
    """Remove the temporary files that nobody has written to for an hour: those of processes that were killed."""
    for path in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink()


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of ``path``, a file beside it, which is gone afterwards; other processes and threads wait.

    Yields whether the lock is held: a file system without locks has none, and what is written there is still whole.

    Raises:
        InputError: the folder cannot be made or written.
    """
    lock = path.with_name(f".{path.name}.lock")
    with explained(path):
        descriptor, held = _lock(lock)
    try:
        yield held
    finally:
        with suppress(OSError):
            lock.unlink()  # before it is let go: who waited for it sees that it is gone, and takes the next
        os.close(descriptor)


def _lock(lock: Path) -> tuple[int, bool]:
    """An open descriptor of the lock's file, and whether it is locked."""
    for _ in range(_TRIES):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # who failed has just removed the folder
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor, False
            os.close(descriptor)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor, True
        os.close(descriptor)
    raise OSError(errno.EBUSY, "others take this lock again and again")
