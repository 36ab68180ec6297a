"""`saddlegan diagnose`: what is wrong with a pair, in plain words, and what to change next."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.terminal import console


def diagnose(
    run: options.PairArgument,
    data: options.PairDataOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--report", help="Also write a page: a new .html file; - prints it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing page.")] = False,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    import_: options.ImportOption = None,
) -> Outcome:
    """Say what is wrong with the pair of RUN, if anything, and what to change next."""
    if out is not None:
        options.check_ending(out, (".html",))
        if out.exists() and not overwrite:
            raise InputError(f"{out} exists; choose another name or pass --overwrite")
    own = options.check_pair(run, data, import_)
    from saddlegan import certify
    from saddlegan.workbench import files, saved
    from saddlegan.workbench.data import sources
    from saddlegan.workbench.report.sections import findings
    from saddlegan.workbench.runs import opened as runs
    from saddlegan.workbench.training.place import Place, device_of, threads_for

    here = Place(device_of(device))
    saved.import_modules(import_ or [])
    solved, only = False, ""
    if own:
        game = saved.game_from(run)
        rows = sources.load(str(data))
        if units := saved.said_of_bytes(game, rows.X):
            with console.for_programs(out == options.STANDARD_OUTPUT):
                console.say(units)
        game.G.to(here.device)
        game.D.to(here.device)
        X = runs.shaped(game, rows.X, image_shape=rows.image_shape, of=run).to(here.device)
        with threads_for(game.G, game.D):
            found = certify.diagnose(game, X, random_state=seed)
    else:
        opened = runs.load(run, device=here.device)
        solved = opened.solution is not None
        with threads_for(opened.game.G, opened.game.D):
            found = findings.of_run(opened, opened.data.X, seed=seed)
        only = findings.ONE_POINT if solved and opened.run.config.model == "linear" else ""
    faults, said = findings.in_words(found, solved=solved)
    if only:
        faults, said = ["one point"], [(only, "bad")]
    found = dataclasses.replace(found, faults=tuple(faults), sentences=tuple(words for words, _ in said))
    with console.for_programs(out == options.STANDARD_OUTPUT):
        if device != "auto" or here.device.type != "cpu":
            console.say(here.sentence)
        for sentence in found.sentences:
            console.say(sentence)
    if out is not None:
        with options.written(out, ".html") as path, files.named(path):
            files.sweep(path)
            found.report(path)
    facts = {name: value for name, value in found.as_dict().items() if name != "certificates"}
    return Outcome({"of": run, **facts, **({} if out is None else {"report": str(out)})})
