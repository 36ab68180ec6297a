"""Draw the pictures of the command-line page: python docs/images/make_digits.py"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from saddlegan import fit
from saddlegan.moments._second_moment import second_moment
from saddlegan.workbench.data import sources as data
from saddlegan.workbench.report.figures import samples as figures

HERE = Path(__file__).parent


def save(name: str, png: bytes) -> None:
    """Keep 64 colours: a third of the size, and no difference to see."""
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(HERE / f"digits-{name}.png", optimize=True)


digits = data.load("digits")
model = fit.QuadraticWGAN(16).fit(digits.X)
values = second_moment(digits.X, center=True).eigenpairs(64).values.numpy()
real = digits.X[np.sort(np.random.default_rng(0).choice(len(digits.X), 64, replace=False))]
save("samples", figures.real_and_generated_images(real, model.sample(64, random_state=0), (8, 8), (0.0, 1.0)))
save("spectrum", figures.spectrum(values, beta=model.beta_, kept=16, unit="squared pixel values"))
rows = model.generator_.weight.detach().numpy()[:8]
save("components", figures.traversal(model.mean_, rows, (rows**2).sum(1) / values.sum(), (8, 8), (0.0, 1.0)))
