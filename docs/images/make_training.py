"""Train the grid by the primal-dual rule and plainly, and write the figures of docs/training.md beside this file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from saddlegan.metrics._modes import HIGH_QUALITY, MODE_SAMPLES
from saddlegan.workbench.data import sources
from saddlegan.workbench.report.figures import training as training_figures
from saddlegan.workbench.training import loop, memory
from saddlegan.workbench.training.recipe import make_recipe
from saddlegan.workbench.training.session import Session

STEPS = 12_000  # the default
HERE = Path(__file__).parent


def mode_map(session: Session, grid: sources.Data) -> bytes:
    samples = session.samples(MODE_SAMPLES, seed=2)[0]
    centers, sd = np.asarray(grid.centers), float(grid.sd or 0.0)
    distance = np.sqrt(((samples[:, None] - centers[None]) ** 2).sum(2)) / sd
    counts = np.bincount(distance.argmin(1)[distance.min(1) < HIGH_QUALITY], minlength=len(centers))
    return training_figures.mode_map(samples, centers, counts)


def main() -> None:
    torch.set_num_threads(1)
    memory.keep_freed()
    grid = sources.load("grid", n_samples=100_000)
    for rule in ("primal-dual", "alternating"):
        session = Session(make_recipe(steps=STEPS, rule=rule), grid)
        sheets: dict[int, np.ndarray] = {}
        while session.steps_done < STEPS:
            session.step()
            if session.steps_done in loop.sheet_steps(STEPS):
                sheets[session.steps_done] = session.samples(400, seed=1)[0]
        limits = (np.array([-5.0, -5.0]), np.array([5.0, 5.0]))
        strip = training_figures.strip(sheets, image_shape=None, value_range=None, limits=limits)
        if rule == "primal-dual":
            (HERE / f"grid-{rule}-strip.png").write_bytes(strip)
        (HERE / f"grid-{rule}-modes.png").write_bytes(mode_map(session, grid))
        print(rule, loop.measure(session, grid))


if __name__ == "__main__":
    main()
