"""`saddlegan certify`: which equilibrium a run's pair is at, written into its certificate and report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, cast

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.terminal import console
from saddlegan.workbench.terminal.progress import progress

NORMS = ("sobolev", "l2", "parameters")


def certify(
    run: options.PairArgument,
    lam: Annotated[
        list[float] | None,
        options.numeric(
            float,
            "--lam",
            "Proximal weight to judge at; repeat it for more [0.1 1 10].",
            least=0,
            otherwise="0.1, 1 and 10",
        ),
    ] = None,
    norm: Annotated[
        str | None,
        options.choice("--norm", "Distance of the proximal term [sobolev; l2 for a piecewise linear D].", *NORMS),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option("--objective", help="Zero-sum value to judge by [the run's objective, or its zero-sum twin]."),
    ] = None,
    steps: Annotated[int, options.numeric(int, "--steps", "Steps of each search.", least=1, otherwise="200")] = 200,
    restarts: Annotated[
        int,
        options.numeric(int, "--restarts", "Starts of each search; below 3 none is far.", least=1, otherwise="3"),
    ] = 3,
    batch_size: Annotated[int, options.numeric(int, "--batch-size", "Samples a step.", least=2, otherwise="64")] = 64,
    learning_rate: Annotated[
        float, options.numeric(float, "--learning-rate", "Change of the output a step.", above=0, otherwise="0.1")
    ] = 0.1,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Search the generator even where the discriminator alone refutes.")
    ] = False,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    data: options.PairDataOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With MODULE:FUNCTION: the run folder to make [runs/FUNCTION].")
    ] = None,
    overwrite: options.OverwriteOption = False,
    import_: options.ImportOption = None,
) -> Outcome:
    """Judge the pair of RUN from Stackelberg to Nash; write certificate.json and the report."""
    lams = lam or [0.1, 1.0, 10.0]
    if objective is not None:
        options.check_objective(objective)
    folder = Path(run)
    own = options.check_pair(run, data, import_)
    if out is not None and not own:
        raise InputError("`out` belongs to MODULE:FUNCTION; a run folder is judged where it is")
    from saddlegan.certify import Norm, Search
    from saddlegan.workbench import saved
    from saddlegan.workbench.commands import _judge
    from saddlegan.workbench.report import page as report
    from saddlegan.workbench.report.sections.equilibrium import KEY, UNSEARCHED, in_words, unsearched
    from saddlegan.workbench.runs import opened as runs
    from saddlegan.workbench.runs.folder import check_destination
    from saddlegan.workbench.training.place import Place, device_of

    here = Place(device_of(device))
    if device != "auto" or here.device.type != "cpu":
        console.say(here.sentence)
    saved.import_modules(import_ or [])
    if own:
        folder = Path("runs") / run.partition(":")[2] if out is None else out
        check_destination(folder, overwrite=overwrite)
        saved.save(folder, saved.game_from(run), data=data, overwrite=overwrite)
    opened = runs.load(folder, device=here.device)
    if own and (said := saved.said_of_bytes(opened.game, opened.data.X)):
        console.say(said)
    value, said = _judge.value_of(opened, objective)
    distance, said_too = _judge.norm_for(opened.run.load_discriminator(), cast(Norm | None, norm))
    for line in filter(None, (said, said_too)):
        console.say(line)
    with progress("%") as show:
        search = Search(
            steps=steps,
            restarts=restarts,
            batch_size=batch_size,
            learning_rate=learning_rate,
            callback=lambda who, share: show(f"search of the {who}", round(100 * share), 100),
        )
        found = _judge.judge(
            opened, objective=value, lams=lams, norm=distance, search=search, seed=seed, thorough=thorough
        )
    path = report.write(opened.run, data=opened.data)
    rows = []
    for weight, certificate in zip(found.lams, found.certificates, strict=True):
        gain = certificate.generator_gain
        size = "unbounded" if math.isinf(gain) else "not measured" if math.isnan(gain) else f"{gain:.4g}"
        words = f"{certificate.verdict} (gains: generator {size}, discriminator {certificate.discriminator_gain:.4g})"
        rows.append((in_words(weight), words))
    console.facts(f"Equilibrium of {run}", rows)
    console.say(found.sentence)
    if unsearched(found):
        console.say(UNSEARCHED)
    console.say(str(path))
    return Outcome({"run": str(folder), "report": str(path), **opened.run.read_json("certificate.json")[KEY]})
