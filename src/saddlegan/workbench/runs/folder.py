"""The run folder: created whole or not at all, read back with every fault named.

    config.json  generator.safetensors  discriminator.safetensors  metrics.jsonl  certificate.json
    samples.png  report.html  report.json        and checkpoint/ while training

`create` stages a complete run beside its destination and renames it into place. `begin` does the same with the first
files of a long training and hands back the `Run`, which then grows: every later file is replaced atomically, and
metrics are appended line by line. Who writes more than one file holds the run's lock, `Run.writing`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, TypeAdapter
from torch import Tensor, nn

from saddlegan.errors import InputError, RunError
from saddlegan.networks import MixtureGenerator
from saddlegan.results import plain
from saddlegan.workbench import files, locks
from saddlegan.workbench.files import LOCK, named, write_atomic
from saddlegan.workbench.runs.config import RunConfig, read_config
from saddlegan.workbench.runs.players import draw_latents, load_network, state_bytes
from saddlegan.workbench.runs.reading import Figure, Part, Whole, parse_json, validated
from saddlegan.workbench.runs.shapes import to_rows

LABELS = "labels"  # runs of single labels in a run that was fitted class by class
SAMPLE_ROWS = 4096  # rows per forward pass when sampling
OWN_FILES = frozenset(
    {
        "config.json",
        "metrics.jsonl",
        "certificate.json",
        "samples.png",
        "data.npy",
        "deviation.png",
        "card.md",
        "report.html",
        "report.json",
        "explorer.html",
        "checkpoint",
        "tensorboard",
        LABELS,
        "wandb",
        LOCK,
    }
)


class _Metrics(Part):
    """A line of `metrics.jsonl`: the step, and figures, of which those by seed are lists."""

    # pydantic's own way to type the entries that are not declared
    __pydantic_extra__: dict[str, Figure | list[Figure]] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    step: Annotated[Whole, Field(ge=0)]


_METRICS = TypeAdapter(_Metrics)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder on disk.

    Attributes:
        path: the folder.
        config: its validated `config.json`.
    """

    path: Path
    config: RunConfig

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open an existing run.

        Raises:
            RunError: no such folder, or not a saddlegan run.
        """
        folder = Path(path)
        if not folder.is_dir():
            left = files.moved_away(folder)
            if left is not None:
                raise RunError(
                    f"{folder} was being replaced when the command was killed: {left} holds it; rename that back"
                )
            raise RunError(f"{folder} is not a run folder: {'a file' if folder.exists() else 'nothing'} is there")
        return cls(folder, read_config(folder / "config.json"))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the run's lock, so that nobody else trains, judges or replaces it; a block within a block is free.

        A lock belongs to its process: one that was killed leaves none behind. What it left half-written is removed.

        Raises:
            RunError: another process holds it; the message names that.
        """
        with named(self.path):
            key = _key(self.path)
            if _HELD.get(key) == threading.get_ident():
                yield
                return
            try:
                with locks.lock(self.path / LOCK):
                    files.sweep_folder(self.path)
                    with _holding(key):
                        yield
            except locks.HeldError as other:
                raise RunError(_busy(self.path, other.holder)) from other

    def load_generator(self) -> nn.Module:
        """Build G with its saved weights, on the CPU, in evaluation mode.

        Raises:
            RunError: the weights are missing, damaged, or of another network.
        """
        return load_network(self.config.generator, self.path / "generator.safetensors")

    def load_discriminator(self) -> nn.Module:
        """Build D with its saved weights, on the CPU, in evaluation mode.

        Raises:
            RunError: the run has no discriminator, or its weights are missing, damaged, or of another network.
        """
        if self.config.discriminator is None and self.has(LABELS):
            raise RunError(
                f"each label of {self.path} has a pair of its own: name the run of one, in {self.path / LABELS}"
            )
        if self.config.discriminator is None:
            raise RunError(f"the run {self.path} has no discriminator")
        return load_network(self.config.discriminator, self.path / "discriminator.safetensors")

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Draw samples in data units.

        Args:
            n: number of samples.
            seed: the same seed gives the same samples.

        Returns:
            Array (n, d).

        Raises:
            InputError: `n` is not positive.
            RunError: the generator cannot be loaded, or does not make finite samples of the data's length.
        """
        blocks = self.sample_blocks(n, seed)
        first = next(blocks)
        if len(first) == n:
            return first
        rows = np.empty((n, first.shape[1]), first.dtype)
        start = 0
        for block in itertools.chain([first], blocks):
            rows[start : start + len(block)] = block
            start += len(block)
        return rows

    def sample_blocks(self, n: int, seed: int) -> Iterator[np.ndarray]:
        """The same samples block by block: (m, d) at a time, so that no more than a few thousand are in memory.

        Args:
            n: number of samples.
            seed: the same seed gives the same samples.

        Yields:
            Arrays (m, d).

        Raises:
            InputError: `n` is not positive.
            RunError: the generator cannot be loaded, or does not make finite samples of the data's length.
        """
        G, d = self.load_generator(), self.config.data.shape[1]
        image_shape = self.config.data.image_shape
        for z in self._latent_blocks(G, n, seed):
            try:
                with torch.no_grad():
                    rows = torch.cat([to_rows(G(block), image_shape) for block in z.split(SAMPLE_ROWS)])
            except (RuntimeError, IndexError, MemoryError) as error:
                raise RunError(f"the generator of {self.path} cannot be run on its latents: {error}") from error
            if rows.shape[1] != d:
                raise RunError(
                    f"the generator of {self.path} makes samples of length {rows.shape[1]}, its data have {d}"
                )
            rows = rows * self.config.sample_scale + self.config.sample_offset
            if not bool(rows.isfinite().all()):
                raise RunError(f"the generator of {self.path} makes samples that are NaN or infinite; train it again")
            yield rows.numpy()

    def label_blocks(self, n: int, seed: int) -> Iterator[np.ndarray]:
        """Place of each sample's label, (m,) for every block of `sample_blocks`; of a run fitted class by class.

        Args:
            n: number of samples.
            seed: that of the samples.

        Raises:
            InputError: `n` is not positive, or the run was not fitted class by class.
            RunError: the generator cannot be loaded.
        """
        G = self.load_generator()
        if not isinstance(G, MixtureGenerator):
            raise InputError(f"{self.path} was not fitted class by class: its samples have no labels")
        for z in self._latent_blocks(G, n, seed):
            yield G.labels(z).numpy()

    def _latent_blocks(self, G: nn.Module, n: int, seed: int) -> Iterator[Tensor]:
        """The latents (m, k) of every block of samples."""
        if n < 1:
            raise InputError(f"`n` must be at least 1, got {n}")
        state = (t for t in (*G.parameters(), *G.buffers()) if t.is_floating_point())
        dtype = next((t.dtype for t in state), torch.float32)
        generator, done = torch.Generator().manual_seed(seed), 0
        while done < n:
            # no last block of a few: Gaussians drawn by blocks are those drawn at once, but for very short ones
            size = n - done if n - done < 2 * SAMPLE_ROWS else SAMPLE_ROWS
            try:
                z = draw_latents(self.config.latent, size, generator, dtype)
            except (RuntimeError, IndexError, MemoryError) as error:
                raise RunError(f"the generator of {self.path} cannot be run on its latents: {error}") from error
            yield z
            done += size

    def save_generator(self, G: nn.Module) -> None:
        """Replace `generator.safetensors` atomically."""
        self.write_bytes("generator.safetensors", state_bytes(G))

    def save_discriminator(self, D: nn.Module) -> None:
        """Replace `discriminator.safetensors` atomically."""
        self.write_bytes("discriminator.safetensors", state_bytes(D))

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Replace one file of the run atomically.

        Returns:
            Its path.

        Raises:
            RunError: the file cannot be written; the old one stays as it was.
        """
        return write_atomic(self.path / name, content)

    def write_text(self, name: str, content: str) -> Path:
        """Replace one text file of the run atomically, as UTF-8."""
        return self.write_bytes(name, content.encode())

    def write_json(self, name: str, value: Any) -> Path:
        """Replace one JSON file of the run atomically; results, arrays and tensors become plain JSON."""
        return self.write_text(name, json.dumps(plain(value), indent=1) + "\n")

    def read_json(self, name: str) -> Any:
        """Read one JSON file of the run.

        Raises:
            RunError: missing or damaged.
        """
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise RunError(f"{self.path / name} cannot be read ({error.strerror}); the run is incomplete") from error
        return parse_json(content, str(self.path / name))

    def with_options(self, options: Mapping[str, Any], line: str) -> Run:
        """Write `config.json` with other options, and one line more to type for making the run again.

        Raises:
            RunError: another process writes the run, or it cannot be written.
        """
        made = f"{self.config.command_line} && {line}" if self.config.command_line else ""
        config = self.config.model_copy(update={"options": dict(options), "command_line": made})
        self.write_text("config.json", config.model_dump_json(indent=1) + "\n")
        return dataclasses.replace(self, config=config)

    def has(self, name: str) -> bool:
        """Whether the run holds a file of that name."""
        return (self.path / name).exists()

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one line to `metrics.jsonl`; NaN and infinity are written as strings.

        Raises:
            RunError: the line cannot be written.
        """
        line = json.dumps(plain(row)) + "\n"
        with named(self.path / "metrics.jsonl"), (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line)

    def rewrite_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace `metrics.jsonl` atomically: what a resumed training does with lines later than its checkpoint."""
        self.write_text("metrics.jsonl", "".join(json.dumps(plain(row)) + "\n" for row in rows))

    def metrics(self) -> list[dict[str, Any]]:
        """Read `metrics.jsonl`; a last line cut off by a kill is dropped, a missing file is an empty list.

        Raises:
            RunError: a complete line is not a step with figures.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        with named(path, "read"):
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, 1):
            place = f"{path}, line {number}"
            row = parse_json(line, place)
            validated(_METRICS, row, place)
            rows.append(row)
        return rows


@contextlib.contextmanager
def create(
    path: str | Path,
    config: RunConfig,
    *,
    generator: nn.Module,
    discriminator: nn.Module | None,
    overwrite: bool = False,
) -> Iterator[Run]:
    """Stage a run beside `path`; when the block ends it is renamed into place, on any error it vanishes.

    Args:
        path: the run folder to make.
        config: what becomes `config.json`.
        generator: G, saved at once.
        discriminator: D, saved at once, or None.
        overwrite: replace an existing saddlegan run. A folder with anything else in it is never touched.

    Yields:
        The staged `Run`, to be filled. After the block use `Run.open(path)`.

    Raises:
        RunError: `path` exists, or cannot be written.
    """
    with _staged(path, config, generator=generator, discriminator=discriminator, overwrite=overwrite) as run:
        yield run


@contextlib.contextmanager
def begin(
    path: str | Path,
    config: RunConfig,
    *,
    generator: nn.Module,
    discriminator: nn.Module | None,
    overwrite: bool = False,
) -> Iterator[Run]:
    """Create a run with its config and first players, and hold its lock until the block ends.

    Args:
        path: the run folder to make.
        config: what becomes `config.json`.
        generator: G at the start.
        discriminator: D at the start, or None.
        overwrite: replace an existing saddlegan run.

    Yields:
        The run, at its final place.

    Raises:
        RunError: `path` exists, or cannot be written.
    """
    with contextlib.ExitStack() as held:
        with _staged(path, config, generator=generator, discriminator=discriminator, overwrite=overwrite, held=held):
            pass
        yield Run(Path(path), config)


@contextlib.contextmanager
def _staged(
    path: str | Path,
    config: RunConfig,
    *,
    generator: nn.Module,
    discriminator: nn.Module | None,
    overwrite: bool,
    held: contextlib.ExitStack | None = None,
) -> Iterator[Run]:
    """`create`; the lock of the new run goes on in `held` if given."""
    target = check_destination(path, overwrite=overwrite)
    missing = [parent for parent in target.parents if not parent.exists()]
    stage = files.hidden_name(target, files.PARTIAL)
    with contextlib.ExitStack() as stack:
        try:
            with named(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                stage.mkdir()
                lock = stack.enter_context(locks.lock(stage / LOCK))
                stack.enter_context(_holding(_key(stage)))
            run = Run(stage, config)
            run.write_text("config.json", config.model_dump_json(indent=1) + "\n")
            run.save_generator(generator)
            if discriminator is not None:
                run.save_discriminator(discriminator)
            yield run
            with named(target):
                _swap(stage, check_destination(target, overwrite=overwrite))
            lock.path = target / LOCK
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            for parent in missing:
                with contextlib.suppress(OSError):
                    parent.rmdir()
            raise
        if held is not None:
            held.push(stack.pop_all())


def check_destination(path: str | Path, *, overwrite: bool) -> Path:
    """Refuse a destination that holds something, before any work is done for it; remove what killed commands left.

    Args:
        path: where a run folder is to be made.
        overwrite: allow an existing saddlegan run.

    Returns:
        The resolved path.

    Raises:
        RunError: a file, the working folder, a foreign folder, a run without `overwrite`, or one that is being written.
    """
    with named(Path(path)):
        target = Path(path).resolve()
        files.sweep(target)
        if not target.exists():
            return target
        if not target.is_dir():
            raise RunError(f"`out` must be a folder to make, but {path} is a file; choose another path")
        if Path.cwd().is_relative_to(target):
            raise RunError(f"`out` must not be the working folder, got {path}; name a new folder in it")
        names = {entry.name for entry in target.iterdir()}
        holder = locks.holder(target / LOCK)
    if not names - {LOCK}:
        return target
    if holder is not None:
        raise RunError(_busy(Path(path), holder))
    if not overwrite:
        raise RunError(f"`out` must be a new folder, but {path} exists; choose another path or pass --overwrite")
    try:
        read_config(target / "config.json")
    except RunError as error:
        raise RunError(f"{path} is not a saddlegan run, so it is not overwritten; choose another path") from error
    foreign = sorted(n for n in names - OWN_FILES if not n.endswith((".safetensors", ".partial")))
    if foreign:
        raise RunError(
            f"{path} holds {foreign[0]!r}, which is not part of a run, so it is not overwritten; move it away"
        )
    return target


def _swap(stage: Path, target: Path) -> None:
    """Give a staged run its name; one that has it is exchanged, unless somebody writes it, and removed."""
    with contextlib.ExitStack() as stack:
        if target.exists():
            try:
                stack.enter_context(locks.lock(target / LOCK))
            except locks.HeldError as other:
                raise RunError(_busy(target, other.holder)) from other
        old = files.replace_folder(stage, target)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


_HELD: dict[tuple[int, int], int] = {}  # folders whose lock this process holds, by device and inode, and the thread


def _key(folder: Path) -> tuple[int, int]:
    found = folder.stat()  # keeps through a rename
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _holding(key: tuple[int, int]) -> Iterator[None]:
    _HELD[key] = threading.get_ident()
    try:
        yield
    finally:
        del _HELD[key]


def _busy(path: Path, holder: str) -> str:
    return f"{path} is being written by {holder}; wait until it is done, or end that first"
