"""What the commands say: pretty on a terminal, plain lines elsewhere; results on stdout, errors on stderr.

With `--json`, or where a file goes to standard output, standard output belongs to a program: what is meant for people
then goes to standard error.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from saddlegan.workbench.terminal import messages

OF_TABLES = {name: f"--{name}" for name in ("header", "index", "sep", "decimal", "na", "drop")}  # what notes name

_silent: contextvars.ContextVar[bool] = contextvars.ContextVar("silent", default=False)
_for_programs: contextvars.ContextVar[bool] = contextvars.ContextVar("for_programs", default=False)


@contextlib.contextmanager
def for_programs(wanted: bool = True) -> Iterator[None]:
    """Keep standard output free for a program while the block runs."""
    before = _for_programs.set(wanted or _for_programs.get())
    try:
        yield
    finally:
        _for_programs.reset(before)


@contextlib.contextmanager
def silent(wanted: bool = True) -> Iterator[None]:
    """Say nothing while the block runs: another process says it."""
    before = _silent.set(wanted or _silent.get())
    try:
        yield
    finally:
        _silent.reset(before)


def is_silent() -> bool:
    """Whether another process speaks for this one."""
    return _silent.get()


def write_json(value: Mapping[str, Any]) -> None:
    """Write one JSON object to standard output; NaN and infinity are strings, paths too."""
    sys.stdout.write(json.dumps(_plain(value)) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    """Plain JSON; whoever has results, arrays or tensors makes them plain first."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _people() -> TextIO:
    return sys.stderr if _for_programs.get() else sys.stdout


def on_terminal() -> bool:
    """Whether what is said goes to a terminal."""
    return _people().isatty()


def say(line: str) -> None:
    """Write one plain line to standard output."""
    if _silent.get():
        return
    _people().write(line + "\n")
    _people().flush()


def complain(message: str) -> None:
    """Write one line to standard error: an error's own words on a single line."""
    sys.stderr.write("error: " + " ".join(message.split()) + "\n")


def notes(lines: Iterable[str]) -> None:
    """Say what was guessed or left out while reading, before anything is made of it."""
    for line in lines:
        say(f"read: {messages.in_flags(line, OF_TABLES)}")


def facts(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Show named facts: a small table on a terminal, `name: value` lines elsewhere.

    Args:
        title: heading of the table.
        rows: name and value of each fact.
    """
    rows = list(rows)
    if not on_terminal():
        for name, value in rows:
            say(f"{name}: {value}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, show_header=False, title_justify="left", title_style="bold", border_style="dim")
    table.add_column(style="cyan")
    table.add_column()
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    Console(file=_people()).print(table)
