"""Door 1, `fit`: find an optimum exactly. Scikit-learn estimators over pure solvers."""

from saddlegan.fit._discrepancy import discrepancy
from saddlegan.fit._images import AbstractImages, ImageBatches
from saddlegan.fit._linear import LinearWGAN
from saddlegan.fit._procogan import ProCoGAN
from saddlegan.fit._quadratic import QuadraticWGAN

__all__ = ["AbstractImages", "ImageBatches", "LinearWGAN", "ProCoGAN", "QuadraticWGAN", "discrepancy"]
