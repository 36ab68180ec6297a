"""Arrays from .npy (memory-mapped), .npz, .csv and .parquet files. Pickled objects are refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from saddlegan.errors import DataError

PREFERRED_KEYS = ("X", "images", "data", "x", "arr_0")


def read_file(path: Path) -> np.ndarray:
    """Read one file as an array (n, ...).

    Raises:
        DataError: unknown ending, unreadable, or not numbers; the message names the file.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} must end in {', '.join(READERS)}, or be a folder of images")
    try:
        return reader(path)
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason or "pickled" in reason or "bject" in reason:
            reason = "it holds Python objects, which are never loaded; save plain numbers"
        raise DataError(f"{path} cannot be read as {path.suffix.lower()[1:]}: {reason}") from error


def _npy(path: Path) -> np.ndarray:
    array = np.load(path, mmap_mode="r" if path.stat().st_size else None, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is not a .npy array")
    return array


def _npz(path: Path) -> np.ndarray:
    with path.open("rb") as file:  # numpy leaves a damaged archive open when it opens the file itself
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{path} is not a .npz archive; rename it to .npy")
        keys = list(archive.keys())
        chosen = keys if len(keys) == 1 else [key for key in PREFERRED_KEYS if key in keys]
        if not chosen:
            raise DataError(
                f"{path} holds {', '.join(keys) or 'nothing'}; name the data array one of {', '.join(PREFERRED_KEYS)}"
            )
        return archive[chosen[0]]


def _csv(path: Path) -> np.ndarray:
    import pandas as pd

    try:
        head = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0]
        has_header = not all(_is_number(str(cell)) for cell in head)
        frame = pd.read_csv(path, header=None, skiprows=1 if has_header else 0)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} holds no row of numbers") from error
    if frame.shape[1] != len(head):
        raise DataError(f"{path} names {len(head)} columns in its first line, but its rows have {frame.shape[1]}")
    return _numbers(frame.set_axis(list(head), axis=1) if has_header else frame, path)


def _parquet(path: Path) -> np.ndarray:
    import pandas as pd

    return _numbers(pd.read_parquet(path), path)


def _numbers(frame: Any, path: Path) -> np.ndarray:
    if frame.empty:
        raise DataError(f"{path} holds no row of numbers")
    for name, column in frame.items():  # by position: names may repeat
        if column.dtype.kind not in "fiub":
            value = next((v for v in column if not _is_number(str(v))), column.iloc[0])
            raise DataError(
                f"{path} must hold numbers only, but column {str(name)!r} holds {str(value)!r}; remove that column"
            )
    return frame.to_numpy()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


READERS: dict[str, Callable[[Path], np.ndarray]] = {".npy": _npy, ".npz": _npz, ".csv": _csv, ".parquet": _parquet}
