"""`saddlegan train`: train a GAN on data with one of the rules, resumable to the bit."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _generated as generated
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Call, Outcome, options_from
from saddlegan.workbench.terminal import console
from saddlegan.workbench.training.logs import LOGS, check_log, opened_log
from saddlegan.workbench.training.stopping import StopWhen

if TYPE_CHECKING:
    from saddlegan.game import Game
    from saddlegan.workbench.data.sources import Data
    from saddlegan.workbench.runs.config import RunConfig
    from saddlegan.workbench.runs.folder import Run
    from saddlegan.workbench.training.loop import Ending
    from saddlegan.workbench.training.place import Place
    from saddlegan.workbench.training.recipe import Recipe
    from saddlegan.workbench.training.session import Session
    from saddlegan.workbench.training.watch import Watched

TRAINING_SAMPLES = 100_000  # drawn from a synthetic source: far more than the modes can be told from


@options_from(lambda: generated.of_recipe(skip=["seed"]))
def train(
    call: Call,
    chosen: dict[str, Any],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="What to train on, or MODULE:FUNCTION that makes a Game, with --data; not with --resume.",
        ),
    ] = None,
    data: options.PairDataOption = None,
    lr: Annotated[
        float | None,
        options.numeric(float, "--lr", "Learning rate of both players.", above=0, otherwise="what suits the data"),
    ] = None,
    seed: options.SeedOption = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any option of the recipe by its Python word, such as --set r1_every=4."),
    ] = None,
    stop_when: Annotated[
        str | None, typer.Option("--stop-when", help='Early stopping, such as "high_quality>=0.95".')
    ] = None,
    device: options.DeviceOption = "auto",
    log: Annotated[
        list[str] | None,
        options.choice("--log", "Also log every line of metrics there; repeat it for more.", *LOGS),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Short for --log tensorboard.")] = False,
    resume: Annotated[Path | None, typer.Option("--resume", help="Go on with a run folder.")] = None,
    at: Annotated[
        int | None,
        options.numeric(
            int, "--at", "With --resume: from the checkpoint of this step.", least=0, otherwise="the last checkpoint"
        ),
    ] = None,
    import_: options.ImportOption = None,
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
    columns: options.ColumnsOption = None,
    drop: options.DropOption = None,
    one_hot: options.OneHotOption = False,
    standardise: options.StandardiseOption = False,
) -> Outcome:
    """Train a GAN on DATA, or go on with a run; write both players, metrics, checkpoints and a report.

    An option that is not given has the value that suits the data; [in brackets] stands what suits mixtures.
    """
    from saddlegan.workbench.training.recipe import (
        DEFAULT_RULE,
        OF_THE_GAME,
        OWN,
        defaults_for,
        make_recipe,
        read_settings,
    )

    chosen = {**({} if lr is None else {"lr_generator": lr, "lr_discriminator": lr}), **chosen}
    chosen.update(read_settings(setting or []))
    asked = {*(log or []), *(["tensorboard"] if tensorboard else [])}
    logs = tuple(word for word in LOGS if word in asked)
    for word in logs:
        check_log(word)
    aside = _Aside(stop_when=None if stop_when is None else StopWhen(stop_when), logs=logs)
    if resume is not None:
        steps = chosen.pop("steps", None)
        if source is not None or data is not None or chosen or out is not None:
            raise InputError("`resume` takes all but `steps` from the run; give no DATA and no other training options")
        options.check_run(resume)
        from saddlegan.workbench.training.place import device_of, placed

        with placed(device_of(device)) as here, console.silent(not here.first):
            console.say(here.sentence)
            return _go_on(resume, at=at, steps=steps, modules=import_ or [], here=here, aside=aside)
    if source is None:
        raise InputError("`DATA` is missing: a built-in name, a folder of images or a file; or --resume RUN")
    if at is not None:
        raise InputError("`at` belongs to --resume")
    where = source
    if options.check_pair_of(source, data):
        where, chosen["network"] = str(data), source
    out = options.default_out(out, source)
    options.check_new(out, overwrite=overwrite)
    options.check_source(where)
    shape = options.parse_image_shape(image_shape)
    table = options.table_options(header, index, sep, decimal, na, columns, drop, one_hot, standardise)
    own = make_recipe(**chosen).own  # before any data are read
    foreign = [name for name in OF_THE_GAME if name in chosen]
    if own and foreign:
        raise InputError(f"`{foreign[0]}` is what the game of {chosen['network']} says; set it there")

    from saddlegan.workbench import saved
    from saddlegan.workbench.data import sources, synthetic
    from saddlegan.workbench.runs.folder import check_destination
    from saddlegan.workbench.training.place import device_of, placed

    with placed(device_of(device)) as here, console.silent(not here.first):
        console.say(here.sentence)
        if here.first:
            check_destination(out, overwrite=overwrite)
        rule = chosen.get("rule", DEFAULT_RULE)
        if n_samples is None and where in synthetic.SOURCES and where != "digits":
            n_samples = TRAINING_SAMPLES
        saved.import_modules(import_ or [])
        game = saved.trainable_game(chosen["network"], seed) if own else None
        with here.one_after_another():
            real = sources.load(
                where, n_samples=n_samples, random_state=seed, skip_bad=skip_bad, image_shape=shape, table=table
            )
        console.notes(real.notes)
        if game is not None and (said := saved.said_of_bytes(game, real.X)):
            console.say(said)
        if game is None:
            suited = defaults_for(real, rule, chosen.get("start", "random"))
        else:
            suited = {**OWN, "objective": game.objective.name, "bits": 0, "gaussians": game.latent}
        recipe = make_recipe(**{**suited, "seed": seed, **chosen})
        resolved = {} if n_samples is None else {"n_samples": n_samples}
        line = call.line(source=source, rule=rule, seed=seed, **resolved, out=out)
        free = "norm" not in chosen
        return _begin(
            recipe, real, game, out=out, overwrite=overwrite, line=line, free_norm=free, here=here, aside=aside
        )


@dataclasses.dataclass(frozen=True)
class _Aside:
    """What goes on beside a training."""

    stop_when: StopWhen | None
    logs: tuple[str, ...]


def _begin(
    recipe: Recipe,
    data: Data,
    game: Game | None,
    *,
    out: Path,
    overwrite: bool,
    line: str,
    free_norm: bool,
    here: Place,
    aside: _Aside,
) -> Outcome:
    """Train from the start."""
    from saddlegan.workbench.commands._judge import norm_for
    from saddlegan.workbench.runs import folder as runs
    from saddlegan.workbench.training.session import Session, config_of

    session = Session(recipe, data, game=game, place=here)
    if recipe.certify_every and recipe.rule != "proximal" and free_norm:
        norm, said = norm_for(session.discriminators()[0], None)
        if said:
            console.say(said)
            # the norm of certificates alone: nothing in the session was made with it
            session.recipe = recipe.model_copy(update={"norm": norm})
    if not here.first:
        return _followed(session)
    watched = _watched(session, data)
    with runs.begin(
        out,
        config_of(session, data, command_line=line),
        generator=session.generators()[0],
        discriminator=session.discriminators()[0],
        overwrite=overwrite,
    ) as run:
        return _train(run, session, data, watched=watched, aside=aside)


def _followed(session: Session) -> Outcome:
    """Train beside the process that writes."""
    from saddlegan.workbench.training import loop

    ending = loop.follow(session)
    code = 128 + ending.signal if ending.reason == "interrupted" else 2 if ending.reason == "non-finite" else 0
    return Outcome({}, code, said=False)


def _go_on(path: Path, *, at: int | None, steps: int | None, modules: list[str], here: Place, aside: _Aside) -> Outcome:
    from saddlegan.workbench import saved
    from saddlegan.workbench.data import sources
    from saddlegan.workbench.runs import checkpoints
    from saddlegan.workbench.runs.folder import Run
    from saddlegan.workbench.training import loop
    from saddlegan.workbench.training.recipe import make_recipe
    from saddlegan.workbench.training.session import Session, config_of

    run = Run.open(path)
    if run.config.command != "train":
        raise InputError(f"`resume` must name a training run; {path} was made by `saddlegan {run.config.command}`")
    recipe = longer = make_recipe(**run.config.options)
    if steps is not None:
        if int(steps) < recipe.steps:
            raise InputError(f"`steps` must be at least {recipe.steps}, the length of {path}, got {steps}")
        longer = make_recipe(**{**run.config.options, "steps": steps})
    module = recipe.network.partition(":")[0]
    if recipe.own and module not in modules:
        raise InputError(f"the pair of {path} is made by {recipe.network}: pass --import {module}")
    saved.import_modules(modules)
    game = saved.trainable_game(recipe.network, recipe.seed) if recipe.own else None
    with contextlib.ExitStack() as held:
        if here.first:
            held.enter_context(run.writing())
        data = sources.load_spec(run.config.data)
        session = Session(longer, data, game=game, place=here)
        if recipe.own:
            _check_same(run, config_of(session, data, command_line=""))
        changed = _lengthened(run, recipe, longer, at=at)
        mark = loop.fingerprint(run)
        if not here.first:
            session.load_state_dict(checkpoints.read(run.path / "checkpoint", fingerprint=mark, at=at)[1])
            return _followed(session)
        done = loop.resume(session, run, fingerprint=mark, at=at)
        if longer != recipe:
            run = run.with_options(longer.model_dump(mode="json"), shlex.join(_lengthening(path, longer.steps, at)))
        if changed:
            console.say(
                f"from here on the new length sets: {', '.join(changed)}; one run of {steps:,} had others before"
            )
        console.say(f"resuming at step {done:,} of {session.recipe.steps:,}")
        return _train(run, session, data, watched=_watched(session, data), aside=aside)


def _check_same(run: Run, config: RunConfig) -> None:
    """Refuse a pair that is another than the run's.

    Raises:
        InputError: the networks, the objective or the latents have changed.
    """
    for name in ("generator", "discriminator", "objective", "latent"):
        if getattr(run.config, name) != getattr(config, name):
            raise InputError(f"the {name} of {config.options['network']} is another than the run {run.path} began with")


def _lengthening(path: Path, steps: int, at: int | None) -> list[str]:
    """The words that make a run longer."""
    words = ["saddlegan", "train", "--resume", str(path), "--steps", str(steps)]
    return words if at is None else [*words, "--at", str(at)]


def _lengthened(run: Run, recipe: Recipe, longer: Recipe, *, at: int | None) -> list[str]:
    """Schedules that would have been others until now in a run of the new length.

    Raises:
        InputError: there are some, and the run is not at its end: nobody could make it again.
    """
    from saddlegan.workbench.runs import checkpoints

    steps = checkpoints.list_steps(run.path / "checkpoint")
    done = at if at is not None else steps[-1] if steps else 0
    changed = longer.other_schedules(recipe, done)
    if changed and done != recipe.steps:
        raise InputError(
            f"`steps`: {run.path} is at step {done:,} of {recipe.steps:,} and its {', '.join(changed)} depend on the "
            "length; finish it first with --resume alone"
        )
    return changed


def _watched(session: Session, data: Data) -> Watched | None:
    if session.recipe.certify_every == 0:
        return None
    from saddlegan.workbench.training.watch import Watched

    watched = Watched(session, data)
    if watched.said:
        console.say(watched.said)
    return watched


def _train(run: Run, session: Session, data: Data, *, watched: Watched | None, aside: _Aside) -> Outcome:
    from saddlegan.workbench.report import export
    from saddlegan.workbench.report import page as report
    from saddlegan.workbench.report.scene import title_of
    from saddlegan.workbench.training import callbacks as watching
    from saddlegan.workbench.training import loop, memory
    from saddlegan.workbench.training.place import threads_for

    memory.keep_freed()
    callbacks: list[Any] = [each for each in (watched, aside.stop_when) if each is not None]
    with contextlib.ExitStack() as opened:
        opened.enter_context(threads_for(*session.generators(), *session.discriminators()))
        shown = opened.enter_context(watching.shown(session))
        for word in aside.logs:
            log = opened.enter_context(opened_log(word, run.path, run.config.options))
            callbacks = [*callbacks, watching.Logged(log)]
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
    return _ended(run, ending, session.place)


def _save_replicas(run: Run, session: Any) -> None:
    from saddlegan.workbench.runs.players import state_bytes

    if session.recipe.seeds > 1:
        for number, G in enumerate(session.generators()):
            run.write_bytes(f"generator-seed-{session.recipe.seed + number}.safetensors", state_bytes(G))


def _ended(run: Run, ending: Ending, place: Place) -> Outcome:
    """Say how it ended.

    Raises:
        InputError: in a loss that is not finite.
    """
    if ending.reason == "non-finite":
        raise InputError(
            f"a loss became NaN, infinite or huge in step {ending.done:,}; {run.path} keeps its last good checkpoint. "
            "Lower --lr, raise --r1, or clean the data of outliers"
        )
    if ending.reason == "interrupted":
        console.say(f"interrupted and saved; go on with: saddlegan train --resume {shlex.quote(str(run.path))}")
    else:
        console.say(str(run.path / "report.html"))
    found = {
        "run": str(run.path),
        "report": str(run.path / "report.html"),
        "device": place.device.type,
        "processes": place.size,
        "ending": ending.reason,
        "steps": ending.done,
        "metrics": (run.metrics() or [{}])[-1],
    }
    return Outcome(found, 128 + ending.signal if ending.reason == "interrupted" else 0)


def summary(run: Run, ending: Ending) -> list[tuple[str, str]]:
    """What a user reads when the training ends: the last line of metrics, with its spread over seeds."""
    import numpy as np

    from saddlegan.workbench.report.sections.trained import GAINS

    rows = [("steps", f"{ending.done:,} of {run.config.options['steps']:,}")]
    last = (run.metrics() or [{}])[-1]
    for name, value in last.items():
        if name == "step" or not isinstance(value, (int, float)):
            continue
        by_seed = last.get(f"{name}_by_seed")
        words = f"{value:.4g}" if name not in GAINS or value >= 0 else "none found"
        if by_seed:
            words += f" +- {np.std(by_seed):.2g} over {len(by_seed)} seeds ({', '.join(f'{v:.3g}' for v in by_seed)})"
        if name == "high_quality":
            words += " (a perfect sampler: 0.9889)"
        rows.append((name.replace("_", " "), words))
    rate = ending.done / ending.seconds if ending.seconds > 0 else 0.0
    return [*rows, ("seconds", f"{ending.seconds:.1f}" + (f", {rate:.0f} steps a second" if rate else ""))]
