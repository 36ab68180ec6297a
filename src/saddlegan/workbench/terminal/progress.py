"""A progress bar with its rate on a terminal, a plain line now and then elsewhere; both on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from saddlegan.workbench.terminal import console

SECONDS = 5.0  # between plain lines


class Progress(Protocol):
    """What long work calls as it comes along."""

    def __call__(self, label: str, done: int, total: int | None, figures: str = "") -> None:
        """Show how far it is.

        Args:
            label: what is being done.
            done: how much of it.
            total: how much in all; None where nobody knows.
            figures: what to show beside the bar.
        """
        ...


def on_terminal() -> bool:
    """Whether a bar can be drawn: it goes to standard error."""
    return sys.stderr.isatty()


@contextlib.contextmanager
def progress(unit: str = "images") -> Iterator[Progress]:
    """Give a function that shows how far long work has come.

    Args:
        unit: what is counted.
    """
    if console.is_silent():
        yield _nothing
    elif on_terminal():
        with _bar(unit) as update:
            yield update
    else:
        yield _Lines(unit)


def _nothing(label: str, done: int, total: int | None, figures: str = "") -> None:
    """Another process shows it."""
    del label, done, total, figures


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
        TextColumn("{task.fields[figures]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rate="", figures="")
        meter = _Meter()

        def update(label: str, done: int, total: int | None, figures: str = "") -> None:
            rate = f"{_digits(meter(label, done))} {unit}/s"
            bar.update(task, description=label, completed=done, total=total, rate=rate, figures=figures)

        yield update


class _Meter:
    """Rate since the label last changed."""

    def __init__(self) -> None:
        self._label, self._done, self._since = "", 0, time.monotonic()

    def __call__(self, label: str, done: int) -> float:
        if label != self._label or done < self._done:
            self._label, self._done, self._since = label, done, time.monotonic()
        return (done - self._done) / max(1e-9, time.monotonic() - self._since)


def _digits(rate: float) -> str:
    """Whole numbers where they say enough, else two digits: experiments finish parts by the minute."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


class _Lines:
    def __init__(self, unit: str) -> None:
        self._unit, self._meter, self._last = unit, _Meter(), time.monotonic()

    def __call__(self, label: str, done: int, total: int | None, figures: str = "") -> None:
        rate = self._meter(label, done)
        if time.monotonic() - self._last >= SECONDS:
            self._last = time.monotonic()
            of = "" if total is None else f" of {total:,}"
            beside = f"  {figures}" if figures else ""
            sys.stderr.write(f"{label}: {done:,}{of} {self._unit}, {_digits(rate)} a second{beside}\n")
