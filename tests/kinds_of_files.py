"""Kinds of data files that people have: how each is made, what must be read of it, or that it is refused.

Run as a script it writes `docs/data-files.md`; `test_workbench_kinds.py` holds that page, and the reader, to this list.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from saddlegan.errors import DataError
from saddlegan.workbench import cli
from saddlegan.workbench.data import sources
from saddlegan.workbench.data.tables import TableOptions
from saddlegan.workbench.terminal import messages

TYPED = cli.parse(["data", "ring"]).flags()
PAGE = Path(__file__).parents[1] / "docs" / "data-files.md"
X = np.array([[0.5, 1.25, -2.0], [3.5, 0.0, 1e-3], [7.25, 2.5, 4.0], [1.5, -1.0, 0.25]])
WHOLE = np.array([[5, 1, -2], [3, 0, 7], [7, 2, 4], [1, -1, 9]])
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 6), np.uint8)
HEAD = """# Which data files are read

`fit`, `train` and `measure --against` take the name of a built-in data set, a folder of pictures, or a file. What a
file does not say itself (separator, header, decimal mark) is found out, and every guess is said; where two readings are
as likely, or a number would be lost, the file is refused and the message names the way out. This table is made by
reading one file of each kind, and the tests hold every line of it.

| File | What is read, and what is said | |
|---|---|---|
"""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of files.

    Attributes:
        make: writes one into a folder; returns what to load.
        wanted: the rows that must be read, (n, d); None if the file must be refused.
        columns: the names that must be read, None if the rows have none.
        options: what is typed with it.
    """

    make: Callable[[Path], Path]
    wanted: np.ndarray | None = None
    columns: tuple[str, ...] | None = None
    options: TableOptions = dataclasses.field(default_factory=TableOptions)


ABC = ("a", "b", "c")


def text(content: str | bytes, name: str = "t.csv") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def table(columns: list[Any] | None = None, name: str = "t.csv", **how: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pd.DataFrame(X, columns=columns or list("abc")).to_csv(folder / name, **{"index": False, **how})
        return folder / name

    return make


def rows(sep: str = ",", *, end: str = "\n", tail: str = "", decimal: str = ".", quote: str = "") -> str:
    cells = ([f"{quote}{value}{quote}".replace(".", decimal) for value in row] for row in X.tolist())
    return "".join(sep.join(row) + tail + end for row in cells)


def array(value: np.ndarray, name: str = "x.npy") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.save(folder / name, value)
        return folder / name

    return make


def archive(**arrays: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.savez(folder / "x.npz", **arrays)
        return folder / "x.npz"

    return make


def frame(ending: str, **columns: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"t.{ending}"
        found = pd.DataFrame(columns or dict(zip(ABC, X.T, strict=True)))
        found.to_parquet(path) if ending == "parquet" else found.to_excel(path, index=False)
        return path

    return make


def sheet(columns: list[Any] | None = None, **how: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pd.DataFrame(X, columns=columns or list("abc")).to_excel(folder / "t.xlsx", **{"index": False, **how})
        return folder / "t.xlsx"

    return make


def indexed(folder: Path) -> Path:
    pd.DataFrame(X, columns=list("abc")).set_index("c").to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def deep_colours(deepen: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], Path]:
    """Pictures of colours of 16 bits, which Pillow reads but does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    def make(folder: Path) -> Path:
        for number, picture in enumerate(PIXELS):
            colours = np.repeat(deepen(picture.astype(np.uint16))[..., None], 3, axis=2).astype(">u2")
            h, w, _ = colours.shape
            content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in colours))
            head = struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, 0)
            parts = chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
            (folder / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
        return folder

    return make


def pictures(
    mode: str = "L", ending: str = "png", *, pixels: np.ndarray = PIXELS, **how: Any
) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for number, picture in enumerate(pixels):
            image = Image.fromarray(picture)
            (image if image.mode == mode else image.convert(mode)).save(folder / f"{number}.{ending}", **how)
        return folder

    return make


def turned(folder: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    for number, picture in enumerate(PIXELS):
        Image.fromarray(np.rot90(picture)).save(folder / f"{number}.png", exif=exif)
    return folder


def beside(first: Callable[[Path], Path], spoil: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        found = first(folder)
        spoil(folder)
        return found

    return make


def grey(pixels: np.ndarray = PIXELS) -> np.ndarray:
    return pixels.reshape(len(pixels), -1)


def coloured(pixels: np.ndarray = PIXELS) -> np.ndarray:
    return np.repeat(pixels[..., None], 3, axis=3).reshape(len(pixels), -1)


DEEP = (PIXELS.astype(np.uint16) << 4) + 3  # 12 bits in 16
DEEP[0, 0, 0] = 4095
FLAGS = np.array([[1.0, 0.5], [0.0, 1.5], [1.0, 2.5]])

KINDS: dict[str, Kind] = {
    # tables of text
    "CSV with names": Kind(table(), X, ABC),
    "CSV without names": Kind(table(header=False), X),
    "numbers as names (`DataFrame(X).to_csv`)": Kind(table([0, 1, 2]), X, ("0", "1", "2")),
    "years as names": Kind(table([1999, 2000, 2001]), X, ("1999", "2000", "2001")),
    "an index without a name (`to_csv`)": Kind(table(index=True), X, ABC),
    "row names in words (R's `write.csv`)": Kind(
        text('"","a","b","c"\n' + "".join(f'"r{i}",{line}\n' for i, line in enumerate(rows().splitlines()))), X, ABC
    ),
    "row names without a name for them (R's `write.table`)": Kind(
        text("a b c\n" + "".join(f"{i} {line}\n" for i, line in enumerate(rows(" ").splitlines(), 1))), X, ABC
    ),
    "an index that was shuffled (`to_csv`)": Kind(
        text(",a,b,c\n" + "".join(f"{7 * i % 11},{line}\n" for i, line in enumerate(rows().splitlines()))), X, ABC
    ),
    "an index of times without a name": Kind(
        text(",a\n0.0,1.5\n0.1,2.5\n0.2,0.5\n"), np.array([[0.0, 1.5], [0.1, 2.5], [0.2, 0.5]]), ("", "a")
    ),
    "wavelengths above the columns": Kind(
        text("400.5,401.0,401.5\n0.3,0.2,0.4\n0.6,0.5,0.1\n"),
        np.array([[400.5, 401.0, 401.5], [0.3, 0.2, 0.4], [0.6, 0.5, 0.1]]),
    ),
    "the same with `--header yes`, as before": Kind(
        text("400.5,401.0,401.5\n0.3,0.2,0.4\n0.6,0.5,0.1\n"),
        np.array([[0.3, 0.2, 0.4], [0.6, 0.5, 0.1]]),
        ("400.5", "401.0", "401.5"),
        TableOptions(header="yes"),
    ),
    "names of two lines": Kind(text('"a\n(cm)",b,c\n' + rows()), X, ("a\n(cm)", "b", "c")),
    "a comment with a quotation mark": Kind(text('# of 5" disks\na,b,c\n' + rows()), X, ABC),
    "counting names over whole numbers": Kind(text("0,1,2\n3,4,5\n6,7,9\n")),
    "the same with `--header yes`": Kind(
        text("0,1,2\n3,4,5\n6,7,9\n"), np.array([[3, 4, 5], [6, 7, 9]]), ("0", "1", "2"), TableOptions(header="yes")
    ),
    "semicolons": Kind(table(sep=";"), X, ABC),
    "tabs in a .csv": Kind(table(sep="\t"), X, ABC),
    "tabs in a .tsv": Kind(table(sep="\t", name="t.tsv"), X, ABC),
    "bars": Kind(table(sep="|"), X, ABC),
    "single spaces": Kind(table(sep=" "), X, ABC),
    "columns aligned with spaces": Kind(
        text(
            "  ".join(f"{name:>8}" for name in ABC)
            + "\n"
            + "".join("  ".join(f"{value:>8}" for value in row) + "\n" for row in X.tolist())
        ),
        X,
        ABC,
    ),
    "spaces after commas": Kind(text("a, b, c\n" + rows(", ")), X, ABC),
    "quoted numbers": Kind(text("a,b,c\n" + rows(quote='"')), X, ABC),
    "decimal commas, semicolons": Kind(table(sep=";", decimal=","), X, ABC),
    "decimal commas, tabs": Kind(table(sep="\t", decimal=","), X, ABC),
    "decimal commas in quotes": Kind(text("a,b,c\n" + rows(decimal=",", quote='"')), X, ABC),
    "one column of decimal commas": Kind(text("x\n1,5\n2,5\n")),
    "the same with `--decimal ,`": Kind(
        text("x\n1,5\n2,5\n"), np.array([[1.5], [2.5]]), ("x",), TableOptions(decimal=",")
    ),
    "thousands with commas": Kind(text('a,b\n"1,234.5",1\n"2,345.5",2\n')),
    "thousands with commas and no decimals": Kind(text('a,b\n"1,234",1.5\n"2,345",2.5\n')),
    "thousands with commas, semicolons": Kind(text("a;b\n1,234;5\n2,345;6\n")),
    "thousands with points": Kind(text("a;b\n1.234,5;1,5\n2.345,5;2,5\n")),
    "per cent": Kind(text("a,b\n5%,1\n7%,2\n")),
    "Fortran's exponents (1.0D-3)": Kind(text("a,b\n1.0D-3,1\n2.0D-3,2\n")),
    "a typeset minus": Kind(text("a,b\n\u22121.5,1\n2.5,2\n")),
    "codes with leading zeros": Kind(
        text("a,code\n1.5,007\n2.5,012\n3.5,100\n"), np.array([[1.5, 7], [2.5, 12], [3.5, 100]]), ("a", "code")
    ),
    "two columns of whole numbers without names": Kind(text("1,5\n2,5\n4,7\n"), np.array([[1, 5], [2, 5], [4, 7]])),
    "the same with `--decimal ,` again": Kind(
        text("1,5\n2,5\n4,7\n"), np.array([[1.5], [2.5], [4.7]]), None, TableOptions(decimal=",")
    ),
    "Windows line ends": Kind(text("a,b,c\n" + rows(end="\n").replace("\n", "\r\n")), X, ABC),
    "line ends of old Macs": Kind(text(("a,b,c\n" + rows()).replace("\n", "\r")), X, ABC),
    "no line end at the end": Kind(text("a,b,c\n" + rows().rstrip()), X, ABC),
    "blank lines": Kind(text("\na,b,c\n\n" + rows().replace("\n", "\n\n")), X, ABC),
    "a separator at the end of each line": Kind(text("a,b,c,\n" + rows(tail=",")), X, ABC),
    "comments above the names (#)": Kind(text("# made on a Monday, after tea\n\n# twice\na,b,c\n" + rows()), X, ABC),
    "`numpy.savetxt` with `header=`": Kind(text("# a b c\n" + rows(" ")), X, ABC),
    "a comment above rows without names": Kind(text("# made on a Monday\n" + rows()), X),
    "a line of units under the names": Kind(text("a,b,c\ncm,kg,s\n" + rows())),
    "a title above the names": Kind(text("My table\na,b,c\n" + rows())),
    "Excel's `sep=;` above the names": Kind(text("sep=;\na;b;c\n" + rows(";")), X, ABC),
    "a row with a cell too few": Kind(text("a,b,c\n1.5,2.5,3\n1.5,2.5\n4,5,6.5\n")),
    "a row with a cell too many": Kind(text("a,b,c\n1.5,2.5,3\n1.5,2.5,7,8\n4,5,6.5\n")),
    "two columns of one name": Kind(text("a,a,c\n" + rows()), X, ("a", "a", "c")),
    "an empty cell": Kind(text("a,b\n1.5,2\n,3\n")),
    "NA for missing": Kind(text("a,b\n1.5,2\nNA,3\n")),
    "a dash for missing in the first row": Kind(text("-,1.5\n2,2.5\n")),
    "infinity": Kind(text("a,b\n1.5,2\ninf,3\n")),
    "true and false": Kind(text("yes,x\nTrue,0.5\nFalse,1.5\nTrue,2.5\n"), FLAGS, ("yes", "x")),
    "dates": Kind(text("a,day\n1,2020-01-01\n2,2020-01-02\n")),
    "words": Kind(text("a,colour\n1.5,red\n2.5,blue\n")),
    "words with `--one-hot`": Kind(
        text("a,colour\n1.5,red\n2.5,blue\n"),
        np.array([[1.5, 0, 1], [2.5, 1, 0]]),
        ("a", "colour=blue", "colour=red"),
        TableOptions(one_hot=True),
    ),
    "keys beyond 2^53": Kind(text("a,key\n1,9007199254740993\n2,9007199254740995\n")),
    "a column that counts the rows": Kind(
        text("id,x\n0,1.5\n1,3.5\n2,2.5\n"), np.array([[0, 1.5], [1, 3.5], [2, 2.5]]), ("id", "x")
    ),
    "Latin-1": Kind(table(["é", "b", "c"], encoding="latin-1"), X, ("é", "b", "c")),
    "UTF-16": Kind(table(encoding="utf-16"), X, ABC),
    "UTF-8 with a byte order mark": Kind(table(encoding="utf-8-sig"), X, ABC),
    "an empty file": Kind(text("")),
    "names alone": Kind(text("a,b,c\n")),
    "one row": Kind(text("a,b,c\n1.5,2.5,3.5\n")),
    "a table named .txt": Kind(table(name="t.txt")),
    "a packed table (.csv.gz)": Kind(text(gzip.compress(rows().encode()), "t.csv.gz")),
    "another kind of file named .csv": Kind(text(b"PK\x03\x04" + bytes(40))),
    # tables of other kinds
    "Parquet": Kind(frame("parquet"), X, ABC),
    "Parquet with nullable columns": Kind(
        frame("parquet", yes=pd.array([True, False, True], dtype="boolean"), x=pd.array([0.5, 1.5, 2.5])),
        FLAGS,
        ("yes", "x"),
    ),
    "Parquet with an index that is no count": Kind(indexed, X[:, :2], ABC[:2]),
    "Parquet with nullable keys beyond 2^53": Kind(frame("parquet", key=pd.array([2**53 + 1, 2**53 + 3], "Int64"))),
    "an Excel sheet": Kind(frame("xlsx"), X, ABC),
    "an Excel sheet with an index": Kind(sheet(index=True), X, ABC),
    "an Excel sheet without names": Kind(sheet(header=False), X),
    "an Excel sheet whose names are years": Kind(sheet([1999, 2000, 2001]), X, ("1999", "2000", "2001")),
    "Parquet with a gap": Kind(frame("parquet", n=pd.array([1, None, 3], dtype="Int64"), x=[0.5, 1.5, 2.5])),
    "Parquet with dates": Kind(frame("parquet", day=pd.date_range("2020-01-01", periods=3), x=[0.5, 1.5, 2.5])),
    "Parquet with complex numbers or lists": Kind(frame("parquet", x=[[1.0, 2.0], [3.0, 4.0]])),
    # arrays
    "`.npy` (n, d)": Kind(array(X), X),
    "`.npy` in the other byte order": Kind(array(X.astype(">f8")), X),
    "`.npy` in Fortran's order": Kind(array(np.asfortranarray(X)), X),
    "`.npy` of half precision": Kind(array(X.astype(np.float16)), X.astype(np.float16)),
    "`.npy` of whole numbers": Kind(array(WHOLE), WHOLE),
    "`.npy` of booleans": Kind(array(WHOLE > 2), (WHOLE > 2).astype(np.uint8)),
    "`.npy` of keys beyond 2^53": Kind(array(WHOLE + 2**53)),
    "`.npy` of complex numbers": Kind(array(X + 1j)),
    "`.npy` of objects": Kind(array(np.array([{"a": 1}, None], dtype=object))),
    "`.npy` of records": Kind(array(np.zeros(3, dtype=[("a", "f8"), ("b", "i4")]))),
    "`.npy` of dates": Kind(array(np.array([["2020-01-01"], ["2020-01-02"]], dtype="datetime64[D]"))),
    "`.npy` (n,)": Kind(array(X[:, 0])),
    "`.npy` with NaN": Kind(array(np.where(X == 0, np.nan, X))),
    "`.npy` of pictures (n, h, w)": Kind(array(PIXELS), grey()),
    "`.npy` of pictures, channels last": Kind(array(np.repeat(PIXELS[..., None], 3, 3)), coloured()),
    "`.npy` of pictures, channels first": Kind(array(np.repeat(PIXELS[:, None], 3, 1))),
    "`.npy` of no rows": Kind(array(X[:0])),
    "a `.npy` that is cut off": Kind(lambda folder: text(array(X)(folder).read_bytes()[:-8], "x.npy")(folder)),
    "a table named .npy": Kind(text("a,b\n1,2\n3,4\n", "x.npy")),
    "`.npz` of one array": Kind(archive(anything=X), X),
    "`.npz` of data and labels": Kind(archive(X=X, y=np.arange(4)), X),
    "`.npz` of `X` and `images`": Kind(archive(X=X, images=PIXELS)),
    "`.npz` of two arrays with other names": Kind(archive(left=X, right=X)),
    # folders of pictures
    "grey pictures": Kind(pictures(), grey()),
    "grey pictures with transparency": Kind(pictures("LA"), grey()),
    "colours with transparency": Kind(pictures("RGBA"), coloured()),
    "colours of a palette": Kind(pictures("P"), coloured()),
    "grey and coloured pictures together": Kind(
        beside(pictures(pixels=PIXELS[:2]), lambda f: Image.fromarray(PIXELS[2]).convert("RGB").save(f / "9.png")),
        coloured(),
    ),
    "a camera's turned pictures (EXIF)": Kind(turned, grey()),
    "12 bits in 16": Kind(pictures("I;16", pixels=DEEP), grey((DEEP >> 4).astype(np.uint8))),
    "colours of 16 bits": Kind(
        deep_colours(lambda byte: byte << 8), np.repeat(grey()[:, :, None], 3, 2).reshape(3, -1)
    ),
    "colours of 12 bits in 16": Kind(deep_colours(lambda byte: byte << 4)),
    "pixels below 0": Kind(pictures("I", "tif", pixels=PIXELS.astype(np.int32) - 9)),
    "black and white": Kind(pictures(pixels=(PIXELS > 127)), grey(np.where(PIXELS > 127, 255, 0).astype(np.uint8))),
    "floating point TIFF": Kind(pictures("F", "tif", pixels=PIXELS.astype(np.float32))),
    "pictures named .jfif, or in subfolders": Kind(
        beside(
            pictures(pixels=PIXELS[:2]),
            lambda f: ((f / "sub").mkdir(), Image.fromarray(PIXELS[2]).save(f / "sub/9.bmp")),
        ),
        grey(),
    ),
    "pictures of several sizes": Kind(beside(pictures(), lambda f: Image.fromarray(PIXELS[0, :2]).save(f / "9.png"))),
    "HEIC beside others": Kind(beside(pictures(), text(b"ftypheic", "9.heic")), grey()),
    "a picture that is cut off": Kind(
        beside(pictures(), lambda f: (f / "0.png").write_bytes((f / "0.png").read_bytes()[:50]))
    ),
    "PostScript named .png": Kind(beside(pictures(), text(b"%!PS-Adobe-3.0 EPSF-3.0\n", "9.png"))),
    "a pipe named .png": Kind(beside(pictures(), lambda f: os.mkfifo(f / "9.png"))),
    "a folder without pictures": Kind(beside(lambda folder: folder, text("a,b\n1,2\n"))),
}


def outcome(name: str, folder: Path) -> tuple[sources.Data | None, str]:
    """What is read of a kind, if anything, and what is said, in the words of the command line."""
    kind = KINDS[name]
    path = kind.make(folder)
    try:
        found = sources.load(path, table=kind.options)
    except DataError as error:
        said = " ".join(str(error).split()).replace(f"{folder}/", "").replace(str(folder), "FOLDER")
        return None, messages.in_flags(said, TYPED)
    n, d = found.X.shape
    what = f"{n} x {d}" if found.image_shape is None else f"{n} pictures {' x '.join(map(str, found.image_shape))}"
    named = f", columns {', '.join(found.spec.columns)}" if found.spec.columns else ""
    notes = [messages.in_flags(note, TYPED) for note in found.notes]
    return found, "; ".join([f"{what}{named}", *notes])


def page() -> str:
    """The documentation's page."""
    lines = []
    for name in KINDS:
        with tempfile.TemporaryDirectory() as place:
            found, said = outcome(name, Path(place))
        escaped = " ".join(said.split()).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("<", "\\<")
        lines.append(f"| {name} | {escaped} | {'refused' if found is None else 'read'} |\n")
    return HEAD + "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
