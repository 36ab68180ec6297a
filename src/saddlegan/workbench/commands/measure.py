"""`saddlegan measure`: samples of a run or of a file against data, each figure beside what real rows get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.terminal import console


def measure(
    samples: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run folder, or a file of samples.")],
    against: Annotated[
        str | None, typer.Option("--against", metavar="DATA", help="Data to compare with [the run's own].")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Rows of each sample at most.")] = 1000,
    image_shape: options.ImageShapeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    seed: options.SeedOption = 0,
) -> None:
    """Measure the samples of RUN or FILE against DATA."""
    options.check_seed(seed)
    shape = options.parse_image_shape(image_shape)
    is_run = (samples / "config.json").is_file()
    if against is None and not is_run:
        raise InputError(f"`--against` must name the data, as {samples} is not a run folder")
    from saddlegan.workbench.data import sources
    from saddlegan.workbench.report import quality
    from saddlegan.workbench.runs.folder import Run
    from saddlegan.workbench.runs.opened import data_of

    if n < quality.LEAST:
        raise InputError(f"`n` must be at least {quality.LEAST}, got {n}")
    if is_run:
        run = Run.open(samples)
        rows = run.sample(n, seed)
        data = data_of(run) if against is None else sources.load(against, image_shape=shape)
    else:
        rows, data = sources.load(str(samples)).X, sources.load(str(against), image_shape=shape)
    found = quality.measure(data.X, rows, image_shape=data.image_shape, value_range=data.value_range, seed=seed, n=n)
    if as_json:
        console.say(json.dumps(found.plain()))
        return
    facts = [(name, quality.verdict(each)) for name, each in found.measures.items()]
    console.facts(f"{samples} against {data.name}", [*facts, ("rows", f"{found.n:,}"), ("features", found.features)])
