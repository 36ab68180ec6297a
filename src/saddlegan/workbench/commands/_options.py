"""Options that several commands share."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from saddlegan.errors import DataError, InputError, RunError
from saddlegan.workbench.terminal import console, numbers
from saddlegan.workbench.terminal import source as reading
from saddlegan.workbench.terminal.numbers import ANY, Range

if TYPE_CHECKING:
    from saddlegan.workbench.data.tables import TableOptions

DataArgument = Annotated[
    str,
    typer.Argument(metavar="DATA", help="Built-in name, folder of images, or .npy/.npz/.csv/.tsv/.parquet/.xlsx file."),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
PairArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or MODULE:FUNCTION that makes a Game.")]
PairDataOption = Annotated[str | None, typer.Option("--data", help="With MODULE:FUNCTION: the real samples.")]
ImportOption = Annotated[
    list[str] | None, typer.Option("--import", help="Module with the run's own classes; repeat it for more.")
]
DEVICES = ("auto", "cpu", "cuda")
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder to make [runs/NAME].")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an existing run folder.")]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out instead of refusing.")]
ImageShapeOption = Annotated[
    str | None, typer.Option("--image-shape", help="HxW or HxWxC, for files whose rows are flat images.")
]
SepOption = Annotated[str | None, typer.Option("--sep", help="Text files: the separator; found out if not given.")]
DecimalOption = Annotated[str | None, typer.Option("--decimal", help="Text files: the decimal mark, . or ,")]
NaOption = Annotated[
    str | None, typer.Option("--na", help="Text files: further words for a missing value, commas between.")
]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", help="Tables: names of the columns to keep, in this order, commas between.")
]
DropOption = Annotated[
    str | None, typer.Option("--drop", help="Tables: names of the columns to leave out, commas between.")
]
OneHotOption = Annotated[
    bool, typer.Option("--one-hot", help="Tables: a column of 0 and 1 for each word of a column of words.")
]
StandardiseOption = Annotated[
    bool, typer.Option("--standardise", help="Tables: every column to mean 0, sd 1; samples come in the table's units.")
]
ByClassOption = Annotated[
    bool, typer.Option("--by-class", help="One solved model for each label of the rows, with its own certificate.")
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="With --by-class: a table's column, or FILE or FILE:COLUMN with a line per picture or row (CelebA's "
        "list_attr too) [digits' and .npz files' own; names of sub-folders].",
    ),
]


class Choice:
    """Reads one of several words; a word that is not among them is answered by the nearest.

    Args:
        words: what is allowed.
    """

    __name__ = "WORD"

    def __init__(self, *words: str) -> None:
        self.words = words

    def __call__(self, text: str) -> str:
        """Take one of the words.

        Raises:
            BadParameter: another word.
        """
        if text not in self.words:
            raise typer.BadParameter(f"must be one of {', '.join(self.words)}, got {text!r}")
        return text


@dataclasses.dataclass(frozen=True)
class Number:
    """Reads one number, or one of the words that are allowed beside numbers.

    Attributes:
        kind: int or float.
        range: what is allowed.
        words: allowed beside numbers.
        otherwise: what holds if the option is not given, for the message.
    """

    kind: Any
    range: Range = ANY
    words: tuple[str, ...] = ()
    otherwise: str = ""

    @property
    def __name__(self) -> str:
        return "|".join(("INTEGER" if self.kind is int else "NUMBER", *self.words))

    def __call__(self, text: Any) -> Any:
        """Take one number or one of the words.

        Raises:
            BadParameter: neither, or a number outside of the range.
        """
        if text in self.words or isinstance(text, (int, float)):  # a default comes as it is
            return text
        found = numbers.read(text, self.range, whole=self.kind is int)
        if found is None:
            others = "".join(f' or "{word}"' for word in self.words)
            said = f"must be {self.range.words(whole=self.kind is int)}{others}, got {text!r}"
            raise typer.BadParameter(f"{said}; leave it out for {self.otherwise}" if self.otherwise else said)
        return found


def numeric(kind: Any, flag: str, text: str, *, otherwise: str = "", show_default: bool = True, **ends: float) -> Any:
    """An option that is a number within `ends`, named as in `Range`."""
    read = Number(kind, Range(**ends), otherwise=otherwise)
    return typer.Option(flag, parser=read, metavar=read.__name__, help=text, show_default=show_default)


SeedOption = Annotated[
    int, numeric(int, "--seed", "Seed of everything that is drawn.", least=0, below=2**32, otherwise="0")
]
SamplesOption = Annotated[
    int | None,
    numeric(
        int,
        "--n-samples",
        "Points to draw from a synthetic source [10,000; train: 100,000].",
        least=2,
        otherwise="10,000, or 100,000 of train",
    ),
]


def choice(flag: str, text: str, *words: str, show_default: bool = True) -> Any:
    """An option that is one of several words."""
    return typer.Option(flag, parser=Choice(*words), metavar="|".join(words), help=text, show_default=show_default)


YES_OR_NO = ("auto", "yes", "no")
HeaderOption = Annotated[str, choice("--header", "Text files: whether the first line names the columns.", *YES_OR_NO)]
IndexOption = Annotated[str, choice("--index", "Text files: whether the first column names the rows.", *YES_OR_NO)]
DeviceOption = Annotated[
    str,
    choice("--device", "Where to compute; auto is cuda where there is a GPU [auto].", *DEVICES, show_default=False),
]


def table_options(
    header: str,
    index: str,
    sep: str | None,
    decimal: str | None,
    na: str | None,
    columns: str | None = None,
    drop: str | None = None,
    one_hot: bool = False,
    standardise: bool = False,
) -> TableOptions:
    """What the options for tables say.

    Raises:
        InputError: a decimal mark that is neither a point nor a comma.
    """
    from saddlegan.workbench.data.tables import TableOptions

    mark: Literal[".", ","] | None = None if decimal is None else "," if decimal == "," else "."
    if decimal not in (None, ".", ","):
        raise InputError(f"`--decimal` must be . or , got {decimal!r}")
    return TableOptions(
        header=cast("Literal['auto', 'yes', 'no']", header),
        index=cast("Literal['auto', 'yes', 'no']", index),
        sep=sep,
        decimal=mark,
        na=_words(na),
        columns=_words(columns),
        drop=_words(drop),
        one_hot=one_hot,
        standardise=standardise,
    )


def _words(text: str | None) -> tuple[str, ...]:
    """Words with commas between; one that holds a comma stands in quotes, as in a .csv file.

    Example:
        >>> _words('weight, "length, cm"')
        ('weight', 'length, cm')
    """
    rows = list(csv.reader([] if text is None else [text], skipinitialspace=True))
    return tuple(word.strip() for word in rows[0]) if rows else ()


def default_out(out: Path | None, source: str) -> Path:
    """Name the run folder after the data where no name was given."""
    if out is not None:
        return out
    if names_game(source):
        return Path("runs") / source.partition(":")[2]
    return Path("runs") / (Path(source.partition(":")[0]).stem or "data")


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


def check_new(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that exists, before anything slow is imported; what else a folder may hold is seen later.

    Raises:
        RunError: it exists.
    """
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise RunError(f"`out` must be a new folder, but {out} exists; choose another path or pass --overwrite")


def names_game(words: str) -> bool:
    """Whether words name MODULE:FUNCTION and no folder or file that is there."""
    module, mark, function = words.partition(":")
    path = [*module.split("."), function]
    return bool(mark) and all(part.isidentifier() for part in path) and not Path(words).exists()


def check_pair_of(words: str, data: str | None) -> bool:
    """Whether a pair is named MODULE:FUNCTION, with its data; else what is named has or is its own.

    Raises:
        InputError: the one without data, or the other with them.
        DataError: data that are not there.
    """
    if not names_game(words):
        if data is not None:
            raise InputError(f"`data` belongs to MODULE:FUNCTION; {words} comes with its own")
        return False
    if data is None:
        raise InputError(f"`data` is missing: the real samples that {words} plays on")
    check_source(data, name="data")
    return True


def check_pair(words: str, data: str | None, modules: Sequence[str] | None = None) -> bool:
    """Whether a pair is named MODULE:FUNCTION, with its data; else it must be a run, which knows its own.

    Raises:
        InputError: the one without data, or the other with them.
        RunError: no folder, or one without a sound config.json.
        DataError: data that are not there.
    """
    own = check_pair_of(words, data)
    if not own:
        check_run(Path(words), modules)
    return own


def check_run(path: Path, modules: Sequence[str] | None = None) -> None:
    """Refuse what is no run folder, or needs a module that is not given, before anything slow is imported.

    Raises:
        RunError: no folder, or one without a sound config.json; or its networks are classes of somebody's own and
            there are no `modules`.
    """
    if not path.is_dir():
        raise RunError(f"{path} is not a run folder: {'a file' if path.exists() else 'nothing'} is there")
    from saddlegan.workbench.runs.config import read_config

    config = read_config(path / "config.json")
    for player in (config.generator, config.discriminator):
        own = None if player is None else _module_of(player.model_dump())
        if own is not None and not modules and own not in sys.modules:
            raise RunError(f"the networks of {path} are classes of the module {own}: pass --import {own}")


def _module_of(network: Mapping[str, Any]) -> str | None:
    """The module of a network, or of its first layer, that is neither torch's nor ours."""
    options = network.get("options", {})
    path = str(options.get("path", ""))
    if network.get("kind") == "import" and path.partition(".")[0] not in ("torch", "saddlegan"):
        return path.partition(":")[0]
    layers = options.get("layers", {})
    each = layers.values() if isinstance(layers, Mapping) else ()
    return next(filter(None, (_module_of(layer) for layer in each if isinstance(layer, Mapping))), None)


ENDINGS = (".png", ".npy", ".npz", ".csv", ".parquet", ".xlsx")
STANDARD_OUTPUT = Path("-")


def check_ending(out: Path, endings: tuple[str, ...]) -> None:
    """Refuse a file whose name does not say its form; - is standard output.

    Raises:
        InputError: another ending.
    """
    if out != STANDARD_OUTPUT and out.suffix.lower() not in endings:
        raise InputError(f"`out` must end in {', '.join(endings)}, got {out}")


@contextlib.contextmanager
def written(out: Path, ending: str) -> Iterator[Path]:
    """Where to write a file that is meant for `out`; what is meant for - goes to standard output once it is whole.

    Args:
        out: the file, or -.
        ending: what - gets.
    """
    if out != STANDARD_OUTPUT:
        yield out
        console.say(str(out))
        return
    with tempfile.TemporaryDirectory() as place, console.for_programs():
        path = Path(place) / f"out{ending}"
        yield path
        sys.stdout.flush()
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def check_objective(objective: str) -> None:
    """Refuse an unknown objective before anything slow is imported.

    Raises:
        InputError: no objective of that name.
    """
    known = reading.objectives()
    if objective.lower().replace("_", "-") not in known:
        raise InputError(f"`objective` must be one of {', '.join(known)}, got {objective!r}")


def check_features(features: str) -> None:
    """Refuse a word for what distances look at that is neither known nor a file, before anything slow is imported.

    Raises:
        InputError: neither.
    """
    known = reading.words("saddlegan.workbench.report.quality", "FEATURES")
    if features not in known and not Path(features).is_file():
        raise InputError(f"`features` must be one of {', '.join(known)}, or a TorchScript file; got {features!r}")


def check_source(source: str, *, name: str = "source") -> None:
    """Refuse data that are neither built in nor there, before anything slow is imported.

    Raises:
        DataError: neither.
    """
    known = reading.names("saddlegan.workbench.data.synthetic", "SOURCES")
    if source.partition(":")[0] not in known and not Path(source).exists():
        raise DataError(f"`{name}` must be one of {', '.join(known)}, or an existing file or folder; got {source!r}")


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
