"""The `saddlegan` command.

A new command: one file in `commands/` with one function of the same name, and its name in `COMMANDS`. Commands raise
the same errors as Python does; `main` turns each into one line on standard error, in the words of the command line, and
exit code 2. Only the command that is called is built, so that no command waits for the options of another.
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from saddlegan.errors import SaddleganError

if TYPE_CHECKING:
    import typer

    from saddlegan.workbench.commands._call import Call, Outcome

ABOUT = "GAN training as a saddle-point problem: solve, train, certify, and look at the result."
COMPLETION = ("--install-completion", "--show-completion")
FLAGS = {
    "--version": "Show the version and leave.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy or change it.",
    "-h, --help": "Show this message and leave.",
}
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


def overview() -> str:
    """The first page of help, from the commands' own words; it waits for no library."""
    lines = ["Usage: saddlegan [OPTIONS] COMMAND [ARGS]...", "", ABOUT, "", "Commands:"]
    for name in COMMANDS:
        # the first line of its docstring; importing the command, or parsing its file, would take ten times as long
        text = (Path(__file__).parent / "commands" / f"{name}.py").read_text(encoding="utf-8")
        found = re.search(rf'^def {name}\(.*?^    """(.*?)(?:"""|\n)', text, re.DOTALL | re.MULTILINE)
        lines += [f"  {name:<{max(map(len, COMMANDS))}}  {found[1] if found else ''}"]
    lines += ["", "Options:"]
    lines += [f"  {flag:<20}  {said}" for flag, said in FLAGS.items()]
    return "\n".join([*lines, "", "saddlegan COMMAND --help lists what a command takes."])


def app_for(name: str | None) -> typer.Typer:
    """The application of one command alone, or of all of them for the completion of shells.

    Args:
        name: the command, or None.
    """
    import typer

    from saddlegan.workbench.commands._call import registered

    completing = "_SADDLEGAN_COMPLETE" in os.environ
    app = typer.Typer(
        name="saddlegan",
        help=ABOUT,
        add_completion=name is None,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    if name is not None:
        app.command(name)(registered(_function(name), name))
        return app
    app.callback()(_unbuilt)
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


@functools.cache
def _command(name: str) -> Any:
    """One command, built once."""
    import typer

    return typer.main.get_command(app_for(name))


def main() -> None:
    """Console entry: run a command, then leave with 0, 2 (bad input, damaged file, full disk) or 130 (interrupted)."""
    import signal

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
    completing = "_SADDLEGAN_COMPLETE" in os.environ
    if not completing and (not arguments or arguments[0] in ("-h", "--help")):
        return _say(overview())
    if not completing and arguments[0] == "--version":
        from saddlegan import __version__

        return _say(f"saddlegan {__version__}")
    if name is None and not completing and arguments[0] not in COMPLETION:
        return _refuse("", arguments)
    import typer

    from saddlegan.workbench.terminal import console

    try:
        if name is None:
            code = app_for(None)(arguments, prog_name="saddlegan", standalone_mode=False)
        else:
            code = _command(name)(arguments[1:], prog_name=f"saddlegan {name}", standalone_mode=False)
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
    from saddlegan.workbench.commands._call import Call

    command = _command(arguments[0])
    context = command.make_context(arguments[0], list(arguments[1:]))
    return Call(arguments[0], tuple(command.params), dict(context.params))


def _refuse(message: str, arguments: list[str]) -> int:
    """Report a fault in the words of the command line."""
    from saddlegan.workbench.terminal import console, messages

    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        from saddlegan.workbench.commands._call import Call

        message = messages.of_usage(message, name)
        message = messages.in_flags(message, Call(name, tuple(_command(name).params), {}).flags())
    elif name.startswith("-"):
        message = f"there is no option {name}; there are: {', '.join([*FLAGS])}"
    else:
        meant = messages.near(name, list(COMMANDS))
        message = f"there is no command {name!r}; there are: {', '.join(COMMANDS)}"
        message += "" if meant is None else f"; did you mean {meant!r}?"
    if message:
        console.complain(messages.suggested(message))
        if "--json" in arguments:
            console.write_json({"error": " ".join(message.split())})
    return 2


def _say(text: str) -> int:
    sys.stdout.write(text + "\n")
    return 0


def _terminate(number: int, frame: FrameType | None) -> None:
    """Turn SIGTERM into an ordinary exit, so that staged files are removed."""
    del frame
    sys.exit(128 + number)
