"""Labels of rows and pictures: names of sub-folders, lists of files, CelebA's list of attributes, one line a row."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from saddlegan.errors import DataError, InputError

SHOWN = 12  # names of columns in a message


def file_and_column(said: str) -> tuple[Path, str | None]:
    """Read FILE or FILE:COLUMN.

    Raises:
        DataError: no such file.
    """
    path, _, column = said.rpartition(":")
    if Path(said).is_file() or not path:
        path, column = said, ""
    if not Path(path).is_file():
        raise DataError(f"`labels` names {path}, which is no file")
    return Path(path), column or None


def of_pictures(folder: Path, names: Sequence[str], said: str) -> np.ndarray:
    """Labels (n,) of the pictures of a folder.

    Args:
        folder: where they lie.
        names: their paths in it, (n,).
        said: FILE or FILE:COLUMN, a list of files with their labels; or "" for the names of their sub-folders. A list
            has a line for each picture, its name first, with commas, tabs or spaces between; the first line may name
            the columns. CelebA's `list_attr_celeba.txt` is one.

    Raises:
        DataError: the list cannot be read, has no such column, or lacks a picture.
        InputError: no labels, or one for all.
    """
    if not said:
        found = [PurePosixPath(Path(name).as_posix()).parent.as_posix() for name in names]
        if len(set(found)) < 2:
            raise InputError(
                f"`labels` is missing: the pictures of {folder} do not lie in sub-folders that could name them; "
                "give a list, FILE or FILE:COLUMN"
            )
        return typed(found)
    path, column = file_and_column(said)
    header, rows = _cells(path)
    known = {name: name for name in (Path(each).as_posix() for each in names)}
    for short in (lambda name: PurePosixPath(name).name, lambda name: PurePosixPath(name).stem):
        shorter: dict[str, str] = {}
        for name in (Path(each).as_posix() for each in names):
            shorter[short(name)] = "" if short(name) in shorter else name  # "": of several, so it names none
        known = {**shorter, **known}
    if header is None and rows and not known.get(rows[0][0]):
        header, rows = rows[0], rows[1:]
    place = _place(header, len(rows[0]) if rows else 0, column, path, first=1)
    labels: dict[str, str] = {}
    for row in rows:
        name = known.get(row[0])
        if name:
            labels[name] = row[place]
    missing = [name for name in names if Path(name).as_posix() not in labels]
    if missing:
        raise DataError(f"{path} has no line for {missing[0]}, and {len(missing)} pictures lack one in all")
    return typed([labels[Path(name).as_posix()] for name in names])


def of_rows(n: int, said: str) -> np.ndarray:
    """Labels (n,) from a file with one line, or one entry of a .npy array, for each row.

    Args:
        n: rows of the data.
        said: FILE or FILE:COLUMN.

    Raises:
        DataError: the file cannot be read, or holds another number of labels.
    """
    path, column = file_and_column(said)
    if path.suffix.lower() == ".npy":
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read as npy: {error}") from error
        if found.ndim != 1:
            raise DataError(f"{path} must hold one label per row, shape ({n},), got {found.shape}")
    else:
        header, rows = _cells(path)
        if header is None and len(rows) == n + 1:
            header, rows = rows[0], rows[1:]
        place = _place(header, len(rows[0]) if rows else 0, column, path, first=0)
        found = typed([row[place] for row in rows])
    if len(found) != n:
        raise DataError(f"{path} holds {len(found)} labels for {n} rows")
    return found


def _cells(path: Path) -> tuple[list[str] | None, list[list[str]]]:
    """Cells of a text file, and its header where the file itself says that it is one, as CelebA's lists do."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
    # CelebA: the number of pictures, the names of the attributes, then a name and its attributes in each line
    counted = len(lines) > 1 and lines[0].strip().isdecimal() and int(lines[0]) == len(lines) - 2
    lines = lines[1:] if counted else lines
    sep = next((mark for mark in (",", "\t", ";") if lines and mark in lines[-1]), None)
    rows = (
        [line.split() for line in lines]
        if sep is None
        else [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=sep, skipinitialspace=True)]
    )
    header = rows[0] if counted else None
    body = rows[1:] if counted else rows
    if header is not None and body and len(header) == len(body[0]) - 1:
        header = ["", *header]
    width = len(body[-1]) if body else 0
    uneven = next((row for row in body if len(row) != width), None)
    if uneven is not None:
        raise DataError(f"{path}: the line {' '.join(uneven)[:60]!r} has {len(uneven)} columns, the last one {width}")
    if not body:
        raise DataError(f"{path} holds no labels")
    return header, body


def _place(header: Sequence[str] | None, width: int, column: str | None, path: Path, *, first: int) -> int:
    """Place of the column that holds the labels."""
    names = list(header) if header is not None else [str(place) for place in range(width)]
    if column is None:
        if width != first + 1:
            listed = f"{', '.join(names[first : first + SHOWN])}{' ...' if len(names) > first + SHOWN else ''}"
            raise InputError(f"`labels` must name one of the columns of {path}, such as {path}:{names[-1]}: {listed}")
        return first
    if column not in names[first:]:
        raise InputError(
            f"`labels` names {column!r}, which {path} does not have; it has {', '.join(names[first:][:SHOWN])}"
        )
    return names.index(column, first)


def typed(words: Sequence[str]) -> np.ndarray:
    """Whole numbers as numbers, so that they sort as such; words as they are."""
    if all(re.fullmatch(r"[+-]?\d{1,18}", word) for word in words):
        return np.array([int(word) for word in words], dtype=np.int64)
    return np.array(words, dtype=str)


def from_column(values: Sequence[object] | np.ndarray, name: str, path: Path) -> np.ndarray:
    """A column of a table as labels (n,).

    Raises:
        DataError: a row without one.
    """
    words: list[str] = []
    for row, value in enumerate(values):
        if value is None or value != value or str(value) in ("", "<NA>", "NaT"):
            raise DataError(f"{path}: column {name!r} has no label in row {row} (counted from 0)")
        whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
        words.append(str(int(value)) if whole else str(value))  # type: ignore[call-overload]
    return typed(words)
