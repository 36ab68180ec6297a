"""`saddlegan data`: list the built-in sources, or describe one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.terminal import console, messages

SHOWN = 100


def data(
    source: Annotated[str | None, typer.Argument(metavar="[DATA]", help="What to describe; nothing lists all.")] = None,
    n_samples: options.SamplesOption = None,
    seed: options.SeedOption = 0,
    skip_bad: options.SkipBadOption = False,
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
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the first rows: .png, .npy, .npz, .csv, .parquet or .xlsx.")
    ] = None,
) -> Outcome:
    """List the built-in data, or describe DATA: shape, range, mean and spread."""
    if source is None:
        from saddlegan.workbench.data import synthetic

        console.facts("Built-in data", [(name, entry.line) for name, entry in synthetic.SOURCES.items()])
        console.say("or a path: a folder of images, a .npy, .npz, .csv, .tsv, .parquet or .xlsx file")
        return Outcome({"sources": {name: entry.line for name, entry in synthetic.SOURCES.items()}})
    shape = options.parse_image_shape(image_shape)
    if out is not None:
        options.check_ending(out, options.ENDINGS)
    options.check_source(source)
    table = options.table_options(header, index, sep, decimal, na, columns, drop, one_hot, standardise)
    from saddlegan.moments._second_moment import second_moment
    from saddlegan.workbench.data import sources
    from saddlegan.workbench.report import export

    found = sources.load(
        source, n_samples=n_samples, random_state=seed, skip_bad=skip_bad, image_shape=shape, table=table
    )
    moment = second_moment(found.X, center=True)
    leading = moment.eigenpairs(1)
    n, d = found.X.shape
    facts: dict[str, Any] = {
        "source": source,
        "what": found.description,
        "rows": n,
        "columns": d,
        "type": found.X.dtype.name,
        "range": [float(found.X.min()), float(found.X.max())],
        "norm_of_mean": float(moment.mean.norm()),
        "total_variance": moment.trace(),
        "largest_variance": float(leading.values[0]),
        "image_shape": found.image_shape,
        "modes": None if found.centers is None else len(found.centers),
        "sd": found.sd,
        "skipped": list(found.skipped),
        "notes": list(found.notes),
    }
    low, high = facts["range"]
    rows = [
        ("what", found.description),
        ("rows", f"{n:,}"),
        ("values per row", f"{d:,}"),
        ("type", facts["type"]),
        ("range", f"{low:.6g} to {high:.6g}"),
        ("norm of the mean", f"{facts['norm_of_mean']:.6g}"),
        ("total variance", f"{facts['total_variance']:.6g}"),
        ("largest variance", f"{facts['largest_variance']:.6g} along one direction"),
    ]
    if found.image_shape is not None:
        rows.insert(3, ("image", " x ".join(map(str, found.image_shape))))
    if found.centers is not None:
        rows.append(("modes", f"{len(found.centers)}, sd {found.sd:g}"))
    if found.skipped:
        rows.append(("skipped", f"{len(found.skipped)} unreadable: {', '.join(found.skipped[:3])}"))
    rows += [("read", messages.in_flags(note, console.OF_TABLES)) for note in found.notes]
    console.facts(source, rows)
    if out is not None:
        with options.written(out, ".csv") as path:
            export.write(found.X[: SHOWN if found.image_shape else 2500], path, found.spec)
        facts["file"] = str(out)
    return Outcome(facts)
