"""Tables from .npy (memory-mapped), .npz, .csv, .tsv and .parquet files. Pickled objects are refused.

pandas parses; what a file does not say itself (separator, header, index column, decimal mark) is found out here, and
every guess is said in `Table.notes`. Where two readings are as likely, the file is refused and the option named.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from saddlegan.errors import DataError

PREFERRED_KEYS = ("X", "images", "data", "x", "arr_0")
SAMPLE_LINES = 200  # of a text file, from which its layout is found out
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MISSING = frozenset({"", "-", "--", "?", ".", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "none"})
YEARS = range(1500, 2500)  # whole numbers that count up by one from here may as well be names of columns
EXACT = 2**53  # whole numbers beyond are not exact as floating point numbers

Choice = Literal["auto", "yes", "no"]


class TableOptions(BaseModel):
    """How to read a text file where the reader should not find out by itself.

    Attributes:
        header: whether the first line names the columns.
        index: whether the first column only counts or names the rows, and is left out.
        sep: the separator; found out if None.
        decimal: the decimal mark; found out if None.
        na: further words that stand for a missing value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: Choice = "auto"
    index: Choice = "auto"
    sep: str | None = None
    decimal: Literal[".", ","] | None = None
    na: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
        array: (n, ...).
        columns: names of the columns, None where the file has none.
        notes: what was found out or left out, one sentence each, for the user to see.
    """

    array: np.ndarray
    columns: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def read_file(path: Path, options: TableOptions | None = None) -> Table:
    """Read one file.

    Args:
        path: the file; its ending says what it is.
        options: for text files.

    Raises:
        DataError: unknown ending, unreadable, ambiguous, or not numbers; the message names the file and the remedy.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} must end in {', '.join(READERS)}, or be a folder of images")
    options = options or TableOptions()
    if options != TableOptions() and reader is not _text:
        raise DataError(f"{path} says itself how to read it; header, index, sep, decimal and na belong to text files")
    try:
        return reader(path, options)
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason or "pickled" in reason or "bject" in reason:
            reason = "it holds Python objects, which are never loaded; save plain numbers"
        raise DataError(f"{path} cannot be read as {path.suffix.lower()[1:]}: {reason}") from error


def _npy(path: Path, options: TableOptions) -> Table:
    del options
    array = np.load(path, mmap_mode="r" if path.stat().st_size else None, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is not a .npy array")
    return Table(array)


def _npz(path: Path, options: TableOptions) -> Table:
    del options
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
        if len(chosen) > 1:
            raise DataError(
                f"{path} holds {' and '.join(chosen)}, and any of them may be the data; save the one that is meant "
                "in a file of its own"
            )
        others = [key for key in keys if key != chosen[0]]
        notes = (f"read the array {chosen[0]!r}, left out {', '.join(map(repr, others))}",) if others else ()
        return Table(archive[chosen[0]], notes=notes)


def _parquet(path: Path, options: TableOptions) -> Table:
    del options
    import pandas as pd

    frame = pd.read_parquet(path)
    return Table(_numbers(frame, path), tuple(map(str, frame.columns)))


def _text(path: Path, options: TableOptions) -> Table:
    """A text file: find out its layout on the first lines, let pandas read it, say what was found out."""
    import pandas as pd

    notes: list[str] = []
    encoding = _encoding(path)
    if encoding not in ("utf-8", "utf-8-sig"):
        notes.append(f"read as {encoding}")
    with path.open(encoding=encoding, newline="") as file:
        lines = [line for _, line in zip(range(SAMPLE_LINES), file, strict=False) if line.strip()]
    if not lines:
        raise DataError(f"{path} holds no row of numbers")
    sep = options.sep or _separator(lines, path)
    if sep != ",":
        notes.append(f"columns are separated by {SEPARATORS.get(sep, 'spaces')}")
    cells = _cells(lines, sep)
    decimal = options.decimal or _decimal(cells[1:] or cells)
    if decimal == ",":
        notes.append("the decimal mark is a comma")
    missing = MISSING | set(options.na)
    has_header, said = _header(cells, decimal, missing, options.header, path)
    notes += said
    first, width = cells[0], max(map(len, cells[1:]), default=len(cells[0]))
    unnamed = has_header and width == len(first) + 1  # R's write.table leaves the name of the row names out
    if has_header and len(first) != width and not unnamed:
        raise DataError(
            f"{path} names {len(first)} columns in its first line, but its rows have {width}; if the first line is "
            "data pass header=no, if commas are decimal marks pass decimal=','"
        )
    try:
        frame = pd.read_csv(
            path,
            sep=sep if sep in SEPARATORS or len(sep) > 1 else re.escape(sep),
            header=None,
            skiprows=_lines_before_rows(path, encoding, 1 if has_header else 0),
            decimal=decimal,
            encoding=encoding,
            skipinitialspace=True,
            na_values=sorted(missing - {""}),
            index_col=False,
            engine="c" if sep in SEPARATORS or sep == r"\s+" else "python",
        )
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} holds no row of numbers") from error
    names = ["", *first] if unnamed else first
    if has_header and frame.shape[1] != len(names):
        raise DataError(f"{path} names {len(names)} columns in its first line, but its rows have {frame.shape[1]}")
    frame = frame.set_axis(names if has_header else [str(i) for i in range(frame.shape[1])], axis=1)
    drop, said = _index(frame, options.index, named=has_header, unnamed=unnamed)
    if unnamed and not drop:
        raise DataError(f"{path} names {len(first)} columns in its first line, but its rows have {width}")
    notes += said
    if drop:
        frame = frame.iloc[:, 1:]
    array = _numbers(frame, path)
    still = [str(name) for name, column in zip(frame.columns, array.T, strict=True) if len(array) > 1 and _same(column)]
    if still:
        notes.append(f"the same value in every row of: {', '.join(still[:5])}{' ...' if len(still) > 5 else ''}")
    return Table(array, tuple(map(str, frame.columns)) if has_header else None, tuple(notes))


def _encoding(path: Path) -> str:
    """By its byte order mark; else UTF-8 if it is that, else Latin-1, which any bytes are."""
    with path.open("rb") as file:
        head = file.read(4)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        if head.startswith(b"\xef\xbb\xbf"):
            return "utf-8-sig"
    try:
        with path.open(encoding="utf-8") as text:
            while text.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _cells(lines: Sequence[str], sep: str) -> list[list[str]]:
    if sep == r"\s+":
        return [line.split() for line in lines]
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=sep, skipinitialspace=True)]


def _separator(lines: Sequence[str], path: Path) -> str:
    """The separator that cuts every sampled row into the same number of columns, more than one."""
    body = lines[1:] or lines
    if path.suffix.lower() == ".tsv":
        return "\t"
    widths = {sep: {len(row) for row in _cells(body, sep)} for sep in SEPARATORS}
    fits = [sep for sep, found in widths.items() if len(found) == 1 and found != {1}]
    if len(fits) > 1 and "," in fits:
        # 1,5;2,5: commas that are decimal marks cut evenly too, but leave cells that are no numbers
        fits.remove(",")
    if fits:
        return fits[0]
    spaces = {len(line.split()) for line in body}
    if widths[","] == {1} and len(spaces) == 1 and spaces != {1}:
        return r"\s+"
    return ","


def _decimal(cells: Sequence[Sequence[str]]) -> Literal[".", ","]:
    """A comma if cells need it to be numbers, which quoted or differently separated cells may."""
    flat = [cell for row in cells for cell in row]
    commas = sum(bool(re.fullmatch(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", cell)) for cell in flat)
    points = sum("." in cell and _is_number(cell, ".") for cell in flat)
    return "," if commas and not points else "."


def _header(
    cells: Sequence[Sequence[str]], decimal: str, missing: frozenset[str] | set[str], choice: Choice, path: Path
) -> tuple[bool, list[str]]:
    """Whether the first line names the columns."""
    if choice != "auto":
        return choice == "yes", []
    first = cells[0]
    words = [cell for cell in first if not _is_number(cell, decimal) and cell not in missing]
    if words or (first[0] == "" and len(cells) > 1 and cells[1][0] != ""):
        return True, []
    if any(not _is_number(cell, decimal) for cell in first):
        return False, [f"the first line is data: {', '.join(first[:3])}; pass header=yes if it names the columns"]
    numbers = [float(cell.replace(decimal, ".")) for cell in first]
    counts = all(cell.isdecimal() for cell in first) and numbers == [numbers[0] + i for i in range(len(numbers))]
    named = counts and (numbers[0] == 0 or (numbers[0] in YEARS and len(numbers) > 1))
    if not named or len(cells) < 2:
        return False, []
    # numbers that count up are what libraries write as names of columns, and what a row of data seldom is
    if any(not cell.lstrip("+-").isdecimal() for row in cells[1:] for cell in row if cell not in missing):
        return True, [f"the first line, {', '.join(first[:3])} ..., names the columns; pass header=no if it is data"]
    raise DataError(
        f"the first line of {path}, {', '.join(first[:3])} ..., may name the columns or be data; say which: "
        "header=yes or header=no"
    )


def _index(frame: Any, choice: Choice, *, named: bool, unnamed: bool) -> tuple[bool, list[str]]:
    """Whether the first column only counts or names the rows."""
    if choice != "auto" or frame.shape[1] < 2:
        return choice == "yes", []
    column = frame.iloc[:, 0]
    name = str(frame.columns[0])
    text = column.dtype.kind not in "fiub"
    counting = (
        column.dtype.kind in "iu"
        and len(column) > 2
        and bool(np.array_equal(column - column.iloc[0], np.arange(len(column))))
    )
    if (unnamed or (named and name in ("", "Unnamed: 0"))) and (counting or text):
        return True, ["left out the first column, which has no name and counts or names the rows; index=no keeps it"]
    if counting and column.iloc[0] in (0, 1):
        return False, [f"column {name!r} counts the rows; pass index=yes to leave it out"]
    return False, []


def _lines_before_rows(path: Path, encoding: str, headers: int) -> int:
    """Lines to skip until `headers` lines that are not blank have passed."""
    if headers == 0:
        return 0
    with path.open(encoding=encoding, newline="") as file:
        text = io.StringIO("".join(line for _, line in zip(range(SAMPLE_LINES), file, strict=False)))
    reader = csv.reader(text)
    for row in reader:
        if any(cell.strip() for cell in row):
            break
    return reader.line_num


def _numbers(frame: Any, path: Path) -> np.ndarray:
    """Columns as one array of numbers; what is none is named with its remedy."""
    if frame.empty:
        raise DataError(f"{path} holds no row of numbers")
    columns = []
    for place, name in enumerate(frame.columns):  # by position: names may repeat
        column = frame.iloc[:, place]
        kind = column.dtype.kind
        if kind == "M":
            raise DataError(f"{path}: column {str(name)!r} holds dates; turn them into numbers or remove the column")
        if str(column.dtype) in ("boolean", "Float32", "Float64") or str(column.dtype).startswith(("Int", "UInt")):
            column = column.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
        elif kind not in "fiub":
            bad = next((v for v in column if not _is_number(str(v), ".")), column.iloc[0])
            if isinstance(bad, int) or (isinstance(bad, str) and _is_number(bad, ".")):
                bad = max(column, key=lambda v: len(str(v)))
            raise DataError(
                f"{path} must hold numbers only, but column {str(name)!r} holds {str(bad)!r}; remove that column"
            )
        else:
            column = column.to_numpy()
        if column.dtype.kind in "iu" and len(column) and max(abs(int(column.max())), abs(int(column.min()))) > EXACT:
            raise DataError(
                f"{path}: column {str(name)!r} holds whole numbers beyond 2**53, which floating point cannot tell "
                "apart; remove it if it is a key, or subtract a constant"
            )
        columns.append(column)
    common = np.result_type(*columns)
    return np.stack([column.astype(common, copy=False) for column in columns], axis=1)


def _same(column: np.ndarray) -> bool:
    return bool((column == column[0]).all())


def _is_number(text: str, decimal: str) -> bool:
    try:
        float(text.replace(decimal, ".") if decimal != "." else text)
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "+nan", "-nan")


READERS: dict[str, Callable[[Path, TableOptions], Table]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _text,
    ".tsv": _text,
    ".parquet": _parquet,
}
