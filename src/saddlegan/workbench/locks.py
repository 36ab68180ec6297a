"""One writer at a time: a lock that the system itself takes back when its holder dies.

`flock` belongs to an open file, so a killed process leaves no lock behind, only the file with its name in it; whoever
comes next takes that over. Where the system or the disk knows no `flock`, nothing is locked.
"""

from __future__ import annotations

import contextlib
import dataclasses
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


@dataclasses.dataclass
class Lock:
    """A lock that is held.

    Attributes:
        path: its file; set it where the folder around it is renamed.
        descriptor: the open file.
    """

    path: Path
    descriptor: int


@contextlib.contextmanager
def lock(path: Path, *, wait: bool = False, signed: bool = True) -> Iterator[Lock]:
    """Hold the lock that a file stands for; the file is removed at the end.

    Args:
        path: the file; made if missing.
        wait: until another holder lets go, instead of refusing.
        signed: write the holder's name into the file.

    Raises:
        HeldError: another process, or another part of this one, holds it.
        OSError: the file cannot be made.
    """
    held = Lock(path, _taken(path, wait=wait))
    try:
        if signed:
            with contextlib.suppress(OSError):  # a full disk: the lock itself needs no byte
                os.ftruncate(held.descriptor, 0)
                os.pwrite(held.descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield held
    finally:
        # removed while it is held: whoever waits for it sees that the name is gone and makes a new one
        with contextlib.suppress(OSError):
            if _is_at(held.descriptor, held.path):
                held.path.unlink()
        os.close(held.descriptor)


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
