"""A folder of images, decoded once into memory maps of every resolution.

The cache is named after the files' contents and the recipe, so it can neither be stale nor belong to another folder. It
is filled in chunks by parallel processes, one writer at a time, and a log says which chunks are in, with a checksum for
each level: whoever is killed goes on from there. The name of a finished cache appears only when it is complete; whoever
opens it checks every chunk, and decodes anew what has changed since.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import contextlib
import hashlib
import io
import itertools
import math
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from saddlegan.errors import DataError, InputError
from saddlegan.fit import AbstractImages
from saddlegan.fit.progressive._images import ArrayImages
from saddlegan.moments._engines import Chunks
from saddlegan.workbench import locks
from saddlegan.workbench.data.decoding import Crop, Decoded, Recipe, decode, end_with_parent
from saddlegan.workbench.data.images import (
    FORMATS,
    GREY_MODES,
    READ_ERRORS,
    deep_bits,
    find,
    left_out,
    said_of_bits,
)
from saddlegan.workbench.terminal.progress import Progress

CHUNK = 256  # images that one process decodes at a time, and that a killed run loses at most per process
NAMED = 5  # unreadable files named in an error
VERSION = 3

Bad = tuple[int, str, str]  # row, path and reason of an unreadable file


class _Index(BaseModel):
    """`index.json` of a finished cache; `sums` holds the checksums of each level's chunks, coarse levels first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(ge=1)
    channels: int = Field(ge=1, le=3)
    resolutions: tuple[int, ...] = Field(min_length=1)
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    chunk: int = Field(ge=1)
    sums: tuple[tuple[int, ...], ...]


class _Entry(BaseModel):
    """A line of `chunks.log`: a chunk that is in, with its unreadable files and a checksum for each level."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chunk: int = Field(ge=0)
    bad: tuple[Bad, ...]
    sums: tuple[int, ...]


def default_cache() -> Path:
    """Where caches lie: `$SADDLEGAN_CACHE`, or saddlegan's folder among the user's caches."""
    named = os.environ.get("SADDLEGAN_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saddlegan"


class Pyramid(AbstractImages):
    """Bytes (n, r, r, c) at several resolutions, memory-mapped; an image source for `fit.ProCoGAN`.

    Args:
        folder: a finished cache, as `build` leaves it.

    Attributes:
        folder: where it lies.
        resolutions: ascending.
        skipped: unreadable files that were left out.
        notes: what else was left out or decided.

    Raises:
        DataError: not a cache, or truncated or damaged; the message names the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            index = _Index.model_validate_json((folder / "index.json").read_bytes())
        except (OSError, ValidationError) as error:
            reason = "no index.json" if isinstance(error, OSError) else "its index.json is damaged"
            raise DataError(f"{folder} is not an image cache, or it is damaged ({reason}); delete it") from error
        self._index = index
        self.resolutions, self.skipped, self.notes = index.resolutions, index.skipped, index.notes
        n, c = index.n, index.channels
        self._levels: dict[int, ArrayImages] = {}
        for r in self.resolutions:
            path = _level_path(folder, r)
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise DataError(f"the image cache {path} is truncated or damaged ({error}); delete it") from error
            if array.shape != (n, r, r, c) or array.dtype != np.uint8:
                raise DataError(f"the image cache {path} holds {array.shape}, its index says {(n, r, r, c)}; delete it")
            self._levels[r] = ArrayImages(array)
        self._finest = self._levels[self.resolutions[-1]]
        self.shape, self.dtype = self._finest.shape, torch.uint8

    def verify(self) -> None:
        """Compare every chunk with its checksum.

        Raises:
            DataError: some bytes have changed since they were decoded.
        """
        if len(self._index.sums) != len(self.resolutions):
            raise DataError(f"the image cache {self.folder} is damaged: its index.json lacks checksums; delete it")
        for resolution, sums in zip(self.resolutions, self._index.sums, strict=True):
            if tuple(_sums(self.array(resolution), self._index.chunk)) != sums:
                path = _level_path(self.folder, resolution)
                raise DataError(f"the image cache {path} is damaged: its checksums do not match; delete it")

    def array(self, resolution: int) -> np.ndarray:
        """The images at one resolution (n, r, r, c), memory-mapped.

        Raises:
            InputError: no such resolution.
        """
        if resolution not in self._levels:
            raise InputError(f"`resolution` must be one of {self.resolutions}, got {resolution}")
        return np.load(_level_path(self.folder, resolution), mmap_mode="r", allow_pickle=False)

    def blocks(self, start: int, stop: int, part: int, parts: int) -> Iterator[Tensor]:
        """Blocks of the finest images."""
        return self._finest.blocks(start, stop, part, parts)

    def leg_rows(self) -> int:
        """Images after which a pass may pause."""
        return self._finest.leg_rows()

    def level(self, resolution: int) -> AbstractImages:
        """The stored copy at this resolution, or the finest."""
        return self._levels.get(resolution, self._finest)

    def delayed(self, start: int, stop: int) -> Chunks:
        """Chunks of the finest images."""
        return self._finest.delayed(start, stop)

    def fingerprint(self) -> str:
        """The cache's name, made from the contents."""
        return self.folder.name


def build(
    folder: Path,
    *,
    resolutions: Sequence[int],
    crop: Crop | None = None,
    cache: Path | None = None,
    workers: int = 2,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Pyramid:
    """Decode a folder into a cache, go on with one that was begun, or open one that is there.

    Args:
        folder: images of any size in it and its subfolders: JPEG, PNG, PGM, ...
        resolutions: ascending, each a multiple of the one before.
        crop: the square to cut out of every image; the largest centred one if None.
        cache: where caches lie; `default_cache()` if None. Several processes may use one: they decode in turn.
        workers: decoding processes.
        skip_bad: leave unreadable images out instead of refusing the folder.
        progress: called with (label, images done, in all).

    Returns:
        The finished `Pyramid`; its notes say if a damaged one was decoded again.

    Raises:
        DataError: no image, an unreadable one, or the cache cannot be written; the message names it.
        InputError: resolutions that do not divide one another.
    """
    sides = tuple(int(r) for r in resolutions)
    if not sides or min(sides) < 1 or any(b % a or a == b for a, b in itertools.pairwise(sides)):
        raise InputError(f"`resolutions` must ascend, each a multiple of the one before, got {sides}")
    paths, notes = find(folder)
    key, grey, deep, said_of_files = _survey(folder, paths, sides, crop, skip_bad=skip_bad)
    notes += said_of_files
    root = cache or default_cache()
    with _named(root):
        root.mkdir(parents=True, exist_ok=True)
        with _turn(root / f"{key}.lock", len(paths), progress):
            final, stage = root / key, root / f"{key}.partial"
            said: list[str] = []
            if final.exists():
                try:
                    found = Pyramid(final)
                    found.verify()
                except DataError:
                    shutil.rmtree(final)  # the pictures themselves are still there
                    said.append("the cache of decoded pictures was damaged, so they were decoded again")
                else:
                    return found
            recipe = Recipe(sides, grey, crop, deep_bits(deep))
            notes += said_of_bits(recipe.bits)
            again = _decode_all(
                stage, folder, paths, recipe, notes, workers=workers, skip_bad=skip_bad, progress=progress
            )
            os.replace(stage, final)
            if again:
                said.append(
                    f"{again} chunks of an unfinished cache were missing or damaged, so they were decoded again"
                )
            made = Pyramid(final)
            made.notes += tuple(said)
            return made


def _decode_all(
    stage: Path,
    folder: Path,
    paths: list[Path],
    recipe: Recipe,
    notes: tuple[str, ...],
    *,
    workers: int,
    skip_bad: bool,
    progress: Progress | None,
) -> int:
    """Fill the stage of a cache; on an error what was decoded stays for the next try, unless nothing was.

    Returns:
        How many chunks the log named in vain.
    """
    stage.mkdir(exist_ok=True)
    try:
        entries, again = _fill(stage, paths, recipe, workers=workers, progress=progress)
    except OSError:
        if not _read_log(stage / "chunks.log"):
            shutil.rmtree(stage, ignore_errors=True)  # reserved space goes back to a full disk
        raise
    bad = [each for entry in entries for each in entry.bad]
    if bad and not skip_bad:
        shutil.rmtree(stage)
        named = "; ".join(f"{path} ({reason})" for _, path, reason in bad[:NAMED])
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise DataError(f"unreadable images: {named}{more}; repair or remove them, or pass --skip-bad")
    if len(bad) == len(paths):
        shutil.rmtree(stage)
        raise DataError(f"no image in {folder} is readable; all {len(bad)} were skipped")
    _finish(stage, len(paths), recipe, entries, notes)
    return again


@contextlib.contextmanager
def _turn(path: Path, n: int, progress: Progress | None) -> Iterator[None]:
    """Hold a cache's lock; say so where another process has to finish first."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.lock(path))
        except locks.HeldError as other:
            if progress is not None:
                progress(f"waiting for {other.holder}, which decodes the same pictures", 0, n)
            held.enter_context(locks.lock(path, wait=True))
        yield


@contextlib.contextmanager
def _named(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the image cache {root} cannot be written ({error.strerror or error}); make room there, or name another "
            "place with --cache or SADDLEGAN_CACHE"
        ) from error


def _level_path(folder: Path, resolution: int) -> Path:
    return folder / f"level-{resolution}.npy"


def _sum(rows: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(rows).data)


def _sums(level: np.ndarray, chunk: int) -> list[int]:
    """A checksum for each chunk of a level's rows."""
    return [_sum(level[low : low + chunk]) for low in range(0, len(level), chunk)]


def _survey(
    folder: Path, paths: list[Path], sides: tuple[int, ...], crop: Crop | None, *, skip_bad: bool
) -> tuple[str, bool, list[Path], tuple[str, ...]]:
    """Name the cache after contents and recipe; find out whether all are grey, which are deep, what is left out."""

    def look(path: Path) -> tuple[str, bool, bool, frozenset[str]]:
        try:
            if not path.is_file():
                raise OSError(0, "no ordinary file")
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"the image {path} cannot be read ({error.strerror})") from error
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                grey, deep, said = image.mode in GREY_MODES, image.mode.startswith("I"), left_out(image)
        except READ_ERRORS:
            grey, deep, said = True, False, frozenset[str]()  # has no say; decoding will name it
        line = f"{path.relative_to(folder)} {hashlib.blake2b(content, digest_size=16).hexdigest()}\n"
        return line, grey, deep, said

    digest = hashlib.sha256(f"{VERSION} {sides} {crop} {skip_bad}\n".encode())
    all_grey, all_deep, all_said = True, [], frozenset[str]()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for path, (line, grey, deep, said) in zip(paths, pool.map(look, paths), strict=True):
            digest.update(line.encode())
            all_grey &= grey
            all_deep += [path] if deep else []
            all_said |= said
    return digest.hexdigest()[:32], all_grey, all_deep, tuple(sorted(all_said))


def _fill(
    stage: Path, paths: list[Path], recipe: Recipe, *, workers: int, progress: Progress | None
) -> tuple[list[_Entry], int]:
    """Decode the chunks that are not in yet; return the entries of all, and how many the log named in vain."""
    log = stage / "chunks.log"
    shape = len(paths), 1 if recipe.grey else 3
    maps = [_open_level(_level_path(stage, r), (shape[0], r, r, shape[1])) for r in recipe.resolutions]
    named = {entry.chunk: entry for entry in _read_log(log)}
    done = {low: entry for low, entry in named.items() if _is_in(entry, maps)}
    chunks = [low for low in range(0, len(paths), CHUNK) if low not in done]
    lost = len(named) - len(done)
    finished = sum(min(CHUNK, len(paths) - low) for low in done)
    with log.open("a", encoding="utf-8") as written, _pool(workers) as pool:
        waiting: dict[concurrent.futures.Future[Decoded], int] = {}
        queue = iter(chunks)
        while True:
            while len(waiting) < 2 * workers and (low := next(queue, -1)) >= 0:
                task = pool.submit(decode, [str(path) for path in paths[low : low + CHUNK]], recipe)
                waiting[task] = low
            if not waiting:
                return [done[low] for low in sorted(done)], lost
            ready, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for task in ready:
                low, decoded = waiting.pop(task), task.result()
                for level, rows in zip(maps, decoded.levels, strict=True):
                    level[low : low + len(rows)] = rows
                    level.flush()
                bad = tuple((low + row, path, reason) for row, path, reason in decoded.bad)
                sums = tuple(_sum(rows) for rows in decoded.levels)
                done[low] = _Entry(chunk=low, bad=bad, sums=sums)
                # the log line comes after the bytes: what it names is in
                written.write(done[low].model_dump_json() + "\n")
                written.flush()
                finished += min(CHUNK, len(paths) - low)
                if progress is not None:
                    progress("decoding", finished, len(paths))


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """Decoding processes that end when the block does, however it ends, and with this process."""
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent
    )
    try:
        yield pool
    except concurrent.futures.process.BrokenProcessPool as error:
        raise DataError(
            "a process that decoded pictures was ended from outside, by lack of memory perhaps; run the command again, "
            "what it had decoded is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _is_in(entry: _Entry, maps: Sequence[np.ndarray]) -> bool:
    """Whether the levels hold what a line of the log says: a kill of the machine may have kept the line alone."""
    low, n = entry.chunk, len(maps[0])
    if low % CHUNK or low >= n or len(entry.sums) != len(maps):
        return False
    if any(not low <= row < min(n, low + CHUNK) for row, _, _ in entry.bad):
        return False
    return all(_sum(level[low : low + CHUNK]) == total for level, total in zip(maps, entry.sums, strict=True))


def _read_log(log: Path) -> list[_Entry]:
    lines = log.read_bytes().split(b"\n") if log.exists() else []
    entries = []
    for line in lines[:-1]:  # a line without its end was cut off
        with contextlib.suppress(ValidationError):
            entries.append(_Entry.model_validate_json(line))
    return entries


def _open_level(path: Path, shape: tuple[int, int, int, int]) -> np.memmap:
    """Map a level, a new one where there is none of this shape."""
    with contextlib.suppress(OSError, ValueError):
        level = np.lib.format.open_memmap(path, mode="r+")
        if level.shape == shape and level.dtype == np.uint8:
            return level
    return _new_level(path, shape)


def _new_level(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """Reserve the disk's space first: writing to a map for which there is none ends the process without a word."""
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        size = file.tell() + math.prod(shape)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.lib.format.open_memmap(path, mode="r+")


def _finish(stage: Path, n: int, recipe: Recipe, entries: Sequence[_Entry], notes: tuple[str, ...]) -> None:
    """Close the gaps that unreadable files left, and write the index."""
    bad = [each for entry in entries for each in entry.bad]
    good = np.setdiff1d(np.arange(n), [row for row, _, _ in bad])
    sums = [[entry.sums[place] for entry in entries] for place in range(len(recipe.resolutions))]
    for place, r in enumerate(recipe.resolutions if bad else ()):
        whole = np.load(_level_path(stage, r), mmap_mode="r")
        packed = stage / f"packed-{r}.npy"
        level = _new_level(packed, (len(good), *whole.shape[1:]))
        for low in range(0, len(good), CHUNK):
            level[low : low + CHUNK] = whole[good[low : low + CHUNK]]
        level.flush()
        sums[place] = _sums(level, CHUNK)
        os.replace(packed, _level_path(stage, r))
    index = _Index(
        n=len(good),
        channels=1 if recipe.grey else 3,
        resolutions=recipe.resolutions,
        skipped=tuple(path for _, path, _ in sorted(bad)),
        notes=notes,
        chunk=CHUNK,
        sums=tuple(map(tuple, sums)),
    )
    (stage / "index.json").write_text(index.model_dump_json(), encoding="utf-8")
    (stage / "chunks.log").unlink()
