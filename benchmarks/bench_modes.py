"""Every rule on `ring` and `grid` with the command line's defaults, and recovery from one collapsed mode.

    python benchmarks/bench_modes.py [seeds] [steps] [rule ...]

One recipe for all rules (networks, latents, optimiser, penalty, noise); only the rule changes. Prints mean and worst of
the seeds: modes held, share of high quality samples (a perfect sampler: 98.89%), total variation, spread within modes.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from saddlegan import train
from saddlegan.workbench import data as sources
from saddlegan.workbench import loop
from saddlegan.workbench.recipe import defaults_for, make_recipe
from saddlegan.workbench.session import Session

RECOVERY_STEPS = 1000
RECOVERY = {"start": "collapsed:1", "average": 0.9, "noise": 0.05, "noise_end": 0.05}  # the same for every rule


def sessions(rule: str, data: sources.Data, seeds: int, **options: object) -> list[Session]:
    """All seeds as replicas; one after the other for the rule that cannot be batched."""
    common = {**defaults_for(data, rule), "rule": rule, **options}
    if rule == "unrolled":
        return [Session(make_recipe(**{**common, "seed": seed}), data) for seed in range(seeds)]
    return [Session(make_recipe(**{**common, "seeds": seeds}), data)]


def measured(played: list[Session], data: sources.Data, steps: int) -> tuple[dict[str, list[float]], float]:
    started = time.process_time()
    for session in played:
        for _ in range(steps):
            session.step()
    seconds = time.process_time() - started
    found: dict[str, list[float]] = {}
    for session in played:
        row = loop.measure(session, data)
        for name in ("modes", "high_quality", "total_variation", "spread"):
            found.setdefault(name, []).extend(row.get(f"{name}_by_seed", [row.get(name, float("nan"))]))
    return found, seconds


def show(title: str, found: dict[str, list[float]], seconds: float) -> None:
    worst = {"modes": min, "high_quality": min, "total_variation": max, "spread": min}
    cells = [f"{name} {np.mean(v):.3f} (worst {worst[name](v):.3f})" for name, v in found.items()]
    print(f"{title:<28} {'  '.join(cells)}  {seconds / len(found['modes']):.0f} s of one core per seed", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else None
    rules = sys.argv[3:] or list(train.RULES)
    ring = sources.load("ring", n_samples=100_000)
    for rule in rules:
        played = sessions(rule, ring, seeds, **RECOVERY)
        show(f"recovery {rule}", *measured(played, ring, RECOVERY_STEPS))
    for name in ("ring", "grid"):
        data = sources.load(name, n_samples=100_000)
        for rule in rules:
            options = {} if steps is None else {"steps": steps}
            played = sessions(rule, data, seeds, **options)
            show(f"{name} {rule}", *measured(played, data, played[0].recipe.steps))


if __name__ == "__main__":
    main()
