"""One writer at a time: a lock that the system itself takes back when its holder dies.

`flock` belongs to an open file, so a killed process leaves no lock behind, only the file with its name in it; whoever
comes next takes that over. Where the system or the disk knows no `flock`, nothing is locked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path

fcntl: types.ModuleType | None
try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

UNKNOWN = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class HeldError(Exception):
    """The lock is another's.

    Attributes:
        holder: who has it, in words.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


@contextlib.contextmanager
def lock(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock that a file stands for; the file is removed at the end.

    Args:
        path: the file; made if missing.
        wait: until another holder lets go, instead of refusing.

    Raises:
        HeldError: another process, or another part of this one, holds it.
        OSError: the file cannot be made.
    """
    descriptor = _taken(path, wait=wait)
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock itself needs no byte
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        # removed while it is held: whoever waits for it sees that the name is gone and makes a new one
        with contextlib.suppress(OSError):
            if _is_at(descriptor, path):
                path.unlink()
        os.close(descriptor)


def holder(path: Path) -> str | None:
    """Who holds the lock of a file, in words; None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _flock(descriptor, wait=False) else _name_in(descriptor)
    finally:
        os.close(descriptor)


def _taken(path: Path, *, wait: bool) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _flock(descriptor, wait=wait):
                raise HeldError(_name_in(descriptor))
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the last holder removed the file between the two calls


def _flock(descriptor: int, *, wait: bool) -> bool:
    """Try to lock; whether it went."""
    if fcntl is None or sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _name_in(descriptor: int) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        words = os.pread(descriptor, 200, 0).decode().strip()
        if words:
            return words
    return "another process"
