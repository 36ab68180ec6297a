"""Door 1, `fit`: find an optimum exactly. Scikit-learn estimators over pure solvers."""

from saddlegan.fit._base import AbstractWGAN
from saddlegan.fit._by_class import ByClass
from saddlegan.fit._discrepancy import discrepancy
from saddlegan.fit._displays import ComponentsDisplay, SamplesDisplay, SpectrumDisplay
from saddlegan.fit._function_space import function_space
from saddlegan.fit._linear import LinearWGAN
from saddlegan.fit._polynomial import PolynomialWGAN
from saddlegan.fit._quadratic import QuadraticWGAN
from saddlegan.fit._saved import load
from saddlegan.fit.progressive._estimator import ProCoGAN
from saddlegan.fit.progressive._images import AbstractImages, ImageBatches
from saddlegan.fit.relu._estimator import ReLUWGAN
from saddlegan.fit.relu._two_layer_generator import TwoLayerFit, two_layer_generator

# the only list of solvers: the command line offers each by its word, with the options of its constructor
ESTIMATORS: dict[str, type[AbstractWGAN | ProCoGAN]] = {
    "quadratic": QuadraticWGAN,
    "linear": LinearWGAN,
    "polynomial": PolynomialWGAN,
    "relu": ReLUWGAN,
    "progressive": ProCoGAN,
}

__all__ = [
    "ESTIMATORS",
    "AbstractImages",
    "ByClass",
    "ComponentsDisplay",
    "ImageBatches",
    "LinearWGAN",
    "PolynomialWGAN",
    "ProCoGAN",
    "QuadraticWGAN",
    "ReLUWGAN",
    "SamplesDisplay",
    "SpectrumDisplay",
    "TwoLayerFit",
    "discrepancy",
    "function_space",
    "load",
    "two_layer_generator",
]
