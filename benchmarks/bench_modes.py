"""Every rule on `ring` and `grid` with the command line's defaults, and recovery from collapse.

    python benchmarks/bench_modes.py [seeds] [what,...] [steps] [rule ...]

`what` is any of recovery-ring, recovery-grid, ring, grid, ring-plain, grid-plain (a D without features, eight signs);
all of them if left out; `steps` 0 is each one's own number.
`what` rates gives every rule the same tuning: three rates of the generator, on a short run of the grid with networks of
half the width. One recipe for all rules (networks, latents, optimiser, penalty, noise); only the rule changes. Prints
mean and range of the seeds: modes held, share of high quality samples (a perfect sampler: 98.89%), total variation,
spread in modes.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from saddlegan import train
from saddlegan.workbench.data import sources
from saddlegan.workbench.training import loop, memory
from saddlegan.workbench.training.recipe import STEADY, defaults_for, make_recipe
from saddlegan.workbench.training.session import Session

# a D without features and fewer signs: the recipe under which the tables of rules were measured
PLAIN: dict[str, object] = {"fourier": (), "bits": 8, **STEADY}

# the source, the start whose defaults are taken, and options beyond them
TASKS: dict[str, tuple[str, str, dict[str, object]]] = {
    "recovery-ring": ("ring", "collapsed:1", {"start": "collapsed:1"}),
    # the ordinary defaults: against a local discriminator nothing gets sharp enough for a count of 25 modes to tell
    "recovery-grid": ("grid", "random", {"start": "collapsed:5", "steps": 6000, **PLAIN}),
    "ring": ("ring", "random", {}),
    "grid": ("grid", "random", {}),
    "ring-plain": ("ring", "random", PLAIN),
    "grid-plain": ("grid", "random", PLAIN),
    "rates": ("grid", "random", {"seed": 100, "hidden": (64,) * 3, "steps": 4000, **PLAIN}),
}

TRIED = (1e-4, 3e-4, 1e-3)  # the generator's rates of `rates`; the default is the middle one


def measured(session: Session, data: sources.Data) -> tuple[dict[str, list[float]], float]:
    """Each seed's figures at the end of the training, and the processor seconds that it took."""
    started = time.process_time()
    for _ in range(session.recipe.steps):
        session.step()
    seconds = time.process_time() - started
    row = loop.measure(session, data)
    names = ("modes", "high_quality", "total_variation", "spread")
    return {name: row.get(f"{name}_by_seed", [row.get(name, float("nan"))]) for name in names}, seconds


def show(title: str, found: dict[str, list[float]], seconds: float) -> None:
    cells = [f"{name} {np.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for name, v in found.items()]
    print(f"{title:<28} {'  '.join(cells)}  {seconds / len(found['modes']):.0f} s of one core per seed", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    memory.keep_freed()
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    tasks = sys.argv[2].split(",") if len(sys.argv) > 2 else [task for task in TASKS if task != "rates"]
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    rules = sys.argv[4:] or list(train.RULES)
    for task in tasks:
        name, start, options = TASKS[task]
        options = {**options, "steps": steps} if steps else options
        data = sources.load(name, n_samples=100_000)
        for rule in rules:
            common = {**defaults_for(data, rule, start), "rule": rule, "seeds": seeds, **options}
            for tried in [{"lr_generator": rate} for rate in TRIED] if task == "rates" else [{}]:
                recipe = make_recipe(**{**common, **tried})
                show(f"{task} {rule} {recipe.lr_generator:g}", *measured(Session(recipe, data), data))


if __name__ == "__main__":
    main()
