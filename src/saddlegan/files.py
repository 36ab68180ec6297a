"""The core's one writer of files: a file appears whole or not at all. The workbench's adds locks."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write(path: Path, *parts: bytes) -> Path:
    """Write a file beside its destination, bring it to the disk, rename it into place; on any error nothing is left.

    Args:
        path: the file, whose folder exists; an old one is replaced.
        parts: its content, one after another.

    Returns:
        The path.

    Raises:
        OSError: it cannot be written; the old file stays as it was.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())  # before the name: a crash must not leave the name with half a content
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return path


def sync(folder: Path) -> None:
    """Make the names in a folder durable, where the system allows a folder to be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
