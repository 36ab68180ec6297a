"""Rows to pictures, and many pictures to one sheet: plain arrays, no axes."""

from __future__ import annotations

import io
import math

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
    n, h, w = pictures.shape[:3]
    rows = math.ceil(n / columns)
    shape = (rows * (h + gap) - gap, columns * (w + gap) - gap, *pictures.shape[3:])
    sheet = np.full(shape, background)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (h + gap), (index % columns) * (w + gap)
        sheet[top : top + h, left : left + w] = picture
    return sheet


def sheet_png(pictures: np.ndarray) -> bytes:
    """Make a square-ish sheet of pictures as PNG, every pixel enlarged by a whole number.

    Args:
        pictures: (n, h, w) or (n, h, w, 3), values in [0, 1].

    Returns:
        The file's bytes.
    """
    n, h, w = pictures.shape[:3]
    columns = math.ceil(math.sqrt(n * h / w))
    zoom = max(1, min(TILE_PIXELS // max(h, w), SHEET_PIXELS // (columns * (w + 1))))
    enlarged = pictures.repeat(zoom, axis=1).repeat(zoom, axis=2)
    sheet = tile(enlarged, columns, gap=2 if zoom > 1 else 1)
    buffer = io.BytesIO()
    Image.fromarray(np.round(sheet * 255).astype(np.uint8)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
