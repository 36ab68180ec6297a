"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from saddlegan.errors import InputError

if TYPE_CHECKING:
    from saddlegan.workbench.data.tables import TableOptions

DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="Built-in name, folder of images, or .npy/.npz/.csv/.tsv/.parquet file.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
ImportOption = Annotated[
    list[str] | None, typer.Option("--import", help="Module with the run's own classes; repeat it for more.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder to make [runs/NAME].")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an existing run folder.")]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out instead of refusing.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.")]
SamplesOption = Annotated[
    int | None, typer.Option("--n-samples", help="Points to draw from a synthetic source (10,000 if not given).")
]
ImageShapeOption = Annotated[
    str | None, typer.Option("--image-shape", help="HxW or HxWxC, for files whose rows are flat images.")
]
HeaderOption = Annotated[
    Literal["auto", "yes", "no"], typer.Option("--header", help="Text files: whether the first line names the columns.")
]
IndexOption = Annotated[
    Literal["auto", "yes", "no"], typer.Option("--index", help="Text files: whether the first column names the rows.")
]
SepOption = Annotated[str | None, typer.Option("--sep", help="Text files: the separator; found out if not given.")]
DecimalOption = Annotated[str | None, typer.Option("--decimal", help="Text files: the decimal mark, . or ,")]
NaOption = Annotated[
    str | None, typer.Option("--na", help="Text files: further words for a missing value, commas between.")
]


def table_options(
    header: Literal["auto", "yes", "no"],
    index: Literal["auto", "yes", "no"],
    sep: str | None,
    decimal: str | None,
    na: str | None,
) -> TableOptions:
    """What the options for text files say.

    Raises:
        InputError: a decimal mark that is neither a point nor a comma.
    """
    from saddlegan.workbench.data.tables import TableOptions

    mark: Literal[".", ","] | None = None if decimal is None else "," if decimal == "," else "."
    if decimal not in (None, ".", ","):
        raise InputError(f"`--decimal` must be . or , got {decimal!r}")
    words = () if na is None else tuple(word.strip() for word in na.split(","))
    return TableOptions(header=header, index=index, sep=sep, decimal=mark, na=words)


def table_words(table: TableOptions) -> list[str]:
    """The same options as words to type, those alone that differ from the defaults."""
    words: list[str] = []
    for name, value in table.model_dump(exclude_defaults=True).items():
        words += [f"--{name}", ",".join(value) if isinstance(value, tuple) else value]
    return words


def default_out(out: Path | None, source: str) -> Path:
    """Name the run folder after the data where no name was given."""
    return Path("runs") / (Path(source.partition(":")[0]).stem or "data") if out is None else out


def parse_image_shape(text: str | None) -> tuple[int, ...] | None:
    """Read "28x28" or "32x32x3".

    Raises:
        InputError: anything else.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) not in (2, 3) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"`image_shape` must be HxW or HxWxC, such as 28x28, got {text!r}")
    return tuple(int(part) for part in parts)


def parse_numbers(name: str, text: str | None) -> tuple[int, ...] | None:
    """Read "4,8,16".

    Raises:
        InputError: anything else.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"`{name}` must be numbers with commas between, such as 4,8,16, got {text!r}")
    return tuple(int(part) for part in parts)


def parse_crop(text: str | None) -> tuple[int, int, int] | None:
    """Read "128@89,121": side, column and row of the centre.

    Raises:
        InputError: anything else.
    """
    if text is None:
        return None
    size, _, centre = text.partition("@")
    x, _, y = centre.partition(",")
    if not (size.isdecimal() and x.isdecimal() and y.isdecimal()):
        raise InputError(f"`crop` must be SIZE@X,Y, such as 128@89,121, got {text!r}")
    return int(size), int(x), int(y)


def check_seed(seed: int) -> int:
    """Refuse a seed that a generator cannot take.

    Raises:
        InputError: not in 0 ... 2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"`seed` must be between 0 and {2**32 - 1}, got {seed}")
    return seed
