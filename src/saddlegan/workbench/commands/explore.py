"""`saddlegan explore`: a page on which a solved generator's latents can be moved by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.terminal import console


def explore(
    run: options.RunArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Page to write [RUN/explorer.html].")] = None,
) -> None:
    """Write the explorer of RUN: samples, latents and beta to play with, in one page that opens offline."""
    from saddlegan.workbench.report import explorer
    from saddlegan.workbench.runs import folder as runs

    console.say(str(explorer.write(runs.Run.open(run), out)))
