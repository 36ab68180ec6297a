"""Samples to files: a sheet or a scatter as .png, numbers as .npy, .npz, .csv, .parquet or .xlsx."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from saddlegan.errors import InputError, MissingExtraError
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.files import write_atomic
from saddlegan.workbench.report.figures import pictures
from saddlegan.workbench.runs.folder import Run

Writer = Callable[[np.ndarray, DataSpec], bytes]
PREVIEW = 100  # samples in a run's samples.png


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
    return write_atomic(path, check_ending(path)(rows, spec))


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
    return run.write_bytes("samples.png", _png(run.sample(PREVIEW if spec.image_shape else 2500, seed), spec))


def _png(rows: np.ndarray, spec: DataSpec) -> bytes:
    if spec.image_shape is not None and spec.value_range is not None:
        return pictures.sheet_png(pictures.to_pictures(rows, spec.image_shape, spec.value_range))
    from saddlegan.workbench.report.figures import samples as figures  # matplotlib, for this ending alone

    return figures.points(spec.in_own_units(rows), labels=spec.names()[:2])


def _shaped(rows: np.ndarray, spec: DataSpec) -> np.ndarray:
    return rows if spec.image_shape is None else rows.reshape(len(rows), *spec.image_shape)


def _npy(rows: np.ndarray, spec: DataSpec) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, _shaped(spec.in_own_units(rows), spec), allow_pickle=False)
    return buffer.getvalue()


def _npz(rows: np.ndarray, spec: DataSpec) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, X=_shaped(spec.in_own_units(rows), spec))
    return buffer.getvalue()


def _csv(rows: np.ndarray, spec: DataSpec) -> bytes:
    table = spec.as_table(rows)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")  # names and words may hold commas
    writer.writerow(table)
    # repr's shortest digits bring every number back bit for bit
    columns = [
        [repr(v) for v in column.tolist()] if column.dtype.kind == "f" else column.tolist() for column in table.values()
    ]
    writer.writerows(zip(*columns, strict=True))
    return buffer.getvalue().encode()


def _parquet(rows: np.ndarray, spec: DataSpec) -> bytes:
    import pandas as pd

    buffer = io.BytesIO()
    pd.DataFrame(spec.as_table(rows)).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _xlsx(rows: np.ndarray, spec: DataSpec) -> bytes:
    import pandas as pd

    buffer = io.BytesIO()
    try:
        pd.DataFrame(spec.as_table(rows)).to_excel(buffer, index=False, engine="openpyxl")
    except ImportError as error:
        raise MissingExtraError("openpyxl", "excel") from error
    return buffer.getvalue()


WRITERS: dict[str, Writer] = {
    ".png": _png,
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
    ".xlsx": _xlsx,
}
