"""A folder of images as one array of bytes."""

from __future__ import annotations

import dataclasses
import stat
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from saddlegan.errors import DataError

SUFFIXES = frozenset(
    {
        ".png",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".pgm",
        ".ppm",
        ".pbm",
        ".pnm",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".avif",
    }
)
# pictures that some machines cannot read: named where they are left out
FOREIGN = frozenset({".heic", ".heif", ".jxl", ".raw", ".cr2", ".nef", ".dng", ".psd", ".svg", ".eps", ".jp2"})
# what a file may be, whatever its ending says: others, EPS above all, make Pillow start programs
Image.init()
FORMATS = tuple(name for name in ("PNG", "JPEG", "PPM", "BMP", "GIF", "TIFF", "WEBP", "AVIF") if name in Image.OPEN)
GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N", "I"})
SHALLOW = 16  # upper bytes of 12-bit colours in 16 bits lie below
# what Pillow's readers raise over a damaged picture, whichever byte is wrong
READ_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, RuntimeError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The images of a folder.

    Attributes:
        pixels: uint8, (n, h, w) if all are grey, else (n, h, w, 3).
        skipped: paths of unreadable images that were left out, relative to the folder.
        notes: what was left out or decided, one sentence each.
    """

    pixels: np.ndarray
    skipped: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Header:
    path: Path
    size: tuple[int, int]
    mode: str
    said: frozenset[str]


def read_folder(folder: Path, *, skip_bad: bool) -> ImageFolder:
    """Read every image under a folder, in the order of their paths; other files are ignored.

    Args:
        folder: it and its subfolders are searched; hidden files are not.
        skip_bad: leave unreadable images out instead of refusing the folder.

    Returns:
        `ImageFolder`. Colour wins: if one image has colour, all become RGB. Pictures stand as a camera says that they
        were held (EXIF). More than 8 bits are reduced to 8 by the range that the folder uses; transparency is dropped;
        the first frame of an animation is taken. `notes` says what was done.

    Raises:
        DataError: no image, an unreadable one, or two sizes; the message names an example.
    """
    paths, notes = find(folder)
    skipped: list[str] = []
    headers: list[_Header] = []
    for path in paths:
        try:
            with open_image(path) as image:
                headers.append(_Header(path, upright_size(image), image.mode, left_out(image)))
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
    bits = deep_bits(header.path for header in headers if header.mode.startswith("I"))
    notes += said_of_bits(bits) + tuple(sorted(frozenset().union(*(header.said for header in headers))))
    pixels: list[np.ndarray] = []
    for header in headers:
        try:
            with open_image(header.path) as image:
                pixels.append(to_bytes(image, grey=grey, bits=bits))
        except READ_ERRORS as error:
            _skip_or_raise(header.path, folder, error, skipped, skip_bad=skip_bad)
    if not pixels:
        raise DataError(f"no image in {folder} is readable; all {len(skipped)} were skipped")
    return ImageFolder(np.stack(pixels), tuple(skipped), notes)


def find(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Find the images of a folder and its subfolders in the order of their paths, and say what was left out.

    Raises:
        DataError: the folder cannot be read, or holds no image, or something with an image's name that is no file.
    """
    try:
        entries = sorted(p for p in folder.rglob("*") if not _hidden(p, folder))
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read: {error.strerror}") from error
    paths = [path for path in entries if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    if not paths:
        raise DataError(f"the folder {folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    foreign = [path for path in entries if path.suffix.lower() in FOREIGN]
    if not foreign:
        return paths, ()
    return paths, (f"left out {len(foreign)} pictures of other kinds, such as {foreign[0].name}; convert them to .png",)


def open_image(path: Path) -> Image.Image:
    """Open an image file lazily; only ordinary files of the formats that Pillow reads by itself.

    Raises:
        OSError: no ordinary file (a pipe would wait for ever), or none of `FORMATS`.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("no ordinary file")
    return Image.open(path, formats=FORMATS)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height once the picture stands as its EXIF orientation says."""
    if image.format == "PNG" and "exif" not in image.info:
        return image.size  # asking further would decode the whole picture
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else image.size


def left_out(image: Image.Image) -> frozenset[str]:
    """What of an opened picture is not read, in words."""
    said = {"transparency was dropped"} if image.has_transparency_data else set()
    if getattr(image, "is_animated", False):
        said.add("of animations the first picture was taken")
    if _deep_colours(image):
        said.add("of 16-bit colours the upper 8 bits were kept")
    return frozenset(said)


def _deep_colours(image: Image.Image) -> bool:
    """Whether an opened picture has colours of 16 bits, of which Pillow reads the upper 8."""
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def deep_bits(paths: Iterable[Path]) -> int:
    """How many bits the deep pictures of a folder use together, at least 8: 12-bit cameras write 16-bit files.

    One number for all, since brightness must not depend on which picture is looked at.
    """
    largest = 0
    for path in paths:
        try:
            with open_image(path) as image:
                largest = max(largest, int(np.asarray(image, dtype=np.int64).max()))
        except READ_ERRORS:
            continue  # decoding will name it
    return max(8, min(largest.bit_length(), 32))


def said_of_bits(bits: int) -> tuple[str, ...]:
    """The note on pictures of more than 8 bits, if any."""
    return () if bits == 8 else (f"pixels use {bits} bits; their upper 8 were kept",)


def to_bytes(image: Image.Image, *, grey: bool, bits: int) -> np.ndarray:
    """Pixels of an opened image, upright, as bytes (h, w) or (h, w, 3).

    Args:
        image: the picture.
        grey: one channel instead of three.
        bits: how many bits deep pictures use, `deep_bits`.

    Raises:
        ValueError: floating point or negative pixels, or colours of 16 bits that lie in the lower ones.
    """
    deep = _deep_colours(image)
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("32-bit floating pixels have no fixed range; save them as .npy")
    if image.mode.startswith("I"):
        # Pillow's own conversion clips at 255 where deep pixels need their upper byte
        pixels = np.asarray(image, dtype=np.int64)
        if pixels.min() < 0:
            raise ValueError("its pixels go below 0; save them as .npy")
        upper = (np.minimum(pixels, (1 << bits) - 1) >> (bits - 8)).astype(np.uint8)
        return upper if grey else np.repeat(upper[:, :, None], 3, axis=2)
    found = np.asarray(image.convert("L" if grey else "RGB"), dtype=np.uint8)
    if deep and 0 < found.max() < SHALLOW:
        raise ValueError("its 16-bit colours use 12 bits or fewer, of which 4 would be kept; save 8 bits or .npy")
    return found


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
