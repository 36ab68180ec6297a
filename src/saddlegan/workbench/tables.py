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
        if "allow_pickle" in reason or "pickled" in reason or "Object arrays" in reason:
            reason = "it holds Python objects, which are never loaded; save plain numbers"
        raise DataError(f"{path} cannot be read as {path.suffix.lower()[1:]}: {reason}") from error


def _npy(path: Path) -> np.ndarray:
    array = np.load(path, mmap_mode="r" if path.stat().st_size else None, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is not a .npy array")
    return array


def _npz(path: Path) -> np.ndarray:
    archive = np.load(path, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise DataError(f"{path} is not a .npz archive; rename it to .npy")
    with archive:
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
        head = pd.read_csv(path, header=None, nrows=1, dtype=str)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty") from error
    has_header = not all(_is_number(str(cell)) for cell in head.iloc[0])
    return _numbers(pd.read_csv(path, header=0 if has_header else None, float_precision="round_trip"), path)


def _parquet(path: Path) -> np.ndarray:
    import pandas as pd

    return _numbers(pd.read_parquet(path), path)


def _numbers(frame: Any, path: Path) -> np.ndarray:
    for column in frame.columns:
        if frame[column].dtype.kind not in "fiub":
            value = next((v for v in frame[column] if not _is_number(str(v))), frame[column].iloc[0])
            raise DataError(
                f"{path} must hold numbers only, but column {str(column)!r} holds {str(value)!r}; remove that column"
            )
    if frame.empty:
        raise DataError(f"{path} holds no row of numbers")
    return frame.to_numpy()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


READERS: dict[str, Callable[[Path], np.ndarray]] = {".npy": _npy, ".npz": _npz, ".csv": _csv, ".parquet": _parquet}
