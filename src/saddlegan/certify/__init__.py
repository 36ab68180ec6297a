"""Door 3, `certify`: judge which equilibrium a pair is at."""

from saddlegan._best_response import Search
from saddlegan.certify._exact import AbstractExactGame
from saddlegan.certify._finite import MixedDiscriminator, MixedGenerator, matrix_game
from saddlegan.certify._registry import register
from saddlegan.certify._verdict import duality_gap, nash, proximal, proximal_duality_gap, stackelberg

__all__ = [
    "AbstractExactGame",
    "MixedDiscriminator",
    "MixedGenerator",
    "Search",
    "duality_gap",
    "matrix_game",
    "nash",
    "proximal",
    "proximal_duality_gap",
    "register",
    "stackelberg",
]
