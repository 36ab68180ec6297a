"""`saddlegan reproduce`: a paper's claim re-done, with our verdict."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.terminal import console, source
from saddlegan.workbench.terminal.progress import progress

QUICK_SEEDS = 2


def reproduce(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="An experiment; all are listed without.")] = None,
    full: Annotated[bool, typer.Option("--full/--quick", help="Full size, or one that ends within a minute.")] = False,
    seeds: Annotated[
        int | None,
        options.numeric(
            int, "--seeds", "Seeds, counted from 0 [as many as are needed].", least=1, otherwise="as many as are needed"
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Pictures by name or path, where it takes some.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make [runs/reproduce-NAME].")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")] = False,
) -> Outcome:
    """Re-do the experiment NAME of a paper: the claim, what is found, and a verdict.

    A run that was broken off goes on in the same folder behind its last finished part.
    """
    if name is not None and name not in (known := source.experiments()):
        raise InputError(f"`NAME` must be one of {', '.join(known)}, got {name!r}")
    from saddlegan.workbench.reproductions import folder, registry

    if name is None:
        found = [(e.name, f"{e.claim} ({e.paper})") for e in registry.EXPERIMENTS.values()]
        console.facts("Experiments", found)
        return Outcome(dict(found))
    experiment = registry.find(name)
    wanted = seeds if seeds is not None else experiment.seeds if full else min(QUICK_SEEDS, experiment.seeds)
    path = out if out is not None else Path("runs") / f"reproduce-{name}"
    done = itertools.count(1)
    with progress("parts") as show:
        result = folder.reproduce(
            experiment,
            path,
            full=full,
            seeds=wanted,
            data=data,
            overwrite=overwrite,
            say=lambda part: show("computed", next(done), None, part),
        )
    rows = [(c["claim"], f"{'holds' if c['holds'] else 'does not hold'}: {c['found']}") for c in result["checks"]]
    console.facts(experiment.claim, [*rows, ("verdict", result["verdict"]), ("seconds", f"{result['seconds']:g}")])
    console.say(str(path / "report.html"))
    return Outcome(result)
