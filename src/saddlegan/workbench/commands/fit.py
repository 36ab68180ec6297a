"""`saddlegan fit`: solve a WGAN exactly and write a run with its certificate and report."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _generated as generated
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Call, Outcome, options_from
from saddlegan.workbench.commands._summary import classes_told, facts, summary
from saddlegan.workbench.terminal import console
from saddlegan.workbench.terminal.progress import progress

if TYPE_CHECKING:
    from saddlegan.networks import AbstractFeatures
    from saddlegan.workbench.data.sources import Data

MAX_FEATURES = 20_000  # beyond that the features' k x k moment fills the memory
PROGRESSIVE = "progressive"
ALONE = 0.99  # share of the variance beyond which one column is nearly all that is seen
UNIT_ROWS = 1 << 14  # rows on which that is looked at
ENGINES = ("serial", "threads", "distributed", "dask")

DISTRIBUTED = "distributed"

# what the command line says in words of its own: --features, --seed, --cache, --engine and the progress bar
OWN = ("features", "random_state", "checkpoint", "progress", "engine")


@options_from(lambda: generated.of_solvers(skip=OWN))
def fit(
    call: Call,
    source: options.DataArgument,
    chosen: dict[str, Any],
    model: Annotated[
        str,
        options.choice(
            "--model", "The discriminator to solve against [quadratic].", *generated.solvers(), show_default=False
        ),
    ] = "quadratic",
    features: Annotated[
        str, typer.Option("--features", help="none, relu:NUMBER (random ReLU features) or polynomial:DEGREE.")
    ] = "none",
    progressive: Annotated[
        bool, typer.Option("--progressive", help="Short for --model progressive: images, coarse to fine.")
    ] = False,
    crop: Annotated[
        str | None, typer.Option("--crop", help="With --progressive: SIZE@X,Y in every file; CelebA: 128@89,121.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="With --progressive: where decoded images are kept.")
    ] = None,
    engine: Annotated[
        str,
        options.choice(
            "--engine",
            "With --progressive: where sums are computed; distributed: processes of torchrun [serial].",
            *ENGINES,
            show_default=False,
        ),
    ] = "serial",
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", help="With --engine dask: its address; every worker must see the same files."),
    ] = None,
    header: options.HeaderOption = "auto",
    index: options.IndexOption = "auto",
    sep: options.SepOption = None,
    decimal: options.DecimalOption = None,
    na: options.NaOption = None,
    columns: options.ColumnsOption = None,
    drop: options.DropOption = None,
    one_hot: options.OneHotOption = False,
    standardise: options.StandardiseOption = False,
    n_samples: options.SamplesOption = None,
    image_shape: options.ImageShapeOption = None,
    by_class: options.ByClassOption = False,
    labels: options.LabelsOption = None,
    skip_bad: options.SkipBadOption = False,
    seed: options.SeedOption = 0,
    out: options.OutOption = None,
    overwrite: options.OverwriteOption = False,
) -> Outcome:
    """Solve a WGAN of DATA exactly; write the generator, the proof of optimality and a report."""
    out = options.default_out(out, source)
    model = PROGRESSIVE if progressive else model
    known = generated.arguments_of(model)
    for name in chosen:
        if name not in known:
            owners = [word for word in generated.solvers() if name in generated.arguments_of(word)]
            raise InputError(f"`{name}` belongs to --model {' or '.join(owners)}, not to {model}")
        if isinstance(chosen[name], str) and known[name].kind == "float":
            raise InputError(f"`{name}` must be a number for --model {model}, got {chosen[name]!r}")
    if "features" not in known and features != "none":
        raise InputError("`features` belongs to the quadratic model")
    if (engine == "dask") != (scheduler is not None):
        raise InputError("`--engine dask` and `--scheduler ADDRESS` belong together, such as tcp://10.0.0.1:8786")
    shape = options.parse_image_shape(image_shape)
    options.check_source(source)
    options.check_new(out, overwrite=overwrite)
    table = options.table_options(header, index, sep, decimal, na, columns, drop, one_hot, standardise)
    kind = parse_features(features)
    box = options.parse_crop(crop)
    if engine == DISTRIBUTED and "RANK" not in os.environ:
        raise InputError(
            "`engine` distributed needs processes: torchrun --nproc-per-node 2 -m saddlegan fit ...; or take threads"
        )
    if labels is not None and not by_class:
        raise InputError("`labels` belongs to --by-class")
    said = (labels or "") if by_class else None
    if model == PROGRESSIVE:
        if table != type(table)():
            raise InputError("`header`, `columns` and the other options of tables do not belong to --progressive")
        from saddlegan.workbench.commands._progressive import fit_progressive

        return fit_progressive(
            source,
            chosen,
            crop=box,
            cache=cache,
            engine=engine,
            scheduler=scheduler,
            image_shape=shape,
            labels=said,
            out=out,
            overwrite=overwrite,
            seed=seed,
            skip_bad=skip_bad,
            command_line=call.line(seed=seed, out=out),
        )
    if crop is not None or cache is not None or engine != "serial":
        raise InputError("`crop`, `cache` and `engine` belong to --progressive")
    started = time.perf_counter()

    from saddlegan import fit as door
    from saddlegan.workbench.commands import _solved as solved
    from saddlegan.workbench.data import sources
    from saddlegan.workbench.report.scene import title_of
    from saddlegan.workbench.runs import folder as runs

    runs.check_destination(out, overwrite=overwrite)
    if said and sources.names_column(source, said):
        table = table.model_copy(update={"labels": said})
    data = sources.load(
        source, n_samples=n_samples, random_state=seed, skip_bad=skip_bad, image_shape=shape, table=table
    )
    if said is not None:
        data = sources.labelled(data, said)
    console.notes(data.notes)
    if one := said_of_units(data):
        console.say(one)
    given = dict(chosen)
    if kind is not None:
        given["features"] = make_features(kind, n_latent=given.get("n_latent", known["n_latent"].default), seed=seed)
    if "random_state" in known:
        given["random_state"] = seed
    with progress("steps") as show:
        if "progress" in known:
            given["progress"] = show
        estimator: Any = door.ESTIMATORS[model](**given)
        plain = (int, float, str, tuple, list)
        kept = {n: v for n, v in estimator.get_params().items() if isinstance(v, plain) and n != "random_state"}
        shown = {name: value for name, value in kept.items() if name in chosen or name in SAID}
        by_label = None if data.labels is None else door.ByClass(estimator).fit(data.X, data.labels)
        if by_label is None:
            estimator.fit(data.X)
    made = solved.Made(
        model=model,
        options={"center": False, **kept, "features": features},
        seed=seed,
        command_line=call.line(source=source, model=model, seed=seed, out=out, **shown),
    )
    if by_label is not None:
        solved.write_classes(out, by_label, data, made, overwrite=overwrite)
        return classes_told(out, by_label, seconds=time.perf_counter() - started)
    run = solved.write(out, estimator, data, made, overwrite=overwrite)
    console.facts(title_of(run), summary(estimator.solution_, seconds=time.perf_counter() - started))
    console.say(str(out / "report.html"))
    return Outcome(facts(out, estimator.solution_))


SAID = ("n_latent", "beta", "center")  # said in the line to type again, given or not


def said_of_units(data: Data) -> str:
    """A word on a table one of whose columns has nearly all the variance, in its units; "" for other data."""
    if data.spec.columns is None or data.spec.units is not None or data.X.shape[1] < 3:
        return ""
    variances = data.X[:UNIT_ROWS].astype("float64").var(0)
    place = int(variances.argmax())
    if not variances[place] > ALONE * variances.sum():
        return ""
    share = variances[place] / variances.sum()
    return (
        f"column {data.spec.columns[place]!r} has {share:.1%} of the variance in the units of the file, and the solver "
        "will see little else; --standardise gives every column the same weight"
    )


def parse_features(text: str) -> tuple[str, int] | None:
    """Read `--features`: "none", "relu:256" or "polynomial:2".

    Raises:
        InputError: anything else.
    """
    kind, _, argument = text.partition(":")
    if kind == "none" and not argument:
        return None
    if kind not in ("relu", "polynomial") or not argument.isdecimal() or not 0 < int(argument) <= MAX_FEATURES:
        raise InputError(f"`features` must be none, relu:NUMBER or polynomial:DEGREE, such as relu:256, got {text!r}")
    return kind, int(argument)


def make_features(kind: tuple[str, int], *, n_latent: int, seed: int) -> AbstractFeatures:
    """The features that `--features` names.

    Raises:
        InputError: more than fit in memory.
    """
    from torch import Generator

    from saddlegan.networks import PolynomialFeatures, ReLUFeatures

    word, size = kind
    if word == "relu":
        return ReLUFeatures(n_latent, size, generator=Generator().manual_seed(seed))
    if math.comb(n_latent + size, n_latent) > MAX_FEATURES:
        raise InputError(
            f"`features` polynomial:{size} of {n_latent} latents are more than {MAX_FEATURES:,}; lower the degree"
        )
    return PolynomialFeatures(n_latent, degree=size)
