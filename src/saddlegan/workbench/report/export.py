"""Samples to files, block by block: a sheet or a scatter as .png, numbers as .npy, .npz, .csv, .parquet or .xlsx."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from saddlegan.errors import InputError, MissingExtraError
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.files import atomic
from saddlegan.workbench.report.figures import pictures
from saddlegan.workbench.runs.folder import Run

Blocks = Iterable[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels of rows that are written.

    Attributes:
        name: of their column.
        blocks: the labels (m,) of each block of rows.
    """

    name: str
    blocks: Blocks


Writer = Callable[[BinaryIO, Blocks, int, DataSpec, Labels | None], None]
PREVIEW = 100  # samples in a run's samples.png
GROUP_ELEMENTS = 1 << 20  # numbers of a row group of .parquet: far smaller ones read slowly


def write(rows: np.ndarray, path: Path, spec: DataSpec) -> Path:
    """Write rows as the ending of `path` says, whole or not at all.

    Args:
        rows: (n, d).
        path: file to make; an existing one is replaced.
        spec: what the rows are pictures of, if anything. Images keep their shape in .npy and .npz, so that `load`
            knows them again.

    Returns:
        The path.

    Raises:
        InputError: the ending is unknown.
        RunError: the file cannot be written.
    """
    return write_blocks([rows], len(rows), path, spec)


def write_blocks(blocks: Blocks, n: int, path: Path, spec: DataSpec, labels: Labels | None = None) -> Path:
    """`write` for rows that come in blocks (m, d) of one dtype, n rows in all: no more than a few are held.

    A sheet of pictures and a scatter are one picture each, and that is held. Tables get labels as their last column,
    .npz as an array "labels"; the endings in `UNLABELLED` have no place for them.
    """
    writer = check_ending(path)
    with atomic(path) as file:
        writer(file, blocks, n, spec, labels)
    return path


def check_ending(path: Path) -> Writer:
    """Find the writer for a path before any work is done.

    Raises:
        InputError: the ending is unknown.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"`out` must end in {', '.join(WRITERS)}, got {str(path)!r}")
    return writer


def write_preview(run: Run, *, seed: int = 0) -> Path:
    """Write `samples.png` of a run: its first hundred samples as pictures, or a scatter of 2,500 points."""
    spec = run.config.data
    n = PREVIEW if spec.image_shape else 2500
    buffer = io.BytesIO()
    _png(buffer, run.sample_blocks(n, seed), n, spec, None)
    return run.write_bytes("samples.png", buffer.getvalue())


def _tables(blocks: Blocks, spec: DataSpec, labels: Labels | None) -> Iterator[dict[str, np.ndarray]]:
    """Named columns of each block, its labels last."""
    if labels is None:
        yield from map(spec.as_table, blocks)
        return
    for rows, own in zip(blocks, labels.blocks, strict=True):
        yield {**spec.as_table(rows), labels.name: own}


def _png(file: BinaryIO, blocks: Blocks, n: int, spec: DataSpec, labels: Labels | None) -> None:
    del labels
    if spec.image_shape is not None and spec.value_range is not None:
        shape, limits = spec.image_shape, spec.value_range
        each = itertools.chain.from_iterable(pictures.to_pictures(rows, shape, limits) for rows in blocks)
        file.write(pictures.sheet_png(each, n))
        return
    from saddlegan.workbench.report.figures import samples as figures  # matplotlib, for this ending alone

    drawn = np.concatenate([spec.in_own_units(rows)[:, :2] for rows in blocks])
    file.write(figures.points(drawn, labels=spec.names()[:2]))


def _npy(file: BinaryIO, blocks: Blocks, n: int, spec: DataSpec, labels: Labels | None) -> None:
    del labels
    for index, rows in enumerate(blocks):
        found = spec.in_own_units(rows)
        if index == 0:
            shape = (n, *(spec.image_shape or found.shape[1:]))
            header = {"descr": np.lib.format.dtype_to_descr(found.dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(found).data)


def _npz(file: BinaryIO, blocks: Blocks, n: int, spec: DataSpec, labels: Labels | None) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("X.npy", "w", force_zip64=True) as entry:
            _npy(entry, blocks, n, spec, None)  # type: ignore[arg-type]
        if labels is not None:
            with archive.open("labels.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.concatenate(list(labels.blocks)), allow_pickle=False)


def _csv(file: BinaryIO, blocks: Blocks, n: int, spec: DataSpec, labels: Labels | None) -> None:
    del n
    for index, table in enumerate(_tables(blocks, spec, labels)):
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")  # names and words may hold commas
        if index == 0:
            writer.writerow(table)
        # repr's shortest digits bring every number back bit for bit
        columns = [
            [repr(v) for v in column.tolist()] if column.dtype.kind == "f" else column.tolist()
            for column in table.values()
        ]
        writer.writerows(zip(*columns, strict=True))
        file.write(text.getvalue().encode())


def _parquet(file: BinaryIO, blocks: Blocks, n: int, spec: DataSpec, labels: Labels | None) -> None:
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    del n
    groups = (
        pa.Table.from_pandas(pd.DataFrame(table), preserve_index=False)
        for table in _gathered(_tables(blocks, spec, labels))
    )
    first = next(groups)
    with parquet.ParquetWriter(file, first.schema) as writer:
        for group in itertools.chain([first], groups):
            writer.write_table(group)


def _gathered(tables: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """Tables of at least GROUP_ELEMENTS numbers, but for the last."""
    kept: list[dict[str, np.ndarray]] = []
    held = 0
    for table in tables:
        kept.append(table)
        held += sum(column.size for column in table.values())
        if held >= GROUP_ELEMENTS:
            yield _joined(kept)
            kept, held = [], 0
    if kept:
        yield _joined(kept)


def _joined(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _xlsx(file: BinaryIO, blocks: Blocks, n: int, spec: DataSpec, labels: Labels | None) -> None:
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError("openpyxl", "excel") from error
    del n
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    for index, table in enumerate(_tables(blocks, spec, labels)):
        if index == 0:
            sheet.append(list(table))
        for row in zip(*(column.tolist() for column in table.values()), strict=True):
            sheet.append(row)
    book.save(file)


WRITERS: dict[str, Writer] = {
    ".png": _png,
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
    ".xlsx": _xlsx,
}

UNLABELLED = (".png", ".npy")  # endings without a place for labels
