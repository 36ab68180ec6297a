"""One image file to bytes at every resolution. Imported by the decoding processes: only numpy and Pillow behind it."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from saddlegan.errors import InputError
from saddlegan.workbench.data.images import READ_ERRORS, _reason, open_image, to_bytes


@dataclasses.dataclass(frozen=True)
class Crop:
    """The square that is cut out of an image before it is resized; CelebA's faces: `Crop(128, x=89, y=121)`.

    Attributes:
        size: its side in pixels.
        x: column of its centre.
        y: row of its centre.
    """

    size: int
    x: int
    y: int

    def __post_init__(self) -> None:
        if min(self.size, self.x, self.y) < 1:
            raise InputError(f"`crop` must be SIZE@X,Y with positive numbers, got {self.size}@{self.x},{self.y}")

    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom edge."""
        left, top = self.x - self.size // 2, self.y - self.size // 2
        return left, top, left + self.size, top + self.size


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How files become pictures.

    Attributes:
        resolutions: ascending; the coarser ones are means over squares of the finest.
        grey: one channel instead of three.
        crop: the square to cut out; the largest centred one if None.
        bits: how many bits deep pictures use.
    """

    resolutions: tuple[int, ...]
    grey: bool
    crop: Crop | None
    bits: int = 8


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Some files, decoded.

    Attributes:
        levels: bytes (m, r, r, c) of each resolution; the rows of unreadable files are zero.
        bad: (row, path, reason) of each unreadable file.
    """

    levels: tuple[np.ndarray, ...]
    bad: tuple[tuple[int, str, str], ...]


def end_with_parent() -> None:
    """Make this decoding process end when the one that started it does, even by SIGKILL.

    A pool's processes wait for work on a pipe that they hold open themselves, so they would wait for ever, and with
    them whoever reads their output.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def decode(paths: list[str], recipe: Recipe) -> Decoded:
    """Decode files in one process.

    Args:
        paths: the files.
        recipe: how.
    """
    channels, finest = 1 if recipe.grey else 3, recipe.resolutions[-1]
    pictures = np.zeros((len(paths), finest, finest, channels), np.uint8)
    bad: list[tuple[int, str, str]] = []
    for row, path in enumerate(paths):
        try:
            with open_image(Path(path)) as image:
                pictures[row] = _picture(image, recipe)
        except READ_ERRORS as error:
            bad.append((row, path, _reason(error)))
    return Decoded(tuple(mean_bytes(pictures, r) for r in recipe.resolutions), tuple(bad))


def _picture(image: Image.Image, recipe: Recipe) -> np.ndarray:
    finest = recipe.resolutions[-1]
    whole = Image.fromarray(to_bytes(image, grey=recipe.grey, bits=recipe.bits))
    if recipe.crop is None:
        w, h = whole.size
        side = min(w, h)
        left, top = (w - side) // 2, (h - side) // 2
        box = (left, top, left + side, top + side)
    else:
        box = recipe.crop.box()
        if box[0] < 0 or box[1] < 0 or box[2] > whole.width or box[3] > whole.height:
            raise ValueError(f"the crop {box} does not fit into {whole.width} x {whole.height}")
    square = whole.crop(box)
    # means over pixels when shrinking, so that all resolutions agree; smooth when enlarging
    method = Image.Resampling.BOX if square.width >= finest else Image.Resampling.BICUBIC
    if square.width != finest:
        square = square.resize((finest, finest), method)
    return np.asarray(square, np.uint8).reshape(finest, finest, -1)


def mean_bytes(pictures: np.ndarray, resolution: int) -> np.ndarray:
    """Average squares of pixels, rounded half up: (n, h, h, c) to (n, resolution, resolution, c)."""
    n, side, _, c = pictures.shape
    f = side // resolution
    if f == 1:
        return pictures
    total = pictures.reshape(n, resolution, f, resolution, f, c).sum((2, 4), dtype=np.int32)
    return ((total + f * f // 2) // (f * f)).astype(np.uint8)
