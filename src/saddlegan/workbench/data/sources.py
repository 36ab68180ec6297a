"""Data by name or by path: built-in sources, folders of images, and .npy, .npz, .csv, .tsv, .parquet and .xlsx files.

Nothing is ever unpickled. Rows are flat, (n, d); `image_shape` says what they are pictures of. Pictures keep the
numbers of their source: uint8 files stay bytes, 0 to 255, digits lie in [0, 1]; `value_range` names black and white.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saddlegan.errors import DataError, InputError
from saddlegan.workbench.data import images, synthetic, tables
from saddlegan.workbench.data import labels as reading
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.data.tables import TableOptions
from saddlegan.workbench.files import ARRAY_FAULTS

if TYPE_CHECKING:
    from saddlegan.workbench.data.decoding import Crop
    from saddlegan.workbench.data.pyramid import Pyramid
    from saddlegan.workbench.terminal.progress import Progress

MOMENT_ROWS = 1 << 14
CHECK_ELEMENTS = 1 << 22  # elements looked at together when NaN is searched, so that memmaps stay on disk


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, ready for any door.

    Attributes:
        name: short name for titles.
        X: rows (n, d), an array or a memmap.
        spec: where it came from; `load_spec(spec)` brings it back.
        description: one sentence.
        centers: modes (m, d) of a synthetic mixture, else None.
        sd: standard deviation of each mode, else None.
        skipped: unreadable images that were left out.
        notes: what was guessed or left out while reading, one sentence each; show them to the user.
        labels: of the rows (n,), where they were asked for.
    """

    name: str
    X: np.ndarray
    spec: DataSpec
    description: str
    centers: np.ndarray | None = None
    sd: float | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    labels: np.ndarray | None = None

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """(h, w) or (h, w, c) if the rows are images, else None."""
        return self.spec.image_shape

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The values of black and white if the rows are images, else None."""
        return self.spec.value_range

    @functools.cached_property
    def moments(self) -> tuple[np.ndarray, float]:
        """Mean (d,) and overall standard deviation of the first 16,384 rows, or fewer large ones."""
        rows = np.asarray(self.X[: max(2, min(MOMENT_ROWS, CHECK_ELEMENTS // self.X.shape[1]))], dtype=np.float64)
        return rows.mean(0), float(np.sqrt(rows.var(0).sum())) or 1.0


def load(
    source: str | Path,
    *,
    n_samples: int | None = None,
    random_state: int = 0,
    skip_bad: bool = False,
    image_shape: tuple[int, ...] | None = None,
    table: TableOptions | None = None,
) -> Data:
    """Load data by built-in name or by path.

    Args:
        source: "digits", "ring", "grid", "swiss-roll", "gaussian:4,1,0.25" (variances) or "gaussian:2,1;1,3"
            (covariance), a folder of images, or a .npy, .npz, .csv, .tsv, .parquet or .xlsx file. A built-in
            name wins over a path of the same name; write ./digits for the path.
        n_samples: points to draw from a synthetic source, 10,000 if None.
        random_state: seed of a synthetic source.
        skip_bad: leave unreadable images of a folder out instead of refusing the folder.
        image_shape: (h, w) or (h, w, c) of the rows of a file that does not say so itself.
        table: how to read a text file; found out, and said in `notes`, if None.

    Returns:
        `Data`.

    Raises:
        DataError: the source is unknown, unreadable, or holds something else than finite numbers; the message names
            the file and the place.
        InputError: an argument is out of range or does not belong to this source.

    Example:
        >>> digits = load("digits")
        >>> digits.X.shape, digits.image_shape, digits.value_range
        ((1797, 64), (8, 8), (0.0, 1.0))
        >>> load("ring", n_samples=100).centers.shape
        (8, 2)
    """
    name, _, argument = str(source).partition(":")
    if n_samples is not None and n_samples < 2:
        raise InputError(f"`n_samples` must be at least 2, got {n_samples}")
    if name in synthetic.SOURCES:
        if table is not None and table != TableOptions():
            raise InputError(f"`table`: {source} is no table; its columns are not chosen or standardised")
        found = synthetic.SOURCES[name].make(argument, n_samples, random_state)
        spec = DataSpec(
            source=str(source),
            n_samples=len(found.X) if found.random else None,
            random_state=random_state,
            shape=found.X.shape,
            image_shape=found.image_shape,
            value_range=found.value_range,
        )
        X = _rows(found.X, str(source))
        data = Data(str(source), X, spec, found.description, centers=found.centers, sd=found.sd)
    else:
        if n_samples is not None:
            raise InputError(f"`n_samples` belongs to synthetic sources; {source} is read whole")
        data = _load_path(Path(source), random_state=random_state, skip_bad=skip_bad, table=table or TableOptions())
    return data if image_shape is None else _as_images(data, image_shape)


def labels(source: str | Path, *names: str) -> np.ndarray | None:
    """Labels (n,) of a source's rows, where it has some: of digits, and of a .npz that holds them beside the rows.

    Args:
        source: built-in name or path.
        *names: what the .npz may call them; "labels", "y" or "target" if none are given.

    Example:
        >>> labels("digits").shape, labels("ring")
        ((1797,), None)
    """
    if str(source) == "digits":
        from sklearn.datasets import load_digits

        return np.asarray(load_digits(return_X_y=True)[1])
    path = Path(source)
    if path.suffix != ".npz" or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            key = tables.label_key(archive, *names)
            return None if key is None else np.asarray(archive[key])
    except ARRAY_FAULTS:
        return None


def labels_of(data: Data) -> np.ndarray | None:
    """Labels of the data that a run was made from: those it was given, or the source's own.

    None for pictures that were decoded to several sizes, and for the rows of one label.
    """
    if data.labels is not None:
        return data.labels
    return None if data.spec.resolutions is not None or data.spec.label is not None else labels(data.spec.source)


def names_column(source: str, said: str) -> bool:
    """Whether labels that are wanted of a source are a column of its table."""
    in_table = Path(source).is_file() and Path(source).suffix.lower() in (".csv", ".tsv", ".parquet", ".xlsx")
    return in_table and bool(said) and not Path(said).is_file() and not Path(said.rpartition(":")[0]).is_file()


def labelled(data: Data, said: str) -> Data:
    """The same data with a label for each row.

    Args:
        data: as `load` or `load_pictures` gave them.
        said: FILE or FILE:COLUMN with a line for each picture or row; for a .npz the name of an array, and for a table
            the column that its options name already; or "" for the source's own: the digits, a .npz archive's
            "labels", "y" or "target", the names of a folder's sub-folders.

    Raises:
        InputError: the source has no labels of its own, or they must be named.
        DataError: a list cannot be read, or lacks a row.
    """
    source = data.spec.source
    if data.labels is not None:  # a column of the table
        found = data.labels
    elif Path(source).is_dir() and source not in synthetic.SOURCES:
        folder = Path(source)
        paths = [path for path in images.find(folder)[0] if str(path) not in data.skipped]
        names = [name for name in (str(path.relative_to(folder)) for path in paths) if name not in data.skipped]
        found = reading.of_pictures(folder, names, said)
    elif said and not (Path(source).suffix == ".npz" and said.isidentifier() and not Path(said).is_file()):
        found = reading.of_rows(len(data.X), said)
    else:
        own = labels(source, *([said] if said else []))
        if own is None:
            where = f"holds no array {said!r} of labels" if said else "has no labels of its own"
            raise InputError(f"`labels` is missing: {source} {where}; name a file with one line per row, or a column")
        found = own
        if said:  # not by a name of `tables.LABEL_KEYS`, which reading has found and named
            data = dataclasses.replace(data, notes=_with_labels(source, said))
    if len(found) != len(data.X):
        raise DataError(f"{source} has {len(data.X)} rows and {len(found)} labels")
    kept = said
    if Path(said).is_file() or Path(said.rpartition(":")[0]).is_file():
        path, column = reading.file_and_column(said)
        kept = f"{path.resolve()}:{column}" if column else str(path.resolve())  # a run may be read from anywhere
    return dataclasses.replace(data, labels=found, spec=data.spec.model_copy(update={"labels": kept}))


def _with_labels(source: str, key: str) -> tuple[str, ...]:
    """What is said of an archive whose labels were named."""
    with np.load(source, allow_pickle=False) as archive:
        rows = next((name for name in tables.PREFERRED_KEYS if name in archive), "")
        return tables.of_archive(list(archive.keys()), rows, key)


def of_label(data: Data, label: object) -> Data:
    """The rows of one label.

    Args:
        data: with labels.
        label: one of them.
    """
    chosen = np.flatnonzero([] if data.labels is None else data.labels.astype(str) == str(label))
    X = np.asarray(data.X)[chosen]
    spec = data.spec.model_copy(update={"label": str(label), "shape": X.shape})
    words = f"{len(X):,} of {data.description}, label {label}"
    return dataclasses.replace(data, X=X, labels=None, spec=spec, description=words)


def load_spec(spec: DataSpec) -> Data:
    """Load the data that a run was made from.

    Raises:
        DataError: they are gone, or have another shape than they had.
    """
    synthetic_source = spec.source.partition(":")[0] in synthetic.SOURCES
    if spec.n_samples is not None and spec.n_samples != spec.shape[0]:  # before a damaged number is allocated
        raise DataError(f"{spec.source} cannot be loaded: n_samples is {spec.n_samples}, but shape {spec.shape}")
    if spec.resolutions is not None and not synthetic_source and Path(spec.source).is_dir():
        from saddlegan.workbench.data.decoding import Crop

        _, data = load_pictures(
            Path(spec.source),
            resolutions=spec.resolutions,
            crop=None if spec.crop is None else Crop(*spec.crop),
            cache=None if spec.cache is None else Path(spec.cache),
            skip_bad=spec.skip_bad,
        )
    else:
        data = load(
            spec.source,
            n_samples=spec.n_samples,
            random_state=spec.random_state,
            skip_bad=spec.skip_bad,
            image_shape=None if synthetic_source else spec.stored_shape or spec.image_shape,
            table=spec.table,
        )
        if spec.resolutions is not None:
            data = at_resolutions(data, spec.resolutions)
    if spec.labels is not None:
        data = labelled(data, spec.labels)
    if spec.label is not None:
        data = of_label(data, spec.label)
    if data.spec.shape != spec.shape:
        raise DataError(f"{spec.source} has changed: shape {data.spec.shape} now, {spec.shape} when the run was made")
    return data


def load_like(source: str, spec: DataSpec, *, image_shape: tuple[int, ...] | None, table: TableOptions) -> Data:
    """Other data in the columns and units of data that are known, so that one can be measured against the other.

    Args:
        source: as for `load`.
        spec: of what is known. A file of columns is standardised by its means and standard deviations.
        image_shape: of the rows of a file that does not say so itself.
        table: which columns are meant and how to read them; those of `spec` where it says nothing.

    Raises:
        DataError: as for `load`, or the columns are others than those of `spec`.
        InputError: as for `load`.
    """
    if not Path(source).is_file():
        table = TableOptions()
    elif table == TableOptions():
        table = spec.table.model_copy(update={name: getattr(TableOptions(), name) for name in tables.LAYOUT})
    data = load(source, image_shape=image_shape, table=table.model_copy(update={"standardise": False}))
    here, there = data.spec.columns, spec.columns
    if here is not None and there is not None and here != there:
        odd = next((name for name, other in zip(here, there, strict=False) if name != other), (*here, *there)[-1])
        raise DataError(
            f"{source} has the columns {_listed(here)} and {Path(spec.source).name} {_listed(there)}: {odd!r} is not "
            "at the same place in both; choose the same ones in the same order with `columns`"
        )
    if spec.units is None or data.X.shape[1] != len(spec.units):
        return data
    mean, sd = np.asarray(spec.units, dtype=np.float64).T
    X = (np.asarray(data.X, dtype=np.float64) - mean) / sd
    return dataclasses.replace(data, X=X, spec=data.spec.model_copy(update={"units": spec.units}))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")


def load_pictures(
    folder: Path,
    *,
    resolutions: tuple[int, ...],
    crop: Crop | None = None,
    cache: Path | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> tuple[Pyramid, Data]:
    """Read a folder of pictures of any size at several resolutions, decoded once into a cache.

    Args:
        folder: the pictures.
        resolutions: ascending sides.
        crop: the square to cut out of every file; the largest centred one if None.
        cache: where decoded pictures lie, the user's cache if None.
        skip_bad: leave unreadable pictures out.
        progress: called with (label, images done, in all).

    Returns:
        All levels, and the finest as `Data`.

    Raises:
        DataError: a picture is unreadable, or there is none.
    """
    from saddlegan.workbench.data import pyramid

    found = pyramid.build(folder, resolutions=resolutions, crop=crop, cache=cache, skip_bad=skip_bad, progress=progress)
    pixels = found.array(found.resolutions[-1])
    n, h, w, c = pixels.shape
    spec = DataSpec(
        source=str(folder.resolve()),
        skip_bad=skip_bad,
        shape=(n, h * w * c),
        image_shape=(h, w) if c == 1 else (h, w, c),
        value_range=(0.0, 255.0),
        resolutions=found.resolutions,
        crop=None if crop is None else (crop.size, crop.x, crop.y),
        cache=None if cache is None else str(cache.resolve()),
    )
    words = f"{n:,} images from {folder.name}"
    return found, Data(folder.name, pixels.reshape(n, -1), spec, words, skipped=found.skipped, notes=found.notes)


def at_resolutions(data: Data, resolutions: tuple[int, ...]) -> Data:
    """The same pictures as the finest of `resolutions` sees them: means over squares of pixels.

    Raises:
        DataError: not square pictures whose side is a multiple of it.
    """
    from saddlegan.fit.progressive._images import ArrayImages, ImageBlocks

    shape, finest = data.image_shape, resolutions[-1]
    if shape is None or shape[0] != shape[1] or shape[0] % finest:
        raise DataError(f"{data.name} must hold square images with a side that {finest} divides, got {shape}")
    n, c = len(data.X), (*shape, 1)[2]
    spec = data.spec.model_copy(update={"resolutions": resolutions, "stored_shape": shape})
    if shape[0] == finest:
        return dataclasses.replace(data, spec=spec)
    images = ArrayImages(np.asarray(data.X).reshape(n, *shape))
    X = np.concatenate([block.numpy() for block in ImageBlocks(images, finest).blocks(0, n, 0, 1)])
    small = (finest, finest) if len(shape) == 2 else (finest, finest, c)
    spec = spec.model_copy(update={"shape": (n, finest**2 * c), "image_shape": small})
    return dataclasses.replace(data, X=X.reshape(n, -1), spec=spec)


def _load_path(path: Path, *, random_state: int, skip_bad: bool, table: TableOptions) -> Data:
    skipped: tuple[str, ...] = ()
    read: tables.Table | None = None
    if path.is_dir():
        folder = images.read_folder(path, skip_bad=skip_bad)
        array, skipped, notes = folder.pixels, folder.skipped, folder.notes
    elif path.is_file():
        read = tables.read_file(path, table)
        array, notes = read.array, read.notes
    else:
        raise DataError(
            f"`source` must be one of {', '.join(synthetic.SOURCES)}, or an existing file or folder; got {str(path)!r}"
        )
    image_shape = None
    if array.ndim in (3, 4):
        image_shape = _checked_image_shape(array.shape[1:], str(path))
        array = array.reshape(len(array), math.prod(image_shape))
    X = _rows(array, str(path))
    n, d = X.shape
    spec = DataSpec(
        source=str(path.resolve()),
        random_state=random_state,
        skip_bad=skip_bad,
        shape=(n, d),
        image_shape=image_shape,
        value_range=None if image_shape is None else _value_range(X),
        columns=None if read is None else read.columns,
        words=() if read is None else read.words,
        units=None if read is None else read.units,
        table=table,
    )
    kind = "images" if image_shape is not None else "rows"
    description = f"{n:,} {kind} from {path.name or path}"
    labels = None if read is None else read.labels
    return Data(path.name or str(path), X, spec, description, skipped=skipped, notes=notes, labels=labels)


def _as_images(data: Data, image_shape: tuple[int, ...]) -> Data:
    shape = _checked_image_shape(image_shape, data.name)
    d = data.X.shape[1]
    if math.prod(shape) != d:
        raise InputError(f"`image_shape` must have {d} values for {data.name}, got {shape} with {math.prod(shape)}")
    spec = data.spec.model_copy(update={"image_shape": shape, "value_range": _value_range(data.X)})
    return dataclasses.replace(data, spec=spec)


def _checked_image_shape(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise DataError(f"images in {name} must have shape (h, w), (h, w, 1) or (h, w, 3), got {tuple(shape)}")
    return tuple(shape)


def _value_range(X: np.ndarray) -> tuple[float, float]:
    if X.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(X.min()), float(X.max())
    if low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (-1.0, 1.0) if low >= -1.0 and high <= 1.0 else (low, high)


def _rows(array: np.ndarray, name: str) -> np.ndarray:
    """Refuse what no door can use; memmaps are looked through block by block."""
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} must hold real numbers, got {array.dtype.name}")
    if array.ndim != 2:
        raise DataError(f"{name} must have shape (n, d), (n, h, w) or (n, h, w, c), got {tuple(array.shape)}")
    n, d = array.shape
    if n < 2 or d < 1:
        raise DataError(f"{name} must have at least 2 rows and 1 column, got shape ({n}, {d})")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        largest = max(abs(int(array.max())), abs(int(array.min())))
        if largest > tables.EXACT:
            raise DataError(
                f"{name} holds the whole number {largest:,}, and floating point tells none beyond 2**53 apart; leave "
                "keys out, or subtract a constant"
            )
    if array.dtype.kind == "f":
        step = max(1, CHECK_ELEMENTS // d)
        for start in range(0, n, step):
            bad = np.argwhere(~np.isfinite(array[start : start + step]))
            if len(bad):
                row, column = int(bad[0, 0]) + start, int(bad[0, 1])
                value = "NaN" if np.isnan(array[row, column]) else "infinity"
                raise DataError(f"{name} holds {value} in row {row}, column {column} (counted from 0); clean it first")
    return array
