"""One run of an experiment: its seeds, its size, its data, and the parts of it that are done.

An experiment cuts its work into parts, each with a seed of its own, so that a part comes out the same whatever was
computed before it. Finished parts are kept in the run's folder: a run that was killed goes on behind the last of them.
"""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saddlegan.errors import RunError
from saddlegan.workbench.files import ARRAY_FAULTS, write_atomic

Part = dict[str, np.ndarray]
SECONDS = "seconds-taken"


def _silent(name: str) -> None:
    del name


@dataclasses.dataclass(frozen=True)
class Work:
    """What an experiment is given.

    Attributes:
        seeds: one repetition for each.
        full: the full size, else the one that ends within a minute.
        data: name or path of the data where the user chose some.
        folder: where finished parts are kept; nothing is kept if None.
        say: called with the name of every part that was computed.
        seconds_before: what the parts took that were computed by an earlier process.
    """

    seeds: Sequence[int]
    full: bool = False
    data: str | None = None
    folder: Path | None = None
    say: Callable[[str], None] = _silent
    seconds_before: list[float] = dataclasses.field(default_factory=list)

    def part(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> Part:
        """The arrays of one part: read where it was computed before, else computed and kept.

        Args:
            name: of the part; letters, digits, dots and dashes.
            compute: gives numbers and arrays by name.

        Raises:
            RunError: the part cannot be kept, or what was kept cannot be read.
        """
        path = None if self.folder is None else self.folder / f"{name}.npz"
        if path is not None and path.is_file():
            try:
                with np.load(path, allow_pickle=False) as kept:
                    found = dict(kept)
                self.seconds_before.append(float(found.pop(SECONDS)))
                return found
            except ARRAY_FAULTS as error:
                raise RunError(f"cannot read {path}: {error}; pass --overwrite to start anew") from error
        began = time.perf_counter()
        found = {key: np.asarray(value) for key, value in compute().items()}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            kept: Any = {SECONDS: np.float64(time.perf_counter() - began), **found}
            np.savez_compressed(buffer, **kept)
            write_atomic(path, buffer.getvalue())
        self.say(name)
        return found
