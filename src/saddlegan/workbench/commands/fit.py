"""`saddlegan fit`: solve a WGAN exactly and write a run with its certificate and report."""

from __future__ import annotations

import math
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._summary import summary
from saddlegan.workbench.terminal import console

if TYPE_CHECKING:
    from saddlegan.networks import AbstractFeatures

MAX_FEATURES = 20_000  # beyond that the features' k x k moment fills the memory


def fit(
    source: options.DataArgument,
    model: Annotated[
        Literal["quadratic", "linear"], typer.Option("--model", help="The discriminator to solve against.")
    ] = "quadratic",
    n_latent: Annotated[int, typer.Option("--n-latent", help="Length of a latent.")] = 16,
    beta: Annotated[
        str | None,
        typer.Option("--beta", help="Right side of the constraint: a number, or auto [quadratic: auto; linear: 0]."),
    ] = None,
    center: Annotated[
        bool | None,
        typer.Option("--center/--no-center", help="Subtract the mean first [quadratic: yes; linear: no]."),
    ] = None,
    features: Annotated[
        str, typer.Option("--features", help="none, relu:NUMBER (random ReLU features) or polynomial:DEGREE.")
    ] = "none",
    header: options.HeaderOption = "auto",
    index: options.IndexOption = "auto",
    sep: options.SepOption = None,
    decimal: options.DecimalOption = None,
    na: options.NaOption = None,
    seed: options.SeedOption = 0,
    out: options.OutOption = None,
    overwrite: options.OverwriteOption = False,
    skip_bad: options.SkipBadOption = False,
    n_samples: options.SamplesOption = None,
    image_shape: options.ImageShapeOption = None,
    progressive: Annotated[
        bool, typer.Option("--progressive", help="Images, coarse to fine: ProCoGAN with a proof at every resolution.")
    ] = False,
    resolutions: Annotated[
        str | None, typer.Option("--resolutions", help="With --progressive: sides of the stages, such as 4,8,16,32.")
    ] = None,
    n_components: Annotated[
        str | None, typer.Option("--n-components", help="With --progressive: components of each stage [20,30,40,100].")
    ] = None,
    crop: Annotated[
        str | None, typer.Option("--crop", help="With --progressive: SIZE@X,Y in every file; CelebA: 128@89,121.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="With --progressive: where decoded images are kept.")
    ] = None,
    engine: Annotated[
        Literal["serial", "threads"], typer.Option("--engine", help="With --progressive: where sums are computed.")
    ] = "serial",
) -> None:
    """Solve a WGAN of DATA exactly; write the generator, the proof of optimality and a report."""
    out = options.default_out(out, source)
    if progressive:
        options.check_seed(seed)
        given = {"--resolutions": resolutions, "--n-components": n_components, "--crop": crop}
        from saddlegan.workbench.commands._progressive import fit_progressive

        fit_progressive(
            source, given, cache, engine, image_shape, out=out, overwrite=overwrite, seed=seed, skip_bad=skip_bad
        )
        return
    if any(option is not None for option in (resolutions, n_components, crop, cache)):
        raise InputError("`--resolutions`, `--n-components`, `--crop` and `--cache` belong to --progressive")
    options.check_seed(seed)
    shape = options.parse_image_shape(image_shape)
    table = options.table_options(header, index, sep, decimal, na)
    centered = model == "quadratic" if center is None else center

    from saddlegan import fit as door
    from saddlegan.results import as_dict
    from saddlegan.workbench.data import sources
    from saddlegan.workbench.report import export
    from saddlegan.workbench.report import page as report
    from saddlegan.workbench.report.scene import title_of
    from saddlegan.workbench.runs import folder as runs
    from saddlegan.workbench.runs import players
    from saddlegan.workbench.runs.config import LatentSpec, RunConfig

    level = parse_beta(beta, model)
    runs.check_destination(out, overwrite=overwrite)
    started = time.perf_counter()
    data = sources.load(
        source, n_samples=n_samples, random_state=seed, skip_bad=skip_bad, image_shape=shape, table=table
    )
    console.notes(data.notes)
    phi = parse_features(features, n_latent=n_latent, seed=seed)
    if model == "linear":
        if phi is not None:
            raise InputError("`features` belongs to the quadratic model; a linear one makes a single point")
        estimator = door.LinearWGAN(beta=0.0 if level == "auto" else float(level), center=centered)
    else:
        estimator = door.QuadraticWGAN(n_latent, beta=level, center=centered, features=phi, random_state=seed)
    estimator.fit(data.X)
    solution = estimator.solution_
    words = ["saddlegan", "fit", source, "--model", model]
    words += ["--n-latent", str(n_latent)] if model == "quadratic" else []
    words += ["--beta", str(level), "--center" if centered else "--no-center"]
    words += ["--features", features] if phi is not None else []
    words += ["--n-samples", str(n_samples)] if n_samples is not None else []
    words += ["--image-shape", image_shape] if image_shape is not None else []
    words += ["--skip-bad"] if skip_bad else []
    words += options.table_words(table)
    config = RunConfig(
        command="fit",
        model=model,
        data=data.spec,
        latent=LatentSpec(size=1 if model == "linear" else n_latent),
        generator=players.network_spec(estimator.generator_),
        discriminator=players.network_spec(estimator.discriminator_),
        seed=seed,
        options={"n_latent": n_latent, "beta": level, "center": centered, "features": features},
        command_line=shlex.join([*words, "--seed", str(seed), "--out", str(out)]),
    )
    with runs.create(
        out, config, generator=estimator.generator_, discriminator=estimator.discriminator_, overwrite=overwrite
    ) as run:
        spectrum = estimator.spectrum_.tolist() if isinstance(estimator, door.QuadraticWGAN) else []
        run.write_json("certificate.json", {"solution": as_dict(solution), "spectrum": spectrum})
        export.write_preview(run)
        report.write(run, data=data)
    console.facts(title_of(run), summary(solution, seconds=time.perf_counter() - started))
    console.say(str(out / "report.html"))


def parse_beta(text: str | None, model: str) -> float | str:
    """Read `--beta`, and refuse it in the words of the estimator.

    Raises:
        InputError: not a finite number >= 0 (or, for the quadratic model, "auto").
    """
    from saddlegan.fit._base import check_beta

    auto = model == "quadratic"
    if text is None:
        return "auto" if auto else 0.0
    try:
        level: float | str = float(text)
    except ValueError:
        level = text
    check_beta(level, auto=auto)
    return level


def parse_features(text: str, *, n_latent: int, seed: int) -> AbstractFeatures | None:
    """Read `--features`: "none", "relu:256" or "polynomial:2".

    Raises:
        InputError: anything else.
    """
    from torch import Generator

    from saddlegan.networks import PolynomialFeatures, ReLUFeatures

    kind, _, argument = text.partition(":")
    if kind == "none" and not argument:
        return None
    if kind not in ("relu", "polynomial") or not argument.isdecimal() or not 0 < int(argument) <= MAX_FEATURES:
        raise InputError(f"`features` must be none, relu:NUMBER or polynomial:DEGREE, such as relu:256, got {text!r}")
    from saddlegan import checks

    n_latent = checks.count("n_latent", n_latent)
    if kind == "relu":
        return ReLUFeatures(n_latent, int(argument), generator=Generator().manual_seed(seed))
    if math.comb(n_latent + int(argument), n_latent) > MAX_FEATURES:
        raise InputError(f"`features` {text} of {n_latent} latents are more than {MAX_FEATURES:,}; lower the degree")
    return PolynomialFeatures(n_latent, degree=int(argument))
