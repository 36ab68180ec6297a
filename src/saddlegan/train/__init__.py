"""`train`: rules that move a pair (G, D), one final class per rule, over ordinary torch optimisers.

The user keeps the loop and calls `rule.step(x)`; `AbstractRule` says what all rules share.
"""

from saddlegan.networks import spectral_normalise
from saddlegan.train._alternating import Alternating
from saddlegan.train._average import MovingAverage
from saddlegan.train._extragradient import Extragradient
from saddlegan.train._latents import MixedLatent
from saddlegan.train._noise import InstanceNoise
from saddlegan.train._optimistic import Optimistic
from saddlegan.train._penalties import R1, GradientPenalty, WeightClipping
from saddlegan.train._primal_dual import PrimalDual, kernel_density
from saddlegan.train._proximal import Proximal
from saddlegan.train._replicas import ReplicaLatent, Replicas
from saddlegan.train._rule import AbstractRule
from saddlegan.train._simultaneous import Simultaneous
from saddlegan.train._unrolled import Unrolled
from saddlegan.train._w2gan import CTransform, QuadraticPotential

RULES: dict[str, type[AbstractRule]] = {
    "simultaneous": Simultaneous,
    "alternating": Alternating,
    "extragradient": Extragradient,
    "optimistic": Optimistic,
    "unrolled": Unrolled,
    "proximal": Proximal,
    "primal-dual": PrimalDual,
}

__all__ = [
    "R1",
    "RULES",
    "AbstractRule",
    "Alternating",
    "CTransform",
    "Extragradient",
    "GradientPenalty",
    "InstanceNoise",
    "MixedLatent",
    "MovingAverage",
    "Optimistic",
    "PrimalDual",
    "Proximal",
    "QuadraticPotential",
    "ReplicaLatent",
    "Replicas",
    "Simultaneous",
    "Unrolled",
    "WeightClipping",
    "kernel_density",
    "spectral_normalise",
]
