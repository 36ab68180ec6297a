"""Images as rows: any array, memory map, tensor, dask.array or generator of batches, at any coarser resolution."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import importlib
import mmap
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saddlegan.errors import InputError, InputTypeError, MissingExtraError
from saddlegan.moments._engines import AbstractBlocks, Chunks
from saddlegan.moments._second_moment import as_tensor

BLOCK_BYTES = 1 << 24  # a block as read; products widen it fourfold
LEGS = 16  # parts of a pass, between which progress is told and a journal may be written


def block_mean(images: Tensor, resolution: int) -> Tensor:
    """Average squares of pixels: (n, h, h, c) to (n, resolution, resolution, c). Bytes stay bytes, rounded half up.

    Example:
        >>> block_mean(torch.tensor([0, 1, 2, 3], dtype=torch.uint8).reshape(1, 2, 2, 1), 1).item()
        2
    """
    n, side, _, c = images.shape
    f = side // resolution
    if f == 1:
        return images
    kind = torch.int32 if images.dtype == torch.uint8 else images.dtype
    rows = images.reshape(n, resolution, f, side * c).sum(2, dtype=kind)
    total = rows.reshape(n, resolution, resolution, f, c).sum(3, dtype=kind)
    if images.dtype != torch.uint8:
        return total / (f * f)
    return total.add_(f * f // 2).div_(f * f, rounding_mode="floor").to(torch.uint8)


def enlarge(rows: Tensor, resolution: int, finer: int) -> Tensor:
    """Repeat every pixel: rows (k, r r c) to (k, R R c), the upsampling between stages."""
    f = finer // resolution
    images = rows.reshape(len(rows), resolution, 1, resolution, 1, -1)
    return images.expand(-1, -1, f, -1, f, -1).reshape(len(rows), -1)


def match_histogram(images: Tensor, reference: Tensor) -> Tensor:
    """Remap each channel's values monotonically onto the distribution of the reference's.

    Args:
        images: (n, h, w, c).
        reference: (m, h', w') or (m, h', w', c).

    Raises:
        InputError: another number of channels, or no reference image.
    """
    reference = reference.reshape(*reference.shape[:3], -1) if reference.ndim == 3 else reference
    if reference.ndim != 4 or len(reference) < 1 or reference.shape[3] != images.shape[3]:
        raise InputError(
            f"`histogram_of` must be images (m, h, w, {images.shape[3]}), got shape {tuple(reference.shape)}"
        )
    matched = torch.empty_like(images)
    for c in range(images.shape[3]):
        values, wanted = images[..., c].flatten(), reference[..., c].flatten().to(images).sort().values
        place = torch.linspace(0, len(wanted) - 1, len(values), dtype=torch.float64, device=images.device)
        remapped = torch.empty_like(values)
        remapped[values.argsort()] = wanted[place.round().long()]
        matched[..., c] = remapped.reshape(images.shape[:3])
    return matched


class AbstractImages(abc.ABC):
    """A set of square images (n, h, w, c) that can be read as often as needed.

    Subclasses say how rows are read; `level` may answer with a copy that was reduced beforehand.
    """

    shape: tuple[int, int, int, int]
    dtype: torch.dtype

    @abc.abstractmethod
    def blocks(self, start: int, stop: int, part: int, parts: int) -> Iterator[Tensor]:
        """Yield every parts-th block (m, h, w, c) of the images start to stop, beginning with block `part`."""

    @abc.abstractmethod
    def leg_rows(self) -> int:
        """Images after which a pass may pause, or n if reading cannot start in the middle."""

    def block_rows(self) -> int:
        """Images in a block."""
        _, h, w, c = self.shape
        return max(1, BLOCK_BYTES // (h * w * c * self.dtype.itemsize))

    @abc.abstractmethod
    def level(self, resolution: int) -> AbstractImages:
        """Return the finest stored copy whose side is a multiple of `resolution` and that is cheapest to read."""

    @abc.abstractmethod
    def delayed(self, start: int, stop: int) -> Chunks:
        """Return images start to stop as chunks for Dask tasks.

        Raises:
            InputTypeError: workers cannot reach them.
        """

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Return text that changes with the data."""


class ArrayImages(AbstractImages):
    """Images in an array: numpy, memory map, torch tensor or dask.array, (n, h, w) or (n, h, w, c).

    Args:
        array: bytes or floats.

    Raises:
        InputError: wrong shape, or fewer than two images.
        InputTypeError: neither bytes nor numbers.
    """

    def __init__(self, array: Any) -> None:
        shape = tuple(int(size) for size in array.shape)
        if len(shape) not in (3, 4):
            raise InputError(f"`X` must be images (n, h, w) or (n, h, w, c), got shape {shape}")
        self._array = array
        self._grey = len(shape) == 3
        n, h, w = shape[:3]
        self.shape = (n, h, w, 1 if self._grey else shape[3])
        self.dtype = self._tensor(array[:0]).dtype
        if h != w:
            raise InputError(f"`X` must hold square images, got {h} x {w}; crop or resize them first")
        if n < 2 or min(self.shape) < 1:
            raise InputError(f"`X` must hold at least 2 images of at least 1 pixel, got shape {shape}")

    def _tensor(self, block: Any) -> Tensor:
        if isinstance(block, np.ma.MaskedArray):
            raise InputTypeError("`X` is a masked array, and a model knows no masks: fill it first")
        if not isinstance(block, Tensor):
            block = np.asarray(block)
            if block.dtype.kind not in "uif" or block.dtype.itemsize > 8:
                raise InputTypeError(f"`X` must hold bytes or numbers up to float64, got {block.dtype}")
        tensor = as_tensor(block)
        if tensor.is_complex() or tensor.dtype == torch.bool:
            raise InputTypeError(f"`X` must hold bytes or numbers, got {tensor.dtype}")
        if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
            tensor = tensor.double()
        return tensor[..., None] if self._grey else tensor

    def blocks(self, start: int, stop: int, part: int, parts: int) -> Iterator[Tensor]:
        step = self.block_rows()
        for low in range(start + part * step, stop, parts * step):
            yield self._tensor(self._array[low : min(low + step, stop)])

    def leg_rows(self) -> int:
        step = self.block_rows()
        return -(-self.shape[0] // (LEGS * step)) * step

    def level(self, resolution: int) -> AbstractImages:
        return self

    def delayed(self, start: int, stop: int) -> Chunks:
        try:
            dask: Any = importlib.import_module("dask")
        except ImportError as error:
            raise MissingExtraError("dask", "dask") from error
        if dask.is_dask_collection(self._array):
            whole = self._array.rechunk(dict.fromkeys(range(1, self._array.ndim), -1))[start:stop]
            return Chunks(self._tensor, list(whole.to_delayed().ravel()), [int(size) for size in whole.chunks[0]])
        place = _place(self._array)
        if place is None:
            raise InputTypeError(
                f'`engine`="dask" needs a dask.array or a memory map that every worker can open, got '
                f"{type(self._array).__name__}; dask.array.from_array or numpy.load(..., mmap_mode='r') makes one"
            )
        step = self.block_rows()
        ranges = [(low, min(low + step, stop)) for low in range(start, stop, step)]
        read = _Mapped(*place, self._array.dtype, self._array.shape, self._tensor)
        return Chunks(read, ranges, [high - low for low, high in ranges])

    def __getstate__(self) -> dict[str, Any]:
        # Dask workers need the way to read a chunk, not the chunks
        return {"_grey": self._grey, "shape": self.shape, "dtype": self.dtype, "_array": None}

    def fingerprint(self) -> str:
        n = self.shape[0]
        edges = [next(self.blocks(i, i + 1, 0, 1)) for i in (0, n // 2, n - 1)]
        digest = hashlib.sha256(b"".join(edge.cpu().contiguous().numpy().tobytes() for edge in edges))
        return f"{self.shape} {self.dtype} {digest.hexdigest()}"


@dataclasses.dataclass(frozen=True)
class _Mapped:
    """Reads rows of an array in a file, on whatever machine it is called."""

    path: str
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    tensor: Callable[[Any], Tensor]

    def __call__(self, rows: tuple[int, int]) -> Tensor:
        array = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        return self.tensor(array[slice(*rows)])


def _place(array: Any) -> tuple[str, int] | None:
    """The file of a memory map and where in it the array begins, which a slice of a map does not say itself."""
    if not isinstance(array, np.memmap) or array.filename is None or array.mode not in ("r", "r+", "w+"):
        return None
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap) or not array.flags.c_contiguous:
        return None
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    return str(array.filename), start + array.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data


class ImageBatches(AbstractImages):
    """Images that come in batches from a function, for data that are made or decoded on the fly.

    Args:
        open: called for every pass; returns an iterable of batches (m, h, w[, c]), the same ones each time.
        shape: (n, h, w, c) of all images together.
        dtype: "uint8", "float32" or "float64".

    Example:
        >>> batches = ImageBatches(lambda: (np.full((5, 4, 4, 1), i, "uint8") for i in range(3)), shape=(15, 4, 4, 1))
        >>> [int(block[0, 0, 0, 0]) for block in batches.blocks(4, 11, 0, 1)]
        [0, 1, 2]
    """

    def __init__(
        self, open: Callable[[], Iterable[Any]], *, shape: tuple[int, int, int, int], dtype: str = "uint8"
    ) -> None:
        kinds = {"uint8": torch.uint8, "float32": torch.float32, "float64": torch.float64}
        if dtype not in kinds:
            raise InputError(f"`dtype` must be one of {', '.join(kinds)}, got {dtype!r}")
        if len(shape) != 4 or shape[1] != shape[2] or shape[0] < 2:
            raise InputError(f"`shape` must be (n, h, h, c) with n >= 2, got {shape}")
        self._open = open
        self.shape, self.dtype = shape, kinds[dtype]

    def leg_rows(self) -> int:
        return self.shape[0]

    def blocks(self, start: int, stop: int, part: int, parts: int) -> Iterator[Tensor]:
        row = 0
        for index, batch in enumerate(self._open()):
            images = as_tensor(batch)
            images = images.reshape(len(images), *self.shape[1:]) if images.ndim == 3 else images
            if tuple(images.shape[1:]) != self.shape[1:] or images.dtype != self.dtype:
                raise InputError(
                    f"`open` promised images {self.shape[1:]} of {self.dtype}, got {tuple(images.shape[1:])} of "
                    f"{images.dtype}"
                )
            low, high = max(start - row, 0), min(stop - row, len(images))
            if low < high and index % parts == part:
                yield images[low:high]
            row += len(images)
            if row >= stop:
                return
        raise InputError(f"`open` gave {row} images, fewer than the {self.shape[0]} that `shape` promises")

    def level(self, resolution: int) -> AbstractImages:
        return self

    def delayed(self, start: int, stop: int) -> Chunks:
        raise InputTypeError('`engine`="dask" needs a dask.array or a memory map, got a generator of batches')

    def fingerprint(self) -> str:
        first = next(self.blocks(0, 1, 0, 1))
        return f"{self.shape} {self.dtype} {hashlib.sha256(first.contiguous().numpy().tobytes()).hexdigest()}"


@dataclasses.dataclass(frozen=True)
class ImageBlocks(AbstractBlocks):
    """Images at one resolution, as rows (n, r r c).

    Attributes:
        images: the stored images; their side is a multiple of `resolution`.
        resolution: r.
    """

    images: AbstractImages
    resolution: int

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """(n, r r c)."""
        n, _, _, c = self.images.shape
        return n, self.resolution**2 * c

    def leg_rows(self) -> int:
        return self.images.leg_rows()

    def blocks(self, start: int, stop: int, part: int, parts: int) -> Iterator[Tensor]:
        reduce = _Reduce(self.resolution)
        return (reduce(images) for images in self.images.blocks(start, stop, part, parts))

    def delayed(self, start: int, stop: int) -> Chunks:
        found = self.images.delayed(start, stop)
        return dataclasses.replace(found, read=_Read(found.read, _Reduce(self.resolution)))

    def fingerprint(self) -> str:
        return f"{self.images.fingerprint()} at {self.resolution}"


@dataclasses.dataclass(frozen=True)
class _Reduce:
    resolution: int

    def __call__(self, images: Tensor) -> Tensor:
        return block_mean(images, self.resolution).reshape(len(images), -1)


@dataclasses.dataclass(frozen=True)
class _Read:
    images: Callable[[Any], Tensor]
    reduce: _Reduce

    def __call__(self, chunk: Any) -> Tensor:
        return self.reduce(self.images(chunk))


def read_images(X: Any) -> AbstractImages:
    """Turn whatever `fit` was given into images.

    Raises:
        InputTypeError: neither an array nor an image source.
        InputError: unusable shape.
    """
    if isinstance(X, AbstractImages):
        return X
    if isinstance(X, (list, tuple)):
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise InputError(f"`X` must be images of one size: {error}") from error
    if getattr(X, "shape", None) is None:
        raise InputTypeError(f"`X` must be an array or an image source, got {type(X).__name__}")
    return ArrayImages(X)
