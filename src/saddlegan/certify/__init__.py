"""Door 3, `certify`: judge which equilibrium a pair is at."""

from saddlegan.certify._critical import critical_lambda
from saddlegan.certify._diagnosis import Diagnosis, diagnose
from saddlegan.certify._generator_deviation import generator_deviation
from saddlegan.certify._landscape import GradientNorms, PathAngle, game_spectrum, gradient_norms, path_angle
from saddlegan.certify._local import local
from saddlegan.certify._spectrum import Spectrum
from saddlegan.certify._verdict import duality_gap, nash, proximal, proximal_duality_gap, stackelberg
from saddlegan.certify._watch import Watch
from saddlegan.certify.exact._base import AbstractExactGame
from saddlegan.certify.exact._finite import MixedDiscriminator, MixedGenerator, matrix_game
from saddlegan.certify.exact._gaussian_game import GaussianW2Game
from saddlegan.certify.exact._line_game import GaussianWGAN
from saddlegan.certify.exact._recognise import register
from saddlegan.proximal import Norm
from saddlegan.search import Search

__all__ = [
    "AbstractExactGame",
    "Diagnosis",
    "GaussianW2Game",
    "GaussianWGAN",
    "GradientNorms",
    "MixedDiscriminator",
    "MixedGenerator",
    "Norm",
    "PathAngle",
    "Search",
    "Spectrum",
    "Watch",
    "critical_lambda",
    "diagnose",
    "duality_gap",
    "game_spectrum",
    "generator_deviation",
    "gradient_norms",
    "local",
    "matrix_game",
    "nash",
    "path_angle",
    "proximal",
    "proximal_duality_gap",
    "register",
    "stackelberg",
]
