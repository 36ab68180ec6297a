"""GAN training as a saddle-point problem: `fit` finds an optimum, `train` moves a pair, `certify` judges it."""

from saddlegan import certify, fit, networks, objectives, train
from saddlegan.game import Game
from saddlegan.results import Certificate, Solution, Status, Step

__version__ = "0.1.0"

__all__ = ["Certificate", "Game", "Solution", "Status", "Step", "certify", "fit", "networks", "objectives", "train"]
