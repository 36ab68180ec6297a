"""The `saddlegan` command.

A new command: one file in `commands/` with one function, and one line here. Commands raise the same errors as Python
does; `main` turns each into one line on standard error and exit code 2.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from saddlegan.errors import SaddleganError
from saddlegan.workbench.commands import certify, compare, data, explore, fit, measure, report, reproduce, sample, train
from saddlegan.workbench.terminal import console

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    name="saddlegan",
    help="GAN training as a saddle-point problem: solve, train, certify, and look at the result.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from saddlegan import __version__

        console.say(f"saddlegan {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    del version  # its callback did the work
    if context.invoked_subcommand is None:
        console.say(context.get_help())


app.command("data")(data.data)
app.command("fit")(fit.fit)
app.command("certify")(certify.certify)
app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("measure")(measure.measure)
app.command("reproduce")(reproduce.reproduce)
app.command("compare")(compare.compare)
app.command("explore")(explore.explore)
app.command("report")(report.report)


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
    try:
        code = app(arguments, prog_name="saddlegan", standalone_mode=False)
    except SaddleganError as error:
        console.complain(str(error))
        return 2
    except typer.Exit as leave:
        code = leave.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        return _usage_error(error)
    if code == INTERRUPTED:  # some versions of typer turn an interrupt into this code themselves
        console.complain("interrupted")
    return code if isinstance(code, int) else 0


def _usage_error(error: Exception) -> int:
    """Report a wrong command line as one line; any other exception is a bug and keeps its traceback."""
    if type(error).__module__.split(".")[0] not in ("click", "typer"):
        raise error
    message = str(getattr(error, "format_message", lambda: error)())
    if message:
        console.complain(message)
    return 2


def _terminate(number: int, frame: FrameType | None) -> None:
    """Turn SIGTERM into an ordinary exit, so that staged files are removed."""
    del frame
    sys.exit(128 + number)
