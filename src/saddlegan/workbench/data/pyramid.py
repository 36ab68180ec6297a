"""A folder of images, decoded once into memory maps of every resolution.

The cache is named after the files' contents and the recipe, so it can neither be stale nor belong to another folder. It
is filled in chunks by parallel processes, and a log says which chunks are in: whoever is killed goes on from there. The
name of a finished cache appears only when it is complete.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saddlegan.errors import DataError, InputError
from saddlegan.fit import AbstractImages
from saddlegan.fit.progressive._images import ArrayImages
from saddlegan.workbench.data.decoding import Crop, Decoded, Recipe, decode
from saddlegan.workbench.data.images import FORMATS, GREY_MODES, READ_ERRORS, deep_bits, find, said_of_bits
from saddlegan.workbench.terminal.progress import Progress

CHUNK = 256  # images that one process decodes at a time, and that a killed run loses at most per process
NAMED = 5  # unreadable files named in an error
VERSION = 2


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
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            self.resolutions = tuple(int(r) for r in index["resolutions"])
            self.skipped = tuple(str(name) for name in index["skipped"])
            self.notes = tuple(str(note) for note in index["notes"])
            n, c = int(index["n"]), int(index["channels"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} is not an image cache, or it is damaged ({error}); delete it") from error
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

    def delayed(self, start: int, stop: int) -> list[Any]:
        """Refuse: a memory map is not a dask.array."""
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
        cache: where caches lie; `default_cache()` if None.
        workers: decoding processes.
        skip_bad: leave unreadable images out instead of refusing the folder.
        progress: called with (label, images done, in all).

    Returns:
        The finished `Pyramid`.

    Raises:
        DataError: no image, or an unreadable one; the message names it.
        InputError: resolutions that do not divide one another.
    """
    sides = tuple(int(r) for r in resolutions)
    if not sides or min(sides) < 1 or any(b % a or a == b for a, b in itertools.pairwise(sides)):
        raise InputError(f"`resolutions` must ascend, each a multiple of the one before, got {sides}")
    paths, notes = find(folder)
    key, grey, deep = _survey(folder, paths, sides, crop, skip_bad=skip_bad)
    root = cache or default_cache()
    final, stage = root / key, root / f"{key}.partial"
    if final.exists():
        try:
            return Pyramid(final)
        except DataError:
            shutil.rmtree(final)  # truncated or damaged: the folder itself is still there
    recipe = Recipe(sides, grey, crop, deep_bits(deep))
    stage.mkdir(parents=True, exist_ok=True)
    bad = _fill(stage, paths, recipe, workers=workers, progress=progress)
    if bad and not skip_bad:
        shutil.rmtree(stage)
        named = "; ".join(f"{path} ({reason})" for _, path, reason in bad[:NAMED])
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise DataError(f"unreadable images: {named}{more}; repair or remove them, or pass --skip-bad")
    if len(bad) == len(paths):
        shutil.rmtree(stage)
        raise DataError(f"no image in {folder} is readable; all {len(bad)} were skipped")
    _finish(stage, len(paths), recipe, bad, notes=(*notes, *said_of_bits(recipe.bits)))
    os.replace(stage, final)
    return Pyramid(final)


def _level_path(folder: Path, resolution: int) -> Path:
    return folder / f"level-{resolution}.npy"


def _survey(
    folder: Path, paths: list[Path], sides: tuple[int, ...], crop: Crop | None, *, skip_bad: bool
) -> tuple[str, bool, list[Path]]:
    """Name the cache after contents and recipe; find out whether all files are grey, and which are deep."""

    def look(path: Path) -> tuple[str, bool, bool]:
        try:
            if not path.is_file():
                raise OSError(0, "no ordinary file")
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"the image {path} cannot be read ({error.strerror})") from error
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                grey, deep = image.mode in GREY_MODES, image.mode.startswith("I")
        except READ_ERRORS:
            grey, deep = True, False  # has no say; decoding will name it
        return f"{path.relative_to(folder)} {hashlib.blake2b(content, digest_size=16).hexdigest()}\n", grey, deep

    digest = hashlib.sha256(f"{VERSION} {sides} {crop} {skip_bad}\n".encode())
    all_grey, all_deep = True, []
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for path, (line, grey, deep) in zip(paths, pool.map(look, paths), strict=True):
            digest.update(line.encode())
            all_grey &= grey
            all_deep += [path] if deep else []
    return digest.hexdigest()[:32], all_grey, all_deep


def _fill(
    stage: Path, paths: list[Path], recipe: Recipe, *, workers: int, progress: Progress | None
) -> list[tuple[int, str, str]]:
    """Decode the chunks that the log does not name yet; return the unreadable files of all chunks."""
    log = stage / "chunks.log"
    done, bad = _read_log(log)
    shape = len(paths), 1 if recipe.grey else 3
    maps = [_open_level(_level_path(stage, r), (shape[0], r, r, shape[1]), fresh=not done) for r in recipe.resolutions]
    chunks = [low for low in range(0, len(paths), CHUNK) if low not in done]
    finished = sum(min(CHUNK, len(paths) - low) for low in done)
    with (
        log.open("a", encoding="utf-8") as written,
        concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        waiting: dict[concurrent.futures.Future[Decoded], int] = {}
        queue = iter(chunks)
        while True:
            while len(waiting) < 2 * workers and (low := next(queue, -1)) >= 0:
                task = pool.submit(decode, [str(path) for path in paths[low : low + CHUNK]], recipe)
                waiting[task] = low
            if not waiting:
                return bad
            ready, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for task in ready:
                low, decoded = waiting.pop(task), task.result()
                for level, rows in zip(maps, decoded.levels, strict=True):
                    level[low : low + len(rows)] = rows
                    level.flush()
                found = [(low + row, path, reason) for row, path, reason in decoded.bad]
                # the log line comes after the bytes: what it names is in
                written.write(json.dumps({"chunk": low, "bad": found}) + "\n")
                written.flush()
                bad += found
                finished += min(CHUNK, len(paths) - low)
                if progress is not None:
                    progress("decoding", finished, len(paths))


def _read_log(log: Path) -> tuple[set[int], list[tuple[int, str, str]]]:
    done: set[int] = set()
    bad: list[tuple[int, str, str]] = []
    lines = log.read_text(encoding="utf-8").split("\n") if log.exists() else []
    for line in lines[:-1]:  # a line without its end was cut off
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        done.add(int(entry["chunk"]))
        bad += [(int(row), str(path), str(reason)) for row, path, reason in entry["bad"]]
    return done, bad


def _open_level(path: Path, shape: tuple[int, int, int, int], *, fresh: bool) -> np.memmap:
    if fresh or not path.exists():
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    return np.lib.format.open_memmap(path, mode="r+")


def _finish(stage: Path, n: int, recipe: Recipe, bad: list[tuple[int, str, str]], *, notes: tuple[str, ...]) -> None:
    """Close the gaps that unreadable files left, and write the index."""
    good = np.setdiff1d(np.arange(n), [row for row, _, _ in bad])
    for r in recipe.resolutions if bad else ():
        whole = np.load(_level_path(stage, r), mmap_mode="r")
        packed = stage / f"packed-{r}.npy"
        level = np.lib.format.open_memmap(packed, mode="w+", dtype=np.uint8, shape=(len(good), *whole.shape[1:]))
        for low in range(0, len(good), CHUNK):
            level[low : low + CHUNK] = whole[good[low : low + CHUNK]]
        level.flush()
        os.replace(packed, _level_path(stage, r))
    index = {
        "n": len(good),
        "channels": 1 if recipe.grey else 3,
        "resolutions": recipe.resolutions,
        "skipped": [path for _, path, _ in sorted(bad)],
        "notes": list(notes),
    }
    (stage / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    (stage / "chunks.log").unlink()
