"""Door 1, `fit`: find an optimum exactly. Scikit-learn estimators over pure solvers."""

from saddlegan.fit._discrepancy import discrepancy
from saddlegan.fit._linear import LinearWGAN
from saddlegan.fit._quadratic import QuadraticWGAN

__all__ = ["LinearWGAN", "QuadraticWGAN", "discrepancy"]
