"""Ten seeds at once on `ring` against ten runs one after another, both with torch's default threads, in one run.

The arithmetic limit: products alone, the same matrix products of one step timed without anything around them, for one
seed and for ten batched. What batching can win is the time around the products, and their own gain from size.

The allocator keeps freed memory for both sides, as the command line lets it.
"""

from __future__ import annotations

import statistics
import time

import torch

from saddlegan.workbench.data import sources
from saddlegan.workbench.training import memory
from saddlegan.workbench.training.recipe import defaults_for, make_recipe
from saddlegan.workbench.training.session import Session

SEEDS, ROUNDS, STEPS = 10, 3, 8


def session(seeds: int, data: sources.Data, **options: object) -> Session:
    recipe = make_recipe(**{**defaults_for(data, "primal-dual"), "rule": "primal-dual", "seeds": seeds, **options})
    made = Session(recipe, data)
    for _ in range(3):
        made.step()
    return made


def seconds_per_step(made: Session) -> float:
    started = time.perf_counter()
    for _ in range(STEPS):
        made.step()
    return (time.perf_counter() - started) / STEPS


def products(seeds: int, batch: int, width: int) -> float:
    """Seconds of one hidden layer's product."""
    x, W = torch.randn(seeds, batch, width), torch.randn(seeds, width, width)
    repeats = 200
    torch.bmm(x, W)
    started = time.perf_counter()
    for _ in range(repeats):
        torch.bmm(x, W)
    return (time.perf_counter() - started) / repeats


def main() -> None:
    memory.keep_freed()
    data = sources.load("ring", n_samples=10_000)
    sizes: tuple[dict[str, object], ...] = (
        {},  # the command line's own for the ring
        {"hidden": (128,) * 3},
        {"hidden": (32,) * 3, "batch": 64, "points": 32},
    )
    for options in sizes:
        single, joint = session(1, data, **options), session(SEEDS, data, **options)
        batch, width = single.recipe.batch, single.recipe.hidden[0]
        ratios, limits = [], []
        for _ in range(ROUNDS):
            ratios.append(SEEDS * seconds_per_step(single) / seconds_per_step(joint))
            limits.append(SEEDS * products(1, batch, width) / products(SEEDS, batch, width))
        print(
            f"batch {batch}, 3 x {width}, {torch.get_num_threads()} threads: ten seeds at once give "
            f"{statistics.median(ratios):.2f} times the throughput of ten runs; the products alone gain "
            f"{statistics.median(limits):.2f}"
        )


if __name__ == "__main__":
    main()
