"""Tables from .npy (memory-mapped), .npz, .csv, .tsv, .parquet and .xlsx files. Pickled objects are refused.

pandas parses; what a file does not say itself (separator, header, index column, decimal mark) is found out here, and
every guess is said in `Table.notes`. Where two readings are as likely, the file is refused and the option named.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import difflib
import itertools
import math
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from saddlegan.errors import DataError, MissingExtraError
from saddlegan.workbench.data.labels import from_column
from saddlegan.workbench.files import ARRAY_FAULTS

PREFERRED_KEYS = ("X", "images", "data", "x", "arr_0")
LABEL_KEYS = ("labels", "y", "target")  # what a .npz may call the labels of its rows
SAMPLE_LINES = 200  # of a text file, from which its layout is found out
MOST_NAMED = 5  # columns that one note lists
COMMENT = "#"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MISSING = frozenset({"", "-", "--", "?", ".", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "none"})
YEARS = range(1500, 2500)  # whole numbers that count up by one from here may as well be names of columns
NAMELESS = "Unnamed: "  # what pandas calls columns without a name, with their place
NUMBER = r"[-+]?\d[\d.]*(?:[eE][-+]?\d+)?[\d.]*"  # of a name that is none, with what pandas appends to a second one
MOST_DEFLATED = 1032  # bytes that one compressed byte can stand for
EXACT = 2**53  # whole numbers beyond are not exact as floating point numbers

Choice = Literal["auto", "yes", "no"]


LAYOUT = ("header", "index", "sep", "decimal", "na")  # what only a text file leaves open


class TableOptions(BaseModel):
    """How to read a text file where the reader should not find out by itself, and which columns are meant.

    Attributes:
        header: whether the first line names the columns.
        index: whether the first column only counts or names the rows, and is left out.
        sep: the separator; found out if None.
        decimal: the decimal mark; found out if None.
        na: further words that stand for a missing value.
        columns: names of the columns to keep, in this order; all if empty. Columns without names are counted from 0.
        drop: names of the columns to leave out.
        one_hot: turn each column of words into one column of 0 and 1 for each word.
        standardise: bring every column of numbers to mean 0 and standard deviation 1; samples come back in the
            table's own units.
        labels: name of the column that holds the rows' labels; it is left out of the rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: Choice = "auto"
    index: Choice = "auto"
    sep: str | None = None
    decimal: Literal[".", ","] | None = None
    na: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    one_hot: bool = False
    standardise: bool = False
    labels: str | None = None

    def of_layout(self) -> bool:
        """Whether anything is said that only a text file leaves open."""
        return self.model_copy(update={name: getattr(TableOptions(), name) for name in LAYOUT}) != self


class Words(BaseModel):
    """A column of words that became one column for each of them.

    Attributes:
        name: of the column.
        start: place of its first column among those of the rows.
        values: the words, in the order of their columns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    start: int
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
        array: (n, ...).
        columns: names of the columns, None where the file has none.
        notes: what was found out or left out, one sentence each, for the user to see.
        words: columns of words among them.
        units: (mean, standard deviation) of every column before it was standardised, else None.
        labels: of the rows (n,), None where no column was named.
    """

    array: np.ndarray
    columns: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    words: tuple[Words, ...] = ()
    units: tuple[tuple[float, float], ...] | None = None
    labels: np.ndarray | None = None


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
    if options.of_layout() and reader is not _text:
        raise DataError(f"{path} says itself how to read it; header, index, sep, decimal and na belong to text files")
    try:
        found = reader(path, options)
        return _standardised(found, path) if options.standardise else found
    except DataError:
        raise
    except MissingExtraError:
        raise
    except (*ARRAY_FAULTS, ImportError, AttributeError, IndexError) as error:  # pandas' readers raise all of these
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason or "pickled" in reason or "Object arrays" in reason or "Python objects" in reason:
            reason = "it holds Python objects, which are never loaded; save plain numbers"
        raise DataError(f"{path} cannot be read as {path.suffix.lower()[1:]}: {reason}") from error


def _npy(path: Path, options: TableOptions) -> Table:
    _check_head(path, b"\x93NUMPY")
    array = np.load(path, mmap_mode="r" if path.stat().st_size else None, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is not a .npy array")
    return _chosen(Table(array), options, path)


def _npz(path: Path, options: TableOptions) -> Table:
    _check_head(path, b"PK")
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
        own = label_key(archive)
        notes = of_archive(keys, chosen[0], own)
        _check_size(archive.zip, chosen[0], path)
        return _chosen(Table(archive[chosen[0]], notes=notes), options, path)


def _check_head(path: Path, wanted: bytes) -> None:
    """Refuse what is another kind of file: numpy takes any for a pickle."""
    with path.open("rb") as file:
        head = file.read(6)
    if head and not head.startswith((wanted, b"\x93NUMPY", b"PK", b"\x80")):
        raise DataError(
            f"{path} is no {path.suffix.lower()} file, whatever its name says: its first bytes are {head!r}"
        )


def label_key(archive: Any, *names: str) -> str | None:
    """Name of the array (n,) that holds an archive's labels: the first of `names`, else of `LABEL_KEYS`; or None."""
    for key in names or LABEL_KEYS:
        try:
            if key in archive and archive[key].ndim == 1:
                return key
        except ARRAY_FAULTS:  # an array of objects is never unpickled
            continue
    return None


def of_archive(keys: Sequence[str], rows: str, labels: str | None) -> tuple[str, ...]:
    """What is said of an archive that holds more than its rows.

    Args:
        keys: names of its arrays.
        rows: the one that holds the rows.
        labels: the one that holds their labels, or None.
    """
    others = [key for key in keys if key not in (rows, labels)]
    if labels is not None and labels != rows:
        left = f"; left out {', '.join(map(repr, others))}" if others else ""
        return (f"read the array {rows!r}; {labels!r} holds the rows' labels, and is no column{left}",)
    return (f"read the array {rows!r}, left out {', '.join(map(repr, others))}",) if others else ()


def _check_size(archive: zipfile.ZipFile, key: str, path: Path) -> None:
    """Refuse an array whose head promises more than its file holds, before numpy allocates it."""
    member = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    held = min(member.file_size, MOST_DEFLATED * member.compress_size)
    if math.prod(shape) * dtype.itemsize > held:
        raise DataError(f"{path} is damaged: {key!r} has shape {shape}, but there are {held:,} bytes; save it again")


def _chosen(table: Table, options: TableOptions, path: Path) -> Table:
    """The columns of an array that are meant, counted from 0."""
    if not (options.columns or options.drop):
        return table
    if table.array.ndim != 2:
        raise DataError(f"{path} holds arrays of shape {table.array.shape[1:]}; columns are chosen in tables only")
    places = _places([str(i) for i in range(table.array.shape[1])], options, path)
    return dataclasses.replace(table, array=table.array[:, places], columns=tuple(map(str, places)))


def _parquet(path: Path, options: TableOptions) -> Table:
    import pandas as pd

    frame = pd.read_parquet(path)
    notes = []
    if not isinstance(frame.index, pd.RangeIndex):
        names = ", ".join(repr(str(name)) for name in frame.index.names if name is not None)
        notes.append(f"left out the index {names or 'without a name'}; reset_index() before saving makes it a column")
    return _from_frame(frame, options, path, notes=notes)


def _excel(path: Path, options: TableOptions) -> Table:
    """The first sheet of a workbook; its first row names the columns unless it holds numbers that are no names."""
    import pandas as pd

    try:
        book = pd.ExcelFile(path, engine="openpyxl")
    except ImportError as error:
        raise MissingExtraError("openpyxl", "excel") from error
    with book:
        names = book.sheet_names
        notes = [f"read the sheet {names[0]!r}, left out {', '.join(map(repr, names[1:]))}"] if names[1:] else []
        frame = pd.read_excel(book)
        numbers = [name for name in frame.columns if not str(name).startswith(NAMELESS)]
        named = not numbers or not all(re.fullmatch(NUMBER, str(name)) for name in numbers)
        if not named:
            shown = ", ".join(map(str, numbers[:3]))
            named = _count_up(list(map(str, numbers)))
            what = "names the columns" if named else "was read as data; names in words would be read as such"
            notes.append(f"the first row, {shown} ..., {what}")
            frame = frame if named else pd.read_excel(book, header=None)
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if named and frame.shape[1] > 1 and frame.columns[0].startswith(NAMELESS) and _names_rows(frame.iloc[:, 0]):
        notes.append("left out the first column, which has no name and counts or names the rows; name it to keep it")
        frame = frame.iloc[:, 1:]
    return _from_frame(frame, options, path, named=named, notes=notes)


def _text(path: Path, options: TableOptions) -> Table:
    """A text file: find out its layout on the first lines, let pandas read it, say what was found out."""
    import pandas as pd

    notes: list[str] = []
    encoding = _encoding(path)
    if encoding not in ("utf-8", "utf-8-sig"):
        notes.append(f"read as {encoding}")
    lines, above = _first_lines(path, encoding)
    told = re.fullmatch(r"sep=(.)\s*", lines[0]) if lines else None  # Excel's way to say it
    if told is not None:
        lines, above = lines[1:], above + 1
    if not lines:
        raise DataError(f"{path} holds no row of numbers")
    sep = options.sep or (None if told is None else told[1]) or _separator(lines, path, options.decimal)
    if sep != ",":
        notes.append(f"columns are separated by {SEPARATORS.get(sep, 'spaces')}")
    cells = _cells(lines, sep)
    trailing = _ends_with_separator(cells, sep)
    if trailing:
        cells = [row[:-1] if row[-1] == "" else row for row in cells]
        notes.append("left out the last column, which has no name and no value: the rows end with a separator")
    decimal = options.decimal or _decimal(cells[1:] or cells, path)
    if decimal == ",":
        notes.append("the decimal mark is a comma")
    missing = MISSING | set(options.na)
    has_header, said = _header(cells, decimal, missing, options.header, path)
    notes += said
    commented = lines[0].startswith(COMMENT)
    if commented and has_header:
        notes.append("the names stand in a comment")
    first, width = cells[0], max(map(len, cells[1:]), default=len(cells[0]))
    notes += _doubts(cells[1:] if has_header else cells, sep, options, named=has_header)
    unnamed = has_header and width == len(first) + 1  # R's write.table leaves the name of the row names out
    if has_header and len(first) != width and not unnamed:
        raise DataError(
            f"{path} names {len(first)} columns in its first line, but its rows have {width}; remove what stands above "
            "the names, if the first line is data pass header=no, if commas are decimal marks pass decimal=','"
        )
    skipped = _lines_before_rows(path, encoding, above, 1 if has_header and not commented else 0)
    try:
        with path.open(encoding=encoding, newline="") as file:
            # by hand: pandas would see quotes in what it skips, and skip on to the next one
            for _ in range(skipped):
                file.readline()
            frame = pd.read_csv(
                file,
                sep=sep if sep in SEPARATORS or len(sep) > 1 else re.escape(sep),
                header=None,
                decimal=decimal,
                skipinitialspace=True,
                na_values=sorted(missing - {""}),
                index_col=False,
                engine="c" if sep in SEPARATORS or sep == r"\s+" else "python",
            )
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} holds no row of numbers") from error
    except pd.errors.ParserError as error:
        reason = re.sub(r"(?<=line )\d+", lambda line: str(int(line[0]) + skipped), " ".join(str(error).split()))
        raise DataError(f"{path} cannot be read as {path.suffix.lower()[1:]}: {reason}") from error
    if trailing:
        if bool(frame.iloc[:, -1].notna().any()):
            row = int(np.argmax(frame.iloc[:, -1].notna().to_numpy()))
            raise DataError(
                f"{path} has a value in row {row} (counted from 0) of a last column that has no name; name it"
            )
        frame = frame.iloc[:, :-1]
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
    return _from_frame(frame, options, path, named=has_header, notes=notes)


def _from_frame(
    frame: Any, options: TableOptions, path: Path, *, named: bool = True, notes: Sequence[str] = ()
) -> Table:
    """The columns that are meant as one array, with what a reader should know about them."""
    if frame.empty:
        raise DataError(f"{path} holds no row of numbers")
    said = list(notes)
    labels = None
    if options.labels is not None:
        place = _place_of(options.labels, [str(name) for name in frame.columns], "labels", path)
        labels = from_column(frame.iloc[:, place].tolist(), options.labels, path)
        frame = frame.iloc[:, [index for index in range(frame.shape[1]) if index != place]]
        if frame.shape[1] == 0:
            raise DataError(f"{path} holds nothing but the labels")
    frame = frame.iloc[:, _places([str(name) for name in frame.columns], options, path)]
    frame, words = _one_hot(frame, path) if options.one_hot else (frame, ())
    array = _numbers(frame, path)
    names = tuple(map(str, frame.columns))
    still = [name for name, column in zip(names, array.T, strict=True) if len(array) > 1 and _same(column)]
    if still:
        if len(still) > MOST_NAMED:
            said.append(
                f"the same value in every row of {len(still)} columns, such as {still[0]}; `drop` leaves them out"
            )
        else:
            said.append(f"the same value in every row of: {', '.join(still)}; drop={','.join(still)} leaves it out")
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice and named:
        said.append(f"several columns have the name {twice[0]!r}")
    counting = [name for name, column in zip(names, array.T, strict=True) if _counts(column)]
    if counting and not any("counts" in note for note in said):
        said.append(f"column {counting[0]!r} counts the rows; drop={counting[0]} leaves it out")
    return Table(array, names if named else None, tuple(said), words, labels=labels)


def _places(names: Sequence[str], options: TableOptions, path: Path) -> list[int]:
    """Places of the columns that are meant.

    Raises:
        DataError: a name that is not there, or nothing left.
    """
    for option, wanted in (("columns", options.columns), ("drop", options.drop)):
        for name in wanted:
            _place_of(name, names, option, path)
    kept = [names.index(name) for name in options.columns] or range(len(names))
    places = [place for place in kept if names[place] not in options.drop]
    if not places:
        raise DataError(f"`drop` leaves no column of {path}")
    return places


def _place_of(name: str, names: Sequence[str], option: str, path: Path) -> int:
    """Place of a column.

    Raises:
        DataError: no such column.
    """
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(names[:12])}"
        raise DataError(f"`{option}` names {name!r}, which {path} does not have{hint}")
    return names.index(name)


def _one_hot(frame: Any, path: Path) -> tuple[Any, tuple[Words, ...]]:
    """Columns of words as columns of 0 and 1, side by side where the column was."""
    import pandas as pd

    parts, words, start = [], [], 0
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        if str(column.dtype) == "category" or column.dtype.kind in "OUST":
            text = column.astype("string")
            if bool(text.isna().any()):
                row = int(np.argmax(text.isna().to_numpy()))
                raise DataError(
                    f"{path}: column {str(name)!r} has no word in row {row} (counted from 0); clean it first"
                )
            values = tuple(sorted(text.unique()))
            parts.append(pd.DataFrame({f"{name}={value}": (text == value).astype(float) for value in values}))
            words.append(Words(name=str(name), start=start, values=values))
        else:
            parts.append(column.to_frame())
        start += parts[-1].shape[1]
    return pd.concat([part.reset_index(drop=True) for part in parts], axis=1), tuple(words)


def _standardised(table: Table, path: Path) -> Table:
    """Every column of numbers at mean 0 and standard deviation 1; columns of words and constants keep their scale."""
    if table.array.ndim != 2 or table.array.dtype.kind not in "fiub":
        raise DataError(f"{path} holds arrays of shape {table.array.shape[1:]}; `standardise` is for tables only")
    X = np.asarray(table.array, dtype=np.float64)
    mean, sd = X.mean(0), X.std(0)
    for column in table.words:
        mean[column.start : column.start + len(column.values)] = 0.0
        sd[column.start : column.start + len(column.values)] = 1.0
    sd[sd <= 1e-12 * np.abs(mean)] = 1.0  # a constant: rounding is no spread
    units = tuple(zip(mean.tolist(), sd.tolist(), strict=True))
    notes = (*table.notes, "every column was brought to mean 0 and standard deviation 1")
    return dataclasses.replace(table, array=(X - mean) / sd, units=units, notes=notes)


def _counts(column: np.ndarray) -> bool:
    """Whether a column counts the rows from 0 or 1."""
    return len(column) > 2 and column[0] in (0, 1) and bool(np.array_equal(column, column[0] + np.arange(len(column))))


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
    lines = [lines[0].lstrip(COMMENT), *lines[1:]]
    if sep == r"\s+":
        return [line.split() for line in lines]
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=sep, skipinitialspace=True)]


def _ends_with_separator(cells: Sequence[Sequence[str]], sep: str) -> bool:
    """Whether every row ends with a separator, as some programs write, and the names name nothing behind it."""
    first, rows = cells[0], cells[1:]
    if sep == r"\s+" or not rows or any(len(row) < 2 or row[-1] != "" for row in rows):
        return False
    width = len(rows[0])
    return all(len(row) == width for row in rows) and (
        (len(first) == width and first[-1] == "") or len(first) == width - 1
    )


def _separator(lines: Sequence[str], path: Path, decimal: str | None) -> str:
    """The separator that cuts every sampled row into the same number of columns, more than one."""
    body = lines[1:] or lines
    if path.suffix.lower() == ".tsv":
        return "\t"
    widths = {sep: {len(row) for row in _cells(body, sep)} for sep in SEPARATORS if sep != decimal}
    fits = [sep for sep, found in widths.items() if len(found) == 1 and found != {1}]
    if len(fits) > 1 and "," in fits:
        # 1,5;2,5: commas that are decimal marks cut evenly too, but leave cells that are no numbers
        fits.remove(",")
    if fits:
        return fits[0]
    spaces = {len(line.split()) for line in body}
    if widths.get(",", {1}) == {1} and len(spaces) == 1 and spaces != {1}:
        return r"\s+"
    return ";" if decimal == "," else ","


def _decimal(cells: Sequence[Sequence[str]], path: Path) -> Literal[".", ","]:
    """A comma if cells need it to be numbers, which quoted or differently separated cells may.

    Raises:
        DataError: every comma may as well part thousands.
    """
    flat = [cell for row in cells for cell in row]
    commas = [cell for cell in flat if re.fullmatch(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", cell)]
    if not commas or any("." in cell and _is_number(cell, ".") for cell in flat):
        return "."
    if all(re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", cell) for cell in commas):
        raise DataError(
            f"commas in {path}, as in {commas[0]}, may be decimal marks or part thousands; pass decimal=',' or remove "
            "them"
        )
    return ","


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
    if not _count_up(first) or len(cells) < 2:
        alone = _rises(first, decimal) and len(cells) > 2 and not any(_rises(row, decimal) for row in cells[1:])
        said = (
            f"the first line, {', '.join(first[:3])} ..., rises and no other does; pass header=yes if it names columns"
        )
        return False, [said] if alone else []
    # numbers that count up are what libraries write as names of columns, and what a row of data seldom is
    if any(not cell.lstrip("+-").isdecimal() for row in cells[1:] for cell in row if cell not in missing):
        return True, [f"the first line, {', '.join(first[:3])} ..., names the columns; pass header=no if it is data"]
    raise DataError(
        f"the first line of {path}, {', '.join(first[:3])} ..., may name the columns or be data; say which: "
        "header=yes or header=no"
    )


def _count_up(names: Sequence[str]) -> bool:
    """Whether names are whole numbers that count up from 0 or from a year."""
    if not all(name.isdecimal() for name in names):
        return False
    numbers = [int(name) for name in names]
    return numbers == [numbers[0] + i for i in range(len(numbers))] and (
        numbers[0] == 0 or (numbers[0] in YEARS and len(numbers) > 1)
    )


def _rises(cells: Sequence[str], decimal: str) -> bool:
    """Whether a line is of numbers that rise, three or more, as wavelengths and times above columns do."""
    if len(cells) < 3 or not all(_is_number(cell, decimal) for cell in cells):
        return False
    numbers = [float(cell.replace(decimal, ".")) for cell in cells]
    return all(left < right for left, right in itertools.pairwise(numbers))


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
    nameless = named and not unnamed and name in ("", f"{NAMELESS}0")
    if (nameless and _names_rows(column)) or (unnamed and (counting or text)):
        return True, ["left out the first column, which has no name and counts or names the rows; index=no keeps it"]
    if counting and column.iloc[0] in (0, 1):
        return False, [f"column {name!r} counts the rows; pass index=yes to leave it out"]
    if nameless:
        return False, ["the first column has no name; pass index=yes to leave it out"]
    return False, []


def _names_rows(column: Any) -> bool:
    """Whether a column without a name holds words, or whole numbers each its own, as chosen or shuffled rows keep."""
    kind = column.dtype.kind
    return kind not in "fiub" or (kind in "iu" and bool(column.is_unique))


def _first_lines(path: Path, encoding: str) -> tuple[list[str], int]:
    """The first lines that are not blank, and how many lines stand above them that are comments.

    Where the last comment has as many words as the rows have cells, as `numpy.savetxt` writes the names, it is the
    first of the lines, and still counted among the comments.
    """
    with path.open(encoding=encoding, newline="") as file:
        lines = list(itertools.islice(file, SAMPLE_LINES))
    above = sum(1 for _ in itertools.takewhile(lambda line: not line.strip() or line.startswith(COMMENT), lines))
    if not any(line.strip() for line in lines[:above]):
        above = 0
    kept = [line for line in lines[above:] if line.strip()]
    named = next((line for line in reversed(lines[:above]) if line.strip()), "")
    if kept and named:
        sep = _separator(kept, path, None)
        if len(_cells([named.lstrip(COMMENT)], sep)[0]) == len(_cells(kept[:1], sep)[0]):
            return [named, *kept], above
    return kept, above


def _lines_before_rows(path: Path, encoding: str, above: int, headers: int) -> int:
    """Lines to skip: those above, and on until `headers` rows that are not blank have passed."""
    if headers == 0:
        return above
    with path.open(encoding=encoding, newline="") as file:
        lines = list(itertools.islice(file, SAMPLE_LINES))[above:]
    reader = csv.reader(lines)
    for row in reader:
        if any(cell.strip() for cell in row):
            break
    return above + reader.line_num


def _doubts(cells: Sequence[Sequence[str]], sep: str, options: TableOptions, *, named: bool) -> list[str]:
    """What rows may also mean."""
    said = []
    if any(re.fullmatch(r"[+-]?0\d+", cell) for row in cells for cell in row):
        said.append("numbers begin with zeros, as codes do; they were read as numbers")
    pairs = (
        sep == "," and options.sep is None and not named and all(len(row) == 2 and row[1].isdecimal() for row in cells)
    )
    if pairs and all(row[0].lstrip("+-").isdecimal() for row in cells):
        said.append("commas separate two columns of whole numbers; if they are decimal marks pass decimal=','")
    return said


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
        whole = kind in "iu" or str(column.dtype).startswith(("Int", "UInt"))
        if whole and column.notna().any() and max(abs(int(column.max())), abs(int(column.min()))) > EXACT:
            raise DataError(
                f"{path}: column {str(name)!r} holds whole numbers beyond 2**53, which floating point cannot tell "
                "apart; remove it if it is a key, or subtract a constant"
            )
        if str(column.dtype) in ("boolean", "Float32", "Float64") or str(column.dtype).startswith(("Int", "UInt")):
            column = column.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
        elif kind not in "fiub":
            bad = next((v for v in column if not _is_number(str(v), ".")), column.iloc[0])
            if isinstance(bad, int) or (isinstance(bad, str) and _is_number(bad, ".")):
                bad = max(column, key=lambda v: len(str(v)))
            raise DataError(
                f"{path} must hold numbers only, but column {str(name)!r} holds {str(bad)!r}; write plain "
                f"numbers, leave it out with drop={name}, or `one_hot` makes a column of each of its words"
            )
        else:
            column = column.to_numpy()
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
    ".xlsx": _excel,
}
