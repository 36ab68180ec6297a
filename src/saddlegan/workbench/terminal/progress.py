"""A progress bar with its rate on a terminal, a plain line now and then elsewhere; both on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

SECONDS = 5.0  # between plain lines

Progress = Callable[[str, int, int], None]


@contextlib.contextmanager
def progress(unit: str = "images") -> Iterator[Progress]:
    """Give a function (label, done, in all) that shows how far long work has come.

    Args:
        unit: what is counted.
    """
    if sys.stderr.isatty():
        with _bar(unit) as update:
            yield update
    else:
        yield _Lines(unit)


@contextlib.contextmanager
def _bar(unit: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rate="")
        meter = _Meter()

        def update(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total, rate=f"{meter(label, done):,.0f} {unit}/s")

        yield update


class _Meter:
    """Rate since the label last changed."""

    def __init__(self) -> None:
        self._label, self._done, self._since = "", 0, time.monotonic()

    def __call__(self, label: str, done: int) -> float:
        if label != self._label or done < self._done:
            self._label, self._done, self._since = label, done, time.monotonic()
        return (done - self._done) / max(1e-9, time.monotonic() - self._since)


class _Lines:
    def __init__(self, unit: str) -> None:
        self._unit, self._meter, self._last = unit, _Meter(), time.monotonic()

    def __call__(self, label: str, done: int, total: int) -> None:
        rate = self._meter(label, done)
        if time.monotonic() - self._last >= SECONDS:
            self._last = time.monotonic()
            sys.stderr.write(f"{label}: {done:,} of {total:,} {self._unit}, {rate:,.0f} a second\n")
