"""A hundred modes on three layouts by the command line's defaults, beside the package `particlegan` at equal time.

    python benchmarks/bench_hundred_modes.py [seeds] [layout,...] [first seed] [out=FILE] [NAME=VALUE ...]

where FILE takes each run as a line of JSON, and runs that it holds are not made again; the other NAME=VALUE are options
of the recipe in place of its defaults, such as lr_generator=3e-4. All layouts are run with one seed before the next.

Layouts: square (10 x 10, spacing 2), rotated (the same by 30 degrees), staggered (every other row shifted by half a
spacing); standard deviation 0.05, 100,000 rows without their modes, as a file would hold them. Prints, for every run,
the modes held, the share of high quality samples (a perfect sampler: 98.89%), the total variation of the histogram over
modes (a perfect sampler: 0.079 at 2,500 samples, 0.040 at the 10,000 that are drawn beside them), the spread in modes
and processor seconds, which a busy machine makes longer. Where `particlegan` can be imported (it is no dependency: `pip
install particlegan` into an environment of your own), its default recipe trains networks of the same widths on the same
standardised rows for as many processor seconds.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from saddlegan.metrics import mode_metrics
from saddlegan.workbench.data import sources
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.training import memory
from saddlegan.workbench.training.recipe import DEFAULT_RULE, defaults_for, make_recipe, read_settings
from saddlegan.workbench.training.session import Session, scale_of

LAYOUTS = ("square", "rotated", "staggered")
SIDE, SPACING, SD, ROWS = 10, 2.0, 0.05, 100_000
SAMPLES, MANY = 2500, 10_000


def centers(layout: str) -> np.ndarray:
    """Modes (100, 2)."""
    ticks = SPACING * (np.arange(SIDE) - (SIDE - 1) / 2)
    places = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    if layout == "rotated":
        cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
        return places @ np.array([[cosine, sine], [-sine, cosine]])
    if layout == "staggered":
        row = np.tile(np.arange(SIDE), SIDE)
        places[:, 0] += np.where(row % 2 == 1, SPACING / 4, -SPACING / 4)
    return places


def draw(layout: str) -> sources.Data:
    """The rows alone: nothing that trains is told the modes."""
    rng = np.random.default_rng(0)
    modes = centers(layout)
    X = modes[rng.integers(len(modes), size=ROWS)] + SD * rng.standard_normal((ROWS, 2))
    return sources.Data(layout, X, DataSpec(source=layout, shape=X.shape), layout)


def judge(sample: Callable[[int], np.ndarray], layout: str, seconds: float, updates: int) -> dict[str, Any]:
    """What one run is, from 2,500 samples, and from 10,000 for a finer total variation."""
    found = {n: dataclasses.asdict(mode_metrics(sample(n), centers(layout), SD)) for n in (SAMPLES, MANY)}
    return {"seconds": seconds, "updates": updates, "samples": found[SAMPLES], "many": found[MANY]}


def show(run: dict[str, Any]) -> None:
    found, many = run["samples"], run["many"]
    title = f"{run['layout']} {run['seed']} {run['name']}"
    print(
        f"{title:<24} modes {found['modes']:3d}  high quality {found['high_quality']:.3f}  total variation "
        f"{found['total_variation']:.3f} ({many['total_variation']:.3f} at {MANY})  spread {found['spread']:.2f}  "
        f"{run['updates']} updates  {run['seconds']:.0f} s of one core",
        flush=True,
    )


def ours(layout: str, seed: int, options: dict[str, object]) -> dict[str, Any]:
    """Train by the defaults but for the options given."""
    data = draw(layout)
    recipe = make_recipe(**{**defaults_for(data, DEFAULT_RULE), "rule": DEFAULT_RULE, "seed": seed, **options})
    started = time.process_time()
    session = Session(recipe, data)
    for _ in range(recipe.steps):
        session.step()
    seconds = time.process_time() - started

    def sample(n: int) -> np.ndarray:
        with torch.no_grad():
            made = session.average.module(session.latent(n)).numpy()
        return made * session.scale.scale + session.scale.offset

    return judge(sample, layout, seconds, recipe.steps)


def theirs(layout: str, seed: int, seconds: float) -> dict[str, Any]:
    """`particlegan` by its own defaults and initialisation, for so many processor seconds."""
    package = importlib.import_module("particlegan")
    data = draw(layout)
    scale = scale_of(data)
    X = torch.from_numpy((data.X - scale.offset) / scale.scale).float()
    torch.manual_seed(seed)
    recipe = package.get_recipe(total_steps=20_000)

    def network(n_in: int, n_out: int) -> nn.Sequential:
        wide = [layer for n in (n_in, 128, 128) for layer in (nn.Linear(n, 128), nn.LeakyReLU(0.2))]
        return nn.Sequential(*wide, nn.Linear(128, n_out))

    G, D = network(recipe.z_dim, 2), network(2, 1)
    package.init.deterministic_orthogonal_(G, seed=2 * seed)
    package.init.deterministic_orthogonal_(D, seed=2 * seed + 1)
    prior = package.init.deterministic_orthogonal_(recipe.make_prior())
    trainer = package.GANTrainer(recipe, G, D, prior=prior, seed=seed)
    order = torch.Generator().manual_seed(seed)
    started, updates = time.process_time(), 0
    while time.process_time() - started < seconds:
        trainer.step(X[torch.randint(len(X), (recipe.batch_size,), generator=order)])
        updates += 1
    spent = time.process_time() - started

    def sample(n: int) -> np.ndarray:
        return trainer.sample(n).detach().numpy() * scale.scale + scale.offset

    return judge(sample, layout, spent, updates)


def main() -> None:
    torch.set_num_threads(1)
    memory.keep_freed()
    words = [word for word in sys.argv[1:] if not word.startswith("out=")]
    out = next((Path(word.removeprefix("out=")) for word in sys.argv[1:] if word.startswith("out=")), None)
    seeds = int(words[0]) if words else 10
    layouts = words[1].split(",") if len(words) > 1 else LAYOUTS
    first = int(words[2]) if len(words) > 2 else 0
    options = read_settings(words[3:])
    held = [json.loads(line) for line in out.read_text().splitlines()] if out is not None and out.exists() else []
    runs = {(run["name"], run["layout"], run["seed"], str(run["options"])): run for run in held}

    def once(name: str, layout: str, seed: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        place = (name, layout, seed, str(options))
        if place not in runs:
            runs[place] = {"name": name, "layout": layout, "seed": seed, "options": options, **make()}
            if out is not None:
                with out.open("a") as file:
                    file.write(json.dumps(runs[place]) + "\n")
            show(runs[place])
        return runs[place]

    for seed in range(first, first + seeds):
        for layout in layouts:
            mine = once("saddlegan", layout, seed, lambda layout=layout, seed=seed: ours(layout, seed, options))
            if importlib.util.find_spec("particlegan") is not None:
                seconds = mine["seconds"]
                once("particlegan", layout, seed, lambda layout=layout, seed=seed, s=seconds: theirs(layout, seed, s))


if __name__ == "__main__":
    main()
