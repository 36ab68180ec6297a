"""Train the ring for 1,500 steps and write the figures of docs/training.md beside this file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from saddlegan.workbench import data as sources
from saddlegan.workbench import loop, training_figures
from saddlegan.workbench.metrics import HIGH_QUALITY, MODE_SAMPLES
from saddlegan.workbench.recipe import make_recipe
from saddlegan.workbench.session import Session

STEPS = 1500
HERE = Path(__file__).parent


def main() -> None:
    torch.set_num_threads(1)
    ring = sources.load("ring", n_samples=100_000)
    session = Session(make_recipe(steps=STEPS), ring)
    sheets: dict[int, np.ndarray] = {}
    while session.steps_done < STEPS:
        session.step()
        if session.steps_done in loop.sheet_steps(STEPS):
            sheets[session.steps_done] = session.samples(400, seed=1)[0]
    limits = (np.array([-1.5, -1.5]), np.array([1.5, 1.5]))
    strip = training_figures.strip(sheets, image_shape=None, value_range=None, limits=limits)
    (HERE / "ring-strip.png").write_bytes(strip)
    samples = session.samples(MODE_SAMPLES, seed=2)[0]
    centers, sd = np.asarray(ring.centers), float(ring.sd or 0.0)
    distance = np.sqrt(((samples[:, None] - centers[None]) ** 2).sum(2)) / sd
    counts = np.bincount(distance.argmin(1)[distance.min(1) < HIGH_QUALITY], minlength=len(centers))
    (HERE / "ring-modes.png").write_bytes(training_figures.mode_map(samples, centers, counts))
    print(loop.measure(session, ring))


if __name__ == "__main__":
    main()
