"""`saddlegan explore`: a page on which a solved generator's latents can be moved by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.terminal import console


def explore(
    run: options.RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Page to write, or - for standard output [RUN/explorer.html].")
    ] = None,
    import_: options.ImportOption = None,
) -> Outcome:
    """Write the explorer of RUN: samples, latents and beta to play with, in one page that opens offline."""
    options.check_run(run, import_)
    from saddlegan.workbench.report import explorer
    from saddlegan.workbench.runs import folder as runs
    from saddlegan.workbench.saved import import_modules

    import_modules(import_ or [])
    opened = runs.Run.open(run)
    if out is None:
        path = explorer.write(opened, None)
        console.say(str(path))
        return Outcome({"page": str(path)})
    with options.written(out, ".html") as path:
        explorer.write(opened, path)
    return Outcome({"page": str(out)})
