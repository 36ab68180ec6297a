"""The objectives of V(G, D) = E f0(D(x)) + E f1(D(G(z))), equation (0), with the premises that each one meets.

Every function works elementwise on tensors. The discriminator's raw output is a real number; `link` maps it into the
domain of f0 and f1 (the identity wherever that domain is the whole line), so any network can play any objective.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from saddlegan import checks
from saddlegan.errors import ObjectiveError

Scalar = Callable[[Tensor], Tensor]


def _identity(t: Tensor) -> Tensor:
    return t


def _inseparable(name: str) -> Scalar:
    """Stand for f0 and f1 where the value is no sum of a real and a generated half."""

    def refuse(t: Tensor) -> Tensor:
        raise ObjectiveError(
            f"{name!r} has no f0 and f1: its value is not E f0(D(x)) + E f1(D(G(z))). What needs the two halves or a "
            "closed form works with separable objectives only; judge this game by `Game.value`."
        )

    return refuse


def _below_one(v: Tensor) -> Tensor:
    """Map R onto (-inf, 1) with slope 1 at 0; f0 and f1 stay concave in v."""
    return 1.0 - torch.exp(-v)


@dataclasses.dataclass(frozen=True)
class Objective:
    """One row of the table under equation (0).

    Attributes:
        name: the word used in `Game(objective=...)` and on the command line.
        f0: concave function of the discriminator on real data.
        f1: function of the discriminator on generated data.
        zero_sum: whether the generator descends exactly what the discriminator ascends.
        equilibrium: the value t* with f1(t*) = 0 and f0'(t*) = -f1'(t*), which the Lagrangian view (4) needs, or
            None.
        domain: open interval of t on which f0 and f1 are finite.
        link: map from the network's raw output into `domain`.
        generator_loss: the generator's own loss on raw outputs for the objectives that are not zero-sum, else None.
        note: one sentence for users.
        logits: whether the raw output is a logit, which a network must not squash.
        pairing: f of a pairing objective, V = E f(D(x) - D(G(z))), else None; its f0 and f1 refuse by name, and its
            `generator_loss` is a function of the difference.
        divergence: f of an f-GAN, convex with f(1) = f'(1) = 0, of which f1 is minus the conjugate; else None.
        twin: name of the zero-sum objective that an objective which is not zero-sum is judged by, or None.
    """

    name: str
    f0: Scalar
    f1: Scalar
    zero_sum: bool
    equilibrium: float | None
    note: str
    domain: tuple[float, float] = (-math.inf, math.inf)
    link: Scalar = _identity
    generator_loss: Scalar | None = None
    logits: bool = False
    pairing: Scalar | None = None
    divergence: Scalar | None = None
    twin: str | None = None

    def __post_init__(self) -> None:
        if self.equilibrium is not None:
            object.__setattr__(self, "equilibrium", checks.number("equilibrium", self.equilibrium, least=-math.inf))
        low, high = (checks.number("domain", end, least=-math.inf, infinite=True) for end in self.domain)
        object.__setattr__(self, "domain", (low, high))

    def __repr__(self) -> str:
        return f"Objective({self.name!r}, zero_sum={self.zero_sum}, lagrangian={self.equilibrium is not None})"

    def __reduce__(self) -> tuple[object, ...]:
        # f0 and f1 are lambdas, which cannot be pickled; a registered objective is its name
        known = OBJECTIVES.get(self.name) is self or self.name == OWN_VALUE.name
        return (get, (self.name,)) if known else super().__reduce__()  # type: ignore

    def require_zero_sum(self, purpose: str) -> None:
        """Refuse an objective whose two players do not share one value.

        Raises:
            ObjectiveError: the objective is not zero-sum.
        """
        if not self.zero_sum:
            use = f"Use one of {', '.join(n for n, o in OBJECTIVES.items() if o.zero_sum)}."
            if self.twin is not None:
                use = f"Its zero-sum twin is {self.twin!r}: judge the pair by Game(..., objective={self.twin!r})."
            raise ObjectiveError(f"{purpose} needs a zero-sum `objective`, got {self.name!r}: {self.note} {use}")

    def require_lagrangian(self, purpose: str) -> float:
        """Return t* of the Lagrangian view (4), or refuse.

        Returns:
            The equilibrium value t* of the discriminator.

        Raises:
            ObjectiveError: no t* with f1(t*) = 0 and f0'(t*) = -f1'(t*) exists.
        """
        if self.equilibrium is None:
            raise ObjectiveError(
                f"{purpose} needs f1(t*) = 0 and f0'(t*) = -f1'(t*) at one t*; {self.name!r} has none. "
                f"Use one of {', '.join(n for n, o in OBJECTIVES.items() if o.equilibrium is not None)}."
            )
        return self.equilibrium


_LOG2 = math.log(2.0)

WASSERSTEIN = Objective(
    "wasserstein", _identity, torch.neg, True, 0.0, "Bound D by a penalty, clipping or spectral normalisation."
)
VANILLA = Objective(
    "vanilla",
    logsigmoid,
    lambda t: logsigmoid(-t) + _LOG2,
    True,
    0.0,
    "Logits t; the log 2 makes f1 vanish at D = 1/2 and changes no gradient.",
    logits=True,
)
# f-GANs: f0(t) = t, f1(t) = -f*(t) with f'(1) = 0, so that t* = f'(1) = 0 and f*(0) = -f(1) = 0
KL = Objective(
    "kl",
    _identity,
    lambda t: 1.0 - torch.exp(t),
    True,
    0.0,
    "f(u) = u log u - u + 1.",
    divergence=lambda u: torch.xlogy(u, u) - u + 1.0,
)
REVERSE_KL = Objective(
    "reverse-kl",
    _identity,
    lambda t: torch.log1p(-t),
    True,
    0.0,
    "f(u) = u - 1 - log u.",
    divergence=lambda u: u - 1.0 - u.log(),
    domain=(-math.inf, 1.0),
    link=_below_one,
)
PEARSON_CHI2 = Objective(
    "pearson-chi2",
    _identity,
    # f*(t) = t + t^2/4 on t >= -2, and -1 below: the supremum over u >= 0 sits at u = 0 there
    lambda t: 1.0 - 0.25 * relu(t + 2.0).square(),
    True,
    0.0,
    "f(u) = (u - 1)^2.",
    divergence=lambda u: (u - 1.0).square(),
)
SQUARED_HELLINGER = Objective(
    "squared-hellinger",
    _identity,
    lambda t: -t / (1.0 - t),
    True,
    0.0,
    "f(u) = (sqrt(u) - 1)^2.",
    divergence=lambda u: (u.sqrt() - 1.0).square(),
    domain=(-math.inf, 1.0),
    link=_below_one,
)
NON_SATURATING = Objective(
    "non-saturating",
    VANILLA.f0,
    VANILLA.f1,
    False,
    0.0,
    "The generator descends -log s(D(G(z))), not the value that D ascends.",
    generator_loss=lambda t: -logsigmoid(t),
    logits=True,
    twin="vanilla",
)
LEAST_SQUARES = Objective(
    "least-squares",
    lambda t: -(t - 1.0).square(),
    lambda t: -t.square(),
    False,
    None,
    "The generator descends (D(G(z)) - 1)^2, not the value that D ascends.",
    generator_loss=lambda t: (t - 1.0).square(),
)
HINGE = Objective(
    "hinge",
    lambda t: -relu(1.0 - t),
    lambda t: -relu(1.0 + t),
    False,
    None,
    "The generator descends -D(G(z)), not the value that D ascends.",
    generator_loss=torch.neg,
)

PAIRING = Objective(
    "pairing",
    _inseparable("pairing"),
    _inseparable("pairing"),
    True,
    None,
    "V = E log s(D(x) - D(G(z))) + log 2, real and generated samples matched in pairs.",
    logits=True,
    pairing=lambda t: logsigmoid(t) + _LOG2,  # f(0) = 0
)
PAIRING_NON_SATURATING = Objective(
    "pairing-non-saturating",
    _inseparable("pairing-non-saturating"),
    _inseparable("pairing-non-saturating"),
    False,
    None,
    "The generator descends -log s(D(G(z)) - D(x)), not the value that D ascends.",
    generator_loss=lambda t: -logsigmoid(-t),
    logits=True,
    pairing=PAIRING.pairing,
    twin="pairing",
)
OWN_VALUE = Objective(
    "own-value",
    _inseparable("own-value"),
    _inseparable("own-value"),
    True,
    None,
    "The value is the user's own: `Game.from_value`, or a Game that overrides `value`.",
)

OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        WASSERSTEIN,
        VANILLA,
        KL,
        REVERSE_KL,
        PEARSON_CHI2,
        SQUARED_HELLINGER,
        NON_SATURATING,
        LEAST_SQUARES,
        HINGE,
        PAIRING,
        PAIRING_NON_SATURATING,
    )
}


def get(objective: str | Objective) -> Objective:
    """Look an objective up by name; an `Objective` passes through.

    Args:
        objective: a name from `OBJECTIVES` (underscores and capitals are forgiven) or an `Objective`.

    Returns:
        The objective.

    Raises:
        ObjectiveError: no objective of that name.

    Example:
        >>> get("vanilla")
        Objective('vanilla', zero_sum=True, lagrangian=True)
        >>> float(get("kl").f1(torch.tensor(0.0)))
        0.0
    """
    if isinstance(objective, Objective):
        return objective
    if objective == OWN_VALUE.name:
        return OWN_VALUE
    found = OBJECTIVES.get(str(objective).lower().replace("_", "-"))
    if found is None:
        raise ObjectiveError(f"`objective` must be one of {', '.join(OBJECTIVES)}; got {objective!r}")
    return found
