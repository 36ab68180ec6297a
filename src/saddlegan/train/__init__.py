"""`train`: rules that move a pair (G, D), one final class per rule, over ordinary torch optimisers.

The user keeps the loop and calls `rule.step(x)`; `AbstractRule` says what all rules share.
"""

from saddlegan.networks import spectral_normalise
from saddlegan.train.parts._average import MovingAverage
from saddlegan.train.parts._latents import MixedLatent
from saddlegan.train.parts._noise import InstanceNoise
from saddlegan.train.parts._parallel import together
from saddlegan.train.parts._penalties import (
    R1,
    R2,
    ApproximateR1,
    ApproximateR2,
    GradientPenalty,
    Penalties,
    WeightClipping,
)
from saddlegan.train.parts._replicas import ReplicaLatent, Replicas
from saddlegan.train.parts._schedule import Schedule, decay_of, warm_up
from saddlegan.train.parts._w2_transform import CTransform, QuadraticPotential
from saddlegan.train.rules._alternating import Alternating
from saddlegan.train.rules._alternating_extrapolation import AlternatingExtrapolation
from saddlegan.train.rules._base import AbstractRule
from saddlegan.train.rules._extragradient import Extragradient
from saddlegan.train.rules._lookahead import Lookahead
from saddlegan.train.rules._optimistic import Optimistic
from saddlegan.train.rules._primal_dual import PrimalDual, kernel_density
from saddlegan.train.rules._proximal import Proximal
from saddlegan.train.rules._simultaneous import Simultaneous
from saddlegan.train.rules._unrolled import Unrolled

RULES: dict[str, type[AbstractRule]] = {
    "simultaneous": Simultaneous,
    "alternating": Alternating,
    "extragradient": Extragradient,
    "optimistic": Optimistic,
    "alternating-extrapolation": AlternatingExtrapolation,
    "lookahead": Lookahead,
    "unrolled": Unrolled,
    "proximal": Proximal,
    "primal-dual": PrimalDual,
}

__all__ = [
    "R1",
    "R2",
    "RULES",
    "AbstractRule",
    "Alternating",
    "AlternatingExtrapolation",
    "ApproximateR1",
    "ApproximateR2",
    "CTransform",
    "Extragradient",
    "GradientPenalty",
    "InstanceNoise",
    "Lookahead",
    "MixedLatent",
    "MovingAverage",
    "Optimistic",
    "Penalties",
    "PrimalDual",
    "Proximal",
    "QuadraticPotential",
    "ReplicaLatent",
    "Replicas",
    "Schedule",
    "Simultaneous",
    "Unrolled",
    "WeightClipping",
    "decay_of",
    "kernel_density",
    "spectral_normalise",
    "together",
    "warm_up",
]
