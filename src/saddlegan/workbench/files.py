"""Files and folders that appear whole or not at all, and the removal of what a killed command left of them.

What is being written carries the name `.NAME.xxxxxxxx.partial` and a lock. A name without a holder is a dead one's, and
the next command that writes there removes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import struct
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from saddlegan.errors import RunError
from saddlegan.files import sync as sync_folder
from saddlegan.workbench import locks

LOCK = ".lock"  # in a folder that is being written
PARTIAL, OLD = "partial", "old"
YOUNG = 60.0  # seconds
# what numpy raises over a damaged .npy or .npz, whichever byte is wrong
ARRAY_FAULTS = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, OverflowError, MemoryError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def hidden_name(path: Path, kind: str) -> Path:
    """A name beside `path` for what is to become it, or was it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{kind}")


@contextlib.contextmanager
def atomic(path: Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """Write a file beside its destination and rename it into place when the block ends; on any error nothing is left.

    Args:
        path: the file.
        sync: have it on the disk before it gets its name, and the name too.

    Yields:
        The file to write to.

    Raises:
        RunError: the file cannot be written; the message names it and the cause.
    """
    with named(path):
        sweep(path)
        partial = hidden_name(path, PARTIAL)
        with locks.lock(partial, signed=False) as held:  # removes the file unless it has got its name
            with open(held.descriptor, "wb", closefd=False) as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            partial.replace(path)
        if sync:
            sync_folder(path.parent)


def write_atomic(path: Path, content: bytes) -> Path:
    """Replace one file by `content`, whole or not at all.

    Raises:
        RunError: the file cannot be written; the message names it and the cause.
    """
    with atomic(path) as file:
        file.write(content)
    return path


def sweep(path: Path) -> None:
    """Remove what killed commands left of `path`: partial files and folders whose lock nobody holds, and old runs.

    Where a kill struck between the two renames of a replacement, the old folder gets its name back.
    """
    siblings = _left(path)
    if not siblings[PARTIAL] and not siblings[OLD]:
        return
    for old in siblings[OLD]:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(path)
    for partial in siblings[PARTIAL]:
        if not partial.is_dir():
            _remove(partial)
        elif locks.holder(partial / LOCK) is None and not _just_made(partial):
            shutil.rmtree(partial, ignore_errors=True)


def sweep_folder(folder: Path) -> None:
    """Remove the partial files that killed commands left in a folder."""
    for partial in folder.glob(f".*.{PARTIAL}"):
        _remove(partial)


def _remove(partial: Path) -> None:
    if partial.is_file() and locks.holder(partial) is None:
        partial.unlink(missing_ok=True)


def _just_made(folder: Path) -> bool:
    """Whether a folder without a lock may be a living command's that is about to take it."""
    with contextlib.suppress(FileNotFoundError):
        return not (folder / LOCK).exists() and time.time() - folder.stat().st_mtime < YOUNG
    return False


def moved_away(path: Path) -> Path | None:
    """Where a folder lies whose replacement was cut short between its two renames; None if there is none."""
    return None if path.exists() else next(iter(_left(path)[OLD]), None)


def _left(path: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {PARTIAL: [], OLD: []}
    parent = path.parent
    start = f".{path.name}."
    # no glob: the name may hold its special characters
    for entry in sorted(parent.iterdir()) if parent.is_dir() else ():
        key, _, kind = entry.name.removeprefix(start).partition(".")
        if entry.name.startswith(start) and re.fullmatch("[0-9a-f]{8}", key) and kind in found:
            found[kind].append(entry)
    return found


def replace_folder(stage: Path, target: Path) -> Path | None:
    """Give the folder `stage` the name `target`; a folder of that name is exchanged with it in one step.

    Where the system cannot exchange, two renames do it; `sweep` mends a kill between them.

    Returns:
        Where the folder that had the name lies now, or None if there was none.
    """
    if not target.exists():
        stage.rename(target)
        return None
    if _exchange(stage, target):
        return stage
    old = hidden_name(target, OLD)
    target.rename(old)
    try:
        stage.rename(target)
    except BaseException:
        old.rename(target)
        raise
    return old


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False where the system or the disk cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    names = os.fsencode(first), os.fsencode(second)
    return renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], ctypes.c_uint(RENAME_EXCHANGE)) == 0


@contextlib.contextmanager
def named(path: Path, verb: str = "write") -> Iterator[None]:
    """Turn a system's error into one that names the file.

    Raises:
        RunError: whatever the system said.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot {verb} {path}: {error.strerror or error}") from error
