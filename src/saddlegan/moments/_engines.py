"""Sums over row blocks, on one core, on threads, on `torch.distributed` ranks or on Dask workers.

All that is asked of large data is a sum over rows: a Gram matrix, a product with a few vectors. A kernel says what one
block adds, `Blocks` how the rows are read, an engine where. A `Journal` keeps finished passes and the running one on
disk, so that a killed computation goes on from where it was, with the same bits.
"""

from __future__ import annotations

import abc
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import importlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from saddlegan import files
from saddlegan.errors import InputError, InputTypeError, MissingExtraError

Totals = tuple[Tensor, ...]
Progress = Callable[[str, int, int], None]
SAVE_SECONDS = 5.0
WORTH = 4  # rows of a Dask task per column: its totals are d x d however few they are
TASK_ROWS = 1 << 10  # and no fewer than these
TASKS = 2  # of a worker, at least: with fewer one waits for another
TASKS_JOINED = 4  # totals that one task adds up


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Rows that Dask tasks read.

    Attributes:
        read: one chunk to rows (m, d), as the serial engine sees them; picklable.
        chunks: what `read` takes: Dask tasks that give arrays, whose size a scheduler can see, or plain values.
        rows: of each.
    """

    read: Callable[[Any], Tensor]
    chunks: list[Any]
    rows: list[int]


class AbstractBlocks(abc.ABC):
    """Rows (n, d) that can be read again and again, in blocks, in a fixed order."""

    shape: tuple[int, int]

    @abc.abstractmethod
    def leg_rows(self) -> int:
        """Rows after which a pass may pause: a multiple of a block, or n if reading cannot start in the middle."""

    @abc.abstractmethod
    def blocks(self, start: int, stop: int, part: int, parts: int) -> Iterator[Tensor]:
        """Yield every parts-th block (m, d) of the rows start to stop, beginning with block `part`."""

    @abc.abstractmethod
    def delayed(self, start: int, stop: int) -> Chunks:
        """Return these rows as chunks for Dask tasks.

        Raises:
            InputTypeError: workers cannot reach the rows.
        """

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Return text that changes when the data change: shape, type and a few rows."""


class AbstractKernel(abc.ABC):
    """What one block of rows adds to the totals. Kernels are picklable."""

    label: str

    @abc.abstractmethod
    def start(self) -> Totals:
        """Return zeros."""

    @abc.abstractmethod
    def add(self, totals: Totals, block: Tensor) -> None:
        """Add a block (m, d) to the totals in place."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Return text that changes when the sum changes."""


class AbstractEngine(abc.ABC):
    """Where the sum over rows is computed. Every engine adds the same blocks; only the order of additions differs."""

    @abc.abstractmethod
    def sum(self, blocks: AbstractBlocks, kernel: AbstractKernel, start: int, stop: int) -> Totals:
        """Return the totals of the rows start to stop."""

    @property
    def writes(self) -> bool:
        """Whether this process writes the journal."""
        return True


def _sum_part(blocks: AbstractBlocks, kernel: AbstractKernel, start: int, stop: int, part: int, parts: int) -> Totals:
    totals = kernel.start()
    for block in blocks.blocks(start, stop, part, parts):
        kernel.add(totals, block)
    return totals


@dataclasses.dataclass(frozen=True)
class Serial(AbstractEngine):
    """One block after another; torch's own threads work inside a block."""

    def sum(self, blocks: AbstractBlocks, kernel: AbstractKernel, start: int, stop: int) -> Totals:
        return _sum_part(blocks, kernel, start, stop, 0, 1)


@dataclasses.dataclass(frozen=True)
class Threads(AbstractEngine):
    """Blocks dealt to Python threads, each with its own totals: hides the reading behind the products.

    Attributes:
        workers: number of threads; the machine's cores if None.
    """

    workers: int | None = None

    def sum(self, blocks: AbstractBlocks, kernel: AbstractKernel, start: int, stop: int) -> Totals:
        workers = self.workers or os.cpu_count() or 1
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            tasks = [pool.submit(_sum_part, blocks, kernel, start, stop, i, workers) for i in range(workers)]
            totals = tasks[0].result()
            for task in tasks[1:]:
                _fold(totals, task.result())
        return totals


@dataclasses.dataclass(frozen=True)
class Distributed(AbstractEngine):
    """Blocks dealt to the ranks of an initialised `torch.distributed` group; every rank ends with the same totals.

    Every rank calls with the same data (a memory map on a shared disk, say) and reads only its own blocks.
    """

    def __post_init__(self) -> None:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise InputError(
                '`engine`="distributed" needs an initialised process group: start the script with torchrun and call '
                'torch.distributed.init_process_group("gloo") first'
            )

    @property
    def writes(self) -> bool:
        return torch.distributed.get_rank() == 0

    def sum(self, blocks: AbstractBlocks, kernel: AbstractKernel, start: int, stop: int) -> Totals:
        rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        totals = _sum_part(blocks, kernel, start, stop, rank, ranks)
        for total in totals:
            torch.distributed.all_reduce(total)
        return totals


@dataclasses.dataclass(frozen=True)
class Dask(AbstractEngine):
    """Chunks of a dask.array or of a memory map, on whatever scheduler is current (a `distributed.Client`, threads).

    A task's totals are d x d however few its rows are, so small chunks are summed together, one after the other, and
    totals are joined in a tree. They travel as arrays, whose size the scheduler knows when it places a task.
    """

    def sum(self, blocks: AbstractBlocks, kernel: AbstractKernel, start: int, stop: int) -> Totals:
        try:
            dask: Any = importlib.import_module("dask")
        except ImportError as error:
            raise MissingExtraError("dask", "dask") from error
        found = blocks.delayed(start, stop)
        shared = dask.delayed((kernel, found.read), traverse=False)
        share = -(-sum(found.rows) // (TASKS * _dask_workers()))
        least = max(TASK_ROWS, min(share, WORTH * blocks.shape[1]))
        level: list[Any] = [
            dask.delayed(_sum_chunks)(shared, *group) for group in _grouped(found.chunks, found.rows, least)
        ]
        while len(level) > 1:
            level = [dask.delayed(_joined)(*level[i : i + TASKS_JOINED]) for i in range(0, len(level), TASKS_JOINED)]
        return tuple(torch.from_numpy(np.array(total)) for total in dask.compute(level[0])[0])


def _dask_workers() -> int:
    """Threads that compute side by side: those of the current client, else of this machine."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # no package, no client, or none that answers
        distributed: Any = importlib.import_module("distributed")
        return max(1, sum(distributed.default_client().nthreads().values()))
    return os.cpu_count() or 1


def _grouped(chunks: list[Any], rows: list[int], least: int) -> list[list[Any]]:
    """Neighbouring chunks of at least so many rows together; a last group of fewer joins the one before."""
    groups: list[list[Any]] = [[]]
    have = 0
    for chunk, size in zip(chunks, rows, strict=True):
        if have >= least:
            groups.append([])
            have = 0
        groups[-1].append(chunk)
        have += size
    if len(groups) > 1 and have < least:
        last = groups.pop()
        groups[-1] += last
    return groups


def _sum_chunks(shared: tuple[AbstractKernel, Callable[[Any], Tensor]], *chunks: Any) -> tuple[np.ndarray, ...]:
    kernel, read = shared
    totals = kernel.start()
    waiting: list[Tensor] = []
    for place, chunk in enumerate(chunks, 1):
        waiting.append(read(chunk))
        # each addition goes through all d x d totals, which few rows are not worth
        if sum(map(len, waiting)) >= TASK_ROWS or place == len(chunks):
            kernel.add(totals, waiting[0] if len(waiting) == 1 else torch.cat(waiting))
            waiting.clear()
    return tuple(total.numpy() for total in totals)


def _joined(*parts: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    totals = tuple(np.array(total) for total in parts[0])  # a task's result is not its own to change
    for other in parts[1:]:
        for total, addend in zip(totals, other, strict=True):
            total += addend
    return totals


def _fold(totals: Totals, other: Totals) -> None:
    for total, addend in zip(totals, other, strict=True):
        total += addend


_ENGINES: dict[str, Callable[[], AbstractEngine]] = {
    "serial": Serial,
    "threads": Threads,
    "distributed": Distributed,
    "dask": Dask,
}


def get_engine(engine: str | AbstractEngine) -> AbstractEngine:
    """Look an engine up by name; an engine passes through.

    Raises:
        InputTypeError: neither a name nor an engine.
        InputError: unknown name, or no process group for "distributed".
    """
    if isinstance(engine, AbstractEngine):
        return engine
    if not isinstance(engine, str):
        raise InputTypeError(f"`engine` must be a name or an engine, got {type(engine).__name__}")
    if engine not in _ENGINES:
        raise InputError(f"`engine` must be one of {', '.join(_ENGINES)}, got {engine!r}")
    return _ENGINES[engine]()


@dataclasses.dataclass
class Journal:
    """Totals of finished passes, and of the running one, in a folder of atomically written files.

    A computation that asks for the same passes in the same order is answered from the folder as far as it got.

    Attributes:
        folder: where; made on the first write.
    """

    folder: Path
    index: int = 0

    def next(self, key: str) -> tuple[Path, int, Totals | None]:
        """Open the next pass: its file, the rows already summed, and their totals."""
        path = self.folder / f"pass-{self.index:04d}.safetensors"
        self.index += 1
        if not path.exists():
            return path, 0, None
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("key") != key:
                    return path, 0, None
                return path, int(header["rows"]), tuple(file.get_tensor(name) for name in sorted(file.keys()))
        except (SafetensorError, OSError, ValueError, KeyError):
            return path, 0, None  # cut off by a crash of the machine: this pass is computed again

    def save(self, path: Path, key: str, rows: int, totals: Totals) -> None:
        """Write the totals of the first `rows` rows; the file appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"{i:03d}": total.contiguous() for i, total in enumerate(totals)}
        files.write(path, save(tensors, metadata={"key": key, "rows": str(rows)}))

    def clear(self) -> None:
        """Remove the passes; the folder too if nothing else lies in it."""
        for path in [*self.folder.glob("pass-*.safetensors"), *self.folder.glob(".pass-*.partial")]:
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


@dataclasses.dataclass
class Passes:
    """Runs passes over rows with one engine, telling progress and keeping a journal.

    Attributes:
        engine: where the sums are computed.
        journal: where finished passes are kept, or None.
        progress: called with (label, rows done, rows in all).
        count: passes so far.
        seconds: time spent in them.
    """

    engine: AbstractEngine
    journal: Journal | None = None
    progress: Progress | None = None
    count: int = 0
    seconds: float = 0.0

    def run(self, blocks: AbstractBlocks, kernel: AbstractKernel) -> Totals:
        """Return the totals of the kernel over all rows."""
        started = time.perf_counter()
        n = blocks.shape[0]
        leg = n if self.journal is None and self.progress is None else blocks.leg_rows()
        key = hashlib.sha256(f"{kernel.fingerprint()} {blocks.fingerprint()} {leg}".encode()).hexdigest()
        path, done, totals = (Path(), 0, None) if self.journal is None else self.journal.next(key)
        saved = time.monotonic()
        for low in range(done, n, leg):
            high = min(low + leg, n)
            part = self.engine.sum(blocks, kernel, low, high)
            if totals is None:
                totals = part
            else:
                _fold(totals, part)
            due = high == n or time.monotonic() - saved > SAVE_SECONDS
            if self.journal is not None and self.engine.writes and due:
                self.journal.save(path, key, high, totals)
                saved = time.monotonic()
            if self.progress is not None:
                self.progress(kernel.label, high, n)
        self.count += 1
        self.seconds += time.perf_counter() - started
        return kernel.start() if totals is None else totals
