"""What the commands say: pretty on a terminal, plain lines elsewhere; results on stdout, errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def say(line: str) -> None:
    """Write one plain line to standard output."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def complain(message: str) -> None:
    """Write one line to standard error: an error's own words on a single line."""
    sys.stderr.write("error: " + " ".join(message.split()) + "\n")


def notes(lines: Iterable[str]) -> None:
    """Say what was guessed or left out while reading, before anything is made of it."""
    for line in lines:
        say(f"read: {line}")


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
    Console().print(table)
