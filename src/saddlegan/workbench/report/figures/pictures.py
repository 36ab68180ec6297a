"""Rows to pictures, and many pictures to one sheet: plain arrays, no axes."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from saddlegan.errors import InputError

SHEET_PIXELS = 4000  # longest side of a sheet when small pictures are enlarged
TILE_PIXELS = 48  # small pictures are enlarged up to about this side


def to_pictures(rows: np.ndarray, image_shape: tuple[int, ...], value_range: tuple[float, float]) -> np.ndarray:
    """Turn rows into pictures with values in [0, 1], clipped.

    Args:
        rows: (n, d).
        image_shape: (h, w) or (h, w, c) with h * w * c = d.
        value_range: the values of black and white.

    Returns:
        (n, h, w) or (n, h, w, 3).

    Raises:
        InputError: the rows have another length.
    """
    if rows.shape[1] != math.prod(image_shape):
        raise InputError(f"`rows` must have {math.prod(image_shape)} columns for {image_shape}, got {rows.shape[1]}")
    low, high = value_range
    scaled = np.clip((rows.astype(np.float64) - low) / ((high - low) or 1.0), 0.0, 1.0)
    pictures = scaled.reshape(len(rows), *image_shape)
    return pictures[..., 0] if len(image_shape) == 3 and image_shape[2] == 1 else pictures


def tile(pictures: np.ndarray, columns: int, *, gap: int = 1, background: float = 1.0) -> np.ndarray:
    """Lay pictures out on a sheet, row by row.

    Args:
        pictures: (n, h, w) or (n, h, w, 3).
        columns: pictures in a row.
        gap: pixels between two pictures.
        background: value of gaps and of places left empty.

    Returns:
        One picture.
    """
    return _laid_out(pictures, pictures.shape, columns, gap=gap, background=background, dtype=np.dtype(np.float64))


def sheet_png(pictures: Iterable[np.ndarray], n: int) -> bytes:
    """Make a square-ish sheet of pictures as PNG, every pixel enlarged by a whole number.

    Args:
        pictures: n of one shape, (h, w) or (h, w, 3), values in [0, 1]; taken one by one, so that the sheet alone is
            held.
        n: how many.

    Returns:
        The file's bytes.
    """
    each = iter(pictures)
    first = next(each)
    h, w = first.shape[:2]
    columns = math.ceil(math.sqrt(n * h / w))
    zoom = max(1, min(TILE_PIXELS // max(h, w), SHEET_PIXELS // (columns * (w + 1))))

    def enlarged() -> Iterator[np.ndarray]:
        for picture in itertools.chain([first], each):
            yield np.round(picture.repeat(zoom, axis=0).repeat(zoom, axis=1) * 255).astype(np.uint8)

    shape = (n, h * zoom, w * zoom, *first.shape[2:])
    sheet = _laid_out(enlarged(), shape, columns, gap=2 if zoom > 1 else 1, background=255, dtype=np.dtype(np.uint8))
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _laid_out(
    pictures: Iterable[np.ndarray],
    shape: tuple[int, ...],
    columns: int,
    *,
    gap: int,
    background: float,
    dtype: np.dtype,
) -> np.ndarray:
    n, h, w = shape[:3]
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, *shape[3:]), background, dtype=dtype)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (h + gap), (index % columns) * (w + gap)
        sheet[top : top + h, left : left + w] = picture
    return sheet
