"""Kill a training with SIGKILL at random moments, resume it, and compare its last bits with an unbroken run.

Run as a script: `python kill_and_resume.py FOLDER KILLS RULE...`; prints one JSON line per rule. Children are forked,
so that a kill costs no import.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

from begun import begun
from saddlegan.errors import CheckpointError
from saddlegan.workbench.data import sources
from saddlegan.workbench.runs import folder as runs
from saddlegan.workbench.training import loop
from saddlegan.workbench.training.recipe import make_recipe
from saddlegan.workbench.training.session import Session, config_of

STEPS = 60


def session_for(rule: str) -> tuple[Session, sources.Data]:
    data = sources.load("ring", n_samples=500)
    recipe = make_recipe(
        rule=rule,
        steps=STEPS,
        batch=16,
        hidden=(8,),
        activation="softplus",
        points=8,
        inner_steps=2,
        metrics_every=7,
        checkpoint_every=3,
    )
    return Session(recipe, data), data


def train(rule: str, folder: Path) -> None:
    """Start the run, or go on with it where a kill left it."""
    torch.set_num_threads(1)
    session, data = session_for(rule)
    if (folder / "config.json").exists():
        run = runs.Run.open(folder)
        try:
            loop.resume(session, run, fingerprint=loop.fingerprint(run))
        except CheckpointError as error:
            if "holds no checkpoint" not in str(error):  # killed before the first one: start over
                raise
    else:
        config = config_of(session, data, command_line="")
        run = begun(folder, config, generator=session.generators()[0], discriminator=session.discriminators()[0])
    loop.train(session, run, data, fingerprint=loop.fingerprint(run))


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that must be the same: players, the last checkpoint, metrics and sheets."""
    names = ["generator.safetensors", "discriminator.safetensors", "metrics.jsonl", "progress.safetensors"]
    found = {name: (folder / name).read_bytes() for name in names}
    found["checkpoint"] = (folder / "checkpoint" / f"step-{STEPS:09d}.ckpt").read_bytes()
    return found


def broken_run(rule: str, folder: Path, *, kills: int, seconds: float, dice: random.Random) -> int:
    """Train with `kills` kills at random moments; return how many hit a living process."""
    hits, attempts = 0, 0
    while True:
        attempts += 1
        child = os.fork()
        if child == 0:
            try:
                train(rule, folder)
                os._exit(0)
            except BaseException as error:
                sys.stderr.write(f"{rule}: {error!r}\n")
                os._exit(1)
        if hits < kills:
            time.sleep(dice.uniform(0.0, seconds * 2 / (kills + 1)))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            hits += 1
            continue
        if os.WEXITSTATUS(status) != 0:
            raise SystemExit(f"{rule}: the training failed after {hits} kills")
        if hits >= kills or attempts > 20 * kills:
            return hits
        shutil.rmtree(folder)  # it ended before the kill: again from the start


def main() -> None:
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    for number, rule in enumerate(sys.argv[3:]):
        whole, broken = folder / f"{rule}-whole", folder / f"{rule}-broken"
        started = time.perf_counter()
        train(rule, whole)
        seconds = time.perf_counter() - started
        hits = broken_run(rule, broken, kills=kills, seconds=seconds, dice=random.Random(number))
        first, second = contents(whole), contents(broken)
        differ = [name for name in first if first[name] != second[name]]
        sys.stdout.write(json.dumps({"rule": rule, "kills": hits, "differ": differ}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
