"""`saddlegan sample`: draw from a run's generator into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.terminal import console


def sample(
    run: options.RunArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="File to make: .png, .npy, .npz, .csv, .parquet or .xlsx; - for CSV on standard output."
        ),
    ],
    n: Annotated[int, options.numeric(int, "-n", "Number of samples.", least=1, otherwise="2,500")] = 2500,
    label: Annotated[
        str | None, typer.Option("--label", help="Of a run with --by-class: samples of this label alone.")
    ] = None,
    seed: options.SeedOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    import_: options.ImportOption = None,
) -> Outcome:
    """Draw samples from the generator of RUN; the same seed gives the same file."""
    options.check_ending(out, options.ENDINGS)
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; choose another name or pass --overwrite")
    options.check_run(run, import_)
    from saddlegan.workbench.report import export
    from saddlegan.workbench.runs import classes
    from saddlegan.workbench.runs import folder as runs
    from saddlegan.workbench.saved import import_modules

    import_modules(import_ or [])
    opened = runs.Run.open(run)
    labels = None
    if label is not None:
        opened = classes.of_label(opened, label)
    elif classes.read_labels(opened):
        if out.suffix.lower() in export.UNLABELLED:
            console.say(f"{out.suffix} keeps no labels; .npz, .csv, .parquet and .xlsx do")
        else:
            labels = export.Labels(classes.column_name(opened), classes.sampled(opened, n, seed))
    with options.written(out, ".csv") as path:
        export.write_blocks(opened.sample_blocks(n, seed), n, path, opened.config.data, labels)
    return Outcome({"file": str(out), "n": n, "seed": seed, "label": label})
