"""The `saddlegan` command.

A new command: one file in `commands/` with one function of the same name, and its name in `COMMANDS`. Commands raise
the same errors as Python does; `main` turns each into one line on standard error, in the words of the command line, and
exit code 2. Only the command that is called is built, so that no command waits for the options of another.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Annotated, Any

import typer

from saddlegan.errors import SaddleganError
from saddlegan.workbench.commands._call import Call, Outcome, registered
from saddlegan.workbench.terminal import console, messages

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
COMMANDS = (
    "data",
    "fit",
    "certify",
    "diagnose",
    "train",
    "sample",
    "measure",
    "reproduce",
    "compare",
    "explore",
    "report",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from saddlegan import __version__

        console.say(f"saddlegan {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    del version  # its callback did the work


def app_for(name: str | None) -> typer.Typer:
    """The application of one command alone, or of all of them.

    Args:
        name: the command; None for the list of all, each with its line of help.
    """
    completing = "_SADDLEGAN_COMPLETE" in os.environ
    app = typer.Typer(
        name="saddlegan",
        help="GAN training as a saddle-point problem: solve, train, certify, and look at the result.",
        add_completion=name is None,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    if name is not None:
        app.command(name)(registered(_function(name), name))
        return app
    app.callback()(_root)
    for each in COMMANDS:
        if completing:
            app.command(each)(registered(_function(each), each))
        else:
            app.command(each, help=_function(each).__doc__)(_unbuilt)
    return app


def _function(name: str) -> Callable[..., Outcome]:
    return getattr(importlib.import_module(f"saddlegan.workbench.commands.{name}"), name)


def _unbuilt() -> None:
    """Stand in the list of commands."""


def main() -> None:
    """Console entry: run a command, then leave with 0, 2 (bad input, damaged file, full disk) or 130 (interrupted)."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line in this process.

    Args:
        arguments: the words after `saddlegan`.

    Returns:
        The exit code.
    """
    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    if not arguments or arguments[0] in ("-h", "--help"):
        command: Any = typer.main.get_command(app_for(None))
        console.say(command.get_help(typer.Context(command, info_name="saddlegan")))
        return 0
    try:
        if name is None:
            code = app_for(None)(arguments, prog_name="saddlegan", standalone_mode=False)
        else:
            code = app_for(name)(arguments[1:], prog_name=f"saddlegan {name}", standalone_mode=False)
    except SaddleganError as error:
        return _refuse(str(error), arguments)
    except typer.Exit as leave:
        code = leave.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        outside = _outside_fault(error)
        if outside is not None:
            return _refuse(outside, arguments)
        if type(error).__module__.split(".")[0] not in ("click", "typer"):
            raise  # a bug keeps its traceback
        said = getattr(error, "format_message", None)
        return _refuse(str(error) if said is None else said(), arguments)
    if code == INTERRUPTED:  # some versions of typer turn an interrupt into this code themselves
        console.complain("interrupted")
    return code if isinstance(code, int) else 0


def _outside_fault(error: Exception) -> str | None:
    """What to say where the machine has no more memory or disk, which is no bug; None for everything else."""
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "can't allocate memory" in said:  # numpy's words and torch's
        return f"there is not enough memory ({said or 'none is left'}); ask for less, or take a larger machine"
    if isinstance(error, OSError) and error.errno in DISK_FAULTS:
        return f"cannot write {error.filename or 'the output'}: {error.strerror}; make room, or choose another place"
    return None


def parse(arguments: Sequence[str]) -> Call:
    """Read a command line without running it.

    Args:
        arguments: the words after `saddlegan`.

    Returns:
        The command with the value of each of its parameters.
    """
    command: Any = typer.main.get_command(app_for(arguments[0]))
    context = command.make_context(arguments[0], list(arguments[1:]))
    return Call(arguments[0], tuple(command.params), dict(context.params))


def _refuse(message: str, arguments: list[str]) -> int:
    """Report a fault in the words of the command line."""
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        command: Any = typer.main.get_command(app_for(name))
        message = messages.in_flags(message, Call(name, tuple(command.params), {}).flags())
    elif name and not name.startswith("-"):
        meant = messages.near(name, list(COMMANDS))
        message = f"there is no command {name!r}; there are: {', '.join(COMMANDS)}"
        message += "" if meant is None else f"; did you mean {meant!r}?"
    if message:
        console.complain(messages.suggested(message))
        if "--json" in arguments:
            console.write_json({"error": " ".join(message.split())})
    return 2


def _terminate(number: int, frame: FrameType | None) -> None:
    """Turn SIGTERM into an ordinary exit, so that staged files are removed."""
    del frame
    sys.exit(128 + number)
