"""`saddlegan measure`: samples of a run or of a file against data, each figure beside what real rows get."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.terminal import console

LEAST = 24  # `quality.LEAST`, which waits for torch; a test compares them


def measure(
    samples: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run folder, or a file of samples.")],
    against: Annotated[
        str | None, typer.Option("--against", metavar="DATA", help="Data to compare with [the run's own].")
    ] = None,
    n: Annotated[
        int, options.numeric(int, "-n", "Rows of each sample at most.", least=LEAST, otherwise="1,000")
    ] = 1000,
    features: Annotated[
        str, typer.Option("--features", help="What distances look at: auto, numbers, imagenet or a TorchScript file.")
    ] = "auto",
    image_shape: options.ImageShapeOption = None,
    header: options.HeaderOption = "auto",
    index: options.IndexOption = "auto",
    sep: options.SepOption = None,
    decimal: options.DecimalOption = None,
    na: options.NaOption = None,
    columns: options.ColumnsOption = None,
    drop: options.DropOption = None,
    one_hot: options.OneHotOption = False,
    standardise: options.StandardiseOption = False,
    seed: options.SeedOption = 0,
    import_: options.ImportOption = None,
) -> Outcome:
    """Measure the samples of RUN or FILE against DATA.

    Options of tables hold for both files. What is measured against a RUN is read in the run's own columns and units.
    """
    options.check_features(features)
    shape = options.parse_image_shape(image_shape)
    is_run = (samples / "config.json").is_file()
    if against is None and not is_run:
        raise InputError(f"`--against` must name the data, as {samples} is not a run folder")
    if is_run:
        options.check_run(samples, import_)
    for name in (against, None if is_run else str(samples)):
        if name is not None:
            options.check_source(name)
    table = options.table_options(header, index, sep, decimal, na, columns, drop, one_hot, standardise)
    from saddlegan.workbench.data import pyramid, sources
    from saddlegan.workbench.report import quality
    from saddlegan.workbench.runs.folder import Run
    from saddlegan.workbench.runs.opened import data_of
    from saddlegan.workbench.saved import import_modules

    import_modules(import_ or [])
    if is_run:
        run = Run.open(samples)
        if against is None and table != type(table)():
            raise InputError(
                f"`columns`, `drop` and the other options of tables belong to --against; {samples} has its own"
            )
        rows = run.sample(n, seed)
        spec = run.config.data
        data = data_of(run) if against is None else sources.load_like(against, spec, image_shape=shape, table=table)
    else:
        data = sources.load(str(against), image_shape=shape, table=table if Path(str(against)).is_file() else None)
        made = sources.load_like(str(samples), data.spec, image_shape=None, table=table)
        rows = made.X
        console.notes(made.notes)
    if against is not None:
        console.notes(data.notes)
    found = quality.measure(
        data.X,
        rows,
        image_shape=data.image_shape,
        value_range=data.value_range,
        seed=seed,
        n=n,
        features=features,
        labels=sources.labels_of(data),
        cache=pyramid.default_cache(),
    )
    facts = [(name, quality.verdict(each)) for name, each in found.measures.items()]
    console.facts(f"{samples} against {data.name}", [*facts, ("rows", f"{found.n:,}"), ("features", found.features)])
    return Outcome(found.plain())
