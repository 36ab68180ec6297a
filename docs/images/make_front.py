"""Draw the ring of the front page: python docs/images/make_front.py [RUN], a run of `saddlegan train ring --out RUN`.

Without RUN it is trained first, ten minutes on one core.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import saddlegan
from saddlegan.metrics._modes import HIGH_QUALITY, MODE_SAMPLES
from saddlegan.workbench import cli
from saddlegan.workbench.report.figures import training as training_figures

HERE = Path(__file__).parent


def ring(path: Path) -> None:
    run = saddlegan.load(path)
    centers, sd = np.asarray(run.data.centers), float(run.data.sd or 0.0)
    samples = run.sample(MODE_SAMPLES, seed=2)
    distance = np.sqrt(((samples[:, None] - centers[None]) ** 2).sum(2)) / sd
    counts = np.bincount(distance.argmin(1)[distance.min(1) < HIGH_QUALITY], minlength=len(centers))
    with Image.open(io.BytesIO(training_figures.mode_map(samples, centers, counts))) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(HERE / "ring-modes.png", optimize=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ring(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            cli.run(["train", "ring", "--out", f"{folder}/ring"])
            ring(Path(folder) / "ring")
