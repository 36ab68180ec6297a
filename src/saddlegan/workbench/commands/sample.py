"""`saddlegan sample`: draw from a run's generator into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.terminal import console


def sample(
    run: options.RunArgument,
    out: Annotated[Path, typer.Option("--out", help="File to make: .png, .npy, .npz, .csv or .parquet.")],
    n: Annotated[int, typer.Option("-n", help="Number of samples.")] = 2500,
    seed: options.SeedOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    import_: options.ImportOption = None,
) -> None:
    """Draw samples from the generator of RUN; the same seed gives the same file."""
    options.check_seed(seed)
    from saddlegan.workbench.report import export
    from saddlegan.workbench.runs import folder as runs
    from saddlegan.workbench.saved import import_modules

    export.check_ending(out)
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; choose another name or pass --overwrite")
    import_modules(import_ or [])
    opened = runs.Run.open(run)
    export.write(opened.sample(n, seed), out, opened.config.data)
    console.say(str(out))
