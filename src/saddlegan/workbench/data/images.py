"""A folder of images as one array of bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from saddlegan.errors import DataError

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".pgm", ".ppm", ".pbm", ".pnm", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
)
GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N", "I"})
READ_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The images of a folder.

    Attributes:
        pixels: uint8, (n, h, w) if all are grey, else (n, h, w, 3).
        skipped: paths of unreadable images that were left out, relative to the folder.
    """

    pixels: np.ndarray
    skipped: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Header:
    path: Path
    size: tuple[int, int]
    mode: str


def read_folder(folder: Path, *, skip_bad: bool) -> ImageFolder:
    """Read every image under a folder, in the order of their paths; other files are ignored.

    Args:
        folder: it and its subfolders are searched; hidden files are not.
        skip_bad: leave unreadable images out instead of refusing the folder.

    Returns:
        `ImageFolder`. Colour wins: if one image has colour, all become RGB. 16 bits are reduced to 8; transparency is
        dropped; the first frame of an animation is taken.

    Raises:
        DataError: no image, an unreadable one, or two sizes; the message names an example.
    """
    try:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not _hidden(p, folder))
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read: {error.strerror}") from error
    if not paths:
        raise DataError(f"the folder {folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    skipped: list[str] = []
    headers: list[_Header] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                headers.append(_Header(path, image.size, image.mode))
        except READ_ERRORS as error:
            _skip_or_raise(path, folder, error, skipped, skip_bad=skip_bad)
    for header in headers[1:]:
        if header.size != headers[0].size:
            first, other = headers[0], header
            raise DataError(
                f"all images in {folder} must have one size: {first.path.relative_to(folder)} has "
                f"{first.size[0]} x {first.size[1]}, {other.path.relative_to(folder)} {other.size[0]} x {other.size[1]}"
            )
    grey = all(header.mode in GREY_MODES for header in headers)
    pixels: list[np.ndarray] = []
    for header in headers:
        try:
            with Image.open(header.path) as image:
                pixels.append(_bytes(image, grey=grey))
        except READ_ERRORS as error:
            _skip_or_raise(header.path, folder, error, skipped, skip_bad=skip_bad)
    if not pixels:
        raise DataError(f"no image in {folder} is readable; all {len(skipped)} were skipped")
    return ImageFolder(np.stack(pixels), tuple(skipped))


def _bytes(image: Image.Image, *, grey: bool) -> np.ndarray:
    if image.mode == "F":
        raise ValueError("32-bit floating pixels have no fixed range; save them as .npy")
    if image.mode.startswith("I"):
        # Pillow's own conversion clips at 255 where 16 bits need their upper byte
        upper = (np.clip(np.asarray(image, dtype=np.int64), 0, 65535) >> 8).astype(np.uint8)
        return upper if grey else np.repeat(upper[:, :, None], 3, axis=2)
    return np.asarray(image.convert("L" if grey else "RGB"), dtype=np.uint8)


def _skip_or_raise(path: Path, folder: Path, error: Exception, skipped: list[str], *, skip_bad: bool) -> None:
    if not skip_bad:
        raise DataError(
            f"the image {path} cannot be read ({_reason(error)}); repair or remove it, or pass --skip-bad"
        ) from error
    skipped.append(str(path.relative_to(folder)))


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    return " ".join(str(error).split()) or type(error).__name__


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
