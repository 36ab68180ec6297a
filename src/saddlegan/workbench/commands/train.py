"""`saddlegan train`: train a GAN on data with one of the rules, resumable to the bit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.terminal import console

if TYPE_CHECKING:
    from saddlegan.workbench.data.sources import Data
    from saddlegan.workbench.runs.folder import Run
    from saddlegan.workbench.training.loop import Ending
    from saddlegan.workbench.training.session import Session
    from saddlegan.workbench.training.watch import Watched

TRAINING_SAMPLES = 100_000  # drawn from a synthetic source: far more than the modes can be told from


def train(
    source: Annotated[str | None, typer.Argument(metavar="[DATA]", help="What to train on; not with --resume.")] = None,
    rule: Annotated[
        str | None, typer.Option("--rule", help="Training rule [primal-dual]; an unknown one is answered by the list.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option("--objective", help="vanilla, non-saturating, wasserstein, kl, ... [non-saturating].")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Total number of steps.")] = None,
    seed: options.SeedOption = 0,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Train so many seeds at once, from --seed on.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Real samples per step.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate of both players.")] = None,
    weight: Annotated[float | None, typer.Option("--weight", help="Weight of the primal-dual term.")] = None,
    lam: Annotated[
        float | None, typer.Option("--lam", help="Weight of the proximal term, of the rule and of --certify-every.")
    ] = None,
    r1: Annotated[float | None, typer.Option("--r1", help="Weight of the R1 penalty.")] = None,
    inner_steps: Annotated[int | None, typer.Option("--inner-steps", help="Inner steps of the rule.")] = None,
    n_critic: Annotated[int | None, typer.Option("--n-critic", help="Moves of D per step (alternating).")] = None,
    start: Annotated[str | None, typer.Option("--start", help="random, or collapsed:K for a recovery test.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="Any other option of the recipe, such as --set noise=0.1.")
    ] = None,
    metrics_every: Annotated[int | None, typer.Option("--metrics-every", help="Steps between metrics.")] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option("--checkpoint-every", help="Steps between checkpoints.")
    ] = None,
    keep: Annotated[int | None, typer.Option("--keep", help="Checkpoints to keep.")] = None,
    stop_when: Annotated[
        str | None, typer.Option("--stop-when", help='Early stopping, such as "high_quality>=0.95".')
    ] = None,
    certify_every: Annotated[
        int | None, typer.Option("--certify-every", help="Measure the proximal duality gap every so many steps.")
    ] = None,
    certify_objective: Annotated[
        str | None, typer.Option("--certify-objective", help="Zero-sum value to judge by [the objective].")
    ] = None,
    stop_below: Annotated[
        float | None, typer.Option("--stop-below", help="Stop once the gap plus twice its error is below.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard files.")] = False,
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with a run folder.")] = None,
    at: Annotated[int | None, typer.Option("--at", help="With --resume: from the checkpoint of this step.")] = None,
    out: options.OutOption = None,
    overwrite: options.OverwriteOption = False,
    skip_bad: options.SkipBadOption = False,
    n_samples: options.SamplesOption = None,
    image_shape: options.ImageShapeOption = None,
    header: options.HeaderOption = "auto",
    index: options.IndexOption = "auto",
    sep: options.SepOption = None,
    decimal: options.DecimalOption = None,
    na: options.NaOption = None,
) -> None:
    """Train a GAN on DATA, or go on with a run; write both players, metrics, checkpoints and a report."""
    chosen: dict[str, Any] = {
        "objective": objective,
        "steps": steps,
        "seeds": seeds,
        "batch": batch,
        "lr_generator": lr,
        "lr_discriminator": lr,
        "weight": weight,
        "lam": lam,
        "r1": r1,
        "inner_steps": inner_steps,
        "n_critic": n_critic,
        "start": start,
        "metrics_every": metrics_every,
        "checkpoint_every": checkpoint_every,
        "keep": keep,
        "certify_every": certify_every,
        "certify_objective": certify_objective,
        "stop_below": stop_below,
    }
    chosen = {name: value for name, value in chosen.items() if value is not None}
    chosen.update(parse_settings(option or []))
    if resume is not None:
        if source is not None or rule is not None or chosen or out is not None:
            raise InputError("`resume` takes everything from the run; give no DATA and no training options with it")
        _go_on(resume, at=at, stop_when=stop_when, tensorboard=tensorboard)
        return
    if source is None:
        raise InputError("`DATA` is missing: a built-in name, a folder of images or a file; or --resume RUN")
    if at is not None:
        raise InputError("`at` belongs to --resume")
    out = options.default_out(out, source)
    options.check_seed(seed)
    shape = options.parse_image_shape(image_shape)
    table = options.table_options(header, index, sep, decimal, na)
    from saddlegan.workbench.runs import folder as runs

    runs.check_destination(out, overwrite=overwrite)
    from saddlegan import objectives
    from saddlegan.workbench.data import sources, synthetic
    from saddlegan.workbench.training.recipe import DEFAULT_RULE, defaults_for, make_recipe
    from saddlegan.workbench.training.session import Session, config_of

    name = rule or DEFAULT_RULE
    make_recipe(rule=name)  # before any data are read

    if objective is not None:
        objectives.get(objective)
    if n_samples is None and source in synthetic.SOURCES and source != "digits":
        n_samples = TRAINING_SAMPLES
    data = sources.load(
        source, n_samples=n_samples, random_state=seed, skip_bad=skip_bad, image_shape=shape, table=table
    )
    console.notes(data.notes)
    defaults = defaults_for(data, name, chosen.get("start", "random"))
    recipe = make_recipe(**{**defaults, "rule": name, "seed": seed, **chosen})
    callbacks = _callbacks(stop_when)
    session = Session(recipe, data)
    watched = _watched(session, data)
    words = ["saddlegan", "train", source, "--rule", name, "--seed", str(seed)]
    for key, value in chosen.items():
        words += ["--set", f"{key}={','.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"]
    words += ["--n-samples", str(n_samples)] if n_samples is not None else []
    words += ["--image-shape", image_shape] if image_shape is not None else []
    words += options.table_words(table)
    words += ["--skip-bad"] if skip_bad else []
    config = config_of(session, data, command_line=shlex.join([*words, "--out", str(out)]))
    with runs.begin(
        out,
        config,
        generator=session.generators()[0],
        discriminator=session.discriminators()[0],
        overwrite=overwrite,
    ) as run:
        _train(run, session, data, callbacks=callbacks, watched=watched, tensorboard=tensorboard)


def parse_settings(words: list[str]) -> dict[str, Any]:
    """Read `--set NAME=VALUE`: numbers, true or false, words, and several values with commas.

    Raises:
        InputError: not NAME=VALUE.

    Example:
        >>> parse_settings(["noise=0.1", "hidden=64,64", "persistent=false"])
        {'noise': '0.1', 'hidden': ['64', '64'], 'persistent': 'false'}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not mark or not name:
            raise InputError(f"`set` must read NAME=VALUE, such as noise=0.1, got {word!r}")
        several = name in ("hidden", "bandwidths", "fourier")
        found[name] = [part for part in value.split(",") if part] if several else value
    return found


def _go_on(path: Path, *, at: int | None, stop_when: str | None, tensorboard: bool) -> None:
    from saddlegan.workbench.data import sources
    from saddlegan.workbench.runs.folder import Run
    from saddlegan.workbench.training import loop
    from saddlegan.workbench.training.recipe import make_recipe
    from saddlegan.workbench.training.session import Session

    run = Run.open(path)
    if run.config.command != "train":
        raise InputError(f"`resume` must name a training run; {path} was made by `saddlegan {run.config.command}`")
    with run.writing():
        data = sources.load_spec(run.config.data)
        session = Session(make_recipe(**run.config.options), data)
        done = loop.resume(session, run, fingerprint=loop.fingerprint(run), at=at)
        console.say(f"resuming at step {done:,} of {session.recipe.steps:,}")
        watched = _watched(session, data)
        _train(run, session, data, callbacks=_callbacks(stop_when), watched=watched, tensorboard=tensorboard)


def _callbacks(stop_when: str | None) -> list[Any]:
    from saddlegan.workbench.training.loop import StopWhen

    return [] if stop_when is None else [StopWhen(stop_when)]


def _watched(session: Session, data: Data) -> Watched | None:
    if session.recipe.certify_every == 0:
        return None
    from saddlegan.workbench.training.watch import Watched

    return Watched(session, data)


def _train(
    run: Run, session: Session, data: Data, *, callbacks: list[Any], watched: Watched | None, tensorboard: bool
) -> None:
    from saddlegan.workbench.report import export
    from saddlegan.workbench.report import page as report
    from saddlegan.workbench.report.scene import title_of
    from saddlegan.workbench.training import callbacks as watching
    from saddlegan.workbench.training import loop, memory

    memory.keep_freed()
    if tensorboard:
        callbacks = [*callbacks, watching.TensorBoard(run.path / "tensorboard")]
    if watched is not None:
        callbacks = [watched, *callbacks]
    with watching.shown(session) as shown:
        ending = loop.train(
            session,
            run,
            data,
            fingerprint=loop.fingerprint(run),
            callbacks=[*callbacks, shown],
            metrics=None if watched is None else watched.figures,
        )
    _save_replicas(run, session)
    export.write_preview(run)
    report.write(run, data=data)
    console.facts(title_of(run), summary(run, ending))
    _say_ending(run, ending)


def _save_replicas(run: Run, session: Any) -> None:
    from saddlegan.workbench.runs.players import state_bytes

    if session.recipe.seeds > 1:
        for number, G in enumerate(session.generators()):
            run.write_bytes(f"generator-seed-{session.recipe.seed + number}.safetensors", state_bytes(G))


def _say_ending(run: Run, ending: Ending) -> None:
    if ending.reason == "interrupted":
        console.say(f"interrupted and saved; go on with: saddlegan train --resume {shlex.quote(str(run.path))}")
        raise typer.Exit(128 + ending.signal)
    if ending.reason == "non-finite":
        raise InputError(
            f"a loss became NaN, infinite or huge in step {ending.done:,}; {run.path} keeps its last good checkpoint. "
            "Lower --lr, raise --r1, or clean the data of outliers"
        )
    console.say(str(run.path / "report.html"))


def summary(run: Run, ending: Ending) -> list[tuple[str, str]]:
    """What a user reads when the training ends: the last line of metrics, with its spread over seeds."""
    import numpy as np

    rows = [("steps", f"{ending.done:,} of {run.config.options['steps']:,}")]
    last = (run.metrics() or [{}])[-1]
    for name, value in last.items():
        if name == "step" or not isinstance(value, (int, float)):
            continue
        by_seed = last.get(f"{name}_by_seed")
        words = f"{value:.4g}"
        if by_seed:
            words += f" +- {np.std(by_seed):.2g} over {len(by_seed)} seeds ({', '.join(f'{v:.3g}' for v in by_seed)})"
        if name == "high_quality":
            words += " (a perfect sampler: 0.9889)"
        rows.append((name.replace("_", " "), words))
    rate = ending.done / ending.seconds if ending.seconds > 0 else 0.0
    return [*rows, ("seconds", f"{ending.seconds:.1f}" + (f", {rate:.0f} steps a second" if rate else ""))]
