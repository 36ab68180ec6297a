"""The networks of the theory and of the experiments.

Generators map latents (n, k) to samples (n, ...); discriminators map samples (n, ...) to raw outputs (n,) or (n, 1).
"""

from saddlegan.networks._convolutional import ImageDiscriminator, ImageGenerator, spectral_normalise
from saddlegan.networks._fourier import FourierFeatures, MultiscaleFeatures
from saddlegan.networks._mixture import MixtureGenerator
from saddlegan.networks._points import PointGenerator
from saddlegan.networks._theory import (
    MLP,
    AbstractFeatures,
    Activation,
    FeatureGenerator,
    LinearGenerator,
    PolynomialFeatures,
    ReLUFeatures,
    TwoLayerDiscriminator,
)

__all__ = [
    "MLP",
    "AbstractFeatures",
    "Activation",
    "FeatureGenerator",
    "FourierFeatures",
    "ImageDiscriminator",
    "ImageGenerator",
    "LinearGenerator",
    "MixtureGenerator",
    "MultiscaleFeatures",
    "PointGenerator",
    "PolynomialFeatures",
    "ReLUFeatures",
    "TwoLayerDiscriminator",
    "spectral_normalise",
]
