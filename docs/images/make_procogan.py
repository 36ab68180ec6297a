"""Draw the sample sheets of procogan.md: python docs/images/make_procogan.py FACES_FOLDER CIFAR.npz."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from saddlegan import fit
from saddlegan.workbench.data import pyramid

IMAGES = Path(__file__).parent
COLUMNS, SIDE, GAP = 10, 64, 4


def sheet(model: fit.ProCoGAN, name: str, *, white: float = 255.0) -> None:
    """One row per stage; columns share a latent."""
    rows = [model.sample(COLUMNS, resolution=s.resolution, random_state=0) for s in model.stages_]
    height = len(rows) * (SIDE + GAP) - GAP
    page = np.full((height, COLUMNS * (SIDE + GAP) - GAP, 3), 255, np.uint8)
    for index, pictures in enumerate(rows):
        top = index * (SIDE + GAP)
        for column, picture in enumerate(pictures):
            pixels = np.clip(np.round(picture.reshape(*picture.shape[:2], -1) * (255 / white)), 0, 255).astype(np.uint8)
            pixels = np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels
            enlarged = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            left = column * (SIDE + GAP)
            page[top : top + SIDE, left : left + SIDE] = np.asarray(enlarged)
    picture = Image.fromarray(page)
    if all(np.ptp(np.asarray(picture), 2).ravel() == 0):
        picture = picture.convert("L")
    else:
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    picture.save(IMAGES / name, optimize=True)


def main(faces: Path, cifar: Path) -> None:
    """Fit the three sets and write their sheets."""
    digits = load_digits().images
    sheet(fit.ProCoGAN((4, 8), (12, 24)).fit(digits), "procogan-digits.png", white=16.0)
    folder = pyramid.build(faces, resolutions=(4, 8, 16, 32, 64))
    model = fit.ProCoGAN((4, 8, 16, 32, 64), (10, 30, 60, 100, 150)).fit(folder)
    sheet(model, "procogan-faces.png")
    with np.load(cifar) as file:
        photographs = file["images"]
    sheet(fit.ProCoGAN().fit(photographs), "procogan-cifar.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
